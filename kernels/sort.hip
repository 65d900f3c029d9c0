// Indices of a row's elements by size.
//
// An element and its index become one 64-bit key, so that of two elements the one that comes first has the smaller key:
// equal elements are ordered by index, -0 equals 0, and NaN counts as -infinity. All keys of a row differ, so every
// sorting method gives the same result.
#include "elements.h"

// Greater than every element's key.
#define NO_KEY 0xFFFFFFFFFFFFFFFFull

DEVICE inline u64 key_of(float x, i64 i, int descending) {
    union { float value; u32 word; } u;
    u.value = x != x ? -INFINITY_F : x;
    if (u.word == 0x80000000u) u.word = 0;
    // Map floats to ordered words: those of negative numbers are reversed.
    u32 order = u.word & 0x80000000u ? ~u.word : u.word | 0x80000000u;
    return (u64)(descending ? ~order : order) << 32 | (u32)i;
}

DEVICE inline i32 index_of(u64 key) { return (i32)(u32)key; }

// The smallest key of the block, at `keys[0]`; `keys` has one for each thread.
DEVICE inline void smallest_of_block(u64* keys) {
    int t = thread_index();
    for (int half = SORT_THREADS / 2; half > 0; half /= 2) {
        barrier();
        if (t < half && keys[t + half] < keys[t]) keys[t] = keys[t + half];
    }
}

// The first element of each of `parts` parts of a row, `part` elements each. A single part gives the result directly.
KERNEL_OF(SORT_THREADS, argmax_parts)
(const float* x, Layout x_at, i64 n, i32 parts, i32 part, u64* firsts, i32* out) {
    SHARED u64 keys[SORT_THREADS];
    u32 block = (u32)block_index_x();
    u32 row = block / (u32)parts;
    const float* from = (const float*)((const u8*)x + row_offset(x_at, row_index(x_at, row)));
    i64 start = (i64)(block - row * (u32)parts) * part, end = start + part < n ? start + part : n;
    u64 first = NO_KEY;
#pragma unroll 8
    for (i64 i = start + thread_index(); i < end; i += SORT_THREADS) {
        u64 key = key_of(from[i], i, 1);
        first = key < first ? key : first;
    }
    keys[thread_index()] = first;
    smallest_of_block(keys);
    if (thread_index() != 0) return;
    if (parts == 1) {
        out[row] = index_of(keys[0]);
    } else {
        firsts[block] = keys[0];
    }
}

// The first element of a row, from its parts. One block per row.
KERNEL_OF(SORT_THREADS, argmax_join)(const u64* firsts, i32 parts, i32* out) {
    SHARED u64 keys[SORT_THREADS];
    const u64* from = firsts + (i64)block_index_x() * parts;
    u64 first = NO_KEY;
    for (int i = thread_index(); i < parts; i += SORT_THREADS) first = from[i] < first ? from[i] : first;
    keys[thread_index()] = first;
    smallest_of_block(keys);
    if (thread_index() == 0) out[block_index_x()] = index_of(keys[0]);
}

DEVICE inline void put_in_order(u64* a, u64* b) {
    u64 x = *a, y = *b;
    if (y < x) {
        *a = y;
        *b = x;
    }
}

// The partners of comparison number `i`, `half` apart; mirrored within their 2·`half` for `flip`.
//
// A bitonic network (Batcher 1968) in the form that always puts the smaller first: two sorted halves become one sorted
// run by comparing mirrored partners, then partners a quarter, an eighth … apart.
struct Partners { i64 a, b; };

DEVICE inline Partners partners(i64 i, i64 half, int flip) {
    i64 inside = i & (half - 1), start = (i - inside) * 2;
    Partners pair = {start + inside, flip ? start + 2 * half - 1 - inside : start + inside + half};
    return pair;
}

