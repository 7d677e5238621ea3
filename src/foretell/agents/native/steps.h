/* What is done to weights between passes: Adam's step, the size of gradients, following at a rate. */
#include <math.h>
#include <stdint.h>

enum { SHARED = 16384 }; /* numbers of which each thread takes some; fewer are one thread's */

typedef struct {
    float size, root, keep1, keep2, least, eps;
} Step;

/* Kingma and Ba 2015, Algorithm 1; a first moment below `least` becomes 0. */
static void adam_numbers(Step step, int64_t count, float *restrict w, const float *restrict g, float *restrict m,
                         float *restrict v) {
    for (int64_t i = 0; i < count; i++) {
        float moment = m[i] + step.keep1 * (g[i] - m[i]);
        moment = fabsf(moment) < step.least ? 0.0f : moment;
        v[i] += step.keep2 * (g[i] * g[i] - v[i]);
        w[i] -= step.size * moment / (sqrtf(v[i]) / step.root + step.eps);
        m[i] = moment;
    }
}

static Step step_of(double number, double rate, double beta1, double beta2, double epsilon, double negligible) {
    Step step = {(float)(rate / (1 - pow(beta1, number))), (float)sqrt(1 - pow(beta2, number)), (float)(1 - beta1),
                 (float)(1 - beta2), (float)negligible, (float)epsilon};
    return step;
}

static float square_numbers(int64_t count, const float *values) {
    float sum = 0.0f;
    for (int64_t i = 0; i < count; i++) sum += values[i] * values[i];
    return sum;
}

/* Sum of squares, in float32: infinite or NaN where a value is, or where its square outgrows float32. */
float foretell_squares(int64_t tensors, const int64_t *counts, const float *const *values) {
    float sum = 0.0f;
    for (int64_t tensor = 0; tensor < tensors; tensor++) sum += square_numbers(counts[tensor], values[tensor]);
    return sum;
}

/* One of `parts` of `count` numbers; of few numbers the first part is all. */
typedef struct {
    int64_t begin, count;
} Share;

static Share share_of(int64_t count, int64_t part, int64_t parts) {
    int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    Share all = {0, count}, none = {0, 0}, some = {begin, end - begin};
    return count > SHARED ? some : part ? none : all;
}

static int64_t largest(int64_t tensors, const int64_t *counts) {
    int64_t found = 0;
    for (int64_t tensor = 0; tensor < tensors; tensor++) found = counts[tensor] > found ? counts[tensor] : found;
    return found;
}

/* The weights of one network, what they step along, and the moments so far. */
typedef struct {
    int64_t tensors;
    const int64_t *counts;
    float *const *weights;
    const float *const *gradients;
    float *const *first, *const *second, *const *steps;
    double rate, beta1, beta2, epsilon, negligible;
} Adam;

/* Where `checked`, a step is taken only if the squares of the gradients and `loss` add up to something finite. Returns
   whether it was taken. A thread that has squared its share of the gradients has it at hand when it steps. */
int foretell_adam(const Adam *of, int checked, double loss, int threads) {
    int64_t tensors = of->tensors;
    const int64_t *counts = of->counts;
    int64_t parts = largest(tensors, counts) > SHARED ? threads : 1;
    double sum = checked ? loss : 0.0;
#pragma omp parallel num_threads(threads) if (parts > 1)
    {
#pragma omp for schedule(static, 1) reduction(+ : sum)
        for (int64_t part = 0; part < (checked ? parts : 0); part++) {
            float squares = 0.0f;
            for (int64_t tensor = 0; tensor < tensors; tensor++) {
                Share share = share_of(counts[tensor], part, parts);
                squares += square_numbers(share.count, of->gradients[tensor] + share.begin);
            }
            sum += squares;
        }
#pragma omp for schedule(static, 1)
        for (int64_t part = 0; part < (isfinite(sum) ? parts : 0); part++)
            for (int64_t tensor = 0; tensor < tensors; tensor++) {
                Share share = share_of(counts[tensor], part, parts);
                adam_numbers(step_of(*of->steps[tensor] + 1.0f, of->rate, of->beta1, of->beta2, of->epsilon,
                                     of->negligible),
                             share.count, of->weights[tensor] + share.begin, of->gradients[tensor] + share.begin,
                             of->first[tensor] + share.begin, of->second[tensor] + share.begin);
            }
    }
    for (int64_t tensor = 0; tensor < (isfinite(sum) ? tensors : 0); tensor++) *of->steps[tensor] += 1.0f;
    return isfinite(sum);
}

static void follow_numbers(float rate, int64_t count, float *restrict old, const float *restrict new) {
    for (int64_t i = 0; i < count; i++) old[i] += rate * (new[i] - old[i]);
}

/* old + rate * (new - old) */
void foretell_follow(int64_t tensors, const int64_t *counts, float *const *old, const float *const *new, double rate,
                     int threads) {
    int64_t parts = largest(tensors, counts) > SHARED ? threads : 1;
#pragma omp parallel for num_threads(threads) if (parts > 1)
    for (int64_t part = 0; part < parts; part++)
        for (int64_t tensor = 0; tensor < tensors; tensor++) {
            Share share = share_of(counts[tensor], part, parts);
            follow_numbers((float)rate, share.count, old[tensor] + share.begin, new[tensor] + share.begin);
        }
}
