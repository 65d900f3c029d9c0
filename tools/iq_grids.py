#!/usr/bin/env python3
"""Write the lattice points of the IQ1, IQ2 and IQ3 formats. Kernels are given the same table by src/device/tables.rs.

The points are facts of the formats. They are read from the Python package `gguf` (MIT licence), which
describes every format: `pip install gguf numpy`. Usage:

    python3 tools/iq_grids.py > src/tensor/blocks/iq_points.rs
"""

import gguf.quants as quants
import numpy as np

# Name here, class there, what a point's coordinates are.
GRIDS = [
    ("IQ2_XXS", quants.IQ2_XXS, "eight coordinates of 2 bits"),
    ("IQ2_XS", quants.IQ2_XS, "eight coordinates of 2 bits"),
    ("IQ2_S", quants.IQ2_S, "eight coordinates of 2 bits"),
    ("IQ3_XXS", quants.IQ3_XXS, "four coordinates of 4 bits"),
    ("IQ3_S", quants.IQ3_S, "four coordinates of 4 bits"),
    ("IQ1", quants.IQ1_S, "eight coordinates of 2 bits"),
]
NUMBERS_PER_LINE = 13


def points(grid):
    """One integer per point: coordinate j, as an index into the grid's values, in bits w·j..w·j + w."""
    grid.init_grid()
    values = list(grid.grid_map)
    table = grid.grid.reshape(grid.grid_shape)
    width = 16 // table.shape[1]
    index = np.array([[values.index(x) for x in point] for point in table], dtype=np.uint32)
    return (index << (np.arange(table.shape[1], dtype=np.uint32) * width)).sum(axis=1)


def rows(grid):
    """The points as lines of numbers."""
    numbers = [f"0x{p:04x}" for p in points(grid)]
    for start in range(0, len(numbers), NUMBERS_PER_LINE):
        yield "    " + ", ".join(numbers[start : start + NUMBERS_PER_LINE]) + ","


def rust():
    print("//! The lattice points of the IQ1, IQ2 and IQ3 formats, 16 bits a point.")
    print("//!")
    print("//! Coordinate `j` of a point is a number in bits `w·j..w·j + w`, lowest first, with `w` = 2 for")
    print("//! eight coordinates and 4 for four. What the numbers stand for is in `iq_grids.rs`. Written by")
    print("//! `tools/iq_grids.py` from the formats' description in the Python package `gguf`; do not edit.")
    for name, grid, what in GRIDS:
        print(f"\n/// Points of {name}: {what}.")
        print("#[rustfmt::skip]")
        print(f"pub(super) const {name}: [u16; {len(points(grid))}] = [")
        print("\n".join(rows(grid)))
        print("];")


if __name__ == "__main__":
    rust()
