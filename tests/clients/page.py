"""Drives the chat page of a running server in headless Chromium, as a user does: by roles and labels.

    rfgraph serve --port 8080 &
    python3 tests/clients/page.py http://127.0.0.1:8080 [CHECK ...]

Needs the demo model, `pip install playwright`, and a Chromium at /usr/bin/chromium (or $CHROMIUM). Answers that the demo
model does not give (thoughts, tool calls, hostile text, errors) are put in place of the server's by the browser. The
modules of the page that work without it, Markdown above all, are checked by `page_modules.js` inside of the page.
"""

import json
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

BASE = ""
HERE = Path(__file__).parent
COMPLETIONS = "**/v1/chat/completions"
SUM = "What is 347 + 285?"
# Every event of an answer comes late, so that an answer of the demo model lasts long enough to be stopped.
SLOW = """
const real = window.fetch;
window.fetch = async (address, init) => {
  const response = await real(address, init);
  if (!String(address).includes('/chat/completions')) return response;
  const events = (await response.text()).split(/(?<=\\n\\n)/);
  const late = new ReadableStream({ async pull(stream) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    if (init.signal.aborted) throw init.signal.reason;
    if (events.length === 0) return stream.close();
    stream.enqueue(new TextEncoder().encode(events.shift()));
  } }, { highWaterMark: 0 });
  return new Response(late, response);
};
"""


