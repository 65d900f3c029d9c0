// The keys that a token attends to and their slots: code shared by the attention kernels.
#pragma once

#include "elements.h"

// Positions first to end - 1; empty for padding, and for a token with an invalid position or sequence.
struct Span { int first, end; };

DEVICE inline Span attended(i32 position, i32 sequence, i32 n_seq, i32 limit, i32 window) {
    Span span = {0, 0};
    if (sequence < 0 || sequence >= n_seq || position < 0 || position >= limit) return span;
    span.end = position + 1;
    if (window > 0 && span.end > window) span.first = span.end - window;
    return span;
}

// The slot of a position, by its sequence's row of the block table; -1 for a missing block.
DEVICE inline i64 slot_of(const i32* blocks, int position, i32 block_size, i32 cache_blocks) {
    const int block = (int)((u32)position / (u32)block_size);
    const i32 entry = blocks[block];
    if (entry < 0 || entry >= cache_blocks) return -1;
    return (i64)entry * block_size + (position - block * block_size);
}

// softcap · tanh(score / softcap), off by at most 6 roundings of the cap. Avoids tanhf, whose branches need many
// registers.
DEVICE inline float capped(float score, float softcap) {
    return softcap - 2.0f * softcap / (fast_exp(2.0f * score / softcap) + 1.0f);
}

// e^(x - largest), where largest may be -∞, in which case x is too.
DEVICE inline float weight_of(float x, float largest) {
    return fast_exp(x - (largest == -INFINITY_F ? 0.0f : largest));
}
