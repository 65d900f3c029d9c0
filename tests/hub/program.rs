//! The commands of the program, with a server and a home of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::repository::{Repository, sha256};
use crate::server::{Reply, Server};

const SUM: [&str; 4] = ["-p", "What is 347 + 285?", "--device", "cpu"];

/// A user: a home, and a cache in it.
pub struct User {
    home: tempfile::TempDir,
    endpoint: String,
}

impl User {
    pub fn of(server: &Server) -> User {
        User { home: tempfile::tempdir().unwrap(), endpoint: server.address.clone() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
        for variable in [
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "HF_HOME",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "RFGRAPH_MODELS",
            "LLAMA_CACHE",
            "OLLAMA_MODELS",
            "RFGRAPH_LOG",
        ] {
            command.env_remove(variable);
        }
        command.env("HOME", self.home.path()).env("HF_ENDPOINT", &self.endpoint).env("HF_TOKEN", "hf_secret");
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The standard output of a success.
    fn stdout(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(args)).unwrap()
    }

    /// The exit code and complaint of a failure.
    pub fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(!complaint.contains("hf_secret"), "{complaint}");
        (output.status.code().unwrap(), complaint)
    }
}

/// The demo model as `user/repo:Q8_0`.
pub fn demo() -> Repository {
    let demo = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo-Q8_0.gguf")).unwrap();
    Repository::of(&[("demo-Q8_0.gguf", &demo)])
}

#[test]
fn a_model_is_pulled_listed_shown_run_and_removed() {
    let server = demo().serve(|_, reply| reply);
    let user = User::of(&server);
    let said = user.run(&["pull", "user/repo"]);
    let path = PathBuf::from(String::from_utf8(said.stdout).unwrap().trim_end());
    assert!(path.starts_with(user.path(".cache/huggingface/hub/models--user--repo/snapshots")), "{path:?}");
    let told = String::from_utf8(said.stderr).unwrap();
    assert_eq!(told, "user/repo has no Q4_K_M; taking user/repo:Q8_0\n");
    let list = user.json(&["list", "--json"]);
    let model = &list["models"][0];
    assert_eq!(
        (&model["name"], &model["architecture"], &model["format"]),
        (&"user/repo:Q8_0".into(), &"llama".into(), &"Q8_0".into())
    );
    let bytes = fs::metadata(&path).unwrap().len();
    assert_eq!((model["bytes"].as_u64(), model["path"].as_str()), (Some(bytes), path.to_str()));
    let text = user.stdout(&["list"]);
    assert!(
        text.contains("user/repo:Q8_0") && text.contains("just now") && text.contains("Hugging Face's cache"),
        "{text}"
    );
    let shown = user.stdout(&["show", "repo"]);
    assert!(
        shown.contains("name             user/repo:Q8_0\n") && shown.contains("architecture     llama\n"),
        "{shown}"
    );
    let asked = server.requests().len();
    for name in ["user/repo", "user/repo:Q8_0", "repo", path.to_str().unwrap()] {
        assert_eq!(user.stdout(&[&["run", name][..], &SUM].concat()), "632\n", "{name}");
    }
    assert_eq!(server.requests().len(), asked, "names that are here ask nobody");
    assert!(user.stdout(&["tokenize", "repo", "-p", "a"]).ends_with('\n'));
    assert!(user.stdout(&["inspect", "repo"]).contains("GGUF version 3"));
    let (code, complaint) = user.failure(&["rm", "repo"]);
    assert!(code == 2 && complaint.contains("--yes"), "{complaint}");
    assert!(user.stdout(&["rm", "--yes", "repo"]).starts_with("deleted user/repo:Q8_0; "));
    assert!(!path.exists() && user.stdout(&["list"]).starts_with("no models"));
}