class Visit:
    """A fresh browser profile with the page, and what went wrong in it."""

    def __init__(self, browser, width=1280, height=800, scheme="light", script=None, phone=False):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=phone, is_mobile=phone
        )
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.hosts, self.problems, self.bodies = set(), [], []
        self.page.on("request", self.note_request)
        self.page.on("console", self.note_console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        if script:
            self.page.add_init_script(script)

    def note_request(self, request):
        if urlsplit(request.url).scheme in ("http", "https"):
            self.hosts.add(urlsplit(request.url).netloc)
        if request.url.endswith("/chat/completions"):
            self.bodies.append(json.loads(request.post_data))

    def note_console(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def open(self):
        response = self.page.goto(BASE)
        self.box = self.page.get_by_role("textbox", name="Message", exact=True)
        self.log = self.page.get_by_role("log", name="Conversation")
        expect(self.page.get_by_role("button", name="Ready")).to_be_visible()
        return response

    def button(self, name, exact=True):
        return self.page.get_by_role("button", name=name, exact=exact)

    def answer(self):
        return self.log.get_by_role("article", name="Answer").last

    def say(self, text, done=True):
        self.box.fill(text)
        self.box.press("Enter")
        if done:
            self.wait()

    def wait(self):
        expect(self.log).to_have_attribute("aria-busy", "false", timeout=60_000)

    def settings(self, **values):
        self.button("Settings").click()
        for label, value in values.items():
            field = self.page.get_by_label(label.replace("_", " "), exact=True)
            field.set_checked(value) if isinstance(value, bool) else field.fill(value)
        self.page.keyboard.press("Escape")

    def serve(self, *deltas, finish="stop", usage=None):
        """The next answers are these deltas instead of the server's."""
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "canned"}
        choices = [{"delta": delta} if "delta" not in delta else delta for delta in deltas]
        choices.append({"delta": {}, "finish_reason": finish})
        chunks = [{**chunk, "choices": [{"index": 0, "finish_reason": None, **choice}]} for choice in choices]
        if usage:
            chunks.append({**chunk, "choices": [], "usage": usage})
        events = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
        body = "".join(f"data: {event}\n\n" for event in events)
        self.page.unroute(COMPLETIONS)
        self.page.route(COMPLETIONS, lambda route: route.fulfill(content_type="text/event-stream", body=body))


def page_comes_whole_and_from_one_host(visit):
    headers = visit.open().headers
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert rule in policy, f"{rule} is missing in {policy}"
    assert "unsafe" not in policy, policy
    visit.say(SUM)


def demo_model_answers_and_is_measured(visit):
    visit.open()
    visit.settings(Temperature="0")
    visit.say(SUM)
    expect(visit.answer()).to_contain_text("632")
    assert visit.bodies[-1]["temperature"] == 0 and visit.bodies[-1]["stream_options"] == {"include_usage": True}
    for part in (r"\d+ tokens", r"tokens/s", r"first after [\d.]+ m?s"):
        expect(visit.answer()).to_contain_text(re.compile(part))
    meter = visit.page.get_by_role("meter", name="Context")
    assert 0 < int(meter.get_attribute("aria-valuenow")) < int(meter.get_attribute("aria-valuemax"))
    expect(visit.page.get_by_role("log", name="Spoken answers")).to_contain_text("632")
    visit.page.reload()
    expect(visit.answer()).to_contain_text(re.compile(r"632.*\d+ tokens"))


def system_prompt_and_parameters_are_sent(visit):
    visit.open()
    visit.serve({"content": "{}"})
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    visit.settings(
        System_prompt="Be brief.", Temperature="0.5", **{"Top-p": "0.9", "Top-k": "7", "Min-p": "0.1"}, Max_tokens="9",
        Seed="42", Token_probabilities=True, JSON_schema=json.dumps(schema), Tools='[{"name": "look", "parameters": {}}]',
    )
    visit.say("Hello")
    body = visit.bodies[-1]
    sent = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "max_tokens": 9, "seed": 42, "logprobs": True}
    assert {key: body.get(key) for key in sent} == sent, body
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert body["tools"] == [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    # A schema that cannot be sent stops the request; it is not left out.
    count = len(visit.bodies)
    visit.settings(JSON_schema="{ not JSON")
    visit.say("Hello again")
    expect(visit.answer().get_by_role("alert")).to_contain_text("JSON schema")
    # Nor is a number that is none.
    visit.page.evaluate("localStorage.setItem('rfgraph.settings', '{\"temperature\": \"warm\"}')")
    visit.page.reload()
    visit.say("Hello once more")
    expect(visit.answer().get_by_role("alert")).to_contain_text("Temperature")
    assert len(visit.bodies) == count


def branches_keep_every_version(visit):
    visit.open()
    visit.say(SUM)
    visit.answer().get_by_role("button", name="Regenerate answer").click()
    visit.wait()
    versions = visit.answer().get_by_role("group", name="Versions")
    expect(versions).to_contain_text("2/2")
    question = visit.log.get_by_role("article", name="You").first
    question.get_by_role("button", name="Edit message").click()
    question.get_by_role("textbox", name="Edit message").fill("What is 100 + 23?")
    question.get_by_role("button", name="Save").click()
    visit.wait()
    expect(visit.answer()).to_contain_text("123")
    question = visit.log.get_by_role("article", name="You").first
    expect(question.get_by_role("group", name="Versions")).to_contain_text("2/2")
    question.get_by_role("button", name="Previous version").click()
    expect(visit.log.get_by_role("article", name="You").first).to_contain_text(SUM)
    expect(visit.answer()).to_contain_text("632")
    visit.page.reload()
    expect(visit.answer()).to_contain_text("632")
    expect(visit.answer().get_by_role("group", name="Versions")).to_contain_text("2/2")


def cut_answer_is_continued(visit):
    visit.open()
    visit.settings(Max_tokens="1", Temperature="0")
    visit.say(SUM)
    expect(visit.answer()).to_contain_text("The limit of tokens ended this answer.")
    begin = visit.answer().locator(".markdown").last.inner_text()
    visit.settings(Max_tokens="")
    visit.answer().get_by_role("button", name="Continue answer").click()
    visit.wait()
    expect(visit.answer()).to_contain_text("632")
    body = visit.bodies[-1]
    assert body["messages"][-1]["role"] == "assistant" and body["messages"][-1]["content"].strip() == begin
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
    expect(visit.log.get_by_role("article")).to_have_count(2)


def stop_and_escape_end_an_answer(visit):
    visit.open()
    for stop in (lambda: visit.button("Stop answering").click(), lambda: visit.page.keyboard.press("Escape")):
        visit.say(SUM, done=False)
        expect(visit.button("Stop answering")).to_be_visible()
        expect(visit.answer().locator(".markdown").last).not_to_be_empty()
        stop()
        expect(visit.button("Send message")).to_be_visible()
        expect(visit.answer()).to_contain_text("Stopped.")


def half_an_answer_survives_a_reload(visit):
    visit.open()
    visit.say(SUM, done=False)
    expect(visit.answer().locator(".markdown").last).not_to_be_empty()
    visit.page.wait_for_timeout(500)
    visit.page.reload()
    expect(visit.answer()).to_contain_text("The page was left while this answer arrived.")
    expect(visit.answer().locator(".markdown").last).to_have_text(re.compile("^63?$"))
    expect(visit.answer().get_by_role("button", name="Continue answer")).to_be_visible()


def hostile_text_stays_text(visit):
    visit.open()
    hostile = '<img src=x onerror="window.harm = 1"><script>window.harm = 1</script>'
    links = "[a](javascript:window.harm=1) [b](data:text/html,x) ![c](https://example.org/c.png) [d](https://example.org)"
    visit.serve({"content": f"{hostile}\n\n{links}\n\n```html\n{hostile}\n```\n\n| {hostile} |\n|---|\n| <iframe src=//x> |"})
    visit.say(hostile)
    expect(visit.log.get_by_role("article", name="You")).to_contain_text(hostile)
    expect(visit.answer()).to_contain_text(hostile)
    assert visit.page.evaluate("window.harm") is None
    expect(visit.log.locator("img, script, iframe, [onerror]")).to_have_count(0)
    addresses = [link.get_attribute("href") for link in visit.answer().get_by_role("link").all()]
    assert addresses == ["https://example.org/c.png", "https://example.org/"], addresses
    for link in visit.answer().get_by_role("link").all():
        assert "noopener" in link.get_attribute("rel") and link.get_attribute("target") == "_blank"


def thoughts_are_folded_with_their_time(visit):
    visit.open()
    visit.serve({"reasoning_content": "First *this*, "}, {"reasoning_content": "then that."}, {"content": "Done."})
    visit.say("Think")
    thoughts = visit.answer().get_by_text(re.compile(r"^Thought for [\d.]+ m?s$"))
    text = visit.answer().get_by_text("then that.")
    expect(thoughts).to_be_visible()
    expect(text).not_to_be_visible()
    thoughts.click()
    expect(text).to_be_visible()
    expect(visit.answer()).to_contain_text("Done.")


def tool_calls_are_shown_and_answered(visit):
    visit.open()
    call = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "weather", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ('{"city": ', '"Berlin"}')]
    visit.serve(*({"tool_calls": [piece]} for piece in [call, *pieces]), finish="tool_calls")
    visit.say("Weather?")
    expect(visit.answer().get_by_role("region", name="Tool call weather")).to_contain_text('"city": "Berlin"')
    visit.serve({"content": "Sunny."})
    visit.answer().get_by_role("textbox", name="Result of weather").fill("18 degrees")
    visit.answer().get_by_role("button", name="Send result").click()
    expect(visit.answer()).to_contain_text("Sunny.")
    question, called, result = visit.bodies[-1]["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Berlin"}'}
    assert result == {"role": "tool", "content": "18 degrees", "tool_call_id": "call_7"}


