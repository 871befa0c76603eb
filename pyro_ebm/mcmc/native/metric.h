/* The metric: velocities L p and forces L^T g of one chain, with the version that it is using. */

/* out = sum over j of in[j] times row j; out is not in. */
static inline void NAME(combine)(
    const REAL *rows, int64_t number, int64_t size, const REAL *in, REAL *out) {
    EACH {
        NAME(Vector) sum[4] = {{0}};
        int64_t j = 0;
        for (; j + 4 <= number; j += 4)
            for (int k = 0; k < 4; k++) sum[k] += in[j + k] * CONST_V(rows + (j + k) * size);
        for (; j < number; j++) sum[0] += in[j] * CONST_V(rows + j * size);
        V(out) = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
}

/* x + U (stretch - 1) U^T x, in place. */
static inline void NAME(stretch)(
    const REAL *directions, const REAL *stretch, int64_t rank, int64_t size, REAL *x, REAL *along) {
    for (int64_t r = 0; r < rank; r++) {
        NAME(Vector) sum = {0};
        EACH sum += CONST_V(directions + r * size) * V(x);
        along[r] = (stretch[r] - 1) * NAME(total)(sum);
    }
    for (int64_t r = 0; r < rank; r++)
        EACH V(x) += along[r] * CONST_V(directions + r * size);
}

/* out = L in; out is not in. */
static inline INLINE void NAME(velocity)(
    const Step *s, int64_t version, int64_t size, const REAL *in, REAL *out) {
    if (s->metric == DENSE) {
        NAME(combine)(AT(transposed) + version * s->dim * size, s->dim, size, in, out);
        return;
    }
    const REAL *scale = AT(scale) + version * size;
    if (s->metric == DIAGONAL) {
        EACH V(out) = CONST_V(scale) * CONST_V(in);
        return;
    }
    memcpy(out, in, sizeof(REAL) * (size_t)size);
    NAME(stretch)(AT(directions) + version * s->rank * size, AT(stretch) + version * s->rank,
                  s->rank, size, out, AT(along));
    EACH V(out) *= CONST_V(scale);
}

/* out = L^T in; out is not in. */
static inline INLINE void NAME(force)(
    const Step *s, int64_t version, int64_t size, const REAL *in, REAL *out) {
    if (s->metric == DENSE) {
        NAME(combine)(AT(factor) + version * s->dim * size, s->dim, size, in, out);
        return;
    }
    const REAL *scale = AT(scale) + version * size;
    EACH V(out) = CONST_V(scale) * CONST_V(in);
    if (s->metric == LOW_RANK)
        NAME(stretch)(AT(directions) + version * s->rank * size, AT(stretch) + version * s->rank,
                      s->rank, size, out, AT(along));
}
