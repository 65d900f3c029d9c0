// AMD, with hipRTC: implements platform.h. hipRTC declares the builtins of HIP's device language itself.
#pragma once

#define DEVICE __device__ __forceinline__
// A check that compiles many variants as one program gives kernels different names.
#ifndef KERNEL_NAME
#define KERNEL_NAME(name) name
#endif
#define KERNEL(name) extern "C" __global__ void KERNEL_NAME(name)
#define KERNEL_OF(threads, name) extern "C" __global__ void __launch_bounds__(threads) KERNEL_NAME(name)
#define KERNEL_FITTING(threads, blocks, name) KERNEL_OF(threads, name)
#define SHARED __shared__
#define DYNAMIC_SHARED(type, name)                          \
    extern __shared__ __align__(16) unsigned char name##_raw[]; \
    type* name = reinterpret_cast<type*>(name##_raw)
#define INFINITY_F __builtin_inff()

DEVICE int block_index_x() { return (int)blockIdx.x; }
DEVICE int block_index_y() { return (int)blockIdx.y; }
DEVICE int block_index_z() { return (int)blockIdx.z; }
DEVICE int grid_size_x() { return (int)gridDim.x; }
DEVICE int grid_size_y() { return (int)gridDim.y; }
DEVICE int grid_size_z() { return (int)gridDim.z; }
DEVICE int thread_index() { return (int)threadIdx.x; }
DEVICE int block_size() { return (int)blockDim.x; }
DEVICE void barrier() { __syncthreads(); }
// A wave runs in lockstep; only the compiler and the memory accesses in flight must be ordered.
DEVICE void wave_barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
    __builtin_amdgcn_wave_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
DEVICE int lane_index() { return (int)(threadIdx.x % WAVE); }

DEVICE i32 wave_shuffle(i32 x, int lane) { return __builtin_amdgcn_ds_bpermute(lane << 2, x); }
DEVICE i32 wave_shuffle_xor(i32 x, int mask) { return wave_shuffle(x, lane_index() ^ mask); }
DEVICE float wave_shuffle(float x, int lane) { return __int_as_float(wave_shuffle(__float_as_int(x), lane)); }
DEVICE float wave_shuffle_xor(float x, int mask) {
    return __int_as_float(wave_shuffle_xor(__float_as_int(x), mask));
}

DEVICE int computed_again(int x) {
    asm volatile("" : "+s"(x));
    return x;
}

// Four products of signed bytes, in one instruction on generations that have it.
DEVICE i32 dot4(i32 a, i32 b, i32 c) {
#if defined(__gfx906__) || defined(__gfx908__) || defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__) || \
    defined(__gfx1011__) || defined(__gfx1012__) || defined(__gfx103_generic__) || defined(__gfx1030__) || \
    defined(__gfx1031__) || defined(__gfx1032__) || defined(__gfx1033__) || defined(__gfx1034__) || \
    defined(__gfx1035__) || defined(__gfx1036__)
    return __builtin_amdgcn_sdot4(a, b, c, false);
#elif defined(__GFX11__) || defined(__GFX12__)
    return __builtin_amdgcn_sudot4(true, a, true, b, c, false);
#else
    for (int i = 0; i < 32; i += 8) c += (i32)(i8)(a >> i) * (i32)(i8)(b >> i);
    return c;
#endif
}

DEVICE float half_to_float(u16 bits) {
    union { u16 word; _Float16 value; } u;
    u.word = bits;
    return (float)u.value;
}

DEVICE u16 float_to_half(float x) {
    union { _Float16 value; u16 word; } u;
    u.value = (_Float16)x;
    return u.word;
}

DEVICE float fast_exp(float x) { return __expf(x); }

#define TABLE static __device__ const

typedef u32 rf_vector4 __attribute__((ext_vector_type(4)));

DEVICE words4 load_once(const words4* p) {
    rf_vector4 x = __builtin_nontemporal_load(reinterpret_cast<const rf_vector4*>(p));
    return {x.x, x.y, x.z, x.w};
}

DEVICE u32 permute_bytes(u32 low, u32 high, u32 index) { return __builtin_amdgcn_perm(high, low, index); }

DEVICE float multiply_then_add(float a, float b, float c) {
#pragma clang fp contract(off)
    float product = a * b;
    return product + c;
}
