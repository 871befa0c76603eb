/* exp, log and sums without a branch, so that several numbers are worked on at once. */

#define UNROLL _Pragma("GCC unroll 18")

/* exp(x) for x <= 0, 0 below LOWEST, of a block. Three loops, since the compiler makes vectors of
   none that clamps what it goes on with. */
static inline void NAME(decay)(const REAL *x, REAL *out) {
    REAL inside[BLOCK];
    ALL inside[c] = x[c] > LOWEST ? x[c] : LOWEST;
    ALL {
        const int32_t n = (int32_t)(inside[c] * (REAL)1.4426950408889634 - (REAL)0.5);
        const REAL rest = (inside[c] - n * (REAL)0.693145751953125) - n * (REAL)1.42860682030941723e-6;
        REAL sum = 1;
        UNROLL for (int k = EXP_TERMS; k > 0; k--) sum = 1 + sum * rest / k;
        union {
            BITS bits;
            REAL value;
        } power = {.bits = (BITS)(n + BIAS) << MANTISSA};
        out[c] = sum * power.value;
    }
    ALL out[c] = x[c] > LOWEST ? out[c] : 0;
}

/* log(1 + t) for 0 <= t <= 1. */
static inline REAL NAME(log_one_plus)(REAL t) {
    const REAL ratio = t / (2 + t), square = ratio * ratio;
    REAL sum = 0;
    UNROLL for (int k = LOG_TERMS; k >= 0; k--) sum = sum * square + (REAL)1 / (2 * k + 1);
    return 2 * ratio * sum;
}

/* -|a - b|, infinite where it is no number. */
static inline REAL NAME(minus_distance)(REAL a, REAL b) {
    const REAL apart = a > b ? b - a : a - b;
    return apart == apart ? apart : -INFINITY;
}

/* Several coordinates of one chain, wherever they lie; arrays are padded to whole vectors. */
typedef REAL NAME(Vector)
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(Half) __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef REAL NAME(Quarter) __attribute__((vector_size(VECTOR_BYTES / 4)));
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(REAL)))
#define V(array) (*(NAME(Vector) *)((array) + at))
#define CONST_V(array) (*(const NAME(Vector) *)((array) + at))
#define EACH for (int64_t at = 0; at < size; at += LANES)

static inline REAL NAME(total)(NAME(Vector) x) {
    const union {
        NAME(Vector) whole;
        NAME(Half) half[2];
    } a = {x};
    const union {
        NAME(Half) whole;
        NAME(Quarter) half[2];
    } b = {a.half[0] + a.half[1]};
    const NAME(Quarter) quarter = b.half[0] + b.half[1];
    REAL sum = 0;
    UNROLL for (int k = 0; k < LANES / 4; k++) sum += quarter[k];
    return sum;
}
