"""`langchain-openai` against a server with the demo model: BASE_URL names the server."""

import asyncio
import os

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

BASE = os.environ["BASE_URL"].rstrip("/") + "/v1"
SAME = {"base_url": BASE, "api_key": "none", "model": "demo", "max_retries": 0}
model = ChatOpenAI(temperature=0, **SAME)
QUESTION = "What is 347 + 285?"


class Sum(BaseModel):
    sum: int
    sure: bool


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def whole():
    answer = model.invoke(QUESTION)
    assert answer.content == "632", answer
    assert answer.usage_metadata["output_tokens"] == 3, answer
    assert answer.response_metadata["finish_reason"] == "stop"
    assert model.invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)]).content


def streamed():
    chunks = list(model.stream(QUESTION, stream_usage=True))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == "632" and whole.usage_metadata["output_tokens"] == 3, whole


def through_responses():
    answers = ChatOpenAI(temperature=0, use_responses_api=True, **SAME)
    assert answers.invoke(QUESTION).text == "632"
    assert "".join(chunk.text for chunk in answers.stream(QUESTION)) == "632"


def structured():
    for method in ["json_schema", "function_calling"]:
        found = ChatOpenAI(max_tokens=120, **SAME).with_structured_output(Sum, method=method).invoke(QUESTION)
        assert isinstance(found, Sum), (method, found)


def calls():
    bound = ChatOpenAI(max_tokens=120, **SAME).bind_tools([add], tool_choice="add")
    answer = bound.invoke(QUESTION)
    call = answer.tool_calls[0]
    assert call["name"] == "add" and {*call["args"]} == {"a", "b"}, answer
    # The result goes back to the model, which answers whatever it answers.
    result = ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"])
    assert ChatOpenAI(max_tokens=5, **SAME).invoke([HumanMessage(QUESTION), answer, result]).type == "ai"
    whole = None
    for chunk in bound.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["name"] == "add" and {*whole.tool_calls[0]["args"]} == {"a", "b"}, whole


def texts_and_vectors():
    assert OpenAI(temperature=0, max_tokens=5, **SAME).invoke("Once upon a time")
    # Its tokens are made by the client with OpenAI's vocabulary, unless it is told not to.
    vectors = OpenAIEmbeddings(check_embedding_ctx_length=False, **SAME)
    found = vectors.embed_documents(["one", "two"])
    assert len(found) == 2 and abs(sum(x * x for x in found[0]) - 1) < 1e-4


async def batched():
    answers = await model.abatch([QUESTION] * 16)
    assert [answer.content for answer in answers] == ["632"] * 16


for check in [whole, streamed, through_responses, structured, calls, texts_and_vectors]:
    check()
    print("ok", check.__name__)
asyncio.run(batched())
print("ok batched")
