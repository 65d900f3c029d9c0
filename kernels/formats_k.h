// Formats of 256 elements with two levels of scales: Q2_K to Q6_K and IQ4_XS. See formats.h.
#pragma once

namespace formats {

// Codes of 4 bits (Q4_K) or 5 (Q5_K); scale and min of 32 elements have 6 bits each.
// A piece is 64 neighbours: the two groups whose codes share 32 bytes.
template <class L, bool FIFTH>
struct Codes256 : L {
    static constexpr int PARTS = 2;
    static constexpr bool MINS = true;
    struct Raw { words4 low[2], high[2]; u32 a, b, c, d, pair; };

    static DEVICE int first_of(int piece, int v) { return 64 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 2;
        const int pair = piece & 3;
        Raw raw;
        raw.low[0] = four_words_once(tensor + (i64)32 * piece);
        raw.low[1] = four_words_once(tensor + (i64)32 * piece + 16);
        if constexpr (FIFTH) {
            const u8* high = tensor + L::HIGH_PLANE * n_blocks + (i64)L::HIGH_BYTES * block;
            raw.high[0] = four_words(high);
            raw.high[1] = four_words(high + 16);
        }
        const u8* scales = tensor + L::SCALES_PLANE * n_blocks + (i64)L::SCALES_BYTES * block + 2 * (pair & 1);
        raw.a = half_word(scales);
        raw.b = half_word(scales + 4);
        raw.c = half_word(scales + 8);
        raw.d = word(tensor + L::D_PLANE * n_blocks + (i64)L::D_BYTES * block);
        raw.pair = (u32)pair;
        return raw;
    }

    // Bit `bit` of four bytes, as bit 4.
    static DEVICE u32 fifth(u32 high, u32 bit) { return FIFTH ? (high >> bit & 0x01010101u) << 4 : 0u; }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const words4 low = raw.low[half];
            const u32 q[4] = {low.x, low.y, low.z, low.w};
            u32 h[4] = {0, 0, 0, 0};
            if (FIFTH) {
                const words4 high = raw.high[half];
                h[0] = high.x, h[1] = high.y, h[2] = high.z, h[3] = high.w;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                codes[4 * half + i] = (q[i] & 0x0F0F0F0Fu) | fifth(h[i], 2 * raw.pair);
                codes[8 + 4 * half + i] = (q[i] >> 4 & 0x0F0F0F0Fu) | fifth(h[i], 2 * raw.pair + 1);
            }
        }
        // Two scales and two mins at a time.
        const bool first = raw.pair < 2;
        const u32 s = first ? raw.a & 0x3F3Fu : (raw.c & 0x0F0Fu) | (raw.a >> 2 & 0x3030u);
        const u32 m = first ? raw.b & 0x3F3Fu : (raw.c >> 4 & 0x0F0Fu) | (raw.b >> 2 & 0x3030u);
        const float d = low_half(raw.d), dmin = high_half(raw.d);
        scales[0] = d * (float)(s & 255u), scales[1] = d * (float)(s >> 8);
        mins[0] = dmin * (float)(m & 255u), mins[1] = dmin * (float)(m >> 8);
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const int group = g >> 2, shift = group & 1 ? 4 : 0, t = group & 3;
        const words2 pair = word_pair(tensor + L::CODES_BYTES * block + 32 * (group >> 1) + 8 * (g & 3));
        words2 high = {0, 0};
        if constexpr (FIFTH) {
            high = word_pair(tensor + L::HIGH_PLANE * n_blocks + L::HIGH_BYTES * block + 8 * (g & 3));
        }
        const u8* packed = tensor + L::SCALES_PLANE * n_blocks + L::SCALES_BYTES * block;
        const u32 a = packed[t], b = packed[4 + t], c = packed[8 + t];
        const u32 s = group < 4 ? a & 63u : (c & 15u) | a >> 6 << 4;
        const u32 m = group < 4 ? b & 63u : c >> 4 | b >> 6 << 4;
        const u32 d = word(tensor + L::D_PLANE * n_blocks + L::D_BYTES * block);
        const float scale = low_half(d) * (float)s, min = high_half(d) * (float)m;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 low = (j < 4 ? pair.x : pair.y) >> (8 * (j & 3) + shift) & 15u;
            const u32 bit = (j < 4 ? high.x : high.y) >> (8 * (j & 3) + group) & 1u;
            out[j] = multiply_then_add(scale, (float)(low | bit << 4), -min);
        }
    }
};

struct Q4_K : Codes256<layouts::Q4_K, false> {};
struct Q5_K : Codes256<layouts::Q5_K, true> {};

// What Q2_K, Q3_K and Q6_K have in common: two bits each of four elements that are 32 apart share a byte. Piece
// number (h, f) of a block is elements 128·h + 32·k + 16·f and the fifteen after them, for k = 0 to 3; each of the
// four runs has a scale of its own.
DEVICE inline int first_of_strided(int piece, int k) {
    return 128 * (piece >> 1) + 32 * k + 16 * (piece & 1);
}

