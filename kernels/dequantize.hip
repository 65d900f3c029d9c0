// Converts any format to a plain type, eight elements at a time.
//
// Defines: FORMAT; TO, the type of the output, numbered like plain types; CLAMP, 1 to clamp finite values too large for
// F16 to its largest number.
#include "elements.h"
#include "formats.h"

typedef formats::FORMAT Format;

#ifndef CLAMP
#define CLAMP 0
#endif

DEVICE inline float clamped(float x) {
    if (!CLAMP || fabsf(x) == INFINITY_F || x != x) return x;
    return fminf(fmaxf(x, -65504.0f), 65504.0f);
}

// `n` contiguous elements, eight per thread; n_blocks blocks in all.
KERNEL(dequantize)(const u8* from, i64 n_blocks, u8* to, i64 n) {
    const i64 first = 8 * ((i64)block_index_x() * block_size() + thread_index());
    if (first >= n) return;
    const int count = n - first < 8 ? (int)(n - first) : 8;
    float v[8];
    formats::load_eight<Format>(from, n_blocks, first, count, is_aligned(from, 16), v);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = clamped(v[j]);
    u8* at = to + first * plain_bytes(TO);
    if (count == 8 && (TO == TYPE_F16 || TO == TYPE_BF16) && is_aligned(at, 16)) {
        u32 halves[8];
#pragma unroll
        for (int j = 0; j < 8; j++) halves[j] = TO == TYPE_F16 ? float_to_half(v[j]) : float_to_bf16(v[j]);
        *reinterpret_cast<words4*>(at) = {halves[0] | halves[1] << 16, halves[2] | halves[3] << 16,
                                          halves[4] | halves[5] << 16, halves[6] | halves[7] << 16};
        return;
    }
    store_four(TO, at, {v[0], v[1], v[2], v[3]}, count < 4 ? count : 4);
    if (count > 4) store_four(TO, at + 4 * plain_bytes(TO), {v[4], v[5], v[6], v[7]}, count - 4);
}
