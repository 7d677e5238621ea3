/* What is done to weights between passes: Adam's step, the size of gradients, following at a rate. */
#include <math.h>
#include <stdint.h>

/* Kingma and Ba 2015, Algorithm 1, for several tensors; a first moment below `negligible` becomes 0. */
void foretell_adam(int64_t tensors, const int64_t *counts, float *const *weights, const float *const *gradients,
                   float *const *first, float *const *second, float *const *steps, double rate, double beta1,
                   double beta2, double epsilon, double negligible) {
    float keep1 = (float)(1 - beta1), keep2 = (float)(1 - beta2), least = (float)negligible, eps = (float)epsilon;
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        double step = *steps[tensor] += 1.0f;
        float size = (float)(rate / (1 - pow(beta1, step))), root = (float)sqrt(1 - pow(beta2, step));
        float *restrict w = weights[tensor], *restrict m = first[tensor], *restrict v = second[tensor];
        const float *restrict g = gradients[tensor];
        for (int64_t i = 0; i < counts[tensor]; i++) {
            float moment = m[i] + keep1 * (g[i] - m[i]);
            moment = fabsf(moment) < least ? 0.0f : moment;
            v[i] += keep2 * (g[i] * g[i] - v[i]);
            w[i] -= size * moment / (sqrtf(v[i]) / root + eps);
            m[i] = moment;
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

/* old + rate * (new - old) */
void foretell_follow(int64_t tensors, const int64_t *counts, float *const *old, const float *const *new, double rate) {
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        float *restrict values = old[tensor];
        const float *restrict wanted = new[tensor];
        for (int64_t i = 0; i < counts[tensor]; i++) values[i] += (float)rate * (wanted[i] - values[i]);
    }
}
