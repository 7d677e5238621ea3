/* What lies between the passes of one update of Soft Actor-Critic and of implicit Q-learning: see agents/squashing.py,
   agents/soft_values.py and values/iql_errors.py.
   Compiled so that each operation rounds once and in this order: the numbers are those of PyTorch's operators.
   exp, tanh, softplus and sums over more than members are left to PyTorch. Rows are contiguous, float32. */
#include <stdint.h>

static const float LOG_2 = 0.69314718055994530942, HALF_LOG_2_PI = 0.91893853320467274178;

/* outputs (rows, 2 dim): means, then log standard deviations, which are kept in their range: (rows, dim). */
void foretell_clamped(int64_t rows, int64_t dim, const float *restrict outputs, float low, float high,
                      float *restrict log_std) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < dim; i++) {
            float raw = outputs[(row * 2 + 1) * dim + i];
            log_std[row * dim + i] = raw < low ? low : raw > high ? high : raw; /* NaN stays */
        }
}

/* Writes deviations std * noise, unsquashed actions u = mean + deviation, -2 u, and the log-density of u, each (rows,
   dim). */
void foretell_unsquashed(int64_t rows, int64_t dim, const float *restrict outputs, const float *restrict log_std,
                         const float *restrict std, const float *restrict noise, float *restrict deviations,
                         float *restrict unsquashed, float *restrict minus_twice, float *restrict gaussian) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < dim; i++) {
            int64_t at = row * dim + i;
            deviations[at] = std[at] * noise[at];
            unsquashed[at] = outputs[row * 2 * dim + i] + deviations[at];
            minus_twice[at] = -2.0f * unsquashed[at];
            gaussian[at] = -0.5f * (noise[at] * noise[at]) - log_std[at] - HALF_LOG_2_PI;
        }
}

/* Subtract the log-derivative of tanh: gaussian - 2 (log 2 - u - softplus(-2 u)), in its place. */
void foretell_squashed(int64_t count, const float *restrict unsquashed, const float *restrict softplus,
                       float *restrict gaussian) {
    for (int64_t i = 0; i < count; i++) gaussian[i] -= 2.0f * (LOG_2 - unsquashed[i] - softplus[i]);
}

/* Gradient (rows, 2 dim) of the policy's loss with respect to the outputs; of_actions (rows, dim) is that of -Q. */
void foretell_policy_gradient(int64_t rows, int64_t dim, const float *restrict outputs, const float *restrict actions,
                              const float *restrict deviations, const float *restrict of_actions,
                              const float *temperature, float low, float high, float *restrict gradient) {
    float weight = *temperature / (float)rows;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < dim; i++) {
            int64_t at = row * dim + i, mean = row * 2 * dim + i, raw = mean + dim;
            float of_mean = 2.0f * weight * actions[at] + of_actions[at] * (1.0f - actions[at] * actions[at]);
            gradient[mean] = of_mean;
            gradient[raw] = outputs[raw] >= low && outputs[raw] <= high ? of_mean * deviations[at] - weight : 0.0f;
        }
}

/* The member whose value is lowest in a row; the first that is NaN, of equal ones the first. */
static int64_t lowest(int64_t members, int64_t rows, const float *values, int64_t row) {
    int64_t found = 0;
    for (int64_t member = 1; member < members; member++) {
        float best = values[found * rows + row];
        if (best == best && !(values[member * rows + row] >= best)) found = member;
    }
    return found;
}

/* rewards + discount (1 - terminations) (lowest value - temperature * log_probs), without the last where there are no
   log_probs. values: (members, rows). */
void foretell_targets(int64_t members, int64_t rows, const float *values, const float *log_probs,
                      const float *temperature, const float *rewards, const uint8_t *terminations, float discount,
                      float *restrict targets) {
    for (int64_t row = 0; row < rows; row++) {
        float value = values[lowest(members, rows, values, row) * rows + row];
        if (log_probs) value -= *temperature * log_probs[row];
        targets[row] = rewards[row] + (terminations[row] ? 0.0f : discount) * value;
    }
}

/* `scale` times half the mean squared difference of values and targets, added over the members, and its gradient. */
double foretell_errors(int64_t members, int64_t rows, const float *restrict values, const float *restrict targets,
                       float scale, float *restrict gradient) {
    double squares = 0.0;
    for (int64_t member = 0; member < members; member++)
        for (int64_t row = 0; row < rows; row++) {
            int64_t at = member * rows + row;
            float error = values[at] - targets[row];
            squares += (double)(error * error);
            gradient[at] = scale * (error / (float)rows);
        }
    return (double)scale * 0.5 * squares / (double)rows;
}

/* Soft values: lowest value - temperature * log_probs; and the gradient of minus their mean, which is returned, with
   respect to values. */
double foretell_soft_values(int64_t members, int64_t rows, const float *restrict values,
                            const float *restrict log_probs,
                            const float *temperature, float *restrict soft_values, float *restrict gradient) {
    double sum = 0.0;
    float share = (float)(-1.0 / (double)rows);
    for (int64_t row = 0; row < rows; row++) {
        int64_t found = lowest(members, rows, values, row);
        for (int64_t member = 0; member < members; member++)
            gradient[member * rows + row] = member == found ? share : 0.0f;
        soft_values[row] = values[found * rows + row] - *temperature * log_probs[row];
        sum += (double)soft_values[row];
    }
    return -sum / (double)rows;
}

/* How far the lowest value of the data's actions, of `of_data` (members, rows), is above `values`; the gradient of the
   expectile loss with respect to `values`; the targets of the Q-functions: (rows) each. Returns the loss. */
double foretell_expectile(int64_t members, int64_t rows, const float *restrict of_data, const float *restrict values,
                          const float *restrict next_values, const float *restrict rewards,
                          const uint8_t *restrict terminations, float expectile, float discount,
                          float *restrict advantages, float *restrict gradient, float *restrict targets) {
    double sum = 0.0;
    float share = (float)(-2.0 / (double)rows);
    for (int64_t row = 0; row < rows; row++) {
        float advantage = of_data[lowest(members, rows, of_data, row) * rows + row] - values[row];
        float slope = (advantage < 0.0f ? 1.0f - expectile : expectile) * advantage;
        advantages[row] = advantage;
        gradient[row] = share * slope;
        targets[row] = rewards[row] + (terminations[row] ? 0.0f : discount) * next_values[row];
        sum += (double)(slope * advantage);
    }
    return sum / (double)rows;
}
