/* The bookkeeping of desynchronised NUTS, in place, for all chains.

   The same sampler as nuts.py, which teaches what happens and why; here a chain touches only what
   changes. A step has the gradient in its middle: `open` brings every chain to the position where
   it needs its gradient, `close` takes in that gradient, and `turn` closes one step and opens the
   next while a chain's numbers are at hand. What torch reads and writes is [dim, chains]. A chain's
   own vectors lie together, each padded with zeros to whole vectors of the machine.

   It is compiled once for each kind of REAL, by nuts_float.c and nuts_double.c. */

#include "step.h"

#define AT(name) ((REAL *)s->name)

/* Over the chains of a block, none of which meets another. */
#define LOOP _Pragma("omp simd") for (int c = 0; c < n; c++)
#define ALL _Pragma("omp simd") for (int c = 0; c < BLOCK; c++)

#include "arithmetic.h"
#include "random.h"
#include "metric.h"
#include "record.h"

static inline REAL *NAME(vectors_of)(const Step *s, int64_t i, int64_t size) {
    return AT(vectors) + i * VECTORS * size;
}

/* A chain draws a momentum and takes up the step size and metric that are published. */
static void NAME(begin_transition)(
    const Step *s, int64_t key, int64_t i, REAL *own, int64_t size) {
    REAL *momentum = own + MOMENTUM * size, *push = own + FORCE * size;
    REAL *other = own + NUMBERS_OF_END * size;
    const REAL *position = own + TREE_POSITION * size;
    NAME(normals)(stream_of(key, i), s->dim, momentum);
    s->version[i] = s->published_version;
    s->max_depth[i] = s->published_depth;
    AT(step_size)[i] = AT(published_step)[i * s->step_stride];
    NAME(force)(s, s->version[i], size, own + TREE_GRADIENT * size, push);
    NAME(Vector) square = {0};
    EACH {
        const NAME(Vector) p = V(momentum);
        square += p * p;
        V(own + POSITION * size) = V(other + POSITION * size) = CONST_V(position);
        V(other + MOMENTUM * size) = V(own + TREE_SUM * size) = p;
        V(other + FORCE * size) = V(push);
    }
    AT(tree_energy)[i] = AT(initial_energy)[i] =
        (REAL)0.5 * NAME(total)(square) - AT(tree_density)[i];
    AT(tree_weight)[i] = 0;
}

/* Half a kick and the move to where the gradient is needed. */
static inline INLINE void NAME(open_block)(
    const Step *s, int64_t key, int64_t first, int n, int64_t size) {
    const int64_t dim = s->dim, chains = s->chains;
    for (int c = 0; c < n; c++) {
        const int64_t i = first + c;
        REAL *own = NAME(vectors_of)(s, i, size);
        if (s->fresh[i]) NAME(begin_transition)(s, key, i, own, size);
        /* At the first leaf of a new half, a side is drawn on which the trajectory grows. */
        if (s->leaf[i] == 0)
            s->forward[i] = (uint8_t)(bits_at(stream_of(key, i), OF_LEAF) & 1);
        const REAL step = s->forward[i] ? AT(step_size)[i] : -AT(step_size)[i];
        REAL *end = own + s->forward[i] * NUMBERS_OF_END * size, *x = end + POSITION * size;
        const REAL *p = end + MOMENTUM * size, *f = end + FORCE * size;
        if (s->metric == DIAGONAL) {
            const REAL *scale = AT(scale) + s->version[i] * size;
            EACH V(x) += step * CONST_V(scale) * (CONST_V(p) + (REAL)0.5 * step * CONST_V(f));
        } else {
            REAL *kicked = AT(work), *speed = kicked + size;
            EACH V(kicked) = CONST_V(p) + (REAL)0.5 * step * CONST_V(f);
            NAME(velocity)(s, s->version[i], size, kicked, speed);
            EACH V(x) += step * V(speed);
        }
    }
    const REAL *x = NAME(vectors_of)(s, first, size) + POSITION * size;
    int32_t end[BLOCK];
    LOOP end[c] = (int32_t)((c * VECTORS + s->forward[first + c] * NUMBERS_OF_END) * size);
    for (int64_t d = 0; d < dim; d++) {
        REAL *next = AT(next) + d * chains + first;
        LOOP next[c] = x[end[c] + d];
    }
}

/* What is decided in close, by chain of the block. */
typedef struct {
    int32_t diverging[BLOCK], leaf[BLOCK], join[BLOCK];
    REAL energy[BLOCK], half_weight[BLOCK], tree_weight[BLOCK], accepted[BLOCK];
} NAME(Decisions);

