"""`litellm`, which agents speak through, against a server with the demo model: BASE_URL names the server."""

import asyncio
import json
import os

# No table of prices is fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from litellm.exceptions import BadRequestError, ContextWindowExceededError, NotFoundError  # noqa: E402

BASE = os.environ["BASE_URL"].rstrip("/")
litellm.suppress_debug_info = True
OPENAI = {"model": "openai/demo", "api_base": BASE + "/v1", "api_key": "none", "num_retries": 0}
# litellm's other doors to this server.
DOORS = [
    OPENAI,
    {"model": "hosted_vllm/demo", "api_base": BASE + "/v1", "num_retries": 0},
    {"model": "ollama_chat/demo", "api_base": BASE, "num_retries": 0},
    {"model": "anthropic/demo", "api_base": BASE, "api_key": "none", "max_tokens": 50, "num_retries": 0},
]
QUESTION = [{"role": "user", "content": "What is 347 + 285?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


def whole_and_streamed_through_every_door():
    for door in DOORS:
        answer = litellm.completion(messages=QUESTION, temperature=0, **door)
        assert answer.choices[0].message.content == "632", (door, answer)
        assert answer.choices[0].finish_reason == "stop", (door, answer)
        assert answer.usage.prompt_tokens > 5 and answer.usage.completion_tokens >= 3, (door, answer)
        chunks = list(litellm.completion(messages=QUESTION, temperature=0, stream=True, **door))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "632", (door, chunks)
        assert chunks[-1].choices[0].finish_reason == "stop", (door, chunks[-1])


def calls():
    for door in DOORS[:2] + DOORS[3:]:
        choice = {"type": "function", "function": {"name": "add"}}
        ask = dict(messages=QUESTION, tools=[TOOL], tool_choice=choice, **{**door, "max_tokens": 200})
        call = litellm.completion(**ask).choices[0].message.tool_calls[0]
        values = json.loads(call.function.arguments)
        assert call.function.name == "add" and {*values} == {"a", "b"}, (door, call)
        chunks = list(litellm.completion(stream=True, **ask))
        rebuilt = litellm.stream_chunk_builder(chunks, messages=QUESTION)
        call = rebuilt.choices[0].message.tool_calls[0]
        assert call.function.name == "add" and {*json.loads(call.function.arguments)} == {"a", "b"}, (door, call)


def schema():
    form = {
        "type": "json_schema",
        "json_schema": {
            "name": "sum",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"sum": {"type": "integer"}},
                "required": ["sum"],
                "additionalProperties": False,
            },
        },
    }
    answer = litellm.completion(messages=QUESTION, response_format=form, max_tokens=60, **OPENAI)
    assert isinstance(json.loads(answer.choices[0].message.content)["sum"], int)


def errors():
    def refused(kind, **fields):
        try:
            litellm.completion(**{**OPENAI, "messages": QUESTION, **fields})
        except kind as error:
            return error
        raise AssertionError(f"{fields} was answered")

    refused(NotFoundError, model="openai/gpt-5")
    long = [{"role": "user", "content": "word " * 2000}]
    # litellm finds this by the words of the message; agents shorten their history then.
    refused(ContextWindowExceededError, messages=long)
    refused(ContextWindowExceededError, messages=long, model="anthropic/demo", api_base=BASE, max_tokens=50)
    refused(BadRequestError, temperature="x")


def embeddings():
    answer = litellm.embedding(input=["one", "two"], **OPENAI)
    assert len(answer.data) == 2 and abs(sum(x * x for x in answer.data[0]["embedding"]) - 1) < 1e-4


async def sixteen_at_once():
    async def one():
        answer = await litellm.acompletion(messages=QUESTION, temperature=0, **OPENAI)
        return answer.choices[0].message.content

    assert await asyncio.gather(*(one() for _ in range(16))) == ["632"] * 16


for check in [whole_and_streamed_through_every_door, calls, schema, errors, embeddings]:
    check()
    print("ok", check.__name__)
asyncio.run(sixteen_at_once())
print("ok sixteen_at_once")
