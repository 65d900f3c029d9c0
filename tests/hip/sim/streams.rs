//! Streams run late and in any order that events allow; accesses without an ordering event are found in every order.

use rfgraph::hip::api::*;
use rfgraph::hip::platform::sim::{Config, FaultKind, Schedule};

use super::rig::{Arg, FAULTY, Pointer, Rig, SOUND, call, ok};

fn rig(wave: u32, seed: u64) -> Rig {
    Rig::new(Config { wave, seed, ..Config::default() })
}

/// Uploads on one stream and adds on another, with or without the event between them; returns the sum and the faults.
fn upload_and_add(rig: &Rig, with_edge: bool) -> (Vec<f32>, Vec<FaultKind>) {
    let n = 64usize;
    let copies = rig.new_stream();
    let (host, out) = (rig.alloc_pinned(4 * n), rig.alloc_pinned(4 * n));
    let (x, y) = (rig.upload(&vec![1.0f32; n]), rig.alloc(4 * n));
    // SAFETY: the pinned memory has as many bytes.
    unsafe { std::slice::from_raw_parts_mut(host.cast::<f32>(), n).fill(2.0) };
    let add = rig.function(rig.module(SOUND), "add");
    let (uploaded, added) = (rig.new_event(), rig.new_event());
    ok!(rig, hipMemcpyAsync(x, host, 4 * n, hipMemcpyHostToDevice, copies));
    ok!(rig, hipEventRecord(uploaded, copies));
    if with_edge {
        ok!(rig, hipStreamWaitEvent(rig.stream, uploaded, 0));
    }
    rig.launch(add, 1, n as u32, 0, &[Arg::P(x), Arg::P(x), Arg::P(y), Arg::L(n as i64)]);
    // If work runs at once, these calls are refused after the fault.
    call!(rig, hipEventRecord(added, rig.stream));
    call!(rig, hipStreamWaitEvent(copies, added, 0));
    call!(rig, hipMemcpyAsync(out, y, 4 * n, hipMemcpyDeviceToHost, copies));
    rig.fence_of(copies);
    // SAFETY: the pinned memory has as many bytes, and the copy is done.
    let got = unsafe { std::slice::from_raw_parts(out.cast::<f32>(), n) }.to_vec();
    (got, rig.sim.take_faults().into_iter().map(|fault| fault.kind).collect())
}

#[test]
fn a_missing_event_edge_is_found_in_every_order() {
    let mut wrong = 0;
    for wave in [32, 64] {
        for seed in 0..6 {
            let (got, faults) = upload_and_add(&rig(wave, seed), true);
            assert_eq!((got, faults), (vec![4.0; 64], vec![]));
            let (got, faults) = upload_and_add(&rig(wave, seed), false);
            assert!(
                !faults.is_empty() && faults.iter().all(|kind| *kind == FaultKind::StreamRace),
                "{faults:?}"
            );
            wrong += usize::from(got != vec![4.0; 64]);
        }
    }
    assert!(wrong > 0, "some order must also show it in the data");
}

#[test]
fn a_race_is_found_when_work_runs_at_once_too() {
    let rig = Rig::new(Config { schedule: Schedule::Eager, ..Config::default() });
    let (got, faults) = upload_and_add(&rig, true);
    assert_eq!((got, faults), (vec![4.0; 64], vec![]));
    let rig = Rig::new(Config { schedule: Schedule::Eager, ..Config::default() });
    assert_eq!(upload_and_add(&rig, false).1.first(), Some(&FaultKind::StreamRace));
}

#[test]
fn two_streams_may_read_the_same_and_write_neighbours() {
    let rig = rig(32, 3);
    let other = rig.new_stream();
    let x = rig.upload(&[1.0f32; 64]);
    let y = rig.upload(&[0.0f32; 128]);
    let add = rig.function(rig.module(SOUND), "add");
    let second = y.wrapping_byte_add(256);
    let args = |y: Pointer| [Arg::P(x), Arg::P(x), Arg::P(y), Arg::L(64)];
    assert_eq!(rig.try_launch(rig.stream, add, 1, 64, 0, &args(y)), 0);
    assert_eq!(rig.try_launch(other, add, 1, 64, 0, &args(second)), 0);
    assert_eq!((rig.fence(), rig.fence_of(other)), (0, 0));
    rig.sim.assert_no_fault();
    // One common element is a fault.
    assert_eq!(rig.try_launch(rig.stream, add, 1, 64, 0, &args(y)), 0);
    assert_eq!(rig.try_launch(other, add, 1, 64, 0, &args(second.wrapping_byte_sub(4))), 0);
    assert!(rig.fence() != 0 || rig.fence_of(other) != 0);
    assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::StreamRace);
}

