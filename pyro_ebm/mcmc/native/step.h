/* What a step of NUTS works on, as native_nuts.py lays it out. */

#ifndef STEP_H
#define STEP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Chains whose leaves are weighed together. */
#define BLOCK 16
#define VECTOR_BYTES 64
/* Rows of checkpoints: see trajectory.py. Row 0 is not used here. */
#define TREE 1
#define FIRST_ROW 2
#define TREE_ACROSS (FIRST_ROW + 1)
#define MAX_ENERGY_ERROR 1000
#define INLINE __attribute__((always_inline))

enum { DIAGONAL, DENSE, LOW_RANK };

/* A chain's vectors: the two ends of the trajectory, the draws from the tree and from the new half,
   the sums of their momenta, and the latest draw that ended a transition. */
enum { POSITION, MOMENTUM, FORCE, NUMBERS_OF_END };
enum {
    TREE_POSITION = 2 * NUMBERS_OF_END,
    TREE_GRADIENT,
    HALF_POSITION,
    HALF_GRADIENT,
    TREE_SUM,
    HALF_SUM,
    LATEST,
    VECTORS
};

/* Where draws go, [chains, rows, coordinates and statistics], of which the first ``written`` rows
   of a chain have left the buffer. */
typedef struct {
    void *buffer;
    int64_t *kept;
    const int64_t *written;
    int64_t rows, chain_stride;
} Sink;

typedef struct {
    /* ``size`` is dim, filled up to whole vectors. */
    int64_t chains, dim, size, rows, metric, rank;
    int64_t step_stride, published_version, published_depth, thinning, kept_coordinates;
    /* [chains, VECTORS, size] and [chains, rows, 2, size] */
    void *vectors, *checkpoints;
    /* [chains] */
    void *tree_density, *tree_energy, *half_density, *half_energy;
    void *tree_weight, *half_weight, *initial_energy, *acceptance_sum, *step_size;
    int64_t *leaf, *depth, *max_depth, *n_steps, *version;
    uint8_t *fresh, *forward, *turning;
    /* What is reported of the latest transition [chains]. */
    void *log_density, *acceptance_rate, *energy, *energy_error;
    int64_t *tree_depth, *reported_steps;
    uint8_t *diverging, *reached;
    /* Where the gradient is needed [dim, chains], and scratch. */
    void *next, *work, *along;
    /* Settings: step sizes [chains] or one, and the metric's arrays, by version; for a dense
       metric L and its transpose. */
    void *published_step, *scale, *factor, *transposed, *directions, *stretch;
    /* One a step. */
    const int64_t *keys;
    /* Unless NULL: what counts transitions [chains] and decides which of them are kept. */
    int64_t *transitions;
    const int64_t *keep_from, *coordinates;
    Sink draws, before;
} Step;

static inline int popcount(int64_t n) { return __builtin_popcountll((unsigned long long)n); }

static inline int trailing_ones(int64_t n) { return __builtin_ctzll(~(unsigned long long)n); }

#endif
