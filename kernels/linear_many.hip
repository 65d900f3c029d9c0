// A weight of any format times many rows of activations, with matrix instructions: 16-bit operands, sums in F32.
//
// Defines: FORMAT; SIDE, rows of the weight and rows of x per block, 64 or 128; BF16_OPERANDS, 1 for operands of BF16
// instead of F16; BY_ID, 1 if the weight has several experts, where a block's rows of x belong to one of them. The
// weight is decoded on the way to shared memory.
#include "elements.h"
#include "experts.h"
#include "formats.h"
#include "matrix.h"

typedef formats::FORMAT Format;

#ifndef BY_ID
#define BY_ID 0
#endif

// Elements of k in shared memory at a time, and the stride of their rows.
#define DEPTH 64
#define STRIDE (DEPTH + 8)
// Waves: two along x, the others along the weight, each with SIDE / 2 by 32 elements of the output.
#define N_WAVES (SIDE / 16)
#define TILES_M (SIDE / 32)
#define TILES_N 2
// Groups of 16 bytes of shared memory for SIDE rows.
#define TILE_WORDS (SIDE * STRIDE / 8)

DEVICE inline u16 operand(float x) {
    if (BF16_OPERANDS) return float_to_bf16(x);
    // Clamp finite values that are too large to the largest number.
    if (fabsf(x) > 65504.0f && fabsf(x) != INFINITY_F) x = x < 0.0f ? -65504.0f : 65504.0f;
    return float_to_half(x);
}

DEVICE inline void store_eight(u16* to, const float* v) {
    u32 bits[8];
#pragma unroll
    for (int j = 0; j < 8; j++) bits[j] = operand(v[j]);
    *reinterpret_cast<words4*>(to) = {bits[0] | bits[1] << 16, bits[2] | bits[3] << 16, bits[4] | bits[5] << 16,
                                      bits[6] | bits[7] << 16};
}

// Eight adjacent elements of a row of x; zeros past its end.
DEVICE inline void load_x(const float* row, i64 first, i64 k, float* out) {
    const i64 left = k - first;
    floats4 a = {0.0f, 0.0f, 0.0f, 0.0f}, b = a;
    if (left > 0) a = load_four(row + first, 4, left < 4 ? (int)left : 4);
    if (left > 4) b = load_four(row + first + 4, 4, left < 8 ? (int)left - 4 : 4);
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
    out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}

// The products of SIDE rows of a weight, from `first_row` of its `n` rows on, with SIDE rows of x. Row i of these is
// row row_of_x(i) of x, and finish(i, row, sum) writes its results; it is skipped if row_of_x(i) is negative. The tiles
// are shared memory of TILE_WORDS each, passed in since a template cannot declare it.
template <class X, class F>
DEVICE inline void multiply(
    words4* of_x, words4* of_weight, const u8* weight, i64 n_blocks, i64 first_element, const float* x, i32 k, i32 n,
    int first_row, X row_of_x, F finish) {
    u16* const tile_x = reinterpret_cast<u16*>(of_x);
    u16* const tile_weight = reinterpret_cast<u16*>(of_weight);
    const int wave = thread_index() / WAVE, at_m = wave % 2 * (SIDE / 2), at_n = wave / 2 * 32;
    const bool aligned = k % 8 == 0 && is_aligned(weight, 16);
    TileC sums[TILES_M][TILES_N];
#pragma unroll
    for (int i = 0; i < TILES_M * TILES_N; i++) sums[i / TILES_N][i % TILES_N] = tile_zero();

    for (int first = 0; first < k; first += DEPTH) {
#pragma unroll 2
        for (int i = thread_index(); i < SIDE * (DEPTH / 8); i += N_WAVES * WAVE) {
            const int row = i / (DEPTH / 8), at = i % (DEPTH / 8) * 8, left = k - (first + at);
            float v[8] = {};
            if (first_row + row < n && left > 0) {
                const i64 element = first_element + (i64)(first_row + row) * k + first + at;
                formats::load_eight<Format>(weight, n_blocks, element, left, aligned, v);
            }
            store_eight(tile_weight + row * STRIDE + at, v);
            float u[8] = {};
            const int x_row = row_of_x(row);
            if (x_row >= 0) load_x(x + (i64)x_row * k, first + at, k, u);
            store_eight(tile_x + row * STRIDE + at, u);
        }
        barrier();
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            TileB b[TILES_N];
#pragma unroll
            for (int j = 0; j < TILES_N; j++) {
                b[j] = tile_load_b(tile_weight + (at_n + 16 * j) * STRIDE + depth, STRIDE);
            }
#pragma unroll
            for (int i = 0; i < TILES_M; i++) {
                const TileA a = tile_load_a(tile_x + (at_m + 16 * i) * STRIDE + depth, STRIDE);
#pragma unroll
                for (int j = 0; j < TILES_N; j++) {
                    if (BF16_OPERANDS) {
                        tile_mma_bf16(sums[i][j], a, b[j]);
                    } else {
                        tile_mma(sums[i][j], a, b[j]);
                    }
                }
            }
        }
        barrier();
    }
