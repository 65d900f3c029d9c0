// Elements of a KV cache, eight adjacent ones at a time. A cache is a state of a plain type, of Q8_0 or of Q4_0; its
// blocks are stored as in a file, since kernels write them one by one (see formats_legacy.h).
#pragma once

#include "elements.h"
#include "formats_legacy.h"

// The elements of a block, equal for both formats, and its bytes.
constexpr int CACHE_BLOCK = layouts::Q8_0::BLOCK;
static_assert(layouts::Q4_0::BLOCK == CACHE_BLOCK, "blocks of one size");
static_assert(layouts::Q8_0::SCALE_AT == 0 && layouts::Q4_0::SCALE_AT == 0, "blocks begin with their scale");
DEVICE inline int cache_block_bytes(int type) {
    if (type == TYPE_Q8_0) return layouts::Q8_0::BLOCK_BYTES;
    return layouts::Q4_0::BLOCK_BYTES;
}
DEVICE inline bool is_blocks(int type) { return type == TYPE_Q8_0 || type == TYPE_Q4_0; }

// The block of element `at` of a row, and the index of the element's group of eight in that block.
DEVICE inline const u8* block_of(const u8* row, int type, int at) {
    return row + at / CACHE_BLOCK * cache_block_bytes(type);
}
DEVICE inline int eight_of(int at) { return at % CACHE_BLOCK / 8; }

// Eight elements as stored in memory. The 16-bit types fill four words, blocks three: codes, then the scale.
struct Eight { u32 word[8]; };

DEVICE inline Eight no_eight() {
    Eight x;
#pragma unroll
    for (int i = 0; i < 8; i++) x.word[i] = 0;
    return x;
}

// Elements `at`, a multiple of eight, to at + 7 of a row; the first `count` of them exist (in blocks, all do).
// `aligned`: the row begins at a multiple of 16 bytes.
DEVICE inline Eight load_eight(const u8* row, int type, int at, int count, bool aligned) {
    Eight x;
    if (type == TYPE_Q8_0) {
        const formats::Q8_0::Eight eight = formats::Q8_0::eight_of_block(block_of(row, type, at), eight_of(at));
        x.word[0] = eight.codes.x, x.word[1] = eight.codes.y, x.word[2] = eight.scale;
        return x;
    }
    if (type == TYPE_Q4_0) {
        const formats::Q4_0::Eight eight = formats::Q4_0::eight_of_block(block_of(row, type, at), eight_of(at));
        x.word[0] = eight.low.x, x.word[1] = eight.low.y, x.word[2] = eight.scale;
        return x;
    }
    const u8* p = row + at * plain_bytes(type);
    if (aligned && count >= 8) {
        const words4 a = *(const words4*)p;
        x.word[0] = a.x, x.word[1] = a.y, x.word[2] = a.z, x.word[3] = a.w;
        if (type == TYPE_F32) {
            const words4 b = *(const words4*)(p + 16);
            x.word[4] = b.x, x.word[5] = b.y, x.word[6] = b.z, x.word[7] = b.w;
        }
    } else if (type == TYPE_F32) {
#pragma unroll
        for (int i = 0; i < 8; i++) x.word[i] = i < count ? ((const u32*)p)[i] : 0;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 low = 2 * i < count ? ((const u16*)p)[2 * i] : 0;
            const u32 high = 2 * i + 1 < count ? ((const u16*)p)[2 * i + 1] : 0;
            x.word[i] = low | high << 16;
        }
    }
    return x;
}

// The values of the elements loaded from `at`.
DEVICE inline void eight_values(const Eight& x, int type, int at, float* out) {
    if (type == TYPE_Q8_0) {
        formats::Q8_0::values({{x.word[0], x.word[1]}, x.word[2]}, eight_of(at), out);
    } else if (type == TYPE_Q4_0) {
        formats::Q4_0::values({{x.word[0], x.word[1]}, 0, x.word[2]}, eight_of(at), out);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (type == TYPE_F32) {
                out[i] = formats::float_of_bits(x.word[i]);
                continue;
            }
            const u16 bits = (u16)(i & 1 ? x.word[i / 2] >> 16 : x.word[i / 2]);
            out[i] = type == TYPE_F16 ? half_to_float(bits) : bf16_to_float(bits);
        }
    }
}
