/* A stack of pre-norm transformer blocks, forward and backward, in pieces of a few windows that stay in the cache.

   Each thread takes a run of windows through all blocks. What the backward pass needs is kept in `kept`, block by
   block: input, moments, queries, keys and values, weights, attended values, and the feed-forward layers' units.
   Masks of dropout are drawn again from their counters. Gradients of parameters are summed up thread by thread, in
   their order, so that they depend on the number of threads and on nothing else. */
#include "one_window.h"

enum { PIECE = 384 }; /* tokens of a piece, at least one window */

typedef struct {
    int64_t x, moments_1, q, kv, weights, attended, x_1, moments_2, units, slopes;
} Kept; /* where the parts of a block begin in `kept` */

/* Lay out the blocks for so many windows, one after the other or, where nothing is kept, one over the other; returns
   the number of floats. */
static int64_t lay_out(const Shape *s, int64_t windows, Kept *blocks) {
    int64_t end = 0, most = 0, N = windows * s->tokens, D = s->width;
    for (int64_t l = 0; l < s->layers; l++) {
        int64_t R = l + 1 == s->layers ? s->outputs : s->tokens, M = windows * R;
        Kept k;
        if (s->keep) {
            k.x = place(&end, l ? N * D : 0);
        } else { /* a block reads its input from one of two places and writes its output to the other */
            k.x = l % 2 * N * D;
            end = 2 * N * D;
        }
        k.moments_1 = place(&end, 2 * N);
        k.q = place(&end, M * D);
        k.kv = place(&end, 2 * N * D);
        k.weights = place(&end, windows * s->heads * R * s->tokens);
        k.attended = place(&end, M * D);
        k.x_1 = place(&end, M * D);
        k.moments_2 = place(&end, 2 * M);
        k.units = place(&end, 4 * M * D);
        k.slopes = place(&end, s->gelu && s->keep ? 4 * M * D : 0);
        most = end > most ? end : most;
        if (blocks) blocks[l] = k;
    }
    return most;
}

int64_t foretell_kept_floats(const Shape *s) { return s->keep ? lay_out(s, s->windows, NULL) : 0; }

static int64_t windows_of_piece(const Shape *s) {
    int64_t count = PIECE / s->tokens < s->windows ? PIECE / s->tokens : s->windows;
    return count < 1 ? 1 : count;
}

static void gather(const Shape *s, int64_t windows, int64_t R, int64_t D, const float *all, float *chosen) {
    for (int64_t w = 0; w < windows; w++)
        for (int64_t r = 0; r < R; r++)
            memcpy(chosen + (w * R + r) * D, all + (w * s->tokens + s->first + r * s->step) * D, (size_t)D * sizeof(float));
}

