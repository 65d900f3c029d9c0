// The elements of `gated_norm`, which two kernels write.
#pragma once

#include "elements.h"
#include "functions.h"

// f(gate) · x · factor · w.
DEVICE inline floats4 normed_and_gated(floats4 x, float factor, floats4 w, floats4 gate, i32 kind) {
    return {x.x * factor * w.x * activation(kind, gate.x), x.y * factor * w.y * activation(kind, gate.y),
            x.z * factor * w.z * activation(kind, gate.z), x.w * factor * w.w * activation(kind, gate.w)};
}
