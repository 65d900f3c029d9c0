//! `rfgraph kernels` from outside: its list, its check, and its errors if the compiler fails.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The program, with an empty cache folder and without this machine's ROCm.
fn rfgraph(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
    for name in ["RFGRAPH_LOG", "RFGRAPH_CACHE_MIB", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command.arg("kernels").args(args).env("ROCM_PATH", home).env("RFGRAPH_CACHE_DIR", home.join("cache"));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn the_tables_kernels_are_listed() {
    let home = home();
    let output = rfgraph(home.path(), &["--arch", "gfx906,gfx1100"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let listed = text(&output.stdout);
    assert!(listed.contains("elementwise.hip: binary\n"), "{listed}");
    assert!(listed.ends_with("kernels for 2 targets\n"), "{listed}");
    // The list is the same in every run, and as JSON.
    let again = rfgraph(home.path(), &["--arch", "gfx906,gfx1100"]).output().unwrap();
    assert_eq!(text(&again.stdout), listed);
    let json = rfgraph(home.path(), &["--arch", "gfx906,gfx1100", "--json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let kernels = json["kernels"].as_array().unwrap();
    assert!(listed.ends_with(&format!("\n{} kernels for 2 targets\n", kernels.len())));
    assert!(kernels.iter().all(|kernel| kernel["variant"]["entry"].is_string()));
}

#[test]
fn wrong_targets_are_refused() {
    let output = rfgraph(home().path(), &["--arch", "gfx906,voodoo2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("voodoo2"));
}

#[test]
fn the_cache_is_cleared() {
    let home = home();
    let cache = home.path().join("cache");
    let cleared = || text(&rfgraph(home.path(), &["--clear-cache"]).output().unwrap().stdout);
    let folder = cache.display();
    assert_eq!(cleared(), format!("removed 0 compiled programs, 0.0 MiB, from {folder}\n"));
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("0.kernel"), vec![0; 3 << 19]).unwrap();
    fs::write(cache.join("letter"), "mine").unwrap();
    assert_eq!(cleared(), format!("removed 1 compiled programs, 1.5 MiB, from {folder}\n"));
    assert!(cache.join("letter").exists());
}

#[test]
fn the_cache_folder_follows_the_environment() {
    let home = home();
    let cleared = |variables: &[(&str, &str)]| {
        let mut command = rfgraph(home.path(), &["--clear-cache"]);
        command.env_remove("RFGRAPH_CACHE_DIR").env("HOME", "/nonexistent").envs(variables.iter().copied());
        let said = text(&command.output().unwrap().stdout);
        said.split(" from ").nth(1).unwrap().trim().to_string()
    };
    assert_eq!(cleared(&[]), "/nonexistent/.cache/rfgraph/kernels");
    assert_eq!(cleared(&[("XDG_CACHE_HOME", "/nonexistent/xdg")]), "/nonexistent/xdg/rfgraph/kernels");
    assert_eq!(cleared(&[("XDG_CACHE_HOME", "relative")]), "/nonexistent/.cache/rfgraph/kernels");
    assert_eq!(cleared(&[("RFGRAPH_CACHE_DIR", "")]), "/nonexistent/.cache/rfgraph/kernels");
    let both = [("XDG_CACHE_HOME", "/nonexistent/xdg"), ("RFGRAPH_CACHE_DIR", "/nonexistent/own")];
    assert_eq!(cleared(&both), "/nonexistent/own");
}

/// Builds the failing compiler of `support/fake_hiprtc.c` and checks with it.
fn check(home: &Path, arch: &str, more: &[&str]) -> Output {
    let library = home.join("libhiprtc.so.7");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake_hiprtc.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success(), "a C compiler is needed");
    let code = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/code_object/double_it-gfx1100.co");
    let mut command = rfgraph(home, &["--check", "--arch", arch]);
    command.args(more).env("LD_LIBRARY_PATH", home).env("FAKE_CODE", code).output().unwrap()
}

#[test]
fn a_compiler_that_ends_its_process_fails_its_target_alone() {
    let output = check(home().path(), "gfx906,gfx1100,gfx90a", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failures = |i: usize| said["targets"][i]["failures"].as_array().unwrap().clone();
    let programs = |i: usize| said["targets"][i]["programs"].as_u64().unwrap() as usize;
    assert!(programs(0) > 2);

    // Every program is refused, with the line and the options. Many programs are compiled as one first, then halves,
    // then each alone.
    let compilations = |i: usize| said["targets"][i]["compilations"].as_u64().unwrap() as usize;
    assert!(compilations(0) > programs(0) && compilations(0) < 2 * programs(0), "{}", compilations(0));
    assert_eq!(failures(0).len(), programs(0));
    let refused = failures(0)[0].as_str().unwrap().to_string();
    assert!(refused.contains("does not compile for gfx906"), "{refused}");
    assert!(refused.contains("--offload-arch=gfx906") && refused.contains(">     1 | //"), "{refused}");

    // The second program ended the process, in the common compilation and again alone.
    let ended = failures(1).last().unwrap().as_str().unwrap().to_string();
    assert!(ended.contains("signal: 6 (SIGABRT)") && ended.contains("while it compiled"), "{ended}");
    assert!(ended.ends_with(&format!("{} programs are left", programs(1) - 1)), "{ended}");

    // The code object is of another program and has none of the kernels, so each program was compiled alone.
    assert!(compilations(2) > programs(2) && compilations(2) < 2 * programs(2), "{}", compilations(2));
    assert!(
        failures(2)
            .iter()
            .all(|f| f.as_str().unwrap().ends_with("the code object has no kernel of this name"))
    );
    assert!(text(&output.stderr).starts_with("error: of 0 compiled kernels 0 spill; "));
}

#[test]
fn without_a_compiler_the_check_fails_and_says_why() {
    let output = rfgraph(home().path(), &["--check", "--arch", "gfx1100"]).env("PATH", "").output().unwrap();
    // A machine with ROCm on the loader's path may pass.
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stdout);
        assert!(
            said.contains("ROCm's run-time compiler is not installed") || said.contains("compiler 9.0"),
            "{said}"
        );
    }
}

#[test]
fn the_compiling_processes_start_through_a_command() {
    let output = check(home().path(), "gfx90a", &["--through", "/nonexistent/loader --flag", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failure = said["targets"][0]["failures"][0].as_str().unwrap().to_string();
    assert!(failure.starts_with("cannot start") && failure.contains("/nonexistent/loader"), "{failure}");
    let output = check(home().path(), "gfx906", &["--through", "env --", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said["targets"][0]["failures"][0].as_str().unwrap().contains("does not compile for gfx906"));
}