def probabilities_show_the_rivals(visit):
    visit.open()
    visit.settings(Token_probabilities=True, Temperature="0")
    visit.say(SUM)
    tokens = visit.answer().get_by_role("group", name=re.compile("Tokens of the answer")).get_by_role("button")
    tokens.first.hover()
    tip = visit.answer().get_by_role("tooltip")
    expect(tip).to_contain_text("%")
    assert tip.locator(".rival").count() > 1
    tokens.first.focus()
    visit.page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    visit.answer().get_by_role("button", name="Token probabilities").click()
    expect(tokens.first).not_to_be_visible()
    expect(visit.answer().locator(".markdown").last).to_contain_text("632")


def errors_are_shown_and_tried_again(visit):
    visit.open()
    refusal = {"error": {"message": "32 requests wait already", "type": "rate_limit_error", "param": None, "code": None}}
    visit.page.route(COMPLETIONS, lambda route: route.fulfill(status=429, json=refusal))
    visit.say(SUM)
    expect(visit.answer().get_by_role("alert")).to_contain_text("32 requests wait already")
    broken = 'data: {"choices":[{"index":0,"delta":{"content":"Half "}}]}\n\ndata: {"error":{"message":"device lost"}}\n\n'
    visit.page.unroute(COMPLETIONS)
    visit.page.route(COMPLETIONS, lambda route: route.fulfill(content_type="text/event-stream", body=broken))
    visit.button("Try again").click()
    expect(visit.answer().get_by_role("alert")).to_contain_text("device lost")
    expect(visit.answer()).to_contain_text("Half")
    visit.page.unroute(COMPLETIONS)
    visit.button("Try again").click()
    visit.wait()
    expect(visit.answer()).to_contain_text("632")
    # The half answer stays as a version of its own.
    expect(visit.answer().get_by_role("group", name="Versions")).to_contain_text("2/2")
    visit.problems = [problem for problem in visit.problems if "429" not in problem]


