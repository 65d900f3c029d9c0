// Mixtures of experts: the selection of a token's experts, their weights, the rows of each expert, and the weighted sum
// of the experts' outputs.
#include "elements.h"
#include "experts.h"

// NaN counts as the smallest value.
DEVICE inline float comparable(float x) { return x != x ? -INFINITY_F : x; }

// True if element i of a list comes before element j: larger first, equal ones by index.
DEVICE inline bool comes_before(const float* list, int i, int j) {
    return list[i] > list[j] || (list[i] == list[j] && i < j);
}

// The number of a list's first n elements that come before element i.
DEVICE inline int rank_of(const float* list, int n, int i) {
    int rank = 0;
    for (int j = 0; j < n; j++) rank += comes_before(list, j, i);
    return rank;
}

// The score of a group: its best expert's, or the sum of its two best experts'.
DEVICE inline float group_score(const float* group, int size, int best_two) {
    float best = -INFINITY_F, second = -INFINITY_F;
    for (int i = 0; i < size; i++) {
        const float x = group[i];
        if (x > best) {
            second = best;
            best = x;
        } else if (x > second) {
            second = x;
        }
    }
    return comparable(best_two && size > 1 ? best + second : best);
}

// The best `n_used` experts of the best groups of each token, in order. One block per token; shared memory holds the
// scores of the experts, those of the groups, and a flag for the best groups.
KERNEL(select_experts)
(const float* scores, Layout scores_at, i32* out, i32 n_expert, i32 n_used, i32 n_group, i32 n_group_used, i32 best_two) {
    DYNAMIC_SHARED(float, of_experts);
    float* of_groups = of_experts + n_expert;
    float* among_best = of_groups + n_group;
    const int token = block_index_x(), size = n_expert / n_group;
    const float* from = (const float*)((const u8*)scores + token * scores_at.nb[1]);
    for (int i = thread_index(); i < n_expert; i += block_size()) of_experts[i] = comparable(from[i]);
    barrier();
    for (int g = thread_index(); g < n_group; g += block_size()) {
        of_groups[g] = group_score(of_experts + g * size, size, best_two);
    }
    barrier();
    for (int g = thread_index(); g < n_group; g += block_size()) {
        among_best[g] = rank_of(of_groups, n_group, g) < n_group_used ? 1.0f : 0.0f;
    }
    barrier();
    for (int i = thread_index(); i < n_expert; i += block_size()) {
        if (among_best[i / size] == 0.0f) continue;
        int rank = 0;
        for (int g = 0; g < n_group; g++) {
            if (among_best[g] == 0.0f) continue;
            for (int j = g * size; j < (g + 1) * size; j++) rank += comes_before(of_experts, j, i);
        }
        if (rank < n_used) out[(i64)token * n_used + rank] = i;
    }
}

// The numbers of a token's experts as weights. A wave makes a token's. A number that is no expert gives a weight that
// is not a number.
KERNEL_OF(WAVE, expert_weights)
(const float* x, Layout x_at, const i32* ids, Layout ids_at, float* out, i32 chosen, float scale) {
    const int token = block_index_x(), n = (int)ids_at.ne[0];
    const float* of_token = (const float*)((const u8*)x + token * x_at.nb[1]);
    const i32* experts = (const i32*)((const u8*)ids + token * ids_at.nb[1]);
    auto value = [&](int i) {
        const int expert = experts[i];
        return expert >= 0 && expert < x_at.ne[0] ? of_token[expert] : INFINITY_F - INFINITY_F;
    };
    float largest = 0.0f, sum = 0.0f;
    if (chosen == WEIGHTS_SOFTMAX) {
        largest = -INFINITY_F;
        for (int i = lane_index(); i < n; i += WAVE) largest = fmaxf(largest, value(i));
        largest = wave_max(largest);
    }
    if (chosen != WEIGHTS_GIVEN) {
        for (int i = lane_index(); i < n; i += WAVE) sum += chosen == WEIGHTS_SOFTMAX ? expf(value(i) - largest) : value(i);
        sum = wave_sum(sum);
        // The smallest normal number.
        if (sum < 1.17549435e-38f) sum = 1.17549435e-38f;
    }
    for (int i = lane_index(); i < n; i += WAVE) {
        float y = value(i);
        if (chosen == WEIGHTS_SOFTMAX) y = expf(y - largest);
        if (chosen != WEIGHTS_GIVEN) y /= sum;
        out[(i64)token * n + i] = y * scale;
    }
}

