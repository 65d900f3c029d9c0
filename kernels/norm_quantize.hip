// RMS norms whose results are written in eight bits, see quantize.h. One block per row, or head of a row.
#include "gated_norm.h"
#include "quantize.h"
#include "rows.h"

// quantize(x / √(mean(x²) + eps) · w); w may be null; k is a multiple of 32.
KERNEL(norm_quantize)(const float* x, const float* weight, u8* out, i32 k, float eps) {
    SHARED float shared[ROW_WAVES];
    const Row row = row_open((const u8*)(x + (i64)block_index_x() * k), sizeof(float), k);
    const float mean = row_sum_of(row, shared, [](float x) { return x * x; }) / (float)k;
    const float factor = 1.0f / sqrtf(mean + eps);
    out += block_index_x() * quantized_row_bytes(k);
    row_each_padded(row, [&](floats4 x, int at) {
        floats4 y = {0.0f, 0.0f, 0.0f, 0.0f};
        if (at < k) y = {x.x * factor, x.y * factor, x.z * factor, x.w * factor};
        if (at < k && weight) {
            const floats4 w = load_four(weight + at, 4, 4);
            y = {y.x * w.x, y.y * w.y, y.z * w.z, y.w * w.w};
        }
        GroupScale scale;
        const u32 codes = quantize_four(y, &scale);
        if (at < k) store_quantized(out, k, at, codes, scale);
    });
}

// quantize(f(gate) · x / √(mean(x²) + eps) · w) for heads of a multiple of 32 elements; the heads of a token are one
// quantized row.
KERNEL(gated_norm_quantize)
(const float* x, Layout x_at, const float* weight, const float* gate, Layout gate_at, u8* out, i32 kind, float eps) {
    SHARED float shared[ROW_WAVES];
    const Row row = row_of_block(x, x_at);
    const int n = row.n, n_head = (int)x_at.ne[1], k = n * n_head;
    const int head = block_index_x() % n_head, token = block_index_x() / n_head;
    const float mean = row_sum_of(row, shared, [](float x) { return x * x; }) / (float)n;
    const float factor = 1.0f / sqrtf(mean + eps);
    const u8* gates = (const u8*)gate + head * gate_at.nb[1] + token * gate_at.nb[2];
    out += token * quantized_row_bytes(k);
    row_each_padded(row, [&](floats4 x, int at) {
        floats4 y = {0.0f, 0.0f, 0.0f, 0.0f};
        if (at < n) {
            const floats4 w = load_four(weight + at, 4, 4), g = load_four((const float*)gates + at, 4, 4);
            y = normed_and_gated(x, factor, w, g, kind);
        }
        GroupScale scale;
        const u32 codes = quantize_four(y, &scale);
        if (at < n) store_quantized(out, k, head * n + at, codes, scale);
    });
}
