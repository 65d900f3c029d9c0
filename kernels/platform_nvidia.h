// NVIDIA, with nvrtc: implements platform.h.
#pragma once

// Not __forceinline__: that includes inline, which nvrtc accepts only once and shared headers already contain. Without
// inline the attribute is ignored with a warning, which is suppressed.
#pragma nv_diag_suppress 2473
#define DEVICE __device__ __attribute__((always_inline))
#define KERNEL(name) extern "C" __global__ void name
#define KERNEL_OF(threads, name) extern "C" __global__ void __launch_bounds__(threads) name
#define KERNEL_FITTING(threads, blocks, name) extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define SHARED __shared__
#define DYNAMIC_SHARED(type, name)                          \
    extern __shared__ __align__(16) unsigned char name##_raw[]; \
    type* name = reinterpret_cast<type*>(name##_raw)
#define INFINITY_F __int_as_float(0x7F800000)

DEVICE int block_index_x() { return (int)blockIdx.x; }
DEVICE int block_index_y() { return (int)blockIdx.y; }
DEVICE int block_index_z() { return (int)blockIdx.z; }
DEVICE int grid_size_x() { return (int)gridDim.x; }
DEVICE int grid_size_y() { return (int)gridDim.y; }
DEVICE int grid_size_z() { return (int)gridDim.z; }
DEVICE int thread_index() { return (int)threadIdx.x; }
DEVICE int block_size() { return (int)blockDim.x; }
DEVICE void barrier() { __syncthreads(); }
DEVICE void wave_barrier() { __syncwarp(); }
DEVICE int lane_index() { return (int)(threadIdx.x % WAVE); }

DEVICE float wave_shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xFFFFFFFFu, x, mask); }
DEVICE i32 wave_shuffle_xor(i32 x, int mask) { return __shfl_xor_sync(0xFFFFFFFFu, x, mask); }
DEVICE float wave_shuffle(float x, int lane) { return __shfl_sync(0xFFFFFFFFu, x, lane); }
DEVICE i32 wave_shuffle(i32 x, int lane) { return __shfl_sync(0xFFFFFFFFu, x, lane); }

DEVICE int computed_again(int x) { return x; }

DEVICE i32 dot4(i32 a, i32 b, i32 c) { return __dp4a(a, b, c); }

DEVICE float half_to_float(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

DEVICE u16 float_to_half(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

DEVICE float fast_exp(float x) { return __expf(x); }

#define TABLE static __device__ const

DEVICE words4 load_once(const words4* p) {
    uint4 x = __ldcs(reinterpret_cast<const uint4*>(p));
    return {x.x, x.y, x.z, x.w};
}

// The selector has four bits per byte.
DEVICE u32 permute_bytes(u32 low, u32 high, u32 index) {
    index |= index >> 4;
    return __byte_perm(low, high, (index & 255u) | (index >> 8 & 0xFF00u));
}

DEVICE float multiply_then_add(float a, float b, float c) { return __fadd_rn(__fmul_rn(a, b), c); }
