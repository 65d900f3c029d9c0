// A weight of any format times many rows of activations, by matrix instructions: operands of 16 bits, sums in F32.
//
// Defines: FORMAT; SIDE, rows of the weight and rows of x of a block, 64 or 128; BF16_OPERANDS, whether operands are
// BF16 and not F16. The weight's values are made on the way to shared memory.
#include "elements.h"
#include "formats.h"
#include "matrix.h"

typedef formats::FORMAT Format;

// Elements of k that are in shared memory at a time, and how far its rows are apart.
#define DEPTH 64
#define STRIDE (DEPTH + 8)
// Waves: two along x, the others along the weight, each with SIDE / 2 by 32 elements of the output.
#define N_WAVES (SIDE / 16)
#define TILES_M (SIDE / 32)
#define TILES_N 2

DEVICE inline u16 operand(float x) {
    if (BF16_OPERANDS) return float_to_bf16(x);
    // Finite values too large become the largest number.
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

// Eight neighbours of a row of x; zeros past its end.
DEVICE inline void load_x(const float* row, i64 first, i64 k, float* out) {
    const i64 left = k - first;
    floats4 a = {0.0f, 0.0f, 0.0f, 0.0f}, b = a;
    if (left > 0) a = load_four(row + first, 4, left < 4 ? (int)left : 4);
    if (left > 4) b = load_four(row + first + 4, 4, left < 8 ? (int)left - 4 : 4);
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
    out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}

// Bias and residual may be null; the residual may be y.
KERNEL_OF(N_WAVES * WAVE, linear_many)
(const u8* weight, i64 n_blocks, const float* x, const float* bias, const float* residual, float* y, i32 k, i32 n,
 i32 tokens) {
    SHARED words4 of_x[SIDE * STRIDE / 8];
    SHARED words4 of_weight[SIDE * STRIDE / 8];
    u16* const tile_x = reinterpret_cast<u16*>(of_x);
    u16* const tile_weight = reinterpret_cast<u16*>(of_weight);
    const int first_row = block_index_x() * SIDE, first_token = block_index_y() * SIDE;
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
                const i64 element = (i64)(first_row + row) * k + first + at;
                formats::load_eight<Format>(weight, n_blocks, element, left, aligned, v);
            }
            store_eight(tile_weight + row * STRIDE + at, v);
            float u[8] = {};
            if (first_token + row < tokens) load_x(x + (i64)(first_token + row) * k, first + at, k, u);
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
                const int token = first_token + at_m + 16 * i + tile_row(e);
                const int row = first_row + at_n + 16 * j + tile_col(e);
                if (token >= tokens || row >= n) continue;
                const i64 at = (i64)token * n + row;
                float sum = sums[i][j].v[e];
                if (bias) sum += bias[row];
                if (residual) sum += residual[at];
                y[at] = sum;
            }
        }
    }
}