#[test]
fn hf_downloads_what_is_not_here_and_nothing_twice() {
    let server = demo().serve(|_, reply| reply);
    let user = User::of(&server);
    let with = |option: &'static str| [&["run", option, "user/repo:Q8_0"][..], &SUM].concat();
    assert_eq!(user.stdout(&with("-hf")), "632\n");
    let asked = server.requests().len();
    assert_eq!(user.stdout(&with("-hf")), "632\n");
    assert_eq!(user.stdout(&with("--hf-repo")), "632\n");
    assert_eq!(server.requests().len(), asked);
    let offline = User::of(&server);
    let (code, complaint) = offline.failure(&[&with("-hf")[..], &["--offline"]].concat());
    assert!(code == 1 && complaint.contains("downloads are turned off"), "{complaint}");
    let output = offline.command(&["pull", "user/repo"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(server.requests().len(), asked);
    let (code, complaint) = user.failure(&["run", "-hf", "user/repo", "x.gguf"]);
    assert!(code == 2 && complaint.contains("cannot be used with"), "{complaint}");
}

#[test]
fn without_a_quantization_hf_does_not_take_another_one_that_is_here() {
    let mut repo = demo();
    repo.files.push(("x-Q4_K_M.gguf".into(), repo.files[0].1.clone()));
    let server = repo.serve(|_, reply| reply);
    let user = User::of(&server);
    user.stdout(&["pull", "user/repo:Q8_0"]);
    user.stdout(&[&["run", "-hf", "user/repo"][..], &SUM].concat());
    assert_eq!(user.json(&["list", "--json"])["models"].as_array().unwrap().len(), 2);
}

#[test]
fn an_unknown_name_says_the_command_that_downloads_it() {
    let server = Server::start(|_| Reply::new(500, ""));
    let user = User::of(&server);
    for (name, command) in [
        ("hf.co/a/b:Q8_0", "`rfgraph pull a/b:Q8_0` downloads it"),
        ("a/b", "`rfgraph pull a/b` downloads it"),
        ("b", "`rfgraph pull USER/REPO` downloads one"),
        ("folder/b.gguf", "`rfgraph pull USER/REPO` downloads one"),
    ] {
        for args in [
            vec!["run", name, "-p", "x"],
            vec!["show", name],
            vec!["rm", "--yes", name],
            vec!["kernels", name],
            vec!["quantize", name, "o", "Q8_0"],
        ] {
            let (code, complaint) = user.failure(&args);
            assert!(code == 1 && complaint.contains(command), "{args:?}: {complaint}");
        }
    }
    assert!(server.requests().is_empty());
    let (code, complaint) = user.failure(&["run", "./b.gguf", "-p", "x"]);
    assert!(code == 1 && complaint.contains("cannot open ./b.gguf"), "{complaint}");
    let (code, complaint) = user.failure(&["pull", "../b"]);
    assert!(code == 2 && complaint.contains("is not a repository name"), "{complaint}");
}

#[test]
fn an_existing_path_wins_over_a_name() {
    let server = Server::start(|_| Reply::new(500, ""));
    let user = User::of(&server);
    user.write(".config/rfgraph/models.toml", "[model.\"own.gguf\"]\nfile = 'nothing'\n");
    user.write("own.gguf", &demo().files[0].1);
    assert_eq!(user.stdout(&[&["run", "own.gguf"][..], &SUM].concat()), "632\n");
    user.write(".cache/rfgraph/a/m.gguf", &demo().files[0].1);
    user.write(".cache/rfgraph/b/m.gguf", "GGUF");
    let (code, complaint) = user.failure(&["run", "m", "-p", "x"]);
    assert!(code == 1 && complaint.contains("fits several models"), "{complaint}");
    assert!(complaint.contains("a/m  ") && complaint.contains("b/m  "), "{complaint}");
    let broken = &user.json(&["list", "--json"])["models"][1];
    assert!(broken["problem"].as_str().unwrap().contains("byte"), "{broken}");
}

#[test]
fn presets_set_what_no_option_sets() {
    let server = Server::start(|_| Reply::new(500, ""));
    let user = User::of(&server);
    user.write("demo.gguf", &demo().files[0].1);
    let preset = "[model.sum]\nfile = '~/demo.gguf'\nalias = ['s']\nn_ctx = 64\ntemp = 0.25\ntop_k = 3\n";
    user.write(".config/rfgraph/models.toml", preset);
    let report = user.json(&[&["run", "s", "--json", "--top-k", "5"][..], &SUM].concat());
    let setting =
        |name: &str| (report["sampling"][name]["value"].as_f64(), report["sampling"][name]["from"].as_str());
    assert_eq!(setting("temperature"), (Some(0.25), Some("preset")));
    assert_eq!(setting("top_k"), (Some(5.0), Some("option")));
    assert_eq!(setting("top_p").1, Some("default"));
    let n_ctx =
        |args: &[&str]| user.json(&[&["inspect", "--json"], args].concat())["memory"]["n_ctx"].clone();
    assert_eq!((n_ctx(&["sum"]), n_ctx(&["sum", "-c", "32"])), (64.into(), 32.into()));
    assert!(user.stdout(&["list"]).contains("preset sum, s: ~/demo.gguf\n"));
    assert_eq!(user.json(&["show", "s", "--json"])["preset"], "sum");
    let (_, complaint) = user.failure(&["rm", "--yes", "s"]);
    assert!(complaint.contains("is a preset for ~/demo.gguf"), "{complaint}");
    user.write(".config/rfgraph/models.toml", format!("{preset}warmth = 1\n"));
    let (code, complaint) = user.failure(&["run", "s", "-p", "x"]);
    assert!(code == 1 && complaint.contains("models.toml:7: unknown key `warmth`"), "{complaint}");
}

#[test]
fn a_refused_download_is_exit_code_1_and_shows_no_token() {
    let server = Server::start(|_| Reply::new(401, r#"{"error": "Invalid username or password."}"#));
    let (code, complaint) = User::of(&server).failure(&["-vvv", "pull", "user/repo"]);
    assert!(code == 1 && complaint.contains("answered 401: Invalid username"), "{complaint}");
}

/// A killed program leaves its lock to the next one, and what it has downloaded.
#[test]
fn a_killed_download_goes_on() {
    let repo = Repository::of(&[("m.gguf", &crate::repository::bytes(300_000))]);
    let digits = sha256(&repo.files[0].1);
    let server =
        repo.serve(|request, reply| match request.is_for_a_file() && request.header("range").is_none() {
            true => Reply { pace: Duration::from_millis(5), ..reply },
            false => reply,
        });
    let user = User::of(&server);
    let mut child =
        user.command(&["pull", "user/repo"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let part = user.path(&format!(".cache/huggingface/hub/models--user--repo/blobs/{digits}.part"));
    while fs::metadata(&part).map_or(0, |part| part.len()) < 50_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let there = fs::metadata(&part).unwrap().len();
    let path = user.stdout(&["pull", "user/repo"]);
    assert_eq!(server.file_requests()[1].header("range").unwrap(), format!("bytes={there}-"));
    assert_eq!(sha256(&fs::read(path.trim_end()).unwrap()), digits);
}
