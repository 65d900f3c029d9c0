"""The official `openai` package against a server with the demo model: BASE_URL names the server."""

import asyncio
import json
import math
import os

import openai

BASE = os.environ["BASE_URL"].rstrip("/")
client = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
QUESTION = [{"role": "user", "content": "What is 347 + 285?"}]


def whole():
    answer = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    assert answer.choices[0].message.content == "632", answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens <= answer.usage.prompt_tokens


def streamed():
    stream = client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "632"
    assert len({c.id for c in chunks}) == 1
    assert chunks[-1].usage.completion_tokens == 3 and not chunks[-1].choices
    with client.chat.completions.stream(model="demo", messages=QUESTION, temperature=0) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.content == "632"


def several_choices_and_logprobs():
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, n=3, seed=5, max_tokens=8, logprobs=True, top_logprobs=5
    )
    assert [c.index for c in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        for token in choice.logprobs.content:
            assert token.logprob <= 0 and len(token.top_logprobs) == 5
            assert sum(math.exp(t.logprob) for t in token.top_logprobs) <= 1 + 1e-6


def schema():
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["sum", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    answer = client.chat.completions.create(model="demo", messages=QUESTION, response_format=form, max_tokens=100)
    value = json.loads(answer.choices[0].message.content)
    assert isinstance(value["sum"], int) and isinstance(value["sure"], bool)
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "pattern": "(?=a)"}}}
    error = refused(openai.BadRequestError, messages=QUESTION, response_format=bad)
    assert error.param == "response_format", error


def refused(kind, **fields):
    try:
        client.chat.completions.create(**{"model": "demo", **fields})
    except kind as error:
        return error
    raise AssertionError(f"{fields} was answered")


def errors():
    assert refused(openai.NotFoundError, model="gpt-5", messages=QUESTION).code == "model_not_found"
    long = [{"role": "user", "content": "word " * 2000}]
    assert refused(openai.BadRequestError, messages=long).code == "context_length_exceeded"
    assert refused(openai.BadRequestError, messages=long, stream=True).code == "context_length_exceeded"
    assert refused(openai.BadRequestError, messages=[]).param == "messages"
    assert refused(openai.BadRequestError, messages=QUESTION, temperature="x").param == "temperature"


def completions():
    answer = client.completions.create(
        model="demo", prompt=["Once upon a time", "The"], echo=True, logprobs=1, max_tokens=0, temperature=0
    )
    for choice in answer.choices:
        assert choice.text == "".join(choice.logprobs.tokens)
        assert all(p is None or p <= 0 for p in choice.logprobs.token_logprobs)
    stream = client.completions.create(model="demo", prompt="Once", max_tokens=5, temperature=0, stream=True)
    assert "".join(c.choices[0].text for c in stream if c.choices)


def embeddings():
    answer = client.embeddings.create(model="demo", input=["one", "two"])
    assert len(answer.data) == 2 and abs(sum(x * x for x in answer.data[0].embedding) - 1) < 1e-4
    plain = client.embeddings.create(model="demo", input="one", encoding_format="float")
    assert max(abs(a - b) for a, b in zip(plain.data[0].embedding, answer.data[0].embedding)) < 1e-6


def models():
    assert [m.id for m in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "rfgraph"


async def thirty_two_at_once():
    many = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)

    async def one(i):
        a, b = 100 + 13 * i, 7 + 3 * i
        ask = [{"role": "user", "content": f"What is {a} + {b}?"}]
        answers = []
        for _ in range(3):
            answer = await many.chat.completions.create(model="demo", messages=ask, temperature=0)
            answers.append(answer.choices[0].message.content)
        return answers

    found = await asyncio.gather(*(one(i) for i in range(32)))
    alone = [
        client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": f"What is {100 + 13 * i} + {7 + 3 * i}?"}],
            temperature=0,
        ).choices[0].message.content
        for i in range(32)
    ]
    assert all(answers == [one] * 3 for answers, one in zip(found, alone)), found


async def cancelled():
    many = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
    for _ in range(20):
        stream = await many.chat.completions.create(
            model="demo", messages=QUESTION, stream=True, extra_body={"ignore_eos": True}, max_tokens=400
        )
        async for _ in stream:
            break
        await stream.close()
    answer = await many.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    assert answer.choices[0].message.content == "632"


for check in [whole, streamed, several_choices_and_logprobs, schema, errors, completions, embeddings, models]:
    check()
    print("ok", check.__name__)
for check in [thirty_two_at_once, cancelled]:
    asyncio.run(check())
    print("ok", check.__name__)
