/* What a block is made of: matrix products, exponentials, LayerNorm, dropout. Rows are contiguous, float32. */
#pragma once
#include <math.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif
#include "../../core/native/products.h"

/* Take numbers below the smallest normal one for 0 in this thread, and return what `restore_subnormals` needs. A softmax
   that is sure of itself is full of them, and a matrix product of them takes ten times as long. */
static uint64_t without_subnormals(void) {
    uint64_t before = 0;
#if defined(__SSE__)
    before = _mm_getcsr();
    _mm_setcsr((unsigned)before | 0x8040u); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
#endif
    return before;
}

static void restore_subnormals(uint64_t before) {
#if defined(__SSE__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#endif
}

/* e^x to 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Taylor, degree 7). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23; /* whatever of NaN, which p is then */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* 32 well-mixed bits of a counter (the finaliser of MurmurHash3, twice, keyed): dropout needs no state. */
static inline uint32_t mixed(uint32_t counter, uint32_t low, uint32_t high) {
    uint32_t h = counter * 0x9e3779b9u + low;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = ((h ^ (h >> 13)) ^ high) * 0xc2b2ae35u;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    return h ^ (h >> 15);
}

typedef struct { /* one place where units are dropped; the same key gives the same mask again */
    uint32_t low, high, threshold;
    float scale; /* of units that stay; 1 and threshold 0 where none is dropped */
} Dropout;

static Dropout dropout_at(uint64_t key, int place, float probability) {
    Dropout found;
    found.low = mixed((uint32_t)(2 * place), (uint32_t)key, (uint32_t)(key >> 32));
    found.high = mixed((uint32_t)(2 * place + 1), (uint32_t)key, (uint32_t)(key >> 32));
    found.threshold = (uint32_t)(probability * 4294967296.0);
    found.scale = 1.0f / (1.0f - probability);
    return found;
}

static inline float kept(Dropout drop, uint32_t counter) {
    return mixed(counter, drop.low, drop.high) >= drop.threshold ? drop.scale : 0.0f;
}

/* out = in * mask, over `count` units from number `first` on; in and out may be one. */
static void drop_units(Dropout drop, uint32_t first, int64_t count, const float *in, float *out) {
    if (!drop.threshold) {
        if (in != out) memcpy(out, in, (size_t)count * sizeof *out);
        return;
    }
    for (uint32_t i = 0; i < (uint32_t)count; i++) out[i] = in[i] * kept(drop, first + i);
}

/* The largest of `count` numbers, sixteen at a time. */
static inline float largest(int count, const float *in) {
    float lanes[16], most = -INFINITY;
    int i = 0;
    for (int lane = 0; lane < 16; lane++) lanes[lane] = -INFINITY;
    for (; i + 16 <= count; i += 16)
        for (int lane = 0; lane < 16; lane++) lanes[lane] = in[i + lane] > lanes[lane] ? in[i + lane] : lanes[lane];
    for (int lane = 0; lane < 16; lane++) most = lanes[lane] > most ? lanes[lane] : most;
    for (; i < count; i++) most = in[i] > most ? in[i] : most;
    return most;
}

/* out = residual + mask * (out + bias), row by row. */
static void add_dropped(Dropout drop, uint32_t first, int rows, int width, const float *bias, const float *residual,
                        float *out) {
    for (int r = 0; r < rows; r++, out += width, residual += width, first += (uint32_t)width) {
        if (drop.threshold)
            for (int i = 0; i < width; i++) out[i] = residual[i] + (out[i] + bias[i]) * kept(drop, first + (uint32_t)i);
        else
            for (int i = 0; i < width; i++) out[i] = residual[i] + (out[i] + bias[i]);
    }
}

static void add_bias(int rows, int width, const float *bias, float *out) {
    for (int r = 0; r < rows; r++, out += width)
        for (int i = 0; i < width; i++) out[i] += bias[i];
}

static void add_column_sums(int rows, int width, const float *in, float *sums) {
    for (int r = 0; r < rows; r++, in += width)
        for (int i = 0; i < width; i++) sums[i] += in[i];
}

/* out = gain * (in - mean) / deviation + shift; keeps mean and 1 / deviation of each row in `moments`. */
static void layer_norm(int rows, int width, const float *in, const float *gain, const float *shift, float *moments,
                       float *out) {
    for (int r = 0; r < rows; r++, in += width, out += width, moments += 2) {
        float sum = 0, squares = 0;
        for (int i = 0; i < width; i++) sum += in[i];
        float mean = sum / width;
        for (int i = 0; i < width; i++) squares += (in[i] - mean) * (in[i] - mean);
        float inverse = 1.0f / sqrtf(squares / width + 1e-5f);
        for (int i = 0; i < width; i++) out[i] = (in[i] - mean) * inverse * gain[i] + shift[i];
        moments[0] = mean, moments[1] = inverse;
    }
}

/* The norm's output once more, from what was kept. */
static void normed_again(int rows, int width, const float *in, const float *gain, const float *shift,
                         const float *moments, float *out) {
    for (int r = 0; r < rows; r++, in += width, out += width, moments += 2)
        for (int i = 0; i < width; i++) out[i] = (in[i] - moments[0]) * moments[1] * gain[i] + shift[i];
}

/* in_gradient += what `gradient`, of the norm's output, is worth to its input; sums up those of gain and shift. */
static void layer_norm_backward(int rows, int width, const float *in, const float *gain, const float *moments,
                                const float *gradient, float *in_gradient, float *gain_gradient,
                                float *shift_gradient) {
    for (int r = 0; r < rows; r++, in += width, gradient += width, in_gradient += width, moments += 2) {
        float mean = moments[0], inverse = moments[1], sum = 0, along = 0;
        for (int i = 0; i < width; i++) {
            float normal = (in[i] - mean) * inverse, scaled = gradient[i] * gain[i];
            sum += scaled;
            along += scaled * normal;
            gain_gradient[i] += gradient[i] * normal;
            shift_gradient[i] += gradient[i];
        }
        sum /= width, along /= width;
        for (int i = 0; i < width; i++)
            in_gradient[i] += (gradient[i] * gain[i] - sum - (in[i] - mean) * inverse * along) * inverse;
    }
}

/* values = activation(values + bias); slopes, where wanted, its derivative there (of relu the values say it). */
static void activate(int gelu, int rows, int width, const float *bias, float *values, float *slopes) {
    for (int r = 0; r < rows; r++, values += width, slopes += slopes ? width : 0) {
        if (!gelu) {
            for (int i = 0; i < width; i++) {
                float x = values[i] + bias[i];
                values[i] = x < 0.0f ? 0.0f : x; /* NaN stays */
            }
            continue;
        }
        for (int i = 0; i < width; i++) { /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
            float x = values[i] + bias[i], square = x * x;
            float t = 1.0f - 2.0f / (exponential(1.5957691216f * (x + 0.044715f * square * x)) + 1.0f);
            values[i] = 0.5f * x * (1.0f + t);
            if (slopes)
                slopes[i] = 0.5f * (1.0f + t) + 0.3989422804f * x * (1.0f - t * t) * (1.0f + 0.134145f * square);
        }
    }
}

/* gradient *= activation' */
static void activate_backward(int gelu, int64_t count, const float *values, const float *slopes, float *gradient) {
    if (gelu)
        for (int64_t i = 0; i < count; i++) gradient[i] *= slopes[i];
    else
        for (int64_t i = 0; i < count; i++) gradient[i] = values[i] > 0.0f ? gradient[i] : 0.0f;
}