/* One block for the windows from number `begin` on. `kept` and `x` begin with the window of number `base`. */
static void block_forward(const Shape *s, const Kept *k, int layer, const float *const *p, const uint8_t *allowed,
                          int64_t base, int64_t begin, int64_t windows, const float *x, float *kept_all, float *scratch,
                          float *y) {
    int64_t T = s->tokens, D = s->width, R = layer + 1 == s->layers ? s->outputs : T, from = begin - base;
    int N = (int)(windows * T), M = (int)(windows * R), width = (int)D;
    float *h = scratch, *dropped = h + N * D, *chosen = dropped + R * T;
    float *q = kept_all + k->q + from * R * D, *kv = kept_all + k->kv + from * T * 2 * D;
    float *weights = kept_all + k->weights + from * s->heads * R * T;
    float *attended = kept_all + k->attended + from * R * D, *x_1 = kept_all + k->x_1 + from * R * D;
    float *units = kept_all + k->units + from * R * 4 * D;
    float *slopes = s->gelu && s->keep ? kept_all + k->slopes + from * R * 4 * D : NULL;
    const float *residual = x;

    layer_norm(N, width, x, p[GAIN_1], p[SHIFT_1], kept_all + k->moments_1 + from * T * 2, h);
    times_transposed(N, 2 * width, width, 1.0f, h, width, p[W_QKV] + D * D, width, 0.0f, kv, 2 * width);
    add_bias(N, 2 * width, p[B_QKV] + D, kv);
    if (R != T) {
        gather(s, windows, R, D, h, chosen);
        times_transposed(M, width, width, 1.0f, chosen, width, p[W_QKV], width, 0.0f, q, width);
        gather(s, windows, R, D, x, chosen);
        residual = chosen;
    } else {
        times_transposed(M, width, width, 1.0f, h, width, p[W_QKV], width, 0.0f, q, width);
    }
    add_bias(M, width, p[B_QKV], q);
    for (int64_t w = 0; w < windows; w++) {
        Attention a = attention_of(s, layer, R, allowed, begin + w);
        attend(&a, (uint32_t)((begin + w) * s->heads * R * T), q + w * R * D, kv + w * T * 2 * D,
               weights + w * s->heads * R * T, dropped, attended + w * R * D);
    }
    times_transposed(M, width, width, 1.0f, attended, width, p[W_OUT], width, 0.0f, x_1, width);
    Dropout drop = dropout_at(s->key, 3 * layer + 1, s->probability);
    add_dropped(drop, (uint32_t)(begin * R * D), M, width, p[B_OUT], residual, x_1);
    layer_norm(M, width, x_1, p[GAIN_2], p[SHIFT_2], kept_all + k->moments_2 + from * R * 2, h);
    times_transposed(M, 4 * width, width, 1.0f, h, width, p[W_IN], width, 0.0f, units, 4 * width);
    activate((int)s->gelu, M, 4 * width, p[B_IN], units, slopes);
    from_units(s, M, units, p, y);
    drop = dropout_at(s->key, 3 * layer + 2, s->probability);
    add_dropped(drop, (uint32_t)(begin * R * D), M, width, p[B_FF], x_1, y);
}