// out[., t] = the sum over u, in its order, of w[u, t] · x[., u, t]. `pieces` blocks make a token's; a thread takes
// four elements.
KERNEL_OF(WEIGHTED_SUM_THREADS, weighted_sum)
(const float* x, Layout x_at, const float* w, Layout w_at, float* out, i32 pieces) {
    const int token = block_index_x() / pieces;
    const i64 n = x_at.ne[0], first = 4 * ((i64)(block_index_x() - token * pieces) * WEIGHTED_SUM_THREADS + thread_index());
    if (first >= n) return;
    const int count = n - first < 4 ? (int)(n - first) : 4;
    const float* weights = (const float*)((const u8*)w + token * w_at.nb[1]);
    floats4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
    for (int u = 0; u < (int)x_at.ne[1]; u++) {
        const u8* row = (const u8*)x + u * x_at.nb[1] + token * x_at.nb[2];
        const floats4 four = load_four((const float*)row + first, 4, count);
        const float weight = weights[u];
        sum = {fmaf(four.x, weight, sum.x), fmaf(four.y, weight, sum.y), fmaf(four.z, weight, sum.z),
               fmaf(four.w, weight, sum.w)};
    }
    store_four(out + token * n + first, sum, count);
}

// Sorts `n` rows by their experts in `ids`, and divides each expert's rows into tiles of up to `side`; unused tiles of
// the `n_tiles` are empty. One block. Each expert, and the invalid ones together, is searched in `parts` parts of the
// rows, one thread each; shared memory holds (n_expert + 1) · (parts + 2) numbers.
KERNEL(group_rows)
(const i32* ids, i32 n, i32 n_expert, i32 parts, i32 side, i32* order, Tile* tiles, i32 n_tiles) {
    DYNAMIC_SHARED(i32, counts);
    const int groups = n_expert + 1, all = groups * parts, part = (n + parts - 1) / parts;
    i32* starts = counts + all;
    i32* tiles_before = starts + groups;
    auto group_of = [&](int row) {
        const int id = ids[row];
        return id >= 0 && id < n_expert ? id : n_expert;
    };
    auto end_of = [&](int p) { return (p + 1) * part < n ? (p + 1) * part : n; };
    for (int i = thread_index(); i < all; i += block_size()) {
        const int group = i / parts, p = i % parts;
        int count = 0;
        for (int row = p * part; row < end_of(p); row++) count += group_of(row) == group;
        counts[i] = count;
    }
    barrier();
    if (thread_index() == 0) {
        int before = 0, n_before = 0;
        for (int group = 0; group < groups; group++) {
            const int start = before;
            starts[group] = start;
            tiles_before[group] = n_before;
            // Turn counts into the start of each part's rows.
            for (int p = 0; p < parts; p++) {
                const int count = counts[group * parts + p];
                counts[group * parts + p] = before;
                before += count;
            }
            n_before += (before - start + side - 1) / side;
        }
    }
    barrier();
    for (int i = thread_index(); i < all; i += block_size()) {
        const int group = i / parts, p = i % parts;
        int place = counts[i];
        for (int row = p * part; row < end_of(p); row++) {
            if (group_of(row) == group) order[place++] = row;
        }
    }
    for (int group = thread_index(); group < groups; group += block_size()) {
        const int end = group == n_expert ? n : starts[group + 1];
        int tile = tiles_before[group];
        for (int first = starts[group]; first < end; first += side, tile++) {
            tiles[tile] = {group == n_expert ? -1 : group, first, end - first < side ? end - first : side, 0};
        }
        if (group == n_expert) {
            for (; tile < n_tiles; tile++) tiles[tile] = {-1, n, 0, 0};
        }
    }
}
