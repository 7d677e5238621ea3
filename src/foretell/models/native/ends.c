/* The two ends of a Decision Transformer: from numbers to tokens, and from hidden states to the loss, both with their
   gradients. Between them lie the blocks (stack.c). Gradients of parameters are summed up thread by thread, in their
   order, so that they depend on the number of threads and on nothing else. */
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "kernels.h"

enum { KINDS = 3 };                            /* of tokens: return-to-go, observation, action */
enum { TABLE = 2 * KINDS, GAIN, SHIFT, EMBEDDERS }; /* before them weight and bias of each kind */
enum { READ_GAIN, READ_SHIFT, READ_WEIGHT, READ_BIAS, READERS };

typedef struct {
    int64_t windows, time, tokens, width, sizes[KINDS], length, learned, threads;
} Front; /* `tokens` of a window, the last of its 3 `time` perhaps left out; `length` of the table of timesteps, and is it
            `learned`? */

enum { NO_MEMORY = 1, NO_SUCH_TIMESTEP = 2 };

typedef struct {
    int64_t windows, time, width, actions, bounded, absolute, threads;
} Tail;

typedef struct {
    int64_t begin, end, me;
} Share;

static Share share_of(int64_t count) {
    Share found = {0, count, 0};
#ifdef _OPENMP
    int64_t all = omp_get_num_threads();
    found.me = omp_get_thread_num();
    found.begin = count * found.me / all, found.end = count * (found.me + 1) / all;
#endif
    return found;
}

/* (rows, columns) to (columns, rows) */
static void transpose(int64_t rows, int64_t columns, const float *in, float *out) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) out[c * rows + r] = in[r * columns + c];
}

/* sum = weight' in + bias + position, with the weight transposed: (size, width) */
static void embed(int64_t width, int64_t size, const float *in, const float *restrict weight,
                  const float *restrict bias, const float *restrict position, float *restrict sum) {
    for (int64_t i = 0; i < width; i++) sum[i] = bias[i] + position[i];
    for (int64_t k = 0; k < size; k++)
        for (int64_t i = 0; i < width; i++) sum[i] += in[k] * weight[k * width + i];
}

/* The weights of all kinds, transposed, one after the other; where each begins is written to `of`. */
static float *transposed_weights(const Front *f, const float *const *p, const float **of) {
    int64_t all = f->sizes[0] + f->sizes[1] + f->sizes[2], at = 0;
    float *made = malloc((size_t)(all * f->width + 1) * sizeof *made);
    for (int kind = 0; made && kind < KINDS; kind++) {
        transpose(f->width, f->sizes[kind], p[2 * kind], made + at);
        of[kind] = made + at;
        at += f->sizes[kind] * f->width;
    }
    return made;
}

/* Token `t` of window `w` before the norm: what its kind says of the timestep, and the timestep's own embedding. */
static void token_sum(const Front *f, const float *const *in, const int64_t *timesteps, const float *const *p,
                      const float *const *weights, int64_t w, int64_t t, float *sum) {
    int64_t kind = t % KINDS, row = w * f->time + t / KINDS, size = f->sizes[kind];
    embed(f->width, size, in[kind] + row * size, weights[kind], p[2 * kind + 1], p[TABLE] + timesteps[row] * f->width, sum);
}

/* in: (windows, time, size) of each kind. Writes tokens (windows, tokens, width) and the norm's moments of each.
   Returns 0, or what failed. */
int foretell_front_forward(const Front *f, const float *const *in, const int64_t *timesteps, const float *const *p,
                           float *moments, float *tokens) {
    int64_t failed = 0, D = f->width;
    for (int64_t i = 0; i < f->windows * f->time; i++) failed |= timesteps[i] < 0 || timesteps[i] >= f->length;
    if (failed) return NO_SUCH_TIMESTEP;
    const float *weights[KINDS];
    float *made = transposed_weights(f, p, weights);
    if (!made) return NO_MEMORY;
#pragma omp parallel num_threads((int)f->threads) if (f->threads > 1 && f->windows > 1) reduction(| : failed)
    {
        Share mine = share_of(f->windows);
        float *sum = malloc((size_t)D * sizeof *sum);
        failed |= !sum;
        for (int64_t w = mine.begin; sum && w < mine.end; w++)
            for (int64_t t = 0; t < f->tokens; t++) {
                int64_t at = w * f->tokens + t;
                token_sum(f, in, timesteps, p, weights, w, t, sum);
                layer_norm(1, (int)D, sum, p[GAIN], p[SHIFT], moments + 2 * at, tokens + at * D);
            }
        free(sum);
    }
    free(made);
    return (int)failed;
}

/* gradient: of the tokens. `sums` holds, for each thread, the gradients of all parameters one after the other, zeros at
   first; `offsets` say where each begins. */
