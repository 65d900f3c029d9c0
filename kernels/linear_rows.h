// Code shared by the products of few tokens: the rows of the weights that a block takes, and the use of its sums.
//
// Up to three weights of one format are concatenated: a row of the output has the results of the first, then of the
// second, then of the third. With GATED there are two of the same shape, and the output is activation(first) · second.
// A block takes ROWS adjacent rows of one weight (of both with GATED) for TOKENS rows of x, each wave a part of k; the
// grid's second dimension covers the rows of x.
//
// With BY_ID there is one weight of several experts, and every row of the output names its expert; then TOKENS is 1,
// and `share` adjacent rows of the output use the same row of x. An invalid expert gives a row of NaN.
#pragma once

#include "functions.h"
#include "platform.h"

#ifndef GATED
#define GATED 0
#endif
#ifndef BY_ID
#define BY_ID 0
#endif

// Rows of weights that a block multiplies.
#define ALL_ROWS (GATED ? 2 * ROWS : ROWS)

// A weight's address and its number of blocks.
struct Weight { const u8* start; i64 n_blocks; };

struct BlockRows {
    Weight weight, second;
    // The first row, the weight's number of rows, and the offset of the first row's result in a row of the output.
    int first, n, place;

    DEVICE Weight weight_of(int r) const { return GATED && r >= ROWS ? second : weight; }
    // Rows past the end are read as the last row and not written.
    DEVICE int row(int r) const {
        const int at = first + r % ROWS;
        return at < n ? at : n - 1;
    }
};

DEVICE inline BlockRows rows_of_block(Weight w0, Weight w1, Weight w2, int n0, int n1, int n2) {
    int block = block_index_x();
    if (GATED) return {w0, w1, block * ROWS, n0, block * ROWS};
    const int blocks0 = (n0 + ROWS - 1) / ROWS, blocks1 = (n1 + ROWS - 1) / ROWS;
    if (block < blocks0) return {w0, w0, block * ROWS, n0, block * ROWS};
    block -= blocks0;
    if (block < blocks1) return {w1, w1, block * ROWS, n1, n0 + block * ROWS};
    block -= blocks1;
    return {w2, w2, block * ROWS, n2, n0 + n1 + block * ROWS};
}

// The rows of an expert of a weight whose experts have `n` rows each.
DEVICE inline BlockRows rows_of_expert(Weight weight, int n, int expert) {
    const int place = block_index_x() * ROWS;
    return {weight, weight, expert * n + place, (expert + 1) * n, place};
}

// The row of x for the block's row t; past the end, the last one.
DEVICE inline int token_of(int t, int tokens) {
    t += block_index_y() * TOKENS;
    return t < tokens ? t : tokens - 1;
}

// Adds the waves' sums in a fixed order, and writes the results with activation, bias and residual. Bias and residual
// may be null; the residual may be the output. `n_out` is the length of a row of the output.
DEVICE inline void finish_rows(
    float (&sums)[TOKENS][ALL_ROWS], const BlockRows& rows, const float* bias, const float* residual, float* y,
    int n_out, int tokens, int activation_kind) {
    SHARED float partial[WAVES * TOKENS * ALL_ROWS];
    const int first_token = block_index_y() * TOKENS;
    const int wave = thread_index() / WAVE;
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
#pragma unroll
        for (int r = 0; r < ALL_ROWS; r++) {
            const float sum = wave_sum(sums[t][r]);
            if (lane_index() == 0) partial[(wave * TOKENS + t) * ALL_ROWS + r] = sum;
        }
    }
    barrier();
    const int t = thread_index() / ROWS, r = thread_index() % ROWS;
    if (t >= TOKENS || first_token + t >= tokens || rows.first + r >= rows.n) return;
    float sum = 0.0f, second = 0.0f;
    for (int w = 0; w < WAVES; w++) {
        const float* of_wave = partial + (w * TOKENS + t) * ALL_ROWS;
        sum += of_wave[r];
        if (GATED) second += of_wave[ROWS + r];
    }
    if (GATED) sum = activation(activation_kind, sum) * second;
    const i64 at = (i64)(first_token + t) * n_out + rows.place + r;
    if (bias) sum += bias[rows.place + r];
    if (residual) sum += residual[at];
    y[at] = sum;
}

// Writes the row block_index_y() of the `rows_of_y` rows of the output, with the sums of its expert; NaN if not
// `known`.
DEVICE inline void finish_row_of_expert(
    float (&sums)[TOKENS][ALL_ROWS], const BlockRows& rows, const float* bias, float* y, int n_out, int rows_of_y,
    int expert, bool known) {
    if (!known) {
#pragma unroll
        for (int r = 0; r < ALL_ROWS; r++) sums[0][r] = INFINITY_F - INFINITY_F;
    }
    finish_rows(sums, rows, bias ? bias + (i64)expert * n_out : bias, nullptr, y, n_out, rows_of_y, 0);
}
