/*
 * source.h - what the kinds of data sets share. Private to core/data/.
 */
#ifndef MQB_DATA_SOURCE_H
#define MQB_DATA_SOURCE_H

#include "data/data.h"

extern const struct mqb_dataset_kind mqb_dataset_kind_cifar10;
extern const struct mqb_dataset_kind mqb_dataset_kind_idx;
extern const struct mqb_dataset_kind mqb_dataset_kind_images;
extern const struct mqb_dataset_kind mqb_dataset_kind_synth;

const char *mqb_split_name(enum mqb_split split); /* "train", "test": also the keys of a spec */

/* ---- lists of paths (paths.c) ---- */

struct mqb_paths {
    char **items;
    size_t num, capacity;
};
void mqb_paths_deinit(struct mqb_paths *paths);
mqb_status mqb_paths_add(struct mqb_paths *paths, const char *path, struct mqb_error *error);     /* copies */
mqb_status mqb_paths_split(struct mqb_paths *paths, const char *joined, struct mqb_error *error); /* "A+B" adds A, B */
/* Adds the names (without the folder) in `dir` that do not begin with a dot, sorted by byte value. */
mqb_status mqb_paths_list(struct mqb_paths *paths, const char *dir, struct mqb_error *error);

/* ---- "KEY=VALUE,KEY=VALUE" (spec.c) ---- */

#define MQB_SPEC_MAX 8
struct mqb_spec {
    const char *kind;
    char *text; /* owns what key and value point to */
    size_t num;
    const char *key[MQB_SPEC_MAX], *value[MQB_SPEC_MAX];
};
/* True if `text` is such a list and not a folder: it begins with a word of small letters and '-', then '='. */
bool mqb_spec_is_list(const char *text);
/* keys: NULL-terminated, at most MQB_SPEC_MAX; any other key is refused with the nearest named. "" gives none. */
mqb_status mqb_spec_parse(const char *kind, const char *text, const char *const *keys, struct mqb_spec *spec,
                          struct mqb_error *error);
void mqb_spec_deinit(struct mqb_spec *spec);
const char *mqb_spec_value(const struct mqb_spec *spec, const char *key); /* NULL if it is not given */
/* A whole number in [min, max] into *value, which is left alone if the key is not given. */
mqb_status mqb_spec_number(const struct mqb_spec *spec, const char *key, uint64_t min, uint64_t max, uint64_t *value,
                           struct mqb_error *error);

/* ---- splits of fixed-size images held in memory (records.c) ---- */

struct mqb_records {
    void **blocks; /* contents of files, owned */
    size_t *block_sizes;
    size_t num_blocks;
    const uint8_t **pixels; /* by index of the image: into a block */
    int32_t *labels;
    size_t num;
};
void mqb_records_deinit(struct mqb_records *records);
/* Takes over `block` (also on failure) and makes room for `more` images behind records->num. */
mqb_status mqb_records_add_block(struct mqb_records *records, void *block, size_t size, size_t more, struct mqb_error *error);
/* Of both splits' labels and blocks; the blocks are hashed side by side by as many threads as there are CPUs. */
mqb_status mqb_records_sha256(const struct mqb_records split[2], char hex[65], struct mqb_error *error);

/* ---- label files (label_csv.c) ---- */

/* A CSV with a header that has the columns `file` and `index`; other columns are ignored. */
struct mqb_label_csv {
    char *text; /* owns what file points to */
    size_t num;
    char **file;
    int32_t *index;
    int32_t *line; /* for messages */
};
mqb_status mqb_label_csv_read(const char *path, struct mqb_label_csv *csv, struct mqb_error *error);
void mqb_label_csv_deinit(struct mqb_label_csv *csv);

/* ---- compressed pictures (picture.c, jpeg.c, png.c) ---- */

struct mqb_picture {
    int32_t width, height;
    uint8_t *rgb; /* HWC, 3 channels */
};
/* Makes room for width x height; refuses sizes that no photograph has. */
mqb_status mqb_picture_init(struct mqb_picture *picture, uint64_t width, uint64_t height, struct mqb_error *error);
void mqb_picture_deinit(struct mqb_picture *picture);
/* JPEG or PNG by content. Errors name the path. Grey becomes RGB, alpha is dropped, 16 bits become 8. */
mqb_status mqb_picture_read(const char *path, struct mqb_picture *picture, struct mqb_error *error);
mqb_status mqb_picture_from_jpeg(const uint8_t *data, size_t size, struct mqb_picture *picture, struct mqb_error *error);
mqb_status mqb_picture_from_png(const uint8_t *data, size_t size, struct mqb_picture *picture, struct mqb_error *error);
/* For evaluation (short side to size*256/224, unless it lies between size and that; centre crop) or, if `augment`, for
 * training (random resized crop drawn from `key`): out is [size][size][3]. */
mqb_status mqb_picture_fit(const struct mqb_picture *picture, int32_t size, bool augment, uint64_t key, uint8_t *out,
                           struct mqb_error *error);

/* ---- scaling (resize.c) ---- */

/* Scales in[height][width] (rows `stride` bytes apart, `channels` interleaved) to to_height x to_width and writes the window
 * of rows x cols at (top, left) of that to out[rows][cols]. Bilinear with antialiasing: a triangle filter as wide as the
 * reduction, horizontal pass first, both rounded to u8 from 22-bit fixed point - the definition of Pillow's BILINEAR. */
struct mqb_resize {
    int32_t height, width, channels;
    size_t stride;
    int32_t to_height, to_width;
    int32_t top, left, rows, cols;
};
mqb_status mqb_resize(const struct mqb_resize *resize, const uint8_t *in, uint8_t *out, struct mqb_error *error);

/* ---- generated pictures (synth_scene.c) ---- */

#define MQB_SYNTH_SIZE 32
#define MQB_SYNTH_CLASSES 10
/* Image number `stream` of class `label` to out[32][32][3]. The same bytes on every machine. */
void mqb_synth_scene(uint64_t seed, uint64_t stream, int32_t label, uint8_t *out);

#endif
