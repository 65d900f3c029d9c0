"""Responses with the official `openai` package against a server with the demo model: BASE_URL names the server."""

import json
import os

import openai

BASE = os.environ["BASE_URL"].rstrip("/")
client = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
QUESTION = "What is 347 + 285?"


def whole():
    response = client.responses.create(model="demo", input=QUESTION, temperature=0)
    assert response.output_text == "632" and response.status == "completed", response
    assert response.id.startswith("resp_") and response.output[0].id.startswith("msg_")
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (21, 3, 24), usage
    assert usage.input_tokens_details.cached_tokens <= 21


def streamed():
    events = list(client.responses.create(model="demo", input=QUESTION, temperature=0, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert events[-1].response.output_text == "632"
    with client.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == "632"


def incomplete():
    response = client.responses.create(model="demo", input=QUESTION, temperature=0, max_output_tokens=2)
    assert (response.output_text, response.status) == ("63", "incomplete")
    assert response.incomplete_details.reason == "max_output_tokens"
    events = list(
        client.responses.create(model="demo", input=QUESTION, temperature=0, max_output_tokens=2, stream=True)
    )
    assert events[-1].type == "response.incomplete"


def kept():
    first = client.responses.create(model="demo", input=QUESTION, temperature=0)
    assert client.responses.retrieve(first.id).output_text == "632"
    second = client.responses.create(
        model="demo", input="And 1 + 1?", previous_response_id=first.id, temperature=0, max_output_tokens=20
    )
    items = [
        {"role": "user", "content": QUESTION},
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"role": "user", "content": "And 1 + 1?"},
    ]
    same = client.responses.create(model="demo", input=items, temperature=0, max_output_tokens=20)
    assert second.output_text == same.output_text
    assert second.usage.input_tokens == same.usage.input_tokens
    client.responses.delete(first.id)
    try:
        client.responses.retrieve(first.id)
    except openai.NotFoundError:
        return
    raise AssertionError("a deleted response is still there")


def counted():
    assert client.responses.input_tokens.count(model="demo", input=QUESTION).input_tokens == 21


def results_of_tools():
    tool = {"type": "function", "name": "add", "description": "Adds.", "strict": False,
            "parameters": {"type": "object", "properties": {}}}
    items = [
        {"role": "user", "content": QUESTION},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "A sum."}]},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "632"}]},
    ]
    response = client.responses.create(
        model="demo", input=items, tools=[tool, {"type": "web_search"}], temperature=0, max_output_tokens=20
    )
    assert response.status in ("completed", "incomplete"), response


def schema():
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}
    response = client.responses.create(model="demo", input=QUESTION, text={"format": form}, max_output_tokens=60)
    assert isinstance(json.loads(response.output_text)["sum"], int)


def errors():
    for kind, param, fields in [
        (openai.NotFoundError, "model", {"model": "gpt-5"}),
        (openai.BadRequestError, "input", {"input": []}),
        (openai.BadRequestError, "truncation", {"truncation": "auto"}),
        (openai.BadRequestError, "previous_response_id", {"previous_response_id": "resp_0"}),
        (openai.BadRequestError, None, {"input": "word " * 2000, "stream": True}),
    ]:
        try:
            client.responses.create(**{"model": "demo", "input": QUESTION, **fields})
        except kind as error:
            assert error.param == param, error
        else:
            raise AssertionError(f"{fields} was answered")


for check in [whole, streamed, incomplete, kept, counted, results_of_tools, schema, errors]:
    check()
    print("ok", check.__name__)
