// Tiles with mma.sync.m16n8k16, two for a tile of 16 columns; sm_80 and later.
//
// The elements of a lane: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type". With g = lane / 4 and
// t = lane % 4, and two elements per register:
//   A  registers 0 … 3: rows g, g + 8, g, g + 8; k = 2t, 2t + 1, and 8 more in registers 2 and 3
//   B  registers 0, 1: column g; k = 2t, 2t + 1, and 8 more in register 1
//   C  elements 0 … 3: rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1
// ldmatrix gives lane i the elements 2t and 2t + 1 of row g of an 8×8 matrix; .trans gives those of column g.
#pragma once

#define TILE_ROWS 2
#define TILE_SCRATCH 0
#define TILE_WORDS 4
#define TILE_FIRST_MASK 1
#define TILE_LAST_MASK 2

struct TileA { u32 v[4]; };
// Registers 0 and 1 for columns 0 … 7, 2 and 3 for columns 8 … 15.
struct TileB { u32 v[4]; };
struct TileC { float v[8]; };

DEVICE inline constexpr int tile_slot(int i) { return (i >> 1) & 1; }
DEVICE inline int tile_slot_row(int s) { return lane_index() / 4 + 8 * s; }
DEVICE inline int tile_col(int i) { return 2 * (lane_index() % 4) + (i & 1) + 8 * (i >> 2); }

DEVICE inline TileC tile_zero() { return TileC{{0, 0, 0, 0, 0, 0, 0, 0}}; }

// Lanes 0 … 7 pass the rows of the first matrix, 8 … 15 of the second and so on. The order of the four matrices is that
// of the registers above.
DEVICE inline TileA tile_load_a(const u16* p, int stride) {
    const int lane = lane_index();
    const u32 at = (u32)__cvta_generic_to_shared(p + (lane & 15) * stride + (lane >> 4) * 8);
    TileA a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.v[0]), "=r"(a.v[1]), "=r"(a.v[2]), "=r"(a.v[3])
                 : "r"(at)
                 : "memory");
    return a;
}

DEVICE inline TileB tile_load_b(const u16* p, int stride) {
    const int lane = lane_index();
    const int row = (lane & 7) + (lane >> 4) * 8;
    const u32 at = (u32)__cvta_generic_to_shared(p + row * stride + ((lane >> 3) & 1) * 8);
    TileB b;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b.v[0]), "=r"(b.v[1]), "=r"(b.v[2]), "=r"(b.v[3])
                 : "r"(at)
                 : "memory");
    return b;
}

DEVICE inline TileB tile_load_b_transposed(const u16* p, int stride) {
    const int lane = lane_index();
    const u32 at = (u32)__cvta_generic_to_shared(p + (lane & 15) * stride + (lane >> 4) * 8);
    TileB b;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b.v[0]), "=r"(b.v[1]), "=r"(b.v[2]), "=r"(b.v[3])
                 : "r"(at)
                 : "memory");
    return b;
}

DEVICE inline void tile_mma(TileC& c, const TileA& a, const TileB& b) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c.v[4 * half]), "+f"(c.v[4 * half + 1]), "+f"(c.v[4 * half + 2]), "+f"(c.v[4 * half + 3])
            : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b.v[2 * half]), "r"(b.v[2 * half + 1]));
    }
}

DEVICE inline void tile_mma_bf16(TileC& c, const TileA& a, const TileB& b) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c.v[4 * half]), "+f"(c.v[4 * half + 1]), "+f"(c.v[4 * half + 2]), "+f"(c.v[4 * half + 3])
            : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b.v[2 * half]), "r"(b.v[2 * half + 1]));
    }
}

// Two numbers per register, the first in the lower half; cvt's first operand goes to the upper half.
DEVICE inline u32 tile_halves(float low, float high) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

DEVICE inline u32 tile_bf16s(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// A lane needs the same elements of A that it holds of C: elements 2j and 2j + 1 are register j.
DEVICE inline TileA tile_pack(const TileC& c, u16*) {
    return TileA{{tile_halves(c.v[0], c.v[1]), tile_halves(c.v[2], c.v[3]), tile_halves(c.v[4], c.v[5]),
                  tile_halves(c.v[6], c.v[7])}};
}

DEVICE inline TileA tile_pack_bf16(const TileC& c, u16*) {
    return TileA{{tile_bf16s(c.v[0], c.v[1]), tile_bf16s(c.v[2], c.v[3]), tile_bf16s(c.v[4], c.v[5]),
                  tile_bf16s(c.v[6], c.v[7])}};
}
