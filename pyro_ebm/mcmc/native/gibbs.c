/* Sweeps of single-site Gibbs sampling over sites of two states that interact in pairs.

   With x in {0, 1}, log p(x) = sum_i x_i (offset_i + 1/2 sum_j weight_ij x_j) + constant, so that the
   log odds of x_i = 1 given the rest are offset_i + sum_j weight_ij x_j. Sites are drawn one after
   the other, which is as good as any blocks; chains are worked on together, a block of them at a
   time, so that every operation is one of vectors. Neighbours are summed when a site is drawn: to
   keep sums up to date would read as much, write besides, and drift.

   When site i is drawn its neighbours before it have their new states already. With the sum over
   these alone, log p of the new configuration is added up along the way.

   A tempered sweep draws from p^beta q^(1 - beta), q of independent sites with log odds base_i: then
   the log odds of site i are beta times those above plus (1 - beta) base_i. It goes through the
   sites and back, so that the way back is as likely as the way there: what a path of such sweeps
   has gone, one that goes down the same temperatures goes in reverse. */

#include <stdint.h>
#include <string.h>

/* Chains of a block: some vectors of the machine. */
#define BLOCK 32
/* Terms that are added in single precision before they go into the double. */
#define TERMS 32

typedef struct {
    int64_t dim, chains, sweeps;
    uint64_t key;
    /* [dim], and the neighbours of site i from first[i] to first[i + 1], ascending; those before
       site i end at middle[i]. */
    const float *offset;
    const int64_t *first, *middle;
    const int32_t *neighbour;
    const float *weight;
    /* [dim, chains], [dim, chains], [chains], and scratch [dim, BLOCK]. */
    const float *position;
    float *next;
    double *log_density;
    float *work;
    /* Of tempered sweeps: the inverse temperature [chains], and the log odds of the base [dim]. */
    const float *beta, *base;
} Sweep;

/* Neighbours as above, in double precision, and what is added up over them [chains]. */
typedef struct {
    int64_t dim, chains;
    const double *offset;
    const int64_t *first, *middle;
    const int32_t *neighbour;
    const double *weight;
    const float *position;
    double *sum;
} Sum;

#define ALL _Pragma("omp simd") for (int c = 0; c < BLOCK; c++)

/* Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators: seeds alone. */
static inline uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

#define GOLDEN 0x9E3779B97F4A7C15u

/* Each chain has a stream of its own: Blackman, Vigna (2021), Scrambled linear pseudorandom number
   generators, xoshiro128++. */
typedef struct {
    uint32_t a[BLOCK], b[BLOCK], c[BLOCK], d[BLOCK];
} Streams;

static void seed(Streams *s, uint64_t key, int64_t first_chain) {
    for (int c = 0; c < BLOCK; c++) {
        const uint64_t start = mixed(key + mixed((uint64_t)(first_chain + c) + GOLDEN));
        const uint64_t low = mixed(start + GOLDEN), high = mixed(start + 2 * GOLDEN);
        s->a[c] = (uint32_t)low | 1;
        s->b[c] = (uint32_t)(low >> 32);
        s->c[c] = (uint32_t)high;
        s->d[c] = (uint32_t)(high >> 32);
    }
}

static inline uint32_t turned(uint32_t x, int k) { return (x << k) | (x >> (32 - k)); }

/* The next number of stream c, strictly between 0 and 1. */
static inline float uniform(Streams *r, int c) {
    const uint32_t bits = turned(r->a[c] + r->d[c], 7) + r->a[c], shifted = r->b[c] << 9;
    r->c[c] ^= r->a[c];
    r->d[c] ^= r->b[c];
    r->b[c] ^= r->c[c];
    r->a[c] ^= r->d[c];
    r->c[c] ^= shifted;
    r->d[c] = turned(r->d[c], 11);
    return ((float)(int32_t)(bits >> 8) + 0.5f) * 5.9604644775390625e-8f;
}

typedef union {
    uint32_t bits;
    float value;
} Word;

/* exp(x) for -87 <= x <= 0 in single precision. */
static inline float decay(float x) {
    const int32_t n = (int32_t)(x * 1.44269504f - 0.5f);
    const float rest = (x - (float)n * 0.693145752f) - (float)n * 1.42860677e-6f;
    float sum = 1.0f / 720;
    sum = sum * rest + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    const Word power = {.bits = (uint32_t)(n + 127) << 23};
    return sum * power.value;
}

/* 1 with probability 1 / (1 + exp(-odds)), else 0. All by bits, as a branch would keep the compiler
   from taking many at once: the likelier state comes with probability 1 / (1 + exp(-|odds|)). */
static inline float drawn(float odds, float uniform) {
    const Word given = {.value = odds}, most = {.value = 87.0f};
    const uint32_t size = given.bits & 0x7FFFFFFFu, negative = given.bits >> 31;
    const Word bounded = {.bits = size < most.bits ? size : most.bits};
    const Word beyond = {.value = uniform * (1.0f + decay(-bounded.value)) - 1.0f};
    return (float)(int32_t)((beyond.bits >> 31) ^ negative);
}

