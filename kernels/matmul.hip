// The product of two activations: out[i, j] = Σ a[·, i] · b[·, j], `a` of any float type, `b` F32.
//
// Rows are contiguous, with any strides between them. In dimensions 2 and 3 each matrix of `a` is shared by adjacent
// matrices of `b`, as many as the ratio of their sizes.
#include "elements.h"

// The matrices of one product.
struct Matrices {
    const u8* a;
    const float* b;
    float* out;
};

// The matrices of product number `matrix`, in the order of b's.
DEVICE inline Matrices
matrices(const u8* a, const Layout& a_at, const float* b, const Layout& b_at, float* out, u32 matrix) {
    u32 n2 = (u32)b_at.ne[2], i3 = matrix / n2, i2 = matrix - i3 * n2;
    u32 a2 = i2 / (n2 / (u32)a_at.ne[2]), a3 = i3 / ((u32)b_at.ne[3] / (u32)a_at.ne[3]);
    Matrices found = {
        a + a2 * a_at.nb[2] + a3 * a_at.nb[3],
        (const float*)((const u8*)b + i2 * b_at.nb[2] + i3 * b_at.nb[3]),
        out + matrix * a_at.ne[1] * b_at.ne[1],
    };
    return found;
}

#define TILE MATMUL_TILE
#define DEPTH 16
// The stride of a tile's rows in shared memory, so that a wave's stores fall into different banks.
#define TILE_STEP (TILE + 4)

// Loads `DEPTH` elements of `TILE` rows into shared memory, transposed; zeros outside.
DEVICE inline void load_tile(float* tile, int type, const u8* from, const Layout& at, i64 first_row, i64 first) {
    int row = thread_index() / (DEPTH / 4), column = thread_index() % (DEPTH / 4) * 4;
    i64 left = at.ne[0] - (first + column);
    int bytes = plain_bytes(type);
    floats4 x = {0.0f, 0.0f, 0.0f, 0.0f};
    if (left > 0 && first_row + row < at.ne[1]) {
        const u8* p = from + (first_row + row) * at.nb[1] + (first + column) * bytes;
        x = load_four(type, p, bytes, left < 4 ? (int)left : 4);
    }
    tile[(column + 0) * TILE_STEP + row] = x.x;
    tile[(column + 1) * TILE_STEP + row] = x.y;
    tile[(column + 2) * TILE_STEP + row] = x.z;
    tile[(column + 3) * TILE_STEP + row] = x.w;
}

DEVICE inline floats4 multiply_add(float a, floats4 b, floats4 sum) {
    floats4 result = {fmaf(a, b.x, sum.x), fmaf(a, b.y, sum.y), fmaf(a, b.z, sum.z), fmaf(a, b.w, sum.w)};
    return result;
}

// A block computes TILE by TILE elements of the output, a thread 4 by 4 of them.
KERNEL_OF(MATMUL_THREADS, matmul_tiles)
(const u8* a, Layout a_at, i32 a_type, const float* b, Layout b_at, float* out, i32 tiles_n, i32 tiles_m) {
    SHARED floats4 tile_a[DEPTH * TILE_STEP / 4];
    SHARED floats4 tile_b[DEPTH * TILE_STEP / 4];
    u32 block = (u32)block_index_x();
    u32 rest = block / (u32)tiles_n, matrix = rest / (u32)tiles_m;
    i64 first_i = (i64)(block - rest * (u32)tiles_n) * TILE;
    i64 first_j = (i64)(rest - matrix * (u32)tiles_m) * TILE;
    Matrices of = matrices(a, a_at, b, b_at, out, matrix);
    int ti = thread_index() % (TILE / 4), tj = thread_index() / (TILE / 4);
    // One vector for each of the thread's four columns of the output.
    floats4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
    floats4 sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero;
    for (i64 first = 0; first < a_at.ne[0]; first += DEPTH) {
        load_tile((float*)tile_a, a_type, of.a, a_at, first_i, first);
        load_tile((float*)tile_b, TYPE_F32, (const u8*)of.b, b_at, first_j, first);
        barrier();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            floats4 x = tile_a[k * (TILE_STEP / 4) + ti], y = tile_b[k * (TILE_STEP / 4) + tj];
            sum0 = multiply_add(y.x, x, sum0);
            sum1 = multiply_add(y.y, x, sum1);
            sum2 = multiply_add(y.z, x, sum2);
            sum3 = multiply_add(y.w, x, sum3);
        }
        barrier();
    }
    i64 n = a_at.ne[1], i = first_i + 4 * ti, j = first_j + 4 * tj, m = b_at.ne[1];
    if (i >= n) return;
    int count = n - i < 4 ? (int)(n - i) : 4;
    if (j + 0 < m) store_four(of.out + (j + 0) * n + i, sum0, count);
    if (j + 1 < m) store_four(of.out + (j + 1) * n + i, sum1, count);
    if (j + 2 < m) store_four(of.out + (j + 2) * n + i, sum2, count);
    if (j + 3 < m) store_four(of.out + (j + 3) * n + i, sum3, count);
}

// A wave computes one element of the output: for few rows on either side.
KERNEL_OF(MATMUL_THREADS, matmul_dots)
(const u8* a, Layout a_at, i32 a_type, const float* b, Layout b_at, float* out, i64 elements) {
    i64 element = (i64)block_index_x() * (MATMUL_THREADS / WAVE) + thread_index() / WAVE;
    // Uniform over the wave.
    if (element >= elements) return;
    i64 n = a_at.ne[1], m = b_at.ne[1], column = element / n, i = element - column * n;
    u32 matrix = (u32)(column / m);
    i64 j = column - matrix * m;
    Matrices of = matrices(a, a_at, b, b_at, out, matrix);
    const u8* row_a = of.a + i * a_at.nb[1];
    const u8* row_b = (const u8*)of.b + j * b_at.nb[1];
    int bytes = plain_bytes(a_type);
    i64 k = a_at.ne[0];
    float sum = 0.0f;
    for (i64 first = 4 * lane_index(); first < k; first += 4 * WAVE) {
        int count = k - first < 4 ? (int)(k - first) : 4;
        floats4 x = load_four(a_type, row_a + first * bytes, bytes, count);
        floats4 y = load_four((const float*)(row_b + 4 * first), 4, count);
        sum = fmaf(x.x, y.x, sum);
        sum = fmaf(x.y, y.y, sum);
        sum = fmaf(x.z, y.z, sum);
        sum = fmaf(x.w, y.w, sum);
    }
    sum = wave_sum(sum);
    if (lane_index() == 0) of.out[j * n + i] = sum;
}
