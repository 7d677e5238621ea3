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
    float *scratch[2];                      /* (members, rows, widest) each */
} Perceptrons;

/* Threads share out members, and rows or columns of each where there are more threads than members; a product is one
   thread's. With one thread everything is computed in one piece. */
typedef struct {
    int64_t member, begin, end;
} Part;

static int64_t parts_of(const Perceptrons *of, int threads) {
    return of->members * ((threads + of->members - 1) / of->members);
}

static Part part(const Perceptrons *of, int64_t parts, int64_t number, int64_t length) {
    int64_t each = parts / of->members, place = number % each;
    Part found = {number / each, length * place / each, length * (place + 1) / each};
    return found;
}

/* c (rows, columns) = a b + beta c; "T" for what is read transposed */
static void product(const Perceptrons *of, const char *first, const char *second, int64_t rows, int64_t columns,
                    int64_t inner, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                    int64_t ldc) {
    int m = (int)columns, n = (int)rows, k = (int)inner, left = (int)ldb, right = (int)lda, out = (int)ldc;
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
void foretell_perceptrons_forward(const Perceptrons *of, const float *inputs, int threads) {
    int64_t parts = parts_of(of, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t number = 0; number < parts; number++) {
        Part p = part(of, parts, number, of->rows);
        const float *read = inputs + p.begin * of->sizes[0];
        for (int64_t layer = 0; layer < of->layers; layer++) {
            int64_t in = of->sizes[layer], out = of->sizes[layer + 1], rows = p.end - p.begin;
            float *values = of->kept[layer] + (p.member * of->rows + p.begin) * out;
            product(of, "N", "N", rows, out, in, read, in, of->weights[layer] + p.member * in * out, out, 0.0f, values,
                    out);
            add_bias(values, of->biases[layer] + p.member * out, rows, out, layer + 1 < of->layers);
            read = values;
        }
    }
}

static void sum_rows(const float *values, int64_t rows, int64_t width, int64_t columns, float *sums) {
    for (int64_t i = 0; i < columns; i++) sums[i] = 0.0f;
    for (int64_t row = 0; row < rows; row++, values += width)
        for (int64_t i = 0; i < columns; i++) sums[i] += values[i];
}

/* What relu let through; of its derivative at 0 we take 0, as PyTorch does. */
static void mask(float *gradient, const float *hidden, int64_t count) {
    for (int64_t i = 0; i < count; i++) gradient[i] = hidden[i] <= 0.0f ? 0.0f : gradient[i];
}

/* The first `rows` of each member go back. gradient: (members, rows, outputs). Writes the gradients of weights and
   biases where `inputs` are given, and where `wanted` is above 0 that of the inputs from number `first` on, summed over
   the members: (rows, wanted). */
void foretell_perceptrons_backward(const Perceptrons *of, int64_t rows, const float *gradient, const float *inputs,
                                   int64_t first, int64_t wanted, float *input_gradient, int threads) {
    int64_t parts = parts_of(of, threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int64_t layer = of->layers - 1; layer >= 0; layer--) {
        int64_t in = of->sizes[layer], out = of->sizes[layer + 1];
        const float *all_above = layer + 1 == of->layers ? gradient : of->scratch[(layer + 1) % 2];
#pragma omp for nowait
        for (int64_t number = 0; number < (inputs ? parts : 0); number++) {
            Part p = part(of, parts, number, out);
            const float *above = all_above + p.member * rows * out + p.begin;
            const float *hidden = layer ? of->kept[layer - 1] + p.member * of->rows * in : inputs;
            product(of, "T", "N", in, p.end - p.begin, rows, hidden, in, above, out, 0.0f,
                    of->weight_gradients[layer] + p.member * in * out + p.begin, out);
            sum_rows(above, rows, out, p.end - p.begin, of->bias_gradients[layer] + p.member * out + p.begin);
        }
#pragma omp for
        for (int64_t number = 0; number < (layer ? parts : 0); number++) {
            Part p = part(of, parts, number, rows);
            const float *above = all_above + (p.member * rows + p.begin) * out;
            float *below = of->scratch[layer % 2] + (p.member * rows + p.begin) * in;
            product(of, "N", "T", p.end - p.begin, in, out, above, out, of->weights[layer] + p.member * in * out, out,
                    0.0f, below, in);
            mask(below, of->kept[layer - 1] + (p.member * of->rows + p.begin) * in, (p.end - p.begin) * in);
        }
#pragma omp for
        for (int64_t number = 0; number < (layer || !wanted ? 0 : threads); number++) {
            int64_t begin = rows * number / threads, end = rows * (number + 1) / threads;
            for (int64_t member = 0; member < of->members; member++)
                product(of, "N", "T", end - begin, wanted, out, all_above + (member * rows + begin) * out, out,
                        of->weights[0] + member * in * out + first * out, out, member ? 1.0f : 0.0f,
                        input_gradient + begin * wanted, wanted);
        }
    }
}