/* The new leaf joins the new half, which keeps one of its leaves by weight; and the half, should it
   be complete, the tree. */
static inline INLINE void NAME(weigh)(
    const Step *s, int64_t key, const REAL *density, const REAL *kinetic, int64_t first, int n,
    NAME(Decisions) * made) {
    REAL delta[BLOCK] = {0}, old[BLOCK] = {0}, tree[BLOCK] = {0}, accepted[BLOCK] = {0};
    REAL for_leaf[BLOCK], for_join[BLOCK];
    LOOP {
        const int64_t i = first + c;
        made->energy[c] = (REAL)0.5 * kinetic[c] - density[i];
        delta[c] = made->energy[c] - AT(initial_energy)[i];
        old[c] = AT(half_weight)[i];
        tree[c] = AT(tree_weight)[i];
        accepted[c] = AT(acceptance_sum)[i];
    }
    ALL {
        const uint64_t stream = stream_of(key, first + c);
        for_leaf[c] = NAME(uniform)(bits_at(stream, OF_LEAF));
        for_join[c] = NAME(uniform)(bits_at(stream, OF_JOIN));
    }
    REAL rise[BLOCK], apart[BLOCK], share[BLOCK], accepted_now[BLOCK], more[BLOCK];
    ALL rise[c] = delta[c] == delta[c] ? delta[c] : INFINITY;
    ALL apart[c] = rise[c] > 0 ? -rise[c] : 0;
    NAME(decay)(apart, accepted_now);
    ALL apart[c] = NAME(minus_distance)(old[c], -rise[c]);
    NAME(decay)(apart, share);
    ALL more[c] = NAME(log_one_plus)(share[c]);
    ALL {
        const REAL high = old[c] > -rise[c] ? old[c] : -rise[c];
        const int some = (high > -INFINITY) & (high < INFINITY);
        made->diverging[c] = rise[c] > MAX_ENERGY_ERROR;
        made->accepted[c] = accepted[c] + accepted_now[c];
        made->half_weight[c] = high + (some ? more[c] : 0);
        made->leaf[c] = some & (for_leaf[c] * (1 + share[c]) < (old[c] > -rise[c] ? share[c] : 1));
    }
    REAL *half = made->half_weight;
    ALL apart[c] = NAME(minus_distance)(half[c], tree[c]);
    NAME(decay)(apart, share);
    ALL more[c] = NAME(log_one_plus)(share[c]);
    ALL {
        made->tree_weight[c] = (half[c] > tree[c] ? half[c] : tree[c]) + more[c];
        made->join[c] = (half[c] >= tree[c]) | (for_join[c] < share[c]);
    }
}

/* A chain's leaf: its momentum before and now, and the sum of the new half, itself counted whole. */
typedef struct {
    const REAL *before, *momentum, *half_sum;
} NAME(Leaf);

/* Whether the stretch from a checkpoint to the leaf turns. */
static inline INLINE int NAME(turns)(const REAL *row, int64_t size, const NAME(Leaf) * leaf) {
    NAME(Vector) first = {0}, last = {0};
    const REAL *there = row, *sum_there = row + size;
    EACH {
        const NAME(Vector) p = CONST_V(leaf->momentum);
        const NAME(Vector) between = CONST_V(leaf->half_sum) - (REAL)0.5 * p - CONST_V(sum_there);
        first += between * CONST_V(there);
        last += between * p;
    }
    return (NAME(total)(first) <= 0) | (NAME(total)(last) <= 0);
}

/* The row of a leaf among the checkpoints of its chain. */
static inline REAL *NAME(row_of_leaf)(const Step *s, int64_t i, int64_t size) {
    const int64_t row = FIRST_ROW + 2 * popcount(s->leaf[i] >> 1);
    return AT(checkpoints) + (i * s->rows + row) * 2 * size;
}

/* Checkpoints of many chains are more than is near at hand: have those that come next fetched. */
static inline void NAME(expect_checks)(const Step *s, int64_t i, int64_t size) {
    const char *row = (const char *)NAME(row_of_leaf)(s, i, size);
    for (int k = 0; k < 4; k++) __builtin_prefetch(row + k * VECTOR_BYTES);
}

