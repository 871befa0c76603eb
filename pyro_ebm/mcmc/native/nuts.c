/* The bookkeeping of one step of desynchronised NUTS, in place, for all chains.

   The same sampler as nuts.py, which teaches what happens and why; here a chain touches only what
   changes. A step is two calls with the gradient between them: `open` brings every chain to the
   position where it needs its gradient, `close` takes in that gradient. What torch reads or writes
   is [dim, chains]; what only this file does is [blocks, dim, BLOCK], so that the chains of a block
   lie together; checkpoints are [chains, rows, 2, dim], since chains keep theirs in different rows.

   This file is included twice, with REAL float and double. */

#ifndef REAL
#include <math.h>
#include <stdint.h>
#include <string.h>

#define REAL float
#define BITS uint32_t
#define NAME(x) x##_float
#define EXP_TERMS 7
#define LOG_TERMS 7
#define LOWEST -87
#define MANTISSA 23
#define BIAS 127
#define FIRST
#endif

#ifdef FIRST
/* Chains that are worked on together: some vectors of the machine. */
#define BLOCK 16
/* Rows of checkpoints: see trajectory.py. Row 0 is not used here. */
#define TREE 1
#define FIRST_ROW 2
#define TREE_ACROSS (FIRST_ROW + 1)
#define MAX_ENERGY_ERROR 1000

enum { DIAGONAL, DENSE, LOW_RANK };

typedef struct {
    int64_t chains, dim, rows, metric, versions, rank;
    int64_t step_stride, published_version, published_depth, key;
    /* [blocks, dim, BLOCK]: the ends of the trajectory, the draws from the tree and from the new
       half, sums of momenta. */
    void *moving_position, *moving_momentum, *moving_force;
    void *idle_position, *idle_momentum, *idle_force;
    void *tree_position, *tree_gradient, *half_position, *half_gradient;
    void *tree_sum, *half_sum;
    /* [chains] */
    void *tree_density, *tree_energy, *half_density, *half_energy;
    void *tree_weight, *half_weight, *initial_energy, *acceptance_sum, *step_size;
    int64_t *leaf, *depth, *max_depth, *n_steps, *version;
    uint8_t *fresh, *forward, *turning;
    void *checkpoints;
    /* The latest draws, [dim, chains] and [chains], and what is reported of the transition. */
    void *position, *gradient, *log_density, *acceptance_rate, *energy, *energy_error;
    int64_t *tree_depth, *reported_steps;
    uint8_t *diverging, *reached;
    /* Where the gradient is needed [dim, chains], and scratch. */
    void *next, *work;
    /* Settings: step sizes [chains] or one, the metric's arrays. */
    void *published_step, *scale, *factor, *directions, *stretch;
    /* Uniform numbers [3, chains]. */
    void *uniform;
} Step;

static inline int popcount(int64_t n) { return __builtin_popcountll((unsigned long long)n); }

static inline int trailing_ones(int64_t n) { return __builtin_ctzll(~(unsigned long long)n); }

/* A stream of random numbers: Steele, Lea, Flood (2014), Fast splittable pseudorandom number
   generators. Each chain and key begin one of their own. */
static inline uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

#define GOLDEN 0x9E3779B97F4A7C15u

static inline uint64_t next_bits(uint64_t *stream) { return mixed(*stream += GOLDEN); }

static inline double next_uniform(uint64_t *stream) {
    return ((double)(next_bits(stream) >> 11) + 0.5) / 9007199254740992.0;
}

/* The ziggurat: 256 layers of equal area under exp(-x^2 / 2); layer 0 is the lowest, with the tail
   beyond its edge. Marsaglia, Tsang (2000), The ziggurat method for generating random variables. */
#define LAYERS 256
#define EDGE 3.6541528853610088
#define AREA 0.00492867323399

static double edges[LAYERS + 1], heights[LAYERS + 1];

