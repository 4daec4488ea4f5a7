/*
 * synth.c - the embedded data set: generated 32x32 colour pictures of ten classes, for when no data is at hand.
 * An image is drawn when it is asked for, from (seed, split, index) alone: see synth_scene.c.
 */
#include "data/source.h"

#include <string.h>

#define DEFAULT_TRAIN 20000
#define DEFAULT_TEST 2000
#define DEFAULT_SEED 2021
#define MAX_IMAGES 100000000

struct synth {
    uint64_t seed;
    int32_t *labels[2];
};

/* Streams of random numbers: the image's number, apart by split; labels come from one of their own. */
static uint64_t image_stream(enum mqb_split split, size_t index)
{
    return (uint64_t)(split + 1) << 40 | index;
}

static uint64_t label_stream(enum mqb_split split, size_t block)
{
    return (uint64_t)(split + 3) << 40 | block;
}

static mqb_status image(const struct mqb_dataset *dataset, enum mqb_split split, size_t index, int32_t size, bool augment,
                        uint64_t key, uint8_t *out, struct mqb_error *error)
{
    (void)size, (void)augment, (void)key, (void)error;
    const struct synth *state = dataset->state;
    mqb_synth_scene(state->seed, image_stream(split, index), state->labels[split][index], out);
    return MQB_OK;
}

static void close_synth(struct mqb_dataset *dataset)
{
    struct synth *state = dataset->state;
    mqb_deallocate(state->labels[0]);
    mqb_deallocate(state->labels[1]);
    mqb_deallocate(state);
}

/* Every ten images in a row show every class once, in an order of their own. */
static mqb_status draw_labels(struct mqb_dataset *dataset, enum mqb_split split, size_t num, struct mqb_error *error)
{
    struct synth *state = dataset->state;
    if (dataset->limit[split] > 0 && num > dataset->limit[split])
        num = dataset->limit[split];
    if (num == 0)
        return MQB_OK;
    int32_t *labels = mqb_allocate_array(num, sizeof *labels);
    if (labels == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "data set synth: no memory for %zu labels", num);
    uint32_t order[MQB_SYNTH_CLASSES] = {0};
    for (size_t i = 0; i < num; i++) {
        if (i % MQB_SYNTH_CLASSES == 0)
            mqb_shuffle(state->seed, label_stream(split, i / MQB_SYNTH_CLASSES), order, MQB_SYNTH_CLASSES);
        labels[i] = (int32_t)order[i % MQB_SYNTH_CLASSES];
    }
    state->labels[split] = labels;
    dataset->labels[split] = labels;
    dataset->num[split] = num;
    return MQB_OK;
}

/* The parameters and some pictures: a generator that draws otherwise is another data set. */
static mqb_status hash_parameters(struct mqb_dataset *dataset, struct mqb_error *error)
{
    struct mqb_sha256 hash;
    char text[128];
    uint8_t picture[MQB_SYNTH_SIZE * MQB_SYNTH_SIZE * 3];
    mqb_status status = MQB_OK;
    const struct synth *state = dataset->state;
    int length = snprintf(text, sizeof text, "synth train=%zu,test=%zu,seed=%llu", dataset->num[0], dataset->num[1],
                          (unsigned long long)state->seed);
    mqb_sha256_init(&hash);
    mqb_sha256_update(&hash, text, (size_t)length);
    for (int split = 0; split < 2; split++)
        for (size_t i = 0; i < dataset->num[split] && i < MQB_SYNTH_CLASSES && status == MQB_OK; i++) {
            status = image(dataset, (enum mqb_split)split, i, MQB_SYNTH_SIZE, false, 0, picture, error);
            mqb_sha256_update(&hash, picture, sizeof picture);
        }
    mqb_sha256_hex(&hash, dataset->sha256);
    return status;
}

static mqb_status open_synth(struct mqb_dataset *dataset, const char *path, struct mqb_error *error)
{
    static const char *const keys[] = {"train", "test", "seed", NULL};
    if (path[0] != '\0' && !mqb_spec_is_list(path))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set synth: '%s' is no list of KEY=VALUE; synth has no folder, write %s",
                        path, dataset->kind->usage);
    struct synth *state = mqb_allocate(sizeof *state);
    if (state == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "data set synth: no memory");
    dataset->state = state;
    dataset->image = image;
    dataset->close = close_synth;
    dataset->num_classes = MQB_SYNTH_CLASSES;
    dataset->channels = 3;
    dataset->height = dataset->width = MQB_SYNTH_SIZE;
    state->seed = dataset->seed != 0 ? dataset->seed : DEFAULT_SEED;
    struct mqb_spec spec;
    uint64_t num[2] = {DEFAULT_TRAIN, DEFAULT_TEST};
    mqb_status status = mqb_spec_parse("synth", path, keys, &spec, error);
    if (status != MQB_OK)
        return status;
    for (int split = 0; split < 2 && status == MQB_OK; split++)
        status = mqb_spec_number(&spec, keys[split], 0, MAX_IMAGES, &num[split], error);
    if (status == MQB_OK)
        status = mqb_spec_number(&spec, "seed", 0, UINT64_MAX, &state->seed, error);
    for (int split = 0; split < 2 && status == MQB_OK; split++)
        status = draw_labels(dataset, (enum mqb_split)split, (size_t)num[split], error);
    if (status == MQB_OK)
        status = hash_parameters(dataset, error);
    mqb_spec_deinit(&spec);
    return status;
}

const struct mqb_dataset_kind mqb_dataset_kind_synth = {
    .name = "synth",
    .usage = "synth or synth:train=N,test=M,seed=S",
    .open = open_synth,
};