def server_goes_away_and_comes_back(visit):
    visit.open()
    visit.context.route("**/*", lambda route: route.abort())
    visit.say(SUM)
    notice = visit.page.get_by_text("The server is away.", exact=False).first
    expect(notice).to_be_visible()
    expect(visit.answer().get_by_role("alert")).to_contain_text("does not answer")
    visit.box.fill("Kept")
    visit.box.press("Enter")
    expect(visit.box).to_have_value("Kept")
    expect(visit.page.get_by_role("alert").filter(has_text="Your message stays here")).to_be_visible()
    visit.context.unroute("**/*")
    expect(visit.button("Ready", exact=False)).to_be_visible()
    expect(visit.page.get_by_text("This page tries again by itself.")).not_to_be_visible()
    visit.button("Try again").click()
    visit.wait()
    expect(visit.answer()).to_contain_text("632")
    visit.problems = [problem for problem in visit.problems if "ERR_FAILED" not in problem]


def history_is_searched_renamed_and_deleted(visit):
    visit.open()
    visit.serve({"content": "An answer about zebras."})
    visit.say("First chat")
    visit.button("New chat").click()
    visit.serve({"content": "An answer about giraffes."})
    visit.say("Second chat")
    chats = visit.page.get_by_role("navigation", name="Chat history").get_by_role("listitem")
    expect(chats).to_have_count(2)
    visit.page.keyboard.press("Control+k")
    expect(visit.page.get_by_role("searchbox", name="Search chats")).to_be_focused()
    visit.page.keyboard.type("ZEBRAS")
    expect(chats).to_have_count(1)
    chats.get_by_role("link", name="First chat").click()
    expect(visit.answer()).to_contain_text("zebras")
    visit.page.get_by_role("searchbox", name="Search chats").fill("")
    expect(chats).to_have_count(2)
    chats.filter(has_text="First").hover()
    visit.button("Rename First chat").click()
    visit.page.get_by_label("Title").fill("Animals")
    visit.button("Rename").click()
    expect(chats.filter(has_text="Animals")).to_have_count(1)
    chats.filter(has_text="Second").hover()
    visit.button("Delete Second chat").click()
    visit.button("Delete").click()
    expect(chats).to_have_count(1)
    visit.page.reload()
    expect(visit.page.get_by_role("link", name="Animals")).to_have_attribute("aria-current", "page")


def chats_are_exported_and_imported(visit):
    visit.open()
    visit.say(SUM)
    with visit.page.expect_download() as saved:
        visit.button("Export all chats").click()
    chats = visit.page.get_by_role("navigation", name="Chat history").get_by_role("listitem")
    with tempfile.TemporaryDirectory() as folder:
        whole, torn = Path(folder, "chats.json"), Path(folder, "torn.json")
        saved.value.save_as(whole)
        archive = json.loads(whole.read_text())
        archive["chats"][0]["messages"].popitem()
        torn.write_text(json.dumps(archive))
        visit.button("Delete all chats").click()
        visit.button("Delete all").click()
        expect(chats).to_have_count(0)
        for file, said, count in ((torn, "not a file of exported chats", 0), (whole, "1 of 1 chats imported", 1)):
            with visit.page.expect_file_chooser() as picker:
                visit.button("Import chats").click()
            picker.value.set_files(file)
            expect(visit.page.get_by_text(said)).to_be_visible()
            expect(chats).to_have_count(count)
    chats.get_by_role("link").click()
    expect(visit.answer()).to_contain_text("632")


def files_are_dropped_pasted_and_picked(visit):
    visit.open()
    visit.serve({"content": "Read."})
    transfer = "const data = new DataTransfer(); data.items.add(new File([%r], %r));"
    drop = "window.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));"
    paste = "box.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));"
    visit.box.evaluate(f"(box) => {{ {transfer % ('let one = 1;', 'one.js')} {drop} }}")
    visit.box.evaluate(f"(box) => {{ {transfer % ('two', 'two.txt')} {paste} }}")
    cards = visit.page.get_by_role("list", name="Attached files").get_by_role("listitem")
    expect(cards).to_have_count(2)
    with visit.page.expect_file_chooser() as picker:
        visit.button("Attach text files").click()
    binaries = {"photo.jpg": b"\xff\xd8\xff\xe0", "zeros.txt": b"a\0b"}
    picker.value.set_files([{"name": n, "mimeType": "text/plain", "buffer": b} for n, b in binaries.items()])
    for name in binaries:
        expect(visit.page.get_by_text(f"{name} is not a text file.")).to_be_visible()
    visit.button("Remove two.txt").click()
    visit.say("Explain this")
    assert visit.bodies[-1]["messages"][-1]["content"] == 'File "one.js":\n```js\nlet one = 1;\n```\n\nExplain this'
    visit.log.get_by_role("button", name="Show one.js").click()
    expect(visit.page.get_by_role("dialog", name="one.js")).to_contain_text("let one = 1;")


