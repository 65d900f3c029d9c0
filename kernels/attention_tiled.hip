// Attention of many tokens over paged caches of F16, BF16 or blocks with matrix instructions and an online softmax that
// never stores a row of scores (Dao et al. 2022): a block processes 64 tokens and one head, a wave 16 of the tokens,
// and the keys in tiles of KEYS. Queries, weights and the values of blocks are rounded to the tiles' type; all sums are
// f32.
//
// HEAD_DIM is a multiple of 16, at most 256. A block sums VALUES elements of the values, a multiple of 16 and at most
// 128, since more do not fit registers; blocks of the grid's third dimension take the others. BF16 is 1 for tiles of
// BF16 and 0 for F16; K_TYPE and V_TYPE are the caches' types, each the tiles' type or a block format.
//
// Tokens of a block may belong to several sequences and have any positions: adjacent tokens of one sequence whose
// ranges of keys touch are a run, and runs are processed one after another. Thus every key that is read is attended to
// by a token. Prompts have long runs; single tokens of many sequences would leave fifteen of sixteen rows empty and go
// to attention.hip.
#include "attention.h"
#include "cache.h"
#include "matrix.h"

#if HEAD_DIM <= 128
#define KEYS 32
// Load the next tile while this one is processed.
#define AHEAD 1
#else
#define KEYS 16
#define AHEAD 0
#endif
#define WAVES TILED_WAVES
// Whether queries stay in registers.
#define QUERY_KEPT (HEAD_DIM / 16 * TILE_WORDS <= 32)
#define THREADS (WAVES * WAVE)
#define ROWS (16 * WAVES)
// The stride of rows in shared memory: 16 bytes more than whole rounds of the banks.
#define STRIDE (HEAD_DIM + 8)
#define STRIDE_V (VALUES + 8)
// Pieces of eight elements that a thread loads per tile.
#define PIECES ((KEYS * HEAD_DIM / 8 + THREADS - 1) / THREADS)
#define PIECES_V ((KEYS * VALUES / 8 + THREADS - 1) / THREADS)

DEVICE inline u16 round_to_tile(float x) { return BF16 ? float_to_bf16(x) : float_to_half(x); }

DEVICE inline void tile_multiply(TileC& c, const TileA& a, const TileB& b) {
#if BF16
    tile_mma_bf16(c, a, b);
#else
    tile_mma(c, a, b);
#endif
}

DEVICE inline TileA tile_round(const TileC& c, u16* scratch) {
#if BF16
    return tile_pack_bf16(c, scratch);
#else
    return tile_pack(c, scratch);
#endif
}

// A cache as seen by this block: the rows of one head.
struct Cache {
    const u8* p;
    i64 slot_bytes;
    bool whole;
};

DEVICE inline Cache cache_of(const u8* p, const Layout& at, int head) {
    Cache cache = {p + head * at.nb[1], at.nb[2], false};
    cache.whole = (((u64)cache.p | (u64)cache.slot_bytes) & 15) == 0;
    return cache;
}

// Eight elements of a slot; zeros for a negative slot. For blocks, three words as returned by load_eight.
DEVICE inline words4 read_piece(const Cache& cache, i64 slot, int type, int at) {
    words4 x = {0, 0, 0, 0};
    if (slot < 0) return x;
    if (is_blocks(type)) {
        const Eight eight = load_eight(cache.p + slot * cache.slot_bytes, type, at, 8, false);
        x.x = eight.word[0], x.y = eight.word[1], x.z = eight.word[2];
        return x;
    }
    const u8* p = cache.p + slot * cache.slot_bytes + at * 2;
    if (cache.whole) return *(const words4*)p;
    const u16* halves = (const u16*)p;
    x.x = halves[0] | (u32)halves[1] << 16;
    x.y = halves[2] | (u32)halves[3] << 16;
    x.z = halves[4] | (u32)halves[5] << 16;
    x.w = halves[6] | (u32)halves[7] << 16;
    return x;
}

