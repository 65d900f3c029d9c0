// Formats of one to four bits without a second level of scales: TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0. See formats.h.
#pragma once

namespace formats {

// Four codes of two bits, less one each.
DEVICE inline u32 less_one(u32 codes) { return permute_bytes(0x020100FFu, 0u, codes); }

// The four pairs of bits of a byte, a byte each.
DEVICE inline u32 spread_pairs(u32 byte) {
    const u32 nibbles = (byte | byte << 12) & 0x000F000Fu;
    return (nibbles | nibbles << 6) & 0x03030303u;
}

// Writes scale · code of eight neighbours.
DEVICE inline void write_codes(float scale, u32 low, u32 high, float* out) {
#pragma unroll
    for (int j = 0; j < 8; j++) out[j] = scale * (float)(i8)((j < 4 ? low : high) >> (8 * (j & 3)) & 255u);
}

// Digit n of four bytes of TQ1_0: the integer part of 3 · frac(3ⁿ · byte / 256), less one. Two bytes at a time: no
// product reaches into its neighbour's 16 bits.
DEVICE inline u32 ternary_digits(u32 bytes, int n) {
    const u32 power = n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81;
    const u32 even = ((bytes & 0x00FF00FFu) * power & 0x00FF00FFu) * 3 >> 8 & 0x00030003u;
    const u32 odd = ((bytes >> 8 & 0x00FF00FFu) * power & 0x00FF00FFu) * 3 & 0x03000300u;
    return less_one(even | odd);
}

// A block is 32 bytes of five digits, each digit 32 neighbours; 16 bytes of five digits, each 16 neighbours; and four
// bytes of four digits, each four neighbours.
struct TQ1_0 : layouts::TQ1_0 {
    static constexpr int PARTS = 1;
    static constexpr bool MINS = false;
    // The bytes of two runs, and which digit each word of them gives.
    struct Raw { words4 a, b; u32 d; int digit_a, digit_b, step_b; };

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 3, group = piece & 7;
        const u8* at = tensor + (i64)CODES_BYTES * block;
        Raw raw;
        raw.a = four_words(at + (group < 5 ? 0 : 32));
        raw.b = four_words(at + (group < 5 ? 16 : 32));
        raw.digit_a = group < 5 ? group : 2 * (group - 5);
        raw.digit_b = group < 5 ? group : 2 * (group - 5) + 1;
        raw.step_b = 0;
        if (group == 7) {
            const u32 rest = word(tensor + REST_PLANE * n_blocks + (i64)REST_BYTES * block);
            raw.b = {rest, rest, rest, rest};
            raw.digit_b = 0, raw.step_b = 1;
        }
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * block);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 a[4] = {raw.a.x, raw.a.y, raw.a.z, raw.a.w}, b[4] = {raw.b.x, raw.b.y, raw.b.z, raw.b.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = ternary_digits(a[i], raw.digit_a);
            codes[4 + i] = ternary_digits(b[i], raw.digit_b + i * raw.step_b);
        }
        scales[0] = low_half(raw.d);
        mins[0] = 0.0f;
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const float d = half_at(tensor + D_PLANE * n_blocks + D_BYTES * block);
        const u8* at = tensor + CODES_BYTES * block;
        if (g < 30) {
            const int byte = g < 20 ? 8 * (g & 3) : 32 + 8 * (g & 1), n = g < 20 ? g >> 2 : (g - 20) >> 1;
            const words2 pair = word_pair(at + byte);
            write_codes(d, ternary_digits(pair.x, n), ternary_digits(pair.y, n), out);
        } else {
            const u32 rest = word(tensor + REST_PLANE * n_blocks + REST_BYTES * block);
            const int n = 2 * (g - 30);
            write_codes(d, ternary_digits(rest, n), ternary_digits(rest, n + 1), out);
        }
    }
};

// The codes lie as those of Q2_K do.
struct TQ2_0 : layouts::TQ2_0 {
    static constexpr int PARTS = 4;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; u32 d; };

    static DEVICE int first_of(int piece, int v) { return first_of_strided(piece, v); }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * (piece >> 2));
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
        const float d = low_half(raw.d);
#pragma unroll
        for (int k = 0; k < 4; k++) {
#pragma unroll
            for (int i = 0; i < 4; i++) codes[4 * k + i] = less_one(q[i] >> (2 * k) & 0x03030303u);
            scales[k] = d;
            mins[k] = 0.0f;
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 32 * (g >> 4) + 8 * (g & 3));
        const int shift = g >> 2 << 1 & 6;
        const float d = half_at(tensor + D_PLANE * n_blocks + D_BYTES * block);
        write_codes(d, less_one(pair.x >> shift & 0x03030303u), less_one(pair.y >> shift & 0x03030303u), out);
    }
};

