/*
 * rules.c - which cases may deviate by design. A rule is an id of docs/deviations.md and says which cases it covers; it excuses
 * only what fails by default and passes with compat.
 */
#include "golden.h"

#include <stdio.h>
#include <string.h>

/* ---- what predicates ask ---- */

static bool is(const json_t *item, const char *key, const char *value)
{
    return strcmp(golden_text(item, key), value) == 0;
}

static bool scheme_has(const json_t *item, const char *key)
{
    return golden_int(json_object_get(item, "scheme"), key) != 0;
}

static bool affine(const json_t *item)
{
    return json_is_object(json_object_get(item, "scheme")) && !scheme_has(item, "symmetric");
}

static bool affine_pot(const json_t *item)
{
    return affine(item) && scheme_has(item, "pot_scale");
}

static bool pot(const json_t *item)
{
    return scheme_has(item, "pot_scale");
}

static bool weights_or_start(const json_t *item)
{
    return is(item, "role", "weight") || is(item, "phase", "init");
}

static bool observing(const json_t *item)
{
    return json_is_true(golden_get(item, "state_before.observer_enabled"));
}

static bool not_observing(const json_t *item)
{
    return !observing(item);
}

static bool training(const json_t *item)
{
    return is(item, "phase", "train");
}

static bool affine_init(const json_t *item)
{
    return affine(item) && is(item, "phase", "init");
}

static bool affine_tensor_training(const json_t *item)
{
    return affine(item) && !scheme_has(item, "per_channel") && is(item, "phase", "train");
}

static bool activation(const json_t *item)
{
    return is(item, "role", "activation");
}

static bool activation_or_pot(const json_t *item)
{
    return activation(item) || pot(item);
}

static bool adaptive_sign(const json_t *item)
{
    return activation(item) && scheme_has(item, "ada_sign");
}

static bool eight_bits(const json_t *item)
{
    return golden_int(item, "bits") == 8;
}

/* Anything but symmetric codes with one scale that may be any number. */
static bool not_plain(const json_t *item)
{
    return affine(item) || pot(item) || scheme_has(item, "per_channel");
}

/* Its bounds learn: below 8 bits, in training. */
static bool clipping_bounds(const json_t *item)
{
    return activation(item) && golden_int(item, "bits") < 8 && is(item, "phase", "train");
}

/* A batch whose sign, or at 8 bits whose range, is not that of the batches before. */
static bool other_batch(const json_t *item)
{
    const json_t *before = golden_get(item, "state_before.observer.min_val.data"),
                 *after = golden_get(item, "expected.state_after.observer.min_val.data");
    double low = json_number_value(json_array_get(before, 0)), now = json_number_value(json_array_get(after, 0));
    if (!activation(item) || !before)
        return false;
    return golden_int(item, "bits") == 8 || (low < 0) != (now < 0) ||
           golden_int(item, "quant_min") != golden_int(golden_get(item, "expected.state_after"), "quant_min") ||
           (low < 0 && golden_int(item, "quant_min") == 0);
}

static bool dropped_bias(const json_t *item)
{
    return golden_int(item, "strategy") == 4 && golden_int(json_object_get(item, "hyper"), "conv_bias");
}

static bool frozen(const json_t *item)
{
    int64_t strategy = golden_int(item, "strategy");
    return (strategy == 2 || strategy == 3) && !golden_int(json_object_get(item, "hyper"), "bn_unfrozen_by_hand");
}

/* Running statistics move: nothing is frozen or merged. */
static bool statistics_move(const json_t *item)
{
    int64_t strategy = golden_int(item, "strategy");
    return strategy == -1 || strategy == 4 || ((strategy == 2 || strategy == 3) && !frozen(item));
}

static bool quantized_trace(const json_t *item)
{
    return json_is_object(json_object_get(item, "quant"));
}

static bool paper(const json_t *item)
{
    return is(item, "library", "paper");
}

static bool toolkit(const json_t *item)
{
    return is(item, "library", "toolkit");
}

/* ---- rules: the first that covers a case gives its name to it ---- */

