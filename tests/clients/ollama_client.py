"""The official `ollama` package against a server with the demo model: BASE_URL names the server."""

import asyncio
import json
import math
import os

import ollama

BASE = os.environ["BASE_URL"].rstrip("/")
client = ollama.Client(host=BASE)
QUESTION = [{"role": "user", "content": "What is 347 + 285?"}]
GREEDY = {"temperature": 0}


def refused(call, status, *parts):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status, error
        assert all(part in error.error for part in parts), error.error
        return
    raise AssertionError("not refused")


def chat():
    answer = client.chat(model="demo", messages=QUESTION, options=GREEDY)
    assert answer.message.content == "632" and answer.message.role == "assistant", answer
    assert (answer.done, answer.done_reason, answer.model) == (True, "stop", "demo"), answer
    assert (answer.prompt_eval_count, answer.eval_count) == (21, 3), answer
    parts = [answer.load_duration, answer.prompt_eval_duration, answer.eval_duration]
    assert answer.total_duration == sum(parts) and answer.eval_duration > 0, answer
    assert client.chat(model="demo:latest", messages=QUESTION, options=GREEDY).message.content == "632"


def chat_streamed():
    parts = list(client.chat(model="demo", messages=QUESTION, options=GREEDY, stream=True))
    assert "".join(part.message.content for part in parts) == "632"
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == 3 and parts[0].eval_count is None


def generate():
    first = client.generate(model="demo", prompt=QUESTION[0]["content"], options=GREEDY)
    assert first.response == "632" and first.context, first
    parts = client.generate(model="demo", prompt=QUESTION[0]["content"], options=GREEDY, stream=True)
    assert "".join(part.response for part in parts) == "632"
    second = client.generate(model="demo", prompt="What is 12 + 7?", options=GREEDY, context=first.context)
    assert second.prompt_eval_count > first.prompt_eval_count
    few = client.generate(model="demo", prompt="Once upon", raw=True, options={**GREEDY, "num_predict": 4})
    assert (few.eval_count, few.done_reason) == (4, "length"), few
    assert client.generate(model="demo").done_reason == "load"


def formats():
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["sum", "sure"],
        "additionalProperties": False,
    }
    options = {**GREEDY, "num_predict": 100}
    answer = client.chat(model="demo", messages=QUESTION, format=schema, options=options)
    value = json.loads(answer.message.content)
    assert isinstance(value["sum"], int) and isinstance(value["sure"], bool)
    options["num_predict"] = 5
    text = client.chat(model="demo", messages=QUESTION, format="json", options=options).message.content
    assert text.lstrip().startswith("{"), text
    wrong = {"type": "string", "pattern": "(?=a)"}
    refused(lambda: client.chat(model="demo", messages=QUESTION, format=wrong), 400, "pattern")


def seeds():
    def story(seed):
        options = {"temperature": 1.2, "seed": seed, "num_predict": 30}
        return client.generate(model="demo", prompt="Tell me a story.", options=options).response

    assert story(1) == story(1) != story(2)


def logprobs():
    answer = client.chat(model="demo", messages=QUESTION, options=GREEDY, logprobs=True, top_logprobs=3)
    assert "".join(token.token for token in answer.logprobs) == "632"
    for token in answer.logprobs:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1 + 1e-6


def embeddings():
    one = client.embed(model="demo", input="a little word").embeddings[0]
    assert abs(math.hypot(*one) - 1) < 1e-4
    two = client.embed(model="demo", input=["other", "a little word"], dimensions=8)
    assert [len(vector) for vector in two.embeddings] == [8, 8]
    old = client.embeddings(model="demo", prompt="a little word").embedding
    scale = math.hypot(*old)
    assert all(abs(a / scale - b) < 1e-5 for a, b in zip(old, one))


def models():
    listed = client.list().models
    assert [model.model for model in listed] == ["demo"], listed
    assert listed[0].details.format == "gguf" and listed[0].size > 4_000_000 and listed[0].modified_at
    running = client.ps().models[0]
    assert running.digest == listed[0].digest and running.context_length == 512 and running.expires_at
    shown = client.show("demo")
    assert "completion" in shown.capabilities and "<|im_start|>" in shown.template
    assert shown.modelinfo["general.architecture"] == shown.details.family


def errors():
    refused(lambda: client.chat(model="other", messages=QUESTION), 404, "model 'other' not found")
    refused(lambda: client.show("other"), 404, "not found")
    refused(lambda: client.chat(model="demo", messages=QUESTION, options={"top_p": 7}), 400, "top_p")
    refused(lambda: client.chat(model="demo", messages=QUESTION, think=True), 400, "does not support thinking")
    refused(lambda: client.generate(model="demo", prompt="a", suffix="b"), 400, "does not support insert")
    picture = [{"role": "user", "content": "What is it?", "images": [b"GIF89a"]}]
    refused(lambda: client.chat(model="demo", messages=picture), 501, "images")
    long = [{"role": "user", "content": "word " * 2000}]
    refused(lambda: client.chat(model="demo", messages=long), 400, "context length")
    refused(lambda: list(client.chat(model="demo", messages=long, stream=True)), 400, "context length")
    refused(lambda: client.pull("other"), 403, "/api/pull", "allow-pull")
    refused(lambda: client.delete("demo"), 403, "/api/delete", "allow-delete")


def tools_are_offered():
    def add(a: int, b: int) -> int:
        """Adds.

        Args:
          a: one number
          b: another number
        """
        return a + b

    options = {**GREEDY, "num_predict": 1}
    bare = client.chat(model="demo", messages=QUESTION, options=options)
    offered = client.chat(model="demo", messages=QUESTION, options=options, tools=[add])
    assert offered.prompt_eval_count > bare.prompt_eval_count + 20, "the tool is not in the prompt"


async def many_at_once():
    many = ollama.AsyncClient(host=BASE)

    async def ask(a, b):
        question = [{"role": "user", "content": f"What is {a} + {b}?"}]
        return (await many.chat(model="demo", messages=question, options=GREEDY)).message.content

    sums = [(100 + 13 * i, 7 + 3 * i) for i in range(16)]
    together = await asyncio.gather(*(ask(a, b) for a, b in sums))
    assert together == [await ask(a, b) for a, b in sums], together


async def cancelled():
    many = ollama.AsyncClient(host=BASE)
    options = {"num_predict": 400, "ignore_eos": True}
    for _ in range(5):
        async for _ in await many.chat(model="demo", messages=QUESTION, stream=True, options=options):
            break
    assert (await many.chat(model="demo", messages=QUESTION, options=GREEDY)).message.content == "632"


checks = [chat, chat_streamed, generate, formats, seeds, logprobs, embeddings, models, errors, tools_are_offered]
for check in checks:
    check()
    print("ok", check.__name__)
for check in [many_at_once, cancelled]:
    asyncio.run(check())
    print("ok", check.__name__)
