// Combines the splits of attention.hip in a fixed order: one block for each token and head.
#include "attention.h"

#define THREADS COMBINE_THREADS

// A split's two numbers in partial_sums are its largest score and the sum of its weights relative to that score; a
// largest score of -∞ marks an empty split.
KERNEL_OF(THREADS, attention_combine)
(const float* partial, const float* partial_sums, const float* sinks, float* out, i32 splits, i32 head_dim_v) {
    SHARED float factors[MAX_SPLITS];
    SHARED floats4 sums[THREADS];
    const int head = block_index_x();
    const i64 row = (i64)block_index_y() * grid_size_x() + head;
    partial += row * splits * head_dim_v;
    partial_sums += row * splits * 2;
    out += row * head_dim_v;

    // Every wave computes the same.
    float largest = sinks ? sinks[head] : -INFINITY_F;
    const float sink = largest;
    for (int s = lane_index(); s < splits; s += WAVE) largest = fmaxf(largest, partial_sums[2 * s]);
    largest = wave_max(largest);
    float total = 0.0f;
    for (int s = lane_index(); s < splits; s += WAVE) {
        const float factor = weight_of(partial_sums[2 * s], largest);
        total = fmaf(factor, partial_sums[2 * s + 1], total);
        if (thread_index() < WAVE) factors[s] = factor;
    }
    total = wave_sum(total) + (sinks ? weight_of(sink, largest) : 0.0f);
    const float share = total == 0.0f ? 0.0f : 1.0f / total;
    barrier();

    // Columns of threads take four adjacent elements; rows of threads are interleaved over the splits.
    const int fours = (head_dim_v + 3) / 4;
    const int columns = fours < THREADS ? fours : THREADS, rows = THREADS / columns;
    const int column = thread_index() % columns, first = thread_index() / columns;
    for (int start = 0; start < fours; start += columns) {
        const int at = 4 * (start + column), count = head_dim_v - at < 4 ? head_dim_v - at : 4;
        floats4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
        if (count > 0 && first < rows) {
#pragma unroll 4
            for (int s = first; s < splits; s += rows) {
                const float factor = factors[s];
                // An empty split wrote no sums.
                if (factor == 0.0f) continue;
                const floats4 x = load_four(partial + (i64)s * head_dim_v + at, 4, count);
                sum = {fmaf(factor, x.x, sum.x), fmaf(factor, x.y, sum.y), fmaf(factor, x.z, sum.z),
                       fmaf(factor, x.w, sum.w)};
            }
        }
        barrier();
        sums[thread_index()] = sum;
        barrier();
        if (first == 0 && count > 0) {
            for (int r = 1; r < rows; r++) {
                const floats4 x = sums[r * columns + column];
                sum = {sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w};
            }
            store_four(out + at, floats4{sum.x * share, sum.y * share, sum.z * share, sum.w * share}, count);
        }
    }
}