/* The same backwards: `dy` (M, D) comes in, `dx` (N, D) goes out, `g` sums up the parameters' gradients. */
static void block_backward(const Shape *s, const Kept *k, int layer, const float *const *p, const uint8_t *allowed,
                           int64_t begin, int64_t windows, const float *x, const float *kept_all, float *scratch,
                           const float *dy, float *dx, float *const *g) {
    int64_t T = s->tokens, D = s->width, R = layer + 1 == s->layers ? s->outputs : T, F = 4 * D;
    int N = (int)(windows * T), M = (int)(windows * R), width = (int)D, hidden = (int)F;
    const float *q = kept_all + k->q + begin * R * D, *kv = kept_all + k->kv + begin * T * 2 * D;
    const float *weights = kept_all + k->weights + begin * s->heads * R * T;
    const float *attended = kept_all + k->attended + begin * R * D, *x_1 = kept_all + k->x_1 + begin * R * D;
    const float *units = kept_all + k->units + begin * R * F, *slopes = kept_all + k->slopes + begin * R * F;
    const float *moments_1 = kept_all + k->moments_1 + begin * T * 2;
    const float *moments_2 = kept_all + k->moments_2 + begin * R * 2;
    float *h = scratch, *wide = h + N * D, *dx_1 = wide + N * F, *small = dx_1 + N * D, *dropped = small + R * T;

    Dropout drop = dropout_at(s->key, 3 * layer + 2, s->probability);
    drop_units(drop, (uint32_t)(begin * R * D), (int64_t)M * D, dy, h);
    add_column_sums(M, width, h, g[B_FF]);
    if (s->gelu)
        transposed_times(width, hidden, M, 1.0f, h, width, units, hidden, 1.0f, g[W_FF], hidden);
    else
        add_times_sparse(width, hidden, M, h, width, units, hidden, g[W_FF], hidden);
    times(M, hidden, width, 1.0f, h, width, p[W_FF], hidden, 0.0f, wide, hidden);
    activate_backward((int)s->gelu, (int64_t)M * F, units, slopes, wide);
    add_column_sums(M, hidden, wide, g[B_IN]);
    normed_again(M, width, x_1, p[GAIN_2], p[SHIFT_2], moments_2, h);
    if (s->gelu) {
        transposed_times(hidden, width, M, 1.0f, wide, hidden, h, width, 1.0f, g[W_IN], width);
        times(M, width, hidden, 1.0f, wide, hidden, p[W_IN], width, 0.0f, h, width);
    } else {
        sparse_product(DEEP, "T", "N", hidden, width, M, wide, hidden, h, width, 1, g[W_IN], width);
        sparse_product(DEEP, "N", "N", M, width, hidden, wide, hidden, p[W_IN], width, 0, h, width);
    }
    memcpy(dx_1, dy, (size_t)(M * D) * sizeof(float));
    layer_norm_backward(M, width, x_1, p[GAIN_2], moments_2, h, dx_1, g[GAIN_2], g[SHIFT_2]);

    drop = dropout_at(s->key, 3 * layer + 1, s->probability);
    drop_units(drop, (uint32_t)(begin * R * D), (int64_t)M * D, dx_1, h);
    add_column_sums(M, width, h, g[B_OUT]);
    transposed_times(width, width, M, 1.0f, h, width, attended, width, 1.0f, g[W_OUT], width);
    float *d_attended = wide, *dq = wide + M * D, *dkv = wide + 2 * M * D; /* 2 M + 2 N <= 4 N rows */
    times(M, width, width, 1.0f, h, width, p[W_OUT], width, 0.0f, d_attended, width);
    for (int64_t w = 0; w < windows; w++) {
        Attention a = attention_of(s, layer, R, allowed, begin + w);
        attend_backward(&a, (uint32_t)((begin + w) * s->heads * R * T), q + w * R * D, kv + w * T * 2 * D,
                        weights + w * s->heads * R * T, d_attended + w * R * D, small, dropped, dq + w * R * D,
                        dkv + w * T * 2 * D);
    }
    add_column_sums(M, width, dq, g[B_QKV]);
    add_column_sums(N, 2 * width, dkv, g[B_QKV] + D);
    normed_again(N, width, x, p[GAIN_1], p[SHIFT_1], moments_1, h);
    transposed_times(2 * width, width, N, 1.0f, dkv, 2 * width, h, width, 1.0f, g[W_QKV] + D * D, width);
    const float *from = h;
    if (R != T) {
        gather(s, windows, R, D, h, d_attended);
        from = d_attended;
    }
    transposed_times(width, width, M, 1.0f, dq, width, from, width, 1.0f, g[W_QKV], width);
    times(N, width, 2 * width, 1.0f, dkv, 2 * width, p[W_QKV] + D * D, width, 0.0f, h, width);
    if (R == T) {
        times(M, width, width, 1.0f, dq, width, p[W_QKV], width, 1.0f, h, width);
        memcpy(dx, dx_1, (size_t)(M * D) * sizeof(float));
    } else {
        times(M, width, width, 1.0f, dq, width, p[W_QKV], width, 0.0f, d_attended, width);
        memset(dx, 0, (size_t)(N * D) * sizeof(float));
        for (int64_t w = 0; w < windows; w++)
            for (int64_t r = 0; r < R; r++) {
                int64_t row = w * T + s->first + r * s->step, here = w * R + r;
                for (int64_t i = 0; i < D; i++) {
                    h[row * D + i] += d_attended[here * D + i];
                    dx[row * D + i] = dx_1[here * D + i];
                }
            }
    }
    layer_norm_backward(N, width, x, p[GAIN_1], moments_1, h, dx, g[GAIN_1], g[SHIFT_1]);
}

