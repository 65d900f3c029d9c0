// Elementwise functions of F32 tensors: one operand with any strides, or two of which the second is repeated. The
// output is contiguous and may be the first operand's memory: each element is read by the thread that writes it.
//
// A row of `n` elements is divided into `pieces`. If `flat` is set, all tensors are contiguous and treated as one row.
#include "functions.h"
#include "elements.h"

DEVICE inline floats4 activation_of_four(int kind, floats4 x) {
    floats4 y = {activation(kind, x.x), activation(kind, x.y), activation(kind, x.z), activation(kind, x.w)};
    return y;
}

// Selects the function once for four elements.
DEVICE inline floats4 chosen_activation(int kind, floats4 x) {
    switch (kind) {
        case UNARY_SILU: return activation_of_four(UNARY_SILU, x);
        case UNARY_GELU: return activation_of_four(UNARY_GELU, x);
        case UNARY_GELU_ERF: return activation_of_four(UNARY_GELU_ERF, x);
        case UNARY_GELU_QUICK: return activation_of_four(UNARY_GELU_QUICK, x);
        case UNARY_RELU: return activation_of_four(UNARY_RELU, x);
        case UNARY_RELU_SQR: return activation_of_four(UNARY_RELU_SQR, x);
        case UNARY_SIGMOID: return activation_of_four(UNARY_SIGMOID, x);
        case UNARY_TANH: return activation_of_four(UNARY_TANH, x);
        case UNARY_EXP: return activation_of_four(UNARY_EXP, x);
        case UNARY_NEG: return activation_of_four(UNARY_NEG, x);
        case UNARY_ABS: return activation_of_four(UNARY_ABS, x);
        case UNARY_SQR: return activation_of_four(UNARY_SQR, x);
        case UNARY_SOFTPLUS: return activation_of_four(UNARY_SOFTPLUS, x);
        default: return activation_of_four(UNARY_SQRT, x);
    }
}

// out = f(x); `factor · x + bias` for UNARY_SCALE, `factor · tanh(x / factor)` for UNARY_SOFTCAP.
KERNEL(unary)
(const float* x, Layout x_at, float* out, i64 n, i32 pieces, i32 flat, i32 kind, float factor, float bias) {
    Share share = share_of_thread(n, pieces, 4);
    if (share.count == 0) return;
    i64 step = flat ? 4 : x_at.nb[0];
    const u8* from = (const u8*)x + row_offset(x_at, row_index(x_at, share.row)) + share.first * step;
    floats4 y = load_four((const float*)from, step, share.count);
    if (kind == UNARY_SCALE) {
        y = {fmaf(y.x, factor, bias), fmaf(y.y, factor, bias), fmaf(y.z, factor, bias), fmaf(y.w, factor, bias)};
    } else if (kind == UNARY_SOFTCAP) {
        y = {softcap(y.x, factor), softcap(y.y, factor), softcap(y.z, factor), softcap(y.w, factor)};
    } else {
        y = chosen_activation(kind, y);
    }
    store_four(out + share.row * n + share.first, y, share.count);
}

// out = f(gate) · up, both of the same shape.
KERNEL(gated)
(const float* gate, Layout gate_at, const float* up, Layout up_at, float* out, i64 n, i32 pieces, i32 flat, i32 kind) {
    Share share = share_of_thread(n, pieces, 4);
    if (share.count == 0) return;
    RowIndex row = row_index(gate_at, share.row);
    i64 gate_step = flat ? 4 : gate_at.nb[0], up_step = flat ? 4 : up_at.nb[0];
    const u8* gate_from = (const u8*)gate + row_offset(gate_at, row) + share.first * gate_step;
    const u8* up_from = (const u8*)up + row_offset(up_at, row) + share.first * up_step;
    floats4 g = load_four((const float*)gate_from, gate_step, share.count);
    floats4 u = load_four((const float*)up_from, up_step, share.count);
    floats4 y = chosen_activation(kind, g);
    y = {y.x * u.x, y.y * u.y, y.z * u.z, y.w * u.w};
    store_four(out + share.row * n + share.first, y, share.count);
}

// The smaller number; keeps NaN.
DEVICE inline float at_most(float x, float limit) { return x > limit ? limit : x; }

DEVICE inline float clamped_swiglu_of(float gate, float up, float alpha, float limit) {
    gate = at_most(gate, limit);
    up = at_most(up < -limit ? -limit : up, limit);
    return gate * sigmoid(alpha * gate) * (up + 1.0f);
}