__attribute__((constructor)) static void cut_layers(void) {
    edges[0] = AREA / exp(-0.5 * EDGE * EDGE);
    edges[1] = EDGE;
    for (int k = 2; k < LAYERS; k++)
        edges[k] = sqrt(-2 * log(AREA / edges[k - 1] + exp(-0.5 * edges[k - 1] * edges[k - 1])));
    edges[LAYERS] = 0;
    for (int k = 0; k <= LAYERS; k++) heights[k] = exp(-0.5 * edges[k] * edges[k]);
}

static double next_normal(uint64_t *stream) {
    for (;;) {
        const uint64_t bits = next_bits(stream);
        const int layer = (int)(bits & (LAYERS - 1)), negative = (int)(bits >> 8 & 1);
        double x = (double)(bits >> 11) / 9007199254740992.0 * edges[layer];
        if (x >= edges[layer + 1]) {
            if (layer == 0) {
                double y;
                do {
                    x = -log(next_uniform(stream)) / EDGE;
                    y = -log(next_uniform(stream));
                } while (2 * y < x * x);
                x += EDGE;
            } else {
                const double low = heights[layer], high = heights[layer + 1];
                if (low + next_uniform(stream) * (high - low) >= exp(-0.5 * x * x)) continue;
            }
        }
        return negative ? -x : x;
    }
}
#endif

/* dim standard normal numbers of one chain. */
static inline void NAME(normals)(uint64_t key, int64_t chain, int64_t dim, REAL *out) {
    uint64_t stream = mixed(key + mixed((uint64_t)chain + GOLDEN));
    for (int64_t d = 0; d < dim; d++) out[d] = (REAL)next_normal(&stream);
}

void NAME(momenta)(uint64_t key, int64_t dim, int64_t chains, REAL *out, REAL *work) {
    for (int64_t c = 0; c < chains; c++) {
        NAME(normals)(key, c, dim, work);
        for (int64_t d = 0; d < dim; d++) out[d * chains + c] = work[d];
    }
}

/* exp(x) for x <= 0, 0 below LOWEST: without a branch, so that a block is done at once. */
static inline REAL NAME(decay)(REAL x) {
    const REAL inside = x > LOWEST ? x : LOWEST;
    const int32_t n = (int32_t)(inside * (REAL)1.4426950408889634 - (REAL)0.5);
    const REAL rest = (inside - n * (REAL)0.693145751953125) - n * (REAL)1.42860682030941723e-6;
    REAL sum = 1;
    for (int k = EXP_TERMS; k > 0; k--) sum = 1 + sum * rest / k;
    union {
        BITS bits;
        REAL value;
    } power = {.bits = (BITS)(n + BIAS) << MANTISSA};
    return x > LOWEST ? sum * power.value : 0;
}

/* log(1 + t) for 0 <= t <= 1. */
static inline REAL NAME(log_one_plus)(REAL t) {
    const REAL ratio = t / (2 + t), square = ratio * ratio;
    REAL sum = 0;
    for (int k = LOG_TERMS; k >= 0; k--) sum = sum * square + (REAL)1 / (2 * k + 1);
    return 2 * ratio * sum;
}

static inline REAL NAME(log_add)(REAL a, REAL b) {
    const REAL high = a > b ? a : b, low = a > b ? b : a;
    return high == -INFINITY ? high : high + NAME(log_one_plus)(NAME(decay)(low - high));
}

#define AT(name) ((REAL *)s->name)
/* Over the chains of a block, none of which meets another. */
#define LOOP _Pragma("omp simd") for (int c = 0; c < n; c++)
#define ALL _Pragma("omp simd") for (int c = 0; c < BLOCK; c++)
#define BLOCKED(name) (AT(name) + first * dim)

