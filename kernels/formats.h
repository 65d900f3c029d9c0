// The block formats: the one set of device functions that reads them.
//
// A format is a struct here, named as in the table of element types; a kernel is compiled for one with
// -DFORMAT=Q4_K and names it formats::FORMAT. A tensor is given by its start and its number of blocks: the
// fields of all blocks lie in planes, which the number of blocks finds. What the bits mean is written down in
// src/tensor/blocks; sizes and planes come from there as the struct of the same name in `layouts` (tables.h), which a
// format inherits: BLOCK, BLOCK_BYTES, PLAIN, VECTORS, and for each plane X_PLANE, X_BYTES and X_AT.
//
// Every format has
//   BLOCK                                elements of a block
//   eight(tensor, n_blocks, block, g, out)
//                                        the values of elements 8·g to 8·g + 7 of a block, exactly as the CPU's
//                                        dequantization rounds them
// Plain types (PLAIN) count their elements in groups of eight, which must start at a multiple of 16 bytes, and have
//   element(tensor, index)               one value, wherever it lies
// Blocks also take part in products with activations of 8 bits (quantize.h), piece by piece:
//   VECTORS, PARTS, MINS                 a piece is VECTORS runs of 16 neighbours, in PARTS equal parts; whether
//                                        parts have a min
//   first_of(piece, v)                   the first element of its run v, counted from the start of piece 0's block
//   Raw load(tensor, n_blocks, piece)    the bytes of a piece, by wide loads and nothing else
//   unpack(raw, codes, scales, mins)     4·VECTORS words of four signed bytes, and for each part the factors: a
//                                        value is scale · code − min
// Tensors have fewer than 2³¹ pieces; offsets in bytes are of 64 bits.
#pragma once

#include "formats_words.h"

namespace formats {

// Types without blocks.
struct F32 {
    static constexpr int BLOCK = 1;
    static constexpr bool PLAIN = true;
    static DEVICE float element(const u8* tensor, i64 index) {
        return reinterpret_cast<const float*>(tensor)[index];
    }
    static DEVICE void eight(const u8* tensor, i64, i64 group, int, float* out) {
        const words4 a = four_words_once(tensor + 32 * group);
        const words4 b = four_words_once(tensor + 32 * group + 16);
        out[0] = float_of_bits(a.x), out[1] = float_of_bits(a.y);
        out[2] = float_of_bits(a.z), out[3] = float_of_bits(a.w);
        out[4] = float_of_bits(b.x), out[5] = float_of_bits(b.y);
        out[6] = float_of_bits(b.z), out[7] = float_of_bits(b.w);
    }
};

struct F16 {
    static constexpr int BLOCK = 1;
    static constexpr bool PLAIN = true;
    static DEVICE float element(const u8* tensor, i64 index) { return half_at(tensor + 2 * index); }
    static DEVICE void eight(const u8* tensor, i64, i64 group, int, float* out) {
        const words4 a = four_words_once(tensor + 16 * group);
        out[0] = low_half(a.x), out[1] = high_half(a.x);
        out[2] = low_half(a.y), out[3] = high_half(a.y);
        out[4] = low_half(a.z), out[5] = high_half(a.z);
        out[6] = low_half(a.w), out[7] = high_half(a.w);
    }
};

struct BF16 {
    static constexpr int BLOCK = 1;
    static constexpr bool PLAIN = true;
    static DEVICE float element(const u8* tensor, i64 index) {
        return float_of_bits(half_word(tensor + 2 * index) << 16);
    }
    static DEVICE void eight(const u8* tensor, i64, i64 group, int, float* out) {
        const words4 a = four_words_once(tensor + 16 * group);
        out[0] = float_of_bits(a.x << 16), out[1] = float_of_bits(a.x & 0xFFFF0000u);
        out[2] = float_of_bits(a.y << 16), out[3] = float_of_bits(a.y & 0xFFFF0000u);
        out[4] = float_of_bits(a.z << 16), out[5] = float_of_bits(a.z & 0xFFFF0000u);
        out[6] = float_of_bits(a.w << 16), out[7] = float_of_bits(a.w & 0xFFFF0000u);
    }
};

// Integers count as real numbers only where rows are looked up.
struct I32 {
    static constexpr int BLOCK = 1;
    static constexpr bool PLAIN = true;
    static DEVICE float element(const u8* tensor, i64 index) {
        return (float)reinterpret_cast<const i32*>(tensor)[index];
    }
};

// Elements `first` to first + count - 1 of a tensor, `count` up to eight; zeros up to eight. `first` is a multiple of
// eight, for plain types only where `aligned` is set: then it is also at a multiple of 16 bytes.
template <class Format>
DEVICE inline void load_eight(const u8* tensor, i64 n_blocks, i64 first, int count, bool aligned, float* out) {
    if constexpr (Format::PLAIN) {
        if (aligned && count >= 8) {
            Format::eight(tensor, n_blocks, first / 8, 0, out);
            return;
        }
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] = j < count ? Format::element(tensor, first + j) : 0.0f;
    } else {
        Format::eight(tensor, n_blocks, first / Format::BLOCK, (int)(first % Format::BLOCK) / 8, out);
    }
}

// The same of a row of a plain type whose elements are `step` bytes apart, or of blocks.
template <class Format>
DEVICE inline void load_eight_of_row(
    const u8* tensor, i64 n_blocks, i64 row, i64 n, i64 first, int count, i64 row_step, i64 step, float* out) {
    if constexpr (Format::PLAIN) {
        const u8* from = tensor + row * row_step + first * step;
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] = j < count ? Format::element(from + j * step, 0) : 0.0f;
    } else {
        load_eight<Format>(tensor, n_blocks, row * n + first, count, true, out);
    }
}

}  // namespace formats

#include "formats_legacy.h"
#include "formats_k.h"
#include "formats_small.h"
#include "formats_lattice.h"
