// Weights of a plain type times a few rows of F32 activations.
//
// Defines as for linear_few.hip. A lane takes eight adjacent elements at a time.
#include "elements.h"
#include "formats.h"
#include "linear_rows.h"

typedef formats::FORMAT Format;

struct Eight { float v[8]; };

// Elements 8·group to 8·group + 7 of a row of x, of which `count` exist.
template <bool ALIGNED> DEVICE inline Eight load_x(const float* row, int group, int count) {
    Eight x;
    if (ALIGNED) {
        const floats4 a = reinterpret_cast<const floats4*>(row)[2 * group];
        const floats4 b = reinterpret_cast<const floats4*>(row)[2 * group + 1];
        x.v[0] = a.x, x.v[1] = a.y, x.v[2] = a.z, x.v[3] = a.w;
        x.v[4] = b.x, x.v[5] = b.y, x.v[6] = b.z, x.v[7] = b.w;
        return x;
    }
#pragma unroll
    for (int j = 0; j < 8; j++) x.v[j] = j < count ? row[8 * group + j] : 0.0f;
    return x;
}

// Adds this thread's part of every row; row_of_x(t) is the row of x for the block's row t. ALIGNED: every row starts at
// a multiple of 16 bytes and consists of whole groups; as a constant, this lets the loads of all rows be issued before
// the first is used.
template <bool ALIGNED, class F>
DEVICE inline void accumulate(
    float (&sums)[TOKENS][ALL_ROWS], const BlockRows& rows, const float* x, int k, F row_of_x) {
    const int groups = (k + 7) / 8;
#pragma unroll UNROLL
    for (int group = thread_index(); group < groups; group += WAVES * WAVE) {
        const int count = ALIGNED ? 8 : k - 8 * group;
        Eight w[ALL_ROWS];
#pragma unroll
        for (int r = 0; r < ALL_ROWS; r++) {
            const Weight weight = rows.weight_of(r);
            const i64 first = (i64)rows.row(r) * k + 8 * group;
            formats::load_eight<Format>(weight.start, weight.n_blocks, first, count, ALIGNED, w[r].v);
        }
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const Eight of_token = load_x<ALIGNED>(x + (i64)row_of_x(t) * k, group, count);
#pragma unroll
            for (int r = 0; r < ALL_ROWS; r++) {
#pragma unroll
                for (int j = 0; j < 8; j++) sums[t][r] = fmaf(w[r].v[j], of_token.v[j], sums[t][r]);
            }
        }
    }
}

template <class F>
DEVICE inline void accumulate(
    float (&sums)[TOKENS][ALL_ROWS], const BlockRows& rows, const float* x, int k, F row_of_x) {
    const bool aligned = k % 8 == 0 && is_aligned(x, 16) && is_aligned(rows.weight.start, 16) &&
                         is_aligned(rows.second.start, 16);
    if (aligned) {
        accumulate<true>(sums, rows, x, k, row_of_x);
    } else {
        accumulate<false>(sums, rows, x, k, row_of_x);
    }
}

#if BY_ID
KERNEL_OF(WAVES * WAVE, linear_float_id)
(const u8* weight, i64 n_blocks, const i32* ids, const float* x, const float* bias, float* y, i32 k, i32 n_out,
 i32 n_expert, i32 rows_of_y, i32 share) {
    const int id = ids[block_index_y()];
    const bool known = id >= 0 && id < n_expert;
    const int expert = known ? id : 0;
    const BlockRows rows = rows_of_expert({weight, n_blocks}, n_out, expert);
    float sums[TOKENS][ALL_ROWS] = {};
    accumulate(sums, rows, x, k, [&](int) { return block_index_y() / share; });
    finish_row_of_expert(sums, rows, bias, y, n_out, rows_of_y, expert, known);
}
#else
KERNEL_OF(WAVES * WAVE, linear_float)
(const u8* w0, const u8* w1, const u8* w2, i64 n_blocks0, i64 n_blocks1, i64 n_blocks2, i32 n0, i32 n1, i32 n2,
 const float* x, const float* bias, const float* residual, float* y, i32 k, i32 n_out, i32 tokens, i32 activation_kind) {
    const BlockRows rows = rows_of_block({w0, n_blocks0}, {w1, n_blocks1}, {w2, n_blocks2}, n0, n1, n2);
    float sums[TOKENS][ALL_ROWS] = {};
    accumulate(sums, rows, x, k, [&](int t) { return token_of(t, tokens); });
    finish_rows(sums, rows, bias, residual, y, n_out, tokens, activation_kind);
}
#endif