/* out = L in, or L^T in, of one version for a block [dim][BLOCK]; out is not in. */
static void NAME(map_version)(
    const Step *s, int64_t version, int transposed, const REAL *in, REAL *out, REAL *along) {
    const int64_t dim = s->dim, rank = s->rank;
    if (s->metric == DENSE) {
        const REAL *factor = (const REAL *)s->factor + version * dim * dim;
        for (int64_t i = 0; i < dim; i++) {
            REAL sum[BLOCK] = {0};
            for (int64_t j = 0; j < dim; j++) {
                const REAL f = transposed ? factor[j * dim + i] : factor[i * dim + j];
                const REAL *x = in + j * BLOCK;
                ALL sum[c] += f * x[c];
            }
            memcpy(out + i * BLOCK, sum, sizeof sum);
        }
        return;
    }
    const REAL *scale = (const REAL *)s->scale + version * dim;
    if (s->metric == DIAGONAL) {
        for (int64_t d = 0; d < dim; d++)
            ALL out[d * BLOCK + c] = scale[d] * in[d * BLOCK + c];
        return;
    }
    const REAL *directions = (const REAL *)s->directions + version * dim * rank;
    const REAL *stretch = (const REAL *)s->stretch + version * rank;
    for (int64_t d = 0; d < dim; d++)
        ALL
            out[d * BLOCK + c] = transposed ? scale[d] * in[d * BLOCK + c] : in[d * BLOCK + c];
    memset(along, 0, sizeof(REAL) * (size_t)(rank * BLOCK));
    for (int64_t d = 0; d < dim; d++)
        for (int64_t r = 0; r < rank; r++)
            ALL
                along[r * BLOCK + c] += directions[d * rank + r] * out[d * BLOCK + c];
    for (int64_t d = 0; d < dim; d++)
        for (int64_t r = 0; r < rank; r++)
            ALL
                out[d * BLOCK + c] +=
                    directions[d * rank + r] * (stretch[r] - 1) * along[r * BLOCK + c];
    if (!transposed)
        for (int64_t d = 0; d < dim; d++)
            ALL out[d * BLOCK + c] *= scale[d];
}

/* The same with the version that each chain is using. */
static void NAME(map)(
    const Step *s, const int64_t *version, int transposed, const REAL *in, REAL *out, REAL *spare) {
    REAL *along = spare, *other = spare + s->rank * BLOCK;
    int same = 1;
    for (int c = 1; c < BLOCK; c++) same &= version[c] == version[0];
    NAME(map_version)(s, version[0], transposed, in, out, along);
    if (same) return;
    NAME(map_version)(s, 1 - version[0], transposed, in, other, along);
    for (int64_t d = 0; d < s->dim; d++)
        ALL
            out[d * BLOCK + c] =
                version[c] == version[0] ? out[d * BLOCK + c] : other[d * BLOCK + c];
}

static inline void NAME(gather)(
    const REAL *from, int64_t chains, int64_t first, int n, int64_t dim, REAL *to) {
    for (int64_t d = 0; d < dim; d++)
        ALL
            to[d * BLOCK + c] = c < n ? from[d * chains + first + c] : 0;
}

/* A fresh chain draws a momentum and takes up the step size and metric that are published. */
static void NAME(begin_transition)(const Step *s, int64_t first, int c, REAL *momentum) {
    const int64_t dim = s->dim, i = first + c;
    REAL square = 0;
    NAME(normals)((uint64_t)s->key, i, dim, momentum);
    s->version[i] = s->published_version;
    s->max_depth[i] = s->published_depth;
    AT(step_size)[i] = AT(published_step)[i * s->step_stride];
    for (int64_t d = 0; d < dim; d++) {
        const int64_t at = d * BLOCK + c;
        const REAL p = momentum[d];
        square += p * p;
        BLOCKED(moving_position)[at] = BLOCKED(idle_position)[at] = BLOCKED(tree_position)[at];
        BLOCKED(moving_momentum)[at] = BLOCKED(idle_momentum)[at] = BLOCKED(tree_sum)[at] = p;
    }
    AT(tree_energy)[i] = AT(initial_energy)[i] = (REAL)0.5 * square - AT(tree_density)[i];
    AT(tree_weight)[i] = 0;
}

static inline void NAME(swap)(REAL *a, REAL *b, const int32_t *where) {
    ALL {
        const REAL x = a[c], y = b[c];
        a[c] = where[c] ? y : x;
        b[c] = where[c] ? x : y;
    }
}

