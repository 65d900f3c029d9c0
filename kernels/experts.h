// What the kernels of mixtures of experts share.
#pragma once

#include "platform.h"
#include "tables.h"

// Rows of the output of one expert: `count` of them from place `first` of the order on. Of expert -1 are those that
// named none.
struct alignas(16) Tile { i32 expert, first, count, unused; };
static_assert(sizeof(Tile) == EXPERT_TILE_BYTES, "the operator reserves memory for tiles");
