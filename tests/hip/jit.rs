//! Run-time compilation with a fake compiler: when a program is compiled, the disk cache, and error messages.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rfgraph::device::{Target, Variant};
use rfgraph::hip::jit::{Cache, Compiler, JitError, JitOptions, Key};

use crate::support::fake_compiler::{compiles, expected, rtc, variant};

const LIMIT: u64 = 1 << 20;

fn target() -> Target {
    Target::named("sm_90").unwrap()
}

/// A compiler as in a process of its own.
fn compiler(folder: &Path, threads: usize) -> Compiler {
    let cache = Some(Arc::new(Cache::new(folder, LIMIT)));
    let options = JitOptions { threads: NonZeroUsize::new(threads).unwrap(), cache };
    Compiler::new(&rtc(), &target(), "", options)
}

fn one(compiler: &Compiler, variant: &Variant) -> Result<Vec<u8>, JitError> {
    let codes = compiler.codes(std::slice::from_ref(variant), &|_, _| {})?;
    Ok(codes.values().next().unwrap().to_vec())
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_program_is_compiled_once_and_then_read() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = variant("int once;");
    for _ in 0..3 {
        let code = one(&compiler(folder.path(), 1), &kernel).unwrap();
        assert_eq!(code, expected(&target(), &kernel));
    }
    assert_eq!(compiles("int once;"), 1);
    // `code_anew` compiles again and stores the result.
    assert_eq!(&compiler(folder.path(), 1).code_anew(&kernel).unwrap()[..], expected(&target(), &kernel));
    assert_eq!((compiles("int once;"), files(folder.path()).len()), (2, 1));
}

#[test]
fn kernels_of_one_program_are_compiled_together() {
    let folder = tempfile::tempdir().unwrap();
    let first = variant("int shared;");
    let second = Variant { entry: "another".into(), ..first.clone() };
    let other = first.clone().define("N", 2);
    let calls = RefCell::new(Vec::new());
    let all = [first, second, other];
    let codes = compiler(folder.path(), 2).codes(&all, &|done, total| calls.borrow_mut().push((done, total)));
    assert_eq!(codes.unwrap().len(), 2);
    assert_eq!(compiles("int shared;"), 2);
    assert_eq!(calls.into_inner(), [(0, 2), (1, 2), (2, 2)]);
}

#[test]
fn keys_differ_where_the_code_may_differ() {
    let folder = tempfile::tempdir().unwrap();
    let options = || JitOptions { threads: NonZeroUsize::MIN, cache: None };
    let key = |arch: &str, versions: &str, variant: &Variant| {
        let target = Target::named(arch).unwrap();
        Compiler::new(&rtc(), &target, versions, options()).key(variant).unwrap()
    };
    let base = variant("int x;");
    let keys = [
        key("sm_90", "", &base),
        key("sm_89", "", &base),
        key("gfx90a", "", &base),
        key("gfx90a:xnack-", "", &base),
        key("sm_90", "driver 2", &base),
        key("sm_90", "", &variant("int y;")),
        key("sm_90", "", &variant("#include \"platform.h\"\nint x;")),
        key("sm_90", "", &base.clone().define("A", "1")),
        key("sm_90", "", &base.clone().define("A", "2")),
        key("sm_90", "", &base.clone().define("A", "1").define("B", "1")),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    assert_eq!(key("sm_90", "", &base), compiler(folder.path(), 1).key(&base).unwrap());
}

#[test]
fn all_variants_get_their_own_code_from_many_threads() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Variant> = (0..40).map(|i| variant("int many;").define("I", i)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let compiler = compiler(folder.path(), 3);
                let codes = compiler.codes(&all, &|_, _| {}).unwrap();
                for variant in &all {
                    assert_eq!(&codes[&compiler.key(variant).unwrap()][..], expected(&target(), variant));
                }
            });
        }
    });
    assert_eq!(files(folder.path()).len(), all.len());
    assert!(files(folder.path()).iter().all(|name| name.ends_with(".kernel")));
}

