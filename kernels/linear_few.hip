// Weights of a block format times a few rows of eight-bit activations.
//
// Defines: FORMAT; TOKENS, the most rows of x; ROWS of the weight and WAVES of a block; UNROLL, pieces whose loads are
// in flight together; GATED. Adjacent lanes take adjacent pieces, so that a wave's loads are coalesced.
#include "formats.h"
#include "linear_rows.h"
#include "quantize.h"

typedef formats::FORMAT Format;

static constexpr int VECTORS = Format::VECTORS, PARTS = Format::PARTS, RUNS = VECTORS / PARTS;

// A piece of a row of x.
struct Activations {
    i32 codes[4 * VECTORS];
    // For each part; the sums only if the format has mins.
    float d[PARTS], sums[PARTS];
};

DEVICE inline Activations load_activations(const u8* row, int k, int piece) {
    Activations x;
    const GroupScale* scales = reinterpret_cast<const GroupScale*>(row + k);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const words4 four = formats::four_words(row + Format::first_of(piece, v));
        x.codes[4 * v] = (i32)four.x, x.codes[4 * v + 1] = (i32)four.y;
        x.codes[4 * v + 2] = (i32)four.z, x.codes[4 * v + 3] = (i32)four.w;
    }
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        const GroupScale scale = scales[Format::first_of(piece, p * RUNS) / 32];
        x.d[p] = scale.d;
        x.sums[p] = scale.sum;
        if (Format::MINS && RUNS == 1) {
            // A part is half of the elements that the stored sum covers.
            i32 sum = 0;
            for (int i = 0; i < 4; i++) sum = dot4(x.codes[4 * p + i], 0x01010101, sum);
            x.sums[p] = scale.d * (float)sum;
        }
    }
    return x;
}

// A piece of a row of a weight.
struct Unpacked {
    u32 codes[4 * VECTORS];
    float scales[PARTS], mins[PARTS];
};

DEVICE inline float product(const Unpacked& w, const Activations& x) {
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        i32 dot = 0;
#pragma unroll
        for (int i = 4 * RUNS * p; i < 4 * RUNS * (p + 1); i++) dot = dot4((i32)w.codes[i], x.codes[i], dot);
        sum = fmaf(w.scales[p] * x.d[p], (float)dot, sum);
        if (Format::MINS) sum = fmaf(-w.mins[p], x.sums[p], sum);
    }
    return sum;
}

// Adds this thread's part of every row; row_of_x(t) is the row of x for the block's row t.
template <class F>
DEVICE inline void accumulate(
    float (&sums)[TOKENS][ALL_ROWS], const BlockRows& rows, const u8* x, int k, F row_of_x) {
    const int pieces = k / (16 * VECTORS);
    const i64 x_bytes = quantized_row_bytes(k);
#pragma unroll UNROLL
    for (int piece = thread_index(); piece < pieces; piece += WAVES * WAVE) {
        typename Format::Raw raw[ALL_ROWS];
#pragma unroll
        for (int r = 0; r < ALL_ROWS; r++) {
            const Weight weight = rows.weight_of(r);
            raw[r] = Format::load(weight.start, weight.n_blocks, rows.row(r) * pieces + piece);
        }
        Unpacked w[ALL_ROWS];
#pragma unroll
        for (int r = 0; r < ALL_ROWS; r++) Format::unpack(raw[r], w[r].codes, w[r].scales, w[r].mins);
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const Activations of_token = load_activations(x + row_of_x(t) * x_bytes, k, piece);
#pragma unroll
            for (int r = 0; r < ALL_ROWS; r++) sums[t][r] += product(w[r], of_token);
        }
    }
}

#if BY_ID
KERNEL_OF(WAVES * WAVE, linear_few_id)
(const u8* weight, i64 n_blocks, const i32* ids, const u8* x, const float* bias, float* y, i32 k, i32 n_out, i32 n_expert,
 i32 rows_of_y, i32 share) {
    const int id = ids[block_index_y()];
    const bool known = id >= 0 && id < n_expert;
    const int expert = known ? id : 0;
    const BlockRows rows = rows_of_expert({weight, n_blocks}, n_out, expert);
    float sums[TOKENS][ALL_ROWS] = {};
    accumulate(sums, rows, x, k, [&](int) { return block_index_y() / share; });
    finish_row_of_expert(sums, rows, bias, y, n_out, rows_of_y, expert, known);
}
#else
KERNEL_OF(WAVES * WAVE, linear_few)
(const u8* w0, const u8* w1, const u8* w2, i64 n_blocks0, i64 n_blocks1, i64 n_blocks2, i32 n0, i32 n1, i32 n2,
 const u8* x, const float* bias, const float* residual, float* y, i32 k, i32 n_out, i32 tokens, i32 activation_kind) {
    const BlockRows rows = rows_of_block({w0, n_blocks0}, {w1, n_blocks1}, {w2, n_blocks2}, n0, n1, n2);
    float sums[TOKENS][ALL_ROWS] = {};
    accumulate(sums, rows, x, k, [&](int t) { return token_of(t, tokens); });
    finish_rows(sums, rows, bias, residual, y, n_out, tokens, activation_kind);
}
#endif
