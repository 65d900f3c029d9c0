//! Each kind of fault is planted and found; the same code without the fault reports nothing.

use rfgraph::hip::platform::sim::{Config, Fault, FaultKind};

use super::rig::{Arg, FAULTY, Pointer, Rig};

/// Devices of both wave sizes with two seeds each, one after the other: calls go to the device that was made last.
fn rigs() -> impl Iterator<Item = Rig> {
    let configs = [(32, 1), (32, 2), (64, 1), (64, 2)];
    configs.into_iter().map(|(wave, seed)| Rig::new(Config { wave, seed, ..Config::default() }))
}

/// Runs one kernel of `faulty.hip` as one block; returns the fence's error code and the faults.
fn run(rig: &Rig, name: &str, threads: u32, shared: u32, args: &[Arg]) -> (i32, Vec<Fault>) {
    let function = rig.function(rig.module(FAULTY), name);
    rig.launch(function, 1, threads, shared, args);
    let code = rig.fence();
    (code, rig.sim.take_faults())
}

/// Asserts that there is exactly one fault, of this kind and with these words, and that the fence failed.
#[track_caller]
fn expect(found: (i32, Vec<Fault>), kind: FaultKind, words: &[&str]) {
    let (code, faults) = found;
    assert_ne!(code, 0, "the fence must fail: {faults:?}");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].kind, kind, "{}", faults[0]);
    for word in words {
        assert!(faults[0].text.contains(word), "`{word}` is not in: {}", faults[0]);
    }
}

#[track_caller]
fn expect_none((code, faults): (i32, Vec<Fault>)) {
    assert_eq!((code, faults), (0, vec![]));
}

#[test]
fn a_store_past_the_end_is_found() {
    for rig in rigs() {
        let y = rig.alloc(100);
        expect_none(run(&rig, "store_at", 1, 0, &[Arg::P(y), Arg::L(24)]));
        let words = ["store_at", "stores 4 bytes", "100 bytes into allocation 0 of 100 bytes"];
        let args = [Arg::P(y), Arg::L(25)];
        expect(run(&rig, "store_at", 1, 0, &args), FaultKind::OutOfBounds, &words);
        expect(run(&rig, "store_at", 1, 0, &[Arg::P(y), Arg::L(-1)]), FaultKind::OutOfBounds, &["stores"]);
        let host = Box::into_raw(Box::new(5i32));
        let found = run(&rig, "store_hidden", 1, 0, &[Arg::P(host.cast())]);
        expect(found, FaultKind::OutOfBounds, &["not device memory"]);
        // SAFETY: it came from a box.
        assert_eq!(unsafe { *Box::from_raw(host) }, 5, "the store did not happen");
        let pinned = rig.alloc_pinned(64);
        let found = run(&rig, "store_hidden", 1, 0, &[Arg::P(pinned)]);
        expect(found, FaultKind::OutOfBounds, &["pinned memory"]);
    }
}

#[test]
fn a_use_after_free_is_found() {
    for rig in rigs() {
        let y = rig.alloc(64);
        expect_none(run(&rig, "store_hidden", 1, 0, &[Arg::P(y)]));
        crate::sim::rig::ok!(rig, hipFree(y));
        // New memory never reuses freed addresses.
        let other = rig.alloc(64);
        assert_ne!(y, other);
        let found = run(&rig, "store_hidden", 1, 0, &[Arg::P(y)]);
        expect(found, FaultKind::UseAfterFree, &["store_hidden", "freed"]);
    }
}

#[test]
fn a_read_of_uninitialised_memory_is_found() {
    for rig in rigs() {
        let (x, y) = (rig.alloc(64), rig.alloc(4));
        let load = |at| run(&rig, "load_at", 1, 0, &[Arg::P(x), Arg::L(at), Arg::P(y)]);
        expect(load(3), FaultKind::Uninitialised, &["load_at", "12 bytes into allocation 0"]);
        expect_none(run(&rig, "store_at", 1, 0, &[Arg::P(x), Arg::L(3)]));
        expect_none(load(3));
        expect(load(4), FaultKind::Uninitialised, &["load_at"]);
        crate::sim::rig::ok!(rig, hipMemsetAsync(x, 0, 64, rig.stream));
        expect_none(load(4));
        // A copy also copies which bytes were written, and the host must not read unwritten ones.
        let (fresh, host) = (rig.alloc(64), rig.alloc_pinned(64));
        crate::sim::rig::ok!(rig, hipMemcpyAsync(host, fresh, 64, 2, rig.stream));
        expect((rig.fence(), rig.sim.take_faults()), FaultKind::Uninitialised, &["copy to the host"]);
    }
}

#[test]
fn a_misaligned_access_is_found() {
    for rig in rigs() {
        let (x, y) = (rig.alloc(64), rig.alloc(4));
        crate::sim::rig::ok!(rig, hipMemsetAsync(x, 0, 64, rig.stream));
        let load = |at| run(&rig, "load_wide", 1, 0, &[Arg::P(x), Arg::L(at), Arg::P(y)]);
        expect_none(load(16));
        expect(load(8), FaultKind::Misaligned, &["load_wide", "no multiple of 16"]);
    }
}