#[test]
fn several_programs_are_compiled_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Variant> = (0..8).map(|i| variant("int slow;").define("I", i)).collect();
    let start = std::time::Instant::now();
    compiler(folder.path(), 8).codes(&all, &|_, _| {}).unwrap();
    // Each compilation takes 30 ms; one after another they would take 240 ms.
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
}

#[test]
fn an_error_shows_the_lines_and_ends_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let text = "int a;\nint b;\nthis is wrong;\nint d;\n";
    let bad = variant(text).define("ROWS", 4);
    let error = one(&compiler(folder.path(), 1), &bad).unwrap_err();
    insta::assert_snapshot!(error, @r"
    kernel mine.hip: entry<ROWS=4> does not compile for sm_90
    options: --gpu-architecture=sm_90 --std=c++17 -DWAVE=32 -DROWS=4
    mine.hip:3
          1 | int a;
          2 | int b;
    >     3 | this is wrong;
          4 | int d;
    /tmp/x/mine.hip:3:1: error: this is wrong
    ");
    assert_eq!(files(folder.path()), [""; 0], "nothing is filed for what does not compile");

    let mut all = vec![bad];
    all.extend((0..20).map(|i| variant("int after;").define("I", i)));
    compiler(folder.path(), 1).codes(&all, &|_, _| {}).unwrap_err();
    assert!(compiles("int after;") < 20, "what was not begun is not compiled");
    let mut tried = 0;
    compiler(folder.path(), 2).for_each(&all, &mut |_, _| tried += 1).unwrap();
    assert_eq!(tried, all.len());
}

#[test]
fn other_failures_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let compiler = compiler(folder.path(), 1);
    let message = |variant: &Variant| one(&compiler, variant).unwrap_err().to_string();
    assert_eq!(
        message(&Variant::new("absent", "x").define("N", 1)),
        "kernel absent.hip: x<N=1>: there is no kernels/absent.hip in this build"
    );
    assert!(message(&variant("int \0;")).ends_with("its source has a zero byte in it"));
    assert!(message(&variant("").define("N", "\0")).ends_with("an option has a zero byte in it"));
    assert!(message(&variant("internal")).ends_with("hiprtcCompileProgram gave error 11 (internal error)"));
}

#[test]
fn a_program_stored_under_another_key_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path(), LIMIT);
    let (a, b) = (Key::of(["a"]), Key::of(["b"]));
    cache.put(&a, b"code");
    fs::rename(folder.path().join(format!("{a}.kernel")), folder.path().join(format!("{b}.kernel"))).unwrap();
    assert_eq!((cache.get(&a), cache.get(&b)), (None, None));
    assert_eq!(files(folder.path()), [""; 0]);
}

proptest! {
    #[test]
    fn any_damage_is_detected_and_repaired(place in 0_usize..200, flip in 1_u8.., cut in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let kernel = variant("int damaged;");
        one(&compiler(folder.path(), 1), &kernel).unwrap();
        let path = folder.path().join(&files(folder.path())[0]);
        let mut bytes = fs::read(&path).unwrap();
        let place = place % bytes.len();
        match cut {
            true => bytes.truncate(place),
            false => bytes[place] ^= flip,
        }
        fs::write(&path, &bytes).unwrap();
        let key = compiler(folder.path(), 1).key(&kernel).unwrap();
        prop_assert_eq!(Cache::new(folder.path(), LIMIT).get(&key), None);
        prop_assert_eq!(one(&compiler(folder.path(), 1), &kernel).unwrap(), expected(&target(), &kernel));
        prop_assert!(Cache::new(folder.path(), LIMIT).get(&key).is_some());
    }

    #[test]
    fn keys_depend_on_part_boundaries(a in prop::collection::vec("[ab]{0,3}", 0..4), b in prop::collection::vec("[ab]{0,3}", 0..4)) {
        let key = |parts: &[String]| Key::of(parts.iter().map(String::as_str));
        prop_assert_eq!(key(&a) == key(&b), a == b);
    }
}

