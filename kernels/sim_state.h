// The simulated device: the state of a block in flight, and the data exchanged with the host.
//
// A kernel's source is one translation unit of a shared object that runs in the host's process. Threads of a block are
// fibers (sim_block.h); sim_access.h checks every load and store. Functions here are never instrumented themselves:
// RF_RAW.
#pragma once

typedef __UINTPTR_TYPE__ rf_uptr;
typedef __UINT64_TYPE__ rf_u64;

#define RF_RAW __attribute__((no_sanitize_address, noinline))
#define RF_EXPORT extern "C" __attribute__((visibility("default"), used))

// Changes with RfLaunch, RfFault and RfModule: a shared object with another value is refused.
constexpr int rf_abi = 2;

enum RfWhat {
    rf_none,
    rf_load_outside,     // a load outside live device memory
    rf_store_outside,    // a store outside live device memory
    rf_load_unwritten,   // a load of device memory that was never written
    rf_shared_outside,   // shared memory past the end of its variable
    rf_shared_unwritten, // a load of shared memory that this block has not written
    rf_shared_race,      // conflicting accesses of two threads without a barrier between them
    rf_barrier_diverged, // threads of a block, or lanes of a wave, wait at different barriers
    rf_barrier_left,     // some threads wait, the others ended or wait elsewhere
    rf_lane_absent,      // a shuffle from a lane that does not exist
    rf_stack_overflow,   // a thread's local variables outgrew its stack, or it reaches into another's
    rf_misaligned,       // device memory at an address that is not a multiple of the access's size
};

struct RfFault {
    int what;
    int thread, other;       // the thread, and the other one of a race or of a divergence
    int block_x, block_y, block_z;
    int line, other_line;    // of a barrier or a shuffle; 0 where unknown
    rf_u64 address, bytes;
    rf_u64 code;             // offset of the faulting instruction in the shared object; 0 where unknown
    char variable[64];       // of shared memory
};

struct RfLaunch {
    void (*call)(void** args);
    void** args;
    int grid_x, grid_y, grid_z;
    int threads;
    int shared_bytes;
    int races;               // 1 to check shared memory for races and unwritten loads
    rf_u64 seed;
    rf_u64* next_block;      // the number of blocks begun by all workers
    int* stop;               // nonzero after a fault of any worker
    char* stacks;            // one for each thread of a block
    rf_u64 stack_bytes, stack_stride;
    char* dynamic_shared;
    rf_u64 shared_limit;     // bytes at dynamic_shared
    struct RfCell* cells;    // for the static shared memory, then for the dynamic
    rf_u64 clock;            // time stamp of the cells; continues from launch to launch
    rf_uptr memory;          // the device's memory
    rf_u64 memory_bytes;
    unsigned char* shadow;   // a byte for each byte of device memory: RF_LIVE …
    unsigned char* pages;    // a byte for each 4 KiB: touched by this operation
    RfFault fault;
};

// Bits of the shadow.
#define RF_VALID 1   // written since it was allocated
#define RF_READ 2    // read by the current operation
#define RF_WRITTEN 4 // written by the current operation
#define RF_LIVE 8    // allocated

// The last write and the last reads of a byte of shared memory, each `clock << 20 | who`.
struct RfCell { rf_u64 write, read; };

struct RfVariable { rf_uptr start; rf_u64 bytes; const char* name; };

// Bytes reserved below the first stack.
constexpr rf_u64 rf_stack_guard = 1 << 20;

constexpr int rf_max_threads = 1024;
constexpr int rf_max_waves = rf_max_threads / WAVE;
constexpr int rf_max_variables = 256;

enum RfThreadState { rf_fresh, rf_ready, rf_at_wave, rf_at_barrier, rf_ended };

struct RfThread {
    void* stack_pointer;
    int state;
    int stack;
    int line;
};

struct RfWave {
    int arrived, lanes, parity, line;
    rf_u64 time;             // of the last wave_barrier
    unsigned slots[2][WAVE];
};

struct RfState {
    int thread;              // the current thread
    int block_x, block_y, block_z, grid_x, grid_y, grid_z, threads;
    // Read first by the check of an access.
    rf_uptr memory;
    rf_u64 memory_bytes;
    unsigned char* shadow;
    unsigned char* pages;
    rf_uptr own_stack, stacks, dynamic_shared; // `own_stack`: of the current thread
    rf_u64 stack_bytes, stacks_bytes, dynamic_bytes;
    RfCell* cells;
    int races;

    RfLaunch* launch;
    void* main;              // the stack pointer of the caller
    rf_u64 random, clock, barrier_time, block_time;
    int n_ready, n_ended, n_at_barrier, n_free_stacks, barrier_line;
    unsigned short ready[rf_max_threads];
    unsigned short free_stacks[rf_max_threads];
    RfThread thread_of[rf_max_threads];
    RfWave wave[rf_max_waves];

    RfVariable variables[rf_max_variables];
    int n_variables;
};

__attribute__((visibility("hidden"))) RfState rf;

// The static shared memory, from the linker; weak as a source may have none.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_rfshared[], __stop_rfshared[];
extern "C" __attribute__((visibility("hidden"))) char __ehdr_start[], _end[];

extern "C" void* memset(void*, int, __SIZE_TYPE__);
extern "C" void* memcpy(void*, const void*, __SIZE_TYPE__);

// A word of the state, read without the check of sim_access.h.
#if defined(__x86_64__)
#define RF_STATE(field) ({ int rf_v; asm("movl %1, %0" : "=r"(rf_v) : "m"(rf.field)); rf_v; })
#elif defined(__aarch64__)
#define RF_STATE(field) ({ int rf_v; asm("ldr %w0, %1" : "=r"(rf_v) : "m"(rf.field)); rf_v; })
#else
RF_RAW inline int rf_state_word(const int* p) { return *p; }
#define RF_STATE(field) rf_state_word(&rf.field)
#endif

extern "C" __attribute__((visibility("hidden"))) void rf_switch(void** save, void* load);

// Ends the launch with a fault; no thread of the block continues.
[[noreturn]] RF_RAW void rf_fail(int what, int other, int line, int other_line, rf_u64 address, rf_u64 bytes, rf_u64 code) {
    RfFault& f = rf.launch->fault;
    f.what = what;
    f.thread = rf.thread;
    f.other = other;
    f.block_x = rf.block_x;
    f.block_y = rf.block_y;
    f.block_z = rf.block_z;
    f.line = line;
    f.other_line = other_line;
    f.address = address;
    f.bytes = bytes;
    f.code = code;
    void* left;
    rf_switch(&left, rf.main);
    __builtin_unreachable();
}
