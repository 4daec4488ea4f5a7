/*
 * pack.h - weights from ONNX order to the order in which the kernels read them.
 *
 * Packed: [class][group][block of one or two vectors of output channels][tap][run][block]. A block that is not full is
 * filled up with zeros. Depthwise: [class][tap][channels, rounded up to a vector]. Narrow: [class][tap][run][channels].
 * Winograd: [position][block][run][block].
 * T = R * S positions; a group of the weight tensor is a matrix of K / groups rows with (c, t) along a row.
 */

enum { WINOGRAD_POSITIONS = 16, WINOGRAD_TAPS = 9 };

static inline int32_t block_vectors(int32_t left)
{
    return left <= VEC_LANES ? 1 : 2;
}

static void pack_depthwise(const struct native_pass *pass, const struct native_class *class, size_t taps, const float *weight,
                           float *target)
{
    const size_t width = native_round_up((size_t)pass->out_c, VEC_LANES);

    for (int32_t t = 0; t < class->num_taps; t++) {
        for (size_t c = 0; c < width; c++) {
            *target++ = c < (size_t)pass->out_c ? weight[c * taps + (size_t)class->tap_index[t]] : 0.0f;
        }
    }
}

/* [tap][k][c] */
static void pack_narrow(const struct native_pass *pass, const struct native_class *class, int32_t taps, const float *weight,
                        float *target)
{
    for (int32_t t = 0; t < class->num_taps; t++) {
        for (int32_t i = 0; i < pass->run * pass->out_c; i++) {
            *target++ = weight[(size_t)i * (size_t)taps + (size_t)class->tap_index[t]];
        }
    }
}

/* A group for the forward pass: rows k become lanes, the columns (c, t) go to row (t, c). Holds for fused passes as well. */
static float *pack_forward_group(const struct native_pass *pass, int32_t taps, const float *weight, float *target)
{
    const int32_t channels = pass->group_in, columns = channels * taps;

    for (int32_t k = 0; k < pass->group_out;) {
        const int32_t vectors = block_vectors(pass->group_out - k), block = vectors * VEC_LANES;

        for (int32_t v = 0; v < vectors; v++) {
            const float *source = weight + (size_t)(k + v * VEC_LANES) * (size_t)columns;
            const int32_t num_rows = native_min(pass->group_out - k - v * VEC_LANES, VEC_LANES);
            int32_t c = 0, t = 0;

            for (int32_t column = 0; column < columns; column += VEC_LANES) {
                const int32_t part = native_min(columns - column, VEC_LANES);
                vec rows[VEC_LANES];

                KERNEL_UNROLL
                for (int32_t i = 0; i < VEC_LANES; i++) {
                    rows[i] = i < num_rows ? vec_load_part(source + (size_t)i * (size_t)columns + column, part) : vec_zero();
                }
                vec_transpose(rows);
                for (int32_t i = 0; i < part; i++) {
                    vec_store(target + ((size_t)t * (size_t)channels + (size_t)c) * (size_t)block + v * VEC_LANES, rows[i]);
                    if (++t == taps) {
                        t = 0;
                        c++;
                    }
                }
            }
        }
        target += (size_t)columns * (size_t)block;
        k += block;
    }
    return target;
}

/* Positions [0, count) of the kernels of `num_rows` channels, `step` floats from one to the next: a vector a position. */
KERNEL_INLINE void tap_vectors(const float *source, int32_t num_rows, size_t step, int32_t count, vec rows[VEC_LANES])
{
    KERNEL_UNROLL
    for (int32_t i = 0; i < VEC_LANES; i++) {
        rows[i] = i < num_rows ? vec_load_part(source + (size_t)i * step, count) : vec_zero();
    }
    vec_transpose(rows);
}

