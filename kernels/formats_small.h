// Formats of few bits that are read as whole blocks: TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0. See formats.h.
#pragma once

namespace formats {

// Digit n of a byte of TQ1_0: the integer part of 3 · frac(3ⁿ · byte / 256), less one.
DEVICE inline int ternary_digit(u32 byte, int n) {
    const u32 power = n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81;
    return (int)((byte * power & 255u) * 3 >> 8) - 1;
}

struct TQ1_0 {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 54 * block;
        const float d = half_at(at + 52);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const int i = 8 * g + j, in_second = i - 160, in_third = i - 240;
            int byte = i & 31, n = i >> 5;
            if (in_third >= 0) {
                byte = 48 + (in_third & 3), n = in_third >> 2;
            } else if (in_second >= 0) {
                byte = 32 + (in_second & 15), n = in_second >> 4;
            }
            out[j] = d * (float)ternary_digit(at[byte], n);
        }
    }
};

struct TQ2_0 {
    static constexpr int BLOCK = 256;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 66 * block;
        const u8* codes = at + 32 * (g >> 4) + 8 * (g & 3);
        const float d = half_at(at + 64);
        const int shift = g >> 2 << 1 & 6;
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] = d * (float)((int)((u32)codes[j] >> shift & 3u) - 1);
    }
};

// Twice the values of E2M1: 0 1 2 3 4 6 8 12 and the same below zero.
DEVICE inline int e2m1_doubled(u32 code) {
    const int magnitude = (int)(permute_bytes(0x03020100u, 0x0C080604u, code & 7u) & 255u);
    return code & 8u ? -magnitude : magnitude;
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

struct MXFP4 {
    static constexpr int BLOCK = 32;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 17 * block;
        const float half_scale = half_e8m0(at[0]);
        const int shift = g << 1 & 4;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            out[j] = half_scale * (float)e2m1_doubled((u32)at[1 + 8 * (g & 1) + j] >> shift & 15u);
        }
    }
};

struct NVFP4 {
    static constexpr int BLOCK = 64;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 36 * block;
        const float half_scale = half_ue4m3(at[g >> 1]);
        const int shift = g << 2 & 4;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            out[j] = half_scale * (float)e2m1_doubled((u32)at[4 + 8 * (g >> 1) + j] >> shift & 15u);
        }
    }
};

struct Q1_0 {
    static constexpr int BLOCK = 128;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 18 * block;
        const float d = half_at(at);
        const u32 bits = at[2 + g];
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] = bits >> j & 1u ? d : -d;
    }
};

struct Q2_0 {
    static constexpr int BLOCK = 64;
    static constexpr bool PLAIN = false;
    static DEVICE void eight(const u8* tensor, i64, i64 block, int g, float* out) {
        const u8* at = tensor + 18 * block;
        const float d = half_at(at);
        const u32 codes = half_word(at + 2 + 2 * g);
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] = d * (float)((int)(codes >> (2 * j) & 3u) - 1);
    }
};

}  // namespace formats
