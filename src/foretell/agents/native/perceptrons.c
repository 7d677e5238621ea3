/* Forward and backward passes of `members` perceptrons of equal shape: see agents/backpropagation.py for the equations.
   Rows are contiguous, float32. */
#include "../../core/native/sparse.h"
#include "steps.h"

typedef struct {
    sgemm_function sgemm;
    int64_t deep; /* terms of a sum that are added up before others */
    int64_t members, rows, layers, widest;
    const int64_t *sizes;                   /* layers + 1 widths */
    float *const *weights, *const *biases;  /* a layer: (members, inputs, outputs), (members, 1, outputs) */
    float *const *weight_gradients, *const *bias_gradients;
    float *const *kept;                     /* what layer l gives out, (members, rows, width), l from 0 */
    float *scratch[2];                      /* (members, rows, widest) each, for gradients on their way down */
} Perceptrons;

/* Threads share out members, and rows of each where there are more threads than members; a product is one thread's.
   With one thread everything is computed in one piece. */
typedef struct {
    int64_t member, place, places, begin, end; /* rows from begin to end: part `place` of the member's `places` */
} Part;

static int64_t parts_of(const Perceptrons *of, int threads) {
    return of->members * ((threads + of->members - 1) / of->members);
}

static Part part(const Perceptrons *of, int64_t parts, int64_t number, int64_t rows) {
    int64_t each = parts / of->members, place = number % each;
    Part found = {number / each, place, each, rows * place / each, rows * (place + 1) / each};
    return found;
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

/* c = a b. What relu gave out, and gradients that came back through it, are zeros for half; `hidden` says that a is such. */
static void times_layer(int64_t deep, int64_t hidden, const char *a_is, const char *b_is, int64_t rows, int64_t columns,
                        int64_t inner, const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc) {
    if (hidden)
        sparse_product(deep, a_is, b_is, rows, columns, inner, a, lda, b, ldb, 0, c, ldc);
    else
        product(deep, a_is, b_is, rows, columns, inner, 1.0f, a, lda, b, ldb, 0.0f, c, ldc);
}

/* inputs (rows, sizes[0]), the same for every member */
void foretell_perceptrons_forward(const Perceptrons *of, const float *inputs, int threads) {
    int64_t parts = parts_of(of, threads);
    sgemm = of->sgemm;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t number = 0; number < parts; number++) {
        Part p = part(of, parts, number, of->rows);
        const float *read = inputs + p.begin * of->sizes[0];
        for (int64_t layer = 0; layer < of->layers; layer++) {
            int64_t in = of->sizes[layer], out = of->sizes[layer + 1], rows = p.end - p.begin;
            float *values = of->kept[layer] + (p.member * of->rows + p.begin) * out;
            const float *weights = of->weights[layer] + p.member * in * out;
            times_layer(of->deep, layer, "N", "N", rows, out, in, read, in, weights, out, values, out);
            add_bias(values, of->biases[layer] + p.member * out, rows, out, layer + 1 < of->layers);
            read = values;
        }
    }
}

enum { SMALL = 400 }; /* weights of a layer, of which PyTorch's baddbmm takes another way, and a bias behind the sum */

/* One row of a single perceptron, each sum in PyTorch's order: a bias is where it begins, or is added last. `scratch` has
   room for two rows of the widest layer. Nothing is shared: any number of threads may ask at a time. */
void foretell_one_row(sgemm_function blas, int64_t layers, const int64_t *sizes, const float *const *weights,
                      const float *const *biases, const float *inputs, float *scratch, float *outputs) {
    int64_t widest = 0;
    for (int64_t layer = 1; layer < layers; layer++) widest = sizes[layer] > widest ? sizes[layer] : widest;
    sgemm = blas;
    for (int64_t layer = 0; layer < layers; layer++) {
        int64_t in = sizes[layer], out = sizes[layer + 1];
        int hidden = layer + 1 < layers, bias_first = in * out >= SMALL;
        float *values = hidden ? scratch + layer % 2 * widest : outputs;
        if (bias_first) memcpy(values, biases[layer], (size_t)out * sizeof *values);
        product(DEEP, "N", "N", 1, out, in, 1.0f, inputs, in, weights[layer], out, bias_first ? 1.0f : 0.0f, values, out);
        for (int64_t i = 0; i < out; i++) {
            float sum = bias_first ? values[i] : values[i] + biases[layer][i];
            values[i] = hidden && sum < 0.0f ? 0.0f : sum; /* NaN stays */
        }
        inputs = values;
    }
}

