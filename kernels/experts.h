// What the kernels of mixtures of experts share.
#pragma once

#include "platform.h"

// Rows of the output of one expert: `count` of them from place `first` of the order on. Of expert -1 are those that
// named none.
struct alignas(16) Tile { i32 expert, first, count, unused; };