static const struct rule {
    const char *id;
    const char *algo; /* of the case; a last "*" stands for any ending */
    bool (*covers)(const json_t *item);
} rules[] = {
    {"D-LSQ-ZP-BACKWARD", "lsq", affine_tensor_training},
    {"D-LSQ-ZP-INIT", "lsq", affine_init},
    {"D-BN-VARIANCE", "lsq", quantized_trace},
    {"D-LSQ-POT", "toolkit_lsq*", pot},
    {"D-LSQPLUS-START", "toolkit_lsqplus", weights_or_start},
    {"D-POT-ZP", "dorefa", affine_pot},
    {"D-BATCH-RANGE", "dorefa", other_batch},
    {"D-PACT-BOUNDS", "pact", clipping_bounds},
    {"D-POT-ZP", "pact", affine_pot},
    {"D-BATCH-RANGE", "pact", other_batch},
    {"D-POT-ZP", "dsq", affine_pot},
    {"D-DSQ-SIGN", "dsq", adaptive_sign},
    {"D-OWN-GRID-8BIT", "qil", eight_bits},
    {"D-OWN-GRID-SCHEME", "qil", not_plain},
    {"D-QIL-ACTIVATION", "qil", activation},
    {"D-OWN-GRID-8BIT", "apot", eight_bits},
    {"D-OWN-GRID-SCHEME", "apot", not_plain},
    {"D-POT-ZP", "toolkit_dorefa", affine_pot},
    {"D-DOREFA-GRID", "toolkit_dorefa", training},
    {"D-POT-ZP", "toolkit_dsq", affine_pot},
    {"D-OBS-CLIP-STD", "toolkit_dsq", training},
    {"D-PACT-BOUNDS", "toolkit_pact", observing},
    {"D-PACT-FREEZE", "toolkit_pact", not_observing},
    {"D-PTQ-MSE", "toolkit_fixed_mse", activation_or_pot},
    {"D-PTQ-MSE", "toolkit_fixed_emamse", pot},
    {"D-POT-ZP", "toolkit_fixed_*", affine_pot},
    {"D-FOLD-BIAS", "bn_fold", dropped_bias},
    {"D-FOLD-FROZEN", "bn_fold", frozen},
    {"D-BN-VARIANCE", "bn_fold", statistics_move},
    {"D-LSQ-ZP-INIT", "bn_fold", affine},
    {"D-OBS-MINMAX", "MinMaxObserver", paper},
    {"D-OBS-AVERAGE", "AverageMinMaxObserver", paper},
    {"D-OBS-CLIP-STD", "ClipStdObserver", paper},
    {"D-OBS-CLIP-STD", "ClipStdObserver", toolkit},
    {"D-OBS-BATCH-MEAN", "BatchMeanMaxObserver", paper},
    {"D-OBS-PERCENTILE", "QuantileMovingAverageObserver", paper},
    {"D-OBS-LSQ", "LSQObserver", paper},
    {"D-OBS-LSQ", "LSQObserver", toolkit},
    {"D-OBS-LSQ", "AverageLSQObserver", paper},
    {"D-OBS-LSQPLUS", "LSQPlusObserver", paper},
    {"D-OBS-LSQPLUS", "LSQPlusObserver", toolkit},
    {"D-OBS-MSE", "MSEObserver", paper},
    {"D-OBS-KL", "KLDObserver", paper},
    {"D-POT-ZP", "MinMaxObserver", toolkit},
    {"D-POT-ZP", "MSEObserver", toolkit},
    {"D-POT-ZP", "EMA*", toolkit},
};

static bool algo_matches(const char *pattern, const char *algo)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*')
        return strncmp(pattern, algo, length - 1) == 0;
    return strcmp(pattern, algo) == 0;
}

const char *golden_rule_of(const json_t *item)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (algo_matches(rules[i].algo, golden_text(item, "algo")) && rules[i].covers(item))
            return rules[i].id;
    return NULL;
}

/* Is `id` a word of the text? */
static bool names(const char *text, const char *id)
{
    size_t length = strlen(id);
    for (const char *at = strstr(text, id); at; at = strstr(at + 1, id)) {
        char next = at[length];
        if (!(next == '-' || (next >= 'A' && next <= 'Z') || (next >= '0' && next <= '9')))
            return true;
    }
    return false;
}

mqb_status golden_rules_check(const char *document, struct mqb_error *error)
{
    void *text;
    size_t size;
    mqb_status status = mqb_file_read(document, 1 << 22, &text, &size, error);
    if (status != MQB_OK)
        return status;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && status == MQB_OK; i++)
        if (!names(text, rules[i].id))
            status = mqb_fail(error, MQB_ERR_NOT_FOUND,
                              "the rule %s is not in %s; a deviation without a row there is a failure: write it down, or take "
                              "the rule out",
                              rules[i].id, document);
    mqb_deallocate(text);
    return status;
}