static inline __attribute__((always_inline)) void NAME(open_block)(
    const Step *s, int64_t first, int n) {
    const int64_t dim = s->dim, chains = s->chains;
    REAL *kicked = AT(work), *speed = kicked + dim * BLOCK, *spare = speed + dim * BLOCK;
    REAL *x = BLOCKED(moving_position), *p = BLOCKED(moving_momentum), *f = BLOCKED(moving_force);
    int64_t version[BLOCK] = {0};
    REAL signed_step[BLOCK] = {0};
    int32_t swap[BLOCK] = {0};
    int any_fresh = 0, any_swap = 0;
    for (int c = 0; c < n; c++)
        if (s->fresh[first + c]) {
            NAME(begin_transition)(s, first, c, kicked);
            any_fresh = 1;
        }
    LOOP version[c] = s->version[first + c];
    if (any_fresh) {
        REAL *push = kicked;
        NAME(map)(s, version, 1, BLOCKED(tree_gradient), push, spare);
        for (int c = 0; c < n; c++)
            if (s->fresh[first + c])
                for (int64_t at = c; at < dim * BLOCK; at += BLOCK)
                    f[at] = BLOCKED(idle_force)[at] = push[at];
    }
    /* At the first leaf of a new half, the end on the drawn side is the one that moves. */
    for (int c = 0; c < n; c++) {
        const int64_t i = first + c;
        const uint8_t forward = AT(uniform)[i] < (REAL)0.5;
        swap[c] = s->leaf[i] == 0 && forward != s->forward[i];
        any_swap |= swap[c];
        s->forward[i] = swap[c] ? forward : s->forward[i];
        signed_step[c] = s->forward[i] ? AT(step_size)[i] : -AT(step_size)[i];
    }
    for (int64_t at = 0; at < dim * BLOCK && any_swap; at += BLOCK) {
        NAME(swap)(x + at, BLOCKED(idle_position) + at, swap);
        NAME(swap)(p + at, BLOCKED(idle_momentum) + at, swap);
        NAME(swap)(f + at, BLOCKED(idle_force) + at, swap);
    }
    for (int64_t d = 0; d < dim; d++)
        ALL {
            const int64_t at = d * BLOCK + c;
            kicked[at] = p[at] + (REAL)0.5 * signed_step[c] * f[at];
        }
    NAME(map)(s, version, 0, kicked, speed, spare);
    for (int64_t d = 0; d < dim; d++) {
        REAL *next = AT(next) + d * chains + first;
        LOOP next[c] = x[d * BLOCK + c] += signed_step[c] * speed[d * BLOCK + c];
    }
}

/* Whether the stretch from a checkpoint to the leaf turns. */
static inline int NAME(turns)(
    const REAL *row, int64_t dim, const REAL *momentum, const REAL *sum_to_leaf) {
    REAL first = 0, last = 0;
    const REAL *there = row, *sum_there = row + dim;
    for (int64_t d = 0; d < dim; d++) {
        const REAL between = sum_to_leaf[d] - sum_there[d];
        first += between * there[d];
        last += between * momentum[d];
    }
    return first <= 0 || last <= 0;
}

/* Half a kick by the old force and half by the new one; momenta before and after, and the sums of
   the new half up to the middle of the leaf. */
static inline void NAME(kick)(
    int64_t dim, const REAL *restrict step, const REAL *restrict push, REAL *restrict momentum,
    REAL *restrict force, REAL *restrict half_sum, REAL *restrict before, REAL *restrict sums,
    REAL *restrict kinetic) {
    for (int64_t at = 0; at < dim * BLOCK; at += BLOCK)
        ALL {
            const REAL old = momentum[at + c];
            const REAL half_kick = old + (REAL)0.5 * step[c] * force[at + c];
            const REAL new = half_kick + (REAL)0.5 * step[c] * push[at + c];
            const REAL sum = half_sum[at + c] + new;
            before[at + c] = old;
            momentum[at + c] = new;
            force[at + c] = push[at + c];
            half_sum[at + c] = sum;
            sums[at + c] = sum - (REAL)0.5 * new;
            kinetic[c] += new * new;
        }
}

