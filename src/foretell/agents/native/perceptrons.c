/* Forward and backward passes of `members` perceptrons of equal shape: see agents/backpropagation.py for the equations.
   Rows are contiguous, float32. */
#include "steps.h"

#include <stdint.h>

typedef void (*sgemm_function)(const char *, const char *, const int *, const int *, const int *, const float *,
                               const float *, const int *, const float *, const int *, const float *, float *,
                               const int *);

typedef struct {
    sgemm_function sgemm; /* Fortran's, of the BLAS that PyTorch has loaded: matrices by columns */
    int64_t members, rows, layers;
    const int64_t *sizes;                   /* layers + 1 widths */
    float *const *weights, *const *biases;  /* a layer: (members, inputs, outputs), (members, 1, outputs) */
    float *const *weight_gradients, *const *bias_gradients;
    float *const *kept;                     /* what layer l gives out, (members, rows, width), l from 0 */
    float *scratch[2];                      /* (rows, widest) each */
} Perceptrons;

/* c (rows, columns) = a b + beta c; "T" for what is read transposed */
static void product(const Perceptrons *of, const char *first, const char *second, int64_t rows, int64_t columns,
                    int64_t inner, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c) {
    int m = (int)columns, n = (int)rows, k = (int)inner, left = (int)ldb, right = (int)lda, out = (int)columns;
    float one = 1.0f;
    of->sgemm(second, first, &m, &n, &k, &one, b, &left, a, &right, &beta, c, &out);
}

static void add_bias(float *values, const float *bias, int64_t rows, int64_t width, int relu) {
    for (int64_t row = 0; row < rows; row++, values += width)
        if (relu)
            for (int64_t i = 0; i < width; i++) {
                float sum = values[i] + bias[i];
                values[i] = sum < 0.0f ? 0.0f : sum; /* NaN stays */
            }
        else
            for (int64_t i = 0; i < width; i++) values[i] += bias[i];
}

/* inputs (rows, sizes[0]), the same for every member */
void foretell_perceptrons_forward(const Perceptrons *of, const float *inputs) {
    for (int64_t member = 0; member < of->members; member++) {
        const float *read = inputs;
        for (int64_t layer = 0; layer < of->layers; layer++) {
            int64_t in = of->sizes[layer], out = of->sizes[layer + 1];
            float *values = of->kept[layer] + member * of->rows * out;
            product(of, "N", "N", of->rows, out, in, read, in, of->weights[layer] + member * in * out, out, 0.0f,
                    values);
            add_bias(values, of->biases[layer] + member * out, of->rows, out, layer + 1 < of->layers);
            read = values;
        }
    }
}

static void sum_rows(const float *values, int64_t rows, int64_t width, float *sums) {
    for (int64_t i = 0; i < width; i++) sums[i] = 0.0f;
    for (int64_t row = 0; row < rows; row++, values += width)
        for (int64_t i = 0; i < width; i++) sums[i] += values[i];
}

/* What relu let through; of its derivative at 0 we take 0, as PyTorch does. */
static void mask(float *gradient, const float *hidden, int64_t count) {
    for (int64_t i = 0; i < count; i++) gradient[i] = hidden[i] <= 0.0f ? 0.0f : gradient[i];
}

/* The first `rows` of each member go back. gradient: (members, rows, outputs). Writes the gradients of weights and
   biases where `inputs` are given, and where `wanted` is above 0 that of the inputs from number `first` on, summed over
   the members: (rows, wanted). */
void foretell_perceptrons_backward(const Perceptrons *of, int64_t rows, const float *gradient, const float *inputs,
                                   int64_t first, int64_t wanted, float *input_gradient) {
    for (int64_t member = 0; member < of->members; member++) {
        const float *above = gradient + member * rows * of->sizes[of->layers];
        for (int64_t layer = of->layers - 1; layer >= 0; layer--) {
            int64_t in = of->sizes[layer], out = of->sizes[layer + 1];
            const float *hidden = layer ? of->kept[layer - 1] + member * of->rows * in : inputs;
            const float *weight = of->weights[layer] + member * in * out;
            if (inputs) {
                product(of, "T", "N", in, out, rows, hidden, in, above, out, 0.0f,
                        of->weight_gradients[layer] + member * in * out);
                sum_rows(above, rows, out, of->bias_gradients[layer] + member * out);
            }
            if (layer) {
                float *below = of->scratch[layer % 2];
                product(of, "N", "T", rows, in, out, above, out, weight, out, 0.0f, below);
                mask(below, hidden, rows * in);
                above = below;
            } else if (wanted) {
                product(of, "N", "T", rows, wanted, out, above, out, weight + first * out, out, member ? 1.0f : 0.0f,
                        input_gradient);
            }
        }
    }
}
