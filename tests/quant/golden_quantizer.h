/*
 * golden_quantizer.h - a quantizer without learned parameters, loaded from its plugin and driven by hand.
 * Its saved state must end with num_channels scales (float) and as many zero points (int32), behind { magic, channels, qmin,
 * qmax }.
 */
#ifndef GOLDEN_QUANTIZER_H
#define GOLDEN_QUANTIZER_H

#include "quant/golden_tensor.h"
#include "quant/quant.h"

#include <mqbench/numeric.h>

#include <dlfcn.h>
#include <float.h>
#include <math.h>

static inline const struct mqb_quantizer *quantizer_open(void **library, const char *file, const char *id)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", MQB_PLUGIN_DIR, file);
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct mqb_plugin_entry *entry = *library ? dlsym(*library, MQB_PLUGIN_SYMBOL) : NULL;
    for (uint32_t i = 0; entry && i < entry->num_components; i++) {
        if (strcmp(entry->components[i].id, id) == 0)
            return entry->components[i].vtable;
    }
    printf("no %s in %s: %s\n", id, path, entry ? "another plugin" : dlerror());
    return NULL;
}

/* "name=value ..." over the defaults. */
static inline void *quantizer_create(const struct mqb_quantizer *quantizer, const struct mqb_scheme *scheme,
                                     const char *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    void *self = NULL;
    char copy[256], *rest = copy;
    assert_int_equal(mqb_options_create(quantizer->options, quantizer->num_options, &options, &error), MQB_OK);
    snprintf(copy, sizeof(copy), "%s", settings);
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        if (mqb_options_set(options, word, equals + 1, "test", &error) != MQB_OK)
            fail_msg("%s", error.text);
    }
    if (quantizer->create(mqb_host_table(), scheme, options, &self, &error) != MQB_OK)
        fail_msg("%s", error.text);
    mqb_options_destroy(options);
    return self;
}

static inline void quantizer_observe(const struct mqb_quantizer *quantizer, void *self, const struct mqb_tensor_view *x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (quantizer->observe(self, x, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

static inline void quantizer_init(const struct mqb_quantizer *quantizer, void *self)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (quantizer->init(self, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

static inline struct mqb_qparams quantizer_qparams(const struct mqb_quantizer *quantizer, const void *self)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    if (quantizer->qparams(self, &qparams, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return qparams;
}

/* Puts scales and zero points in place of what calibration found. */
static inline void quantizer_put(const struct mqb_quantizer *quantizer, void *self, int32_t channels, const float *scale,
                                 const float *zero_point)
{
    struct mqb_error error = MQB_ERROR_INIT;
    size_t size = 0;
    assert_int_equal(quantizer->save(self, NULL, &size, &error), MQB_OK);
    assert_int_equal(size, 16 + 8 * (size_t)channels);
    char *state = malloc(size);
    assert_int_equal(quantizer->save(self, state, &size, &error), MQB_OK);
    for (int32_t c = 0; c < channels; c++) {
        int32_t z = (int32_t)zero_point[c];
        memcpy(state + 16 + 4 * c, &scale[c], 4);
        memcpy(state + 16 + 4 * (channels + c), &z, 4);
    }
    if (quantizer->load(self, state, size, &error) != MQB_OK)
        fail_msg("%s", error.text);
    free(state);
}

/* Forward, or backward if there is a dy: one slice a channel, or two uneven ones a tensor. */
static inline void quantizer_run(const struct mqb_quantizer *quantizer, const void *self, const struct mqb_scheme *scheme,
                                 int64_t n, const float *x, const float *dy, float *out)
{
    int64_t num = scheme->per_channel ? scheme->num_channels : 2, size = n / num;
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = scheme->per_channel ? i * size : i * (n / 3), end = scheme->per_channel ? begin + size : i ? n : n / 3;
        struct mqb_slice slice = {.struct_size = sizeof(slice), .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        slice.channel = scheme->per_channel ? (int32_t)i : 0;
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            quantizer->backward(self, &slice);
        } else {
            slice.y = out + begin;
            quantizer->forward(self, &slice);
        }
    }
}

#endif
