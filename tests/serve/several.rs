//! Several models in one server, from a library that counts what is asked of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rfgraph::serve::{
    Description, KeepAlive, Library, LibraryError, ListedModel, Loaded, ModelNames, PullProgress,
    ServeOptions, Server,
};
use rfgraph::{Engine, EngineOptions, Model, SamplerParams};
use serde_json::{Value, json};

use crate::client::{Connection, JSON, engine_options, post_to, request};

const CHAT: &str = "/v1/chat/completions";

/// Models that are all the demo. `large` fits only alone, `broken` cannot be loaded, `panics` panics.
#[derive(Default)]
struct Counting {
    names: Mutex<Vec<String>>,
    /// The number of loads of each model.
    loads: Mutex<BTreeMap<String, usize>>,
    /// The models that were tried, in their order.
    order: Mutex<Vec<String>>,
    load_time: Duration,
    /// Downloads that were told to end.
    broken_off: AtomicUsize,
    live: Mutex<Vec<(String, Engine)>>,
}

impl Counting {
    fn of(names: &[&str]) -> Arc<Counting> {
        Counting::slow(names, Duration::ZERO)
    }

    fn slow(names: &[&str], load_time: Duration) -> Arc<Counting> {
        let names = Mutex::new(names.iter().map(|name| (*name).to_string()).collect());
        Arc::new(Counting { names, load_time, ..Counting::default() })
    }

    fn n_loads(&self, name: &str) -> usize {
        self.loads.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn order(&self) -> Vec<String> {
        self.order.lock().unwrap().clone()
    }

    /// Models whose engine still takes requests.
    fn n_live(&self) -> usize {
        let ask = || rfgraph::Request::answer(vec![1], SamplerParams::default());
        self.live.lock().unwrap().iter().filter(|(_, engine)| engine.submit(ask()).is_ok()).count()
    }
}

impl Library for Counting {
    fn list(&self) -> Vec<ListedModel> {
        let names = self.names.lock().unwrap().clone();
        let listed = |id: String| ListedModel {
            names: ModelNames { aliases: vec![format!("{id}-alias")], id },
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            bytes: 1234,
            parameters: 5_000_000,
            architecture: "llama".into(),
            format: "Q8_0".into(),
            n_ctx_train: Some(512),
        };
        names.into_iter().map(listed).collect()
    }

    fn find(&self, name: &str) -> Result<String, LibraryError> {
        if name == "ambiguous" {
            return Err(LibraryError::Invalid("`ambiguous` fits several models: a, b".into()));
        }
        let all = self.list().into_iter().map(|listed| listed.names);
        let found = all.into_iter().find(|names| names.id == name || names.aliases[0] == name);
        found.map(|names| names.id).ok_or(LibraryError::Unknown)
    }

    fn describe(&self, _: &str) -> Result<Description, LibraryError> {
        Ok(Description { model: Model::demo().unwrap(), sampling: SamplerParams::default() })
    }

    fn load(&self, id: &str, on_step: rfgraph::OnStep) -> Result<Loaded, LibraryError> {
        thread::sleep(self.load_time);
        self.order.lock().unwrap().push(id.to_string());
        match id {
            "broken" => return Err(LibraryError::Failed("bad magic in broken.gguf".into())),
            "panics" => panic!("on purpose"),
            "large" if self.n_live() > 0 => return Err(LibraryError::Memory("no room".into())),
            _ => {}
        }
        *self.loads.lock().unwrap().entry(id.to_string()).or_default() += 1;
        let options = EngineOptions { on_step: Some(on_step), ..engine_options() };
        let engine = Engine::start(&Model::demo().unwrap(), options).unwrap();
        self.live.lock().unwrap().push((id.to_string(), engine.clone()));
        let names = ModelNames { id: id.into(), aliases: Vec::new() };
        Ok(Loaded::new(engine, names, SamplerParams::default()))
    }

