// Elements of the plain types one by one and four at a time, and where rows of a tensor are: what kernels
// over single elements share.
#pragma once

#include "platform.h"
#include "tables.h"

DEVICE inline int plain_bytes(int type) { return type == TYPE_F16 || type == TYPE_BF16 ? 2 : 4; }

// Towards zero; what is too large gives the largest number, a NaN gives 0.
DEVICE inline i32 float_to_i32(float x) {
    if (x != x) return 0;
    if (x >= 2147483648.0f) return 2147483647;
    if (x < -2147483648.0f) return (i32)0x80000000u;
    return (i32)x;
}

DEVICE inline float load_plain(int type, const u8* p) {
    switch (type) {
        case TYPE_F16: return half_to_float(*(const u16*)p);
        case TYPE_BF16: return bf16_to_float(*(const u16*)p);
        case TYPE_I32: return (float)*(const i32*)p;
        default: return *(const float*)p;
    }
}

DEVICE inline void store_plain(int type, u8* p, float x) {
    switch (type) {
        case TYPE_F16: *(u16*)p = float_to_half(x); break;
        case TYPE_BF16: *(u16*)p = float_to_bf16(x); break;
        case TYPE_I32: *(i32*)p = float_to_i32(x); break;
        default: *(float*)p = x; break;
    }
}

DEVICE inline bool is_aligned(const void* p, int bytes) { return ((u64)p & (u64)(bytes - 1)) == 0; }

// `count` (1 to 4) elements that lie `step` bytes apart; the rest are 0.
DEVICE inline floats4 load_four(const float* at, i64 step, int count) {
    const u8* p = (const u8*)at;
    if (count == 4 && step == 4 && is_aligned(p, 16)) return *(const floats4*)p;
    floats4 x = {0.0f, 0.0f, 0.0f, 0.0f};
    x.x = *(const float*)p;
    if (count > 1) x.y = *(const float*)(p + step);
    if (count > 2) x.z = *(const float*)(p + 2 * step);
    if (count > 3) x.w = *(const float*)(p + 3 * step);
    return x;
}

// The same for every plain type.
DEVICE inline floats4 load_four(int type, const u8* p, i64 step, int count) {
    if (type == TYPE_F32) return load_four((const float*)p, step, count);
    floats4 x = {0.0f, 0.0f, 0.0f, 0.0f};
    if (type != TYPE_I32 && count == 4 && step == 2 && is_aligned(p, 8)) {
        words2 halves = *(const words2*)p;
        bool f16 = type == TYPE_F16;
        x.x = f16 ? half_to_float((u16)halves.x) : bf16_to_float((u16)halves.x);
        x.y = f16 ? half_to_float((u16)(halves.x >> 16)) : bf16_to_float((u16)(halves.x >> 16));
        x.z = f16 ? half_to_float((u16)halves.y) : bf16_to_float((u16)halves.y);
        x.w = f16 ? half_to_float((u16)(halves.y >> 16)) : bf16_to_float((u16)(halves.y >> 16));
        return x;
    }
    x.x = load_plain(type, p);
    if (count > 1) x.y = load_plain(type, p + step);
    if (count > 2) x.z = load_plain(type, p + 2 * step);
    if (count > 3) x.w = load_plain(type, p + 3 * step);
    return x;
}

// Stores the first `count` (1 to 4) side by side.
DEVICE inline void store_four(float* p, floats4 x, int count) {
    if (count == 4 && is_aligned(p, 16)) {
        *(floats4*)p = x;
        return;
    }
    p[0] = x.x;
    if (count > 1) p[1] = x.y;
    if (count > 2) p[2] = x.z;
    if (count > 3) p[3] = x.w;
}

// The same for every plain type.
DEVICE inline void store_four(int type, u8* p, floats4 x, int count) {
    if (type == TYPE_F32) {
        store_four((float*)p, x, count);
        return;
    }
    int bytes = plain_bytes(type);
    if (type != TYPE_I32 && count == 4 && is_aligned(p, 8)) {
        bool f16 = type == TYPE_F16;
        u32 a = f16 ? float_to_half(x.x) : float_to_bf16(x.x);
        u32 b = f16 ? float_to_half(x.y) : float_to_bf16(x.y);
        u32 c = f16 ? float_to_half(x.z) : float_to_bf16(x.z);
        u32 d = f16 ? float_to_half(x.w) : float_to_bf16(x.w);
        words2 halves = {a | b << 16, c | d << 16};
        *(words2*)p = halves;
        return;
    }
    store_plain(type, p, x.x);
    if (count > 1) store_plain(type, p + bytes, x.y);
    if (count > 2) store_plain(type, p + 2 * bytes, x.z);
    if (count > 3) store_plain(type, p + 3 * bytes, x.w);
}

// The indices of a row in the dimensions 1 to 3. There are fewer than 2³¹ rows, since a grid has no more blocks.
struct RowIndex { u32 i1, i2, i3; };

// Of row number `row`, counted in order.
DEVICE inline RowIndex row_index(const Layout& of, u32 row) {
    RowIndex none = {0, 0, 0};
    if (row == 0) return none;
    u32 n1 = (u32)of.ne[1], n2 = (u32)of.ne[2];
    u32 upper = row / n1;
    RowIndex index = {row - upper * n1, upper % n2, upper / n2};
    return index;
}

// Bytes from a tensor's first element to that row.
DEVICE inline i64 row_offset(const Layout& of, RowIndex index) {
    return index.i1 * of.nb[1] + index.i2 * of.nb[2] + index.i3 * of.nb[3];
}

// The same in a tensor that is repeated where it is smaller.
DEVICE inline i64 repeated_row_offset(const Layout& of, RowIndex index) {
    RowIndex inside = {index.i1 % (u32)of.ne[1], index.i2 % (u32)of.ne[2], index.i3 % (u32)of.ne[3]};
    return row_offset(of, inside);
}

// A thread's share: `count` elements from `first` on of a row. Rows have `n` elements, and each is cut into
// `pieces`, one for a block; a thread takes up to `each` elements.
struct Share { u32 row; int count; i64 first; };

DEVICE inline Share share_of_thread(i64 n, i32 pieces, int each) {
    u32 block = (u32)block_index_x();
    u32 row = block < (u32)pieces ? 0 : block / (u32)pieces;
    i64 first = ((i64)(block - row * (u32)pieces) * block_size() + thread_index()) * each;
    i64 left = n - first;
    Share share = {row, left <= 0 ? 0 : left < each ? (int)left : each, first};
    return share;
}