#pragma unroll
    for (int i = 0; i < TILES_M; i++) {
#pragma unroll
        for (int j = 0; j < TILES_N; j++) {
#pragma unroll
            for (int e = 0; e < TILE_C; e++) {
                const int token = at_m + 16 * i + tile_row(e);
                const int row = first_row + at_n + 16 * j + tile_col(e);
                if (row_of_x(token) >= 0 && row < n) finish(token, row, sums[i][j].v[e]);
            }
        }
    }
}

#if BY_ID
// Rows of the output by expert, as `group_rows` orders them and divides them into tiles; `share` adjacent ones use the
// same row of x. Bias may be null.
KERNEL_OF(N_WAVES * WAVE, linear_many_id)
(const u8* weight, i64 n_blocks, const i32* order, const Tile* tiles, const float* x, const float* bias, float* y, i32 k,
 i32 n, i32 share) {
    const Tile tile = tiles[block_index_y()];
    if (tile.count == 0) return;
    const int first_row = block_index_x() * SIDE;
    if (tile.expert < 0) {
        // These rows have an invalid expert.
        for (int i = thread_index(); i < tile.count * SIDE; i += N_WAVES * WAVE) {
            const int row = first_row + i % SIDE;
            if (row < n) y[(i64)order[tile.first + i / SIDE] * n + row] = INFINITY_F - INFINITY_F;
        }
        return;
    }
    SHARED words4 of_x[TILE_WORDS];
    SHARED words4 of_weight[TILE_WORDS];
    SHARED i32 rows_of_y[SIDE];
    SHARED i32 rows_of_x[SIDE];
    for (int i = thread_index(); i < SIDE; i += N_WAVES * WAVE) {
        const int row = i < tile.count ? order[tile.first + i] : -1;
        rows_of_y[i] = row;
        rows_of_x[i] = row < 0 ? -1 : row / share;
    }
    barrier();
    const float* of_expert = bias ? bias + (i64)tile.expert * n : bias;
    const auto finish = [&](int i, int row, float sum) {
        if (of_expert) sum += of_expert[row];
        y[(i64)rows_of_y[i] * n + row] = sum;
    };
    const auto row_of_x = [&](int i) { return rows_of_x[i]; };
    const i64 first_element = (i64)tile.expert * n * k;
    multiply(of_x, of_weight, weight, n_blocks, first_element, x, k, n, first_row, row_of_x, finish);
}
#else
// Bias and residual may be null; the residual may be y.
KERNEL_OF(N_WAVES * WAVE, linear_many)
(const u8* weight, i64 n_blocks, const float* x, const float* bias, const float* residual, float* y, i32 k, i32 n,
 i32 tokens) {
    SHARED words4 of_x[TILE_WORDS];
    SHARED words4 of_weight[TILE_WORDS];
    const int first_token = block_index_y() * SIDE;
    const auto row_of_x = [&](int i) { return first_token + i < tokens ? first_token + i : -1; };
    const auto finish = [&](int i, int row, float sum) {
        const i64 at = (i64)(first_token + i) * n + row;
        if (bias) sum += bias[row];
        if (residual) sum += residual[at];
        y[at] = sum;
    };
    multiply(of_x, of_weight, weight, n_blocks, 0, x, k, n, block_index_x() * SIDE, row_of_x, finish);
}
#endif
