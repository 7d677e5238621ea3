/* Attention of one window: every head, masked, with dropout on the weights. */
#pragma once
#include "kernels.h"

typedef struct {
    int tokens, outputs, width, heads; /* of a window; queries are those of its `outputs` */
    const uint8_t *allowed;            /* (tokens, tokens): may row see column? */
    int first, step;                   /* output i is token first + i * step */
    Dropout drop;
} Attention;

enum { FEW = 6, SOME = 15 }; /* tokens of a window up to which a loop is faster than to call for a product: sums, scores */

/* c (rows, columns) = alpha * a (rows, size) b (columns, size)' */
static inline void few_products(int rows, int columns, int size, float alpha, const float *a, int lda, const float *b,
                                int ldb, float *c) {
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < columns; k++) {
            float sum = 0.0f;
            for (int i = 0; i < size; i++) sum += a[r * lda + i] * b[k * ldb + i];
            c[r * columns + k] = alpha * sum;
        }
}

/* c (rows, size) = weights b (columns, size); weight (r, k) lies at r * apart + k * step */
static inline void few_sums(int rows, int columns, int size, const float *weights, int apart, int step, const float *b,
                            int ldb, float *restrict c, int ldc) {
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < size; i++) c[r * ldc + i] = weights[r * apart] * b[i];
        for (int k = 1; k < columns; k++)
            for (int i = 0; i < size; i++) c[r * ldc + i] += weights[r * apart + k * step] * b[k * ldb + i];
    }
}

/* The same with the common sizes of a head known to the compiler. */
#define OF_SIZE(call, size, ...) \
    switch (size) { \
    case 16: call(16, __VA_ARGS__); break; \
    case 32: call(32, __VA_ARGS__); break; \
    case 64: call(64, __VA_ARGS__); break; \
    default: call(size, __VA_ARGS__); \
    }
#define PRODUCTS(size, rows, columns, ...) few_products(rows, columns, size, __VA_ARGS__)
#define SUMS(size, rows, columns, ...) few_sums(rows, columns, size, __VA_ARGS__)

/* c (rows, columns) = alpha * a (rows, size) b (columns, size)' */
static void compared(int rows, int columns, int size, float alpha, const float *a, int lda, const float *b, int ldb,
                     float *c) {
    if (columns <= SOME) {
        OF_SIZE(PRODUCTS, size, rows, columns, alpha, a, lda, b, ldb, c)
    } else {
        times_transposed(rows, columns, size, alpha, a, lda, b, ldb, 0.0f, c, columns);
    }
}

/* c (rows, size) = weights (rows, columns) b (columns, size) */
static void gathered(int rows, int columns, int size, const float *weights, const float *b, int ldb, float *c, int ldc) {
    if (columns <= FEW) {
        OF_SIZE(SUMS, size, rows, columns, weights, columns, 1, b, ldb, c, ldc)
    } else {
        times(rows, size, columns, 1.0f, weights, columns, b, ldb, 0.0f, c, ldc);
    }
}

/* c (columns, size) = weights (rows, columns)' b (rows, size) */
static void scattered(int rows, int columns, int size, const float *weights, const float *b, int ldb, float *c, int ldc) {
    if (columns <= FEW) {
        OF_SIZE(SUMS, size, columns, rows, weights, 1, columns, b, ldb, c, ldc)
    } else {
        transposed_times(columns, size, rows, 1.0f, weights, columns, b, ldb, 0.0f, c, ldc);
    }
}

/* weights (heads, outputs, tokens) and attended (outputs, width) of q (outputs, width) and kv (tokens, 2 width). */
static void attend(const Attention *a, uint32_t counter, const float *q, const float *kv, float *weights, float *dropped,
                   float *attended) {
    int T = a->tokens, R = a->outputs, D = a->width, size = D / a->heads;
    float scale = 1.0f / sqrtf((float)size);
    for (int h = 0; h < a->heads; h++, weights += R * T, counter += (uint32_t)(R * T)) {
        compared(R, T, size, scale, q + h * size, D, kv + h * size, 2 * D, weights);
        for (int r = 0; r < R; r++) {
            float *row = weights + r * T, sum = 0;
            const uint8_t *see = a->allowed + (a->first + r * a->step) * T;
            for (int c = 0; c < T; c++) row[c] = see[c] ? row[c] : -INFINITY;
            float most = largest(T, row);
            for (int c = 0; c < T; c++) {
                float e = see[c] ? exponential(row[c] - most) : 0.0f;
                row[c] = e;
                sum += e;
            }
            float inverse = 1.0f / sum;
            for (int c = 0; c < T; c++) row[c] *= inverse;
        }
        const float *used = weights;
        if (a->drop.threshold) {
            drop_units(a->drop, counter, (int64_t)R * T, weights, dropped);
            used = dropped;
        }
        gathered(R, T, size, used, kv + D + h * size, 2 * D, attended + h * size, D);
    }
}

/* q_gradient (outputs, width) and kv_gradient (tokens, 2 width) from `gradient` (outputs, width); two scratches of R T. */
static void attend_backward(const Attention *a, uint32_t counter, const float *q, const float *kv, const float *weights,
                            const float *gradient, float *scratch, float *dropped, float *q_gradient,
                            float *kv_gradient) {
    int T = a->tokens, R = a->outputs, D = a->width, size = D / a->heads;
    float scale = 1.0f / sqrtf((float)size);
    for (int h = 0; h < a->heads; h++, weights += R * T, counter += (uint32_t)(R * T)) {
        const float *used = weights, *out = gradient + h * size;
        compared(R, T, size, 1.0f, out, D, kv + D + h * size, 2 * D, scratch);
        if (a->drop.threshold) {
            drop_units(a->drop, counter, (int64_t)R * T, weights, dropped);
            drop_units(a->drop, counter, (int64_t)R * T, scratch, scratch);
            used = dropped;
        }
        scattered(R, T, size, used, out, D, kv_gradient + D + h * size, 2 * D);
        for (int r = 0; r < R; r++) {
            float *row = scratch + r * T, along = 0;
            const float *weight = weights + r * T;
            for (int c = 0; c < T; c++) along += row[c] * weight[c];
            for (int c = 0; c < T; c++) row[c] = weight[c] * (row[c] - along) * scale;
        }
        gathered(R, T, size, scratch, kv + h * size, 2 * D, q_gradient + h * size, D);
        scattered(R, T, size, scratch, q + h * size, D, kv_gradient + h * size, 2 * D);
    }
}