// A piece converted to elements of a tile.
DEVICE inline words4 piece_of_tile(const words4& piece, int type, int at) {
    if (!is_blocks(type)) return piece;
    const Eight eight = {{piece.x, piece.y, piece.z, 0, 0, 0, 0, 0}};
    float x[8];
    eight_values(eight, type, at, x);
    const auto pair = [&](int i) { return round_to_tile(x[i]) | (u32)round_to_tile(x[i + 1]) << 16; };
    return {pair(0), pair(2), pair(4), pair(6)};
}

// A thread's pieces of a tile of keys or values, `row` elements each starting at `first` of a head, for known slots.
// Blocks are converted when they are stored; until then their loads are not waited for.
template <int TYPE, int N> struct Pieces {
    words4 piece[N];

    DEVICE inline void read(const Cache& cache, const i64* slots, int row, int first) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int item = thread_index() + i * THREADS, key = item / (row / 8);
            if (key < KEYS) piece[i] = read_piece(cache, slots[key], TYPE, first + item % (row / 8) * 8);
        }
    }

    DEVICE inline void store(u16* tile, int row, int stride, int first) const {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int item = thread_index() + i * THREADS, key = item / (row / 8), at = item % (row / 8) * 8;
            if (key < KEYS) *(words4*)(tile + key * stride + at) = piece_of_tile(piece[i], TYPE, first + at);
        }
    }
};

// A wave's state of its 16 rows; a lane has TILE_ROWS of them.
struct Rows {
    TileC out[VALUES / 16];
    float largest[TILE_ROWS];
    // The lane's share of the sum of weights.
    float weight[TILE_ROWS];
    // Keys of each row in this run, and those that any row and that every row of the wave attends to.
    Span span[TILE_ROWS];
    Span any, every;
};

// Processes the scores of a tile of keys that starts at position `first_key`, and replaces them by weights.
DEVICE inline void take_scores(Rows& rows, TileC* scores, int first_key, float scale, float softcap) {
    const bool inside = first_key >= rows.every.first && first_key + KEYS <= rows.every.end;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
        for (int i = 0; i < TILE_C; i++) scores[n].v[i] *= scale;
    }
    if (softcap > 0.0f) {
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
            for (int i = 0; i < TILE_C; i++) scores[n].v[i] = capped(scores[n].v[i], softcap);
        }
    }
    float most[TILE_ROWS], factor[TILE_ROWS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; r++) most[r] = -INFINITY_F;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
        for (int i = 0; i < TILE_C; i++) {
            float score = scores[n].v[i];
            if (!inside) {
                const int key = first_key + n * 16 + tile_col(i);
                const Span span = rows.span[tile_slot(i)];
                if (key < span.first || key >= span.end) score = -INFINITY_F;
            }
            scores[n].v[i] = score;
            most[tile_slot(i)] = fmaxf(most[tile_slot(i)], score);
        }
    }
#pragma unroll
    for (int r = 0; r < TILE_ROWS; r++) {
        most[r] = fmaxf(tile_row_max(most[r]), rows.largest[r]);
        factor[r] = weight_of(rows.largest[r], most[r]);
        rows.largest[r] = most[r];
        rows.weight[r] *= factor[r];
    }
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
        for (int i = 0; i < TILE_C; i++) {
            const float weight = weight_of(scores[n].v[i], rows.largest[tile_slot(i)]);
            scores[n].v[i] = weight;
            rows.weight[tile_slot(i)] += weight;
        }
    }
#pragma unroll
    for (int d = 0; d < VALUES / 16; d++) {
#pragma unroll
        for (int i = 0; i < TILE_C; i++) rows.out[d].v[i] *= factor[tile_slot(i)];
    }
}

