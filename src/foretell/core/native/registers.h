/* What products know of a processor's registers: how wide they are, how many sums stay in them, and the few things that
   C has no operator for. Defines REGISTERS where there are any that products here are faster with than a BLAS. */
#pragma once
#include <stdint.h>
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define REGISTERS
enum { LANES = 16, TILE_ROWS = 12, ACROSS = 2 }; /* 24 sums of 32 registers */
#define ANY_REGISTER "+v"
#elif defined(__AVX2__) && defined(__FMA__)
#define REGISTERS
enum { LANES = 8, TILE_ROWS = 6, ACROSS = 2 }; /* 12 of 16 */
#define ANY_REGISTER "+x"
#elif defined(__aarch64__)
#define REGISTERS
enum { LANES = 4, TILE_ROWS = 6, ACROSS = 4 }; /* 24 of 32 */
#define ANY_REGISTER "+w"
#endif

#ifdef REGISTERS
enum { PANEL = ACROSS * LANES }; /* columns of b that a tile takes, and rows of a panel */
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef uint32_t Words __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

/* Before a loop of which every round is written out, so that arrays of sums are registers. */
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* As it is: the compiler would else make one operation of a product and the sum that it is added to, which tiles want. */
static inline Lanes rounded(Lanes of) {
    __asm__("" : ANY_REGISTER(of));
    return of;
}

/* The first halves of two, number by number in turn, and the second ones. */
static inline void interleave(const Lanes *one, const Lanes *other, Lanes *low, Lanes *high) {
#if defined(__AVX512F__)
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    *low = (Lanes)_mm512_permutex2var_ps((__m512)*one, first, (__m512)*other);
    *high = (Lanes)_mm512_permutex2var_ps((__m512)*one, second, (__m512)*other);
#elif defined(__AVX2__)
    __m256 left = _mm256_unpacklo_ps((__m256)*one, (__m256)*other), right = _mm256_unpackhi_ps((__m256)*one, (__m256)*other);
    *low = (Lanes)_mm256_permute2f128_ps(left, right, 0x20);
    *high = (Lanes)_mm256_permute2f128_ps(left, right, 0x31);
#else
    float32x4_t left = vzip1q_f32((float32x4_t)*one, (float32x4_t)*other);
    *high = (Lanes)vzip2q_f32((float32x4_t)*one, (float32x4_t)*other);
    *low = (Lanes)left;
#endif
}

/* Which of LANES numbers are not 0, a bit each; NaN is among them. */
static inline uint32_t present_among(const float *a) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(a), _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(a), _mm256_setzero_ps(), _CMP_NEQ_UQ));
#else
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vbicq_u32(bits, vceqzq_f32(vld1q_f32(a))));
#endif
}
#endif
