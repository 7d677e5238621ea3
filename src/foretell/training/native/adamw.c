/* AdamW's step and the norm of what it steps along: see training/clipped_adamw.py. Each operation rounds as in PyTorch's
   kernels for AVX2, so that both give the same bits there: they take WIDE numbers at a time, and round the few that are
   left in another place.
   Rows are contiguous, float32. */
#include <math.h>
#include <stdint.h>

enum { WIDE = 8, HALF = 4 };

typedef struct {
    double rate, beta1, beta2, epsilon, decay;
} Settings;

typedef struct {
    float size, root, kept, to_first, keep_second, to_second, epsilon;
} Step;

static Step step_of(const Settings *s, double number) {
    Step step = {(float)(-s->rate / (1 - pow(s->beta1, number))), (float)sqrt(1 - pow(s->beta2, number)),
                 (float)(1 - s->rate * s->decay), (float)(1 - s->beta1), (float)s->beta2, (float)(1 - s->beta2),
                 (float)s->epsilon};
    return step;
}

static inline __attribute__((always_inline)) void moved(Step s, int wide, int64_t begin, int64_t end, float *restrict weight,
                                                        const float *restrict gradient, float *restrict first,
                                                        float *restrict second) {
    for (int64_t i = begin; i < end; i++) {
        float g = gradient[i], part = s.to_second * g;
        first[i] = fmaf(s.to_first, g - first[i], first[i]);
        second[i] = wide ? fmaf(part, g, second[i] * s.keep_second) : fmaf(second[i], s.keep_second, part * g);
        weight[i] = weight[i] * s.kept + s.size * first[i] / (sqrtf(second[i]) / s.root + s.epsilon);
    }
}

static float norm_of(int64_t count, const float *values) {
    float sums[WIDE] = {0.0f};
    int64_t i = 0;
    for (; i + WIDE <= count; i += WIDE)
        for (int lane = 0; lane < WIDE; lane++) sums[lane] += values[i + lane] * values[i + lane];
    float sum = sums[0];
    for (int lane = 1; lane < WIDE; lane++) sum += sums[lane];
    if (i + HALF <= count)
        for (int lane = 0; lane < HALF; lane++, i++) sum += values[i] * values[i];
    for (; i < count; i++) sum = fmaf(values[i], values[i], sum);
    return sqrtf(sum);
}

/* The norm of all tensors together: that of their `norms`, which are written too. */
void foretell_adamw_norm(int64_t tensors, const int64_t *counts, float *const *values, float *norms, float *norm) {
    for (int64_t t = 0; t < tensors; t++) norms[t] = norm_of(counts[t], values[t]);
    *norm = norm_of(tensors, norms);
}

/* Loshchilov and Hutter 2019, Algorithm 2. Each tensor counts its own steps. */
void foretell_adamw(const Settings *settings, int64_t tensors, const int64_t *counts, float *const *weights,
                    float *const *gradients, float *const *first, float *const *second, float *const *steps) {
    for (int64_t t = 0; t < tensors; t++) {
        Step step = step_of(settings, *steps[t] += 1.0f);
        int64_t whole = counts[t] / WIDE * WIDE;
        moved(step, 1, 0, whole, weights[t], gradients[t], first[t], second[t]);
        moved(step, 0, whole, counts[t], weights[t], gradients[t], first[t], second[t]);
    }
}
