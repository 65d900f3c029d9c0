// The gated delta rule, one row after another.
//
// LANES lanes compute one column of a head's state, whose elements stay in their registers for all rows of a run: lane
// `l` has the groups of four `l`, `l + LANES`, … , FOURS of them. No thread waits for another block or shares memory, and
// a thread alone reads and writes its elements of the state, which may therefore be written where it is read.
#include "elements.h"
#include "functions.h"
#include "runs.h"

#define COLUMNS (DELTA_RULE_THREADS / LANES)

DEVICE inline float sum_of_lanes(float x) {
#pragma unroll
    for (int mask = 1; mask < LANES; mask <<= 1) x += wave_shuffle_xor(x, mask);
    return x;
}

// The lane's elements of a vector of n elements without gaps; 0 after its end.
struct Own { floats4 x[FOURS]; };

DEVICE inline Own own_of(const float* p, int n) {
    Own own;
#if BY_CHANNEL
    // Computed once before the loop, the conditions on n took all scalar registers of gfx9, and four spilled; now 74 are used
    // (gfx906, LANES=16, FOURS=4; .ci/kernels prints them).
    n = computed_again(n);
#endif
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        const int at = 4 * (thread_index() % LANES + i * LANES), left = n - at;
        own.x[i] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (left > 0) own.x[i] = load_four(p + at, 4, left < 4 ? left : 4);
    }
    return own;
}

DEVICE inline float own_dot(const Own& a, const Own& b) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        sum = fmaf(a.x[i].x, b.x[i].x, sum);
        sum = fmaf(a.x[i].y, b.x[i].y, sum);
        sum = fmaf(a.x[i].z, b.x[i].z, sum);
        sum = fmaf(a.x[i].w, b.x[i].w, sum);
    }
    return sum;
}

template <class F> DEVICE inline Own own_zip(const Own& a, const Own& b, F f) {
    Own y;
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        y.x[i] = {f(a.x[i].x, b.x[i].x), f(a.x[i].y, b.x[i].y), f(a.x[i].z, b.x[i].z), f(a.x[i].w, b.x[i].w)};
    return y;
}

DEVICE inline Own own_filled(float x) {
    Own y;
#pragma unroll
    for (int i = 0; i < FOURS; i++) y.x[i] = {x, x, x, x};
    return y;
}

// Zeros for the rows of no run that follow this one, and for those before the first run.
DEVICE inline void clear_padding(const i32* runs, int n_runs, int n_slots, int number, int n_rows, float* y, i64 step) {
    const Run own = run_at(runs, number, n_slots);
    const int end = own.first + own.count;
    int next = n_rows, first = n_rows;
    for (int i = 0; i < n_runs; i++) {
        const Run run = run_at(runs, i, n_slots);
        if (run.count <= 0) continue;
        if (run.first < first) first = run.first;
        if (run.first >= end && run.first < next) next = run.first;
    }
    if (own.count > 0)
        for (int row = end; row < next; row++) y[row * step] = 0.0f;
    if (number == 0)
        for (int row = 0; row < first; row++) y[row * step] = 0.0f;
}

KERNEL_OF(DELTA_RULE_THREADS, delta_rule)
(const float* q, Layout q_at, const float* k, Layout k_at, const float* v, Layout v_at, const float* g, Layout g_at,
 const float* beta, Layout beta_at, const float* dt, const float* a, const i32* runs, float* y, float* state,
 i32 n_runs, i32 n_slots, float l2_eps, float scale) {
    const int d = (int)k_at.ne[0], d_v = (int)v_at.ne[0], n_head = (int)v_at.ne[1], n_key = (int)k_at.ne[1];
    const int n_rows = (int)v_at.ne[2];
    const int head = block_index_y(), lane = thread_index() % LANES;
    const int column = block_index_x() * COLUMNS + thread_index() / LANES;
    const bool exists = column < d_v;
    const int key_head = KEY_HEADS == KEY_HEADS_TILED ? head % n_key : head / (n_head / n_key);
    float* answer = y + (i64)head * d_v + column;
    const i64 y_step = (i64)n_head * d_v;
    if (exists && lane == 0) clear_padding(runs, n_runs, n_slots, block_index_z(), n_rows, answer, y_step);
    const Run run = run_at(runs, block_index_z(), n_slots);
    // All lanes of the block leave here, or none.
    if (run.count <= 0) return;
    const int end = run.first + run.count < n_rows ? run.first + run.count : n_rows;
    auto slot = [&](int number) { return state + (((i64)number * n_head + head) * d_v + column) * d; };
    Own s = own_filled(0.0f);
    if (exists && run.source >= 0) s = own_of(slot(run.source), d);
    auto of = [](const float* p, const Layout& at, int i1, int row) {
        return (const float*)((const u8*)p + i1 * at.nb[1] + row * at.nb[2]);
    };
    for (int row = run.first; row < end; row++) {
        Own q_own = own_of(of(q, q_at, key_head, row), d), k_own = own_of(of(k, k_at, key_head, row), d);
        float q_factor = scale, k_factor = 1.0f;
        if (l2_eps >= 0.0f) {
            q_factor = scale / sqrtf(sum_of_lanes(own_dot(q_own, q_own)) + l2_eps);
            k_factor = 1.0f / sqrtf(sum_of_lanes(own_dot(k_own, k_own)) + l2_eps);
        }
        auto times = [](float x, float y) { return x * y; };
        q_own = own_zip(q_own, own_filled(q_factor), times);
        k_own = own_zip(k_own, own_filled(k_factor), times);
        const float* g_row = of(g, g_at, head, row);
        float b = *of(beta, beta_at, head, row);
        if (dt) b = sigmoid(b);
#if BY_CHANNEL
        Own decay = own_of(g_row, d);
        if (dt) {
            const float own_a = a[head];
            decay = own_zip(decay, own_of(dt + (i64)head * d, d), [&](float g, float dt) { return own_a * softplus(g + dt); });
        }
        decay = own_zip(decay, decay, [](float g, float) { return expf(g); });
#else
        const float log = dt ? a[head] * softplus(*g_row + dt[head]) : *g_row;
        const Own decay = own_filled(expf(log));
#endif
        const float value = exists ? of(v, v_at, head, row)[column] : 0.0f;
        const float correction = b * (value - sum_of_lanes(own_dot(s, own_zip(k_own, decay, times))));
        s = own_zip(own_zip(s, decay, times), k_own, [&](float s, float k) { return fmaf(k, correction, s); });
        const float sum = sum_of_lanes(own_dot(s, q_own));
        if (exists && lane == 0) answer[row * y_step] = sum;
    }
    if (!exists) return;
    float* to = slot(run.target);
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        const int at = 4 * (lane + i * LANES), left = d - at;
        if (left > 0) store_four(to + at, s.x[i], left < 4 ? left : 4);
    }
}
