// The simulated device: checks before every load and store of a kernel. The compiler is told to check addresses as for
// an operating system's kernel (-fsanitize=kernel-address), which calls these functions by their fixed names.
#pragma once

#include "sim_state.h"

#if defined(RFGRAPH_SIM_CHECKED)

// Offset in this shared object of the instruction after the access.
#define RF_CODE ((rf_u64)((char*)__builtin_return_address(0) - __ehdr_start))

RF_RAW const RfVariable* rf_variable(rf_uptr address) {
    const RfVariable* before = 0;
    for (int i = 0; i < rf.n_variables; i++)
        if (rf.variables[i].start <= address && (!before || rf.variables[i].start > before->start))
            before = &rf.variables[i];
    return before;
}

[[noreturn]] RF_RAW void rf_fail_shared(int what, int other, rf_uptr address, rf_u64 bytes, rf_u64 code) {
    const char* name = "dynamic shared memory";
    if (address - rf.dynamic_shared >= rf.launch->shared_limit) {
        const RfVariable* variable = rf_variable(address);
        name = variable ? variable->name : "shared memory";
    }
    char* to = rf.launch->fault.variable;
    int i = 0;
    for (; name[i] != 0 && i < 63; i++) to[i] = name[i];
    to[i] = 0;
    rf_fail(what, other, 0, 0, address, bytes, code);
}

// The last readers: a thread, several of one wave, or threads of several waves.
constexpr rf_u64 rf_who = 0xFFFFF, rf_one_wave = 0x40000, rf_many = 0x80000;

// Races are detected from the barriers between two accesses, not from the order in which they happened to run.
RF_RAW void rf_check_cells(RfCell* cell, rf_uptr address, rf_u64 bytes, bool store, rf_u64 code) {
    rf_u64 me = (rf_u64)rf.thread, wave = me / WAVE;
    rf_u64 block = rf.barrier_time, in_wave = rf.wave[wave].time, now = rf.clock;
    for (rf_u64 i = 0; i < bytes; i++) {
        rf_u64 at = cell[i].write >> 20, who = cell[i].write & rf_who;
        if (at < rf.block_time) {
            if (!store) rf_fail_shared(rf_shared_unwritten, -1, address + i, 1, code);
        } else if (at >= block && who != me && !(who / WAVE == wave && at < in_wave)) {
            rf_fail_shared(rf_shared_race, (int)who, address + i, 1, code);
        }
        rf_u64 read_at = cell[i].read >> 20, reader = cell[i].read & rf_who;
        if (store) {
            if (read_at >= block && reader != me) {
                bool mine = reader == (rf_one_wave | wave) || (reader < rf_one_wave && reader / WAVE == wave);
                if (!(mine && read_at < in_wave))
                    rf_fail_shared(rf_shared_race, reader < rf_one_wave ? (int)reader : -1, address + i, 1, code);
            }
            cell[i].write = now << 20 | me;
        } else {
            if (read_at >= block && reader != me) {
                bool same = reader == (rf_one_wave | wave) || (reader < rf_one_wave && reader / WAVE == wave);
                reader = same ? (rf_one_wave | wave) : rf_many;
            } else {
                reader = me;
            }
            cell[i].read = now << 20 | reader;
        }
    }
}

RF_RAW void rf_check_other(rf_uptr address, rf_u64 bytes, bool store, rf_u64 code) {
    rf_uptr at = address - rf.own_stack;
    if (at < rf.stack_bytes) return;
    rf_u64 fixed = (rf_u64)(__stop_rfshared - __start_rfshared);
    at = address - (rf_uptr)__start_rfshared;
    if (at < fixed) {
        const RfVariable* variable = rf_variable(address);
        if (rf.n_variables > 0 && (!variable || address + bytes > variable->start + variable->bytes))
            rf_fail_shared(rf_shared_outside, -1, address, bytes, code);
        if (rf.races) rf_check_cells(rf.cells + at, address, bytes, store, code);
        return;
    }
    at = address - rf.dynamic_shared;
    if (at < rf.launch->shared_limit) {
        if (at + bytes > rf.dynamic_bytes) rf_fail_shared(rf_shared_outside, -1, address, bytes, code);
        if (rf.races) rf_check_cells(rf.cells + fixed + at, address, bytes, store, code);
        return;
    }
    if (address - (rf.stacks - rf_stack_guard) < rf.stacks_bytes + rf_stack_guard)
        rf_fail(rf_stack_overflow, -1, 0, 0, address, rf.stack_bytes, code);
    // Constant tables are inside the shared object itself.
    if (!store && address - (rf_uptr)__ehdr_start < (rf_u64)(_end - __ehdr_start)) return;
    rf_fail(store ? rf_store_outside : rf_load_outside, -1, 0, 0, address, bytes, code);
}

// Device memory whose access is a fault, or the first by this operation.
RF_RAW void rf_check_bytes(rf_uptr at, rf_u64 bytes, bool store, rf_u64 code) {
    for (rf_u64 i = 0; i < bytes; i++) {
        unsigned char& state = rf.shadow[at + i];
        if (!(state & RF_LIVE))
            rf_fail(store ? rf_store_outside : rf_load_outside, -1, 0, 0, rf.memory + at, bytes, code);
        if (!store && !(state & RF_VALID)) rf_fail(rf_load_unwritten, -1, 0, 0, rf.memory + at + i, bytes, code);
        state |= store ? RF_WRITTEN | RF_VALID : RF_READ;
    }
    for (rf_uptr page = at >> 12; page <= (at + bytes - 1) >> 12; page++) rf.pages[page] = 1;
}