int foretell_front_backward(const Front *f, const float *const *in, const int64_t *timesteps, const float *const *p,
                            const int64_t *offsets, const float *moments, const float *gradient, float *sums) {
    int64_t failed = 0, D = f->width;
    const float *weights[KINDS];
    float *made = transposed_weights(f, p, weights);
    if (!made) return NO_MEMORY;
#pragma omp parallel num_threads((int)f->threads) if (f->threads > 1 && f->windows > 1) reduction(| : failed)
    {
        Share mine = share_of(f->windows);
        int64_t all = f->sizes[0] + f->sizes[1] + f->sizes[2], starts[KINDS] = {0, f->sizes[0], f->sizes[0] + f->sizes[1]};
        float *scratch = calloc((size_t)((2 + all) * D), sizeof *scratch), *own = sums + mine.me * offsets[EMBEDDERS];
        float *sum = scratch, *down = sum + D, *across = down + D; /* of the weights, transposed */
        failed |= !scratch;
        for (int64_t w = mine.begin; scratch && w < mine.end; w++)
            for (int64_t t = 0; t < f->tokens; t++) {
                int64_t at = w * f->tokens + t, kind = t % KINDS, row = w * f->time + t / KINDS, size = f->sizes[kind];
                token_sum(f, in, timesteps, p, weights, w, t, sum);
                memset(down, 0, (size_t)D * sizeof *down);
                layer_norm_backward(1, (int)D, sum, p[GAIN], moments + 2 * at, gradient + at * D, down,
                                    own + offsets[GAIN], own + offsets[SHIFT]);
                float *bias = own + offsets[2 * kind + 1], *table = own + offsets[TABLE] + timesteps[row] * D;
                for (int64_t i = 0; i < D; i++) bias[i] += down[i];
                for (int64_t i = 0; i < (f->learned ? D : 0); i++) table[i] += down[i];
                for (int64_t k = 0; k < size; k++) {
                    float number = in[kind][row * size + k], *weight = across + (starts[kind] + k) * D;
                    for (int64_t i = 0; i < D; i++) weight[i] += number * down[i];
                }
            }
        for (int kind = 0; scratch && kind < KINDS; kind++)
            transpose(f->sizes[kind], D, across + starts[kind] * D, own + offsets[2 * kind]);
        free(scratch);
    }
    free(made);
    return (int)failed;
}

static inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

/* One hidden state: its error, averaged over the components of the action; where `scale` is not 0, the gradients of
   `scale` times the error: of the state (written) and of the parameters (added up). */
static float read_state(const Tail *t, const float *const *p, const float *state, const float *wanted, float scale,
                        float *normal, float *up, float *down, float *const *g) {
    int64_t D = t->width, A = t->actions;
    float moments[2], error = 0.0f;
    layer_norm(1, (int)D, state, p[READ_GAIN], p[READ_SHIFT], moments, normal);
    if (scale != 0.0f) memset(up, 0, (size_t)D * sizeof *up);
    for (int64_t a = 0; a < A; a++) {
        const float *weight = p[READ_WEIGHT] + a * D;
        float sum = 0.0f;
        for (int64_t i = 0; i < D; i++) sum += weight[i] * normal[i];
        float x = sum + p[READ_BIAS][a], y = t->bounded ? hyperbolic_tangent(x) : x, off = y - wanted[a];
        error += t->absolute ? fabsf(off) : off * off;
        if (scale == 0.0f) continue;
        float slope = t->absolute ? (off > 0.0f) - (off < 0.0f) : 2.0f * off;
        slope *= scale / (float)A * (t->bounded ? 1.0f - y * y : 1.0f);
        float *weight_gradient = g[READ_WEIGHT] + a * D;
        for (int64_t i = 0; i < D; i++) {
            weight_gradient[i] += slope * normal[i];
            up[i] += slope * weight[i];
        }
        g[READ_BIAS][a] += slope;
    }
    if (scale != 0.0f) {
        memset(down, 0, (size_t)D * sizeof *down);
        layer_norm_backward(1, (int)D, state, p[READ_GAIN], moments, up, down, g[READ_GAIN], g[READ_SHIFT]);
    }
    return error / (float)A;
}

/* states: (windows, time, width). Writes `loss`, the mean error of the timesteps where `mask`, and where `down` is not
   null its gradients: of the states, and of the parameters into `sums` (as above). No timestep: NaN, as of any mean of
   none. Returns 0, or 1 where memory ran out. */
int foretell_tail(const Tail *t, const float *states, const float *wanted, const uint8_t *mask, const float *const *p,
                  const int64_t *offsets, float *loss, float *down, float *sums) {
    int64_t failed = 0, D = t->width, count = 0;
    double together = 0.0, *sums_of_errors = calloc((size_t)t->threads, sizeof *sums_of_errors);
    if (!sums_of_errors) return 1;
    for (int64_t i = 0; i < t->windows * t->time; i++) count += mask[i] != 0;
    float scale = 1.0f / (float)count;
#pragma omp parallel num_threads((int)t->threads) if (t->threads > 1 && t->windows > 1) reduction(| : failed)
    {
        Share mine = share_of(t->windows);
        float *scratch = malloc((size_t)(2 * D) * sizeof *scratch), *g[READERS];
        failed |= !scratch;
        for (int i = 0; i < READERS; i++) g[i] = down ? sums + mine.me * offsets[READERS] + offsets[i] : NULL;
        for (int64_t at = mine.begin * t->time; scratch && at < mine.end * t->time; at++) {
            if (mask[at])
                sums_of_errors[mine.me] += read_state(t, p, states + at * D, wanted + at * t->actions, down ? scale : 0.0f,
                                                      scratch, scratch + D, down ? down + at * D : NULL, g);
            else if (down)
                memset(down + at * D, 0, (size_t)D * sizeof *down);
        }
        free(scratch);
    }
    for (int64_t i = 0; i < t->threads; i++) together += sums_of_errors[i];
    free(sums_of_errors);
    *loss = (float)(together / (double)count);
    return (int)failed;
}
