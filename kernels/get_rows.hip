// Rows of a table by index, as F32. An invalid index gives a row of NaN.
//
// Defines: FORMAT.
#include "elements.h"
#include "formats.h"

typedef formats::FORMAT Format;

// A contiguous table of `n_blocks` blocks, or one of a plain type with any strides; each thread takes eight elements of
// a row of the output. `ids_at` is the layout of `ids`; `pieces` blocks per row.
KERNEL(get_rows)
(const u8* table, Layout table_at, i64 n_blocks, const i32* ids, Layout ids_at, float* out, i64 n, i32 pieces) {
    const int row = block_index_x() / pieces;
    const i64 first = 8 * ((i64)(block_index_x() - row * pieces) * block_size() + thread_index());
    if (first >= n) return;
    const int count = n - first < 8 ? (int)(n - first) : 8;
    const i32 id = *reinterpret_cast<const i32*>(reinterpret_cast<const u8*>(ids) + row * ids_at.nb[0]);
    const float none = INFINITY_F - INFINITY_F;
    float v[8] = {none, none, none, none, none, none, none, none};
    if (id >= 0 && id < table_at.ne[1]) {
        formats::load_eight_of_row<Format>(table, n_blocks, id, n, first, count, table_at.nb[1], table_at.nb[0], v);
    }
    float* to = out + row * n + first;
    store_four(to, {v[0], v[1], v[2], v[3]}, count < 4 ? count : 4);
    if (count > 4) store_four(to + 4, {v[4], v[5], v[6], v[7]}, count - 4);
}
