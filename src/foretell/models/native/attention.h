/* Attention of one window: every head, masked, with dropout on the weights. */
#pragma once
#include "kernels.h"

typedef struct {
    int tokens, outputs, width, heads; /* of a window; queries are those of its `outputs` */
    const uint8_t *allowed;            /* (tokens, tokens): may row see column? */
    int first, step;                   /* output i is token first + i * step */
    Dropout drop;
} Attention;

/* weights (heads, outputs, tokens) and attended (outputs, width) of q (outputs, width) and kv (tokens, 2 width). */
static void attend(const Attention *a, uint32_t counter, const float *q, const float *kv, float *weights, float *dropped,
                   float *attended) {
    int T = a->tokens, R = a->outputs, D = a->width, size = D / a->heads;
    float scale = 1.0f / sqrtf((float)size);
    for (int h = 0; h < a->heads; h++, weights += R * T, counter += (uint32_t)(R * T)) {
        TIMES_TRANSPOSED(R, T, size, scale, q + h * size, D, kv + h * size, 2 * D, 0.0f, weights, T);
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
        TIMES(R, size, T, 1.0f, used, T, kv + D + h * size, 2 * D, 0.0f, attended + h * size, D);
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
        TIMES_TRANSPOSED(R, T, size, 1.0f, out, D, kv + D + h * size, 2 * D, 0.0f, scratch, T);
        if (a->drop.threshold) {
            drop_units(a->drop, counter, (int64_t)R * T, weights, dropped);
            drop_units(a->drop, counter, (int64_t)R * T, scratch, scratch);
            used = dropped;
        }
        TRANSPOSED_TIMES(T, size, R, 1.0f, used, T, out, D, 0.0f, kv_gradient + D + h * size, 2 * D);
        for (int r = 0; r < R; r++) {
            float *row = scratch + r * T, along = 0;
            const float *weight = weights + r * T;
            for (int c = 0; c < T; c++) along += row[c] * weight[c];
            for (int c = 0; c < T; c++) row[c] = weight[c] * (row[c] - along) * scale;
        }
        TIMES(R, size, T, 1.0f, scratch, T, kv + h * size, 2 * D, 0.0f, q_gradient + h * size, D);
        TRANSPOSED_TIMES(T, size, R, 1.0f, scratch, T, q + h * size, D, 0.0f, kv_gradient + h * size, 2 * D);
    }
}
