// The simulated device, with the system's C++ compiler: implements platform.h.
#pragma once

#include "sim_state.h"
#include "sim_access.h"
#include "sim_block.h"

#define DEVICE __attribute__((unused))
// src/hip/platform/sim/text.rs finds kernels in the preprocessed text by the section's name.
#define RF_KERNEL(threads, name)                   \
    static constexpr int name##_rf_threads = (threads); \
    static __attribute__((section("rfkernel"))) void name
#define KERNEL(name) RF_KERNEL(0, name)
#define KERNEL_OF(threads, name) RF_KERNEL(threads, name)
#define KERNEL_FITTING(threads, blocks, name) KERNEL_OF(threads, name)
#define SHARED static __attribute__((section("rfshared"), aligned(16)))
#define DYNAMIC_SHARED(type, name) type* const name = (type*)rf_dynamic_shared()
#define INFINITY_F __builtin_inff()

// Hides the address of a shared variable from the compiler, so that every access to it is checked.
template <class T> inline T* rf_opaque(T* p) {
    asm("" : "+r"(p));
    return p;
}

RF_RAW void* rf_dynamic_shared() { return rf.launch->dynamic_shared; }

DEVICE inline int block_index_x() { return RF_STATE(block_x); }
DEVICE inline int block_index_y() { return RF_STATE(block_y); }
DEVICE inline int block_index_z() { return RF_STATE(block_z); }
DEVICE inline int grid_size_x() { return RF_STATE(grid_x); }
DEVICE inline int grid_size_y() { return RF_STATE(grid_y); }
DEVICE inline int grid_size_z() { return RF_STATE(grid_z); }
DEVICE inline int thread_index() { return RF_STATE(thread); }
DEVICE inline int block_size() { return RF_STATE(threads); }
DEVICE inline int lane_index() { return thread_index() % WAVE; }
// The line identifies a barrier, and is named in faults.
DEVICE inline void barrier(int line = __builtin_LINE()) { rf_barrier(line); }
DEVICE inline void wave_barrier(int line = __builtin_LINE()) { rf_wave_barrier(line, true); }

union RfWord { float f; i32 i; u32 u; };

DEVICE inline i32 wave_shuffle(i32 x, int lane, int line = __builtin_LINE()) {
    return (i32)rf_shuffle((u32)x, lane, line);
}
DEVICE inline float wave_shuffle(float x, int lane, int line = __builtin_LINE()) {
    RfWord w;
    w.f = x;
    w.u = rf_shuffle(w.u, lane, line);
    return w.f;
}
DEVICE inline i32 wave_shuffle_xor(i32 x, int mask, int line = __builtin_LINE()) {
    return wave_shuffle(x, lane_index() ^ mask, line);
}
DEVICE inline float wave_shuffle_xor(float x, int mask, int line = __builtin_LINE()) {
    return wave_shuffle(x, lane_index() ^ mask, line);
}

DEVICE inline int computed_again(int x) { return x; }

DEVICE inline i32 dot4(i32 a, i32 b, i32 c) {
    for (int i = 0; i < 32; i += 8) c += (i32)(i8)(a >> i) * (i32)(i8)(b >> i);
    return c;
}

// A half's exponent has 5 bits with a bias of 15, an f32's 8 bits with 127: after shifting it into place, multiplying
// by 2^112 corrects the bias, denormals included.
DEVICE inline float half_to_float(u16 bits) {
    RfWord w;
    w.u = (u32)(bits & 0x7FFFu) << 13;
    if (w.u >= 0x0F800000u) w.u += 0x70000000u;
    else w.f *= 0x1p112f;
    w.u |= (u32)(bits & 0x8000u) << 16;
    return w.f;
}

DEVICE inline u16 float_to_half(float x) {
    RfWord w;
    w.f = x;
    u32 sign = w.u >> 16 & 0x8000u, rest = w.u & 0x7FFFFFFFu;
    if (rest > 0x7F800000u) return (u16)(sign | 0x7E00u | (rest >> 13 & 0x1FFu));
    if (rest >= 0x477FF000u) return (u16)(sign | 0x7C00u);
    if (rest < 0x38800000u) {
        // Below the smallest normal half: adding 0.5 leaves a multiple of 2^-24 in the low bits, correctly rounded.
        w.u = rest;
        w.f += 0.5f;
        return (u16)(sign | (w.u - 0x3F000000u));
    }
    rest += 0xFFFu + (rest >> 13 & 1u);
    return (u16)(sign | (rest - 0x38000000u) >> 13);
}

extern "C" {
float sqrtf(float); float expf(float); float exp2f(float); float expm1f(float); float logf(float); float log2f(float);
float log1pf(float); float powf(float, float); float sinf(float); float cosf(float); float tanf(float);
float sinhf(float); float coshf(float); float tanhf(float); float erff(float); float erfcf(float); float atanf(float);
float atan2f(float, float); float fabsf(float); float fmaxf(float, float); float fminf(float, float);
float fmodf(float, float); float floorf(float); float ceilf(float); float roundf(float); float rintf(float);
float nearbyintf(float); float truncf(float); float copysignf(float, float); float fmaf(float, float, float);
float ldexpf(float, int); float cbrtf(float); void sincosf(float, float*, float*);
double sqrt(double); double exp(double); double exp2(double); double expm1(double); double log(double);
double log2(double); double log1p(double); double pow(double, double); double sin(double); double cos(double);
double tan(double); double sinh(double); double cosh(double); double tanh(double); double erf(double);
double erfc(double); double atan(double); double atan2(double, double); double fabs(double);
double fmax(double, double); double fmin(double, double); double fmod(double, double); double floor(double);
double ceil(double); double round(double); double rint(double); double trunc(double); double copysign(double, double);
double fma(double, double, double); double ldexp(double, int); double cbrt(double);
void sincos(double, double*, double*);
}

DEVICE inline float fast_exp(float x) { return expf(x); }

#define TABLE static const

DEVICE inline words4 load_once(const words4* p) { return *p; }

DEVICE inline u32 permute_bytes(u32 low, u32 high, u32 index) {
    u64 both = (u64)high << 32 | low;
    u32 found = 0;
    for (int i = 0; i < 32; i += 8) found |= (u32)(both >> (index >> i & 7u) * 8 & 255u) << i;
    return found;
}

// Contraction is turned off by a compiler option.
DEVICE inline float multiply_then_add(float a, float b, float c) { return a * b + c; }
