/* Muon's step for matrices of any shapes: see training/clipped_muon.py for the equations. Rows are contiguous, float32.
   Threads share out the matrices, so that the numbers depend on none. */
#include <math.h>
#include <stdlib.h>
#include "../../core/native/products.h"

typedef struct {
    int64_t rows, columns;
    const float *gradient;
    float *momentum, *weight;
} Matrix;

typedef struct {
    sgemm_function sgemm;
    float momentum, rate, decay, first, second, third;
    int64_t iterations;
} Settings;

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

/* A symmetric product's part on and below its diagonal is computed in blocks of so many columns; the rest is its mirror
   image, to the last bit: the same factors, in the same order. */
enum { BLOCK = 32 };

static int64_t at_most(int64_t number, int64_t most) { return number < most ? number : most; }

static void mirror(int64_t side, float *found) {
    for (int64_t row = 0; row < side; row++)
        for (int64_t i = (row / BLOCK + 1) * BLOCK; i < side; i++) found[row * side + i] = found[i * side + row];
}

/* found = second A + third A^2, all (side, side). Products of symmetric factors are so to rounding alone: `exactly`, or
   all of it is computed. */
static void mixed(const Settings *s, int64_t side, int exactly, const float *squares, float *found) {
    memcpy(found, squares, (size_t)(side * side) * sizeof(float));
    if (!exactly) {
        times(side, side, side, s->third, squares, side, squares, side, s->second, found, side);
        return;
    }
    for (int64_t i = 0; i < side; i += BLOCK)
        times(side - i, at_most(side - i, BLOCK), side, s->third, squares + i * side, side, squares + i, side, s->second,
              found + i * side + i, side);
    mirror(side, found);
}

/* A = x x' of a matrix that lies, x' x of one that stands */
static void squared(int64_t rows, int64_t columns, const float *x, float *found) {
    int64_t side = at_most(rows, columns);
    for (int64_t i = 0; i < side; i += BLOCK) {
        int64_t low = side - i, wide = at_most(low, BLOCK);
        float *block = found + i * side + i;
        if (rows <= columns)
            times_transposed(low, wide, columns, 1.0f, x + i * columns, columns, x + i * columns, columns, 0.0f, block, side);
        else
            transposed_times(low, wide, rows, 1.0f, x + i, columns, x + i, columns, 0.0f, block, side);
    }
    mirror(side, found);
}

/* found = factor x of a matrix that lies, x factor of one that stands, plus beta found */
static void multiplied(int64_t rows, int64_t columns, const float *factor, const float *x, float beta, float *found) {
    if (rows <= columns) times(rows, columns, rows, 1.0f, factor, rows, x, columns, beta, found, columns);
    else times(rows, columns, columns, 1.0f, x, columns, factor, columns, beta, found, columns);
}

static void swap(float **one, float **other) {
    float *before = *one;
    *one = *other;
    *other = before;
}

/* Newton and Schulz: x <- first x + (second A + third A^2) x, or from the other side. Returns where the last x is. */
static float *by_steps(const Settings *s, int64_t rows, int64_t columns, float *x, float *other, float *squares) {
    int64_t side = rows < columns ? rows : columns;
    for (int64_t i = 0; i < s->iterations; i++) {
        squared(rows, columns, x, squares);
        mixed(s, side, 1, squares, squares + side * side);
        memcpy(other, x, (size_t)(rows * columns) * sizeof(float));
        multiplied(rows, columns, squares + side * side, x, s->first, other);
        swap(&x, &other);
    }
    return x;
}

/* The same where one side is much longer: x_i = P_i x_0, and A_i follows from A_0 without x.
   With S = first I + second A + third A^2: P <- S P, A <- S A S. */
static float *by_squares(const Settings *s, int64_t rows, int64_t columns, float *x, float *found, float *squares) {
    int64_t side = rows < columns ? rows : columns, size = side * side;
    float *factor = squares + size, *all = factor + size, *scratch = all + size;
    squared(rows, columns, x, squares);
    for (int64_t i = 0; i < s->iterations; i++) {
        mixed(s, side, i == 0, squares, factor);
        for (int64_t k = 0; k < side; k++) factor[k * side + k] += s->first;
        if (i) {
            times(side, side, side, 1.0f, factor, side, all, side, 0.0f, scratch, side);
            swap(&all, &scratch);
        } else {
            memcpy(all, factor, (size_t)size * sizeof(float));
        }
        if (i + 1 == s->iterations) break;
        times(side, side, side, 1.0f, factor, side, squares, side, 0.0f, scratch, side);
        times(side, side, side, 1.0f, scratch, side, factor, side, 0.0f, squares, side);
    }
    multiplied(rows, columns, all, x, 0.0f, found);
    return found;
}

static int step(const Settings *s, const Matrix *of) {
    int64_t count = of->rows * of->columns, side = of->rows < of->columns ? of->rows : of->columns;
    float *memory = malloc((size_t)(2 * count + 4 * side * side) * sizeof(float)), *other = memory + count;
    if (memory == NULL) return 1;
    direction(s, of, memory);
    int much_longer = count >= 2 * side * side && s->iterations > 0;
    const float *x = (much_longer ? by_squares : by_steps)(s, of->rows, of->columns, memory, other, other + count);
    float longer = of->rows > of->columns ? sqrtf((float)of->rows / (float)of->columns) : 1.0f;
    float kept = 1.0f - s->rate * s->decay, size = s->rate * longer;
    for (int64_t i = 0; i < count; i++) of->weight[i] = of->weight[i] * kept - size * x[i];
    free(memory);
    return 0;
}

/* Returns 0, or 1 where there is no memory. */
int foretell_muon(const Settings *settings, int64_t count, const Matrix *matrices, int threads) {
    int failed = 0;
    sgemm = settings->sgemm;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1) reduction(| : failed)
    for (int64_t i = 0; i < count; i++) failed |= step(settings, matrices + i);
    return failed;
}
