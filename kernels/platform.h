// The one platform header: the differences between AMD, NVIDIA and the simulated device.
//
// Kernels include no other headers, as the run-time compilers bring no standard ones. Everything that a kernel uses
// besides plain C++17 is listed here. WAVE (32 or 64) is defined on the compiler's command line.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

// Vectors of 32-bit words, for loads of 8 and 16 bytes.
struct alignas(8) words2 { u32 x, y; };
struct alignas(16) words4 { u32 x, y, z, w; };
struct alignas(16) floats4 { float x, y, z, w; };

// Sizes, and strides in bytes, of a tensor; passed to kernels by value.
struct Layout { i64 ne[4]; i64 nb[4]; };

#if defined(RFGRAPH_SIM)
#include "platform_sim.h"
#elif defined(__HIP_PLATFORM_AMD__) || defined(__AMDGCN__)
#include "platform_amd.h"
#else
#include "platform_nvidia.h"
#endif

// Each platform header defines:
//
//   KERNEL(name)(args) { … }             a kernel
//   KERNEL_OF(threads, name)(args) { … } a kernel that is always launched with this number of threads per block
//   KERNEL_FITTING(threads, blocks, name)(args) { … } such a kernel with registers limited so that this many
//                                        blocks fit a multiprocessor at once, where the compiler supports that (NVIDIA)
//   DEVICE                               a function of the device, inlined
//   SHARED                               before a variable: shared by the block (no initialiser)
//   DYNAMIC_SHARED(type, name)           the dynamic shared memory of the launch, 16-byte aligned
//   block_index_x() _y() _z(), grid_size_x() _y() _z(), thread_index(), block_size()   (blocks are 1-D; int)
//   barrier()                            waits for the block
//   wave_barrier()                       waits for the wave, and orders its shared memory
//   lane_index()                         0 … WAVE - 1
//   wave_shuffle_xor(value, mask), wave_shuffle(value, lane)   for float and i32; every lane of the wave calls it
//   load_once(const words4*)             16 bytes that are not read again soon
//   permute_bytes(low, high, index)      for each byte of `index` (0 to 7), that byte of the eight of low and high
//   multiply_then_add(a, b, c)           a · b + c, rounded twice
//   TABLE                                before a constant array of the device
//   computed_again(x)                    x, which all lanes must agree on. On AMD the compiler then computes what depends
//                                        on it in each pass of a loop, not once before: that saves registers
//   dot4(a, b, c)                        c + the sum of four products of signed bytes
//   half_to_float(u16), float_to_half(float)   IEEE half, to nearest, ties to even; too large gives infinity
//   fast_exp(float)                      exp to about 2 ulp
//   INFINITY_F                           infinity
//   f32 and f64 functions under C's names: sqrtf expf logf tanhf erff fabsf fmaxf fminf floorf sin cos sincos …

// The sum over the lanes of a wave, in every lane. The order is fixed: pairs 1, 2, 4 … apart.
DEVICE inline float wave_sum(float x) {
    for (int mask = 1; mask < WAVE; mask <<= 1) x += wave_shuffle_xor(x, mask);
    return x;
}

DEVICE inline i32 wave_sum(i32 x) {
    for (int mask = 1; mask < WAVE; mask <<= 1) x += wave_shuffle_xor(x, mask);
    return x;
}

DEVICE inline float wave_max(float x) {
    for (int mask = 1; mask < WAVE; mask <<= 1) x = fmaxf(x, wave_shuffle_xor(x, mask));
    return x;
}

// bfloat16 is the upper half of an f32.
DEVICE inline float bf16_to_float(u16 bits) {
    union { u32 word; float value; } u;
    u.word = (u32)bits << 16;
    return u.value;
}

// To nearest, ties to even; NaN stays NaN.
DEVICE inline u16 float_to_bf16(float x) {
    union { float value; u32 word; } u;
    u.value = x;
    if (x != x) return (u16)((u.word >> 16) | 64u);
    return (u16)((u.word + 0x7FFFu + ((u.word >> 16) & 1u)) >> 16);
}

// One element of a plain type as f32.
DEVICE inline float load_f32(const float* p) { return *p; }
