// Code shared by the kernels of mixtures of experts.
#pragma once

#include "platform.h"
#include "tables.h"

// Rows of the output of one expert: `count` of them, from index `first` of the order on. Expert -1 has the rows with an
// invalid expert.
struct alignas(16) Tile { i32 expert, first, count, unused; };
static_assert(sizeof(Tile) == EXPERT_TILE_BYTES, "the operator reserves memory for tiles");
