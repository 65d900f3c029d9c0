//! Uploads of weights: read, split into planes where the format needs it, copied through pinned memory.
//!
//! Several threads convert, each with two pinned buffers: while one is copied the other is filled. A thread waits for
//! the device only before it reuses a buffer, and once at the end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::waiting::{Ended, wait_for};
use crate::exec::ExecError;
use crate::hip::api::hipErrorUnknown;
use crate::hip::{Context, Event, HipError, PinnedMemory, Stream};
use crate::tensor::DType;
use crate::tensor::blocks::{planes, to_planes};

/// Bytes of a pinned buffer.
const BUFFER: usize = 8 << 20;
/// Threads that convert.
const THREADS: usize = 4;
/// Buffers of a thread.
const BUFFERS: usize = 2;
/// Bytes that are split into planes at a time: they stay in a core's cache.
const STRETCH: usize = 128 << 10;

/// Receives the number of finished bytes and the total.
pub type UploadProgress<'p> = &'p (dyn Fn(u64, u64) + Sync);

/// A tensor to upload.
pub(super) struct Upload<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub bytes: &'a [u8],
    /// The device address.
    pub address: u64,
}

impl Upload<'_> {
    fn n_blocks(&self) -> usize {
        self.bytes.len() / self.dtype.block_bytes()
    }
}

/// Pinned bytes needed for uploads of `total` bytes.
pub(super) fn staging_bytes(total: usize) -> usize {
    let (threads, buffer) = shape(total);
    threads * BUFFERS * buffer
}

/// The number of threads and the bytes of a buffer: small uploads are not worth a thread.
fn shape(total: usize) -> (usize, usize) {
    if total <= BUFFER { (1, (total / BUFFERS + 4096).min(BUFFER)) } else { (THREADS, BUFFER) }
}

/// The failure of uploads.
pub(super) struct UploadError {
    pub error: Box<ExecError>,
    /// True if copies may still be under way.
    pub lost: bool,
}

/// Consecutive blocks of one tensor that fit a buffer.
struct Chunk {
    upload: usize,
    first: usize,
    blocks: usize,
}

/// The stream of uploads and their conversion.
pub(super) struct Uploader<'a> {
    pub context: &'a Context,
    pub stream: &'a Stream,
    pub timeout: Duration,
    pub progress: Option<UploadProgress<'a>>,
}

/// Copies tensors to the device and waits for the copies.
pub(super) fn upload(uploader: &Uploader<'_>, uploads: &[Upload<'_>]) -> Result<(), UploadError> {
    let Uploader { context, stream, timeout, progress } = *uploader;
    let total: usize = uploads.iter().map(|upload| upload.bytes.len()).sum();
    if total == 0 {
        return Ok(());
    }
    let (threads, buffer) = shape(total);
    let mut chunks = Vec::new();
    for (i, upload) in uploads.iter().enumerate() {
        let most = (buffer / upload.dtype.block_bytes()).max(1);
        for first in (0..upload.n_blocks()).step_by(most) {
            chunks.push(Chunk { upload: i, first, blocks: most.min(upload.n_blocks() - first) });
        }
    }
    let work = Uploading {
        stream,
        uploads,
        chunks,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        total: total as u64,
        stop: AtomicBool::new(false),
        order: Mutex::new(()),
        timeout,
    };
    let mut lanes = Vec::new();
    for _ in 0..threads {
        lanes.push(
            Lane::new(context, buffer).map_err(|error| UploadError { error: error.into(), lost: false })?,
        );
    }
    let results: Vec<Result<(), UploadError>> = match &mut lanes[..] {
        [only] => vec![work.run_caught(only, progress)],
        lanes => std::thread::scope(|scope| {
            let work = &work;
            let run = |lane| scope.spawn(move || work.run_caught(lane, progress));
            let threads: Vec<_> = lanes.iter_mut().map(run).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| Err(panicked(&*panic))))
                .collect()
        }),
    };
    let mut failed: Option<UploadError> = None;
    for error in results.into_iter().filter_map(Result::err) {
        let lost = error.lost || failed.as_ref().is_some_and(|failed| failed.lost);
        failed = Some(UploadError { lost, ..failed.unwrap_or(error) });
    }
    match failed {
        None => Ok(()),
        Some(failed) => {
            if failed.lost {
                // Copies may still read them.
                std::mem::forget(lanes);
            }
            Err(failed)
        }
    }
}

/// The error of a thread that panicked: its copies were not waited for.
fn panicked(panic: &(dyn Any + Send)) -> UploadError {
    let text = panic.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message");
    let error = HipError::with_text("the upload's thread", hipErrorUnknown, format!("it panicked: {text}"));
    UploadError { error: ExecError::gpu("the upload of weights", error).into(), lost: true }
}

/// The buffers of a thread.
struct Lane {
    buffers: [Buffer; BUFFERS],
    planes: Vec<u8>,
}

struct Buffer {
    memory: PinnedMemory,
    sent: Event,
    busy: bool,
    /// True if copies are under way that no event follows.
    adrift: bool,
}

