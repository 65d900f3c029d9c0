// Formats of 32 elements with one scale a block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL. See formats.h.
//
// Blocks that a kernel writes, those of a KV cache, lie as in a file and not in planes: block after block, each at an
// even address, scale first. These have
//   Eight eight_of_block(block, g)       elements 8·g to 8·g + 7 of a block as they lie, by loads and nothing else
//   values(eight, g, out)                their values
#pragma once

#include "formats_words.h"

namespace formats {

// Eight bytes at an even address.
DEVICE inline words2 word_pair_of_halves(const u8* p) { return {word_of_halves(p), word_of_halves(p + 4)}; }

// The four lowest bits, a byte each.
DEVICE inline u32 spread_bits(u32 bits) { return (bits & 15u) * 0x00204081u & 0x01010101u; }

// The values of the codes of IQ4_NL and IQ4_XS, four bytes at a time: -127 -104 -83 -65, -49 -35 -22 -10,
// 1 13 25 38, 53 69 89 113.
DEVICE inline u32 iq4_values(u32 codes) {
    const u32 index = codes & 0x07070707u;
    const u32 low = permute_bytes(0xBFAD9881u, 0xF6EADDCFu, index);
    const u32 high = permute_bytes(0x26190D01u, 0x71594535u, index);
    const u32 mask = (codes >> 3 & 0x01010101u) * 255u;
    return (low & ~mask) | (high & mask);
}

// One such value.
DEVICE inline int iq4_value(u32 code) { return (i8)(iq4_values(code) & 255u); }

// Codes of 4 or 5 bits. Without an offset a code stands for code − 2^(BITS − 1).
template <class L, int BITS, bool OFFSET>
struct Codes32 : L {
    static constexpr int PARTS = 1;
    static constexpr bool MINS = OFFSET;
    struct Raw { words4 codes; u32 high, scale; };

    static DEVICE u32 scale_bits(const u8* tensor, i64 n_blocks, i64 block) {
        const u8* at = tensor + L::SCALE_PLANE * n_blocks + L::SCALE_BYTES * block;
        return OFFSET ? word(at) : half_word(at);
    }
    static DEVICE u32 high_bits(const u8* tensor, i64 n_blocks, i64 block) {
        if constexpr (BITS == 5) {
            return word(tensor + L::HIGH_PLANE * n_blocks + L::HIGH_BYTES * block);
        } else {
            return 0;
        }
    }

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.high = high_bits(tensor, n_blocks, piece);
        raw.scale = scale_bits(tensor, n_blocks, piece);
        return raw;
    }

    // A code without an offset is moved to the top of its byte: there, the sign bit turned over, it is 2^(8 − BITS)
    // times the signed number.
    static DEVICE u32 placed(u32 codes) { return OFFSET ? codes : codes << (8 - BITS) ^ 0x80808080u; }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 low = q[i] & 0x0F0F0F0Fu, high = q[i] >> 4 & 0x0F0F0F0Fu;
            if (BITS == 5) {
                low |= spread_bits(raw.high >> (4 * i)) << 4;
                high |= spread_bits(raw.high >> (4 * i + 16)) << 4;
            }
            codes[i] = placed(low);
            codes[4 + i] = placed(high);
        }
        scales[0] = low_half(raw.scale) * (OFFSET ? 1.0f : 1.0f / (1 << (8 - BITS)));
        mins[0] = OFFSET ? -high_half(raw.scale) : 0.0f;
    }

    // Bytes with the low bits of the eight codes, the upper bits of all 32, and the scale.
    struct Eight { words2 low; u32 high, scale; };

    static DEVICE void values(const Eight& eight, int g, float* out) {
        const u32 high = eight.high >> (8 * g);
        const float d = low_half(eight.scale), m = OFFSET ? high_half(eight.scale) : 0.0f;
        const int shift = g >> 1 << 2;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 low = (j < 4 ? eight.low.x : eight.low.y) >> (8 * (j & 3) + shift) & 15u;
            const int code = (int)(low | (high >> j & 1u) << 4);
            out[j] = OFFSET ? multiply_then_add(d, (float)code, m) : d * (float)(code - (1 << (BITS - 1)));
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 low = word_pair(tensor + L::CODES_BYTES * block + 8 * (g & 1));
        values({low, high_bits(tensor, n_blocks, block), scale_bits(tensor, n_blocks, block)}, g, out);
    }

    static DEVICE Eight eight_of_block(const u8* block, int g) {
        Eight eight = {word_pair_of_halves(block + L::CODES_AT + 8 * (g & 1)), 0, 0};
        if constexpr (BITS == 5) eight.high = word_of_halves(block + L::HIGH_AT);
        eight.scale = OFFSET ? word_of_halves(block + L::SCALE_AT) : half_word(block + L::SCALE_AT);
        return eight;
    }
};

struct Q4_0 : Codes32<layouts::Q4_0, 4, false> {};
struct Q4_1 : Codes32<layouts::Q4_1, 4, true> {};
struct Q5_0 : Codes32<layouts::Q5_0, 5, false> {};
struct Q5_1 : Codes32<layouts::Q5_1, 5, true> {};

// A piece is half a block: neighbouring lanes load neighbouring 16 bytes.
struct Q8_0 : layouts::Q8_0 {
    static constexpr int PARTS = 1;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; u32 scale; };

    static DEVICE int first_of(int piece, int) { return 16 * piece; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.scale = half_word(tensor + SCALE_PLANE * n_blocks + (i64)SCALE_BYTES * (piece >> 1));
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        codes[0] = raw.codes.x, codes[1] = raw.codes.y, codes[2] = raw.codes.z, codes[3] = raw.codes.w;
        scales[0] = low_half(raw.scale);
        mins[0] = 0.0f;
    }

    struct Eight { words2 codes; u32 scale; };

    static DEVICE void values(const Eight& eight, int, float* out) {
        const float d = low_half(eight.scale);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            out[j] = d * (float)(i8)((j < 4 ? eight.codes.x : eight.codes.y) >> (8 * (j & 3)) & 255u);
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 codes = word_pair(tensor + CODES_BYTES * block + 8 * g);
        values({codes, half_word(tensor + SCALE_PLANE * n_blocks + SCALE_BYTES * block)}, g, out);
    }

    static DEVICE Eight eight_of_block(const u8* block, int g) {
        return {word_pair_of_halves(block + CODES_AT + 8 * g), half_word(block + SCALE_AT)};
    }
};

struct IQ4_NL : layouts::IQ4_NL {
    static constexpr int PARTS = 1;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; u32 scale; };

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.scale = half_word(tensor + SCALE_PLANE * n_blocks + (i64)SCALE_BYTES * piece);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = iq4_values(q[i] & 0x0F0F0F0Fu);
            codes[4 + i] = iq4_values(q[i] >> 4 & 0x0F0F0F0Fu);
        }
        scales[0] = low_half(raw.scale);
        mins[0] = 0.0f;
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 8 * (g & 1));
        const float d = half_at(tensor + SCALE_PLANE * n_blocks + SCALE_BYTES * block);
        const int shift = g >> 1 << 2;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            out[j] = d * (float)iq4_value((j < 4 ? pair.x : pair.y) >> (8 * (j & 3) + shift) & 15u);
        }
    }
};

}  // namespace formats
