/* Windows gathered from the columns of a dataset as they lie there, and what is earned behind them: see
   sequences/windows.py. */
#include <stdint.h>
#include <string.h>

enum { LINE = 64, AHEAD = 64, FAR = 256 }; /* bytes of a cache's line; windows, and rewards of one, asked for at once */

typedef struct {
    const char *from;
    int64_t bytes; /* of a row */
} Column;

typedef struct {
    int64_t steps, episodes, length, time, count; /* length: of every episode, or 0; count: of the columns */
    const int64_t *starts, *ends;                  /* first row of each episode, and the row behind its last */
    const float *rewards;                          /* null where nothing is summed behind the windows */
    const Column *columns;
} Data;

/* The episode of a row: the first one that ends behind it. */
static int64_t episode_of(const Data *data, int64_t row) {
    if (data->length) return row / data->length;
    int64_t low = 0, high = data->episodes - 1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (data->ends[middle] > row) high = middle;
        else low = middle + 1;
    }
    return low;
}

static void bring(const void *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch((const char *)from + i);
}

/* Look at one row of each column. Loads that wait for nothing are under way together; a hint to a page whose address is
   not known yet may be let fall. */
static int64_t look(const Data *data, int64_t last) {
    int64_t seen = data->rewards ? *(const volatile char *)(data->rewards + last) : 0;
    for (int64_t c = 0; c < data->count; c++)
        seen += *(const volatile char *)(data->columns[c].from + last * data->columns[c].bytes);
    return seen;
}

/* Ask for what a window reads, so that what lies in memory but in no cache arrives for many windows at once. */
static void bring_window(const Data *data, int64_t last, int64_t start, int64_t end) {
    int64_t first = last + 1 - data->time > start ? last + 1 - data->time : start;
    int64_t behind = end - first < FAR ? end - first : FAR;
    for (int64_t c = 0; c < data->count; c++)
        bring(data->columns[c].from + first * data->columns[c].bytes, (last + 1 - first) * data->columns[c].bytes);
    if (data->rewards) bring(data->rewards + first, behind * (int64_t)sizeof(float));
}

/* The same for the windows of a batch that is wanted next. */
void foretell_bring(const Data *data, int64_t windows, const int64_t *last) {
    for (int64_t w = 0; w < windows; w++) {
        if (last[w] < 0 || last[w] >= data->steps) continue;
        int64_t episode = episode_of(data, last[w]);
        bring_window(data, last[w], data->starts[episode], data->ends[episode]);
    }
}

/* Of the sizes that rows of small observations have, without a call. */
static inline void copy(char *to, const char *from, int64_t bytes) {
    switch (bytes) {
    case 1: memcpy(to, from, 1); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    case 12: memcpy(to, from, 12); break;
    case 16: memcpy(to, from, 16); break;
    default: memcpy(to, from, (size_t)bytes);
    }
}

/* Write one window; what stands before the episode's first timestep is padding, and holds that timestep. */
static int64_t window(const Data *data, int64_t w, int64_t last, int64_t start, char *const *to, int64_t *timesteps,
                      uint8_t *mask) {
    int64_t T = data->time, elapsed = last - start, padded = elapsed + 1 < T ? T - elapsed - 1 : 0;
    for (int64_t t = 0; t < T; t++) {
        timesteps[w * T + t] = t < padded ? 0 : elapsed + t + 1 - T;
        mask[w * T + t] = t >= padded;
    }
    for (int64_t c = 0; c < data->count; c++) {
        int64_t bytes = data->columns[c].bytes;
        const char *first = data->columns[c].from + start * bytes;
        char *here = to[c] + w * T * bytes;
        for (int64_t t = 0; t < padded; t++) copy(here + t * bytes, first, bytes);
        copy(here + padded * bytes, first + (elapsed + 1 - T + padded) * bytes, (T - padded) * bytes);
    }
    return padded;
}

/* The windows (windows, time) that end with these rows: `to` is where those of each column go. Returns how many of their
   timesteps are padding, or -1 where a row is none of the dataset's. */
int64_t foretell_windows(const Data *data, int64_t windows, const int64_t *last, char *const *to, int64_t *timesteps,
                         int64_t *ends, uint8_t *mask) {
    int64_t starts[AHEAD], padded = 0;
    for (int64_t w = 0; w < windows; w++)
        if (last[w] < 0 || last[w] >= data->steps) return -1;
    for (int64_t from = 0; from < windows; from += AHEAD) {
        int64_t count = windows - from < AHEAD ? windows - from : AHEAD;
        for (int64_t i = 0; i < count; i++) look(data, last[from + i]);
        for (int64_t i = 0; i < count; i++) {
            int64_t episode = episode_of(data, last[from + i]);
            starts[i] = data->starts[episode];
            ends[from + i] = data->ends[episode];
            bring_window(data, last[from + i], starts[i], ends[from + i]);
        }
        for (int64_t i = 0; i < count; i++)
            padded += window(data, from + i, last[from + i], starts[i], to, timesteps, mask);
    }
    return padded;
}

/* Returns-to-go (windows, time) of windows with these rewards: from `ends` backwards, one reward at a time, onto what lies
   behind; null where `ends` are those of the episodes, behind which nothing does. */
void foretell_returns(const Data *data, int64_t windows, const double *behind, const int64_t *last, const int64_t *ends,
                      const float *rewards, double *found) {
    int64_t T = data->time;
    for (int64_t w = 0; w < windows; w++) {
        double sum = behind ? behind[w] : 0.0;
        for (int64_t row = ends[w] - 1; row > last[w]; row--) sum += (double)data->rewards[row];
        for (int64_t t = T - 1; t >= 0; t--) found[w * T + t] = sum += (double)rewards[w * T + t];
    }
}