static inline void NAME(take)(
    int64_t dim, const int32_t *restrict where, const REAL *restrict from, REAL *restrict to) {
    for (int64_t at = 0; at < dim * BLOCK; at += BLOCK)
        ALL to[at + c] = where[c] ? from[at + c] : to[at + c];
}

/* What is decided in close, by chain of the block. */
typedef struct {
    int32_t diverging[BLOCK], leaf[BLOCK], half[BLOCK], joined[BLOCK], over[BLOCK];
    int any_leaf, any_half, any_over, any_done;
    REAL half_weight[BLOCK], accepted[BLOCK];
} NAME(Decisions);

/* The new leaf joins the new half, which keeps one of its leaves by weight. */
static inline __attribute__((always_inline)) void NAME(weigh_leaf)(
    const Step *s, const REAL *density, const REAL *kinetic, int64_t first, int n,
    NAME(Decisions) * made) {
    REAL energy[BLOCK] = {0}, delta[BLOCK] = {0}, drawn[BLOCK] = {0}, old[BLOCK] = {0};
    LOOP {
        const int64_t i = first + c;
        energy[c] = (REAL)0.5 * kinetic[c] - density[i];
        delta[c] = energy[c] - AT(initial_energy)[i];
        old[c] = AT(half_weight)[i];
        drawn[c] = AT(uniform)[s->chains + i];
    }
    ALL {
        const REAL rise = delta[c] == delta[c] ? delta[c] : INFINITY;
        const REAL high = old[c] > -rise ? old[c] : -rise, apart = old[c] + rise;
        const REAL share = NAME(decay)(apart > 0 ? -apart : apart);
        const REAL sum = high + NAME(log_one_plus)(share);
        const int some = high > -INFINITY && high < INFINITY;
        made->diverging[c] = rise > MAX_ENERGY_ERROR;
        made->accepted[c] = NAME(decay)(rise > 0 ? -rise : 0);
        made->half_weight[c] = some ? sum : high;
        made->leaf[c] = some & (drawn[c] * (1 + share) < (apart > 0 ? share : 1));
    }
    made->any_leaf = 0;
    LOOP {
        const int64_t i = first + c;
        made->any_leaf |= made->leaf[c];
        AT(half_density)[i] = made->leaf[c] ? density[i] : AT(half_density)[i];
        AT(half_energy)[i] = made->leaf[c] ? energy[c] : AT(half_energy)[i];
        made->accepted[c] += AT(acceptance_sum)[i];
    }
}

/* Remember the leaf, and tell whether a stretch within the new half turns at it. */
static int NAME(remember)(
    const Step *s, int64_t first, int c, const REAL *before, const REAL *momentum,
    const REAL *sum_to_leaf) {
    const int64_t dim = s->dim, i = first + c, leaf = s->leaf[i], row_size = 2 * dim;
    REAL *kept = AT(checkpoints) + i * s->rows * row_size;
    REAL *top = kept + (FIRST_ROW + 2 * popcount(leaf >> 1)) * row_size;
    if (leaf == 0) {
        REAL *row = kept + TREE * row_size;
        const REAL *begin = BLOCKED(idle_momentum) + c, *sum = BLOCKED(tree_sum) + c;
        for (int64_t d = 0; d < dim; d++) {
            row[d] = begin[d * BLOCK];
            row[dim + d] = (REAL)0.5 * begin[d * BLOCK] - sum[d * BLOCK];
        }
        s->turning[i] = (uint8_t)NAME(turns)(row, dim, momentum, sum_to_leaf);
    }
    if (leaf % 2 == 0) {
        for (int64_t d = 0; d < dim; d++) {
            const REAL old = before[d * BLOCK + c];
            top[d] = momentum[d];
            top[dim + d] = sum_to_leaf[d];
            top[2 * dim + d] = old;
            top[3 * dim + d] = sum_to_leaf[d] - (REAL)0.5 * (momentum[d] + old);
        }
        return leaf > 0 && NAME(turns)(top - 2 * row_size, dim, momentum, sum_to_leaf);
    }
    const int closed = trailing_ones(leaf);
    for (int k = 0; k < closed; k++) {
        const REAL *whole = top - 2 * k * row_size, *across = whole + row_size;
        if (NAME(turns)(whole, dim, momentum, sum_to_leaf)) return 1;
        if (k < closed - 1 && NAME(turns)(across, dim, momentum, sum_to_leaf)) return 1;
    }
    return 0;
}