// One step of the network over `size` keys in shared memory, `size` a power of two.
DEVICE inline void network_step(u64* keys, int size, int half, int flip) {
    barrier();
    for (int i = thread_index(); i < size / 2; i += SORT_THREADS) {
        Partners pair = partners(i, half, flip);
        put_in_order(keys + pair.a, keys + pair.b);
    }
}

DEVICE inline void sort_shared(u64* keys, int size) {
    for (int half = 1; half < size; half *= 2) {
        network_step(keys, size, half, 1);
        for (int next = half / 2; next > 0; next /= 2) network_step(keys, size, next, 0);
    }
    barrier();
}

// Writes the first `keep` of the block's sorted keys: as keys for another step, or as the result.
DEVICE inline void give_first(const u64* keys, int keep, u64* firsts, i32* out, int last) {
    i64 start = (i64)block_index_x() * keep;
    for (int i = thread_index(); i < keep; i += SORT_THREADS) {
        if (last) {
            out[start + i] = index_of(keys[i]);
        } else {
            firsts[start + i] = keys[i];
        }
    }
}

// Sorts each of `parts` parts of a row, `size` elements each (a power of two), and keeps the first ones.
KERNEL_OF(SORT_THREADS, sort_elements)
(const float* x, Layout x_at, i64 n, i32 parts, i32 size, i32 descending, i32 keep, u64* firsts, i32* out, i32 last) {
    DYNAMIC_SHARED(u64, keys);
    u32 block = (u32)block_index_x();
    u32 row = block / (u32)parts;
    const float* from = (const float*)((const u8*)x + row_offset(x_at, row_index(x_at, row)));
    i64 start = (i64)(block - row * (u32)parts) * size;
    for (int i = thread_index(); i < size; i += SORT_THREADS) {
        keys[i] = start + i < n ? key_of(from[start + i], start + i, descending) : NO_KEY;
    }
    sort_shared(keys, size);
    give_first(keys, keep, firsts, out, last);
}

// Sorts the parts of rows of `n` keys, and keeps the first ones.
KERNEL_OF(SORT_THREADS, sort_keys)
(const u64* x, i64 n, i32 parts, i32 size, i32 keep, u64* firsts, i32* out, i32 last) {
    DYNAMIC_SHARED(u64, keys);
    u32 block = (u32)block_index_x();
    u32 row = block / (u32)parts;
    i64 start = (i64)(block - row * (u32)parts) * size;
    for (int i = thread_index(); i < size; i += SORT_THREADS) {
        keys[i] = start + i < n ? x[row * n + start + i] : NO_KEY;
    }
    sort_shared(keys, size);
    give_first(keys, keep, firsts, out, last);
}

// One step of the network over keys in device memory; `pairs` comparisons.
KERNEL_OF(SORT_THREADS, merge_far)(u64* keys, i64 pairs, i64 half, i32 flip) {
    i64 i = (i64)block_index_x() * SORT_THREADS + thread_index();
    if (i >= pairs) return;
    Partners pair = partners(i, half, flip);
    put_in_order(keys + pair.a, keys + pair.b);
}

// The steps within `size` keys, after those over larger distances. A row has `parts` · `size` keys; after the last step
// its first `keep` indices are the result.
KERNEL_OF(SORT_THREADS, merge_near)(u64* keys, i32 parts, i32 size, i32 keep, i32* out, i32 last) {
    DYNAMIC_SHARED(u64, near);
    u32 block = (u32)block_index_x();
    u64* from = keys + (i64)block * size;
    for (int i = thread_index(); i < size; i += SORT_THREADS) near[i] = from[i];
    for (int half = size / 2; half > 0; half /= 2) network_step(near, size, half, 0);
    barrier();
    u32 row = block / (u32)parts;
    i64 start = (i64)(block - row * (u32)parts) * size;
    for (int i = thread_index(); i < size; i += SORT_THREADS) {
        if (!last) {
            from[i] = near[i];
        } else if (start + i < keep) {
            out[(i64)row * keep + start + i] = index_of(near[i]);
        }
    }
}