// Twice the values of E2M1, four codes at a time: 0 1 2 3, 4 6 8 12 and the same below zero.
DEVICE inline u32 e2m1_doubled(u32 codes) {
    const u32 index = codes & 0x07070707u;
    const u32 positive = permute_bytes(0x03020100u, 0x0C080604u, index);
    const u32 negative = permute_bytes(0xFDFEFF00u, 0xF4F8FAFCu, index);
    const u32 mask = (codes >> 3 & 0x01010101u) * 255u;
    return (positive & ~mask) | (negative & mask);
}

// Half of an E8M0 scale: 2^(e − 128), a subnormal number for e < 2.
DEVICE inline float half_e8m0(u32 e) { return float_of_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23); }

// Half of an E4M3 scale without a sign; 0x7F, not a number, counts as zero.
DEVICE inline float half_ue4m3(u32 code) {
    const u32 exponent = code >> 3 & 15u, mantissa = code & 7u;
    if (code == 0x7F) return 0.0f;
    if (exponent == 0) return (float)mantissa * float_of_bits((127 - 10) << 23);
    return float_of_bits((exponent + 119) << 23 | mantissa << 20);
}

struct MXFP4 : layouts::MXFP4 {
    static constexpr int PARTS = 1;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; u32 scale; };

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.scale = tensor[SCALE_PLANE * n_blocks + piece];
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = e2m1_doubled(q[i] & 0x0F0F0F0Fu);
            codes[4 + i] = e2m1_doubled(q[i] >> 4 & 0x0F0F0F0Fu);
        }
        scales[0] = half_e8m0(raw.scale);
        mins[0] = 0.0f;
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 8 * (g & 1));
        const int shift = g >> 1 << 2;
        const u32 low = e2m1_doubled(pair.x >> shift & 0x0F0F0F0Fu), high = e2m1_doubled(pair.y >> shift & 0x0F0F0F0Fu);
        write_codes(half_e8m0(tensor[SCALE_PLANE * n_blocks + block]), low, high, out);
    }
};

// A piece is half a block: two groups of 16, each with its scale.
struct NVFP4 : layouts::NVFP4 {
    static constexpr int PARTS = 2;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; u32 scales; };

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.scales = half_word(tensor + SCALES_PLANE * n_blocks + (i64)2 * piece);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int p = 0; p < 2; p++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                codes[4 * p + i] = e2m1_doubled(q[2 * p + i] & 0x0F0F0F0Fu);
                codes[4 * p + 2 + i] = e2m1_doubled(q[2 * p + i] >> 4 & 0x0F0F0F0Fu);
            }
            scales[p] = half_ue4m3(raw.scales >> (8 * p) & 255u);
            mins[p] = 0.0f;
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 8 * (g >> 1));
        const int shift = g << 2 & 4;
        const u32 low = e2m1_doubled(pair.x >> shift & 0x0F0F0F0Fu), high = e2m1_doubled(pair.y >> shift & 0x0F0F0F0Fu);
        write_codes(half_ue4m3(tensor[SCALES_PLANE * n_blocks + SCALES_BYTES * block + (g >> 1)]), low, high, out);
    }
};

// A piece is half a block.
struct Q1_0 : layouts::Q1_0 {
    static constexpr int PARTS = 2;
    static constexpr bool MINS = false;
    struct Raw { words2 bits; u32 d; };

    // Four bits as −1 and 1.
    static DEVICE u32 signs(u32 bits) { return permute_bytes(0x000001FFu, 0u, spread_bits(bits)); }

    static DEVICE int first_of(int piece, int v) { return 64 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.bits = word_pair(tensor + (i64)8 * piece);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * (piece >> 1));
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] = signs(raw.bits.x >> (4 * i));
            codes[8 + i] = signs(raw.bits.y >> (4 * i));
        }
        scales[0] = scales[1] = low_half(raw.d);
        mins[0] = mins[1] = 0.0f;
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const u32 bits = tensor[CODES_BYTES * block + g];
        write_codes(half_at(tensor + D_PLANE * n_blocks + D_BYTES * block), signs(bits), signs(bits >> 4), out);
    }
};

struct Q2_0 : layouts::Q2_0 {
    static constexpr int PARTS = 2;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; u32 d; };

    static DEVICE int first_of(int piece, int v) { return 64 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)2 * piece);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int i = 0; i < 16; i++) codes[i] = less_one(spread_pairs(q[i / 4] >> (8 * (i % 4)) & 255u));
        scales[0] = scales[1] = low_half(raw.d);
        mins[0] = mins[1] = 0.0f;
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const u32 codes = half_word(tensor + CODES_BYTES * block + 2 * g);
        const u32 low = less_one(spread_pairs(codes & 255u)), high = less_one(spread_pairs(codes >> 8));
        write_codes(half_at(tensor + D_PLANE * n_blocks + D_BYTES * block), low, high, out);
    }
};

}  // namespace formats