/* A group and class for backward-data: for each k, rows c become lanes; of the columns t the class has some. */
static float *pack_backward_group(const struct native_pass *pass, const struct native_class *class, int32_t taps,
                                  const float *weight, float *target)
{
    const int32_t channels = pass->group_out, run = pass->run;

    for (int32_t c = 0; c < channels;) {
        const int32_t vectors = block_vectors(channels - c), block = vectors * VEC_LANES;

        for (int32_t k = 0; k < run; k++) {
            for (int32_t v = 0; v < vectors; v++) {
                const int32_t begin = c + v * VEC_LANES, num_rows = native_min(channels - begin, VEC_LANES);
                const float *source = weight + ((size_t)k * (size_t)channels + (size_t)begin) * (size_t)taps;
                float *place = target + (size_t)k * (size_t)block + v * VEC_LANES;
                const size_t step = (size_t)run * (size_t)block;

                if (taps == 1) {
                    if (class->num_taps == 1) {
                        vec_store(place, vec_load_part(source, num_rows));
                    }
                    continue;
                }
                for (int32_t t = 0; t < class->num_taps;) { /* positions rise: take those within one vector at a time */
                    const int32_t first = class->tap_index[t], part = native_min(taps - first, VEC_LANES);
                    vec rows[VEC_LANES];

                    tap_vectors(source + first, num_rows, (size_t)taps, part, rows);
                    for (; t < class->num_taps && class->tap_index[t] < first + part; t++) {
                        vec_store(place + (size_t)t * step, rows[class->tap_index[t] - first]);
                    }
                }
            }
        }
        target += (size_t)class->num_taps * (size_t)run * (size_t)block;
        c += block;
    }
    return target;
}

/* G g G' of a kernel's nine vectors, row by row, to the vectors of 16 matrices: winograd.h. */
static void winograd_weight_vector(const vec g[WINOGRAD_TAPS], float *target, size_t matrix)
{
    vec rows[4][3];

    KERNEL_UNROLL
    for (int32_t j = 0; j < 3; j++) {
        const vec sum = vec_add(g[j], g[6 + j]);

        rows[0][j] = g[j];
        rows[1][j] = vec_scale(vec_add(sum, g[3 + j]), 0.5f);
        rows[2][j] = vec_scale(vec_sub(sum, g[3 + j]), 0.5f);
        rows[3][j] = g[6 + j];
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        float *row = target + (size_t)(4 * i) * matrix;
        const vec sum = vec_add(rows[i][0], rows[i][2]);

        vec_store(row, rows[i][0]);
        vec_store(row + matrix, vec_scale(vec_add(sum, rows[i][1]), 0.5f));
        vec_store(row + 2 * matrix, vec_scale(vec_sub(sum, rows[i][1]), 0.5f));
        vec_store(row + 3 * matrix, rows[i][2]);
    }
}

/* Packed: [position][block of one or two vectors of output channels][input channel][block]. */
static void pack_winograd(const struct native_pass *pass, const float *weight, int32_t transposed, float *target)
{
    const struct native_class *class = pass->classes;
    const size_t matrix = native_round_up((size_t)pass->out_c, VEC_LANES) * (size_t)pass->run;
    const size_t lane_step = (size_t)(transposed ? 1 : pass->in_c) * WINOGRAD_TAPS;
    const size_t run_step = (size_t)(transposed ? pass->out_c : 1) * WINOGRAD_TAPS;

    for (int32_t k = 0; k < pass->out_c;) {
        const int32_t vectors = block_vectors(pass->out_c - k), block = vectors * VEC_LANES;

        for (int32_t c = 0; c < pass->run; c++) {
            for (int32_t v = 0; v < vectors; v++) {
                const int32_t begin = k + v * VEC_LANES, num_rows = native_min(pass->out_c - begin, VEC_LANES);
                const float *source = weight + (size_t)c * run_step + (size_t)begin * lane_step;
                vec taps[WINOGRAD_TAPS], g[WINOGRAD_TAPS];

                for (int32_t first = 0; first < WINOGRAD_TAPS; first += VEC_LANES) {
                    vec rows[VEC_LANES];
                    const int32_t part = native_min(WINOGRAD_TAPS - first, VEC_LANES);

                    tap_vectors(source + first, num_rows, lane_step, part, rows);
                    for (int32_t t = 0; t < part; t++) {
                        taps[first + t] = rows[t];
                    }
                }
                for (int32_t t = 0; t < WINOGRAD_TAPS; t++) {
                    g[(class->tap_h[t] - class->min_h) * 3 + class->tap_w[t] - class->min_w] = taps[class->tap_index[t]];
                }
                winograd_weight_vector(g, target + (size_t)c * (size_t)block + v * VEC_LANES, matrix);
            }
        }
        target += (size_t)pass->run * (size_t)block;
        k += block;
    }
}

