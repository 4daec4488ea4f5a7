/*
 * data.h - data sets and batches.
 *
 * A data set is opened from a command-line word, KIND[:PATH] (docs/datasets.md), and gives images as u8 HWC and labels.
 * A loader turns them into float NHWC batches: augmentation, normalisation, order. Batches are prepared by a background
 * thread while the caller computes; their content depends on (seed, epoch, position) alone.
 */
#ifndef MQB_DATA_H
#define MQB_DATA_H

#include "base/base.h"

enum mqb_split { MQB_SPLIT_TRAIN = 0, MQB_SPLIT_TEST = 1 };

/* What a kind of data set is: one file in core/data/, listed in dataset.c. */
struct mqb_dataset;
struct mqb_dataset_kind {
    const char *name;        /* "cifar10" */
    const char *usage;       /* "cifar10:DIR or cifar10:train=A.bin+B.bin,test=C.bin" */
    /* path: after the colon, "" if none. Honours dataset->limit and dataset->seed, fills the rest; what it has put there
     * when it fails is released by mqb_dataset_close. */
    mqb_status (*open)(struct mqb_dataset *dataset, const char *path, struct mqb_error *error);
};

struct mqb_dataset {
    const struct mqb_dataset_kind *kind;
    char *name;              /* as given */
    size_t limit[2];         /* by split: at most so many images, 0 = all */
    uint64_t seed;           /* as given to mqb_dataset_open */
    int32_t num_classes;
    int32_t channels;
    int32_t height, width;   /* 0: images differ in size (decoded and cropped by the loader) */
    size_t num[2];           /* by split, after limits */
    const int32_t *labels[2];
    char sha256[65];         /* of what was read (or of the generator's parameters); images: of names, sizes and labels */
    void *state;
    /* Image `index` of a split as u8 HWC into out[height*width*channels]; if height is 0, scaled and cropped to `size`
     * (random resized crop if `augment`, keyed by `key`; else short side to size*256/224, centre crop). Thread-safe. */
    mqb_status (*image)(const struct mqb_dataset *dataset, enum mqb_split split, size_t index, int32_t size, bool augment,
                        uint64_t key, uint8_t *out, struct mqb_error *error);
    void (*close)(struct mqb_dataset *dataset);
};

/* Opens "cifar10:DIR", "synth", ... Limits: 0 = all, else the first so many. Unknown kind: the error names the nearest.
 * seed: what synth draws its images from unless its word says seed=S; 0 stands for its own default. Other kinds draw nothing.
 * A split may be empty (num 0), both may not. */
mqb_status mqb_dataset_open(const char *word, size_t train_limit, size_t test_limit, uint64_t seed, struct mqb_dataset **dataset,
                            struct mqb_error *error);
void mqb_dataset_close(struct mqb_dataset *dataset);
const struct mqb_dataset_kind *const *mqb_dataset_kinds(void); /* NULL-terminated */

/* x = (u8 * scale - mean) / std per channel: out = u8 * a[c] + b[c] in float32. Images of one channel use the first. */
struct mqb_normalize {
    char text[96]; /* as it is spelt on the command line */
    float a[4], b[4];
};
/* "imagenet", "tf", "unit", "raw", "mean:R,G,B/std:R,G,B". */
mqb_status mqb_normalize_parse(const char *text, struct mqb_normalize *normalize, struct mqb_error *error);

struct mqb_augment {
    bool flip;
    int32_t crop_padding; /* 0: none; CIFAR's padded crop: 4 (padding is u8 0, before normalisation) */
    bool resized_crop;    /* folders of images: random resized crop */
};

struct mqb_loader;
struct mqb_batch {
    int32_t num_images;
    const float *x;         /* [n][h][w][c], the loader's, valid until the next call */
    const int32_t *labels;
    const uint32_t *index;  /* of the images in the data set */
};

struct mqb_loader_config {
    enum mqb_split split;
    int32_t batch;
    int32_t size;          /* height and width of the network's input; images of another size are resized (bilinear) */
    struct mqb_normalize normalize;
    struct mqb_augment augment;
    bool shuffle;          /* order from (seed, epoch); else file order */
    bool drop_last;
    uint64_t seed;
};
mqb_status mqb_loader_create(const struct mqb_dataset *dataset, const struct mqb_loader_config *config, struct mqb_loader **loader,
                             struct mqb_error *error);
void mqb_loader_destroy(struct mqb_loader *loader);
size_t mqb_loader_num_batches(const struct mqb_loader *loader);
/* Starts an epoch at batch `first` (exact resume). */
mqb_status mqb_loader_start(struct mqb_loader *loader, uint64_t epoch, size_t first, struct mqb_error *error);
/* The next batch; num_images is 0 at the end of the epoch. An unreadable image: error naming the file. */
mqb_status mqb_loader_next(struct mqb_loader *loader, struct mqb_batch *batch, struct mqb_error *error);

#endif