/* Remember the leaf, and tell whether a stretch within the new half turns at it. */
static inline INLINE int NAME(remember)(
    const Step *s, int64_t i, REAL *own, int64_t size, const NAME(Leaf) * leaf) {
    const int64_t number = s->leaf[i], row_size = 2 * size;
    REAL *top = NAME(row_of_leaf)(s, i, size);
    if (number == 0) {
        REAL *row = AT(checkpoints) + (i * s->rows + TREE) * row_size;
        const REAL *begin = own + ((1 - s->forward[i]) * NUMBERS_OF_END + MOMENTUM) * size;
        const REAL *sum = own + TREE_SUM * size;
        EACH {
            V(row) = CONST_V(begin);
            V(row + size) = (REAL)0.5 * CONST_V(begin) - CONST_V(sum);
        }
        s->turning[i] = (uint8_t)NAME(turns)(row, size, leaf);
    }
    if (number % 2 == 0) {
        EACH {
            const NAME(Vector) p = CONST_V(leaf->momentum), old = CONST_V(leaf->before);
            const NAME(Vector) sum = CONST_V(leaf->half_sum) - (REAL)0.5 * p;
            V(top) = p;
            V(top + size) = sum;
            V(top + 2 * size) = old;
            V(top + 3 * size) = sum - (REAL)0.5 * (p + old);
        }
        return number > 0 && NAME(turns)(top - 2 * row_size, size, leaf);
    }
    const int closed = trailing_ones(number);
    for (int k = 0; k < closed; k++) {
        const REAL *whole = top - 2 * k * row_size, *across = whole + row_size;
        if (NAME(turns)(whole, size, leaf)) return 1;
        if (k < closed - 1 && NAME(turns)(across, size, leaf)) return 1;
    }
    return 0;
}

/* A complete half without a turn joins the tree; the tree may then turn as a whole. */
static inline INLINE int NAME(join)(
    const Step *s, int64_t i, REAL *own, int64_t size, const NAME(Leaf) * leaf, int take_half) {
    const REAL *kept = AT(checkpoints) + i * s->rows * 2 * size;
    if (take_half) {
        EACH {
            V(own + TREE_POSITION * size) = V(own + HALF_POSITION * size);
            V(own + TREE_GRADIENT * size) = V(own + HALF_GRADIENT * size);
        }
        AT(tree_density)[i] = AT(half_density)[i];
        AT(tree_energy)[i] = AT(half_energy)[i];
    }
    EACH V(own + TREE_SUM * size) += V(own + HALF_SUM * size);
    return s->turning[i] | NAME(turns)(kept + TREE * 2 * size, size, leaf) |
           NAME(turns)(kept + TREE_ACROSS * 2 * size, size, leaf);
}

/* What follows the leaf: the next one, the next half, or the next transition. */
static inline INLINE void NAME(grow)(
    const Step *s, int64_t i, int c, int64_t size, const NAME(Leaf) * leaf,
    const NAME(Decisions) * made) {
    REAL *own = NAME(vectors_of)(s, i, size);
    const int64_t n_steps = s->n_steps[i] + 1;
    const int failed = NAME(remember)(s, i, own, size, leaf) | made->diverging[c];
    const int complete = s->leaf[i] + 1 == ((int64_t)1 << s->depth[i]) && !failed;
    s->n_steps[i] = n_steps;
    AT(acceptance_sum)[i] = made->accepted[c];
    if (!complete && !failed) {
        s->fresh[i] = 0;
        s->leaf[i]++;
        AT(half_weight)[i] = made->half_weight[c];
        return;
    }
    int turned = 0;
    if (complete) {
        turned = NAME(join)(s, i, own, size, leaf, made->join[c]);
        AT(tree_weight)[i] = made->tree_weight[c];
    }
    const int64_t depth = s->depth[i] + complete;
    const int deepest = complete && depth >= s->max_depth[i];
    const NAME(Vector) zero = {0};
    EACH V(own + HALF_SUM * size) = zero;
    AT(half_weight)[i] = -INFINITY;
    s->leaf[i] = 0;
    s->depth[i] = depth;
    s->fresh[i] = (uint8_t)(failed || turned || deepest);
    if (!s->fresh[i]) return;
    const Ended ended = {n_steps, depth + failed, made->diverging[c], deepest && !turned,
                         made->accepted[c] / (REAL)n_steps};
    s->depth[i] = s->n_steps[i] = 0;
    AT(acceptance_sum)[i] = 0;
    EACH V(own + LATEST * size) = V(own + TREE_POSITION * size);
    if (s->transitions)
        NAME(count)(s, i, own + LATEST * size, &ended);
    else
        NAME(report)(s, i, &ended);
}

