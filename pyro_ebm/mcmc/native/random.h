/* Random numbers of the kernels in C: every chain has a stream of its own at every step's key. */

/* Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators. */
static inline uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

#define GOLDEN 0x9E3779B97F4A7C15u

/* The numbers of a stream in their order: two for the decisions of a step, then its momenta. */
enum { OF_LEAF = 1, OF_JOIN, MOMENTA = OF_JOIN };

static inline uint64_t stream_of(int64_t key, int64_t chain) {
    return mixed((uint64_t)key + mixed((uint64_t)chain + GOLDEN));
}

static inline uint64_t bits_at(uint64_t stream, int64_t place) {
    return mixed(stream + (uint64_t)place * GOLDEN);
}

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

static inline int64_t layer_of(uint64_t bits) { return (int64_t)(bits & (LAYERS - 1)); }

static inline double within(uint64_t bits) {
    return (double)(int64_t)(bits >> 11) / 9007199254740992.0 * edges[layer_of(bits)];
}

/* The normal number that begins with these bits, which lie outside of what a layer holds whole. */
static double rare_normal(uint64_t bits) {
    uint64_t stream = mixed(bits + GOLDEN);
    for (;; bits = next_bits(&stream)) {
        const int64_t layer = layer_of(bits);
        const double sign = bits >> 8 & 1 ? -1 : 1;
        double x = within(bits);
        if (x < edges[layer + 1]) return sign * x;
        if (layer == 0) {
            double y;
            do {
                x = -log(next_uniform(&stream)) / EDGE;
                y = -log(next_uniform(&stream));
            } while (2 * y < x * x);
            return sign * (x + EDGE);
        }
        const double low = heights[layer], high = heights[layer + 1];
        if (low + next_uniform(&stream) * (high - low) < exp(-0.5 * x * x)) return sign * x;
    }
}

/* A uniform number in [0, 1), as fine as REAL has them; the lowest bits take no part. */
static inline REAL NAME(uniform)(uint64_t bits) {
    return (REAL)(int64_t)(bits >> (64 - DIGITS)) / (REAL)((int64_t)1 << DIGITS);
}

#define TOGETHER _Pragma("omp simd") for (int64_t k = 0; k < LANES; k++)

/* dim standard normal numbers of one chain, and zeros up to whole vectors. */
static inline void NAME(normals)(uint64_t stream, int64_t dim, REAL *out) {
    for (int64_t first = 0; first < dim; first += LANES) {
        uint64_t bits[LANES];
        double x[LANES];
        int64_t rare[LANES], any_rare = 0;
        TOGETHER bits[k] = bits_at(stream, MOMENTA + 1 + first + k);
        TOGETHER x[k] = within(bits[k]);
        TOGETHER rare[k] = (first + k < dim) & (x[k] >= edges[layer_of(bits[k]) + 1]);
        TOGETHER x[k] *= (double)(1 - (int64_t)(bits[k] >> 7 & 2));
        TOGETHER out[first + k] = (REAL)(first + k < dim ? x[k] : 0);
        for (int64_t k = 0; k < LANES; k++) any_rare |= rare[k];
        for (int64_t k = 0; k < LANES && any_rare; k++)
            if (rare[k]) out[first + k] = (REAL)rare_normal(bits[k]);
    }
}

/* What chains draw at a step, for tests: momenta [dim, chains], where they begin, and uniform
   numbers [3, chains]: for the direction of a half, a leaf, and a join. */
void NAME(drawn)(
    int64_t key, int64_t dim, int64_t chains, REAL *momenta, REAL *uniforms, REAL *work) {
    for (int64_t c = 0; c < chains; c++) {
        const uint64_t stream = stream_of(key, c), leaf = bits_at(stream, OF_LEAF);
        NAME(normals)(stream, dim, work);
        for (int64_t d = 0; d < dim; d++) momenta[d * chains + c] = work[d];
        uniforms[c] = leaf & 1 ? 0 : 1 - (REAL)1 / ((int64_t)1 << DIGITS);
        uniforms[chains + c] = NAME(uniform)(leaf);
        uniforms[2 * chains + c] = NAME(uniform)(bits_at(stream, OF_JOIN));
    }
}
