// Attention of single tokens over paged caches, for any sizes and types. The keys of a token are divided into `splits`,
// each with 1/`parts` of the keys but at least `min_keys`. A block processes one split for all query heads of one key
// head (or HEADS of them at a time), and a second kernel combines the splits in order. The last splits of a short
// sequence have no keys.
//
// LANES lanes share a key: each holds 8 adjacent elements of it, CHUNKS times. Each such group of lanes processes keys
// of its own, UNROLL at once, with an online softmax that is rescaled when larger scores come (Milakov and Gimelshein
// 2018). All sums are f32.
//
// K_TYPE and V_TYPE are the caches' types, numbered as in tables.h. EIGHTS is 1 where rows of keys and of
// values are whole eights, and 0 where the last eight may be short, which takes a mask for each element.
#include "attention.h"
#include "cache.h"

#define THREADS ATTENTION_THREADS
#define GROUPS (THREADS / LANES)
// Elements of a chunk: whole blocks of a cache, so that a lane has the same eighths of the blocks in every chunk.
#define WIDTH (8 * LANES)
// Keys that a group takes at once (fewer where rows of F32 would not fit registers), and values (a score for
// each key and head) that its lanes share.
#if LANES < 8 || HEADS * CHUNKS > 4 || (CHUNKS > 1 && (K_TYPE == TYPE_F32 || V_TYPE == TYPE_F32))
#define UNROLL 2
#else
#define UNROLL 4
#endif
#define SCORES (HEADS * UNROLL)
// Blocks that a multiprocessor should hold: as many as have registers for what is kept above.
#define BLOCKS (HEADS <= 4 && CHUNKS == 1 && K_TYPE != TYPE_F32 && V_TYPE != TYPE_F32 ? 4 : 2)
// Scores that a lane holds, and lanes that hold the same score.
#define HELD (SCORES > LANES ? SCORES / LANES : 1)
#define COPIES (SCORES > LANES ? 1 : LANES / SCORES)

// Sums over the lanes of a group: from SCORES numbers in every lane, each lane gets HELD sums. In each step a lane
// passes half of its numbers to its partner and adds the partner's to the other half; with one number left, both keep
// it. Number u · HEADS + h ends up in lane (u · HEADS + h) / HELD · COPIES of the group, at index (u · HEADS + h) %
// HELD.
DEVICE inline void sum_scores(float* x, int sub) {
    int count = SCORES;
#pragma unroll
    for (int mask = LANES / 2; mask > 0; mask >>= 1) {
        if (count > 1) {
            count /= 2;
            const bool upper = sub & mask;
#pragma unroll
            for (int i = 0; i < SCORES / 2; i++) {
                if (i >= count) break;
                const float given = upper ? x[i] : x[i + count];
                const float kept = upper ? x[i + count] : x[i];
                x[i] = kept + wave_shuffle_xor(given, mask);
            }
        } else {
            x[0] += wave_shuffle_xor(x[0], mask);
        }
    }
}

// The lane of value (u, h) after sum_scores, and its index there.
#define LANE_OF(u, h) (((u) * HEADS + (h)) / HELD * COPIES)
#define AT_OF(u, h) (((u) * HEADS + (h)) % HELD)

