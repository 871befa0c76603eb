/* What becomes of a transition that has ended: a row among the draws, or a report to torch. */

/* Of a transition that has ended. */
#define STATISTICS 9
typedef struct {
    int64_t n_steps, depth;
    int diverging, reached;
    double acceptance_rate;
} Ended;

static void NAME(append)(
    const Step *s, const Sink *to, int64_t i, const REAL *draw, const Ended *ended) {
    const int64_t row = to->kept[i]++ - to->written[i];
    if (row >= to->rows) return;
    REAL *out = (REAL *)to->buffer + i * to->chain_stride + row * (s->kept_coordinates + STATISTICS);
    if (s->coordinates)
        for (int64_t k = 0; k < s->kept_coordinates; k++) out[k] = draw[s->coordinates[k]];
    else
        memcpy(out, draw, sizeof(REAL) * (size_t)s->kept_coordinates);
    out += s->kept_coordinates;
    /* In the order of STATISTICS in draws.py. */
    out[0] = AT(tree_density)[i];
    out[1] = (REAL)ended->acceptance_rate;
    out[2] = AT(tree_energy)[i];
    out[3] = AT(tree_energy)[i] - AT(initial_energy)[i];
    out[4] = (REAL)ended->depth;
    out[5] = (REAL)ended->n_steps;
    out[6] = (REAL)ended->diverging;
    out[7] = (REAL)ended->reached;
    out[8] = AT(step_size)[i];
}

/* Count the transition; its draw is kept if its number says so. */
static inline void NAME(count)(const Step *s, int64_t i, const REAL *draw, const Ended *ended) {
    const int64_t ordinal = ++s->transitions[i] - s->keep_from[i];
    if (ordinal > 0 && (s->thinning == 1 || ordinal % s->thinning == 0))
        NAME(append)(s, &s->draws, i, draw, ended);
    else if (ordinal <= 0 && s->before.buffer)
        NAME(append)(s, &s->before, i, draw, ended);
}

static inline void NAME(report)(const Step *s, int64_t i, const Ended *ended) {
    AT(log_density)[i] = AT(tree_density)[i];
    AT(acceptance_rate)[i] = (REAL)ended->acceptance_rate;
    AT(energy)[i] = AT(tree_energy)[i];
    AT(energy_error)[i] = AT(tree_energy)[i] - AT(initial_energy)[i];
    s->tree_depth[i] = ended->depth;
    s->reported_steps[i] = ended->n_steps;
    s->diverging[i] = (uint8_t)ended->diverging;
    s->reached[i] = (uint8_t)ended->reached;
}