#[test]
fn an_output_read_before_the_fence_is_poison() {
    for wave in [32, 64] {
        let rig = rig(wave, 1);
        let x = rig.upload(&[3.0f32; 16]);
        let out = rig.alloc_pinned(64);
        // SAFETY: the pinned memory has as many bytes.
        let read = || unsafe { std::slice::from_raw_parts(out.cast::<u8>(), 64) }.to_vec();
        ok!(rig, hipMemcpyAsync(out, x, 64, hipMemcpyDeviceToHost, rig.stream));
        assert_eq!(read(), [0xA5; 64]);
        assert_eq!(rig.fence(), 0);
        assert_eq!(read()[..4], 3.0f32.to_le_bytes());
    }
}

#[test]
fn a_source_that_changes_in_flight_is_found() {
    let rig = rig(32, 1);
    let (x, host) = (rig.alloc(64), rig.alloc_pinned(64));
    // SAFETY: the pinned memory has as many bytes.
    unsafe { host.cast::<u8>().write_bytes(1, 64) };
    ok!(rig, hipMemcpyAsync(x, host, 64, hipMemcpyHostToDevice, rig.stream));
    // SAFETY: as above.
    unsafe { host.cast::<u8>().add(9).write(2) };
    assert_ne!(rig.fence(), 0);
    assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::HostRace);
}

#[test]
fn memory_freed_under_queued_work_is_found() {
    for wave in [32, 64] {
        let rig = rig(wave, 1);
        let module = rig.module(FAULTY);
        let store = rig.function(module, "store_at");
        let y = rig.alloc(64);
        // Freed after the launch, before a fence.
        rig.launch(store, 1, 1, 0, &[Arg::P(y), Arg::L(0)]);
        assert_ne!(call!(rig, hipFree(y)), 0);
        assert_ne!(rig.fence(), 0);
        let faults = rig.sim.take_faults();
        assert_eq!(faults[0].kind, FaultKind::FreedInFlight, "{faults:?}");
        assert!(faults[0].text.contains("kernel `store_at`"), "{}", faults[0]);
        assert_eq!(rig.sim.stalls(), 1);

        // After a fence it is not a fault.
        let y = rig.alloc(64);
        rig.launch(store, 1, 1, 0, &[Arg::P(y), Arg::L(0)]);
        assert_eq!(rig.fence(), 0);
        ok!(rig, hipFree(y));
        rig.sim.assert_no_fault();

        let (x, host) = (rig.alloc(64), rig.alloc_pinned(64));
        ok!(rig, hipMemcpyAsync(x, host, 64, hipMemcpyHostToDevice, rig.stream));
        assert_ne!(call!(rig, hipHostFree(host)), 0);
        assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::FreedInFlight);
        rig.fence();
        rig.sim.take_faults();

        rig.launch(store, 1, 1, 0, &[Arg::P(x), Arg::L(0)]);
        assert_ne!(call!(rig, hipModuleUnload(module)), 0);
        assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::FreedInFlight);

        let (stream, event) = (rig.new_stream(), rig.new_event());
        ok!(rig, hipMemsetAsync(x, 0, 64, stream));
        ok!(rig, hipEventRecord(event, stream));
        assert_ne!(call!(rig, hipEventDestroy(event)), 0);
        assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::FreedInFlight);
        ok!(rig, hipMemsetAsync(x, 0, 64, stream));
        assert_ne!(call!(rig, hipStreamDestroy(stream)), 0);
        assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::FreedInFlight);
    }
}

#[test]
fn work_runs_only_when_waited_for() {
    let rig = rig(32, 1);
    let x = rig.upload(&[1.0f32; 16]);
    let event = rig.new_event();
    ok!(rig, hipMemsetAsync(x, 0, 64, rig.stream));
    ok!(rig, hipEventRecord(event, rig.stream));
    assert_eq!(rig.sim.queued(), 2);
    assert_eq!(rig.fence(), 0);
    assert_eq!(rig.sim.queued(), 0);
    // For some seed, the host asks too early.
    let early = (0..20).any(|seed| {
        let rig = Rig::new(Config { seed, ..Config::default() });
        let (x, event) = (rig.alloc(64), rig.new_event());
        ok!(rig, hipMemsetAsync(x, 0, 64, rig.stream));
        ok!(rig, hipEventRecord(event, rig.stream));
        call!(rig, hipEventQuery(event)) == hipErrorNotReady
    });
    assert!(early);
}

