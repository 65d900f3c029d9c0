// The functions of `UnaryKind`, as the CPU computes them (`src/cpu/math.rs` has the formulas' sources).
#pragma once

#include "platform.h"

// Numbered as `UnaryKind` numbers them; the last two are `scale` and `softcap`.
enum {
    SILU, GELU, GELU_ERF, GELU_QUICK, RELU, RELU_SQR, SIGMOID, TANH, EXP, NEG, ABS, SQR, SQRT, SCALE, SOFTCAP
};

DEVICE inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// cap · tanh(x / cap)
DEVICE inline float softcap(float x, float cap) { return cap * tanhf(x / cap); }

// Written out where `kind` is known, so that nothing is chosen at run time.
DEVICE inline float activation(int kind, float x) {
    switch (kind) {
        case SILU: return x * sigmoid(x);
        // x/2·(1 + tanh u) = x·σ(2u) with u = √(2/π)·(x + 0.044715·x³).
        case GELU: return x * sigmoid(1.595769f * x * fmaf(x * x, 0.044715f, 1.0f));
        // x·Φ(x); erfc keeps the digits of the left tail.
        case GELU_ERF: return x * (0.5f * erfcf(-0.70710678f * x));
        case GELU_QUICK: return x * sigmoid(1.702f * x);
        case RELU: return x < 0.0f ? 0.0f : x;
        case RELU_SQR: return x < 0.0f ? 0.0f : x * x;
        case SIGMOID: return sigmoid(x);
        case TANH: return tanhf(x);
        case EXP: return expf(x);
        case NEG: return -x;
        case ABS: return fabsf(x);
        case SQR: return x * x;
        default: return sqrtf(x);
    }
}
