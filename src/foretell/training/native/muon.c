/* Muon's step for matrices of any shapes: see training/clipped_muon.py for the equations. Rows are contiguous, float32.
   Threads share out the matrices, so that the numbers depend on none. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void (*sgemm_function)(const char *, const char *, const int *, const int *, const int *, const float *,
                               const float *, const int *, const float *, const int *, const float *, float *,
                               const int *);

typedef struct {
    int64_t rows, columns;
    const float *gradient;
    float *momentum, *weight;
} Matrix;

typedef struct {
    sgemm_function sgemm; /* Fortran's, of the BLAS that PyTorch has loaded: matrices by columns */
    float momentum, rate, decay, first, second, third;
    int64_t iterations;
} Settings;

/* c (rows, columns) = alpha a b + beta c; "T" for what is read transposed, whose rows are `inner` long else */
static void product(const Settings *s, const char *a_is, const char *b_is, int64_t rows, int64_t columns,
                    int64_t inner, float alpha, const float *a, const float *b, float beta, float *c) {
    int m = (int)columns, n = (int)rows, k = (int)inner;
    int lda = *a_is == 'N' ? k : n, ldb = *b_is == 'N' ? m : k;
    s->sgemm(b_is, a_is, &m, &n, &k, &alpha, b, &ldb, a, &lda, &beta, c, &m);
}

/* Move the momentum towards the gradient and write gradient and momentum, mixed, scaled to a norm of 1. */
static void direction(const Settings *s, const Matrix *of, float *found) {
    int64_t count = of->rows * of->columns;
    const float *gradient = of->gradient;
    float *momentum = of->momentum, squares = 0.0f;
    for (int64_t i = 0; i < count; i++) {
        float moved = momentum[i] + (1.0f - s->momentum) * (gradient[i] - momentum[i]);
        momentum[i] = moved;
        found[i] = gradient[i] + s->momentum * (moved - gradient[i]);
        squares += found[i] * found[i];
    }
    float scale = 1.0f / (sqrtf(squares) + 1e-7f);
    for (int64_t i = 0; i < count; i++) found[i] *= scale;
}

/* Newton and Schulz: of a matrix that lies, x <- a x + (b A + c A^2) x with A = x x'; of one that stands, with A = x' x
   from the other side. `scratch` has room for one more and two squares. Returns where the last one is. */
static float *orthogonalized(const Settings *s, int64_t rows, int64_t columns, float *x, float *scratch) {
    int64_t side = rows < columns ? rows : columns, along = rows < columns ? columns : rows;
    float *other = scratch, *squares = other + rows * columns, *mixed = squares + side * side;
    for (int64_t i = 0; i < s->iterations; i++) {
        if (rows <= columns) product(s, "N", "T", side, side, along, 1.0f, x, x, 0.0f, squares);
        else product(s, "T", "N", side, side, along, 1.0f, x, x, 0.0f, squares);
        memcpy(mixed, squares, (size_t)(side * side) * sizeof(float));
        product(s, "N", "N", side, side, side, s->third, squares, squares, s->second, mixed);
        memcpy(other, x, (size_t)(rows * columns) * sizeof(float));
        if (rows <= columns) product(s, "N", "N", rows, columns, side, 1.0f, mixed, x, s->first, other);
        else product(s, "N", "N", rows, columns, side, 1.0f, x, mixed, s->first, other);
        float *before = x;
        x = other;
        other = before;
    }
    return x;
}

static int step(const Settings *s, const Matrix *of) {
    int64_t count = of->rows * of->columns, side = of->rows < of->columns ? of->rows : of->columns;
    float *memory = malloc((size_t)(2 * count + 2 * side * side) * sizeof(float));
    if (memory == NULL) return 1;
    direction(s, of, memory);
    const float *x = orthogonalized(s, of->rows, of->columns, memory, memory + count);
    float longer = of->rows > of->columns ? sqrtf((float)of->rows / (float)of->columns) : 1.0f;
    float kept = 1.0f - s->rate * s->decay, size = s->rate * longer;
    for (int64_t i = 0; i < count; i++) of->weight[i] = of->weight[i] * kept - size * x[i];
    free(memory);
    return 0;
}

/* Returns 0, or 1 where there is no memory. */
int foretell_muon(const Settings *settings, int64_t count, const Matrix *matrices, int threads) {
    int failed = 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1) reduction(| : failed)
    for (int64_t i = 0; i < count; i++) failed |= step(settings, matrices + i);
    return failed;
}
