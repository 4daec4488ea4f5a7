/*
 * observer.c - family 2: observers over three batches, through the host service; power-of-two rounding.
 */
#include "golden.h"

#include <mqbench/numeric.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SCALE, OBJECTIVE }; /* what is compared */

static const struct mapping {
    const char *library, *algo; /* of the file */
    const char *name;           /* ours; NULL: not shipped */
    const char *compat;         /* the released program's; NULL: the same */
    double tolerance;           /* of the scale, relative */
    int compared;
} mappings[] = {
    {"paper", "MinMaxObserver", "minmax", "paper_minmax", 0.0, SCALE},
    {"paper", "AverageMinMaxObserver", "ema_minmax", "paper_average_minmax", 1e-6, SCALE},
    {"paper", "ClipStdObserver", "clip_std", "paper_clip_std", 1e-6, SCALE},
    {"paper", "BatchMeanMaxObserver", "ema_minmax", "paper_batch_mean_max", 1e-6, SCALE},
    {"paper", "QuantileMovingAverageObserver", "percentile_999", "paper_percentile_999", 1e-6, SCALE},
    {"paper", "LSQObserver", "lsq", "paper_lsq", 1e-6, SCALE},
    {"paper", "AverageLSQObserver", "lsq", "paper_average_lsq", 1e-6, SCALE},
    {"paper", "LSQPlusObserver", "lsqplus", "paper_lsqplus", 1e-6, SCALE},
    {"paper", "MSEObserver", "mse", "paper_mse", 1e-3, OBJECTIVE},
    {"paper", "KLDObserver", "kl", "paper_kl", 1e-6, SCALE},
    {"torch", "MovingAverageMinMaxObserver", "ema_minmax", NULL, 1e-6, SCALE},
    {"toolkit", "MinMaxObserver", "minmax", NULL, 0.0, SCALE},
    {"toolkit", "EMAMinMaxObserver", "ema_minmax", NULL, 1e-6, SCALE},
    {"toolkit", "EMAQuantileObserver", "ema_quantile_99", NULL, 1e-6, SCALE},
    {"toolkit", "ClipStdObserver", "clip_std", "toolkit_clip_std", 1e-6, SCALE},
    {"toolkit", "LSQObserver", "lsq", "toolkit_lsq", 1e-6, SCALE},
    {"toolkit", "LSQPlusObserver", "lsqplus", "toolkit_lsqplus", 1e-6, SCALE},
    {"toolkit", "MSEObserver", "mse", NULL, 0.0, SCALE},
    {"toolkit", "EMAMSEObserver", "ema_mse", NULL, 1e-6, SCALE},
    {"toolkit", "MinMaxFloorObserver", NULL, "MinMaxFloor observer", 0.0, SCALE},
    {"toolkit", "PoTModeObserver", NULL, "PoTMode observer", 0.0, SCALE},
};

static struct mqb_scheme scheme_of(const json_t *item, int32_t channels)
{
    const json_t *json = json_object_get(item, "scheme");
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = MQB_ROLE_WEIGHT, .num_channels = channels};
    scheme.bits = (int32_t)golden_int(item, "bits");
    scheme.qmin = (int32_t)golden_int(item, "quant_min");
    scheme.qmax = (int32_t)golden_int(item, "quant_max");
    scheme.symmetric = (uint8_t)golden_int(json, "symmetric");
    scheme.per_channel = channels > 1;
    return scheme;
}

static double squared_error(const struct mqb_scheme *scheme, float scale, double zero, const struct golden_tensor *x)
{
    double sum = 0.0;
    for (int64_t i = 0; i < x->size; i++) {
        double q = fmin(fmax((double)rintf(x->data[i] * (1.0f / scale)) + zero, scheme->qmin), scheme->qmax);
        double e = (q - zero) * (double)scale - (double)x->data[i];
        sum += e * e;
    }
    return sum;
}

/* Scales and zero points against what a file has under `json`: { scale, zero_point, scale_pot }. */
static void compare(struct golden_case *c, const struct mapping *map, const struct mqb_scheme *scheme, const json_t *json,
                    const char *what, const struct golden_tensor *x, const float *scale, const int32_t *zero)
{
    struct golden_tensor want = golden_need(c, json, "scale"), want_zero = golden_need(c, json, "zero_point");
    struct golden_tensor pot = golden_tensor_of(c, json_object_get(json, "scale_pot"));
    if (want.size != scheme->num_channels || want_zero.size != scheme->num_channels) {
        golden_problem(c, "%s: %lld scales, expected %d", what, (long long)want.size, (int)scheme->num_channels);
        return;
    }
    for (int32_t k = 0; k < scheme->num_channels; k++) {
        /* The released LSQ observers leave the clip to the quantizer, ours do it. */
        float z = fminf(fmaxf(want_zero.data[k], (float)scheme->qmin), (float)scheme->qmax);
        if (map->compared == OBJECTIVE) {
            double got = squared_error(scheme, scale[k], zero[k], x), best = squared_error(scheme, want.data[k], (double)z, x);
            if (!(fabs(got - best) <= map->tolerance * best))
                golden_problem(c, "%s: squared error %.9g, expected %.9g", what, got, best);
            continue;
        }
        if (!(fabs((double)scale[k] - (double)want.data[k]) <= map->tolerance * (double)want.data[k]))
            golden_problem(c, "%s: scale[%d] = %.9g, expected %.9g", what, (int)k, (double)scale[k], (double)want.data[k]);
        if ((float)zero[k] != z)
            golden_problem(c, "%s: zero_point[%d] = %d, expected %g", what, (int)k, (int)zero[k], (double)z);
        if (pot.data && mqb_pot_round(scale[k]) != pot.data[k])
            golden_problem(c, "%s: power of two %g, expected %g", what, (double)mqb_pot_round(scale[k]), (double)pot.data[k]);
    }
}