struct Q2_K : layouts::Q2_K {
    static constexpr int PARTS = 4;
    static constexpr bool MINS = true;
    struct Raw { words4 codes; words2 scales; u32 d; };

    static DEVICE int first_of(int piece, int v) { return first_of_strided(piece, v); }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 2;
        const int h = piece >> 1 & 1, f = piece & 1;
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        const words2 scales = word_pair(tensor + SCALES_PLANE * n_blocks + (i64)SCALES_BYTES * block + 8 * h);
        // The bytes of this f come to the places 0 and 2.
        raw.scales = {scales.x >> (8 * f), scales.y >> (8 * f)};
        raw.d = word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * block);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
        const float d = low_half(raw.d), dmin = high_half(raw.d);
#pragma unroll
        for (int k = 0; k < 4; k++) {
#pragma unroll
            for (int i = 0; i < 4; i++) codes[4 * k + i] = q[i] >> (2 * k) & 0x03030303u;
            const u32 byte = (k < 2 ? raw.scales.x : raw.scales.y) >> (16 * (k & 1));
            scales[k] = d * (float)(byte & 15u);
            mins[k] = dmin * (float)(byte >> 4 & 15u);
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const int shift = g >> 2 << 1 & 6;
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 32 * (g >> 4) + 8 * (g & 3));
        const u32 byte = tensor[SCALES_PLANE * n_blocks + SCALES_BYTES * block + (g >> 1)];
        const u32 d = word(tensor + D_PLANE * n_blocks + D_BYTES * block);
        const float scale = low_half(d) * (float)(byte & 15u), min = high_half(d) * (float)(byte >> 4);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 code = (j < 4 ? pair.x : pair.y) >> (8 * (j & 3) + shift) & 3u;
            out[j] = multiply_then_add(scale, (float)code, -min);
        }
    }
};

struct Q3_K : layouts::Q3_K {
    static constexpr int PARTS = 4;
    static constexpr bool MINS = false;
    struct Raw { words4 low, high; u32 a, b, c, d, h, f; };

    static DEVICE int first_of(int piece, int v) { return first_of_strided(piece, v); }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 2;
        Raw raw;
        raw.h = (u32)(piece >> 1 & 1), raw.f = (u32)(piece & 1);
        raw.low = four_words_once(tensor + (i64)16 * piece);
        raw.high = four_words(tensor + HIGH_PLANE * n_blocks + (i64)HIGH_BYTES * block + 16 * (piece & 1));
        const u8* scales = tensor + SCALES_PLANE * n_blocks + (i64)SCALES_BYTES * block;
        raw.a = word(scales), raw.b = word(scales + 4), raw.c = word(scales + 8);
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * block);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.low.x, raw.low.y, raw.low.z, raw.low.w};
        const u32 high[4] = {raw.high.x, raw.high.y, raw.high.z, raw.high.w};
        // Codes at the top of their bytes, the sign bit turned over: 32 times the signed number.
        const float d = low_half(raw.d) * (1.0f / 32);
#pragma unroll
        for (int k = 0; k < 4; k++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const u32 low = (q[i] >> (2 * k) & 0x03030303u) << 5;
                const u32 bit = (high[i] >> (4 * raw.h + k) & 0x01010101u) << 7;
                codes[4 * k + i] = (low | bit) ^ 0x80808080u;
            }
            // Four scales at a time: groups 8·h + 4·(k / 2) and the three after it.
            const u32 four = ((k < 2 ? raw.a : raw.b) >> (4 * raw.h) & 0x0F0F0F0Fu) |
                             (raw.c >> (4 * raw.h + 2 * (k / 2)) & 0x03030303u) << 4;
            scales[k] = d * (float)((int)(four >> (16 * (k & 1) + 8 * raw.f) & 63u) - 32);
            mins[k] = 0.0f;
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const int shift = g >> 2 << 1 & 6, group = g >> 1;
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 32 * (g >> 4) + 8 * (g & 3));
        const words2 high = word_pair(tensor + HIGH_PLANE * n_blocks + HIGH_BYTES * block + 8 * (g & 3));
        const u8* packed = tensor + SCALES_PLANE * n_blocks + SCALES_BYTES * block;
        const u32 low_scale = (u32)packed[group & 7] >> (4 * (group >> 3)) & 15u;
        const u32 high_scale = (u32)packed[8 + (group & 3)] >> (2 * (group >> 2)) & 3u;
        const float d = half_at(tensor + D_PLANE * n_blocks + D_BYTES * block);
        const float scale = d * (float)((int)(low_scale | high_scale << 4) - 32);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 low = (j < 4 ? pair.x : pair.y) >> (8 * (j & 3) + shift) & 3u;
            const u32 bit = (j < 4 ? high.x : high.y) >> (8 * (j & 3) + (g >> 2)) & 1u;
            out[j] = scale * (float)((int)(low | bit << 2) - 4);
        }
    }
};

struct Q6_K : layouts::Q6_K {
    static constexpr int PARTS = 4;
    static constexpr bool MINS = false;
    struct Raw { words4 low[2], high; words2 scales; u32 d; };