/* Numbers (rows, width), one row `apart` numbers after the other. */
typedef struct {
    float *values;
    int64_t rows, width, apart;
} Rows;

static void sum_rows(Rows of, float *sums) {
    for (int64_t i = 0; i < of.width; i++) sums[i] = 0.0f;
    for (int64_t row = 0; row < of.rows; row++, of.values += of.apart)
        for (int64_t i = 0; i < of.width; i++) sums[i] += of.values[i];
}

/* What relu let through; of its derivative at 0 we take 0, as PyTorch does. */
static void mask(Rows of, const float *hidden) {
    for (int64_t row = 0; row < of.rows; row++, of.values += of.apart, hidden += of.width)
        for (int64_t i = 0; i < of.width; i++) of.values[i] = hidden[i] <= 0.0f ? 0.0f : of.values[i];
}

/* Number of weights and biases of one member below `layer`. */
static int64_t size_below(const Perceptrons *of, int64_t layer) {
    int64_t size = 0;
    for (int64_t i = 0; i < layer; i++) size += (of->sizes[i] + 1) * of->sizes[i + 1];
    return size;
}

/* The gradient of a member's weights, then of its biases: the first part of its rows writes where it belongs, the
   others into `partial` (parts of a member after the first, members, numbers of a member). */
static void weight_gradient(const Perceptrons *of, Part p, int64_t layer, Rows above, const float *inputs,
                            float *partial) {
    int64_t in = of->sizes[layer], out = above.width;
    const float *read = layer ? of->kept[layer - 1] + (p.member * of->rows + p.begin) * in : inputs + p.begin * in;
    float *weights = of->weight_gradients[layer] + p.member * in * out;
    float *biases = of->bias_gradients[layer] + p.member * out;
    if (p.place) {
        weights = partial + ((p.place - 1) * of->members + p.member) * size_below(of, of->layers) +
                  size_below(of, layer);
        biases = weights + in * out;
    }
    times_layer(of->deep, layer, "T", "N", in, out, above.rows, read, in, above.values, above.apart, weights, out);
    sum_rows(above, biases);
}

/* Where the gradient of what layer - 1 gives out lies: that of the last was given, the others are in the scratch. There
   the parts of one member may be at layers of different widths at a time, so rows lie as far apart as the widest. */
static Rows gradient_at(const Perceptrons *of, int64_t layer, Part p, int64_t rows, const float *given) {
    int64_t width = of->sizes[layer], apart = p.places > 1 ? of->widest : width;
    if (layer == of->layers)
        return (Rows){(float *)given + (p.member * rows + p.begin) * width, p.end - p.begin, width, width};
    return (Rows){of->scratch[layer % 2] + p.member * rows * of->widest + p.begin * apart, p.end - p.begin, width,
                  apart};
}

/* One part of the rows goes back through all layers. */
static void part_backward(const Perceptrons *of, Part p, int64_t rows, const float *gradient, const float *inputs,
                          float *partial) {
    Rows above = gradient_at(of, of->layers, p, rows, gradient);
    for (int64_t layer = of->layers - 1; layer >= 0; layer--) {
        int64_t in = of->sizes[layer], out = above.width;
        weight_gradient(of, p, layer, above, inputs, partial);
        if (layer == 0) break;
        Rows below = gradient_at(of, layer, p, rows, gradient);
        times_layer(of->deep, layer + 1 < of->layers, "N", "T", above.rows, in, out, above.values, above.apart,
                    of->weights[layer] + p.member * in * out, out, below.values, below.apart);
        mask(below, of->kept[layer - 1] + (p.member * of->rows + p.begin) * in);
        above = below;
    }
}

static void add_partial(const Perceptrons *of, int64_t partials, const float *partial, int64_t share, int64_t shares) {
    int64_t size = size_below(of, of->layers);
    for (int64_t number = 0; number < partials * of->members; number++)
        for (int64_t layer = 0; layer < of->layers; layer++) {
            int64_t member = number % of->members, out = of->sizes[layer + 1], count = of->sizes[layer] * out;
            const float *from = partial + number * size + size_below(of, layer);
            float *weights = of->weight_gradients[layer] + member * count;
            float *biases = of->bias_gradients[layer] + member * out;
            for (int64_t i = count * share / shares; i < count * (share + 1) / shares; i++) weights[i] += from[i];
            for (int64_t i = out * share / shares; i < out * (share + 1) / shares; i++) biases[i] += from[count + i];
        }
}