static void pack_float(const struct native_pass *pass, const struct mqb_conv_shape *shape, const float *weight,
                       int32_t transposed, void *packed)
{
    const int32_t taps = shape->r * shape->s;
    const size_t group_size = (size_t)(shape->k / shape->groups) * (size_t)(shape->c / shape->groups) * (size_t)taps;

    for (int32_t i = 0; i < pass->num_classes; i++) {
        const struct native_class *class = &pass->classes[i];
        float *target = (float *)packed + class->weight_offset / sizeof(float);

        if (pass->depthwise) {
            pack_depthwise(pass, class, (size_t)taps, weight, target);
            continue;
        }
        if (pass->narrow) {
            pack_narrow(pass, class, taps, weight, target);
            continue;
        }
        if (pass->winograd) {
            pack_winograd(pass, weight, transposed, target);
            continue;
        }
        for (int32_t g = 0; g < pass->groups; g++) {
            const float *source = weight + (size_t)g * group_size;

            target = transposed ? pack_backward_group(pass, class, taps, source, target)
                                : pack_forward_group(pass, taps, source, target);
        }
    }
}

/* Depthwise: one 16-bit weight a lane of 32 bits. */
static void pack_wide(const struct native_pass *pass, const struct mqb_conv_shape *shape, const int16_t *weight, void *packed)
{
    const int32_t taps = shape->r * shape->s;
    const size_t width = native_round_up((size_t)pass->out_c, VEC_LANES);
    int32_t *target = packed;

    for (int32_t t = 0; t < taps; t++) {
        for (size_t c = 0; c < width; c++) {
            *target++ = c < (size_t)pass->out_c ? weight[c * (size_t)taps + (size_t)t] : 0;
        }
    }
}

/* Depthwise: one 16-bit weight a lane of 32 bits. Else quads of channels (fused: of (s, c)), four bytes a lane. */
static void pack_integer(const struct native_pass *pass, const struct mqb_conv_shape *shape, const int8_t *weight, void *packed)
{
    const struct native_class *class = pass->classes;
    const int32_t taps = shape->r * shape->s, channels = pass->group_in;
    const int32_t values = pass->fused ? shape->s * channels : channels;

    if (pass->depthwise) {
        const size_t width = native_round_up((size_t)pass->out_c, VEC_LANES);
        int32_t *target = packed;

        for (int32_t t = 0; t < taps; t++) {
            for (size_t c = 0; c < width; c++) {
                *target++ = c < (size_t)pass->out_c ? weight[c * (size_t)taps + (size_t)t] : 0;
            }
        }
        return;
    }
    const size_t vector = VEC_LANES * IVEC_QUAD_SIZE;
    uint8_t *target = packed;
    for (int32_t g = 0; g < pass->groups; g++) {
        for (int32_t k = 0; k < pass->group_out;) {
            const int32_t vectors = block_vectors(pass->group_out - k);
            const size_t block = (size_t)vectors * vector;

            for (int32_t lane = 0; lane < vectors * VEC_LANES; lane++) {
                const int32_t used = k + lane < pass->group_out;
                const int8_t *source =
                    weight + ((size_t)g * (size_t)pass->group_out + (size_t)(k + lane)) * (size_t)channels * (size_t)taps;
                uint8_t *column = target + (size_t)(lane / VEC_LANES) * vector;

                for (int32_t t = 0; t < class->num_taps; t++) {
                    for (int32_t u = 0; u < pass->run; u++) {
                        int8_t four[4] = { 0, 0, 0, 0 };

                        for (int32_t j = 0; used && j < 4 && u * 4 + j < values; j++) {
                            const int32_t value = u * 4 + j;
                            const int32_t c = pass->fused ? value % channels : value;
                            const int32_t tap = class->tap_index[t] + (pass->fused ? value / channels : 0);

                            four[j] = source[(size_t)c * (size_t)taps + (size_t)tap];
                        }
                        iweight_pack(column + ((size_t)t * (size_t)pass->run + (size_t)u) * block, lane % VEC_LANES, four);
                    }
                }
            }
            target += (size_t)class->num_taps * (size_t)pass->run * block;
            k += vectors * VEC_LANES;
        }
    }
}
