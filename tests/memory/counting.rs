//! An allocator that counts calls and bytes, of each thread and of the whole process. A program has one allocator, so
//! each test binary and fuzz target that counts includes this file and sets [`Counting`] as its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// The system's allocator, counted.
pub struct Counting;

/// Calls, bytes held, and the most bytes held since the peak was reset; of the process.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// The same of one thread.
    static HERE: Cell<(usize, isize, isize)> = const { Cell::new((0, 0, 0)) };
}

fn count(bytes: isize) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if held > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
    // Fails only while the thread ends, when no measurement of it is under way.
    let _ = HERE.try_with(|here| {
        let (calls, held, peak) = here.get();
        let held = held + bytes;
        here.set((calls + 1, held, peak.max(held)));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps `dealloc`'s contract, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The number of calls of the allocator by all threads so far.
pub fn calls() -> usize {
    CALLS.load(Ordering::SeqCst)
}

/// The bytes that all threads hold.
pub fn held() -> usize {
    HELD.load(Ordering::SeqCst).max(0) as usize
}

/// The number of calls that this thread makes in `work`.
pub fn calls_here(work: impl FnOnce()) -> usize {
    let (before, ..) = HERE.get();
    work();
    HERE.get().0 - before
}

/// The most that this thread holds in `work` beyond what it held before, in bytes.
pub fn peak_here<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (calls, before, _) = HERE.get();
    HERE.set((calls, before, before));
    let result = work();
    (result, (HERE.get().2 - before).unsigned_abs())
}

/// The most that all threads hold while `work` runs beyond what they held before, in bytes.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    let result = work();
    (result, (PEAK.load(Ordering::SeqCst) - before).unsigned_abs())
}
