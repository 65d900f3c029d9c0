"""The official `anthropic` package against a server with the demo model: BASE_URL names the server."""

import asyncio
import os

import anthropic

BASE = os.environ["BASE_URL"].rstrip("/")
client = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
QUESTION = [{"role": "user", "content": "What is 347 + 285?"}]
# Newer versions of the package warn of a temperature, which goes into the body like any other field.
GREEDY = {"extra_body": {"temperature": 0}}


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def whole():
    message = client.messages.create(model="demo", max_tokens=40, messages=QUESTION, **GREEDY)
    assert text(message) == "632", message
    assert message.id.startswith("msg_") and message.type == "message" and message.role == "assistant"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == 21 and usage.output_tokens == 3, usage
    assert message._request_id.startswith("req_")


def streamed():
    names = []
    with client.messages.stream(model="demo", max_tokens=40, messages=QUESTION, **GREEDY) as stream:
        for event in stream:
            names.append(event.type)
        message = stream.get_final_message()
    assert text(message) == "632" and message.stop_reason == "end_turn", message
    assert message.usage.output_tokens == 3
    assert names[0] == "message_start" and names[-1] == "message_stop", names
    raw = client.messages.create(model="demo", max_tokens=40, messages=QUESTION, stream=True, **GREEDY)
    events = list(raw)
    assert events[0].message.usage.input_tokens > 0
    kinds = [event.type for event in events]
    assert kinds == ["message_start", "content_block_start"] + ["content_block_delta"] * 3 + [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ], kinds


def ends():
    limited = client.messages.create(model="demo", max_tokens=2, messages=QUESTION, **GREEDY)
    assert (text(limited), limited.stop_reason) == ("63", "max_tokens")
    stopped = client.messages.create(
        model="demo", max_tokens=40, messages=QUESTION, stop_sequences=["2"], **GREEDY
    )
    assert (text(stopped), stopped.stop_reason, stopped.stop_sequence) == ("63", "stop_sequence", "2")


def counted():
    count = client.messages.count_tokens(model="demo", messages=QUESTION)
    assert count.input_tokens == 21
    billing = {"type": "text", "text": "x-anthropic-billing-header: cch=1f2e3;"}
    system = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    counts = [
        client.messages.count_tokens(model="demo", system=blocks, messages=QUESTION).input_tokens
        for blocks in ([billing, system], [system], "Be brief.")
    ]
    assert counts[0] == counts[1] == counts[2] > 21, counts


def results_of_tools():
    tool = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {}}}
    talk = QUESTION + [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "A sum.", "signature": "rfgraph"},
                {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "632"}]},
    ]
    message = client.messages.create(
        model="demo", max_tokens=20, messages=talk, tools=[tool], tool_choice={"type": "auto"}, **GREEDY
    )
    assert message.stop_reason in ("end_turn", "max_tokens", "tool_use"), message


def refused(kind, **fields):
    try:
        client.messages.create(**{"model": "demo", "max_tokens": 5, "messages": QUESTION, **fields})
    except kind as error:
        assert error.body["type"] == "error" and error.body["request_id"] == error.request_id, error.body
        return error.body["error"]
    raise AssertionError(f"{fields} was answered")


def errors():
    assert refused(anthropic.NotFoundError, model="claude-5")["type"] == "not_found_error"
    long = [{"role": "user", "content": "word " * 2000}]
    for stream in (False, True):
        error = refused(anthropic.BadRequestError, messages=long, stream=stream)
        assert error["type"] == "invalid_request_error" and "context length" in error["message"], error
    assert "messages" in refused(anthropic.BadRequestError, messages=[])["message"]
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    picture = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    assert "messages[0].content[0]" in refused(anthropic.InternalServerError, messages=picture)["message"]


async def sixteen_at_once():
    many = anthropic.AsyncAnthropic(base_url=BASE, api_key="none", max_retries=0)

    async def one():
        message = await many.messages.create(model="demo", max_tokens=40, messages=QUESTION, **GREEDY)
        return text(message)

    assert await asyncio.gather(*(one() for _ in range(16))) == ["632"] * 16


for check in [whole, streamed, ends, counted, results_of_tools, errors]:
    check()
    print("ok", check.__name__)
asyncio.run(sixteen_at_once())
print("ok", sixteen_at_once.__name__)
