/* What all passes through a stack know of it. */
#pragma once
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "../../core/native/sparse.h"
#include "attention.h"

enum { GAIN_1, SHIFT_1, W_QKV, B_QKV, W_OUT, B_OUT, GAIN_2, SHIFT_2, W_IN, B_IN, W_FF, B_FF, PARAMETERS };

typedef struct {
    int64_t windows, tokens, width, heads, layers, outputs, first, step, gelu, threads, masks, keep;
    float probability;
    uint64_t key;
} Shape; /* `masks`: 1 where every window has its own, else 0; `keep`: whether a backward pass will come */

static int64_t place(int64_t *end, int64_t size) {
    int64_t begin = *end;
    *end += size;
    return begin;
}

static Attention attention_of(const Shape *s, int layer, int64_t outputs, const uint8_t *allowed, int64_t window) {
    Attention a = {(int)s->tokens, (int)outputs, (int)s->width, (int)s->heads,
                   allowed + (s->masks ? window * s->tokens * s->tokens : 0),
                   outputs == s->tokens ? 0 : (int)s->first, outputs == s->tokens ? 1 : (int)s->step,
                   dropout_at(s->key, 3 * layer, s->probability)};
    return a;
}

/* From a block's feed-forward units, (rows, 4 width), to y (rows, width). Of those that relu gives out many are 0. */
static void from_units(const Shape *s, int64_t rows, const float *units, const float *const *p, float *y) {
    int64_t width = s->width, inner = 4 * width;
    if (s->gelu)
        times_transposed(rows, width, inner, 1.0f, units, inner, p[W_FF], inner, 0.0f, y, width);
    else
        sparse_product(DEEP, "N", "T", rows, width, inner, units, inner, p[W_FF], inner, 0, y, width);
}
