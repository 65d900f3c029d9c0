// Formats whose codes are points of a lattice: IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S. See formats.h.
//
// A piece is 32 elements: four times eight neighbours, of one point or of two. Each format has
//   point(raw, k, codes)   the two words of codes of the piece's eight neighbours number k
//   scale(raw, half)       the scale of the piece's first or last 16 elements
#pragma once

#include "lattice_points.h"

namespace formats {

// SCALES: whether 16 elements have a scale of their own.
template <class F, class L, bool SCALES>
struct Lattice : L {
    static constexpr int PARTS = SCALES ? 2 : 1;
    static constexpr bool MINS = false;

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }

    template <class Raw>
    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
#pragma unroll
        for (int k = 0; k < 4; k++) F::point(raw, k, codes + 2 * k);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            scales[p] = F::scale(raw, p);
            mins[p] = 0.0f;
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const auto raw = F::load(tensor, n_blocks, (int)(8 * block) + (g >> 2));
        u32 codes[2];
        F::point(raw, g & 3, codes);
        write_codes(F::scale(raw, g >> 1 & 1), codes[0], codes[1], out);
    }
};

// Four bytes, none of them zero; bit j of `signs` makes byte j negative.
DEVICE inline u32 with_signs(u32 magnitudes, u32 signs) {
    const u32 bits = spread_bits(signs);
    return (magnitudes ^ bits * 255u) + bits;
}

// Seven bits stand for eight signs: the number of negative elements is even.
DEVICE inline u32 signs_of_7_bits(u32 bits) {
    bits &= 127u;
    u32 parity = bits ^ bits >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return bits | (parity & 1u) << 7;
}

// Coordinates of 2 bits that stand for 8, 25 and 43.
DEVICE inline void iq2_codes(u32 point, u32 signs, u32* codes) {
    codes[0] = with_signs(permute_bytes(0x002B1908u, 0u, spread_pairs(point & 255u)), signs);
    codes[1] = with_signs(permute_bytes(0x002B1908u, 0u, spread_pairs(point >> 8)), signs >> 4);
}

DEVICE inline float iq2_scale(u32 d, u32 s) { return low_half(d) * (0.5f + (float)(s & 15u)) * 0.25f; }

struct IQ2_XXS : Lattice<IQ2_XXS, layouts::IQ2_XXS, false> {
    struct Raw { words2 group; u32 d; };

    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.group = word_pair(tensor + (i64)8 * piece);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * (piece >> 3));
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 index = raw.group.x >> (8 * k) & 255u;
        iq2_codes(IQ2_XXS_POINTS[index], signs_of_7_bits(raw.group.y >> (7 * k)), codes);
    }
    static DEVICE float scale(const Raw& raw, int) { return iq2_scale(raw.d, raw.group.y >> 28); }
};

struct IQ2_XS : Lattice<IQ2_XS, layouts::IQ2_XS, true> {
    struct Raw { words2 group; u32 scales, d; };

    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.group = word_pair(tensor + (i64)8 * piece);
        raw.scales = tensor[SCALES_PLANE * n_blocks + piece];
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * (piece >> 3));
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 code = (k < 2 ? raw.group.x : raw.group.y) >> (16 * (k & 1)) & 0xFFFFu;
        iq2_codes(IQ2_XS_POINTS[code & 511u], signs_of_7_bits(code >> 9), codes);
    }
    static DEVICE float scale(const Raw& raw, int half) { return iq2_scale(raw.d, raw.scales >> (4 * half)); }
};

struct IQ2_S : Lattice<IQ2_S, layouts::IQ2_S, true> {
    struct Raw { u32 low, signs, high, scales, d; };

    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 3, group = piece & 7;
        const u8* at = tensor + (i64)CODES_BYTES * block + 4 * group;
        const u8* rest = tensor + REST_PLANE * n_blocks + (i64)REST_BYTES * block + group;
        Raw raw;
        raw.low = word(at), raw.signs = word(at + 32);
        raw.high = rest[0], raw.scales = rest[8];
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * block);
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 index = (raw.low >> (8 * k) & 255u) | (raw.high >> (2 * k) & 3u) << 8;
        iq2_codes(IQ2_S_POINTS[index], raw.signs >> (8 * k), codes);
    }
    static DEVICE float scale(const Raw& raw, int half) { return iq2_scale(raw.d, raw.scales >> (4 * half)); }
};

// Four coordinates of 4 bits, a byte each.
DEVICE inline u32 spread_nibbles(u32 point) {
    const u32 bytes = (point | point << 8) & 0x00FF00FFu;
    return (bytes | bytes << 4) & 0x0F0F0F0Fu;
}

// Coordinates that stand for 4, 12, 20, 28, 36, 44, 52 and 62.
struct IQ3_XXS : Lattice<IQ3_XXS, layouts::IQ3_XXS, false> {
    struct Raw { words2 indices; u32 rest, d; };