#[test]
fn a_missing_barrier_is_found_in_every_order() {
    for name in ["missing_barrier", "missing_barrier_scalar", "missing_second_barrier"] {
        for rig in rigs() {
            let y = rig.alloc(4 * 64);
            expect_none(run(&rig, name, 64, 0, &[Arg::P(y), Arg::I(1)]));
            let (code, faults) = run(&rig, name, 64, 0, &[Arg::P(y), Arg::I(0)]);
            assert_ne!(code, 0);
            assert_eq!(faults.len(), 1);
            // A thread that is too early may also read memory before it is written.
            let kinds = [FaultKind::SharedRace, FaultKind::Uninitialised];
            assert!(kinds.contains(&faults[0].kind), "{}", faults[0]);
            let variable = if name.ends_with("scalar") { "total" } else { "tile" };
            assert!(faults[0].text.contains(variable), "{}", faults[0]);
        }
    }
}

#[test]
fn a_waves_barrier_does_not_order_the_block() {
    for rig in rigs() {
        let y = rig.alloc(4 * 128);
        let (code, faults) = run(&rig, "wave_barrier_for_block", 128, 0, &[Arg::P(y)]);
        assert_ne!(code, 0);
        assert!(matches!(faults[0].kind, FaultKind::SharedRace | FaultKind::Uninitialised), "{faults:?}");
    }
}

#[test]
fn a_barrier_that_some_threads_miss_is_found() {
    for rig in rigs() {
        let y = rig.alloc(4 * 64);
        let found = run(&rig, "diverged_end", 64, 0, &[Arg::P(y)]);
        expect(found, FaultKind::Divergence, &["for thread 3, which has ended"]);
        let found = run(&rig, "diverged_lines", 64, 0, &[Arg::P(y)]);
        expect(found, FaultKind::Divergence, &["others wait at line"]);
        let found = run(&rig, "diverged_shuffle", 64, 0, &[Arg::P(y)]);
        expect(found, FaultKind::Divergence, &["which has ended"]);
        let found = run(&rig, "absent_lane", 24, 0, &[Arg::P(y)]);
        expect(found, FaultKind::Divergence, &["does not exist"]);
    }
}

#[test]
fn shared_memory_has_bounds_and_starts_unwritten() {
    for rig in rigs() {
        let y = rig.alloc(4 * 64);
        expect_none(run(&rig, "shared_overrun", 64, 0, &[Arg::P(y), Arg::I(9)]));
        let found = run(&rig, "shared_overrun", 64, 0, &[Arg::P(y), Arg::I(10)]);
        expect(found, FaultKind::OutOfBounds, &["past the end of `first`"]);
        expect_none(run(&rig, "dynamic_overrun", 1, 64, &[Arg::P(y), Arg::I(15)]));
        let found = run(&rig, "dynamic_overrun", 1, 64, &[Arg::P(y), Arg::I(16)]);
        expect(found, FaultKind::OutOfBounds, &["dynamic shared memory"]);
        let found = run(&rig, "shared_unwritten", 64, 0, &[Arg::P(y)]);
        expect(found, FaultKind::Uninitialised, &["tile"]);
    }
}

#[test]
fn a_deep_stack_is_found() {
    for rig in rigs() {
        let y: Pointer = rig.alloc(4);
        expect(run(&rig, "deep", 1, 0, &[Arg::P(y), Arg::I(40000)]), FaultKind::StackOverflow, &["deep"]);
    }
}

#[test]
fn a_fault_names_its_line_and_stops_later_work() {
    let rig = Rig::new(Config::default());
    let (x, y) = (rig.alloc(64), rig.alloc(64));
    let module = rig.module(FAULTY);
    rig.launch(rig.function(module, "load_at"), 1, 1, 0, &[Arg::P(x), Arg::L(99), Arg::P(y)]);
    rig.launch(rig.function(module, "store_at"), 1, 1, 0, &[Arg::P(y), Arg::L(0)]);
    assert_eq!(rig.fence(), 700);
    let faults = rig.sim.faults();
    let line = FAULTY.lines().position(|line| line.contains("load_at")).unwrap() + 1;
    assert!(faults[0].text.contains(&format!("at test.hip:{line}")), "{}", faults[0]);
    // Until the faults are taken, every call is refused.
    assert_eq!(rig.fence(), 700);
    let function = rig.function(module, "store_at");
    assert_eq!(rig.try_launch(rig.stream, function, 1, 1, 0, &[Arg::P(y), Arg::L(0)]), 700);
    assert_eq!(rig.sim.take_faults().len(), 1);
    assert_eq!(rig.fence(), 0);
    let found = run(&rig, "load_at", 1, 0, &[Arg::P(y), Arg::L(0), Arg::P(x)]);
    expect(found, FaultKind::Uninitialised, &["load_at"]);
}
