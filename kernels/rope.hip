// Rotary position embedding. A block processes a token and some of its heads; the output is contiguous and may be x's
// memory.
#include "elements.h"

DEVICE inline double f64_of_bits(i64 bits) {
    union { i64 bits; double value; } u;
    u.bits = bits;
    return u.value;
}

// ratio^j by repeated squaring, one per bit of j: off by at most j roundings of 2⁻⁵³.
DEVICE inline double power_of(double ratio, int j) {
    double power = 1.0;
    for (; j; j >>= 1) {
        if (j & 1) power *= ratio;
        ratio *= ratio;
    }
    return power;
}

// Cosine and sine. The angle is reduced to a quarter turn around 0 in f64, since at position 10⁶ an f32 angle would be
// off by 0.03; there, Taylor series up to the tenth power are off by less than 2e-9.
DEVICE inline void turn_of(double angle, float& cosine, float& sine) {
    const double quarters = rint(angle * 0.63661977236758134308);
    const float r = (float)fma(-quarters, 1.57079632679489661923, angle);
    const float z = r * r;
    const float s = r + r * z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880))));
    const float c =
        1.0f - z * (0.5f - z * (1.0f / 24 - z * (1.0f / 720 - z * (1.0f / 40320 - z * (1.0f / 3628800)))));
    const int quadrant = (int)((i64)quarters & 3);
    const float cs = quadrant & 1 ? s : c, sn = quadrant & 1 ? c : s;
    cosine = quadrant == 1 || quadrant == 2 ? -cs : cs;
    sine = quadrant >= 2 ? -sn : sn;
}

// Pair j's unscaled angle is position · ratio^j / factors[j]; `factors` may be null. The ratio is passed as the bits of
// an f64, and so is YaRN's ramp, from pair `low` over `span` pairs.
KERNEL(rope)
(const float* x, Layout x_at, const i32* positions, const float* factors, float* out, i32 kind, i32 n_rot, i64 ratio_bits,
 float freq_scale, float ext_factor, i64 low_bits, i64 span_bits, float magnitude, i32 heads) {
    const int head_dim = (int)x_at.ne[0], n_head = (int)x_at.ne[1], token = block_index_x();
    const int first = block_index_y() * heads;
    const int end = first + heads < n_head ? first + heads : n_head;
    const double position = positions[token];
    const int pairs = n_rot / 2;
    const int a_step = kind == ROPE_NEOX ? 1 : 2, b_at = kind == ROPE_NEOX ? pairs : 1;
    const i64 step = x_at.nb[0];
    // Columns of threads take pairs, and then the elements that are not rotated; rows of threads take heads.
    const int items = pairs + head_dim - n_rot;
    const int columns = items < block_size() ? items : block_size();
    const int rows = block_size() / columns, column = thread_index() % columns, row = thread_index() / columns;
    if (row >= rows) return;
    for (int item = column; item < items; item += columns) {
        const u8* from = (const u8*)x + token * x_at.nb[2];
        float* to = out + (i64)token * n_head * head_dim;
        if (item >= pairs) {
            const int at = item - pairs + n_rot;
            for (int head = first + row; head < end; head += rows) {
                to[(i64)head * head_dim + at] = *(const float*)(from + head * x_at.nb[1] + at * step);
            }
            continue;
        }
        double angle = position * power_of(f64_of_bits(ratio_bits), item);
        if (factors) angle /= (double)factors[item];
        double scaled = (double)freq_scale * angle;
        if (ext_factor != 0.0f) {
            double share = (item - f64_of_bits(low_bits)) / f64_of_bits(span_bits);
            share = (1.0 - (share < 0.0 ? 0.0 : share > 1.0 ? 1.0 : share)) * (double)ext_factor;
            scaled = scaled * (1.0 - share) + angle * share;
        }
        float c, s;
        turn_of(scaled, c, s);
        c *= magnitude;
        s *= magnitude;
        const int a_at = item * a_step;
        for (int head = first + row; head < end; head += rows) {
            const u8* pair = from + head * x_at.nb[1] + a_at * step;
            const float a = *(const float*)pair, b = *(const float*)(pair + b_at * step);
            float* turned = to + (i64)head * head_dim + a_at;
            turned[0] = a * c - b * s;
            turned[b_at] = a * s + b * c;
        }
    }
}
