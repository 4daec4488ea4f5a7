/* normalize.c - from u8 to the floats that a network was trained on. */
#include "data/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct preset {
    const char *name;
    double mean[3], std[3]; /* of u8 / 255 */
};

static const struct preset presets[] = {
    {"imagenet", {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
    {"tf", {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}, /* u8 / 127.5 - 1 */
    {"unit", {0, 0, 0}, {1, 1, 1}},
    {"raw", {0, 0, 0}, {1 / 255.0, 1 / 255.0, 1 / 255.0}},
};
#define NUM_PRESETS (sizeof presets / sizeof presets[0])

/* Rounded to float once, at the end. A fourth channel repeats the third. */
static void set(struct mqb_normalize *normalize, const double mean[3], const double std[3])
{
    for (int c = 0; c < 4; c++) {
        int k = c < 3 ? c : 2;
        normalize->a[c] = (float)(1 / (255 * std[k]));
        normalize->b[c] = (float)(mean[k] == 0 ? 0 : -mean[k] / std[k]);
    }
}

/* "R,G,B" or one number for all channels, up to the end or to '/'. */
static const char *parse_three(const char *text, double out[3])
{
    for (int i = 0; i < 3; i++) {
        char *end;
        out[i] = strtod(text, &end);
        if (end == text || !isfinite(out[i]))
            return NULL;
        text = end;
        if (i == 0 && (*text == '\0' || *text == '/')) {
            out[1] = out[2] = out[0];
            return text;
        }
        if (i < 2 && *text++ != ',')
            return NULL;
    }
    return text;
}

mqb_status mqb_normalize_parse(const char *text, struct mqb_normalize *normalize, struct mqb_error *error)
{
    const char *names[NUM_PRESETS];
    if (strlen(text) >= sizeof normalize->text)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "normalization '%.40s...' is longer than %zu characters; write fewer digits",
                        text, sizeof normalize->text - 1);
    *normalize = (struct mqb_normalize){0};
    strcpy(normalize->text, text);
    for (size_t i = 0; i < NUM_PRESETS; i++) {
        names[i] = presets[i].name;
        if (strcmp(text, names[i]) == 0) {
            set(normalize, presets[i].mean, presets[i].std);
            return MQB_OK;
        }
    }
    if (strncmp(text, "mean:", 5) != 0) {
        const char *nearest = mqb_nearest(text, names, NUM_PRESETS);
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "unknown normalization '%s'%s%s%s; expected imagenet, tf, unit, raw or mean:R,G,B/std:R,G,B", text,
                        nearest == NULL ? "" : ", did you mean '", nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'?");
    }
    double mean[3], std[3];
    const char *rest = parse_three(text + 5, mean);
    if (rest != NULL)
        rest = strncmp(rest, "/std:", 5) == 0 ? parse_three(rest + 5, std) : NULL;
    if (rest == NULL || *rest != '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "normalization '%s' cannot be read; expected mean:R,G,B/std:R,G,B with three numbers each", text);
    for (int c = 0; c < 3; c++) {
        if (mean[c] < -1 || mean[c] > 1)
            return mqb_fail(
                error, MQB_ERR_ARGUMENT,
                "normalization '%s': mean %g is beyond -1..1; mean and std are of images in 0..1, divide them by 255", text,
                mean[c]);
        if (!(std[c] > 1e-6) || std[c] > 1e6)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "normalization '%s': std %g is not a positive number near 1", text,
                            std[c]);
    }
    set(normalize, mean, std);
    return MQB_OK;
}