/* The first `rows` of each member go back. gradient: (members, rows, outputs). Writes the gradients of weights and
   biases. `partial` has room for the weights of a member for each part of one but the first. */
void foretell_perceptrons_backward(const Perceptrons *of, int64_t rows, const float *gradient, const float *inputs,
                                   float *partial, int threads) {
    int64_t parts = parts_of(of, threads), shares = parts > of->members ? threads : 0;
    sgemm = of->sgemm;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static, 1)
        for (int64_t number = 0; number < parts; number++)
            part_backward(of, part(of, parts, number, rows), rows, gradient, inputs, partial);
#pragma omp for schedule(static, 1)
        for (int64_t share = 0; share < shares; share++)
            add_partial(of, parts / of->members - 1, partial, share, shares);
    }
}

/* Rows of all members, one after another: those with a gradient other than 0. Returns how many. */
static int64_t rows_with_gradient(const Perceptrons *of, int64_t rows, const float *gradient, int64_t *found) {
    int64_t count = 0, outputs = of->sizes[of->layers];
    for (int64_t at = 0; at < of->members * rows; at++) {
        int any = 0;
        for (int64_t i = 0; i < outputs; i++) any |= gradient[at * outputs + i] != 0.0f;
        if (any) found[count++] = at;
    }
    return count;
}

/* Rows found[begin] to found[end], all of one member, go back to what the first layer gives out; their gradients there
   end in scratch[1], from row `begin` on. Products are of `least` rows at least, zeros behind those that were found. */
static void found_backward(const Perceptrons *of, const int64_t *found, int64_t begin, int64_t end, int64_t rows,
                           int64_t least, const float *gradient) {
    int64_t member = found[begin] / rows, outputs = of->sizes[of->layers];
    int64_t count = end - begin < least ? least : end - begin;
    float *above = of->scratch[of->layers % 2] + begin * of->widest;
    memset(above, 0, (size_t)(count * of->widest) * sizeof *above);
    for (int64_t i = 0; i < end - begin; i++)
        for (int64_t k = 0; k < outputs; k++) above[i * of->widest + k] = gradient[found[begin + i] * outputs + k];
    for (int64_t layer = of->layers - 1; layer > 0; layer--) {
        int64_t in = of->sizes[layer], out = of->sizes[layer + 1];
        float *below = of->scratch[layer % 2] + begin * of->widest;
        times_layer(of->deep, layer + 1 < of->layers, "N", "T", count, in, out, above, of->widest,
                    of->weights[layer] + member * in * out, out, below, of->widest);
        for (int64_t i = 0; i < end - begin; i++) {
            int64_t row = found[begin + i] - member * rows;
            mask((Rows){below + i * of->widest, 1, in, in}, of->kept[layer - 1] + (member * of->rows + row) * in);
        }
        above = below;
    }
}

/* Where the rows of one member end that begin with found[begin]. */
static int64_t end_of_member(const int64_t *found, int64_t begin, int64_t last, int64_t rows) {
    int64_t end = begin;
    while (end < last && found[end] / rows == found[begin] / rows) end++;
    return end;
}

/* From the first layer to the inputs: all rows of a member at once, as if none had been left out, for the BLAS's sums of few
   columns depend on how many rows there are. */
static void inputs_of_all(const Perceptrons *of, const int64_t *found, int64_t count, int64_t rows, int64_t first,
                          int64_t wanted, float *input_gradient) {
    int64_t width = of->sizes[1];
    for (int64_t member = 0, i = 0; member < of->members; member++) {
        float *lowest = of->scratch[0] + member * rows * of->widest;
        memset(lowest, 0, (size_t)(rows * width) * sizeof *lowest);
        for (; i < count && found[i] / rows == member; i++)
            memcpy(lowest + found[i] % rows * width, of->scratch[1] + i * of->widest, (size_t)width * sizeof *lowest);
        product(of->deep, "N", "T", rows, wanted, width, 1.0f, lowest, width,
                of->weights[0] + (member * of->sizes[0] + first) * width, width, member ? 1.0f : 0.0f, input_gradient,
                wanted);
    }
}

/* Writes the gradient of the inputs from number `first` on, summed over the members: (rows, wanted). What has no gradient
   is left out: where only the lowest member of a row counts, that is half of the work for two. `found` has room for a
   number for each row of each member. On one thread the bits are those of all rows. */
