// Reading a row of an F32 tensor by a block, and combining its threads' values.
//
// Thread t of T takes the elements 4t … 4t + 3, then 4(t + T) … and so on; the first few of these groups are kept in
// registers, later ones are read again. A thread writes only its own elements, so a row may be written in place.
#pragma once

#include "elements.h"

#define ROW_KEPT 2
// The most waves of a block.
#define ROW_WAVES 32

struct Row {
    const u8* p;
    i64 step;
    int n;
    floats4 kept[ROW_KEPT];
};

DEVICE inline floats4 row_load(const Row& row, int at) {
    const int left = row.n - at;
    return load_four((const float*)(row.p + at * row.step), row.step, left < 4 ? left : 4);
}

DEVICE inline Row row_open(const u8* p, i64 step, int n) {
    Row row;
    row.p = p;
    row.step = step;
    row.n = n;
#pragma unroll
    for (int i = 0; i < ROW_KEPT; i++) {
        const int at = 4 * (thread_index() + i * block_size());
        if (at < n) row.kept[i] = row_load(row, at);
    }
    return row;
}

// The row of this block, number block_index_x().
DEVICE inline Row row_of_block(const float* x, const Layout& x_at) {
    const i64 offset = row_offset(x_at, row_index(x_at, (u32)block_index_x()));
    return row_open((const u8*)x + offset, x_at.nb[0], (int)x_at.ne[0]);
}

// Calls f(four elements, the first one's index, how many of them exist) for each group of this thread.
template <class F> DEVICE inline void row_each(const Row& row, F f) {
#pragma unroll
    for (int i = 0; i < ROW_KEPT; i++) {
        const int at = 4 * (thread_index() + i * block_size());
        const int left = row.n - at;
        if (left > 0) f(row.kept[i], at, left < 4 ? left : 4);
    }
    for (int at = 4 * (thread_index() + ROW_KEPT * block_size()); at < row.n; at += 4 * block_size()) {
        const int left = row.n - at;
        f(row_load(row, at), at, left < 4 ? left : 4);
    }
}

// Calls f(four elements, the first one's index) for each group of the threads; those past the row's end get zeros, as the whole
// wave takes part in shuffles.
template <class F> DEVICE inline void row_each_padded(const Row& row, F f) {
#pragma unroll
    for (int i = 0; i < ROW_KEPT; i++) {
        const int first = 4 * i * block_size();
        if (first < row.n) f(row.kept[i], first + 4 * thread_index());
    }
    for (int first = 4 * ROW_KEPT * block_size(); first < row.n; first += 4 * block_size()) {
        const int at = first + 4 * thread_index();
        f(at < row.n ? row_load(row, at) : floats4{0.0f, 0.0f, 0.0f, 0.0f}, at);
    }
}

// The sum of f over the existing elements.
template <class F> DEVICE inline float sum_of_four(floats4 x, int count, F f) {
    float sum = f(x.x);
    if (count > 1) sum += f(x.y);
    if (count > 2) sum += f(x.z);
    if (count > 3) sum += f(x.w);
    return sum;
}

// Combines one value of each thread in a fixed order; every thread gets the result. Every thread of the block calls it;
// `shared` is ROW_WAVES floats of shared memory.
DEVICE inline float block_sum(float x, float* shared) {
    x = wave_sum(x);
    barrier();
    if (lane_index() == 0) shared[thread_index() / WAVE] = x;
    barrier();
    float sum = shared[0];
    for (int i = 1; i < block_size() / WAVE; i++) sum += shared[i];
    return sum;
}

DEVICE inline float block_max(float x, float* shared) {
    x = wave_max(x);
    barrier();
    if (lane_index() == 0) shared[thread_index() / WAVE] = x;
    barrier();
    float largest = shared[0];
    for (int i = 1; i < block_size() / WAVE; i++) largest = fmaxf(largest, shared[i]);
    return largest;
}

template <class F> DEVICE inline float row_sum_of(const Row& row, float* shared, F f) {
    float sum = 0;
    row_each(row, [&](floats4 x, int, int count) { sum += sum_of_four(x, count, f); });
    return block_sum(sum, shared);
}