// `Word` holds a byte of shadow for each byte of the access. `done` is the state that needs no action; without `need`
// the access is a fault.
#define RF_CHECK(name, Word, bytes, store, need, done)                                  \
    extern "C" RF_RAW void name(rf_uptr address) {                                      \
        rf_uptr at = address - rf.memory;                                               \
        if (__builtin_expect(at < rf.memory_bytes, 1)) {                                \
            Word* shadow = (Word*)(rf.shadow + at);                                     \
            Word state = *shadow;                                                       \
            if ((state & (Word)(done)) == (Word)(done)) return;                         \
            if ((state & (Word)(need)) != (Word)(need)) rf_check_bytes(at, bytes, store, RF_CODE); \
            *shadow = (Word)(state | (Word)(done));                                     \
            rf.pages[at >> 12] = 1;                                                     \
            rf.pages[(at + bytes - 1) >> 12] = 1;                                       \
        } else {                                                                        \
            rf_check_other(address, bytes, store, RF_CODE);                             \
        }                                                                               \
    }
typedef rf_u64 __attribute__((aligned(1), may_alias)) rf_word8;
typedef unsigned __attribute__((aligned(1), may_alias)) rf_word4;
typedef unsigned short __attribute__((aligned(1), may_alias)) rf_word2;
// A load needs RF_LIVE and RF_VALID, and is done if RF_READ is set; a store needs RF_LIVE, and is done with RF_VALID
// and RF_WRITTEN.
#define RF_LOAD_NEED 0x0909090909090909ull
#define RF_LOAD_DONE 0x0B0B0B0B0B0B0B0Bull
#define RF_STORE_NEED 0x0808080808080808ull
#define RF_STORE_DONE 0x0D0D0D0D0D0D0D0Dull
RF_CHECK(__asan_load1_noabort, unsigned char, 1, false, RF_LOAD_NEED, RF_LOAD_DONE)
RF_CHECK(__asan_load2_noabort, rf_word2, 2, false, RF_LOAD_NEED, RF_LOAD_DONE)
RF_CHECK(__asan_load4_noabort, rf_word4, 4, false, RF_LOAD_NEED, RF_LOAD_DONE)
RF_CHECK(__asan_load8_noabort, rf_word8, 8, false, RF_LOAD_NEED, RF_LOAD_DONE)
RF_CHECK(__asan_store1_noabort, unsigned char, 1, true, RF_STORE_NEED, RF_STORE_DONE)
RF_CHECK(__asan_store2_noabort, rf_word2, 2, true, RF_STORE_NEED, RF_STORE_DONE)
RF_CHECK(__asan_store4_noabort, rf_word4, 4, true, RF_STORE_NEED, RF_STORE_DONE)
RF_CHECK(__asan_store8_noabort, rf_word8, 8, true, RF_STORE_NEED, RF_STORE_DONE)

// Two words of shadow.
typedef unsigned __int128 __attribute__((aligned(1), may_alias)) rf_word16;
#define RF_TWICE(word) ((rf_word16)(word) << 64 | (word))
RF_CHECK(__asan_load16_noabort, rf_word16, 16, false, RF_TWICE(RF_LOAD_NEED), RF_TWICE(RF_LOAD_DONE))
RF_CHECK(__asan_store16_noabort, rf_word16, 16, true, RF_TWICE(RF_STORE_NEED), RF_TWICE(RF_STORE_DONE))

extern "C" RF_RAW void __asan_loadN_noabort(rf_uptr address, rf_u64 bytes) {
    rf_uptr at = address - rf.memory;
    if (at < rf.memory_bytes) rf_check_bytes(at, bytes, false, RF_CODE);
    else rf_check_other(address, bytes, false, RF_CODE);
}
extern "C" RF_RAW void __asan_storeN_noabort(rf_uptr address, rf_u64 bytes) {
    rf_uptr at = address - rf.memory;
    if (at < rf.memory_bytes) rf_check_bytes(at, bytes, true, RF_CODE);
    else rf_check_other(address, bytes, true, RF_CODE);
}

// The compiler's description of global variables; those of the shared section are shared variables.
struct RfGlobal {
    rf_uptr start;
    rf_u64 bytes, bytes_with_gap;
    const char* name;
    const char* module;
    rf_u64 dynamic_init;
    void* location;
    rf_u64 odr;
};
// An address that is not a multiple of its type's alignment (-fsanitize=alignment), reported before the compiler splits
// a wide access. Of its arguments only the alignment is used: the byte after the location and the type.
struct RfTypeMismatch { const char* file; unsigned line, column; void* type; unsigned char log_alignment, kind; };
extern "C" RF_RAW void __ubsan_handle_type_mismatch_v1(RfTypeMismatch* what, rf_uptr address) {
    rf_fail(rf_misaligned, -1, 0, 0, address, 1ull << what->log_alignment, RF_CODE);
}

extern "C" RF_RAW void __asan_register_globals(RfGlobal* globals, rf_u64 n) {
    for (rf_u64 i = 0; i < n && rf.n_variables < rf_max_variables; i++)
        if (globals[i].start - (rf_uptr)__start_rfshared < (rf_u64)(__stop_rfshared - __start_rfshared))
            rf.variables[rf.n_variables++] = {globals[i].start, globals[i].bytes, globals[i].name};
}
extern "C" RF_RAW void __asan_unregister_globals(RfGlobal*, rf_u64) {}
extern "C" RF_RAW void __asan_handle_no_return() {}

#endif
