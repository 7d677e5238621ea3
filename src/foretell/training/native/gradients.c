/* What is done to the gradients of all parameters together. Float32. */
#include <math.h>
#include <stdint.h>

/* Write the norm of all numbers of `tensors` together, summed in float64, tensor by tensor. */
void foretell_norm(int64_t tensors, const int64_t *counts, float *const *values, float *norm) {
    double all = 0.0;
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        double squares = 0.0;
        for (int64_t i = 0; i < counts[tensor]; i++) squares += (double)values[tensor][i] * (double)values[tensor][i];
        all += squares;
    }
    *norm = (float)sqrt(all);
}

void foretell_scale(int64_t tensors, const int64_t *counts, float *const *values, float factor) {
    for (int64_t tensor = 0; tensor < tensors; tensor++)
        for (int64_t i = 0; i < counts[tensor]; i++) values[tensor][i] *= factor;
}
