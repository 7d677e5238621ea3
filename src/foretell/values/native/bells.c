/* Sums of bells and of cosines: what the smooth part of a Gaussian process answers (values/gaussian_process.py). The
   covariances of an input with all timesteps are used where they are made, eight at a time, and never stored. Float64. */
#include <stdint.h>
#include <string.h>

enum { LANES = 8, TOGETHER = 8, ROWS = 2 }; /* numbers of a vector; members and rows whose sums stay in registers */
typedef double Numbers __attribute__((vector_size(8 * LANES)));
typedef int64_t Words __attribute__((vector_size(8 * LANES)));

static const double SHIFT = 0x1.8p52; /* a sum with it is a whole number, which its lowest bits hold */

static inline Numbers chosen(Words mask, Numbers one, Numbers other) {
    return (Numbers)(((Words)one & mask) | ((Words)other & ~mask));
}

static inline Numbers all(double value) { return value - (Numbers){0}; }

/* e^x for |x| <= 708 to 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Taylor, degree 13).
   NaN stays NaN. */
static inline Numbers exponential(Numbers x) {
    Numbers shifted = x * 0x1.71547652b82fep0 + SHIFT, n = shifted - SHIFT;
    Numbers r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    Numbers p = all(1.6059043836821613e-10); /* 1 / 13! */
    p = p * r + 2.08767569878681e-09;
    p = p * r + 2.505210838544172e-08;
    p = p * r + 2.755731922398589e-07;
    p = p * r + 2.7557319223985893e-06;
    p = p * r + 2.48015873015873e-05;
    p = p * r + 1.984126984126984e-04;
    p = p * r + 1.388888888888889e-03;
    p = p * r + 8.333333333333333e-03;
    p = p * r + 4.1666666666666664e-02;
    p = p * r + 1.6666666666666666e-01;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * (Numbers)(((Words)shifted + 1023) << 52);
}

/* cos x for |x| < 1e5 to 1e-15: (-1)^n times a polynomial of r^2 on [-pi / 2, pi / 2] (Taylor, degree 22), x = n pi + r.
   NaN stays NaN. */
static inline Numbers cosine(Numbers x) {
    Numbers shifted = x * 0x1.45f306dc9c883p-2 + SHIFT, n = shifted - SHIFT;
    Numbers r = ((x - n * 0x1.921fb54400000p1) - n * 0x1.0b4611a400000p-33) - n * 0x1.13198a2e03707p-64;
    Numbers s = r * r, p = all(-8.896791392450574e-22); /* -1 / 22! */
    p = p * s + 4.110317623312165e-19;
    p = p * s - 1.5619206968586225e-16;
    p = p * s + 4.779477332387385e-14;
    p = p * s - 1.1470745597729725e-11;
    p = p * s + 2.08767569878681e-09;
    p = p * s - 2.755731922398589e-07;
    p = p * s + 2.48015873015873e-05;
    p = p * s - 1.3888888888888889e-03;
    p = p * s + 4.1666666666666664e-02;
    p = p * s - 0.5;
    p = p * s + 1.0;
    return (Numbers)((Words)p ^ ((Words)shifted << 63));
}

static inline Numbers read(const double *from, int64_t count) {
    Numbers found = {0};
    memcpy(&found, from, (size_t)(count < LANES ? count : LANES) * sizeof(double));
    return found;
}

/* found (ROWS, members), of which `some` from the first on: what is read serves all of these. `bells` and `some` are
   constants where this is inlined, so that `sums` are registers. Behind the last column weights are 0. From a row to the
   next it is `terms` and `members`, or 0: a row that is left over is computed as both of two, by the same instructions. */
static inline __attribute__((always_inline)) void some_rows(int bells, int some, int64_t terms, int64_t others,
                                                            int64_t next_row, int64_t next_found, const double *rows,
                                                            const double *columns, const double *weights,
                                                            double lowest, double highest, double *found) {
    Numbers sums[ROWS][TOGETHER] = {{{0}}};
    for (int64_t j = 0; j < others; j += LANES) {
        int whole = others - j >= LANES; /* the plain case */
        Numbers x[ROWS] = {{0}};
        for (int64_t t = 0; t < terms; t++) {
            const double *from = columns + t * others + j;
            Numbers column = whole ? read(from, LANES) : read(from, others - j);
            for (int r = 0; r < ROWS; r++) x[r] += rows[r * next_row + t] * column;
        }
        for (int r = 0; r < ROWS; r++) {
            if (bells) {
                x[r] = chosen(x[r] < lowest, all(lowest), x[r]);
                x[r] = exponential(chosen(x[r] > highest, all(highest), x[r]));
            } else {
                x[r] = cosine(x[r]);
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < some; m++) {
            const double *from = weights + m * others + j;
            Numbers weight = whole ? read(from, LANES) : read(from, others - j);
            for (int r = 0; r < ROWS; r++) sums[r][m] += x[r] * weight;
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < some; m++)
        for (int r = 0; r < ROWS; r++) {
            double sum = 0.0;
            for (int64_t l = 0; l < LANES; l++) sum += sums[r][m][l];
            found[r * next_found + m] = sum;
        }
}

#define SOME_ROWS(some) \
    case some: \
        some_rows(bells, some, terms, others, count < ROWS ? 0 : terms, count < ROWS ? 0 : members, rows, columns, from, \
                  lowest, highest, to); \
        break;

/* `count` is 1 or ROWS. */
static inline __attribute__((always_inline)) void rows_together(int bells, int64_t count, int64_t terms, int64_t others,
                                                                int64_t members, const double *rows,
                                                                const double *columns, const double *weights,
                                                                double lowest, double highest, double *found) {
    for (int64_t first = 0; first < members; first += TOGETHER) {
        const double *from = weights + first * others;
        double *to = found + first;
        switch (members - first < TOGETHER ? members - first : TOGETHER) {
            SOME_ROWS(1) SOME_ROWS(2) SOME_ROWS(3) SOME_ROWS(4) SOME_ROWS(5) SOME_ROWS(6) SOME_ROWS(7) SOME_ROWS(8)
        }
    }
}

#define ROWS_TOGETHER(name, bells) \
    static void name(int64_t count, int64_t terms, int64_t others, int64_t members, const double *rows, \
                     const double *columns, const double *weights, double lowest, double highest, double *found) { \
        rows_together(bells, count, terms, others, members, rows, columns, weights, lowest, highest, found); \
    }
ROWS_TOGETHER(bells_together, 1)
ROWS_TOGETHER(cosines_together, 0)

/* found (rows, members) = f(inputs columns) weights, where f is e^x, x clamped between `lowest` and `highest`, or the
   cosine. inputs: (rows, terms); columns: (terms, others); weights: (members, others). A row's numbers depend on no
   other row and on no number of threads. */
void foretell_sums(int bells, int64_t rows, int64_t terms, int64_t others, int64_t members, const double *inputs,
                   const double *columns, const double *weights, double lowest, double highest, double *found,
                   int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t group = 0; group < (rows + ROWS - 1) / ROWS; group++) {
        int64_t end = group * ROWS + ROWS, all_there = end <= rows;
        for (int64_t i = group * ROWS; i < end && i < rows; i += all_there ? ROWS : 1)
            (bells ? bells_together : cosines_together)(all_there ? ROWS : 1, terms, others, members, inputs + i * terms,
                                                        columns, weights, lowest, highest, found + i * members);
    }
}