// Three resident blocks: while one waits for its keys, the others multiply.
KERNEL_FITTING(THREADS, 3, attention_tiled)
(const float* q, Layout q_at, const u8* k, Layout k_at, const u8* v, Layout v_at, const i32* positions,
 const i32* sequences, const i32* block_table, i32 n_blocks, i32 n_seq, i32 limit, const float* sinks, float* out,
 i32 n_tokens, i32 block_size, i32 cache_blocks, i32 window, float scale, float softcap) {
    SHARED words4 query_words[ROWS * STRIDE / 8], key_words[KEYS * STRIDE / 8], value_words[KEYS * STRIDE_V / 8];
    SHARED words4 scratch_words[WAVES * (KEYS / 16) * TILE_SCRATCH / 8 + 1];
    SHARED i64 slots[2][KEYS];
    SHARED i32 row_sequence[ROWS];
    SHARED Span row_span[ROWS];

    u16 *query_tile = (u16*)query_words, *key_tile = (u16*)key_words, *value_tile = (u16*)value_words;
    u16* scratch = (u16*)scratch_words;
    const int n_head = (int)q_at.ne[1];
    const int head = block_index_x(), kv_head = head / (n_head / (int)k_at.ne[1]);
    // Later tokens attend to more keys, so they start first.
    const int first_token = (grid_size_y() - 1 - block_index_y()) * ROWS;
    const int n_rows = n_tokens - first_token < ROWS ? n_tokens - first_token : ROWS;
    const int wave = thread_index() / WAVE;
    const int first_value = block_index_z() * VALUES, head_dim_v = (int)v_at.ne[0];
    const Cache keys = cache_of(k, k_at, kv_head);
    // The address of the first value itself for plain types, so that no load adds to it.
    const int first_in_row = is_blocks(V_TYPE) ? first_value : 0;
    const Cache values = cache_of(v + (is_blocks(V_TYPE) ? 0 : first_value * 2), v_at, kv_head);

    for (int row = thread_index(); row < ROWS; row += THREADS) {
        row_sequence[row] = -1;
        row_span[row] = Span{0, 0};
        if (row < n_rows) {
            const int token = first_token + row;
            row_sequence[row] = sequences[token];
            row_span[row] = attended(positions[token], sequences[token], n_seq, limit, window);
        }
    }
    for (int item = thread_index(); item < ROWS * HEAD_DIM / 4; item += THREADS) {
        const int row = item / (HEAD_DIM / 4), at = item % (HEAD_DIM / 4) * 4;
        floats4 x = {0.0f, 0.0f, 0.0f, 0.0f};
        if (row < n_rows) {
            const u8* from = (const u8*)q + (i64)(first_token + row) * q_at.nb[2] + head * q_at.nb[1];
            x = load_four((const float*)from + at, 4, 4);
        }
        words2 halves = {round_to_tile(x.x) | (u32)round_to_tile(x.y) << 16,
                         round_to_tile(x.z) | (u32)round_to_tile(x.w) << 16};
        *(words2*)(query_tile + row * STRIDE + at) = halves;
    }
    barrier();

    const u16* queries = query_tile + wave * 16 * STRIDE;
#if QUERY_KEPT
    TileA query[HEAD_DIM / 16];
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 16; d++) query[d] = tile_load_a(queries + d * 16, STRIDE);
#endif
    Rows rows;
    const float sink = sinks ? sinks[head] : -INFINITY_F;
#pragma unroll
    for (int d = 0; d < VALUES / 16; d++) rows.out[d] = tile_zero();