static void sweep_block(const Sweep *s, Streams *streams, float *x, double *log_density) {
    Streams r = *streams;
    double total[BLOCK] = {0};
    float part[BLOCK] = {0};
    for (int64_t i = 0; i < s->dim; i++) {
        float before[BLOCK], odds[BLOCK];
        const float offset = s->offset[i];
        ALL before[c] = offset;
        for (int64_t k = s->first[i]; k < s->middle[i]; k++) {
            const float w = s->weight[k], *other = x + (int64_t)s->neighbour[k] * BLOCK;
            ALL before[c] += w * other[c];
        }
        ALL odds[c] = before[c];
        for (int64_t k = s->middle[i]; k < s->first[i + 1]; k++) {
            const float w = s->weight[k], *other = x + (int64_t)s->neighbour[k] * BLOCK;
            ALL odds[c] += w * other[c];
        }
        float *own = x + i * BLOCK;
        ALL {
            own[c] = drawn(odds[c], uniform(&r, c));
            part[c] += own[c] * before[c];
        }
        if (i % TERMS == TERMS - 1 || i == s->dim - 1) {
            ALL total[c] += part[c];
            ALL part[c] = 0;
        }
    }
    ALL log_density[c] = total[c];
    *streams = r;
}

/* Every site anew, in order or against it, at the inverse temperatures and log odds of the base. */
static void tempered_block(const Sweep *s, Streams *streams, float *x, const float *beta, int back) {
    Streams r = *streams;
    for (int64_t step = 0; step < s->dim; step++) {
        const int64_t i = back ? s->dim - 1 - step : step;
        float odds[BLOCK];
        const float offset = s->offset[i], base = s->base[i];
        ALL odds[c] = offset;
        for (int64_t k = s->first[i]; k < s->first[i + 1]; k++) {
            const float w = s->weight[k], *other = x + (int64_t)s->neighbour[k] * BLOCK;
            ALL odds[c] += w * other[c];
        }
        float *own = x + i * BLOCK;
        ALL {
            const float log_odds = base + beta[c] * (odds[c] - base);
            own[c] = drawn(log_odds, uniform(&r, c));
        }
    }
    *streams = r;
}

/* A block of chains into the scratch; places beyond the last chain hold zeros. */
static void take(const Sweep *s, int64_t begin, int64_t n) {
    if (n < BLOCK) memset(s->work, 0, sizeof(float) * (size_t)(s->dim * BLOCK));
    for (int64_t i = 0; i < s->dim; i++)
        memcpy(s->work + i * BLOCK, s->position + i * s->chains + begin, sizeof(float) * (size_t)n);
}

static void give(const Sweep *s, int64_t begin, int64_t n) {
    for (int64_t i = 0; i < s->dim; i++)
        memcpy(s->next + i * s->chains + begin, s->work + i * BLOCK, sizeof(float) * (size_t)n);
}

static inline int64_t in_block(int64_t begin, int64_t chains) {
    return chains - begin < BLOCK ? chains - begin : BLOCK;
}

void sweep(const Sweep *s) {
    for (int64_t begin = 0; begin < s->chains; begin += BLOCK) {
        const int64_t n = in_block(begin, s->chains);
        Streams streams;
        double log_density[BLOCK];
        seed(&streams, s->key, begin);
        take(s, begin, n);
        for (int64_t k = 0; k < s->sweeps; k++) sweep_block(s, &streams, s->work, log_density);
        give(s, begin, n);
        memcpy(s->log_density + begin, log_density, sizeof(double) * (size_t)n);
    }
}

/* So many times there and back. */
void tempered(const Sweep *s) {
    for (int64_t begin = 0; begin < s->chains; begin += BLOCK) {
        const int64_t n = in_block(begin, s->chains);
        Streams streams;
        float beta[BLOCK] = {0};
        seed(&streams, s->key, begin);
        memcpy(beta, s->beta + begin, sizeof(float) * (size_t)n);
        take(s, begin, n);
        for (int64_t k = 0; k < s->sweeps; k++) {
            tempered_block(s, &streams, s->work, beta, 0);
            tempered_block(s, &streams, s->work, beta, 1);
        }
        give(s, begin, n);
    }
}

/* sum_i x_i (offset_i + 1/2 sum_j weight_ij x_j). */
void sums(const Sum *s) {
    for (int64_t begin = 0; begin < s->chains; begin += BLOCK) {
        const int64_t n = in_block(begin, s->chains);
        double total[BLOCK] = {0};
        for (int64_t i = 0; i < s->dim; i++) {
            double before[BLOCK];
            const double offset = s->offset[i];
            const float *own = s->position + i * s->chains + begin;
            for (int64_t c = 0; c < n; c++) before[c] = offset;
            for (int64_t k = s->first[i]; k < s->middle[i]; k++) {
                const double w = s->weight[k];
                const float *other = s->position + (int64_t)s->neighbour[k] * s->chains + begin;
                for (int64_t c = 0; c < n; c++) before[c] += w * other[c];
            }
            for (int64_t c = 0; c < n; c++) total[c] += own[c] * before[c];
        }
        memcpy(s->sum + begin, total, sizeof(double) * (size_t)n);
    }
}
