// The simulated device: a block's threads as fibers, run in seeded order between barriers.
#pragma once

#include "sim_state.h"

// Saves the callee-saved registers and the stack pointer, and continues where `load` was saved.
#if defined(__x86_64__)
asm(R"(
    .text
    .globl rf_switch
    .hidden rf_switch
    .type rf_switch, @function
rf_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size rf_switch, .-rf_switch
)");
// Six registers, the entry address, and a return address that is never used.
RF_RAW void* rf_first_frame(char* top, void (*entry)()) {
    void** sp = (void**)top - 8;
    for (int i = 0; i < 8; i++) sp[i] = 0;
    sp[6] = (void*)entry;
    return sp;
}
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl rf_switch
    .hidden rf_switch
    .type rf_switch, %function
rf_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size rf_switch, .-rf_switch
)");
RF_RAW void* rf_first_frame(char* top, void (*entry)()) {
    void** sp = (void**)top - 20;
    for (int i = 0; i < 20; i++) sp[i] = 0;
    sp[11] = (void*)entry;
    return sp;
}
#else
#error "the simulated device switches stacks on x86_64 and aarch64 only"
#endif

constexpr rf_u64 rf_canary = 0x7266737461636B21ull;

RF_RAW char* rf_stack(int i) { return rf.launch->stacks + rf.launch->stack_stride * (rf_u64)i; }

// xorshift64*
RF_RAW unsigned rf_random(unsigned below) {
    rf_u64 x = rf.random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rf.random = x;
    return (unsigned)((((x * 0x2545F4914F6CDD1Dull) >> 32) * below) >> 32);
}

// A random thread that can run, or -1.
inline __attribute__((always_inline, no_sanitize_address)) int rf_pick() {
    int n = rf.n_ready;
    if (n == 0) return -1;
    int at = n == 1 ? 0 : (int)rf_random((unsigned)n);
    int thread = rf.ready[at];
    rf.ready[at] = rf.ready[n - 1];
    rf.n_ready = n - 1;
    return thread;
}

// No thread can run and some have not ended: reports the waiting threads.
[[noreturn]] RF_RAW void rf_stuck() {
    int waits = -1, other = -1;
    for (int i = 0; i < rf.threads; i++)
        if (rf.thread_of[i].state == rf_at_wave || rf.thread_of[i].state == rf_at_barrier) { waits = i; break; }
    int state = rf.thread_of[waits].state;
    int first = state == rf_at_wave ? waits / WAVE * WAVE : 0;
    int last = state == rf_at_wave ? first + rf.wave[waits / WAVE].lanes : rf.threads;
    for (int i = first; i < last; i++)
        if (rf.thread_of[i].state != state) { other = i; break; }
    int other_line = other >= 0 && rf.thread_of[other].state != rf_ended ? rf.thread_of[other].line : 0;
    rf.thread = waits;
    rf_fail(rf_barrier_left, other, rf.thread_of[waits].line, other_line, 0, 0, 0);
}

RF_RAW void rf_check_stack(int stack) {
    if (*(rf_u64*)rf_stack(stack) != rf_canary) rf_fail(rf_stack_overflow, -1, 0, 0, 0, rf.launch->stack_bytes, 0);
}

// The main loop of a stack: unstarted threads run on it one after another, until a waiting thread continues.
RF_RAW void rf_run_threads() {
    for (;;) {
        rf.launch->call(rf.launch->args);
        int ended = rf.thread;
        int stack = rf.thread_of[ended].stack;
        rf_check_stack(stack);
        rf.thread_of[ended].state = rf_ended;
        rf.n_ended++;
        int next = rf_pick();
        void* left;
        if (next < 0) {
            if (rf.n_ended < rf.threads) rf_stuck();
            rf_switch(&left, rf.main);
        }
        rf.thread = next;
        if (rf.thread_of[next].state == rf_fresh) {
            rf.thread_of[next].stack = stack;
            rf.thread_of[next].state = rf_ready;
        } else {
            rf.free_stacks[rf.n_free_stacks++] = (unsigned short)stack;
            rf_switch(&left, rf.thread_of[next].stack_pointer);
        }
    }
}

