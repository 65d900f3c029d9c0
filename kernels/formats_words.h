// Words of a block. See formats.h.
#pragma once

#include "platform.h"
#include "tables.h"

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

}  // namespace formats
