//! The time to compile a plan: `cargo bench --bench plan`. The promise for the decode plan of a 32-layer model is 20
//! ms.

#[path = "../tests/support/tiny_llama.rs"]
mod tiny_llama;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rfgraph::model::{CacheLayout, CacheTypes};
use rfgraph::plan::{DeviceDesc, compile};

fn plans(c: &mut Criterion) {
    let Ok(cache) = CacheLayout::new(4096, 4) else { return };
    let device = DeviceDesc::cpu(2);
    let mut group = c.benchmark_group("plan");
    for n_layer in [8, 32, 80] {
        let model = tiny_llama::tiny_llama(n_layer);
        for (name, n_tokens) in [("decode", 1), ("prompt", 512)] {
            let Ok(graph) = model.graph(n_tokens, 1, cache, CacheTypes::default()) else { continue };
            group.bench_function(BenchmarkId::new(name, n_layer), |b| b.iter(|| compile(&graph, &device)));
        }
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