static void replay(struct golden_case *c, const struct mapping *map)
{
    const struct mqb_host *host = mqb_host_table();
    const json_t *batches = json_object_get(c->item, "batches"), *first = json_array_get(batches, 0);
    const char *name = c->compat && map->compat ? map->compat : map->name;
    int64_t channels =
        (int64_t)golden_size(first, "scale"); /* some of the released observers have one scale, whatever they are asked */
    struct mqb_observer *observers[2] = {NULL, NULL}; /* without and with power-of-two scales */
    struct mqb_scheme scheme = scheme_of(c->item, (int32_t)channels), rounded = scheme;
    if (channels < 1 || channels > 4096) {
        golden_problem(c, "the file has %lld scales", (long long)channels);
        return;
    }
    float *scale = golden_alloc(c, channels, sizeof(float));
    int32_t *zero = golden_alloc(c, channels, sizeof(int32_t));
    rounded.pot_scale = 1;
    if (!golden_ok(c, host->observer_create(name, &scheme, &observers[0], &c->error)) ||
        !golden_ok(c, host->observer_create(name, &rounded, &observers[1], &c->error)))
        goto out;
    for (size_t i = 0; i < json_array_size(batches); i++) {
        const json_t *batch = json_array_get(batches, i), *flag = json_object_get(batch, "with_pot_scale_flag");
        struct golden_tensor x = golden_need(c, batch, "input");
        struct mqb_tensor_view view = golden_view(&x);
        char what[64];
        snprintf(what, sizeof(what), "batch %zu", i);
        if (!golden_ok(c, host->observer_observe(observers[0], &view, &c->error)) ||
            !golden_ok(c, host->observer_observe(observers[1], &view, &c->error)) ||
            !golden_ok(c, host->observer_qparams(observers[0], scale, zero, &c->error)))
            break;
        compare(c, map, &scheme, batch, what, &x, scale, zero);
        if (!flag)
            continue;
        snprintf(what, sizeof(what), "batch %zu, power of two", i);
        /* The toolkit rounds the scale last, and so do our quantizers under compat. */
        bool last = c->compat && strncmp(name, "toolkit_lsq", 11) != 0;
        for (int64_t k = 0; last && k < channels; k++)
            scale[k] = mqb_pot_round(scale[k]);
        if (!last && !golden_ok(c, host->observer_qparams(observers[1], scale, zero, &c->error)))
            break;
        compare(c, map, &rounded, flag, what, &x, scale, zero);
    }
out:
    host->observer_destroy(observers[0]);
    host->observer_destroy(observers[1]);
}

/* 2^rne(log2 s); the gradient, straight through the rounding, is the result over s. */
static void pot_rounding(struct golden_case *c)
{
    struct golden_tensor x = golden_need(c, c->item, "input"), y = golden_need(c, c->item, "expected.output");
    struct golden_tensor dy = golden_need(c, c->item, "grad_output"), dx = golden_need(c, c->item, "expected.grad_input");
    if (c->problem[0] || y.size != x.size || dy.size != x.size || dx.size != x.size)
        return;
    for (int64_t i = 0; i < x.size; i++) {
        float got = mqb_pot_round(x.data[i]), gradient = dy.data[i] * (got / x.data[i]);
        if (got != y.data[i])
            golden_problem(c, "%.9g -> %.9g, expected %.9g", (double)x.data[i], (double)got, (double)y.data[i]);
        if (!(fabsf(gradient - dx.data[i]) <= 1e-6f * fabsf(dx.data[i])))
            golden_problem(c, "gradient at %.9g: %.9g, expected %.9g", (double)x.data[i], (double)gradient, (double)dx.data[i]);
    }
}

void golden_observer_case(struct golden_case *c)
{
    const char *algo = golden_text(c->item, "algo"), *library = golden_text(c->item, "library");
    if (strcmp(algo, "pot_quantization") == 0) {
        pot_rounding(c);
        return;
    }
    if (strcmp(algo, "pot_quantization_floor") == 0) {
        c->not_shipped = "power-of-two scales rounded down";
        return;
    }
    const json_t *first = json_array_get(json_object_get(c->item, "batches"), 0);
    if (golden_int(json_object_get(c->item, "scheme"), "symmetric") && golden_size(first, "zero_point") > 0 &&
        golden_at(c, first, "zero_point", 0) != 0) {
        c->not_shipped = "symmetric unsigned codes around a middle zero point";
        return;
    }
    for (size_t i = 0; i < sizeof(mappings) / sizeof(mappings[0]); i++) {
        const struct mapping *map = &mappings[i];
        if (strcmp(map->algo, algo) != 0 || strcmp(map->library, library) != 0)
            continue;
        if (map->name)
            replay(c, map);
        else
            c->not_shipped = map->compat;
        return;
    }
    golden_problem(c, "no row of observer.c replays \"%s\" of \"%s\"", algo, library);
}
