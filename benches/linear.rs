//! Products of weight matrices with activations, in the shapes of a 1B and an 8B Llama.
//!
//! `cargo bench --bench linear` prints the machine's memory read rate; for one token (`decode`) and four tokens
//! (`decode4`) the bytes of weights read per second; and for 128 tokens (`prompt`) the operations per second, two per
//! weight and token. Each is measured with the kernel that is chosen for that number of tokens and with the kernel of a
//! deterministic plan (`alike`). The whole benchmark takes some minutes; `-- 'decode/1B/Q4_0'` selects by name.

use std::cell::Cell;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rfgraph::cpu::linear::{LinearArgs, Rows, RowsMut, Scratch, linear};
use rfgraph::cpu::{CpuKernel, CpuTarget, Isa, Pool, physical_cores, read_bandwidth};
use rfgraph::tensor::DType;

/// Size of the weights that one-token products cycle through: more than any cache holds.
const ROUND_BYTES: usize = 256 << 20;

/// Name, row length and number of rows of a feed-forward matrix.
const SHAPES: [(&str, usize, usize); 2] = [("1B", 2048, 8192), ("8B", 4096, 14336)];

/// Bytes in which every format finds finite scales only: each pair of bytes is a small half.
fn weights(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x2f
    };
    (0..bytes).map(|_| next()).collect()
}

/// Calls `linear` once on every worker.
fn multiply(pool: &Pool, isa: Isa, args: &LinearArgs<'_>, scratch: &Scratch<'_>) {
    pool.run(|worker| {
        // SAFETY: every worker gets the same arguments, and nothing else uses the buffers.
        let result = unsafe { linear(worker, isa, args, scratch) };
        assert!(result.is_ok());
    });
}

fn bench(
    c: &mut Criterion,
    isa: Isa,
    dtype: DType,
    shape: (&str, usize, usize),
    (tokens, deterministic): (usize, bool),
) {
    let (size, k, n_out) = shape;
    let Ok(pool) = Pool::new(physical_cores()) else { return };
    let target = CpuTarget { threads: pool.threads(), deterministic };
    let CpuKernel { product: kernel, scratch } = CpuKernel::of_product(dtype, k, tokens, target);
    let Some(bytes) = dtype.row_bytes(k).map(|row| row * n_out) else { return };
    let copies = if tokens <= 8 { ROUND_BYTES.div_ceil(bytes) } else { 1 };
    let all = weights(bytes * copies);
    let x: Vec<f32> = (0..tokens * k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let mut y = vec![0f32; tokens * n_out];
    let mut memory = vec![0; scratch];
    let scratch = Scratch::new(&mut memory);

    let name = match tokens {
        1 => "decode".into(),
        2..=8 => format!("decode{tokens}"),
        _ => "prompt".to_string(),
    };
    let alike = if deterministic { "/alike" } else { "" };
    let mut group = c.benchmark_group(format!("{name}/{size}{alike}"));
    group.throughput(match tokens {
        1..=8 => Throughput::Bytes(bytes as u64),
        _ => Throughput::Elements(2 * (k * n_out * tokens) as u64),
    });
    let turn = Cell::new(0);
    group.bench_function(BenchmarkId::new(dtype.name(), isa), |b| {
        b.iter(|| {
            turn.set((turn.get() + 1) % copies);
            let args = LinearArgs {
                dtype,
                weight: &all[turn.get() * bytes..][..bytes],
                k,
                n_out,
                tokens,
                kernel,
                x: Rows::new(&x, k),
                y: RowsMut::new(&mut y, n_out),
                bias: None,
                residual: None,
            };
            multiply(&pool, isa, &args, &scratch);
        });
    });
    group.finish();
}

fn products(c: &mut Criterion) {
    if let Ok(pool) = Pool::new(physical_cores()) {
        println!("{} threads read {:.1} GB/s", pool.threads(), read_bandwidth(&pool) / 1e9);
    }
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Plain) {
        for shape in SHAPES {
            for dtype in DType::all().filter(|dtype| dtype.is_float()) {
                for tokens in [1, 4, 128] {
                    for deterministic in [false, true] {
                        bench(c, isa, dtype, shape, (tokens, deterministic));
                    }
                }
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = products
}
criterion_main!(benches);