RF_RAW void* rf_begin(int thread) {
    int stack = rf.free_stacks[--rf.n_free_stacks];
    char* bottom = rf_stack(stack);
    *(rf_u64*)bottom = rf_canary;
    rf.own_stack = (rf_uptr)bottom;
    rf.thread_of[thread].stack = stack;
    rf.thread_of[thread].state = rf_ready;
    return rf_first_frame(bottom + rf.launch->stack_bytes, rf_run_threads);
}

// The current thread waits; another continues.
RF_RAW void rf_wait() {
    int me = rf.thread;
    int next = rf_pick();
    if (next < 0) rf_stuck();
    rf.thread = next;
    RfThread& other = rf.thread_of[next];
    void* load = other.state == rf_fresh ? rf_begin(next) : other.stack_pointer;
    rf_switch(&rf.thread_of[me].stack_pointer, load);
    rf.own_stack = (rf_uptr)rf_stack(rf.thread_of[me].stack);
}

// Waits until every thread of the block has arrived.
RF_RAW void rf_barrier(int line) {
    int me = rf.thread;
    if (rf.n_at_barrier == 0) rf.barrier_line = line;
    else if (rf.barrier_line != line) rf_fail(rf_barrier_diverged, -1, line, rf.barrier_line, 0, 0, 0);
    rf.thread_of[me].state = rf_at_barrier;
    rf.thread_of[me].line = line;
    if (++rf.n_at_barrier < rf.threads) return rf_wait();
    rf.n_at_barrier = 0;
    rf.barrier_time = ++rf.clock;
    for (int i = 0; i < rf.threads; i++) {
        rf.thread_of[i].state = rf_ready;
        if (i != me) rf.ready[rf.n_ready++] = (unsigned short)i;
    }
}

// Waits until every lane of the wave has arrived. `orders`: orders their shared memory, which a shuffle does not.
RF_RAW void rf_wave_barrier(int line, bool orders) {
    int me = rf.thread;
    RfWave& wave = rf.wave[me / WAVE];
    if (wave.arrived == 0) wave.line = line;
    else if (wave.line != line) rf_fail(rf_barrier_diverged, -1, line, wave.line, 0, 0, 0);
    rf.thread_of[me].state = rf_at_wave;
    rf.thread_of[me].line = line;
    if (++wave.arrived < wave.lanes) return rf_wait();
    wave.arrived = 0;
    wave.parity ^= 1;
    if (orders) wave.time = ++rf.clock;
    int first = me / WAVE * WAVE;
    for (int i = first; i < first + wave.lanes; i++) {
        rf.thread_of[i].state = rf_ready;
        if (i != me) rf.ready[rf.n_ready++] = (unsigned short)i;
    }
}

// The value of `lane` of this wave. The slots alternate, as no lane can pass two shuffles while another has yet to read
// the first.
RF_RAW unsigned rf_shuffle(unsigned value, int lane, int line) {
    RfWave& wave = rf.wave[rf.thread / WAVE];
    unsigned* slots = wave.slots[wave.parity];
    slots[rf.thread % WAVE] = value;
    if ((unsigned)lane >= (unsigned)wave.lanes) rf_fail(rf_lane_absent, lane, line, 0, 0, 0, 0);
    rf_wave_barrier(line, false);
    return slots[lane];
}

RF_RAW void rf_run_block(rf_u64 index) {
    rf.block_x = (int)(index % (unsigned)rf.grid_x);
    rf.block_y = (int)(index / (unsigned)rf.grid_x % (unsigned)rf.grid_y);
    rf.block_z = (int)(index / (unsigned)rf.grid_x / (unsigned)rf.grid_y);
    rf.random = (rf.launch->seed ^ (index + 1) * 0x9E3779B97F4A7C15ull) | 1;
    rf_random(2);
    memset(__start_rfshared, 0xA5, (rf_u64)(__stop_rfshared - __start_rfshared));
    memset(rf.launch->dynamic_shared, 0xA5, rf.dynamic_bytes);
    rf.barrier_time = rf.block_time = ++rf.clock;
    rf.n_ready = rf.threads;
    rf.n_ended = rf.n_at_barrier = 0;
    rf.n_free_stacks = rf.threads;
    for (int i = 0; i < rf.threads; i++) {
        rf.ready[i] = (unsigned short)i;
        rf.free_stacks[i] = (unsigned short)(rf.threads - 1 - i);
        rf.thread_of[i].state = rf_fresh;
    }
    for (int w = 0; w * WAVE < rf.threads; w++) {
        int left = rf.threads - w * WAVE;
        rf.wave[w].arrived = 0;
        rf.wave[w].lanes = left < WAVE ? left : WAVE;
        rf.wave[w].time = rf.block_time;
    }
    rf.thread = rf_pick();
    rf_switch(&rf.main, rf_begin(rf.thread));
}

