// Writes the heads of new tokens into the cache. One thread block per token.
#include "cache.h"
#include "rows.h"

// The slot of this block's token; -1 if it is negative, out of range, or also that of a later token: of tokens with the
// same slot the last is written. Uniform over the block.
DEVICE inline i32 slot_to_write(const i32* slots, int n_tokens, const Layout& state_at, float* shared) {
    const int token = block_index_x();
    const i32 slot = slots[token];
    if (slot < 0 || slot >= state_at.ne[2]) return -1;
    float later = 0;
    for (int i = token + 1 + thread_index(); i < n_tokens; i += block_size()) {
        if (slots[i] == slot) later = 1;
    }
    return block_max(later, shared) != 0 ? -1 : slot;
}

KERNEL_OF(KV_WRITE_THREADS, kv_write)
(u8* state, Layout state_at, i32 type, const float* rows, Layout rows_at, const i32* slots) {
    SHARED float shared[ROW_WAVES];
    const int token = block_index_x();
    const i32 slot = slot_to_write(slots, (int)rows_at.ne[2], state_at, shared);
    if (slot < 0) return;
    const int n = (int)rows_at.ne[0], fours = (n + 3) / 4, items = fours * (int)rows_at.ne[1];
    const int bytes = plain_bytes(type);
    for (int item = thread_index(); item < items; item += block_size()) {
        const int head = item / fours, at = item % fours * 4, count = n - at < 4 ? n - at : 4;
        const u8* from = (const u8*)rows + token * rows_at.nb[2] + head * rows_at.nb[1] + at * 4;
        u8* to = state + slot * state_at.nb[2] + head * state_at.nb[1] + at * bytes;
        store_four(type, to, load_four((const float*)from, 4, count), count);
    }
}

DEVICE inline void store_word(u8* p, u32 word) {
    *(u16*)p = (u16)word;
    *(u16*)(p + 2) = (u16)(word >> 16);
}

// The element of largest magnitude of the 32 of eight lanes, the first if several; NaN counts as infinite. Every lane
// of the wave calls it.
DEVICE inline float extreme_of_block(const float* x) {
    float extreme = 0.0f, size = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float magnitude = x[i] == x[i] ? fabsf(x[i]) : INFINITY_F;
        if (magnitude > size) extreme = x[i], size = magnitude;
    }
#pragma unroll
    for (int mask = 1; mask < 8; mask <<= 1) {
        const float other = wave_shuffle_xor(extreme, mask), other_size = wave_shuffle_xor(size, mask);
        const bool comes_first = lane_index() & mask;
        if (other_size > size || (other_size == size && comes_first)) extreme = other, size = other_size;
    }
    return size < INFINITY_F ? extreme : INFINITY_F;
}

// Rounded as src/tensor/blocks/store.rs says.
// Eight lanes take a block, four neighbours each. The caller names only the block formats of cache.h.
KERNEL_OF(KV_WRITE_THREADS, kv_write_blocks)
(u8* state, Layout state_at, i32 type, const float* rows, Layout rows_at, const i32* slots) {
    SHARED float shared[ROW_WAVES];
    const int token = block_index_x();
    const i32 slot = slot_to_write(slots, (int)rows_at.ne[2], state_at, shared);
    if (slot < 0) return;
    const int fours = (int)rows_at.ne[0] / 4, items = fours * (int)rows_at.ne[1];
    // All lanes of a wave stay in the loop together.
    for (int start = 0; start < items; start += block_size()) {
        const int item = start + thread_index(), head = item / fours, at = item % fours * 4;
        const bool there = item < items;
        floats4 four = {0.0f, 0.0f, 0.0f, 0.0f};
        if (there) {
            const u8* from = (const u8*)rows + token * rows_at.nb[2] + head * rows_at.nb[1] + at * 4;
            four = load_four((const float*)from, 4, 4);
        }
        const float x[4] = {four.x, four.y, four.z, four.w};
        const float extreme = extreme_of_block(x);
        const float d = type == TYPE_Q8_0 ? fabsf(extreme) / 127.0f : extreme / -8.0f;
        u16 scale = float_to_half(d);
        const bool finite = (scale & 0x7C00u) != 0x7C00u;
        if (!finite) scale = 0x7C00u;
        // Avoids codes of zero times an infinite scale.
        const float inverse = d == 0.0f || !finite ? 0.0f : 1.0f / d;
        u32 codes = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float value = finite ? x[i] : 0.0f;
            u32 code;
            if (type == TYPE_Q8_0) {
                code = (u32)(i32)fmaxf(fminf(roundf(value * inverse), 127.0f), -127.0f) & 255u;
            } else {
                code = (u32)(i32)fmaxf(fminf(multiply_then_add(value, inverse, 8.5f), 15.0f), 0.0f);
            }
            codes |= code << (8 * i);
        }
        // A byte of Q4_0 holds a code and the code 16 elements later.
        const u32 partner = (u32)wave_shuffle_xor((i32)codes, 4);
        if (!there) continue;
        u8* row = state + slot * state_at.nb[2] + head * state_at.nb[1];
        u8* to = row + at / CACHE_BLOCK * cache_block_bytes(type);
        const int within = at % CACHE_BLOCK;
        if (within == 0) *(u16*)to = scale;
        if (type == TYPE_Q8_0) {
            store_word(to + layouts::Q8_0::CODES_AT + within, codes);
        } else if (within < 16) {
            store_word(to + layouts::Q4_0::CODES_AT + within, codes | partner << 4);
        }
    }
}