#pragma unroll
    for (int r = 0; r < TILE_ROWS; r++) {
        rows.largest[r] = sink;
        rows.weight[r] = 0.0f;
    }

    for (int start = 0, next; start < n_rows; start = next) {
        // The run that starts here.
        const i32 sequence = row_sequence[start];
        Span run = row_span[start];
        for (next = start + 1; next < n_rows && row_sequence[next] == sequence; next++) {
            const Span span = row_span[next];
            if (span.first > run.end || run.first > span.end) break;
            run.first = span.first < run.first ? span.first : run.first;
            run.end = span.end > run.end ? span.end : run.end;
        }
        if (run.end == 0) continue;
        const i32* blocks = block_table + (i64)sequence * n_blocks;

        rows.any = Span{run.end, run.first};
        rows.every = Span{run.first, run.end};
        for (int i = 0; i < 16; i++) {
            const int row = wave * 16 + i;
            const Span span = row >= start && row < next ? row_span[row] : Span{run.end, run.first};
            rows.any.first = span.first < rows.any.first ? span.first : rows.any.first;
            rows.any.end = span.end > rows.any.end ? span.end : rows.any.end;
            rows.every.first = span.first > rows.every.first ? span.first : rows.every.first;
            rows.every.end = span.end < rows.every.end ? span.end : rows.every.end;
        }
#pragma unroll
        for (int r = 0; r < TILE_ROWS; r++) {
            const int row = wave * 16 + tile_slot_row(r);
            rows.span[r] = row >= start && row < next ? row_span[row] : Span{0, 0};
        }

        // Slots of a tile's keys; -1 for keys that no token of the run attends to.
        const auto find_slots = [&](int tile) {
            for (int i = thread_index(); i < KEYS; i += THREADS) {
                const int key = tile * KEYS + i;
                const bool there = key >= run.first && key < run.end;
                slots[tile & 1][i] = there ? slot_of(blocks, key, block_size, cache_blocks) : -1;
            }
        };
        const int first_tile = run.first / KEYS, end_tile = (run.end + KEYS - 1) / KEYS;
        Pieces<K_TYPE, PIECES> key_pieces;
        Pieces<V_TYPE, PIECES_V> value_pieces;
        find_slots(first_tile);
        barrier();
#if AHEAD
        key_pieces.read(keys, slots[first_tile & 1], HEAD_DIM, 0);
        value_pieces.read(values, slots[first_tile & 1], VALUES, first_in_row);
        find_slots(first_tile + 1);
#endif
        for (int tile = first_tile; tile < end_tile; tile++) {
#if !AHEAD
            key_pieces.read(keys, slots[tile & 1], HEAD_DIM, 0);
#endif
            key_pieces.store(key_tile, HEAD_DIM, STRIDE, 0);
#if !AHEAD
            value_pieces.read(values, slots[tile & 1], VALUES, first_in_row);
#endif
            value_pieces.store(value_tile, VALUES, STRIDE_V, first_in_row);
            barrier();
#if AHEAD
            key_pieces.read(keys, slots[(tile + 1) & 1], HEAD_DIM, 0);
            value_pieces.read(values, slots[(tile + 1) & 1], VALUES, first_in_row);
            find_slots(tile + 2);
#else
            find_slots(tile + 1);
#endif
            const int first_key = tile * KEYS;
            if (first_key < rows.any.end && first_key + KEYS > rows.any.first) {
                TileC scores[KEYS / 16];
#pragma unroll
                for (int n = 0; n < KEYS / 16; n++) {
                    scores[n] = tile_zero();
#pragma unroll
                    for (int d = 0; d < HEAD_DIM / 16; d++) {
#if QUERY_KEPT
                        const TileA a = query[d];
#else
                        const TileA a = tile_load_a(queries + d * 16, STRIDE);
#endif
                        tile_multiply(scores[n], a, tile_load_b(key_tile + n * 16 * STRIDE + d * 16, STRIDE));
                    }
                }
                take_scores(rows, scores, first_key, scale, softcap);
#pragma unroll
                for (int n = 0; n < KEYS / 16; n++) {
                    u16* own = scratch + (wave * (KEYS / 16) + n) * TILE_SCRATCH;
                    const TileA weights = tile_round(scores[n], own);
#pragma unroll
                    for (int d = 0; d < VALUES / 16; d++) {
                        const u16* part = value_tile + n * 16 * STRIDE_V + d * 16;
                        tile_multiply(rows.out[d], weights, tile_load_b_transposed(part, STRIDE_V));
                    }
                }
            }
            barrier();
        }
    }

    float share[TILE_ROWS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; r++) {
        float total = tile_row_sum(rows.weight[r]);
        if (sinks) total += weight_of(sink, rows.largest[r]);
        share[r] = total == 0.0f ? 0.0f : 1.0f / total;
    }
#pragma unroll
    for (int i = 0; i < TILE_C; i++) {
        const int row = wave * 16 + tile_row(i);
        if (row >= n_rows) continue;
        float* to = out + ((i64)(first_token + row) * n_head + head) * head_dim_v + first_value + tile_col(i);
#pragma unroll
        for (int d = 0; d < VALUES / 16; d++) to[d * 16] = rows.out[d].v[i] * share[tile_slot(i)];
    }
}