def keyboard_does_everything(visit):
    visit.open()
    visit.page.locator("a, button, input, select, textarea").first.focus()
    expect(visit.page.get_by_role("link", name="Skip to the message box")).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(visit.box).to_be_focused()
    visit.page.keyboard.type("one")
    visit.page.keyboard.press("Shift+Enter")
    visit.page.keyboard.type("two")
    expect(visit.box).to_have_value("one\ntwo")
    visit.serve({"content": "Both."})
    visit.page.keyboard.press("Enter")
    visit.wait()
    expect(visit.box).to_be_focused()
    # Backwards from the box: every control of the answer is reached, and has a name.
    names = []
    for _ in range(12):
        visit.page.keyboard.press("Shift+Tab")
        names.append(visit.page.evaluate("document.activeElement.getAttribute('aria-label')"))
    for name in ("Edit answer", "Continue answer", "Regenerate answer", "Copy answer", "Edit message"):
        assert name in names, f"{name} is not among {names}"
    visit.button("Settings").focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("dialog", name="Settings")).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(visit.button("Settings")).to_be_focused()


def key_is_asked_for_and_kept_for_the_tab(visit):
    def guard(route):
        good = route.request.headers.get("authorization") == "Bearer right"
        route.continue_() if good else route.fulfill(status=401, json={"error": {"message": "Invalid API key"}})

    visit.page.route("**/v1/models", guard)
    visit.page.goto(BASE)
    dialog = visit.page.get_by_role("dialog", name="The server asks for a key")
    for key in ("wrong", "right"):
        dialog.get_by_label("API key").fill(key)
        dialog.get_by_role("button", name="Use key").click()
        if key == "wrong":
            expect(dialog.get_by_role("alert")).to_contain_text("refused")
    expect(dialog).not_to_be_visible()
    expect(visit.button("Ready", exact=False)).to_be_visible()
    kept = visit.page.evaluate("[sessionStorage, localStorage].map((store) => store.getItem('rfgraph.key'))")
    assert kept == ["right", None], kept
    visit.problems = [problem for problem in visit.problems if "401" not in problem]


def live_view_reads_the_metrics(visit):
    visit.open()
    visit.say(SUM)
    visit.button("Ready", exact=False).click()
    panel = visit.page.get_by_role("dialog", name="Server activity")
    for word in (r"Running\d+", r"Waiting\d+", r"Tokens/s[\d.]+", r"[\d,]+ of [\d,]+ blocks"):
        expect(panel).to_contain_text(re.compile(word))
    visit.page.keyboard.press("Escape")
    expect(panel).not_to_be_visible()


def phone_fits_its_width(visit):
    visit.open()
    wide = "x" * 300
    visit.serve({"content": f"{wide}\n\n```\n{wide}\n```\n\n| a | b |\n|---|---|\n| {wide} | {wide} |\n\n`{wide}`"})
    visit.say(f"Show {wide}")
    width = visit.page.evaluate("[document.documentElement.scrollWidth, document.getElementById('main').scrollWidth]")
    assert max(width) <= 375, width
    history = visit.page.get_by_role("complementary", name="Chats")
    expect(history).not_to_be_visible()
    visit.button("Chats").click()
    expect(history).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(history).not_to_be_visible()
    expect(visit.button("Chats")).to_be_focused()
    visit.button("Chats").click()
    history.get_by_role("link", name=re.compile("^Show")).click()
    expect(history).not_to_be_visible()


def colours_have_contrast(visit):
    visit.open()
    text = "# Head\n\nSome `code` and a [link](https://example.org).\n\n> quote\n\n```rust\n// why\nlet a = f(\"x\", 1);\n```"
    visit.serve({"reasoning_content": "Hm."}, {"content": text}, usage={"prompt_tokens": 9, "completion_tokens": 9})
    visit.say("Hello")
    script = (HERE / "page_modules.js").read_text()
    for dark in (False, True):
        # Without motion, so that no colour is on its way to another one.
        visit.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        faint = visit.page.evaluate(f"{script}\nfaintTexts()")
        assert faint == [], faint


