/* Matrix products of small networks, float32, matrices by rows: c = alpha * a b + beta * c, of whatever is transposed.

   The factors are some hundred rows long and lie in the cache. A BLAS first copies both into an order of its own, which
   takes it up to a fifth of the time. Here a is read where it lies, and so is b unless it is transposed. A tile of c is
   summed up in registers while rows of b pass by, each multiplied by the numbers of a column of a; a sum is taken in the
   order of its terms, whatever the tile.

   With registers that `registers.h` knows, of LANES numbers each:
     6 rows or more, LANES columns or more                           tiles; products and sums rounded as one
     LANES rows or more, 2 to 4 columns; b as it lies, alpha 1, beta 0   few_columns } each product rounded before it is
     1 to 3 rows, whole vectors; b as it lies, alpha 1, beta 0 or 1      few_rows    } added, as the BLAS does there on
                                                                                       AMD's processors, far slower
   Everything else, and without such registers all, is the BLAS's that PyTorch has loaded. */
#pragma once
#include <stdint.h>
#include <string.h>
#include "registers.h"

typedef void (*sgemm_function)(const char *, const char *, const int *, const int *, const int *, const float *,
                               const float *, const int *, const float *, const int *, const float *, float *,
                               const int *);
static sgemm_function sgemm; /* Fortran's: matrices by columns */

static void by_blas(const char *first, const char *second, int64_t rows, int64_t columns, int64_t inner, float alpha,
                    const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    int m = (int)columns, n = (int)rows, k = (int)inner, left = (int)ldb, right = (int)lda, out = (int)ldc;
    sgemm(second, first, &m, &n, &k, &alpha, b, &left, a, &right, &beta, c, &out);
}

enum { FEW_ROWS = 6, DEEP = 512 }; /* of c, from which on tiles are faster than the BLAS; terms of a sum in one go */

#ifdef REGISTERS
/* A tile of c, `rows` by `vectors` * LANES. Number k of row r of a lies at r * row + k * step. Numbers of rows and vectors
   are constants wherever this is compiled into, so that `sums` are registers. */
static inline __attribute__((always_inline)) void tile(int rows, int vectors, int64_t inner, float alpha, const float *a,
                                                       int64_t row, int64_t step, const float *b, int64_t ldb, float beta,
                                                       float *c, int64_t ldc) {
    Lanes sums[TILE_ROWS][ACROSS] = {}, passing[ACROSS];
    const float *every_third[TILE_ROWS / 3]; /* row of a: rows far apart are more addresses than there are registers */
    UNROLLED for (int r = 0; r < rows; r += 3) every_third[r / 3] = a + r * row;
    for (int64_t k = 0; k < inner; k++, b += ldb) {
        UNROLLED for (int v = 0; v < vectors; v++) passing[v] = *(const Lanes *)(b + v * LANES);
        UNROLLED for (int r = 0; r < rows; r++)
            UNROLLED for (int v = 0; v < vectors; v++) sums[r][v] += every_third[r / 3][r % 3 * row] * passing[v];
        UNROLLED for (int r = 0; r < rows; r += 3) every_third[r / 3] += step;
    }
    UNROLLED for (int r = 0; r < rows; r++)
        UNROLLED for (int v = 0; v < vectors; v++) {
            Lanes *to = (Lanes *)(c + r * ldc + v * LANES);
            sums[r][v] *= alpha;
            if (beta != 0.0f) sums[r][v] += beta * *to;
            *to = sums[r][v];
        }
}

#define TILE_OF(rows, vectors) \
    case rows: tile(rows, vectors, inner, alpha, a, row, step, b, ldb, beta, c, ldc); break;
#define TILES(name, vectors) \
    static void name(int64_t rows, int64_t inner, float alpha, const float *a, int64_t row, int64_t step, const float *b, \
                     int64_t ldb, float beta, float *c, int64_t ldc) { \
        switch (rows) { TILE_OF(1, vectors) TILE_OF(2, vectors) TILE_OF(4, vectors) MORE_TILES(vectors) } \
    }
#if defined(__AVX512F__)
#define MORE_TILES(vectors) TILE_OF(8, vectors) TILE_OF(TILE_ROWS, vectors)
#else
#define MORE_TILES(vectors) TILE_OF(TILE_ROWS, vectors)
#endif
TILES(narrow_tile, 1)
TILES(wide_tile, ACROSS)

