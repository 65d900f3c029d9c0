"""The official `ollama` package's pull, list, ps, copy and delete, against a server of its own without any model.

Models come from a hub in this process, which serves the demo model as one on Hugging Face. RFGRAPH names the program; else
it is the one of the debug build.
"""

import hashlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ollama

ROOT = Path(__file__).parents[2]
PROGRAM = os.environ.get("RFGRAPH", str(ROOT / "target/debug/rfgraph"))
FILE = (ROOT / "models/demo-Q8_0.gguf").read_bytes()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "user/tiny-GGUF:Q8_0"
SUM = [{"role": "user", "content": "What is 347 + 285?"}]
GREEDY = {"temperature": 0}


class Hub(BaseHTTPRequestHandler):
    """What Hugging Face answers for one repository with one file."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        lfs = {"oid": hashlib.sha256(FILE).hexdigest(), "size": len(FILE), "pointerSize": 134}
        tree = [{"type": "file", "path": "tiny-Q8_0.gguf", "oid": "1" * 40, "size": len(FILE), "lfs": lfs}]
        answers = {
            "/api/models/user/tiny-GGUF/revision/main": json.dumps({"sha": COMMIT}).encode(),
            f"/api/models/user/tiny-GGUF/tree/{COMMIT}": json.dumps(tree).encode(),
            f"/user/tiny-GGUF/resolve/{COMMIT}/tiny-Q8_0.gguf": FILE,
        }
        body = answers.get(self.path.split("?")[0])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


def start(home, hub, *options):
    """A server with a home of its own, and the address that it prints."""
    kept = {key: os.environ[key] for key in ["PATH", "LD_LIBRARY_PATH"] if key in os.environ}
    env = {**kept, "HOME": home, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    command = [PROGRAM, "serve", "--port", "0", "--device", "cpu", *options]
    server = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if found := re.search(r"listening on (\S+)", line):
            address = found[1]
        if line.strip() == "ready":
            return server, ollama.Client(host=address)
    raise AssertionError("the server did not start")


def refused(call, status, part):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status and part in error.error, (error.status_code, error.error)
        return
    raise AssertionError("not refused")


def names(client):
    return [model.model for model in client.list().models]


def ended(client):
    """Waits until no model is loaded."""
    for _ in range(600):
        if not client.ps().models:
            return
        time.sleep(0.05)
    raise AssertionError("the model stays loaded")


def a_model_is_pulled(client):
    assert names(client) == ["demo"], "without models the demo is served"
    progress = list(client.pull("user/tiny-GGUF", stream=True))
    assert [progress[0].status, progress[-1].status] == ["pulling manifest", "success"], progress
    pulling = [line for line in progress if line.status.startswith("pulling ") and line.total]
    assert pulling[-1].completed == pulling[-1].total == len(FILE), pulling
    assert len({line.digest for line in pulling}) == 1
    assert names(client) == [NAME]
    listed = client.list().models[0]
    assert (listed.details.family, listed.details.quantization_level) == ("llama", "Q8_0"), listed
    assert client.pull("hf.co/user/tiny-GGUF:Q8_0").status == "success"
    refused(lambda: client.pull("llama3.2"), 400, "llama3.2")
    refused(lambda: client.pull("user/other"), 500, "404")
    refused(lambda: list(client.pull("user/tiny-GGUF:Q2_K", stream=True)), 400, "Q8_0")


def it_answers_and_is_unloaded(client):
    assert client.ps().models == []
    shown = client.show(NAME)
    assert "completion" in shown.capabilities and shown.modelinfo["general.architecture"] == "llama"
    assert client.ps().models == [], "show loads nothing"
    for name in [NAME, "tiny-GGUF", "user/tiny-gguf"]:
        answer = client.chat(model=name, messages=SUM, options=GREEDY, keep_alive="10m")
        assert answer.message.content == "632" and answer.model == name, answer
    [running] = client.ps().models
    assert (running.model, running.context_length) == (NAME, 512) and running.expires_at, running
    assert running.digest == client.list().models[0].digest
    assert client.generate(model=NAME, keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    client.chat(model=NAME, messages=SUM, options=GREEDY, keep_alive=0)
    ended(client)
    client.embed(model=NAME, input="a word", keep_alive="200ms")
    ended(client)


def it_is_copied_and_deleted(client):
    assert client.copy(NAME, "mine:small").status == "success"
    assert names(client) == ["mine:small", NAME]
    refused(lambda: client.copy(NAME, "mine:small"), 400, "has it already")
    refused(lambda: client.copy(NAME, "../mine"), 400, "cannot be the name")
    refused(lambda: client.copy("other", "another"), 404, "not found")
    assert client.delete(NAME).status == "success"
    assert names(client) == ["mine:small"]
    answer = client.chat(model="mine:small", messages=SUM, options=GREEDY)
    assert answer.message.content == "632", "the content stays for its other name"
    assert client.delete("mine:small").status == "success"
    assert names(client) == ["demo"]
    refused(lambda: client.delete("mine:small"), 404, "not found")
    refused(lambda: client.delete("demo"), 400, "built in")


def nothing_is_changed_without_a_right(client):
    refused(lambda: client.pull("user/tiny-GGUF"), 403, "allow-pull")
    refused(lambda: client.copy("demo", "other"), 403, "allow-pull")
    refused(lambda: client.delete("demo"), 403, "allow-delete")
    assert client.chat(model="demo", messages=SUM, options=GREEDY).message.content == "632"


hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=hub.serve_forever, daemon=True).start()
rights = ["--allow-pull", "--allow-delete"]
for options, checks in [
    (rights, [a_model_is_pulled, it_answers_and_is_unloaded, it_is_copied_and_deleted]),
    ([], [nothing_is_changed_without_a_right]),
]:
    with tempfile.TemporaryDirectory() as home:
        server, client = start(home, hub, *options)
        try:
            for check in checks:
                check(client)
                print("ok", check.__name__)
        finally:
            server.terminate()
            server.wait(20)
        contents = [path for path in Path(home).rglob("*") if path.is_file() and path.stat().st_size > 1000]
        assert contents == [], contents
