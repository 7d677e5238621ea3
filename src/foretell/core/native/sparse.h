/* Matrix products c = a b where many numbers of a are 0: what relu gives out, and gradients that came back through it.

   A term that is 0 times something finite changes no sum, so it is left out; the others are added up in the order of
   `product`, to the same numbers (of a sum too small for float32 the sign may be another). Of 64 terms a mask says
   which are there. A row of c, up to 128 columns of it, stays in registers while those rows of b pass by, out of a
   panel that stays in the nearest cache: each number of a costs a load of b for each vector, where a tile of `product`
   shares it among rows. So it pays where at least a quarter is 0; half of the terms take somewhat more than half of the
   time. */
#pragma once
#include "products.h"

#ifdef REGISTERS
#include <stdbool.h>

enum { TERMS = 64, BROAD = 8, BRISK = 4, STEP = BRISK * LANES }; /* of a mask; vectors of columns of a panel */
enum { ROWS_AT_ONCE = 384, COLUMNS_AT_ONCE = 256, LEAST_ROWS = 16, LEAST_TERMS = 16 };

/* Which of TERMS numbers are not 0; NaN is among them. */
static uint64_t present_of(const float *a) {
    uint64_t present = 0;
    for (int v = 0; v < TERMS / LANES; v++) present |= (uint64_t)present_among(a + v * LANES) << (v * LANES);
    return present;
}

/* Whether a panel holds nothing but finite numbers; of others 0 times them is none, and has to be added. Told by the
   bits, for what compilers make of comparisons of NaN depends on their flags. */
static bool finite_panel(const float *panel, int64_t count) {
    Words found = {0}; /* the highest bit of a word, where adding 1 to the largest exponent carried into it */
    for (int64_t i = 0; i < count; i += LANES) found |= (*(const Words *)(panel + i) & 0x7fffffffu) + 0x00800000u;
    uint32_t any = 0;
    for (int v = 0; v < LANES; v++) any |= found[v];
    return !(any >> 31);
}

/* One row of c: sums begin at `before`, or at 0 where that is null, and are written to `to`, or added where `added`. */
static inline __attribute__((always_inline)) void sparse_row(int vectors, uint64_t present, const float *a,
                                                             const float *panel, const float *before, int added,
                                                             float *to) {
    Lanes sums[BROAD] = {};
    if (before)
        for (int v = 0; v < vectors; v++) sums[v] = *(const Lanes *)(before + v * LANES);
    for (; present; present &= present - 1) {
        int64_t k = __builtin_ctzll(present);
        const float *b = panel + k * vectors * LANES;
        __asm__("" : "+r"(b)); /* one address, and constants beside it */
        UNROLLED for (int v = 0; v < vectors; v++) sums[v] += a[k] * *(const Lanes *)(b + v * LANES);
    }
    for (int v = 0; v < vectors; v++) {
        Lanes *c = (Lanes *)(to + v * LANES);
        if (added) sums[v] += *c;
        *c = sums[v];
    }
}

/* Rows of c, from a block of terms: of row r of a they lie at a + r * lda. */
typedef struct {
    int64_t rows, lda;
    const uint64_t *present;
    uint64_t besides; /* terms that are there for all rows */
    const float *a, *panel;
    int begins, added; /* whether sums begin at 0; whether they are added to what is there when the block is done */
    float *kept, *to;  /* where sums are between blocks, and where they go */
    int64_t apart, ldc;
} Block;

#define SPARSE_ROWS(name, vectors) \
    static void name(const Block *of) { \
        for (int64_t r = 0; r < of->rows; r++) \
            sparse_row(vectors, of->present[r] | of->besides, of->a + r * of->lda, of->panel, \
                       of->begins ? 0 : of->kept + r * of->apart, of->added, of->to + r * of->ldc); \
    }
SPARSE_ROWS(broad_rows, BROAD)
SPARSE_ROWS(brisk_rows, BRISK)

/* Up to ROWS_AT_ONCE rows and COLUMNS_AT_ONCE columns of c, these a multiple of STEP; added to it where `more`. Returns
   whether it did: of an a in which too few numbers are 0 it does nothing. */
static int sparse_piece(int64_t deep, int a_turned, int b_turned, int64_t rows, int64_t columns, int64_t inner,
                        const float *a, int64_t lda, const float *b, int64_t ldb, int more, float *c, int64_t ldc) {
    float turned[ROWS_AT_ONCE * TERMS], panel[TERMS * BROAD * LANES] __attribute__((aligned(64)));
    /* of parts that are added to what is there; too much for the stack of a small thread */
    static _Thread_local float sums[ROWS_AT_ONCE * COLUMNS_AT_ONCE] __attribute__((aligned(64)));
    uint64_t present[ROWS_AT_ONCE];
    for (int64_t k = 0, terms; k < inner; k += terms) {
        int64_t place = k % deep, left = inner - k < deep - place ? inner - k : deep - place, count = 0;
        terms = left < TERMS ? left : TERMS;
        int packed = a_turned || terms < TERMS, ends = terms == left, adds = more || k >= deep;
        const float *read = a_turned ? a + k * lda : a + k;
        if (packed) pack(a_turned, terms, rows, read, lda, TERMS, turned);
        Block of = {.rows = rows, .lda = packed ? TERMS : lda, .present = present, .a = packed ? turned : read,
                    .begins = place == 0, .added = ends && adds};
        for (int64_t r = 0; r < rows; r++) {
            present[r] = present_of(of.a + r * of.lda);
            count += __builtin_popcountll(present[r]);
        }
        if (k == 0 && count > rows * terms * 3 / 4) return 0;
        for (int64_t j = 0, vectors; j < columns; j += vectors * LANES) {
            vectors = columns - j >= BROAD * LANES ? BROAD : BRISK;
            const float *right = b_turned ? b + j * ldb + k : b + k * ldb + j;
            int lies = !b_turned && ldb == vectors * LANES && (uintptr_t)right % 64 == 0; /* as a panel does */
            if (!lies) pack(b_turned, vectors * LANES, terms, right, ldb, vectors * LANES, panel);
            of.panel = lies ? right : panel;
            of.besides = finite_panel(of.panel, terms * vectors * LANES) ? 0 : ~0ull >> (TERMS - terms);
            of.kept = adds ? sums + j : c + j, of.apart = adds ? COLUMNS_AT_ONCE : ldc;
            of.to = ends ? c + j : of.kept, of.ldc = ends ? ldc : of.apart;
            (vectors == BROAD ? broad_rows : brisk_rows)(&of);
        }
    }
    return 1;
}

