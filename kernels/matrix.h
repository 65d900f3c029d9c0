// Products of 16×16 tiles by one wave: C[m][n] += A[m][k] · B[n][k], 16-bit operands, f32 sums.
//
// Three implementations: matrix_nvidia.h (mma.sync), matrix_amd.h (MFMA and WMMA), matrix_plain.h (any target, each
// lane computes its own elements). All lanes of a wave call every function together.
//
// Operands are in shared memory, 16 bits an element, F16 or BF16; `stride` is in elements, a multiple of 8, and every
// row starts at a multiple of 16 bytes. A stride of 8 more than a multiple of 64 elements avoids bank conflicts between
// rows.
//
//   TileA a = tile_load_a(p, stride)             A[m][k] at p[m * stride + k]
//   TileB b = tile_load_b(p, stride)             B[n][k] at p[n * stride + k]
//   TileB b = tile_load_b_transposed(p, stride)  B[n][k] at p[k * stride + n]
//   TileC c = tile_zero()
//   tile_mma(c, a, b), tile_mma_bf16(c, a, b)    c += a · b of F16, of BF16
//   TileA a = tile_pack(c, scratch)              c rounded to F16 as an operand; tile_pack_bf16 to BF16
//
// `scratch` is TILE_SCRATCH elements of shared memory exclusive to this wave; it is unused and may be null if
// TILE_SCRATCH is 0. The source of a TileA or TileB, scratch included, must not change until the last product that uses
// it: the plain implementation stores addresses, not elements.
//
// An operand takes TILE_WORDS registers, for kernels that would keep many (an address is not worth keeping, and counts
// as many).
//
// A lane holds TILE_C = 256 / WAVE elements of C: element i is c.v[i], in row tile_row(i) and column tile_col(i). They
// are in TILE_ROWS rows; element i is in the lane's row number tile_slot(i), a constant if i is. The lane's row number
// s is row tile_slot_row(s) of the tile. tile_row_max(x) and tile_row_sum(x) combine one value per lane over the lanes
// that share its rows, in a fixed order.
#pragma once

#include "platform.h"

#define TILE_C (256 / WAVE)

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#include "matrix_nvidia.h"
#elif (WAVE == 64 && (defined(__gfx908__) || defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || \
                      defined(__gfx942__) || defined(__gfx950__))) ||                                              \
    (WAVE == 32 && (defined(__GFX11__) || (defined(__GFX12__) && !defined(__gfx1250__) && !defined(__gfx1251__))))
#include "matrix_amd.h"
#else
#include "matrix_plain.h"
#endif

DEVICE inline int tile_row(int i) { return tile_slot_row(tile_slot(i)); }

// Over lanes whose numbers differ in bits FIRST to LAST.
DEVICE inline float tile_row_max(float x) {
    for (int mask = TILE_FIRST_MASK; mask <= TILE_LAST_MASK; mask <<= 1) x = fmaxf(x, wave_shuffle_xor(x, mask));
    return x;
}

DEVICE inline float tile_row_sum(float x) {
    for (int mask = TILE_FIRST_MASK; mask <= TILE_LAST_MASK; mask <<= 1) x += wave_shuffle_xor(x, mask);
    return x;
}