// Visits blocks in a seeded order: a step that is coprime to their number reaches all of them.
RF_RAW rf_u64 rf_step(rf_u64 n, rf_u64 seed) {
    for (rf_u64 step = seed % n | 1;; step += 2) {
        rf_u64 a = n, b = step;
        while (b != 0) { rf_u64 r = a % b; a = b; b = r; }
        if (a == 1) return step % n == 0 ? 1 : step % n;
    }
}

// Runs blocks until none is left; returns 0 or the fault.
RF_RAW int rf_run(RfLaunch* launch) {
    rf.launch = launch;
    rf.grid_x = launch->grid_x;
    rf.grid_y = launch->grid_y;
    rf.grid_z = launch->grid_z;
    rf.threads = launch->threads;
    rf.memory = launch->memory;
    rf.memory_bytes = launch->memory_bytes;
    rf.shadow = launch->shadow;
    rf.pages = launch->pages;
    rf.stacks = (rf_uptr)launch->stacks;
    rf.stack_bytes = launch->stack_bytes;
    rf.stacks_bytes = launch->stack_stride * (rf_u64)launch->threads;
    rf.dynamic_shared = (rf_uptr)launch->dynamic_shared;
    rf.dynamic_bytes = (rf_u64)launch->shared_bytes;
    rf.cells = launch->cells;
    rf.races = launch->races;
    rf.clock = launch->clock;
    launch->fault.what = rf_none;
    rf_u64 blocks = (rf_u64)rf.grid_x * (rf_u64)rf.grid_y * (rf_u64)rf.grid_z;
    // With 2^32 blocks or more, a product of two block numbers would overflow.
    rf_u64 step = blocks >> 32 != 0 ? 1 : rf_step(blocks, launch->seed >> 8), start = launch->seed % blocks;
    while (__atomic_load_n(launch->stop, __ATOMIC_RELAXED) == 0) {
        rf_u64 n = __atomic_fetch_add(launch->next_block, 1, __ATOMIC_RELAXED);
        if (n >= blocks) break;
        rf_run_block((n * step + start) % blocks);
        if (launch->fault.what != rf_none) __atomic_store_n(launch->stop, 1, __ATOMIC_RELAXED);
    }
    launch->clock = rf.clock;
    return launch->fault.what;
}

// A kernel's name, the sizes of its arguments, and flags for addresses.
struct RfKernel {
    const char* name;
    void (*call)(void** args);
    int threads;             // threads per block, 0: any
    int n_args;
    const unsigned* sizes;
    const unsigned char* addresses;
};

struct RfModule {
    int abi, wave, checked;
    int n_kernels;
    const RfKernel* kernels;
    int (*run)(RfLaunch*);
    rf_u64 shared_bytes;     // static, of all kernels of the module
    rf_uptr base;            // the load address of the shared object
};

template <class T> struct RfIsAddress { static constexpr unsigned char value = 0; };
template <class T> struct RfIsAddress<T*> { static constexpr unsigned char value = 1; };

template <int... I> struct RfIndices {};
template <int N, int... I> struct RfCount : RfCount<N - 1, N - 1, I...> {};
template <int... I> struct RfCount<0, I...> { typedef RfIndices<I...> type; };

template <auto F> struct RfCall;
template <class... A, void (*F)(A...)> struct RfCall<F> {
    static constexpr int n_args = (int)sizeof...(A);
    static constexpr unsigned sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
    static constexpr unsigned char addresses[sizeof...(A) + 1] = {RfIsAddress<A>::value..., 0};
    template <int... I> RF_RAW static void with(void** args, RfIndices<I...>) { F(*(A*)args[I]...); }
    RF_RAW static void call(void** args) { with(args, typename RfCount<(int)sizeof...(A)>::type{}); }
};