// out = g · σ(alpha · g) · (u + 1) with g = min(gate, limit) and u = up between -limit and limit, both of the same
// shape.
KERNEL(clamped_swiglu)
(const float* gate, Layout gate_at, const float* up, Layout up_at, float* out, i64 n, i32 pieces, i32 flat, float alpha,
 float limit) {
    Share share = share_of_thread(n, pieces, 4);
    if (share.count == 0) return;
    RowIndex row = row_index(gate_at, share.row);
    i64 gate_step = flat ? 4 : gate_at.nb[0], up_step = flat ? 4 : up_at.nb[0];
    const u8* gate_from = (const u8*)gate + row_offset(gate_at, row) + share.first * gate_step;
    const u8* up_from = (const u8*)up + row_offset(up_at, row) + share.first * up_step;
    floats4 g = load_four((const float*)gate_from, gate_step, share.count);
    floats4 u = load_four((const float*)up_from, up_step, share.count);
    floats4 y = {clamped_swiglu_of(g.x, u.x, alpha, limit), clamped_swiglu_of(g.y, u.y, alpha, limit),
                 clamped_swiglu_of(g.z, u.z, alpha, limit), clamped_swiglu_of(g.w, u.w, alpha, limit)};
    store_four(out + share.row * n + share.first, y, share.count);
}

// `count` elements from index `first` on of a repeated row of `n` elements.
DEVICE inline floats4 load_repeated(const u8* row, i64 step, i64 n, i64 first, int count) {
    if (n == 1) {
        float x = *(const float*)row;
        floats4 four = {x, x, x, x};
        return four;
    }
    i64 i = first < n ? first : first % n;
    if (i + count <= n) return load_four((const float*)(row + i * step), step, count);
    floats4 four = {0.0f, 0.0f, 0.0f, 0.0f};
    four.x = *(const float*)(row + i * step);
    if (++i == n) i = 0;
    if (count > 1) four.y = *(const float*)(row + i * step);
    if (++i == n) i = 0;
    if (count > 2) four.z = *(const float*)(row + i * step);
    if (++i == n) i = 0;
    if (count > 3) four.w = *(const float*)(row + i * step);
    return four;
}

// out = a ∘ b; rows of `b` have `b_n` elements.
KERNEL(binary)
(const float* a, Layout a_at, const float* b, Layout b_at, i64 b_n, float* out, i64 n, i32 pieces, i32 flat, i32 kind) {
    Share share = share_of_thread(n, pieces, 4);
    if (share.count == 0) return;
    RowIndex row = row_index(a_at, share.row);
    i64 a_step = flat ? 4 : a_at.nb[0], b_step = flat ? 4 : b_at.nb[0];
    const u8* a_from = (const u8*)a + row_offset(a_at, row) + share.first * a_step;
    const u8* b_row = (const u8*)b + repeated_row_offset(b_at, row);
    floats4 x = load_four((const float*)a_from, a_step, share.count);
    floats4 y = load_repeated(b_row, b_step, b_n, share.first, share.count);
    switch (kind) {
        case BINARY_ADD: x = {x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w}; break;
        case BINARY_SUB: x = {x.x - y.x, x.y - y.y, x.z - y.z, x.w - y.w}; break;
        case BINARY_MUL: x = {x.x * y.x, x.y * y.y, x.z * y.z, x.w * y.w}; break;
        default: x = {x.x / y.x, x.y / y.y, x.z / y.z, x.w / y.w}; break;
    }
    store_four(out + share.row * n + share.first, x, share.count);
}

// out = x · (1 + scale · ln(1 + ⌊position / length⌋)), by the position of the row's token.
KERNEL(temperature)
(const float* x, Layout x_at, const i32* positions, float* out, i64 n, i32 pieces, i32 flat, float scale, i32 length) {
    Share share = share_of_thread(n, pieces, 4);
    if (share.count == 0) return;
    RowIndex row = row_index(x_at, share.row);
    i32 position = positions[row.i2];
    float factor = 1.0f + scale * logf(1.0f + (float)((position < 0 ? 0 : position) / length));
    i64 step = flat ? 4 : x_at.nb[0];
    const u8* from = (const u8*)x + row_offset(x_at, row) + share.first * step;
    floats4 y = load_four((const float*)from, step, share.count);
    y = {y.x * factor, y.y * factor, y.z * factor, y.w * factor};
    store_four(out + share.row * n + share.first, y, share.count);
}
