// The heads of new tokens go into the cache. One block a token.
#include "rows.h"

// A negative slot, or one that is not there, leaves the token out. Of tokens with one slot the last is written.
KERNEL_OF(256, kv_write)
(u8* state, Layout state_at, i32 type, const float* rows, Layout rows_at, const i32* slots) {
    SHARED float shared[ROW_WAVES];
    const int token = block_index_x(), n_tokens = (int)rows_at.ne[2];
    const i32 slot = slots[token];
    if (slot < 0 || slot >= state_at.ne[2]) return;
    float later = 0;
    for (int i = token + 1 + thread_index(); i < n_tokens; i += block_size()) {
        if (slots[i] == slot) later = 1;
    }
    if (block_max(later, shared) != 0) return;
    const int n = (int)rows_at.ne[0], fours = (n + 3) / 4, items = fours * (int)rows_at.ne[1];
    const int bytes = plain_bytes(type);
    for (int item = thread_index(); item < items; item += block_size()) {
        const int head = item / fours, at = item % fours * 4, count = n - at < 4 ? n - at : 4;
        const u8* from = (const u8*)rows + token * rows_at.nb[2] + head * rows_at.nb[1] + at * 4;
        u8* to = state + slot * state_at.nb[2] + head * state_at.nb[1] + at * bytes;
        store_four(type, to, load_four((const float*)from, 4, count), count);
    }
}
