// Normalised rows, and sums of rows. One block per row; the output is contiguous and may be x's memory.
#include "gated_norm.h"
#include "rows.h"

// x / √(mean(x²) + eps) · w; w may be null.
KERNEL(rms_norm)(const float* x, Layout x_at, const float* weight, float* out, float eps) {
    SHARED float shared[ROW_WAVES];
    const Row row = row_of_block(x, x_at);
    const float mean = row_sum_of(row, shared, [](float x) { return x * x; }) / (float)row.n;
    const float factor = 1.0f / sqrtf(mean + eps);
    out += (i64)block_index_x() * row.n;
    row_each(row, [&](floats4 x, int at, int count) {
        floats4 y = {x.x * factor, x.y * factor, x.z * factor, x.w * factor};
        if (weight) {
            const floats4 w = load_four(weight + at, 4, count);
            y = {y.x * w.x, y.y * w.y, y.z * w.z, y.w * w.w};
        }
        store_four(out + at, y, count);
    });
}

// f(gate) · x / √(mean(x²) + eps) · w.
KERNEL(gated_norm)
(const float* x, Layout x_at, const float* weight, const float* gate, Layout gate_at, float* out, i32 kind, float eps) {
    SHARED float shared[ROW_WAVES];
    const Row row = row_of_block(x, x_at);
    const float mean = row_sum_of(row, shared, [](float x) { return x * x; }) / (float)row.n;
    const float factor = 1.0f / sqrtf(mean + eps);
    out += (i64)block_index_x() * row.n;
    const u8* gates = (const u8*)gate + row_offset(gate_at, row_index(gate_at, (u32)block_index_x()));
    row_each(row, [&](floats4 x, int at, int count) {
        const floats4 w = load_four(weight + at, 4, count), g = load_four((const float*)gates + at, 4, count);
        store_four(out + at, normed_and_gated(x, factor, w, g, kind), count);
    });
}

// (x - mean(x)) / √(var(x) + eps) · w + b; w, or w and b, may be null.
KERNEL(layer_norm)(const float* x, Layout x_at, const float* weight, const float* bias, float* out, float eps) {
    SHARED float shared[ROW_WAVES];
    const Row row = row_of_block(x, x_at);
    const float n = (float)row.n;
    const float mean = row_sum_of(row, shared, [](float x) { return x; }) / n;
    const float variance = row_sum_of(row, shared, [=](float x) { return (x - mean) * (x - mean); }) / n;
    const float factor = 1.0f / sqrtf(variance + eps);
    out += (i64)block_index_x() * row.n;
    row_each(row, [&](floats4 x, int at, int count) {
        floats4 y = {(x.x - mean) * factor, (x.y - mean) * factor, (x.z - mean) * factor, (x.w - mean) * factor};
        if (weight) {
            const floats4 w = load_four(weight + at, 4, count);
            y = {y.x * w.x, y.y * w.y, y.z * w.z, y.w * w.w};
        }
        if (bias) {
            const floats4 b = load_four(bias + at, 4, count);
            y = {y.x + b.x, y.y + b.y, y.z + b.z, y.w + b.w};
        }
        store_four(out + at, y, count);
    });
}

// The sum of each row, divided by `divisor`.
KERNEL(reduce_rows)(const float* x, Layout x_at, float* out, float divisor) {
    SHARED float shared[ROW_WAVES];
    const Row row = row_of_block(x, x_at);
    const float sum = row_sum_of(row, shared, [](float x) { return x; });
    if (thread_index() == 0) out[block_index_x()] = sum / divisor;
}
