// Initialises the output of a BLAS product with bias and residual.
#include "elements.h"

// y = bias in every row of `n` elements, plus the residual if it is not null; it may be y itself.
KERNEL(bias_rows)(const float* bias, const float* residual, float* y, i32 n, i64 elements) {
    const i64 at = (i64)block_index_x() * block_size() + thread_index();
    if (at >= elements) return;
    y[at] = bias[at % n] + (residual ? residual[at] : 0.0f);
}