/// Captures two adds on two streams, with a fork and a join, as an executable graph.
fn capture(rig: &Rig, other: hipStream_t, add: hipFunction_t, [x, y, z]: [Pointer; 3]) -> hipGraphExec_t {
    let (fork, join) = (rig.new_event(), rig.new_event());
    let args = |a, b, c| [Arg::P(a), Arg::P(b), Arg::P(c), Arg::L(64)];
    ok!(rig, hipStreamBeginCapture(rig.stream, hipStreamCaptureModeThreadLocal));
    assert_eq!(rig.try_launch(rig.stream, add, 1, 64, 0, &args(x, x, y)), 0);
    ok!(rig, hipEventRecord(fork, rig.stream));
    ok!(rig, hipStreamWaitEvent(other, fork, 0));
    assert_eq!(rig.try_launch(other, add, 1, 64, 0, &args(y, x, z)), 0);
    ok!(rig, hipEventRecord(join, other));
    ok!(rig, hipStreamWaitEvent(rig.stream, join, 0));
    assert_eq!(rig.try_launch(rig.stream, add, 1, 64, 0, &args(z, z, x)), 0);
    let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
    ok!(rig, hipStreamEndCapture(rig.stream, &mut graph));
    let null = std::ptr::null_mut();
    ok!(rig, hipGraphInstantiate(&mut exec, graph, null, null.cast(), 0));
    ok!(rig, hipGraphDestroy(graph));
    ok!(rig, hipEventDestroy(fork));
    ok!(rig, hipEventDestroy(join));
    exec
}

#[test]
fn a_captured_graph_replays_its_branches_in_order() {
    for wave in [32, 64] {
        for seed in 0..5 {
            let rig = rig(wave, seed);
            let add = rig.function(rig.module(SOUND), "add");
            let memory = [rig.upload(&[1.0f32; 64]), rig.alloc(256), rig.alloc(256)];
            let other = rig.new_stream();
            let exec = capture(&rig, other, add, memory);
            assert_eq!(rig.sim.queued(), 0, "capturing queues nothing");
            // x → 2x in y, 3x in z, 6x in x.
            for _ in 0..3 {
                ok!(rig, hipGraphLaunch(exec, rig.stream));
            }
            assert_eq!(rig.download::<f32>(memory[0], 64), [216.0; 64]);
            rig.sim.assert_no_fault();
            ok!(rig, hipGraphLaunch(exec, rig.stream));
            assert_ne!(call!(rig, hipGraphExecDestroy(exec)), 0);
            assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::FreedInFlight);
        }
    }
}

#[test]
fn forbidden_calls_invalidate_a_capture() {
    let rig = rig(32, 1);
    let x = rig.alloc(64);
    let end = |rig: &Rig| {
        let mut graph = std::ptr::null_mut();
        let code = call!(rig, hipStreamEndCapture(rig.stream, &mut graph));
        assert!(graph.is_null());
        code
    };
    ok!(rig, hipStreamBeginCapture(rig.stream, hipStreamCaptureModeThreadLocal));
    let mut address = std::ptr::null_mut();
    assert_eq!(call!(rig, hipMalloc(&mut address, 64)), hipErrorStreamCaptureUnsupported);
    assert_eq!(call!(rig, hipMemsetAsync(x, 0, 64, rig.stream)), hipErrorStreamCaptureInvalidated);
    assert_eq!(end(&rig), hipErrorStreamCaptureInvalidated);

    // A wait for an event that was recorded outside the capture.
    let outside = rig.new_event();
    ok!(rig, hipEventRecord(outside, rig.stream));
    ok!(rig, hipStreamBeginCapture(rig.stream, hipStreamCaptureModeThreadLocal));
    assert_eq!(call!(rig, hipStreamWaitEvent(rig.stream, outside, 0)), 905);
    assert_eq!(end(&rig), hipErrorStreamCaptureInvalidated);

    // A query of an event that was recorded inside the capture.
    ok!(rig, hipStreamBeginCapture(rig.stream, hipStreamCaptureModeThreadLocal));
    ok!(rig, hipEventRecord(outside, rig.stream));
    assert_eq!(call!(rig, hipEventQuery(outside)), 907);
    assert_eq!(end(&rig), hipErrorStreamCaptureInvalidated);

    // A branch that does not join.
    let other = rig.new_stream();
    ok!(rig, hipStreamBeginCapture(rig.stream, hipStreamCaptureModeThreadLocal));
    ok!(rig, hipEventRecord(outside, rig.stream));
    ok!(rig, hipStreamWaitEvent(other, outside, 0));
    ok!(rig, hipMemsetAsync(x, 0, 64, other));
    assert_eq!(end(&rig), 904);
    // Afterwards the streams work as before.
    ok!(rig, hipMemsetAsync(x, 0, 64, other));
    assert_eq!((rig.fence(), rig.fence_of(other)), (0, 0));
    rig.sim.assert_no_fault();
}
