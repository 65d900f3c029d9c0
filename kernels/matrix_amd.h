// Tiles with AMD's matrix instructions: MFMA on CDNA (waves of 64), WMMA on RDNA 3 and 4 (waves of 32).
//
// The elements of a lane, with r = lane % 16 and h = lane / 16 (AMD's matrix instruction calculator, and the
// "Instruction Set Architecture" documents of CDNA 3, RDNA 3 and RDNA 4):
//   MFMA 16×16×16   A row r and B column r: k = 4h … 4h + 3     C column r: rows 4h … 4h + 3
//   WMMA, RDNA 3    A row r and B column r: all k, in both halves of the wave   C column r: rows h, h + 2, h + 4 …
//   WMMA, RDNA 4    A row r and B column r: k = 8h … 8h + 7     C column r: rows 8h … 8h + 7
// The order of k in a lane only matters in that A and B must agree.
#pragma once

#if WAVE == 64
#define TILE_K 4
#elif defined(__GFX11__)
#define TILE_K 16
#else
#define TILE_K 8
#endif

#define TILE_ROWS TILE_C
#define TILE_SCRATCH (16 * 24)
#define TILE_WORDS (TILE_K / 2)
#define TILE_FIRST_MASK 1
#define TILE_LAST_MASK 8

typedef _Float16 tile_halves __attribute__((ext_vector_type(TILE_K)));
typedef short tile_words __attribute__((ext_vector_type(TILE_K)));
typedef float tile_floats __attribute__((ext_vector_type(TILE_C)));

// Row r of A, or column r of B: TILE_K elements, as whole 32-bit words.
struct TileA { union { u32 word[TILE_K / 2]; u16 v[TILE_K]; tile_halves halves; tile_words words; }; };
struct TileB { union { u32 word[TILE_K / 2]; u16 v[TILE_K]; tile_halves halves; tile_words words; }; };
struct TileC { tile_floats v; };

// The first k that the lane holds.
DEVICE inline int tile_first_k() { return TILE_K == 16 ? 0 : lane_index() / 16 * TILE_K; }

DEVICE inline constexpr int tile_slot(int i) { return i; }
DEVICE inline int tile_slot_row(int s) {
#if TILE_K == 16
    return 2 * s + lane_index() / 16;
#else
    return TILE_C * (lane_index() / 16) + s;
#endif
}
DEVICE inline int tile_col(int) { return lane_index() % 16; }

DEVICE inline TileC tile_zero() {
    TileC c;
    c.v = (tile_floats)(0.0f);
    return c;
}

DEVICE inline TileA tile_load_a(const u16* p, int stride) {
    const u16* from = p + lane_index() % 16 * stride + tile_first_k();
    TileA a;
#if TILE_K == 4
    *(words2*)a.word = *(const words2*)from;
#else
    for (int i = 0; i < TILE_K / 8; i++) ((words4*)a.word)[i] = ((const words4*)from)[i];
#endif
    return a;
}

// Keeps the compiler from moving the loads of many products before the first product, which would exhaust the
// registers.
DEVICE inline void tile_hold_loads() {
#if TILE_K > 4
    __builtin_amdgcn_sched_barrier(0);
#endif
}

DEVICE inline TileB tile_load_b(const u16* p, int stride) {
    tile_hold_loads();
    const TileA a = tile_load_a(p, stride);
    TileB b;
    b.halves = a.halves;
    return b;
}

DEVICE inline TileB tile_load_b_transposed(const u16* p, int stride) {
    tile_hold_loads();
    const u16* from = p + tile_first_k() * stride + lane_index() % 16;
    TileB b;
#pragma unroll
    for (int i = 0; i < TILE_K / 2; i++) {
        b.word[i] = (u32)from[2 * i * stride] | (u32)from[(2 * i + 1) * stride] << 16;
    }
    return b;
}

DEVICE inline void tile_mma(TileC& c, const TileA& a, const TileB& b) {
#if WAVE == 64
    c.v = __builtin_amdgcn_mfma_f32_16x16x16f16(a.halves, b.halves, c.v, 0, 0, 0);
#elif defined(__GFX11__)
    c.v = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(a.halves, b.halves, c.v);
#else
    c.v = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(a.halves, b.halves, c.v);
#endif
}

DEVICE inline void tile_mma_bf16(TileC& c, const TileA& a, const TileB& b) {
#if defined(__gfx908__)
    // Eight k at a time, two per lane.
    typedef short pair __attribute__((ext_vector_type(2)));
    c.v = __builtin_amdgcn_mfma_f32_16x16x8bf16((pair)(a.words.xy), (pair)(b.words.xy), c.v, 0, 0, 0);
    c.v = __builtin_amdgcn_mfma_f32_16x16x8bf16((pair)(a.words.zw), (pair)(b.words.zw), c.v, 0, 0, 0);
#elif WAVE == 64
    c.v = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a.words, b.words, c.v, 0, 0, 0);
#elif defined(__GFX11__)
    c.v = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a.words, b.words, c.v);
#else
    c.v = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a.words, b.words, c.v);
#endif
}

DEVICE inline TileA tile_pack(const TileC& c, u16* scratch) {
    wave_barrier();
#pragma unroll
    for (int i = 0; i < TILE_C; i++) scratch[tile_slot_row(i) * 24 + lane_index() % 16] = float_to_half(c.v[i]);
    wave_barrier();
    return tile_load_a(scratch, 24);
}

DEVICE inline TileA tile_pack_bf16(const TileC& c, u16* scratch) {
    wave_barrier();
#pragma unroll
    for (int i = 0; i < TILE_C; i++) scratch[tile_slot_row(i) * 24 + lane_index() % 16] = float_to_bf16(c.v[i]);
    wave_barrier();
    return tile_load_a(scratch, 24);
}
