/*
 * golden_grid.h - drives a quantizer by hand through its plugin: options, calibration, the slices of a step.
 */
#ifndef GOLDEN_GRID_H
#define GOLDEN_GRID_H

#include "quant/golden_tensor.h"
#include "quant/quant.h"

#include <mqbench/numeric.h>

#include <dlfcn.h>
#include <float.h>
#include <math.h>

struct grid_plugin {
    void *library;
    const struct mqb_quantizer *quantizer;
};

static inline bool grid_plugin_open(struct grid_plugin *plugin, const char *path)
{
    plugin->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin->library) {
        printf("%s\n", dlerror());
        return false;
    }
    const struct mqb_plugin_entry *entry = dlsym(plugin->library, MQB_PLUGIN_SYMBOL);
    plugin->quantizer = entry ? entry->components[0].vtable : NULL;
    return plugin->quantizer != NULL;
}

/* Options: pairs of name and value, ended by NULL. */
static inline struct mqb_options *grid_options(const struct mqb_quantizer *quantizer, const char *const *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    assert_int_equal(mqb_options_create(quantizer->options, quantizer->num_options, &options, &error), MQB_OK);
    for (; *settings; settings += 2) {
        if (mqb_options_set(options, settings[0], settings[1], "test", &error) != MQB_OK)
            fail_msg("%s", error.text);
    }
    return options;
}

static inline void *grid_create(const struct mqb_quantizer *quantizer, const struct mqb_scheme *scheme, bool paper)
{
    const char *const settings[] = {"compat", paper ? "paper" : "off", "rescale", "off", NULL};
    struct mqb_options *options = grid_options(quantizer, settings);
    struct mqb_error error = MQB_ERROR_INIT;
    void *self = NULL;
    if (quantizer->create(mqb_host_table(), scheme, options, &self, &error) != MQB_OK)
        fail_msg("%s", error.text);
    mqb_options_destroy(options);
    return self;
}

static inline void grid_calibrate(const struct mqb_quantizer *quantizer, void *self, const struct mqb_tensor_view *x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (quantizer->observe(self, x, &error) != MQB_OK || quantizer->init(self, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

/* Slices of a step: one a channel, or two uneven ones a tensor, so that sums are joined; with dy the backward pass. */
static inline void grid_run(const struct mqb_quantizer *quantizer, void *self, const struct mqb_scheme *scheme, int64_t n,
                            const float *x, const float *dy, float *out)
{
    int64_t num = scheme->per_channel ? scheme->num_channels : 2, size = n / num;
    double *sums = calloc((uint32_t)scheme->num_channels, MQB_QUANTIZER_MAX_SUMS * sizeof(double));
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = scheme->per_channel ? i * size : i * (n / 3), end = scheme->per_channel ? begin + size : i ? n : n / 3;
        int32_t channel = scheme->per_channel ? (int32_t)i : 0;
        struct mqb_slice slice = {
            .struct_size = sizeof(slice), .channel = channel, .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + (uint32_t)channel * quantizer->sums_per_channel;
            quantizer->backward(self, &slice);
        } else {
            slice.y = out + begin;
            quantizer->forward(self, &slice);
        }
    }
    if (dy && quantizer->reduce)
        quantizer->reduce(self, sums);
    if (dy && scheme->role == MQB_ROLE_WEIGHT && quantizer->complete)
        quantizer->complete(self, sums, out);
    free(sums);
}

#endif