#[test]
fn least_recently_used_programs_are_evicted_first() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<Key> = (0..6).map(|i| Key::of([i.to_string().as_str()])).collect();
    let age = |key: &Key, minutes: u64| {
        let file = fs::File::open(folder.path().join(format!("{key}.kernel"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60 * minutes)).unwrap();
    };
    // Room for five entries of 72 + 928 bytes.
    let cache = Cache::new(folder.path(), 5000);
    for (i, key) in keys.iter().take(5).enumerate() {
        cache.put(key, &[i as u8; 928]);
        age(key, 50 - i as u64);
    }
    assert!(cache.get(&keys[0]).is_some(), "used now, it is the youngest");
    cache.put(&keys[5], &[5; 928]);
    let there: Vec<bool> =
        keys.iter().map(|key| Cache::new(folder.path(), 5000).get(key).is_some()).collect();
    assert_eq!(there, [true, false, true, true, true, true]);
    // An entry larger than the limit is not stored and evicts nothing.
    cache.put(&Key::of(["large"]), &[0; 6000]);
    assert_eq!(files(folder.path()).len(), 5);
}

#[test]
fn clearing_keeps_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path(), LIMIT);
    assert_eq!(Cache::new(folder.path().join("absent"), LIMIT).clear().unwrap(), (0, 0));
    cache.put(&Key::of(["a"]), b"1234");
    cache.put(&Key::of(["b"]), b"12345678");
    fs::write(folder.path().join("letter.txt"), "mine").unwrap();
    fs::create_dir(folder.path().join("folder.kernel")).unwrap();
    assert_eq!(cache.clear().unwrap(), (2, 2 * 72 + 12));
    let mut left = files(folder.path());
    left.sort();
    assert_eq!(left, ["folder.kernel", "letter.txt"]);
    cache.put(&Key::of(["a"]), b"1234");
    assert_eq!(cache.get(&Key::of(["a"])).unwrap(), b"1234");
}

/// Environment variable with the role of this test binary when one of its tests starts it as a process.
const ROLE: &str = "RFGRAPH_TEST_ROLE";

fn start(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "jit::a_process_of_its_own", "--nocapture"]);
    command.env(ROLE, format!("{role} {}", folder.display()));
    command
}

/// Not a test of its own: the two tests below start it as a process.
#[test]
fn a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, folder) = role.split_once(' ').unwrap();
    let folder = Path::new(folder);
    match role {
        "fight" => fight(folder),
        "unwritable" => unwritable(folder),
        _ => panic!("no such role: {role}"),
    }
    println!("{role} done");
}

/// Reads and writes the same few programs as other processes, with a limit that keeps evicting some.
fn fight(folder: &Path) {
    let keys: Vec<Key> = (0..8).map(|i| Key::of([i.to_string().as_str()])).collect();
    for round in 0..300 {
        let cache = Cache::new(folder, 20_000);
        for (i, key) in keys.iter().enumerate() {
            match cache.get(key) {
                Some(code) => assert!(code.len() == 4000 && code.iter().all(|&byte| byte == i as u8)),
                None => cache.put(key, &[i as u8; 4000]),
            }
        }
        if round % 50 == 49 {
            cache.clear().unwrap();
        }
    }
}

#[test]
fn processes_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let start = |_| start("fight", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..3).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        // An unknown test name would exit with success too.
        assert!(String::from_utf8(output.stdout).unwrap().contains("fight done"));
    }
    assert!(files(folder.path()).iter().all(|name| name.ends_with(".kernel")));
}

fn unwritable(folder: &Path) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let compiler = compiler(folder, 2);
    for i in 0..5 {
        let kernel = variant("int unwritable;").define("I", i);
        assert_eq!(one(&compiler, &kernel).unwrap(), expected(&target(), &kernel));
    }
}

#[test]
fn an_unusable_folder_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    for unusable in [file.join("below"), "/proc/rfgraph".into()] {
        let output = start("unwritable", &unusable).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches("RFGRAPH_CACHE_DIR names another folder").count(), 1, "{said}");
    }
}