/* x (windows, tokens, width) to y (windows, outputs, width). Returns 0, or 1 where memory ran out. */
int foretell_stack_forward(const Shape *s, sgemm_function blas, const float *const *parameters, const uint8_t *allowed,
                           const float *x, float *kept_all, float *y) {
    int64_t piece = windows_of_piece(s), T = s->tokens, D = s->width, L = s->layers, failed = 0;
    sgemm = blas;
    if (s->windows == 1 && s->threads > 1 && !s->keep && s->probability == 0.0f && T >= 2 * OF_A_THREAD)
        return window_forward(s, parameters, allowed, x, y);
    Kept *blocks = malloc((size_t)L * sizeof *blocks);
    int64_t private = blocks ? lay_out(s, s->keep ? s->windows : piece, blocks) : 0;
    if (!blocks) return 1;
#pragma omp parallel num_threads((int)s->threads) if (s->threads > 1 && s->windows > 1) reduction(| : failed)
    {
        uint64_t before = without_subnormals();
        int64_t me = 0, all = 1;
#ifdef _OPENMP
        me = omp_get_thread_num(), all = omp_get_num_threads();
#endif
        int64_t begin = s->windows * me / all, end = s->windows * (me + 1) / all;
        int64_t work = 2 * piece * T * D + T * T, stay = s->keep ? 0 : private + piece * T * D;
        float *scratch = malloc((size_t)(work + stay) * sizeof *scratch);
        failed |= !scratch;
        for (int64_t w = begin; scratch && w < end; w += piece) {
            int64_t count = end - w < piece ? end - w : piece, base = s->keep ? 0 : w;
            float *keeps = s->keep ? kept_all : scratch + work;
            const float *in = x + w * T * D;
            for (int64_t l = 0; l < L; l++) {
                float *out = l + 1 == L ? y + w * s->outputs * D : keeps + blocks[l + 1].x + (w - base) * T * D;
                block_forward(s, &blocks[l], (int)l, parameters + l * PARAMETERS, allowed, base, w, count, in, keeps,
                              scratch, out);
                in = out;
            }
        }
        free(scratch);
        restore_subnormals(before);
    }
    free(blocks);
    return (int)failed;
}

/* dy to dx; `sums` holds, for each thread, the gradients of all parameters one after the other, zeros at first. */
int foretell_stack_backward(const Shape *s, sgemm_function blas, const float *const *parameters, const int64_t *offsets,
                            const uint8_t *allowed, const float *x, const float *kept_all, const float *dy, float *dx,
                            float *sums) {
    int64_t piece = windows_of_piece(s), T = s->tokens, D = s->width, L = s->layers, failed = 0;
    int64_t total = offsets[L * PARAMETERS];
    sgemm = blas;
    Kept *blocks = malloc((size_t)L * sizeof *blocks);
    if (!blocks) return 1;
    lay_out(s, s->windows, blocks);
#pragma omp parallel num_threads((int)s->threads) if (s->threads > 1 && s->windows > 1) reduction(| : failed)
    {
        uint64_t before = without_subnormals();
        int64_t me = 0, all = 1;
#ifdef _OPENMP
        me = omp_get_thread_num(), all = omp_get_num_threads();
#endif
        int64_t begin = s->windows * me / all, end = s->windows * (me + 1) / all, rows = piece * T;
        float *scratch = malloc((size_t)(8 * rows * D + 2 * T * T) * sizeof *scratch), *own = sums + me * total;
        failed |= !scratch;
        for (int64_t w = begin; scratch && w < end; w += piece) {
            int64_t count = end - w < piece ? end - w : piece;
            float *one = scratch + 6 * rows * D + 2 * T * T, *other = one + rows * D;
            const float *down = dy + w * s->outputs * D;
            for (int64_t l = L - 1; l >= 0; l--) {
                const float *in = l ? kept_all + blocks[l].x + w * T * D : x + w * T * D;
                float *up = l ? one : dx + w * T * D, *gradients[PARAMETERS];
                for (int i = 0; i < PARAMETERS; i++) gradients[i] = own + offsets[l * PARAMETERS + i];
                block_backward(s, &blocks[l], (int)l, parameters + l * PARAMETERS, allowed, w, count, in, kept_all,
                               scratch, down, up, gradients);
                down = one;
                float *swap = one;
                one = other, other = swap;
            }
        }
        free(scratch);
        restore_subnormals(before);
    }
    free(blocks);
    return (int)failed;
}