void foretell_perceptrons_inputs(const Perceptrons *of, int64_t rows, const float *gradient, int64_t first,
                                 int64_t wanted, float *input_gradient, int64_t *found, int threads) {
    int64_t count = rows_with_gradient(of, rows, gradient, found), width = of->sizes[1];
    sgemm = of->sgemm;
    if (threads == 1) {
        for (int64_t begin = 0, end; begin < count; begin = end) {
            end = end_of_member(found, begin, count, rows);
            found_backward(of, found, begin, end, rows, rows < FEW_ROWS ? rows : FEW_ROWS, gradient);
        }
        inputs_of_all(of, found, count, rows, first, wanted, input_gradient);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int64_t share = 0; share < threads; share++) {
        int64_t last = count * (share + 1) / threads;
        for (int64_t begin = count * share / threads, end; begin < last; begin = end) {
            end = end_of_member(found, begin, last, rows);
            found_backward(of, found, begin, end, rows, 0, gradient);
            product(of->deep, "N", "T", end - begin, wanted, width, 1.0f, of->scratch[1] + begin * of->widest,
                    of->widest, of->weights[0] + (found[begin] / rows * of->sizes[0] + first) * width, width, 0.0f,
                    of->scratch[0] + begin * of->widest, of->widest);
        }
    }
    for (int64_t i = 0; i < rows * wanted; i++) input_gradient[i] = 0.0f;
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < wanted; k++)
            input_gradient[found[i] % rows * wanted + k] += of->scratch[0][i * of->widest + k];
}

typedef double (*Expectile)(int64_t, int64_t, const float *, const float *, const float *, const float *, const uint8_t *,
                            float, float, float *, float *, float *);
typedef double (*Errors)(int64_t, int64_t, const float *, const float *, float, float *);

/* What an update of implicit Q-learning without a policy computes with, batch by batch: see values/iql.py. */
typedef struct {
    const Perceptrons *target, *value, *q; /* value is of two batches: of observations, then of those that followed */
    Expectile expectile; /* of losses.c, as is the next one */
    Errors errors;
    int64_t observation_dim, action_dim;
    float *taken, *both;                     /* inputs of the Q-functions and of the value function */
    float *advantages, *of_value, *targets;  /* (rows) each */
    float *of_q;                             /* (members, rows) */
    float *value_partial, *q_partial;        /* as in foretell_perceptrons_backward */
    float *losses;                           /* of the value function and of the Q-functions */
} Learner;

static void beside(int64_t rows, int64_t left, const float *first, int64_t right, const float *second, float *found) {
    for (int64_t row = 0; row < rows; row++, found += left + right) {
        memcpy(found, first + row * left, (size_t)left * sizeof *found);
        memcpy(found + left, second + row * right, (size_t)right * sizeof *found);
    }
}

static float *outputs_of(const Perceptrons *of) { return of->kept[of->layers - 1]; }

/* Writes both losses and the gradients of both kinds of functions. */
void foretell_learner(Learner *of, const float *observations, const float *actions, const float *next_observations,
                      const float *rewards, const uint8_t *terminations, float expectile, float discount, int threads) {
    int64_t rows = of->q->rows, members = of->q->members, seen = rows * of->observation_dim;
    beside(rows, of->observation_dim, observations, of->action_dim, actions, of->taken);
    memcpy(of->both, observations, (size_t)seen * sizeof(float));
    memcpy(of->both + seen, next_observations, (size_t)seen * sizeof(float));
    foretell_perceptrons_forward(of->target, of->taken, threads);
    foretell_perceptrons_forward(of->value, of->both, threads);
    const float *values = outputs_of(of->value);
    of->losses[0] = (float)of->expectile(members, rows, outputs_of(of->target), values, values + rows, rewards,
                                         terminations, expectile, discount, of->advantages, of->of_value, of->targets);
    foretell_perceptrons_backward(of->value, rows, of->of_value, of->both, of->value_partial, threads);
    foretell_perceptrons_forward(of->q, of->taken, threads);
    of->losses[1] = (float)of->errors(members, rows, outputs_of(of->q), of->targets, 2.0f, of->of_q);
    foretell_perceptrons_backward(of->q, rows, of->of_q, of->taken, of->q_partial, threads);
}

typedef void (*Targets)(int64_t, int64_t, const float *, const float *, const float *, const float *, const uint8_t *,
                        float, float *);