static inline INLINE void NAME(close_block)(
    const Step *s, int64_t key, const REAL *density, const REAL *gradient, int64_t first, int n,
    int64_t size) {
    const int64_t dim = s->dim, chains = s->chains;
    REAL *g = AT(work), *before = g + BLOCK * size, *push = before + BLOCK * size;
    REAL kinetic[BLOCK] = {0};
    NAME(Decisions) made;
    for (int64_t d = 0; d < dim; d++)
        for (int c = 0; c < n; c++) g[c * size + d] = gradient[d * chains + first + c];
    for (int c = 0; c < n; c++) {
        const int64_t i = first + c;
        REAL *own = NAME(vectors_of)(s, i, size);
        REAL *end = own + s->forward[i] * NUMBERS_OF_END * size, *sum = own + HALF_SUM * size;
        REAL *momentum = end + MOMENTUM * size, *f = end + FORCE * size;
        const REAL half_step = (REAL)0.5 * (s->forward[i] ? AT(step_size)[i] : -AT(step_size)[i]);
        NAME(Vector) square = {0};
        NAME(expect_checks)(s, i, size);
        NAME(force)(s, s->version[i], size, g + c * size, push);
        EACH {
            const NAME(Vector) old = V(momentum);
            const NAME(Vector) new = old + half_step * V(f) + half_step * V(push);
            V(before + c * size) = old;
            V(momentum) = new;
            V(f) = V(push);
            V(sum) += new;
            square += new *new;
        }
        kinetic[c] = NAME(total)(square);
    }
    NAME(weigh)(s, key, density, kinetic, first, n, &made);
    for (int c = 0; c < n; c++) {
        const int64_t i = first + c;
        REAL *own = NAME(vectors_of)(s, i, size);
        const REAL *end = own + s->forward[i] * NUMBERS_OF_END * size;
        const NAME(Leaf) leaf = {before + c * size, end + MOMENTUM * size, own + HALF_SUM * size};
        if (made.leaf[c]) {
            EACH {
                V(own + HALF_POSITION * size) = CONST_V(end + POSITION * size);
                V(own + HALF_GRADIENT * size) = V(g + c * size);
            }
            AT(half_density)[i] = density[i];
            AT(half_energy)[i] = made.energy[c];
        }
        NAME(grow)(s, i, c, size, &leaf, &made);
    }
}

/* A block with the sizes that the compiler knows: loops over few coordinates are none. Each stands
   once, for all that call it. */
#define SIZED(of, n, size)                                                                       \
    __attribute__((noinline)) static void NAME(open_##of)(                                        \
        const Step *s, int64_t key, int64_t first) {                                              \
        NAME(open_block)(s, key, first, (int)(n), size);                                          \
    }                                                                                             \
    __attribute__((noinline)) static void NAME(close_##of)(                                       \
        const Step *s, int64_t key, const REAL *density, const REAL *gradient, int64_t first) {   \
        NAME(close_block)(s, key, density, gradient, first, (int)(n), size);                      \
    }
SIZED(one, BLOCK, LANES)
SIZED(two, BLOCK, 2 * LANES)
SIZED(many, BLOCK, s->size)
SIZED(rest, s->chains - first, s->size)

/* Blocks of chains, with the functions for their sizes. */
#define BLOCKS(body)                                             \
    for (int64_t first = 0; first < s->chains; first += BLOCK) { \
        if (s->chains - first < BLOCK)                           \
            body(rest)                                           \
        else if (s->size == LANES)                               \
            body(one)                                            \
        else if (s->size == 2 * LANES)                           \
            body(two)                                            \
        else                                                     \
            body(many)                                           \
    }

void NAME(open)(const Step *s) {
#define BODY(of) NAME(open_##of)(s, s->keys[0], first);
    BLOCKS(BODY)
#undef BODY
}

void NAME(close)(const Step *s, const REAL *density, const REAL *gradient) {
#define BODY(of) NAME(close_##of)(s, s->keys[0], density, gradient, first);
    BLOCKS(BODY)
#undef BODY
}

void NAME(turn)(Step *s, const REAL *density, const REAL *gradient) {
#define BODY(of)                                               \
    {                                                          \
        NAME(close_##of)(s, s->keys[0], density, gradient, first); \
        NAME(open_##of)(s, s->keys[1], first);                 \
    }
    BLOCKS(BODY)
#undef BODY
    s->keys++;
}

/* Numbers of scratch that a step needs. */
int64_t NAME(work_size)(int64_t size) { return (2 * BLOCK + 2) * size; }
