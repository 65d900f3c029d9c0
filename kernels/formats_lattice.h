// Formats whose codes are points of a lattice: IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S. Whole blocks,
// read in single bytes and halves. See formats.h.
#pragma once

#include "lattice_points.h"

namespace formats {

// Writes ±scale · magnitude; bit j of `signs` makes element j negative.
DEVICE inline void write_signed(const u32* magnitudes, u32 signs, float scale, float* out) {
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int magnitude = (int)magnitudes[j];
        out[j] = scale * (float)(signs >> j & 1u ? -magnitude : magnitude);
    }
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
DEVICE inline void write_iq2(u32 point, u32 signs, float scale, float* out) {
    u32 magnitudes[8];
#pragma unroll
    for (int j = 0; j < 8; j++) magnitudes[j] = 0x2B1908u >> (8 * (point >> (2 * j) & 3u)) & 255u;
    write_signed(magnitudes, signs, scale, out);
}

DEVICE inline float iq2_scale(float d, u32 s) { return d * (0.5f + (float)(s & 15u)) * 0.25f; }

struct IQ2_XXS {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 66 * block;
        const u8* group = at + 2 + 8 * (g >> 2);
        const u32 bits = word_of_halves(group + 4);
        const u32 point = IQ2_XXS_POINTS[group[g & 3]];
        write_iq2(point, signs_of_7_bits(bits >> (7 * (g & 3))), iq2_scale(half_at(at), bits >> 28), out);
    }
};

struct IQ2_XS {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 74 * block;
        const u32 code = half_word(at + 2 + 2 * g);
        const float scale = iq2_scale(half_at(at), (u32)at[66 + (g >> 2)] >> (g << 1 & 4));
        write_iq2(IQ2_XS_POINTS[code & 511u], signs_of_7_bits(code >> 9), scale, out);
    }
};

struct IQ2_S {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 82 * block;
        const u32 high = (u32)at[66 + (g >> 2)] >> (2 * (g & 3)) & 3u;
        const float scale = iq2_scale(half_at(at), (u32)at[74 + (g >> 2)] >> (g << 1 & 4));
        write_iq2(IQ2_S_POINTS[at[2 + g] | high << 8], at[34 + g], scale, out);
    }
};

// Coordinates of 4 bits: 4, 12, 20 and so on, but the last is 62.
struct IQ3_XXS {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 98 * block;
        const u32 bits = word_of_halves(at + 66 + 4 * (g >> 2));
        const u32 points = (u32)IQ3_XXS_POINTS[at[2 + 2 * g]] | (u32)IQ3_XXS_POINTS[at[3 + 2 * g]] << 16;
        u32 magnitudes[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 index = points >> (4 * j) & 15u;
            magnitudes[j] = 8 * index + 4 + (index == 7 ? 2 : 0);
        }
        const float scale = half_at(at) * (0.5f + (float)(bits >> 28)) * 0.5f;
        write_signed(magnitudes, signs_of_7_bits(bits >> (7 * (g & 3))), scale, out);
    }
};

// Coordinates of 4 bits: the odd numbers.
struct IQ3_S {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 110 * block;
        const u32 high = (u32)at[66 + (g >> 2)] >> (2 * (g & 3));
        const u32 a = IQ3_S_POINTS[at[2 + 2 * g] | (high & 1u) << 8];
        const u32 b = IQ3_S_POINTS[at[3 + 2 * g] | (high >> 1 & 1u) << 8];
        const u32 points = a | b << 16, s = (u32)at[106 + (g >> 3)] >> (g & 4) & 15u;
        u32 magnitudes[8];
#pragma unroll
        for (int j = 0; j < 8; j++) magnitudes[j] = 2 * (points >> (4 * j) & 15u) + 1;
        write_signed(magnitudes, at[74 + g], half_at(at) * (float)(1 + 2 * s), out);
    }
};

// Coordinates of 2 bits that stand for −1, 0 and 1, all shifted by an eighth.
DEVICE inline void write_iq1(u32 point, bool subtract, float scale, float* out) {
    const float shift = subtract ? -0.125f : 0.125f;
#pragma unroll
    for (int j = 0; j < 8; j++) out[j] = scale * ((float)((int)(point >> (2 * j) & 3u) - 1) + shift);
}

struct IQ1_S {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 50 * block;
        const u32 bits = half_word(at + 34 + 2 * (g >> 2));
        const u32 index = at[2 + g] | (bits >> (3 * (g & 3)) & 7u) << 8;
        write_iq1(IQ1_POINTS[index], bits >> 15 != 0, half_at(at) * (float)(1 + 2 * (bits >> 12 & 7u)), out);
    }
};

struct IQ1_M {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 56 * block;
        const u8* scales = at + 48;
        const u32 d = half_word(scales) >> 12 | half_word(scales + 2) >> 12 << 4 | half_word(scales + 4) >> 12 << 8 |
                      half_word(scales + 6) >> 12 << 12;
        const u32 s = half_word(scales + 2 * (g >> 3)) >> (3 * (g >> 1 & 3)) & 7u;
        const u32 bits = (u32)at[32 + (g >> 1)] >> (4 * (g & 1));
        const u32 index = at[g] | (bits & 7u) << 8;
        write_iq1(IQ1_POINTS[index], (bits & 8u) != 0, half_to_float((u16)d) * (float)(1 + 2 * s), out);
    }
};

}  // namespace formats