    static DEVICE u32 magnitudes(u32 index) {
        return permute_bytes(0x1C140C04u, 0x3E342C24u, spread_nibbles(IQ3_XXS_POINTS[index]));
    }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.indices = word_pair(tensor + (i64)8 * piece);
        raw.rest = word(tensor + REST_PLANE * n_blocks + (i64)4 * piece);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * (piece >> 3));
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 pair = (k < 2 ? raw.indices.x : raw.indices.y) >> (16 * (k & 1));
        const u32 signs = signs_of_7_bits(raw.rest >> (7 * k));
        codes[0] = with_signs(magnitudes(pair & 255u), signs);
        codes[1] = with_signs(magnitudes(pair >> 8 & 255u), signs >> 4);
    }
    static DEVICE float scale(const Raw& raw, int) { return low_half(raw.d) * (0.5f + (float)(raw.rest >> 28)) * 0.5f; }
};

// Coordinates that stand for the odd numbers.
struct IQ3_S : Lattice<IQ3_S, layouts::IQ3_S, false> {
    struct Raw { words2 low; u32 signs, high, scale, d; };

    static DEVICE u32 magnitudes(u32 index) { return spread_nibbles(IQ3_S_POINTS[index]) * 2 | 0x01010101u; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 3, group = piece & 7;
        Raw raw;
        raw.low = word_pair(tensor + (i64)8 * piece);
        raw.signs = word(tensor + SIGNS_PLANE * n_blocks + (i64)4 * piece);
        raw.high = tensor[HIGH_PLANE * n_blocks + piece];
        raw.scale = (u32)tensor[SCALES_PLANE * n_blocks + (piece >> 1)] >> (4 * (group & 1)) & 15u;
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * block);
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 pair = (k < 2 ? raw.low.x : raw.low.y) >> (16 * (k & 1)), high = raw.high >> (2 * k);
        const u32 signs = raw.signs >> (8 * k);
        codes[0] = with_signs(magnitudes((pair & 255u) | (high & 1u) << 8), signs);
        codes[1] = with_signs(magnitudes((pair >> 8 & 255u) | (high >> 1 & 1u) << 8), signs >> 4);
    }
    static DEVICE float scale(const Raw& raw, int) { return low_half(raw.d) * (float)(1 + 2 * raw.scale); }
};

// Coordinates of 2 bits that stand for −1, 0 and 1, all shifted by an eighth: eight times as much, in integers.
DEVICE inline void iq1_codes(u32 point, bool subtract, u32* codes) {
    const u32 table = subtract ? 0x0007FFF7u : 0x000901F9u;
    codes[0] = permute_bytes(table, 0u, spread_pairs(point & 255u));
    codes[1] = permute_bytes(table, 0u, spread_pairs(point >> 8));
}

DEVICE inline float iq1_scale(u32 d, u32 s) { return low_half(d) * (float)(1 + 2 * (s & 7u)) * 0.125f; }

struct IQ1_S : Lattice<IQ1_S, layouts::IQ1_S, false> {
    struct Raw { u32 low, high, d; };

    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.low = word(tensor + (i64)4 * piece);
        raw.high = half_word(tensor + HIGH_PLANE * n_blocks + (i64)2 * piece);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * (piece >> 3));
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 index = (raw.low >> (8 * k) & 255u) | (raw.high >> (3 * k) & 7u) << 8;
        iq1_codes(IQ1_POINTS[index], raw.high >> 15 != 0, codes);
    }
    static DEVICE float scale(const Raw& raw, int) { return iq1_scale(raw.d, raw.high >> 12); }
};

// Whole blocks: 56 bytes keep every field aligned.
struct IQ1_M : Lattice<IQ1_M, layouts::IQ1_M, true> {
    struct Raw { u32 low, high; words2 scales; u32 group; };

    static DEVICE Raw load(const u8* tensor, i64, int piece) {
        const int group = piece & 7;
        const u8* at = tensor + (i64)BLOCK_BYTES * (piece >> 3);
        Raw raw;
        raw.low = word(at + 4 * group);
        raw.high = half_word(at + 32 + 2 * group);
        raw.scales = word_pair(at + 48);
        raw.group = (u32)group;
        return raw;
    }
    static DEVICE void point(const Raw& raw, int k, u32* codes) {
        const u32 bits = raw.high >> (4 * k);
        const u32 index = (raw.low >> (8 * k) & 255u) | (bits & 7u) << 8;
        iq1_codes(IQ1_POINTS[index], (bits & 8u) != 0, codes);
    }
    static DEVICE float scale(const Raw& raw, int half) {
        const words2 s = raw.scales;
        const u32 d = (s.x >> 12 & 15u) | (s.x >> 28) << 4 | (s.y >> 12 & 15u) << 8 | (s.y >> 28) << 12;
        // Two groups share 16 bits.
        const u32 bits = (raw.group < 4 ? s.x : s.y) >> (16 * (raw.group >> 1 & 1u));
        return iq1_scale(d, bits >> (6 * (raw.group & 1u) + 3 * (u32)half));
    }
};

}  // namespace formats
