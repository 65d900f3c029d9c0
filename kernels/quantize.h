// Activations in eight bits, as read by products of block formats.
//
// A row of `k` elements, a multiple of 32, is k signed bytes, then for each 32 elements two floats: the scale d and d
// times the sum of the bytes; a row is zero-padded to a multiple of 16 bytes. With a the largest magnitude of 32
// elements, d = a / 127 and a byte is the integer nearest to x · (127 / a), ties to even. If an element is infinite or
// NaN, d is infinite and the bytes are 0, so that every product with them is NaN.
#pragma once

#include "platform.h"

// Scale, and scale times the sum of the codes.
struct alignas(8) GroupScale { float d, sum; };

// Bytes of a row.
DEVICE inline i64 quantized_row_bytes(int k) { return (k + k / 4 + 15) / 16 * 16; }

DEVICE inline float magnitude(float x) { return x == x ? fabsf(x) : INFINITY_F; }

// Quantizes four adjacent elements of each of eight lanes, whose numbers differ in the lowest three bits, together;
// every lane of the wave calls it. Returns the four codes as a word, and in `scale` the scale of the eight lanes.
DEVICE inline u32 quantize_four(floats4 x, GroupScale* scale) {
    float a = fmaxf(fmaxf(magnitude(x.x), magnitude(x.y)), fmaxf(magnitude(x.z), magnitude(x.w)));
    for (int mask = 1; mask < 8; mask <<= 1) a = fmaxf(a, wave_shuffle_xor(a, mask));
    // Below this, the reciprocal would overflow.
    const bool is_zero = a < 1e-36f, is_finite = a < INFINITY_F;
    const float factor = is_zero || !is_finite ? 0.0f : 127.0f / a;
    i32 q[4] = {0, 0, 0, 0};
    if (is_finite) {
        q[0] = (i32)rintf(x.x * factor), q[1] = (i32)rintf(x.y * factor);
        q[2] = (i32)rintf(x.z * factor), q[3] = (i32)rintf(x.w * factor);
    }
    i32 sum = q[0] + q[1] + q[2] + q[3];
    for (int mask = 1; mask < 8; mask <<= 1) sum += wave_shuffle_xor(sum, mask);
    scale->d = is_zero ? 0.0f : a / 127.0f;
    scale->sum = scale->d * (float)sum;
    return ((u32)q[0] & 255u) | ((u32)q[1] & 255u) << 8 | ((u32)q[2] & 255u) << 16 | (u32)q[3] << 24;
}

// Writes one lane's result of quantize_four: elements `at` (a multiple of 4) to at + 3 of a row.
DEVICE inline void store_quantized(u8* row, int k, int at, u32 codes, GroupScale scale) {
    *reinterpret_cast<u32*>(row + at) = codes;
    GroupScale* scales = reinterpret_cast<GroupScale*>(row + k);
    if (at % 32 == 0) scales[at / 32] = scale;
    if (at == 0 && k % 64 != 0) scales[k / 32] = {0.0f, 0.0f};
}
