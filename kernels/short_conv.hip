// A causal convolution of each channel over the last TAPS rows of its sequence.
//
// A thread computes one channel of SHORT_CONV_ROWS rows. The state may be written where it is read, so whoever has a
// run's first row also computes the other rows that need the state, and then writes it; all other rows need x alone.
#include "functions.h"
#include "runs.h"

#define KEPT (TAPS - 1)

KERNEL_OF(SHORT_CONV_THREADS, short_conv)
(const float* x, Layout x_at, const float* weight, const float* bias, const i32* runs, float* y, float* state,
 i32 n_runs, i32 n_slots, i32 silu) {
    // The run of each row; -1 for none.
    SHARED i32 run_of[SHORT_CONV_ROWS];
    const int n = (int)x_at.ne[0], n_rows = (int)x_at.ne[1];
    const int start = block_index_y() * SHORT_CONV_ROWS;
    const int end = start + SHORT_CONV_ROWS < n_rows ? start + SHORT_CONV_ROWS : n_rows;
    if (thread_index() < SHORT_CONV_ROWS) run_of[thread_index()] = -1;
    barrier();
    for (int i = thread_index(); i < n_runs; i += SHORT_CONV_THREADS) {
        const Run run = run_at(runs, i, n_slots);
        const int from = run.first > start ? run.first : start;
        const int to = run.first + run.count < end ? run.first + run.count : end;
        for (int row = from; row < to; row++) run_of[row - start] = i;
    }
    barrier();
    const int c = block_index_x() * SHORT_CONV_THREADS + thread_index();
    if (c >= n) return;
    float w[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; i++) w[i] = weight[(i64)c * TAPS + i];
    const float b = bias ? bias[c] : 0.0f;
    const u8* column = (const u8*)(x + c);
    const i64 step = x_at.nb[1];
    auto input = [&](int row) { return *(const float*)(column + row * step); };
    auto finish = [&](int row, float sum) { y[(i64)row * n + c] = silu ? activation(UNARY_SILU, sum) : sum; };
    for (int row = start; row < end; row++) {
        const int i = run_of[row - start];
        if (i < 0) {
            y[(i64)row * n + c] = 0.0f;
            continue;
        }
        const Run run = run_at(runs, i, n_slots);
        const int t = row - run.first;
        if (t >= KEPT) {
            float sum = b;
#pragma unroll
            for (int j = 0; j < TAPS; j++) sum = fmaf(w[j], input(row - KEPT + j), sum);
            finish(row, sum);
        } else if (t == 0) {
            // The inputs before and after the run's beginning.
            float near[2 * KEPT];
#pragma unroll
            for (int j = 0; j < KEPT; j++) {
                near[j] = run.source < 0 ? 0.0f : state[((i64)run.source * KEPT + j) * n + c];
                near[KEPT + j] = j < run.count ? input(run.first + j) : 0.0f;
            }
#pragma unroll
            for (int u = 0; u < KEPT; u++) {
                float sum = b;
#pragma unroll
                for (int j = 0; j < TAPS; j++) sum = fmaf(w[j], near[u + j], sum);
                if (u < run.count) finish(run.first + u, sum);
            }
#pragma unroll
            for (int j = 0; j < KEPT; j++) {
                float last = 0.0f;
                if (run.count >= KEPT) {
                    last = input(run.first + run.count - KEPT + j);
                } else {
                    // A constant index keeps `near` in registers.
#pragma unroll
                    for (int u = 1; u < KEPT; u++)
                        if (u == run.count) last = near[u + j];
                }
                state[((i64)run.target * KEPT + j) * n + c] = last;
            }
        }
    }
}
