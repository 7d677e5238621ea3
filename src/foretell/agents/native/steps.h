/* What is done to weights between passes: Adam's step, the size of gradients, following at a rate. */
#include <math.h>
#include <stdint.h>

enum { SHARED = 16384 }; /* numbers of which each thread takes some; fewer are one thread's */

typedef struct {
    float size, root, keep1, keep2, least, eps;
} Step;

/* Kingma and Ba 2015, Algorithm 1; a first moment below `least` becomes 0. */
static void adam_numbers(Step step, int64_t count, float *restrict w, const float *restrict g, float *restrict m,
                         float *restrict v) {
    for (int64_t i = 0; i < count; i++) {
        float moment = m[i] + step.keep1 * (g[i] - m[i]);
        moment = fabsf(moment) < step.least ? 0.0f : moment;
        v[i] += step.keep2 * (g[i] * g[i] - v[i]);
        w[i] -= step.size * moment / (sqrtf(v[i]) / step.root + step.eps);
        m[i] = moment;
    }
}

void foretell_adam(int64_t tensors, const int64_t *counts, float *const *weights, const float *const *gradients,
                   float *const *first, float *const *second, float *const *steps, double rate, double beta1,
                   double beta2, double epsilon, double negligible, int threads) {
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        double number = *steps[tensor] += 1.0f;
        Step step = {(float)(rate / (1 - pow(beta1, number))), (float)sqrt(1 - pow(beta2, number)), (float)(1 - beta1),
                     (float)(1 - beta2), (float)negligible, (float)epsilon};
        int64_t parts = counts[tensor] > SHARED ? threads : 1;
#pragma omp parallel for num_threads(threads) if (parts > 1)
        for (int64_t part = 0; part < parts; part++) {
            int64_t begin = counts[tensor] * part / parts, end = counts[tensor] * (part + 1) / parts;
            adam_numbers(step, end - begin, weights[tensor] + begin, gradients[tensor] + begin, first[tensor] + begin,
                         second[tensor] + begin);
        }
    }
}

/* Sum of squares, in float32: infinite or NaN where a value is, or where its square outgrows float32. */
float foretell_squares(int64_t tensors, const int64_t *counts, const float *const *values) {
    float sum = 0.0f;
    for (int64_t tensor = 0; tensor < tensors; tensor++)
        for (int64_t i = 0; i < counts[tensor]; i++) sum += values[tensor][i] * values[tensor][i];
    return sum;
}

static void follow_numbers(float rate, int64_t count, float *restrict old, const float *restrict new) {
    for (int64_t i = 0; i < count; i++) old[i] += rate * (new[i] - old[i]);
}

/* old + rate * (new - old) */
void foretell_follow(int64_t tensors, const int64_t *counts, float *const *old, const float *const *new, double rate,
                     int threads) {
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        int64_t parts = counts[tensor] > SHARED ? threads : 1;
#pragma omp parallel for num_threads(threads) if (parts > 1)
        for (int64_t part = 0; part < parts; part++) {
            int64_t begin = counts[tensor] * part / parts, end = counts[tensor] * (part + 1) / parts;
            follow_numbers((float)rate, end - begin, old[tensor] + begin, new[tensor] + begin);
        }
    }
}
