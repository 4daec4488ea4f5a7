/* build.c - networks that need no file: the table, and what all of them share. The families are in build_NAME.c. */
#include "graph/build.h"

#include <string.h>

#define MAX_EXTENT 16384
#define MAX_CLASSES 1000000
/* Streams of random numbers from here on, one a parameter, so that no other use of the seed meets them. */
#define FIRST_STREAM ((uint64_t)0x6d6f64656c << 24)

/* Name, family, member of the family, module of the linear layer, what it is (multiply-additions are those of convolutions and
 * the linear layer). The first is the default of `mqbench train`. */
#define MODELS(X)                                                                                                              \
    X("resnet20", mqb_build_cifar_resnet, 20, "linear", "ResNet for small images: 0.27 M parameters, 41 M MACs at 32 x 32")    \
    X("resnet32", mqb_build_cifar_resnet, 32, "linear", "ResNet for small images: 0.46 M parameters, 69 M MACs at 32 x 32")    \
    X("resnet44", mqb_build_cifar_resnet, 44, "linear", "ResNet for small images: 0.66 M parameters, 97 M MACs at 32 x 32")    \
    X("resnet56", mqb_build_cifar_resnet, 56, "linear", "ResNet for small images: 0.85 M parameters, 125 M MACs at 32 x 32")   \
    X("resnet110", mqb_build_cifar_resnet, 110, "linear", "ResNet for small images: 1.73 M parameters, 253 M MACs at 32 x 32") \
    X("resnet18", mqb_build_resnet, 18, "fc", "ResNet, basic blocks: 11.7 M parameters, 1.81 G MACs at 224 x 224")             \
    X("resnet50", mqb_build_resnet, 50, "fc", "ResNet, bottlenecks: 25.6 M parameters, 4.09 G MACs at 224 x 224")              \
    X("mobilenet_v2", mqb_build_mobilenet_v2, 0, "classifier.1",                                                               \
      "inverted residuals, depthwise, ReLU6: 3.50 M parameters, 0.30 G MACs at 224 x 224")                                     \
    X("efficientnet_lite0", mqb_build_efficientnet_lite, 0, "classifier",                                                      \
      "inverted residuals, depthwise, ReLU6: 4.65 M parameters, 0.39 G MACs at 224 x 224")                                     \
    X("regnetx_600mf", mqb_build_regnetx, 0, "head.fc",                                                                        \
      "bottlenecks, grouped convolutions: 6.20 M parameters, 0.60 G MACs at 224 x 224")

#define ENTRY(name, features, member, classifier, about) {name, features, member, classifier, about},
#define NAME(name, ...) name,
static const struct mqb_model models[] = {MODELS(ENTRY)};
static const char *const model_names[] = {MODELS(NAME) NULL};
#define NUM_MODELS (sizeof(models) / sizeof(models[0]))

static const struct mqb_model *find_model(const char *name)
{
    for (size_t i = 0; i < NUM_MODELS; i++) {
        if (strcmp(models[i].name, name) == 0) {
            return &models[i];
        }
    }
    return NULL;
}

static mqb_status fail_unknown(const char *name, struct mqb_error *error)
{
    char list[512] = "";
    size_t used = 0;
    for (size_t k = 0; k < NUM_MODELS && used < sizeof(list); k++) {
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", k ? ", " : "", models[k].name);
    }
    const char *nearest = mqb_nearest(name, model_names, NUM_MODELS);
    return mqb_fail(error, MQB_ERR_NOT_FOUND,
                    "there is no built-in network '%s'%s%s%s; known are %s, or the path of an ONNX file", name,
                    nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "", list);
}

const char *const *mqb_model_names(void)
{
    return model_names;
}

const char *mqb_model_about(const char *name)
{
    const struct mqb_model *model = find_model(name);
    return model ? model->about : NULL;
}

mqb_status mqb_model_build(const char *name, const struct mqb_op_table *table, int64_t channels, int64_t height, int64_t width,
                           int64_t classes, uint64_t seed, struct mqb_graph **graph, struct mqb_error *error)
{
    *graph = NULL;
    const struct mqb_model *model = find_model(name);
    if (!model) {
        return fail_unknown(name, error);
    }
    if (channels < 1 || channels > MAX_EXTENT || height < 1 || height > MAX_EXTENT || width < 1 || width > MAX_EXTENT ||
        classes < 2 || classes > MAX_CLASSES) {
        return mqb_fail(
            error, MQB_ERR_ARGUMENT,
            "%s for images of %lld x %lld x %lld and %lld classes: sizes from 1 to %d and 2 to %d classes are supported", name,
            (long long)channels, (long long)height, (long long)width, (long long)classes, MAX_EXTENT, MAX_CLASSES);
    }
    struct mqb_builder b = {.error = error, .seed = seed, .stream = FIRST_STREAM};
    b.status = mqb_graph_create(table, &b.graph, error);
    if (b.status != MQB_OK) {
        return b.status;
    }
    const int64_t dims[4] = {MQB_BATCH, channels, height, width};
    mqb_value_id x = MQB_NONE;
    b.graph->name = mqb_strdup(name);
    b.status = mqb_graph_append_value(b.graph, MQB_VALUE_INPUT, "input", 4, dims, NULL, &x, error);
    b.graph->input = x;
    mqb_build_classifier(&b, model->features(&b, x, model->member), model->classifier, classes);
    if (b.status == MQB_OK) {
        b.status = mqb_graph_infer(b.graph, error);
    }
    if (b.status != MQB_OK) {
        mqb_graph_destroy(b.graph);
        return mqb_fail_prefix(error, b.status, "%s", name);
    }
    *graph = b.graph;
    return MQB_OK;
}
