// Tiles without matrix instructions: operands are addresses, and each lane computes its elements from them. WAVE / 16
// adjacent lanes share a row of C. The loop over k is not unrolled, as kernels multiply many tiles.
#pragma once

#define TILE_LANES (WAVE / 16)
#define TILE_ROWS 1
// Rows of 16 elements with gaps of 8.
#define TILE_SCRATCH (16 * 24)
#define TILE_WORDS 16
#define TILE_FIRST_MASK 1
#define TILE_LAST_MASK (TILE_LANES / 2)

struct TileA { const u16* p; int stride; };
// B[n][k] at p[n * n_stride + k * k_stride].
struct TileB { const u16* p; int n_stride; int k_stride; };
struct TileC { float v[TILE_C]; };

DEVICE inline constexpr int tile_slot(int) { return 0; }
DEVICE inline int tile_slot_row(int) { return lane_index() / TILE_LANES; }
DEVICE inline int tile_col(int i) { return lane_index() % TILE_LANES + i * TILE_LANES; }

DEVICE inline TileC tile_zero() {
    TileC c;
    for (int i = 0; i < TILE_C; i++) c.v[i] = 0;
    return c;
}

DEVICE inline TileA tile_load_a(const u16* p, int stride) { return TileA{p, stride}; }
DEVICE inline TileB tile_load_b(const u16* p, int stride) { return TileB{p, stride, 1}; }
DEVICE inline TileB tile_load_b_transposed(const u16* p, int stride) { return TileB{p, 1, stride}; }

DEVICE inline void tile_mma(TileC& c, const TileA& a, const TileB& b) {
    const u16* row = a.p + tile_slot_row(0) * a.stride;
#pragma unroll 1
    for (int k = 0; k < 16; k++) {
        const float x = half_to_float(row[k]);
        for (int i = 0; i < TILE_C; i++) {
            c.v[i] += x * half_to_float(b.p[tile_col(i) * b.n_stride + k * b.k_stride]);
        }
    }
}

DEVICE inline void tile_mma_bf16(TileC& c, const TileA& a, const TileB& b) {
    const u16* row = a.p + tile_slot_row(0) * a.stride;
#pragma unroll 1
    for (int k = 0; k < 16; k++) {
        const float x = bf16_to_float(row[k]);
        for (int i = 0; i < TILE_C; i++) {
            c.v[i] += x * bf16_to_float(b.p[tile_col(i) * b.n_stride + k * b.k_stride]);
        }
    }
}

DEVICE inline TileA tile_pack(const TileC& c, u16* scratch) {
    wave_barrier();
    for (int i = 0; i < TILE_C; i++) scratch[tile_slot_row(0) * 24 + tile_col(i)] = float_to_half(c.v[i]);
    wave_barrier();
    return TileA{scratch, 24};
}

DEVICE inline TileA tile_pack_bf16(const TileC& c, u16* scratch) {
    wave_barrier();
    for (int i = 0; i < TILE_C; i++) scratch[tile_slot_row(0) * 24 + tile_col(i)] = float_to_bf16(c.v[i]);
    wave_barrier();
    return TileA{scratch, 24};
}
