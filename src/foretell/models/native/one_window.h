/* One window, of which nothing is kept, shared out among threads by rows: tokens up to the keys and values of a block,
   outputs behind them. Threads meet once a block, when all keys and values are there; those of the next block lie in
   another place, so that nobody has to wait for who still reads. */
#pragma once
#include "stack.h"

enum { OF_A_THREAD = 12 }; /* tokens at least; windows of fewer than two threads' are one thread's */

typedef struct {
    float *x[2], *kv[2], *h, *q, *weights, *attended, *x_1, *units, *moments, *dropped; /* rows of all threads */
} OneWindow;

static int64_t lay_out_window(const Shape *s, float *memory, OneWindow *w) {
    int64_t end = 0, N = s->tokens * s->width;
    float **parts[] = {&w->x[0], &w->x[1], &w->kv[0], &w->kv[1], &w->h, &w->q, &w->weights, &w->attended, &w->x_1,
                       &w->units, &w->moments, &w->dropped};
    int64_t sizes[] = {N, N, 2 * N, 2 * N, N, N, s->heads * s->tokens * s->tokens, N, N, 4 * N, 2 * s->tokens, 1};
    for (int i = 0; i < 12; i++) {
        int64_t begin = place(&end, sizes[i]);
        if (memory) *parts[i] = memory + begin;
    }
    return end;
}

static void rows_of_block(const Shape *s, const OneWindow *o, int64_t layer, const float *const *p,
                          const uint8_t *allowed, const float *x, float *y, int64_t me, int64_t all) {
    int64_t T = s->tokens, D = s->width, R = layer + 1 == s->layers ? s->outputs : T, width = D;
    int64_t begin = T * me / all, rows = T * (me + 1) / all - begin, first = R * me / all, M = R * (me + 1) / all - first;
    float *kv = o->kv[layer % 2], *h = o->h + begin * D, *q = o->q + first * D, *x_1 = o->x_1 + first * D;
    float *attended = o->attended + first * D, *units = o->units + first * 4 * D;
    const float *residual = x + first * D;

    layer_norm((int)rows, (int)D, x + begin * D, p[GAIN_1], p[SHIFT_1], o->moments + 2 * begin, h);
    times_transposed(rows, 2 * width, width, 1.0f, h, width, p[W_QKV] + D * D, width, 0.0f, kv + begin * 2 * D, 2 * width);
    add_bias((int)rows, (int)(2 * D), p[B_QKV] + D, kv + begin * 2 * D);
#pragma omp barrier
    Attention a = attention_of(s, (int)layer, R, allowed, 0);
    a.outputs = (int)M, a.first += (int)first * a.step;
    if (M == 0) return;
    const float *from = h;
    if (R != T) { /* the outputs' own rows, whoever normed them */
        for (int64_t r = 0; r < M; r++) memcpy(attended + r * D, o->h + (a.first + r * a.step) * D, (size_t)D * sizeof *h);
        for (int64_t r = 0; r < M; r++) memcpy(units + r * D, x + (a.first + r * a.step) * D, (size_t)D * sizeof *h);
        from = attended, residual = units;
    }
    times_transposed(M, width, width, 1.0f, from, width, p[W_QKV], width, 0.0f, q, width);
    add_bias((int)M, (int)D, p[B_QKV], q);
    attend(&a, 0, q, kv, o->weights + s->heads * first * T, o->dropped, attended);
    times_transposed(M, width, width, 1.0f, attended, width, p[W_OUT], width, 0.0f, x_1, width);
    add_dropped(a.drop, 0, (int)M, (int)D, p[B_OUT], residual, x_1);
    layer_norm((int)M, (int)D, x_1, p[GAIN_2], p[SHIFT_2], o->moments + 2 * first, q);
    times_transposed(M, 4 * width, width, 1.0f, q, width, p[W_IN], width, 0.0f, units, 4 * width);
    activate((int)s->gelu, (int)M, (int)(4 * D), p[B_IN], units, NULL);
    from_units(s, M, units, p, y + first * D);
    add_dropped(a.drop, 0, (int)M, (int)D, p[B_FF], x_1, y + first * D);
}

static int window_forward(const Shape *s, const float *const *parameters, const uint8_t *allowed, const float *x,
                          float *y) {
    OneWindow o;
    float *memory = malloc((size_t)lay_out_window(s, NULL, &o) * sizeof *memory);
    if (!memory) return 1;
    lay_out_window(s, memory, &o);
    int64_t most = s->tokens / OF_A_THREAD, threads = s->threads < most ? s->threads : most;
#pragma omp parallel num_threads((int)threads)
    {
        uint64_t before = without_subnormals();
        int64_t me = 0, all = 1;
#ifdef _OPENMP
        me = omp_get_thread_num(), all = omp_get_num_threads();
#endif
        for (int64_t l = 0; l < s->layers; l++)
            rows_of_block(s, &o, l, parameters + l * PARAMETERS, allowed, l ? o.x[l % 2] : x,
                          l + 1 == s->layers ? y : o.x[(l + 1) % 2], me, all);
        restore_subnormals(before);
    }
    free(memory);
    return 0;
}
