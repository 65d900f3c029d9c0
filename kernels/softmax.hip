// The softmax of rows. One block per row; the output is contiguous and may be x's memory.
#include "rows.h"

// The factor of a head's mask: powers of 2^(-max_bias / n) for the first n heads, where n is the largest power of two
// up to their number; odd powers of the root of that base for the others. In f64, since scores may be large.
DEVICE inline float alibi_slope(float max_bias, int head, int n_head) {
    if (max_bias == 0.0f) return 1.0f;
    int n = 1;
    while (2 * n <= n_head) n *= 2;
    const double exponent = head < n ? head + 1.0 : (2 * (head - n) + 1) / 2.0;
    return (float)exp2(-(double)max_bias / n * exponent);
}

// The scores of four elements: scale · x + slope · mask, -∞ past the row's end.
struct Scores {
    const u8* mask;
    i64 mask_step;
    int mask_type;
    float scale, slope;

    DEVICE inline floats4 of(floats4 x, int at, int count) const {
        floats4 s = {x.x * scale, x.y * scale, x.z * scale, x.w * scale};
        if (mask) {
            const floats4 m = load_four(mask_type, mask + at * mask_step, mask_step, count);
            s = {fmaf(m.x, slope, s.x), fmaf(m.y, slope, s.y), fmaf(m.z, slope, s.z), fmaf(m.w, slope, s.w)};
        }
        if (count < 2) s.y = -INFINITY_F;
        if (count < 3) s.z = -INFINITY_F;
        if (count < 4) s.w = -INFINITY_F;
        return s;
    }
};

DEVICE inline floats4 exp_of_four(floats4 s, float largest) {
    return {expf(s.x - largest), expf(s.y - largest), expf(s.z - largest), expf(s.w - largest)};
}

// Mask and sinks may be null. The head is the index of dimension 2.
KERNEL(softmax)
(const float* x, Layout x_at, const u8* mask, Layout mask_at, i32 mask_type, const float* sinks, float* out, float scale,
 float max_bias) {
    SHARED float shared[ROW_WAVES];
    const RowIndex index = row_index(x_at, (u32)block_index_x());
    const Row row = row_of_block(x, x_at);
    Scores scores = {mask, 0, mask_type, scale, 1.0f};
    if (mask) {
        scores.mask += repeated_row_offset(mask_at, index);
        scores.mask_step = mask_at.nb[0];
        scores.slope = alibi_slope(max_bias, (int)index.i2, (int)x_at.ne[2]);
    }
    const float sink = sinks ? sinks[index.i2] : -INFINITY_F;

    float largest = sink;
    row_each(row, [&](floats4 x, int at, int count) {
        const floats4 s = scores.of(x, at, count);
        largest = fmaxf(fmaxf(largest, fmaxf(s.x, s.y)), fmaxf(s.z, s.w));
    });
    largest = block_max(largest, shared);
    const bool none = largest == -INFINITY_F;

    float sum = 0;
    row_each(row, [&](floats4 x, int at, int count) {
        const floats4 e = exp_of_four(scores.of(x, at, count), none ? 0.0f : largest);
        sum += (e.x + e.y) + (e.z + e.w);
    });
    sum = block_sum(sum, shared) + (sinks ? expf(sink - (none ? 0.0f : largest)) : 0.0f);
    const float factor = none ? 0.0f : 1.0f / sum;

    out += (i64)block_index_x() * row.n;
    row_each(row, [&](floats4 x, int at, int count) {
        const floats4 e = exp_of_four(scores.of(x, at, count), none ? 0.0f : largest);
        store_four(out + at, floats4{e.x * factor, e.y * factor, e.z * factor, e.w * factor}, count);
    });
}