    static DEVICE int first_of(int piece, int v) { return first_of_strided(piece, v); }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        const int block = piece >> 2;
        const int h = piece >> 1 & 1, f = piece & 1;
        Raw raw;
        const u8* low = tensor + (i64)CODES_BYTES * block + 64 * h + 16 * f;
        raw.low[0] = four_words_once(low);
        raw.low[1] = four_words_once(low + 32);
        raw.high = four_words_once(tensor + HIGH_PLANE * n_blocks + (i64)HIGH_BYTES * block + 32 * h + 16 * f);
        const words2 scales = word_pair(tensor + SCALES_PLANE * n_blocks + (i64)SCALES_BYTES * block + 8 * h);
        raw.scales = {scales.x >> (8 * f), scales.y >> (8 * f)};
        raw.d = half_word(tensor + D_PLANE * n_blocks + (i64)D_BYTES * block);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 a[4] = {raw.low[0].x, raw.low[0].y, raw.low[0].z, raw.low[0].w};
        const u32 b[4] = {raw.low[1].x, raw.low[1].y, raw.low[1].z, raw.low[1].w};
        const u32 high[4] = {raw.high.x, raw.high.y, raw.high.z, raw.high.w};
        // Codes at the top of their bytes, the sign bit turned over: 4 times the signed number.
        const float d = low_half(raw.d) * 0.25f;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = ((a[i] << 2 & 0x3C3C3C3Cu) | (high[i] << 6 & 0xC0C0C0C0u)) ^ 0x80808080u;
            codes[4 + i] = ((b[i] << 2 & 0x3C3C3C3Cu) | (high[i] << 4 & 0xC0C0C0C0u)) ^ 0x80808080u;
            codes[8 + i] = ((a[i] >> 2 & 0x3C3C3C3Cu) | (high[i] << 2 & 0xC0C0C0C0u)) ^ 0x80808080u;
            codes[12 + i] = ((b[i] >> 2 & 0x3C3C3C3Cu) | (high[i] & 0xC0C0C0C0u)) ^ 0x80808080u;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const u32 byte = (k < 2 ? raw.scales.x : raw.scales.y) >> (16 * (k & 1)) & 255u;
            scales[k] = d * (float)(i8)byte;
            mins[k] = 0.0f;
        }
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const int low_shift = g >> 1 & 4, high_shift = g >> 2 << 1 & 6;
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 64 * (g >> 4) + 8 * (g & 7));
        const words2 high = word_pair(tensor + HIGH_PLANE * n_blocks + HIGH_BYTES * block + 32 * (g >> 4) + 8 * (g & 3));
        const float d = half_at(tensor + D_PLANE * n_blocks + D_BYTES * block);
        const float scale = d * (float)(i8)tensor[SCALES_PLANE * n_blocks + SCALES_BYTES * block + (g >> 1)];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 low = (j < 4 ? pair.x : pair.y) >> (8 * (j & 3) + low_shift) & 15u;
            const u32 bits = (j < 4 ? high.x : high.y) >> (8 * (j & 3) + high_shift) & 3u;
            out[j] = scale * (float)((int)(low | bits << 4) - 32);
        }
    }
};

struct IQ4_XS : layouts::IQ4_XS {
    static constexpr int PARTS = 1;
    static constexpr bool MINS = false;
    struct Raw { words4 codes; words2 rest; u32 group; };

    // rest.x: d below, the high bits of the scales above; rest.y: their low bits.
    static DEVICE float scale_of(words2 rest, u32 group) {
        const u32 s = (rest.y >> (4 * group) & 15u) | (rest.x >> (16 + 2 * group) & 3u) << 4;
        return low_half(rest.x) * (float)((int)s - 32);
    }

    static DEVICE int first_of(int piece, int v) { return 32 * piece + 16 * v; }
    static DEVICE Raw load(const u8* tensor, i64 n_blocks, int piece) {
        Raw raw;
        raw.codes = four_words_once(tensor + (i64)16 * piece);
        raw.rest = word_pair(tensor + REST_PLANE * n_blocks + (i64)REST_BYTES * (piece >> 3));
        raw.group = (u32)(piece & 7);
        return raw;
    }

    static DEVICE void unpack(const Raw& raw, u32* codes, float* scales, float* mins) {
        const u32 q[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = iq4_values(q[i] & 0x0F0F0F0Fu);
            codes[4 + i] = iq4_values(q[i] >> 4 & 0x0F0F0F0Fu);
        }
        scales[0] = scale_of(raw.rest, raw.group);
        mins[0] = 0.0f;
    }

    static DEVICE void eight(const u8* tensor, i64 n_blocks, i64 block, int g, float* out) {
        const words2 pair = word_pair(tensor + CODES_BYTES * block + 16 * (g >> 2) + 8 * (g & 1));
        const float scale = scale_of(word_pair(tensor + REST_PLANE * n_blocks + REST_BYTES * block), (u32)(g >> 2));
        const int shift = g << 1 & 4;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            out[j] = scale * (float)iq4_value((j < 4 ? pair.x : pair.y) >> (8 * (j & 3) + shift) & 15u);
        }
    }
};

}  // namespace formats
