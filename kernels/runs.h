// Runs of rows: the rows that a batch has of one sequence, and its slots of recurrent state. `src/ops/runs.rs` says what
// the numbers mean.
#pragma once

#include "platform.h"

struct Run { i32 first, count, source, target; };

// Run number `i`; a run whose target is not a slot counts as padding, and a source outside as zeros.
DEVICE inline Run run_at(const i32* runs, int i, int n_slots) {
    Run run = {runs[4 * i], runs[4 * i + 1], runs[4 * i + 2], runs[4 * i + 3]};
    if (run.target < 0 || run.target >= n_slots || run.first < 0) run.count = 0;
    if (run.source >= n_slots) run.source = -1;
    return run;
}