KERNEL_FITTING(THREADS, BLOCKS, attention_split)
(const float* q, Layout q_at, const u8* k, Layout k_at, const u8* v, Layout v_at,
 const i32* positions, const i32* sequences, const i32* block_table, i32 n_blocks, i32 n_seq, i32 limit,
 const float* sinks, float* out, float* partial, float* partial_sums, i32 splits, i32 parts, i32 min_keys,
 i32 block_size, i32 cache_blocks, i32 window, float scale, float softcap) {
    SHARED float sums[THREADS / WAVE][HEADS][WIDTH * CHUNKS];
    SHARED float wave_largest[THREADS / WAVE][HEADS];
    SHARED float wave_weight[THREADS / WAVE][HEADS];
    const int head_dim = (int)q_at.ne[0], n_head = (int)q_at.ne[1], head_dim_v = (int)v_at.ne[0];
    const int group = n_head / (int)k_at.ne[1], passes = (group + HEADS - 1) / HEADS;
    const int token = block_index_x() / splits, split = block_index_x() % splits;
    const int kv_head = block_index_y() / passes, first_head = block_index_y() % passes * HEADS;
    // Query heads of this block; the last pass may have fewer than HEADS.
    const int head0 = kv_head * group + first_head;
    const int n_heads = group - first_head < HEADS ? group - first_head : HEADS;

    const i32 sequence = sequences[token];
    const Span span = attended(positions[token], sequence, n_seq, limit, window);
    // The same number of keys for every split, in whole rounds of the block.
    const int round = GROUPS * UNROLL;
    const int even = (span.end - span.first + parts - 1) / parts;
    const int share = ((even < min_keys ? min_keys : even) + round - 1) / round * round;
    const i64 begin = span.first + (i64)split * share;
    const int end = begin + share < span.end ? (int)(begin + share) : span.end;
    if (begin >= end && splits > 1) {
        // No keys: the weight is 0, and the sums need not be written.
        for (int h = thread_index(); h < n_heads; h += THREADS) {
            float* at = partial_sums + (((i64)token * n_head + head0 + h) * splits + split) * 2;
            at[0] = -INFINITY_F;
            at[1] = 0.0f;
        }
        return;
    }

    const int sub = thread_index() % LANES, base = lane_index() - sub;
    const u8* k_head = k + kv_head * k_at.nb[1];
    const u8* v_head = v + kv_head * v_at.nb[1];
    const bool k_aligned = (((u64)k_head | (u64)k_at.nb[2]) & 15) == 0;
    const bool v_aligned = (((u64)v_head | (u64)v_at.nb[2]) & 15) == 0;
    const i32* blocks = block_table + (i64)sequence * n_blocks;

    float query[HEADS][CHUNKS][8], acc[HEADS][CHUNKS][8];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const u8* row = (const u8*)q + token * q_at.nb[2] + (head0 + (h < n_heads ? h : 0)) * q_at.nb[1];
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            const int at = c * WIDTH + sub * 8, left = head_dim - at;
            const bool aligned = ((u64)row & 15) == 0;
            const Eight x = left > 0 ? load_eight(row, TYPE_F32, at, EIGHTS ? 8 : left, aligned) : no_eight();
            eight_values(x, TYPE_F32, at, query[h][c]);
#pragma unroll
            for (int i = 0; i < 8; i++) acc[h][c][i] = 0.0f;
        }
    }
    // For the heads whose scores the lane holds: the largest score so far, and the lane's share of the weights.
    float largest[HELD], weight[HELD];
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        largest[j] = -INFINITY_F;
        weight[j] = 0.0f;
    }

    for (int first = (int)begin; first < end; first += round) {
        Eight keys[UNROLL][CHUNKS], values[UNROLL][CHUNKS];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            const int position = first + u * GROUPS + thread_index() / LANES;
            const i64 slot = position < end ? slot_of(blocks, position, block_size, cache_blocks) : -1;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                const int at = c * WIDTH + sub * 8, left = head_dim - at, left_v = head_dim_v - at;
                keys[u][c] = no_eight();
                values[u][c] = no_eight();
                if (slot >= 0 && left > 0) {
                    keys[u][c] = load_eight(k_head + slot * k_at.nb[2], K_TYPE, at, EIGHTS ? 8 : left, k_aligned);
                }
                if (slot >= 0 && left_v > 0) {
                    values[u][c] = load_eight(v_head + slot * v_at.nb[2], V_TYPE, at, EIGHTS ? 8 : left_v, v_aligned);
                }
            }
        }
        float x[SCORES];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
#pragma unroll
            for (int h = 0; h < HEADS; h++) x[u * HEADS + h] = 0.0f;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float key[8];
                eight_values(keys[u][c], K_TYPE, sub * 8, key);