def controls_have_names(visit):
    visit.open()
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    visit.serve({"reasoning_content": "Hm."}, {"content": "| a |\n|---|\n\n```\nb\n```"}, {"tool_calls": [call]})
    visit.say("Hello")
    visit.button("Settings").click()
    problems = visit.page.evaluate(f"{(HERE / 'page_modules.js').read_text()}\nnamelessControls()")
    assert problems == [], "\n".join(problems)


def restarted_server_is_learned_anew(visit):
    visit.page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": "another"}]}))
    visit.page.route("**/props", lambda route: route.fulfill(json={}))
    visit.open()
    picker = visit.page.get_by_role("combobox", name="Model")
    expect(picker).to_have_value("another")
    visit.page.unroute("**/v1/models")
    visit.say(SUM)
    expect(visit.answer().get_by_role("alert")).to_be_visible()
    expect(picker).not_to_have_value("another")
    visit.button("Try again").click()
    visit.wait()
    expect(visit.answer()).to_contain_text("632")
    visit.problems = [problem for problem in visit.problems if "404" not in problem]


def several_models_are_picked_and_change(visit):
    here = [{"id": "demo", "meta": {"n_ctx": None}}, {"id": "other", "meta": {"n_ctx": None}}]
    visit.page.route("**/v1/models", lambda route: route.fulfill(json={"data": here}))
    visit.page.route("**/props?*", lambda route: route.fulfill(json={"model_alias": "demo", "is_sleeping": True}))
    visit.open()
    picker = visit.page.get_by_role("combobox", name="Model")
    expect(picker.get_by_role("option")).to_have_text(["demo", "other"])
    picker.select_option("other")
    here.append({"id": "pulled"})
    visit.serve({"content": "Yes."})
    visit.say("Hello")
    assert visit.bodies[-1]["model"] == "other"
    expect(picker.get_by_role("option")).to_have_text(["demo", "other", "pulled"])
    expect(picker).to_have_value("other")


def theme_is_chosen_and_kept(visit):
    visit.open()
    scheme = "getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(scheme)
    visit.button("Theme: as the system").click()
    visit.button("Theme: light").click()
    dark = visit.page.evaluate(scheme)
    assert light != dark
    visit.page.reload()
    expect(visit.button("Theme: dark")).to_be_visible()
    assert visit.page.evaluate(scheme) == dark


def modules_keep_their_word(visit):
    visit.open()
    script = (HERE / "page_modules.js").read_text()
    failures = visit.page.evaluate(f"{script}\nmoduleFailures()")
    assert failures == [], "\n".join(failures)


PHONE = {"width": 375, "height": 740, "phone": True}
CHECKS = {
    page_comes_whole_and_from_one_host: {}, demo_model_answers_and_is_measured: {},
    system_prompt_and_parameters_are_sent: {}, branches_keep_every_version: {}, cut_answer_is_continued: {},
    stop_and_escape_end_an_answer: {"script": SLOW},
    half_an_answer_survives_a_reload: {"script": SLOW}, hostile_text_stays_text: {}, thoughts_are_folded_with_their_time: {},
    tool_calls_are_shown_and_answered: {}, probabilities_show_the_rivals: {}, errors_are_shown_and_tried_again: {},
    server_goes_away_and_comes_back: {}, history_is_searched_renamed_and_deleted: {}, chats_are_exported_and_imported: {},
    files_are_dropped_pasted_and_picked: {}, keyboard_does_everything: {}, key_is_asked_for_and_kept_for_the_tab: {},
    live_view_reads_the_metrics: {}, phone_fits_its_width: PHONE, colours_have_contrast: {}, controls_have_names: {},
    restarted_server_is_learned_anew: {}, several_models_are_picked_and_change: {}, theme_is_chosen_and_kept: {}, modules_keep_their_word: {},
}


def main():
    global BASE
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    BASE, wanted = sys.argv[1], sys.argv[2:]
    failed = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
        for check, options in CHECKS.items():
            if wanted and check.__name__ not in wanted:
                continue
            visit = Visit(browser, **options)
            try:
                check(visit)
                assert visit.problems == [], visit.problems
                assert visit.hosts == {urlsplit(BASE).netloc}, visit.hosts
                print(f"passed  {check.__name__}")
            except Exception:
                failed += 1
                print(f"FAILED  {check.__name__}\n{traceback.format_exc()}")
            visit.context.close()
        browser.close()
    sys.exit(f"{failed} checks of the page failed" if failed else 0)


if __name__ == "__main__":
    main()
