// Copies elements to another layout or type. The output does not overlap the input.
//
// A row of `n` elements is divided into `pieces`. If `flat` is set, both tensors are contiguous and treated as one row.
#include "elements.h"

// Copies `count` elements of type T; 16 bytes at once if contiguous and aligned.
template <class T>
DEVICE inline void copy_some(const u8* from, i64 from_step, u8* to, i64 to_step, int count) {
    const int whole = 16 / (int)sizeof(T), step = (int)sizeof(T);
    if (count == whole && from_step == step && to_step == step && is_aligned(from, 16) && is_aligned(to, 16)) {
        *(words4*)to = *(const words4*)from;
        return;
    }
    for (int i = 0; i < count; ++i) *(T*)(to + i * to_step) = *(const T*)(from + i * from_step);
}

// Copies elements of `bytes` bytes to a tensor with any strides that starts at `to`. The shape is `from`'s: `to` may be
// a part of a larger tensor.
KERNEL(copy_elements)
(const u8* from, Layout from_at, u8* to, Layout to_at, i64 n, i32 pieces, i32 flat, i32 bytes) {
    Share share = share_of_thread(n, pieces, 16 / bytes);
    if (share.count == 0) return;
    RowIndex row = row_index(from_at, share.row);
    i64 from_step = flat ? bytes : from_at.nb[0], to_step = flat ? bytes : to_at.nb[0];
    from += row_offset(from_at, row) + share.first * from_step;
    to += row_offset(to_at, row) + share.first * to_step;
    if (bytes == 2) {
        copy_some<u16>(from, from_step, to, to_step, share.count);
    } else {
        copy_some<u32>(from, from_step, to, to_step, share.count);
    }
}

// Converts contiguous elements of one plain type to another.
KERNEL(cast_elements)
(const u8* from, Layout from_at, i32 from_type, u8* to, i32 to_type, i64 n, i32 pieces, i32 flat) {
    Share share = share_of_thread(n, pieces, 4);
    if (share.count == 0) return;
    i64 step = flat ? plain_bytes(from_type) : from_at.nb[0];
    from += row_offset(from_at, row_index(from_at, share.row)) + share.first * step;
    floats4 x = load_four(from_type, from, step, share.count);
    store_four(to_type, to + (share.row * n + share.first) * plain_bytes(to_type), x, share.count);
}
