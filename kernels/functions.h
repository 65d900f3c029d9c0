// The functions of `UnaryKind`, as the CPU computes them (`src/cpu/math.rs` has the formulas' sources).
#pragma once

#include "platform.h"
#include "tables.h"

DEVICE inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// ln(1 + eˣ), without overflow.
DEVICE inline float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

// cap · tanh(x / cap)
DEVICE inline float softcap(float x, float cap) { return cap * tanhf(x / cap); }

// Where `kind` is a constant, the compiler removes the selection.
DEVICE inline float activation(int kind, float x) {
    switch (kind) {
        case UNARY_SILU: return x * sigmoid(x);
        // x/2·(1 + tanh u) = x·σ(2u) with u = √(2/π)·(x + 0.044715·x³).
        case UNARY_GELU: return x * sigmoid(1.595769f * x * fmaf(x * x, 0.044715f, 1.0f));
        // x·Φ(x); erfc keeps the digits of the left tail.
        case UNARY_GELU_ERF: return x * (0.5f * erfcf(-0.70710678f * x));
        case UNARY_GELU_QUICK: return x * sigmoid(1.702f * x);
        case UNARY_RELU: return x < 0.0f ? 0.0f : x;
        case UNARY_RELU_SQR: return x < 0.0f ? 0.0f : x * x;
        case UNARY_SIGMOID: return sigmoid(x);
        case UNARY_TANH: return tanhf(x);
        case UNARY_EXP: return expf(x);
        case UNARY_NEG: return -x;
        case UNARY_ABS: return fabsf(x);
        case UNARY_SQR: return x * x;
        case UNARY_SOFTPLUS: return softplus(x);
        default: return sqrtf(x);
    }
}