static int64_t rows_of_tile(int64_t left) {
    if (left >= TILE_ROWS) return TILE_ROWS;
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The tile's last columns where they are no whole vectors: b is a panel filled up with zeros. */
static void part_of_tile(int64_t rows, int64_t columns, int64_t inner, float alpha, const float *a, int64_t row,
                         int64_t step, const float *b, float beta, float *c, int64_t ldc) {
    float whole[TILE_ROWS * PANEL];
    for (int64_t r = 0; r < rows; r++) memcpy(whole + r * PANEL, c + r * ldc, (size_t)columns * sizeof *c);
    wide_tile(rows, inner, alpha, a, row, step, b, PANEL, beta, whole, PANEL);
    for (int64_t r = 0; r < rows; r++) memcpy(c + r * ldc, whole + r * PANEL, (size_t)columns * sizeof *c);
}

/* LANES rows of LANES numbers, `apart`, to columns of a panel of rows `wide`. */
static inline void turn(const float *from, int64_t apart, int64_t wide, float *to) {
    Lanes rows[LANES], next[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = *(const Lanes *)(from + i * apart);
    for (int round = 1; round < LANES; round *= 2) {
        for (int i = 0; i < LANES / 2; i++) interleave(rows + i, rows + i + LANES / 2, next + 2 * i, next + 2 * i + 1);
        memcpy(rows, next, sizeof rows);
    }
    for (int i = 0; i < LANES; i++) *(Lanes *)(to + i * wide) = rows[i];
}

/* A panel (inner, wide) of b (inner, columns), or of the transpose of b (columns, inner), zeros behind the columns. */
static void pack(int transposed, int64_t columns, int64_t inner, const float *b, int64_t ldb, int64_t wide, float *panel) {
    int64_t even = transposed ? columns / LANES * LANES : 0, deep = transposed ? inner / LANES * LANES : 0;
    if (columns < wide) memset(panel, 0, (size_t)(inner * wide) * sizeof *panel);
    if (!transposed) {
        for (int64_t k = 0; k < inner; k++) memcpy(panel + k * wide, b + k * ldb, (size_t)columns * sizeof *b);
        return;
    }
    for (int64_t j = 0; j < even; j += LANES)
        for (int64_t k = 0; k < deep; k += LANES) turn(b + j * ldb + k, ldb, wide, panel + k * wide + j);
    for (int64_t j = 0; j < columns; j++)
        for (int64_t k = j < even ? deep : 0; k < inner; k++) panel[k * wide + j] = b[j * ldb + k];
}

/* Columns j to j + PANEL of c, or what is left of them, from `inner` terms a sum. */
static void panel_of(int transposed, int64_t rows, int64_t columns, int64_t inner, float alpha, const float *a,
                     int64_t row, int64_t step, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    float panel[DEEP * PANEL] __attribute__((aligned(64)));
    int packed = transposed || (columns != PANEL && columns != LANES);
    if (packed) {
        pack(transposed, columns, inner, b, ldb, PANEL, panel);
        b = panel, ldb = PANEL;
    }
    for (int64_t i = 0, most; i < rows; i += most, a += most * row, c += most * ldc) {
        most = rows_of_tile(rows - i);
        if (columns == PANEL)
            wide_tile(most, inner, alpha, a, row, step, b, ldb, beta, c, ldc);
        else if (columns == LANES)
            narrow_tile(most, inner, alpha, a, row, step, b, ldb, beta, c, ldc);
        else
            part_of_tile(most, columns, inner, alpha, a, row, step, b, beta, c, ldc);
    }
}

static void in_panels(int transposed, int64_t deep, int64_t rows, int64_t columns, int64_t inner, float alpha,
                      const float *a, int64_t row, int64_t step, const float *b, int64_t ldb, float beta, float *c,
                      int64_t ldc) {
    for (int64_t j = 0; j < columns; j += PANEL)
        for (int64_t k = 0; k < inner || k == 0; k += deep)
            panel_of(transposed, rows, columns - j < PANEL ? columns - j : PANEL, inner - k < deep ? inner - k : deep, alpha,
                     a + k * step, row, step, b + (transposed ? j * ldb + k : k * ldb + j), ldb, k ? 1.0f : beta, c + j,
                     ldc);
}
enum { MOST_ROWS = 3, MOST_COLUMNS = 4, VECTORS = 4 }; /* of what follows; vectors of columns that are summed up together */

/* c (rows, columns) = a b, or c + a b where `more`, of at most MOST_ROWS rows and whole vectors of columns. */
static inline __attribute__((always_inline)) void few_rows_of(int rows, int vectors, int64_t inner, const float *a,
                                                              int64_t row, int64_t step, const float *b, int64_t ldb,
                                                              int more, float *c, int64_t ldc) {
    Lanes sums[MOST_ROWS][VECTORS] = {};
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            if (more) sums[r][v] = *(const Lanes *)(c + r * ldc + v * LANES);
    for (int64_t k = 0; k < inner; k++, a += step, b += ldb)
        for (int v = 0; v < vectors; v++)
            for (int r = 0; r < rows; r++) sums[r][v] += rounded(a[r * row] * *(const Lanes *)(b + v * LANES));
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) *(Lanes *)(c + r * ldc + v * LANES) = sums[r][v];
}

#define FEW_ROWS_OF(rows) \
    case rows: \
        for (; j + VECTORS * LANES <= columns; j += VECTORS * LANES) \
            few_rows_of(rows, VECTORS, inner, a, row, step, b + j, ldb, more, c + j, ldc); \
        for (; j < columns; j += LANES) few_rows_of(rows, 1, inner, a, row, step, b + j, ldb, more, c + j, ldc); \
        break;
static void few_rows(int64_t rows, int64_t columns, int64_t inner, const float *a, int64_t row, int64_t step,
                     const float *b, int64_t ldb, int more, float *c, int64_t ldc) {
    int64_t j = 0;
    switch (rows) { FEW_ROWS_OF(1) FEW_ROWS_OF(2) FEW_ROWS_OF(3) }
}

/* Sums of PANEL rows, a vector of columns each; rows of a lie beside each other. */
static inline __attribute__((always_inline)) void few_columns_of(int columns, int64_t inner, const float *a,
                                                                 int64_t step, const float *b, int64_t ldb,
                                                                 float (*sums)[PANEL]) {
    Lanes found[MOST_COLUMNS][ACROSS] = {};
    for (int n = 0; n < columns; n++) memcpy(found[n], sums[n], sizeof found[n]);
    for (int64_t k = 0; k < inner; k++, a += step, b += ldb)
        for (int n = 0; n < columns; n++)
            for (int v = 0; v < ACROSS; v++) found[n][v] += rounded(*(const Lanes *)(a + v * LANES) * b[n]);
    for (int n = 0; n < columns; n++) memcpy(sums[n], found[n], sizeof found[n]);
}

/* c (rows, columns) = a b, of 2 to MOST_COLUMNS columns. */
static void few_columns(int turned, int64_t rows, int64_t columns, int64_t inner, const float *a, int64_t lda,
                        const float *b, int64_t ldb, float *c, int64_t ldc) {
    float panel[DEEP * PANEL] __attribute__((aligned(64)));
    for (int64_t i = 0; i < rows; i += PANEL) {
        int64_t most = rows - i < PANEL ? rows - i : PANEL;
        float sums[MOST_COLUMNS][PANEL] = {};
        for (int64_t k = 0; k < inner; k += DEEP) {
            int64_t terms = inner - k < DEEP ? inner - k : DEEP, step = lda;
            const float *read = a + k * lda + i;
            if (!turned || most < PANEL) {
                pack(!turned, most, terms, turned ? read : a + i * lda + k, lda, PANEL, panel);
                read = panel, step = PANEL;
            }
            switch (columns) {
                case 2: few_columns_of(2, terms, read, step, b + k * ldb, ldb, sums); break;
                case 3: few_columns_of(3, terms, read, step, b + k * ldb, ldb, sums); break;
                case 4: few_columns_of(4, terms, read, step, b + k * ldb, ldb, sums); break;
            }
        }
        for (int64_t r = 0; r < most; r++)
            for (int64_t n = 0; n < columns; n++) c[(i + r) * ldc + n] = sums[n][r];
    }
}
#endif

/* c (rows, columns) = alpha * a b + beta * c, "T" for what is read transposed; of more than `deep` terms, at most DEEP,
   those of a sum are added up in parts. */
static void product(int64_t deep, const char *a_is, const char *b_is, int64_t rows, int64_t columns, int64_t inner,
                    float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                    int64_t ldc) {
#ifdef REGISTERS
    if (rows >= FEW_ROWS && columns >= LANES) {
        int turned = *a_is == 'T';
        in_panels(*b_is == 'T', deep, rows, columns, inner, alpha, a, turned ? 1 : lda, turned ? lda : 1, b, ldb, beta, c,
                  ldc);
        return;
    }
    int plain = *b_is == 'N' && alpha == 1.0f, turned = *a_is == 'T';
    int aligned = (uintptr_t)c % 16 == 0 && ldc % 4 == 0; /* else the BLAS of AMD's processors rounds otherwise */
    if (plain && aligned && rows <= MOST_ROWS && columns % LANES == 0 && (beta == 0.0f || beta == 1.0f)) {
        few_rows(rows, columns, inner, a, turned ? 1 : lda, turned ? lda : 1, b, ldb, beta != 0.0f, c, ldc);
        return;
    }
    if (plain && rows >= LANES && columns > 1 && columns <= MOST_COLUMNS && beta == 0.0f) {
        few_columns(turned, rows, columns, inner, a, lda, b, ldb, c, ldc);
        return;
    }
#endif
    (void)deep;
    by_blas(a_is, b_is, rows, columns, inner, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* c = alpha * a b + beta * c, with a (rows, inner), b (inner, columns) */
static inline void times(int64_t rows, int64_t columns, int64_t inner, float alpha, const float *a, int64_t lda,
                         const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    product(DEEP, "N", "N", rows, columns, inner, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* c = alpha * a b' + beta * c, with a (rows, inner), b (columns, inner) */
static inline void times_transposed(int64_t rows, int64_t columns, int64_t inner, float alpha, const float *a, int64_t lda,
                                    const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    product(DEEP, "N", "T", rows, columns, inner, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* c = alpha * a' b + beta * c, with a (inner, rows), b (inner, columns) */
static inline void transposed_times(int64_t rows, int64_t columns, int64_t inner, float alpha, const float *a, int64_t lda,
                                    const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    product(DEEP, "T", "N", rows, columns, inner, alpha, a, lda, b, ldb, beta, c, ldc);
}