#pragma unroll
                for (int i = 0; i < 8; i++) {
#pragma unroll
                    for (int h = 0; h < HEADS; h++) {
                        x[u * HEADS + h] = fmaf(query[h][c][i], key[i], x[u * HEADS + h]);
                    }
                }
            }
        }
        sum_scores(x, sub);
        float factor[HELD];
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            const int u = (sub / COPIES * HELD + j) / HEADS;
            const bool there = first + u * GROUPS + thread_index() / LANES < end;
            x[j] *= scale;
            if (softcap > 0.0f) x[j] = capped(x[j], softcap);
            if (!there) x[j] = -INFINITY_F;
            // The maximum over the lanes with the group's other keys.
            float most = x[j];
#pragma unroll
            for (int mask = HEADS * COPIES / HELD; mask < LANES; mask <<= 1) {
                most = fmaxf(most, wave_shuffle_xor(most, mask));
            }
            most = fmaxf(most, largest[j]);
            factor[j] = weight_of(largest[j], most);
            x[j] = weight_of(x[j], most);
            largest[j] = most;
            weight[j] = fmaf(weight[j], factor[j], x[j]);
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            const float f = wave_shuffle(factor[AT_OF(0, h)], base + LANE_OF(0, h));
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
                for (int i = 0; i < 8; i++) acc[h][c][i] *= f;
            }
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            float w[HEADS];
#pragma unroll
            for (int h = 0; h < HEADS; h++) w[h] = wave_shuffle(x[AT_OF(u, h)], base + LANE_OF(u, h));
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float value[8];
                eight_values(values[u][c], V_TYPE, sub * 8, value);
#pragma unroll
                for (int i = 0; i < 8; i++) {
#pragma unroll
                    for (int h = 0; h < HEADS; h++) acc[h][c][i] = fmaf(w[h], value[i], acc[h][c][i]);
                }
            }
        }
    }

    // Combine the lanes' shares, then the groups of the wave, then the waves.
#pragma unroll
    for (int j = 0; j < HELD; j++) {
#pragma unroll
        for (int mask = HEADS * COPIES / HELD; mask < LANES; mask <<= 1) weight[j] += wave_shuffle_xor(weight[j], mask);
    }
    const int wave = thread_index() / WAVE;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const float mine = wave_shuffle(largest[AT_OF(0, h)], base + LANE_OF(0, h));
        float w = wave_shuffle(weight[AT_OF(0, h)], base + LANE_OF(0, h));
        float most = mine;
#pragma unroll
        for (int mask = LANES; mask < WAVE; mask <<= 1) most = fmaxf(most, wave_shuffle_xor(most, mask));
        const float f = weight_of(mine, most);
        w *= f;
#pragma unroll
        for (int mask = LANES; mask < WAVE; mask <<= 1) w += wave_shuffle_xor(w, mask);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float a = acc[h][c][i] * f;
#pragma unroll
                for (int mask = LANES; mask < WAVE; mask <<= 1) a += wave_shuffle_xor(a, mask);
                if (lane_index() < LANES) sums[wave][h][c * WIDTH + sub * 8 + i] = a;
            }
        }
        if (lane_index() == 0) {
            wave_largest[wave][h] = most;
            wave_weight[wave][h] = w;
        }
    }
    barrier();
    for (int item = thread_index(); item < n_heads * head_dim_v; item += THREADS) {
        const int h = item / head_dim_v, i = item - h * head_dim_v;
        const float sink = splits == 1 && sinks ? sinks[head0 + h] : -INFINITY_F;
        float most = sink;
        for (int w = 0; w < THREADS / WAVE; w++) most = fmaxf(most, wave_largest[w][h]);
        float sum = 0.0f, total = splits == 1 && sinks ? weight_of(sink, most) : 0.0f;
        for (int w = 0; w < THREADS / WAVE; w++) {
            const float f = weight_of(wave_largest[w][h], most);
            sum = fmaf(f, sums[w][h][i], sum);
            total = fmaf(f, wave_weight[w][h], total);
        }
        const i64 row = (i64)token * n_head + head0 + h;
        if (splits == 1) {
            out[row * head_dim_v + i] = total == 0.0f ? 0.0f : sum / total;
            continue;
        }
        partial[(row * splits + split) * head_dim_v + i] = sum;
        if (i == 0) {
            partial_sums[(row * splits + split) * 2] = most;
            partial_sums[(row * splits + split) * 2 + 1] = total;
        }
    }
}