/* A complete half without a turn joins the tree; the tree may then turn as a whole. */
static int NAME(join)(
    const Step *s, int64_t i, const REAL *momentum, const REAL *sum_to_leaf, REAL half_weight,
    int32_t *take_half) {
    const int64_t dim = s->dim;
    const REAL *kept = AT(checkpoints) + i * s->rows * 2 * dim;
    const REAL gain = half_weight - AT(tree_weight)[i];
    *take_half = gain >= 0 || AT(uniform)[2 * s->chains + i] < NAME(decay)(gain);
    AT(tree_weight)[i] = NAME(log_add)(AT(tree_weight)[i], half_weight);
    if (*take_half) {
        AT(tree_density)[i] = AT(half_density)[i];
        AT(tree_energy)[i] = AT(half_energy)[i];
    }
    return s->turning[i] || NAME(turns)(kept + TREE * 2 * dim, dim, momentum, sum_to_leaf) ||
           NAME(turns)(kept + TREE_ACROSS * 2 * dim, dim, momentum, sum_to_leaf);
}

/* What follows the leaf: the next one, the next half, or the next transition. */
static void NAME(grow)(
    const Step *s, int64_t first, int c, const REAL *before, const REAL *sums, REAL *spare,
    NAME(Decisions) * made) {
    const int64_t dim = s->dim, i = first + c, n_steps = s->n_steps[i] + 1;
    REAL *momentum = spare, *sum_to_leaf = spare + dim;
    for (int64_t d = 0; d < dim; d++) {
        momentum[d] = BLOCKED(moving_momentum)[d * BLOCK + c];
        sum_to_leaf[d] = sums[d * BLOCK + c];
    }
    const int failed =
        NAME(remember)(s, first, c, before, momentum, sum_to_leaf) | made->diverging[c];
    const int complete = s->leaf[i] + 1 == ((int64_t)1 << s->depth[i]) && !failed;
    const int turned = complete && NAME(join)(s, i, momentum, sum_to_leaf, made->half_weight[c],
                                              &made->half[c]);
    const int64_t depth = s->depth[i] + complete;
    const int deepest = complete && depth >= s->max_depth[i];
    const int done = failed || turned || deepest, over = complete || done;
    made->joined[c] = complete;
    made->over[c] = over;
    made->any_half |= made->half[c];
    made->any_over |= over;
    made->any_done |= done;
    AT(acceptance_rate)[i] = made->accepted[c] / (REAL)n_steps;
    AT(energy)[i] = AT(tree_energy)[i];
    AT(energy_error)[i] = AT(tree_energy)[i] - AT(initial_energy)[i];
    s->tree_depth[i] = depth + failed;
    s->reported_steps[i] = n_steps;
    s->diverging[i] = (uint8_t)made->diverging[c];
    s->reached[i] = (uint8_t)(deepest && !turned);
    s->fresh[i] = (uint8_t)done;
    s->leaf[i] = over ? 0 : s->leaf[i] + 1;
    s->depth[i] = done ? 0 : depth;
    s->n_steps[i] = done ? 0 : n_steps;
    AT(acceptance_sum)[i] = done ? 0 : made->accepted[c];
    AT(half_weight)[i] = over ? -INFINITY : made->half_weight[c];
}