impl Lane {
    fn new(context: &Context, bytes: usize) -> Result<Lane, ExecError> {
        let staging = |error| ExecError::gpu("staging memory for weights", error);
        let buffer = || -> Result<Buffer, ExecError> {
            let memory = context.alloc_pinned(bytes).map_err(staging)?;
            Ok(Buffer { memory, sent: context.event(false).map_err(staging)?, busy: false, adrift: false })
        };
        Ok(Lane { buffers: [buffer()?, buffer()?], planes: Vec::new() })
    }
}

struct Uploading<'a> {
    stream: &'a Stream,
    uploads: &'a [Upload<'a>],
    chunks: Vec<Chunk>,
    next: AtomicUsize,
    done: AtomicU64,
    total: u64,
    stop: AtomicBool,
    /// Held while a buffer's copies and its event are queued, so that they stay together.
    order: Mutex<()>,
    timeout: Duration,
}

impl Uploading<'_> {
    /// Like [`Uploading::run`], but a panic, for instance in the progress callback, becomes an error.
    fn run_caught(&self, lane: &mut Lane, progress: Option<UploadProgress<'_>>) -> Result<(), UploadError> {
        // The lane is not used again: its buffers are leaked.
        catch_unwind(AssertUnwindSafe(|| self.run(lane, progress))).unwrap_or_else(|panic| {
            self.stop.store(true, Ordering::Relaxed);
            Err(panicked(&*panic))
        })
    }

    /// Sends chunks until none are left, then waits for their copies.
    fn run(&self, lane: &mut Lane, progress: Option<UploadProgress<'_>>) -> Result<(), UploadError> {
        let mut turn = 0;
        let mut result = Ok(());
        while let Some(chunk) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            result = self.send(chunk, &mut lane.buffers[turn], &mut lane.planes);
            if result.is_err() {
                self.stop.store(true, Ordering::Relaxed);
                break;
            }
            turn = (turn + 1) % BUFFERS;
            let bytes = (chunk.blocks * self.uploads[chunk.upload].dtype.block_bytes()) as u64;
            let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if let Some(progress) = progress {
                progress(done, self.total);
            }
        }
        let mut lost = false;
        for buffer in &mut lane.buffers {
            let settled = self.settle(buffer, "the last one");
            lost |= buffer.busy || buffer.adrift;
            result = result.and(settled);
        }
        result.map_err(|error| UploadError { error: error.into(), lost })
    }

    fn send(&self, chunk: &Chunk, buffer: &mut Buffer, planes_of: &mut Vec<u8>) -> Result<(), ExecError> {
        let upload = &self.uploads[chunk.upload];
        self.settle(buffer, upload.name)?;
        let failed = |error: HipError| ExecError::gpu(format!("upload of weight `{}`", upload.name), error);
        fill(upload, chunk, buffer.memory.bytes_mut(), planes_of);
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.busy = true;
        let (mut from, mut start) = (0, 0);
        let mut copied = Ok(());
        for plane in planes(upload.dtype) {
            let plane = &plane.bytes;
            let bytes = plane.len() * chunk.blocks;
            let to = upload.address + (start + chunk.first * plane.len()) as u64;
            // SAFETY: the device memory holds all blocks of the tensor, and the buffer holds this plane's part; both
            // live until `settle` has seen the event.
            copied =
                unsafe { self.stream.copy_to_device(to, buffer.memory.as_ptr().wrapping_add(from), bytes) };
            if copied.is_err() {
                break;
            }
            from += bytes;
            start += upload.n_blocks() * plane.len();
        }
        // Record even after a failed copy, as earlier copies are queued.
        let recorded = self.stream.record(&buffer.sent).or_else(|_| self.stream.record(&buffer.sent));
        buffer.adrift = recorded.is_err();
        copied.and(recorded).map_err(failed)
    }

    /// Waits until the buffer's copies are done.
    fn settle(&self, buffer: &mut Buffer, name: &str) -> Result<(), ExecError> {
        if !buffer.busy {
            return Ok(());
        }
        match wait_for(&buffer.sent, self.timeout) {
            Ended::Done => {
                buffer.busy = false;
                Ok(())
            }
            Ended::Failed(error) => {
                buffer.busy = false;
                Err(ExecError::gpu(format!("upload of weight `{name}`"), error))
            }
            Ended::Late => Err(ExecError::Timeout {
                plan: format!("the upload of weight `{name}`"),
                seconds: self.timeout.as_secs(),
                progress: format!("{} of {} bytes were sent", self.done.load(Ordering::Relaxed), self.total),
                versions: self.stream.context().versions().to_string(),
            }),
        }
    }
}

/// Fills a buffer with a chunk's blocks, plane by plane.
fn fill(upload: &Upload<'_>, chunk: &Chunk, buffer: &mut [u8], working: &mut Vec<u8>) {
    let block = upload.dtype.block_bytes();
    let most = (STRETCH / block).max(1);
    for first in (0..chunk.blocks).step_by(most) {
        let n = most.min(chunk.blocks - first);
        let start = (chunk.first + first) * block;
        let Some(blocks) = upload.bytes.get(start..start + n * block) else { return };
        // Laid out like a tensor of the chunk's blocks alone.
        to_planes(upload.dtype, first, chunk.blocks, blocks, working, |offset, plane| {
            if let Some(place) = buffer.get_mut(offset..offset + plane.len()) {
                place.copy_from_slice(plane);
            }
        });
    }
}
