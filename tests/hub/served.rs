//! `rfgraph serve` without a model: what is on this machine, by name.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use ureq::Agent;

use crate::program::{User, demo};

/// A server that is killed at the end.
struct Serving {
    process: Child,
    address: String,
    agent: Agent,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Serving {
    fn start(user: &User, args: &[&str]) -> Serving {
        let all = [&["serve", "--port", "0", "--device", "cpu"], args].concat();
        let mut process = user.command(&all).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        while !said.ends_with("ready\n") {
            said += &lines.next().unwrap_or_else(|| panic!("it ended: {said}")).unwrap();
            said.push('\n');
        }
        let address = said.lines().find_map(|line| line.strip_prefix("listening on ")).unwrap().to_string();
        // Its later output goes nowhere, and must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Serving {
            process,
            address,
            agent: Agent::config_builder().http_status_as_error(false).build().into(),
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let mut response = self.agent.get(format!("{}{path}", self.address)).call().unwrap();
        assert_eq!(response.status(), 200);
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let request = self.agent.post(format!("{}{path}", self.address)).content_type("application/json");
        let mut response = request.send(body.to_string()).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn ids(&self) -> Vec<String> {
        let models = self.get("/v1/models");
        let ids = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    }

    #[track_caller]
    fn answers(&self, model: &str) {
        let messages = json!([{"role": "user", "content": "What is 347 + 285?"}]);
        let body = json!({"model": model, "messages": messages, "temperature": 0});
        let (status, answer) = self.post("/v1/chat/completions", &body);
        assert!(status == 200 && answer.contains("\"content\":\"632\""), "{model}: {status} {answer}");
    }
}

fn demo_file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo-Q8_0.gguf")
}

#[test]
fn a_model_is_pulled_through_the_server_and_answers() {
    let hub = demo().serve(|_, reply| reply);
    let user = User::of(&hub);
    let server = Serving::start(&user, &["--allow-pull", "--allow-delete"]);
    assert_eq!(server.ids(), ["demo"]);
    server.answers("demo");
    let (status, lines) = server.post("/api/pull", &json!({"model": "user/repo:Q8_0"}));
    assert!(status == 200 && lines.ends_with("{\"status\":\"success\"}\n"), "{status} {lines}");
    assert_eq!(server.post("/models/unload", &json!({"model": "demo"})).0, 200);
    assert_eq!(
        server.ids(),
        ["user/repo:Q8_0"],
        "the demo is there while nothing else is, or while it is loaded"
    );
    server.answers("repo");
    let (status, error) = server.post("/api/pull", &json!({"model": "user/repo:Q2_K"}));
    assert!(status == 400 && error.contains("it has Q8_0"), "{status} {error}");
    assert_eq!(server.post("/api/copy", &json!({"source": "repo", "destination": "mine"})).0, 200);
    assert_eq!(server.ids(), ["mine", "user/repo:Q8_0"]);
    server.answers("mine");
    assert!(user.path(".cache/rfgraph/mine.gguf").is_symlink());
}

#[test]
fn folders_and_presets_are_served() {
    let hub = demo().serve(|_, reply| reply);
    let user = User::of(&hub);
    fs::create_dir_all(user.path("files/deep")).unwrap();
    fs::copy(demo_file(), user.path("files/deep/m-Q8_0.gguf")).unwrap();
    user.write("files/broken.gguf", "GGUX and more");
    let presets = "[model.small]\nfile = 'm-Q8_0'\nalias = ['s']\nn_ctx = 128\ntemp = 0.25\n\
                   [model.gone]\nfile = 'nothing'\n";
    user.write(".config/rfgraph/models.toml", presets);
    let server = Serving::start(&user, &["--models-dir", "files", "--top-k", "7"]);
    assert_eq!(server.ids(), ["small", "broken", "deep/m-Q8_0"]);
    server.answers("m-Q8_0.gguf");
    let settings =
        |model: &str| server.get(&format!("/props?model={model}"))["default_generation_settings"].clone();
    let (small, plain) = (settings("s"), settings("deep/m-Q8_0"));
    assert_eq!((&small["n_ctx"], &plain["n_ctx"]), (&128.into(), &512.into()));
    assert_eq!((&small["params"]["temperature"], &small["params"]["top_k"]), (&0.25.into(), &7.into()));
    assert_ne!(plain["params"]["temperature"], 0.25);
    let (status, error) = server.post("/v1/completions", &json!({"model": "broken", "prompt": "x"}));
    assert!(
        status == 500 && error.contains("broken.gguf") && error.contains("`broken` could not be loaded"),
        "{error}"
    );
    let home = user.path("").display().to_string();
    assert!(!error.contains(&home) && !error.contains("files/"), "folders are no client's business: {error}");
    for name in
        ["files/broken.gguf", "../files/broken.gguf", "/etc/passwd", &demo_file().display().to_string()]
    {
        let (status, error) = server.post("/v1/completions", &json!({"model": name, "prompt": "x"}));
        assert_eq!(status, 404, "{name}: {error}");
    }
    server.answers("deep/m-Q8_0");
}

#[test]
fn a_given_model_sleeps_if_it_may() {
    let hub = demo().serve(|_, reply| reply);
    let user = User::of(&hub);
    fs::copy(demo_file(), user.path("m.gguf")).unwrap();
    let server = Serving::start(&user, &["./m.gguf", "--alias", "x,y", "--sleep-idle-seconds", "0"]);
    assert_eq!(server.ids(), ["x"]);
    server.answers("y");
    let start = std::time::Instant::now();
    while server.get("/props")["is_sleeping"] != true {
        assert!(start.elapsed().as_secs() < 20, "it does not sleep");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.answers("");
    let kept = Serving::start(&user, &["./m.gguf"]);
    assert_eq!(kept.get("/v1/models")["data"][0]["status"]["value"], "loaded");
}

#[test]
fn options_of_one_model_need_a_model() {
    let hub = demo().serve(|_, reply| reply);
    let user = User::of(&hub);
    for (args, code, complaint) in [
        (&["serve", "--alias", "x"][..], 2, "--alias is about one model"),
        (&["serve", "--chat-template-file", "x"], 2, "--chat-template-file is about one model"),
        (&["serve", "--models-dir", "nothing"], 1, "nothing is not a folder"),
        (&["serve", "m.gguf", "--models-dir", "."], 2, "cannot be used with"),
        (&["serve", "m.gguf", "--allow-pull"], 2, "cannot be used with"),
        (&["serve", "--keep-alive", "soon"], 2, "expected a number of seconds"),
        (&["serve", "--reasoning-format", "x"], 2, "reasoning_format must be one of auto, none, deepseek"),
        (&["serve", "m.gguf", "--reasoning-format", "none"], 1, "no file or model is named `m.gguf`"),
        (&["serve", "m.gguf", "--keep-alive", "1m"], 1, "no file or model is named `m.gguf`"),
    ] {
        let (found, said) = user.failure(args);
        assert!(found == code && said.contains(complaint), "{args:?}: {found} {said}");
    }
}
