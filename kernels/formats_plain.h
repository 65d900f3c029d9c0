// Words of a block, and the types without blocks. See formats.h.
#pragma once

#include "platform.h"

namespace formats {

DEVICE inline u32 word(const u8* p) { return *reinterpret_cast<const u32*>(p); }
DEVICE inline words2 word_pair(const u8* p) { return *reinterpret_cast<const words2*>(p); }
DEVICE inline u32 half_word(const u8* p) { return *reinterpret_cast<const u16*>(p); }
// A word at an even address.
DEVICE inline u32 word_of_halves(const u8* p) { return half_word(p) | half_word(p + 2) << 16; }
DEVICE inline float half_at(const u8* p) { return half_to_float((u16)half_word(p)); }
DEVICE inline words4 four_words(const u8* p) { return *reinterpret_cast<const words4*>(p); }
DEVICE inline words4 four_words_once(const u8* p) { return load_once(reinterpret_cast<const words4*>(p)); }
DEVICE inline float low_half(u32 pair) { return half_to_float((u16)(pair & 0xFFFF)); }
DEVICE inline float high_half(u32 pair) { return half_to_float((u16)(pair >> 16)); }
DEVICE inline float float_of_bits(u32 bits) {
    union { u32 word; float value; } u;
    u.word = bits;
    return u.value;
}

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

}  // namespace formats