/* The draws of the chains that have ended a transition. */
static void NAME(report)(const Step *s, int64_t first, int n) {
    const int64_t dim = s->dim, chains = s->chains;
    for (int c = 0; c < n; c++) {
        const int64_t i = first + c;
        if (!s->fresh[i]) continue;
        AT(log_density)[i] = AT(tree_density)[i];
        for (int64_t d = 0; d < dim; d++) {
            AT(position)[d * chains + i] = BLOCKED(tree_position)[d * BLOCK + c];
            AT(gradient)[d * chains + i] = BLOCKED(tree_gradient)[d * BLOCK + c];
        }
    }
}

static inline __attribute__((always_inline)) void NAME(close_block)(
    const Step *s, const REAL *density, const REAL *gradient, int64_t first, int n) {
    const int64_t dim = s->dim, size = dim * BLOCK;
    REAL *g = AT(work), *push = g + size, *before = push + size, *sums = before + size;
    REAL *spare = sums + size;
    int64_t version[BLOCK] = {0};
    REAL step[BLOCK] = {0}, kinetic[BLOCK] = {0};
    NAME(Decisions) made = {0};
    LOOP {
        version[c] = s->version[first + c];
        step[c] = s->forward[first + c] ? AT(step_size)[first + c] : -AT(step_size)[first + c];
    }
    NAME(gather)(gradient, s->chains, first, n, dim, g);
    NAME(map)(s, version, 1, g, push, spare);
    NAME(kick)(dim, step, push, BLOCKED(moving_momentum), BLOCKED(moving_force),
               BLOCKED(half_sum), before, sums, kinetic);
    NAME(weigh_leaf)(s, density, kinetic, first, n, &made);
    for (int c = 0; c < n; c++) NAME(grow)(s, first, c, before, sums, spare, &made);
    if (made.any_leaf) {
        NAME(take)(dim, made.leaf, BLOCKED(moving_position), BLOCKED(half_position));
        NAME(take)(dim, made.leaf, g, BLOCKED(half_gradient));
    }
    if (made.any_half) {
        NAME(take)(dim, made.half, BLOCKED(half_position), BLOCKED(tree_position));
        NAME(take)(dim, made.half, BLOCKED(half_gradient), BLOCKED(tree_gradient));
    }
    if (made.any_over) {
        REAL *restrict sum_tree = BLOCKED(tree_sum), *restrict sum_half = BLOCKED(half_sum);
        for (int64_t at = 0; at < size; at += BLOCK)
            ALL {
                const REAL sum = sum_half[at + c];
                sum_tree[at + c] += made.joined[c] ? sum : 0;
                sum_half[at + c] = made.over[c] ? 0 : sum;
            }
    }
    if (made.any_done) NAME(report)(s, first, n);
}

void NAME(open)(const Step *s) {
    int64_t first = 0;
    for (; first + BLOCK <= s->chains; first += BLOCK) NAME(open_block)(s, first, BLOCK);
    if (first < s->chains) NAME(open_block)(s, first, (int)(s->chains - first));
}

void NAME(close)(const Step *s, const REAL *density, const REAL *gradient) {
    int64_t first = 0;
    for (; first + BLOCK <= s->chains; first += BLOCK)
        NAME(close_block)(s, density, gradient, first, BLOCK);
    if (first < s->chains)
        NAME(close_block)(s, density, gradient, first, (int)(s->chains - first));
}

/* Numbers of scratch that a step needs. */
int64_t NAME(work_size)(int64_t dim, int64_t rank) { return (5 * BLOCK + 2) * dim + BLOCK * rank; }

#ifdef FIRST
#undef FIRST
#undef REAL
#undef BITS
#undef NAME
#undef EXP_TERMS
#undef LOG_TERMS
#undef LOWEST
#undef MANTISSA
#undef BIAS
#undef AT
#undef LOOP
#undef ALL
#undef BLOCKED
#define REAL double
#define BITS uint64_t
#define NAME(x) x##_double
#define EXP_TERMS 13
#define LOG_TERMS 17
#define LOWEST -708
#define MANTISSA 52
#define BIAS 1023
#include "nuts.c"
#endif