typedef double (*Lowest)(int64_t, int64_t, const float *, const float *, const float *, float *, float *);
typedef void (*PolicyGradient)(int64_t, int64_t, const float *, const float *, const float *, const float *,
                               const float *, float, float, float *);

/* What an update of Soft Actor-Critic with target Q-functions computes with between two steps: see agents/sac.py. */
typedef struct {
    const Perceptrons *target, *q, *policy; /* policy is of two batches: observations, then those that followed */
    Targets targets_of; /* of losses.c, as are the next ones */
    Errors errors;
    Lowest lowest;
    PolicyGradient policy_gradient;
    int64_t observation_dim, action_dim;
    float low, high;                      /* of a log standard deviation */
    float *taken;                         /* inputs of the Q-functions */
    float *targets, *soft;                /* (rows) each */
    float *of_q;                          /* (members, rows) */
    float *of_actions, *of_outputs;       /* (rows, action_dim), (rows, 2 action_dim) */
    int64_t *found;                       /* as in foretell_perceptrons_inputs */
    float *q_partial, *policy_partial;    /* as in foretell_perceptrons_backward */
} ActorCritic;

/* Writes the gradients of the Q-functions, and returns their loss. `sampled` (2 rows, action_dim) and `log_probs` (2
   rows) are of the policy's actions at the observations and at those that followed. */
double foretell_critic(ActorCritic *of, const float *observations, const float *actions, const float *next_observations,
                       const float *rewards, const uint8_t *terminations, const float *sampled, const float *log_probs,
                       const float *temperature, float discount, int threads) {
    int64_t rows = of->q->rows, members = of->q->members, acts = of->action_dim;
    beside(rows, of->observation_dim, next_observations, acts, sampled + rows * acts, of->taken);
    foretell_perceptrons_forward(of->target, of->taken, threads);
    of->targets_of(members, rows, outputs_of(of->target), log_probs + rows, temperature, rewards, terminations,
                   discount, of->targets);
    beside(rows, of->observation_dim, observations, acts, actions, of->taken);
    foretell_perceptrons_forward(of->q, of->taken, threads);
    double loss = of->errors(members, rows, outputs_of(of->q), of->targets, 1.0f, of->of_q);
    foretell_perceptrons_backward(of->q, rows, of->of_q, of->taken, of->q_partial, threads);
    return loss;
}

/* Writes the gradients of the policy, and returns its loss. `read` (rows, observation_dim) begins what its last pass read,
   `deviations` are of the actions that it sampled. */
double foretell_actor(ActorCritic *of, const float *read, const float *sampled, const float *log_probs,
                      const float *deviations, const float *temperature, int threads) {
    int64_t rows = of->q->rows, members = of->q->members, acts = of->action_dim;
    beside(rows, of->observation_dim, read, acts, sampled, of->taken);
    foretell_perceptrons_forward(of->q, of->taken, threads);
    double loss = of->lowest(members, rows, outputs_of(of->q), log_probs, temperature, of->soft, of->of_q);
    foretell_perceptrons_inputs(of->q, rows, of->of_q, of->observation_dim, acts, of->of_actions, of->found, threads);
    of->policy_gradient(rows, acts, outputs_of(of->policy), sampled, deviations, of->of_actions, temperature, of->low,
                        of->high, of->of_outputs);
    foretell_perceptrons_backward(of->policy, rows, of->of_outputs, read, of->policy_partial, threads);
    return loss;
}

/* Both, and Adam's step behind each: the policy learns from Q-functions that have stepped. Writes their losses. Returns how
   many stepped; where a loss or its gradients are not finite, that network does not, and nothing comes behind it. */
int foretell_both(ActorCritic *of, const float *observations, const float *actions, const float *next_observations,
                  const float *rewards, const uint8_t *terminations, const float *sampled, const float *log_probs,
                  const float *deviations, const float *temperature, float discount, const Adam *of_q,
                  const Adam *of_policy, float *losses, int threads) {
    losses[0] = (float)foretell_critic(of, observations, actions, next_observations, rewards, terminations, sampled,
                                       log_probs, temperature, discount, threads);
    if (!foretell_adam(of_q, 1, losses[0], threads)) return 0;
    losses[1] = (float)foretell_actor(of, observations, sampled, log_probs, deviations, temperature, threads);
    return 1 + foretell_adam(of_policy, 1, losses[1], threads);
}