    fn pull(
        &self,
        name: &str,
        on_progress: &mut dyn FnMut(PullProgress) -> ControlFlow<()>,
    ) -> Result<(), LibraryError> {
        if name == "nothing" {
            return Err(LibraryError::Invalid("`nothing` is not a repository name".into()));
        }
        for done in 0..=1000 {
            if on_progress(PullProgress { done, total: 1000 }).is_break() {
                self.broken_off.fetch_add(1, Ordering::Relaxed);
                return Err(LibraryError::Failed("stopped".into()));
            }
            thread::sleep(Duration::from_millis(if name == "endless" { 10 } else { 0 }));
            if name == "cut" && done == 500 {
                return Err(LibraryError::Failed("the connection broke".into()));
            }
        }
        self.names.lock().unwrap().push(name.into());
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<(), LibraryError> {
        self.names.lock().unwrap().retain(|name| name != id);
        Ok(())
    }

    fn copy(&self, _: &str, name: &str) -> Result<(), LibraryError> {
        self.names.lock().unwrap().push(name.into());
        Ok(())
    }
}

fn serve(library: &Arc<Counting>, options: ServeOptions) -> (Server, SocketAddr) {
    let server = Server::start(ServeOptions { port: 0, ..options }).unwrap();
    server.set_library(Arc::clone(library) as Arc<dyn Library>);
    let address = server.address();
    (server, address)
}

/// A chat whose answer is `632`.
fn sum(model: &str) -> Value {
    let messages = json!([{"role": "user", "content": "What is 347 + 285?"}]);
    json!({"model": model, "messages": messages, "temperature": 0})
}

#[track_caller]
fn answers(address: SocketAddr, model: &str) {
    let answer = post_to(address, CHAT, &sum(model)).json(200);
    assert_eq!(answer["choices"][0]["message"]["content"], "632");
}

/// The states of the models by their ids.
fn states(address: SocketAddr) -> BTreeMap<String, String> {
    let models = request(address, "GET", "/v1/models", "", "").json(200);
    let entry = |model: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        (text(&model["id"]), text(&model["status"]["value"]))
    };
    models["data"].as_array().unwrap().iter().map(entry).collect()
}

fn loaded(address: SocketAddr) -> Vec<String> {
    states(address).into_iter().filter(|(_, state)| state == "loaded").map(|(id, _)| id).collect()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A stream that goes on until the context is full; its first bytes have been read.
fn long_answer(address: SocketAddr, model: &str) -> Connection {
    let mut connection = Connection::open(address);
    let body =
        json!({"model": model, "prompt": "Once", "max_tokens": 480, "ignore_eos": true, "stream": true});
    connection.send("POST", "/v1/completions", JSON, &body.to_string());
    assert_eq!(connection.head().status, 200);
    assert!(connection.chunk().contains("data: "));
    connection
}

/// Reads a stream to its end, which must be the right one.
fn read_to_end(mut connection: Connection) {
    let mut text = String::new();
    loop {
        let chunk = connection.chunk();
        if chunk.is_empty() {
            break;
        }
        text += &chunk;
    }
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("\"finish_reason\":\"length\""), "{text}");
}

#[test]
fn models_are_loaded_when_they_are_named() {
    let library = Counting::of(&["a", "b"]);
    let (server, address) = serve(&library, ServeOptions::default());
    assert_eq!(request(address, "GET", "/health", "", "").status, 200);
    assert_eq!(loaded(address), [""; 0]);
    answers(address, "a");
    answers(address, "a-alias");
    assert_eq!(library.n_loads("a"), 1, "an alias is no other model");
    assert_eq!(states(address)["b"], "unloaded");
    answers(address, "b");
    assert_eq!(loaded(address), ["a", "b"]);
    let one = request(address, "GET", "/v1/models/a-alias", "", "").json(200);
    assert_eq!((&one["id"], &one["meta"]["n_ctx"]), (&"a".into(), &512.into()));
    server.stop();
    assert_eq!(library.n_live(), 0);
}

#[test]
fn sixteen_requests_at_once_load_a_model_once() {
    let library = Counting::slow(&["a", "b"], Duration::from_millis(200));
    let (server, address) = serve(&library, ServeOptions::default());
    thread::scope(|scope| {
        for i in 0..16 {
            scope.spawn(move || answers(address, if i % 4 == 0 { "b" } else { "a" }));
        }
        wait_until("one loads", || states(address).values().any(|state| state == "loading"));
    });
    assert_eq!((library.n_loads("a"), library.n_loads("b")), (1, 1));
    server.stop();
}

#[test]
fn the_least_recently_used_one_makes_room() {
    let library = Counting::of(&["a", "b", "c"]);
    let (server, address) = serve(&library, ServeOptions { max_models: 2, ..ServeOptions::default() });
    ["a", "b", "a", "c"].iter().for_each(|model| answers(address, model));
    assert_eq!(loaded(address), ["a", "c"], "b was used before a");
    answers(address, "b");
    assert_eq!(loaded(address), ["b", "c"]);
    assert_eq!(library.order(), ["a", "b", "c", "b"]);
    assert_eq!(library.n_live(), 2, "an engine that ended takes no requests");
    server.stop();
}

#[test]
fn a_model_that_answers_is_not_evicted() {
    let library = Counting::of(&["a", "b"]);
    let keep_alive = KeepAlive::For(Duration::ZERO);
    let (server, address) =
        serve(&library, ServeOptions { max_models: 1, keep_alive, ..ServeOptions::default() });
    let stream = long_answer(address, "a");
    let waits = thread::spawn(move || answers(address, "b"));
    wait_until("b waits", || states(address)["b"] == "loading");
    let unloaded = post_to(address, "/models/unload", &json!({"model": "a"})).json(200);
    assert_eq!(unloaded, json!({"success": true}));
    assert_eq!(states(address)["a"], "loaded");
    assert_eq!(library.n_loads("b"), 0, "there is no room while a answers");
    read_to_end(stream);
    waits.join().unwrap();
    wait_until("both end", || loaded(address).is_empty());
    server.stop();
}

#[test]
fn a_client_that_leaves_the_queue_costs_nothing() {
    let library = Counting::of(&["a", "b", "c"]);
    let (server, address) = serve(&library, ServeOptions { max_models: 1, ..ServeOptions::default() });
    let stream = long_answer(address, "a");
    let mut leaves = Connection::open(address);
    leaves.send("POST", CHAT, JSON, &sum("b").to_string());
    wait_until("b waits", || states(address)["b"] == "loading");
    drop(leaves);
    wait_until("nobody waits for b", || states(address)["b"] == "unloaded");
    drop(stream);
    answers(address, "c");
    assert_eq!(library.order(), ["a", "c"]);
    server.stop();
}

#[test]
fn a_lack_of_memory_ends_idle_models() {
    let library = Counting::of(&["a", "b", "large"]);
    let (server, address) = serve(&library, ServeOptions::default());
    answers(address, "a");
    answers(address, "b");
    answers(address, "large");
    assert_eq!(loaded(address), ["large"]);
    assert_eq!(library.order(), ["a", "b", "large", "large", "large"], "one after the other makes room");
    server.stop();
}

#[test]
fn an_unused_model_ends_after_its_time() {
    let library = Counting::of(&["a", "b"]);
    let keep_alive = KeepAlive::For(Duration::from_millis(300));
    let (server, address) = serve(&library, ServeOptions { keep_alive, ..ServeOptions::default() });
    let stream = long_answer(address, "a");
    answers(address, "b");
    wait_until("b ends", || states(address)["b"] == "unloaded");
    assert_eq!(loaded(address), ["a"], "it answers");
    read_to_end(stream);
    wait_until("a ends", || loaded(address).is_empty());
    assert_eq!(library.n_live(), 0);
    answers(address, "a");
    assert_eq!(library.n_loads("a"), 2);
    server.stop();
}

#[test]
fn a_request_says_how_long_its_model_is_kept() {
    let library = Counting::of(&["a"]);
    let (server, address) = serve(&library, ServeOptions::default());
    let generate = |fields: Value| {
        let mut body = json!({"model": "a:latest", "stream": false, "options": {"num_predict": 1}});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        post_to(address, "/api/generate", &body)
    };
    let expires = || {
        let ps = request(address, "GET", "/api/ps", "", "").json(200);
        ps["models"][0]["expires_at"].as_str().map(str::to_owned)
    };
    assert_eq!(generate(json!({})).json(200)["done_reason"], "load");
    let by_default = expires().unwrap();
    assert!(by_default.starts_with("20"), "{by_default}");
    generate(json!({"prompt": "x", "keep_alive": -1})).json(200);
    assert_eq!(expires().unwrap(), "9999-12-31T23:59:59Z");
    let answer = generate(json!({"prompt": "x", "keep_alive": "1h"})).json(200);
    assert!(expires().unwrap() > by_default && answer["load_duration"].as_u64().unwrap() > 0);
    let last = generate(json!({"keep_alive": 0})).json(200);
    assert_eq!((&last["done_reason"], &last["model"]), (&"unload".into(), &"a:latest".into()));
    assert_eq!(expires(), None);
    generate(json!({"keep_alive": "0s"})).json(200);
    assert_eq!(library.n_loads("a"), 1, "a model is not loaded to be unloaded");
    assert_eq!(generate(json!({"prompt": "x", "keep_alive": "0"})).json(200)["done"], true);
    wait_until("it ends after its answer", || expires().is_none());
    for wrong in [json!("5 parsecs"), json!([5]), json!("")] {
        let error = generate(json!({"prompt": "x", "keep_alive": wrong})).json(400);
        assert!(error["error"].as_str().unwrap().starts_with("keep_alive: expected"), "{error}");
    }
    server.stop();
}

#[test]
fn a_failed_load_is_the_error_of_its_request() {
    let library = Counting::of(&["a", "broken", "panics"]);
    let (server, address) = serve(&library, ServeOptions::default());
    for (model, reason) in [("broken", "bad magic in broken.gguf"), ("panics", "panicked")] {
        for _ in 0..2 {
            let error = post_to(address, CHAT, &sum(model)).json(500);
            let message = error["error"]["message"].as_str().unwrap();
            assert!(message.contains(&format!("`{model}` could not be loaded")) && message.contains(reason));
        }
        assert_eq!(states(address)[model], "failed");
    }
    assert_eq!(library.order(), ["broken", "broken", "panics", "panics"], "each request tries again");
    let error = post_to(address, "/api/chat", &sum("broken")).json(500);
    assert!(error["error"].as_str().unwrap().contains("bad magic"), "{error}");
    answers(address, "a");
    server.stop();
}

#[test]
fn unknown_names_are_refused_in_each_family() {
    let library = Counting::of(&["a", "b"]);
    let (server, address) = serve(&library, ServeOptions::default());
    let error = post_to(address, CHAT, &sum("c")).json(404);
    assert_eq!(
        (&error["error"]["code"], &error["error"]["param"]),
        (&"model_not_found".into(), &"model".into())
    );
    assert_eq!(post_to(address, "/api/chat", &sum("c")).json(404), json!({"error": "model 'c' not found"}));
    let mut message = sum("c");
    message["max_tokens"] = 5.into();
    let error = post_to(address, "/v1/messages", &message).json(404);
    assert_eq!(error["error"]["type"], "not_found_error");
    assert_eq!(request(address, "GET", "/v1/models/user/c:Q8_0", "", "").status, 404);
    let error = post_to(address, CHAT, &sum("ambiguous")).json(400);
    assert_eq!(error["error"]["message"], "`ambiguous` fits several models: a, b");
    let nameless = post_to(address, CHAT, &sum("")).json(400);
    assert!(nameless["error"]["message"].as_str().unwrap().contains("several models"), "{nameless}");
    assert!(library.order().is_empty());
    let alone = Counting::of(&["a"]);
    let (other, address) = serve(&alone, ServeOptions::default());
    answers(address, "");
    other.stop();
    server.stop();
}

#[test]
fn listing_models_loads_none() {
    let library = Counting::of(&["a", "user/b:Q8_0"]);
    let (server, address) = serve(&library, ServeOptions::default());
    let get = |path: &str| request(address, "GET", path, "", "").json(200);
    let tags = get("/api/tags");
    let names: Vec<&Value> = tags["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, ["a", "user/b:Q8_0"]);
    let details = json!({"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "5.0M", "quantization_level": "Q8_0"});
    assert_eq!((&tags["models"][0]["details"], &tags["models"][0]["size"]), (&details, &1234.into()));
    assert_eq!(get("/api/ps"), json!({"models": []}));
    assert_eq!(get("/v1/models/user/b:Q8_0"), get("/v1/models/user%2Fb:Q8_0"));
    let shown = post_to(address, "/api/show", &json!({"model": "a"})).json(200);
    assert_eq!(shown["details"], details);
    assert!(shown["capabilities"].as_array().unwrap().contains(&"completion".into()));
    assert_eq!(get("/props")["role"], "router");
    let asleep = get("/props?model=a&autoload=false");
    assert_eq!((&asleep["model_alias"], &asleep["is_sleeping"]), (&"a".into(), &true.into()));
    assert_eq!(get("/slots?model=a"), json!([]));
    assert_eq!(request(address, "GET", "/metrics", "", "").status, 200);
    assert!(library.order().is_empty());
    let awake = get("/props?model=a");
    assert_eq!(
        (&awake["is_sleeping"], &awake["default_generation_settings"]["n_ctx"]),
        (&false.into(), &512.into())
    );
    assert_eq!(library.order(), ["a"]);
    let digest = |list: &Value| list["models"][0]["digest"].as_str().unwrap().to_string();
    assert_eq!(digest(&get("/api/ps")), digest(&tags));
    assert_eq!(
        post_to(address, "/models/load", &json!({"model": "user/b:Q8_0"})).json(200),
        json!({"success": true})
    );
    assert_eq!(loaded(address).len(), 2);
    post_to(address, "/models/unload", &json!({"model": "a"})).json(200);
    assert_eq!(loaded(address), ["user/b:Q8_0"]);
    server.stop();
}

#[test]
fn metrics_count_each_model_also_after_its_end() {
    let library = Counting::of(&["a", "b"]);
    let (server, address) = serve(&library, ServeOptions { max_models: 1, ..ServeOptions::default() });
    ["a", "b", "a", "b"].iter().for_each(|model| answers(address, model));
    let metric = |name: &str| -> f64 {
        let text = request(address, "GET", "/metrics", "", "").body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    };
    wait_until("the counts are there", || metric("rfgraph_generation_tokens_total{model=\"b\"}") == 6.0);
    assert_eq!(metric("rfgraph_generation_tokens_total{model=\"a\"}"), 6.0);
    assert_eq!(metric("rfgraph_model_loaded{model=\"a\"}"), 0.0);
    assert_eq!(metric("rfgraph_model_loaded{model=\"b\"}"), 1.0);
    assert_eq!(metric("rfgraph_kv_blocks_total{model=\"a\"}"), 0.0);
    assert_eq!(metric("rfgraph_requests_total{model=\"a\",finish_reason=\"end\"}"), 2.0);
    assert_eq!(metric("rfgraph_time_to_first_token_seconds_count{model=\"a\"}"), 2.0);
    assert!(metric("rfgraph_step_seconds_count{model=\"a\"}") >= 6.0);
    server.stop();
}

/// The lines of a body.
fn lines(body: &str) -> Vec<Value> {
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn changes_need_their_right() {
    let library = Counting::of(&["a"]);
    let (server, address) = serve(&library, ServeOptions::default());
    let send =
        |method: &str, path: &str, body: Value| request(address, method, path, JSON, &body.to_string());
    for (method, path, body, right) in [
        ("POST", "/api/pull", json!({"model": "u/r"}), "allow-pull"),
        ("POST", "/api/copy", json!({"source": "a", "destination": "b"}), "allow-pull"),
        ("DELETE", "/api/delete", json!({"model": "a"}), "allow-delete"),
    ] {
        let error = send(method, path, body).json(403);
        assert_eq!(error["error"], format!("{path} is not allowed: this server was started without {right}"));
    }
    assert_eq!(library.list().len(), 1);
    server.stop();
}

#[test]
fn models_are_pulled_copied_and_deleted() {
    let library = Counting::of(&["a"]);
    let options = ServeOptions { allow_pull: true, allow_delete: true, ..ServeOptions::default() };
    let (server, address) = serve(&library, options);
    let pull = |name: &str| post_to(address, "/api/pull", &json!({"model": name}));
    let pulled = pull("b");
    assert_eq!((pulled.status, pulled.header("content-type")), (200, Some("application/x-ndjson")));
    let pulled = lines(&pulled.body);
    let status = |line: &Value| line["status"].as_str().unwrap().to_string();
    assert_eq!(status(&pulled[0]), "pulling manifest");
    let progress: Vec<&Value> = pulled.iter().filter(|line| line["total"] == 1000).collect();
    assert!(progress.iter().all(|line| line["digest"].as_str().unwrap().len() == "sha256:".len() + 64));
    assert_eq!(progress[0]["completed"], 0);
    let last: Vec<String> = pulled.iter().rev().take(3).rev().map(status).collect();
    assert_eq!(last, ["verifying sha256 digest", "writing manifest", "success"]);
    answers(address, "b");
    let whole = post_to(address, "/api/pull", &json!({"name": "c", "stream": false})).json(200);
    assert_eq!(whole, json!({"status": "success"}));
    assert_eq!(pull("nothing").json(400)["error"], "`nothing` is not a repository name");
    assert_eq!(lines(&pull("cut").body).last().unwrap(), &json!({"error": "the connection broke"}));
    assert_eq!(post_to(address, "/api/pull", &json!({})).json(400)["error"], "model is required");
    let copy = |source: &str| post_to(address, "/api/copy", &json!({"source": source, "destination": "d"}));
    assert_eq!((copy("a").status, copy("other").status), (200, 404));
    let delete =
        |name: &str| request(address, "DELETE", "/api/delete", JSON, &json!({"model": name}).to_string());
    assert_eq!((delete("b").status, delete("b").status), (200, 404));
    assert_eq!(states(address).into_keys().collect::<Vec<_>>(), ["a", "c", "d"], "b was unloaded too");
    server.stop();
}

#[test]
fn a_client_that_leaves_ends_its_download() {
    let library = Counting::of(&["a"]);
    let (server, address) = serve(&library, ServeOptions { allow_pull: true, ..ServeOptions::default() });
    let mut connection = Connection::open(address);
    connection.send("POST", "/api/pull", JSON, &json!({"model": "endless"}).to_string());
    assert_eq!(connection.head().status, 200);
    assert!(connection.chunk().contains("pulling manifest"));
    drop(connection);
    wait_until("it ends", || library.broken_off.load(Ordering::Relaxed) == 1);
    server.stop();
}