/* Of `left` rows, how many are taken at once: never a few for the last, which `product` would round otherwise. */
static int64_t rows_at_once(int64_t left) {
    return left <= ROWS_AT_ONCE ? left : left < 2 * ROWS_AT_ONCE ? left / 2 : ROWS_AT_ONCE;
}

/* Columns, from the first on, that are taken here: whole vectors, and no rest so small that it would be the BLAS's. */
static int64_t sparse_columns(int64_t rows, int64_t columns, int64_t inner) {
    int64_t whole = columns / STEP * STEP, rest = columns - whole;
    if (rows < LEAST_ROWS || inner < LEAST_TERMS) return 0;
    return rest && rest < LANES ? whole - STEP : whole;
}
#endif

/* c (rows, columns) = a b of an a with many zeros, or c + a b where `more`: `product` with alpha 1 and beta 0 or 1. */
static void sparse_product(int64_t deep, const char *a_is, const char *b_is, int64_t rows, int64_t columns,
                           int64_t inner, const float *a, int64_t lda, const float *b, int64_t ldb, int more, float *c,
                           int64_t ldc) {
    int64_t done = 0, b_column = *b_is == 'T' ? ldb : 1;
    float beta = more ? 1.0f : 0.0f;
#ifdef REGISTERS
    int64_t a_row = *a_is == 'T' ? 1 : lda;
    for (int64_t most, whole = sparse_columns(rows, columns, inner); done < whole; done += most) {
        most = whole - done < COLUMNS_AT_ONCE ? whole - done : COLUMNS_AT_ONCE;
        for (int64_t i = 0, many; i < rows; i += many) {
            const float *from = b + done * b_column;
            many = rows_at_once(rows - i);
            if (!sparse_piece(deep, *a_is == 'T', *b_is == 'T', many, most, inner, a + i * a_row, lda, from, ldb, more,
                              c + i * ldc + done, ldc))
                product(deep, a_is, b_is, many, most, inner, 1.0f, a + i * a_row, lda, from, ldb, beta,
                        c + i * ldc + done, ldc);
        }
    }
#endif
    if (done < columns)
        product(deep, a_is, b_is, rows, columns - done, inner, 1.0f, a, lda, b + done * b_column, ldb, beta, c + done,
                ldc);
}

#ifdef REGISTERS
/* c (columns, rows) += the transpose of (rows, columns), both multiples of LANES. */
static void add_transposed(int64_t rows, int64_t columns, const float *from, int64_t apart, float *c, int64_t ldc) {
    float turned[LANES * LANES] __attribute__((aligned(64)));
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) {
            turn(from + i * apart + j, apart, LANES, turned);
            for (int64_t r = 0; r < LANES; r++) *(Lanes *)(c + (j + r) * ldc + i) += *(Lanes *)(turned + r * LANES);
        }
}
#endif

/* c (rows, columns) += a' b, with a (inner, rows) and b (inner, columns) of which many numbers are 0. What is left out
   are terms of its transpose. */
static inline void add_times_sparse(int64_t rows, int64_t columns, int64_t inner, const float *a, int64_t lda,
                                    const float *b, int64_t ldb, float *c, int64_t ldc) {
#ifdef REGISTERS
    int takes = columns % LANES == 0 && rows % STEP == 0 && rows <= COLUMNS_AT_ONCE && columns >= LEAST_ROWS;
    static _Thread_local float found[ROWS_AT_ONCE * COLUMNS_AT_ONCE] __attribute__((aligned(64)));
    for (int64_t k = 0, terms; takes && k < inner; k += terms) {
        terms = inner - k < DEEP ? inner - k : DEEP;
        for (int64_t i = 0, many; i < columns; i += many) {
            many = columns - i < ROWS_AT_ONCE ? columns - i : ROWS_AT_ONCE;
            const float *left = a + k * lda, *right = b + k * ldb + i;
            if (sparse_piece(DEEP, 1, 0, many, rows, terms, right, ldb, left, lda, 0, found, rows))
                add_transposed(many, rows, found, rows, c + i, ldc);
            else
                product(DEEP, "T", "N", rows, many, terms, 1.0f, left, lda, right, ldb, 1.0f, c + i, ldc);
        }
    }
    if (takes) return;
#endif
    product(DEEP, "T", "N", rows, columns, inner, 1.0f, a, lda, b, ldb, 1.0f, c, ldc);
}
