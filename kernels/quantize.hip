// Quantizes activations to eight bits, see quantize.h.
#include "elements.h"
#include "quantize.h"

// Contiguous rows of `k` floats; a thread takes four elements.
KERNEL(quantize)(const float* x, u8* out, i32 k, i32 blocks_of_row) {
    const int row = block_index_x() / blocks_of_row;
    const int at = 4 * ((block_index_x() - row * blocks_of_row) * block_size() + thread_index());
    const bool inside = at < k;
    floats4 four = {0.0f, 0.0f, 0.0f, 0.0f};
    if (inside) four = load_four(x + (i64)row * k + at, 4, 4);
    GroupScale scale;
    const u32 codes = quantize_four(four, &scale);
    if (inside) store_quantized(out + row * quantized_row_bytes(k), k, at, codes, scale);
}
