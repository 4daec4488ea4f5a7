/*
 * idx.c - MNIST's IDX files, plain or gzip: images as u8 [n][height][width], one channel; labels as u8 [n].
 * Format: http://yann.lecun.com/exdb/mnist/ (big-endian header: 0, 0, type, rank, then the dims).
 */
#include "data/source.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define MAGIC_IMAGES 0x00000803u
#define MAGIC_LABELS 0x00000801u
#define MAX_SIDE 4096u

struct idx {
    struct mqb_records split[2];
};

static mqb_status image(const struct mqb_dataset *dataset, enum mqb_split split, size_t index, int32_t size, bool augment,
                        uint64_t key, uint8_t *out, struct mqb_error *error)
{
    (void)size, (void)augment, (void)key, (void)error;
    const uint8_t *in = ((const struct idx *)dataset->state)->split[split].pixels[index];
    memcpy(out, in, (size_t)dataset->height * (size_t)dataset->width);
    return MQB_OK;
}

static void close_idx(struct mqb_dataset *dataset)
{
    struct idx *state = dataset->state;
    mqb_records_deinit(&state->split[0]);
    mqb_records_deinit(&state->split[1]);
    mqb_deallocate(state);
}

/* Exactly `size` bytes; gzread passes a file that is not gzip through as it is. */
static mqb_status read_exactly(gzFile file, const char *path, void *out, size_t size, const char *what, struct mqb_error *error)
{
    uint8_t *bytes = out;
    size_t used = 0;
    while (used < size) {
        unsigned chunk = size - used < ((size_t)1 << 30) ? (unsigned)(size - used) : 1u << 30;
        int got = gzread(file, bytes + used, chunk);
        int code = Z_OK;
        const char *reason = gzerror(file, &code);
        if (got < 0)
            return mqb_fail(error, MQB_ERR_FORMAT,
                            "%s: the gzip data is damaged (%s) after %zu of %zu bytes of its %s; fetch it again", path,
                            code == Z_ERRNO ? strerror(errno) : reason, used, size, what);
        if (got == 0)
            return mqb_fail(error, MQB_ERR_FORMAT,
                            "%s: ends after %zu of %zu bytes of its %s; it is cut in the middle, fetch it again", path, used,
                            size, what);
        used += (size_t)got;
    }
    return MQB_OK;
}

static uint32_t big_endian(const uint8_t bytes[4])
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

struct idx_file {
    uint32_t dims[3];
    uint8_t *data;
    size_t size;
};

/* Reads a whole file of `rank` dims; what its dims promise and nothing more. */
static mqb_status read_file(const char *path, uint32_t magic, struct idx_file *idx, struct mqb_error *error)
{
    struct stat info;
    gzFile file = stat(path, &info) == 0 ? gzopen(path, "rb") : NULL;
    if (file == NULL)
        return mqb_fail(error, errno == ENOENT ? MQB_ERR_NOT_FOUND : MQB_ERR_IO, "%s: cannot be opened (%s); check the path",
                        path, strerror(errno));
    size_t rank = magic & 0xff;
    uint8_t header[16], extra;
    uint8_t *data = NULL;
    gzbuffer(file, 1 << 18);
    mqb_status status = read_exactly(file, path, header, 4, "header", error);
    if (status != MQB_OK)
        goto out;
    if (big_endian(header) != magic) {
        status =
            mqb_fail(error, MQB_ERR_FORMAT, "%s: begins with 0x%08x, expected 0x%08x (IDX %s)", path, big_endian(header), magic,
                     magic == MAGIC_IMAGES ? "images: u8, 3 dims; are images and labels exchanged?" : "labels: u8, 1 dim");
        goto out;
    }
    status = read_exactly(file, path, header + 4, 4 * rank, "header", error);
    if (status != MQB_OK)
        goto out;
    idx->size = 1;
    for (size_t i = 0; i < rank; i++) {
        idx->dims[i] = big_endian(header + 4 + 4 * i);
        bool fits = !__builtin_mul_overflow(idx->size, idx->dims[i], &idx->size) && (i == 0 || idx->dims[i] <= MAX_SIDE);
        if (idx->dims[i] == 0 || !fits) {
            status = mqb_fail(error, MQB_ERR_FORMAT, "%s: dim %zu in its header is %u, expected 1 to %u; the file is damaged",
                              path, i, idx->dims[i], i == 0 ? UINT32_MAX : MAX_SIDE);
            goto out;
        }
    }
    /* A damaged header must not ask for all the memory there is: deflate packs 1032 bytes into one at best. */
    if (idx->size / (gzdirect(file) ? 1 : 1032) > (uint64_t)info.st_size) {
        status = mqb_fail(error, MQB_ERR_FORMAT,
                          "%s: its header promises %zu bytes, but the file has only %lld; it is cut in the middle,"
                          " fetch it again",
                          path, idx->size, (long long)info.st_size);
        goto out;
    }
    data = mqb_allocate(idx->size);
    if (data == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for the %zu bytes that its header promises", path, idx->size);
        goto out;
    }
    status = read_exactly(file, path, data, idx->size, "data", error);
    if (status != MQB_OK)
        goto out;
    /* Reading on also makes zlib check the gzip trailer. */
    int beyond = gzread(file, &extra, 1), code = Z_OK;
    const char *reason = gzerror(file, &code);
    if (beyond > 0)
        status = mqb_fail(error, MQB_ERR_FORMAT,
                          "%s: goes on behind the %zu bytes that its header promises; the file is damaged", path, idx->size);
    else if (code != Z_OK)
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s: the gzip data is damaged or cut (%s) at its end; fetch it again", path,
                          reason);
    if (status != MQB_OK)
        goto out;
    idx->data = data;
    data = NULL;
out:
    mqb_deallocate(data);
    gzclose_r(file);
    return status;
}

static mqb_status add_images(struct mqb_dataset *dataset, struct mqb_records *records, const char *images_path,
                             struct idx_file *images, const char *labels_path, const struct idx_file *labels, size_t limit,
                             struct mqb_error *error)
{
    size_t num = images->dims[0], pixels = (size_t)images->dims[1] * images->dims[2];
    if (labels->dims[0] != num)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s: has %u labels, but %s has %zu images; the two files do not belong together",
                        labels_path, labels->dims[0], images_path, num);
    if (dataset->height == 0) {
        dataset->height = (int32_t)images->dims[1];
        dataset->width = (int32_t)images->dims[2];
    } else if (dataset->height != (int32_t)images->dims[1] || dataset->width != (int32_t)images->dims[2]) {
        return mqb_fail(error, MQB_ERR_FORMAT, "%s: its images are %ux%u, the ones before it %dx%d; all must have one size",
                        images_path, images->dims[1], images->dims[2], dataset->height, dataset->width);
    }
    uint8_t *data = images->data;
    images->data = NULL;
    mqb_status status = mqb_records_add_block(records, data, images->size, num, error);
    if (status != MQB_OK)
        return mqb_fail_prefix(error, status, "%s", images_path);
    for (size_t i = 0; i < num && (limit == 0 || records->num < limit); i++) {
        if (labels->data[i] >= dataset->num_classes)
            return mqb_fail(error, MQB_ERR_FORMAT,
                            "%s: record %zu has label %d, expected 0 to %d; if there are more classes, say classes=N",
                            labels_path, i, labels->data[i], dataset->num_classes - 1);
        records->pixels[records->num] = data + i * pixels;
        records->labels[records->num++] = labels->data[i];
    }
    return MQB_OK;
}

static mqb_status read_split(struct mqb_dataset *dataset, enum mqb_split split, const struct mqb_paths *images,
                             const struct mqb_paths *labels, struct mqb_error *error)
{
    struct mqb_records *records = &((struct idx *)dataset->state)->split[split];
    size_t limit = dataset->limit[split];
    mqb_status status = MQB_OK;
    if (images->num != labels->num)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "data set idx: %zu files of %s images, but %zu of labels; each needs its partner", images->num,
                        mqb_split_name(split), labels->num);
    for (size_t i = 0; i < images->num && status == MQB_OK && (limit == 0 || records->num < limit); i++) {
        struct idx_file image_file = {0}, label_file = {0};
        status = read_file(images->items[i], MAGIC_IMAGES, &image_file, error);
        if (status == MQB_OK)
            status = read_file(labels->items[i], MAGIC_LABELS, &label_file, error);
        if (status == MQB_OK)
            status = add_images(dataset, records, images->items[i], &image_file, labels->items[i], &label_file, limit, error);
        mqb_deallocate(image_file.data);
        mqb_deallocate(label_file.data);
    }
    dataset->num[split] = records->num;
    dataset->labels[split] = records->labels;
    return status;
}

/* "train-images-idx3-ubyte.gz" -> "train-labels-idx1-ubyte.gz", in the same folder. */
static char *labels_beside(const char *dir, const char *images_name)
{
    char *path = mqb_path_join(dir, images_name);
    if (path == NULL)
        return NULL;
    char *name = path + strlen(path) - strlen(images_name);
    memcpy(strstr(name, "images"), "labels", 6);
    char *idx3 = strstr(name, "idx3");
    if (idx3 != NULL)
        idx3[3] = '1';
    return path;
}

/* files[split][0] images, files[split][1] labels. */
static mqb_status add_pair(struct mqb_paths files[2][2], int split, const char *dir, const char *name, struct mqb_error *error)
{
    char *images = mqb_path_join(dir, name), *labels = labels_beside(dir, name);
    mqb_status status = MQB_OK;
    if (images == NULL || labels == NULL)
        status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", dir);
    if (status == MQB_OK)
        status = mqb_paths_add(&files[split][0], images, error);
    if (status == MQB_OK)
        status = mqb_paths_add(&files[split][1], labels, error);
    mqb_deallocate(images);
    mqb_deallocate(labels);
    return status;
}

/* The usual folder: train*images* is training data, t10k*images* or test*images* test data. Of A and A.gz, A is taken. */
static mqb_status find_files(const char *dir, struct mqb_paths files[2][2], struct mqb_error *error)
{
    struct mqb_paths names = {0};
    mqb_status status = mqb_paths_list(&names, dir, error);
    const char *before = "";
    for (size_t i = 0; i < names.num && status == MQB_OK; i++) {
        const char *name = names.items[i];
        size_t length = strlen(name);
        bool packed = length > 3 && strcmp(name + length - 3, ".gz") == 0;
        int split = strncmp(name, "train", 5) == 0 ? MQB_SPLIT_TRAIN : MQB_SPLIT_TEST;
        bool wanted = strstr(name, "images") != NULL && strstr(name, "ubyte") != NULL &&
                      (split == MQB_SPLIT_TRAIN || strncmp(name, "t10k", 4) == 0 || strncmp(name, "test", 4) == 0);
        /* Sorted, A comes right before A.gz. */
        if (!wanted || (packed && strlen(before) == length - 3 && strncmp(name, before, length - 3) == 0))
            continue;
        before = name;
        status = add_pair(files, split, dir, name, error);
    }
    if (status == MQB_OK && files[0][0].num + files[1][0].num == 0)
        status = mqb_fail(
            error, MQB_ERR_NOT_FOUND,
            "%s: the folder holds no IDX file; expected train-images-idx3-ubyte[.gz], t10k-images-idx3-ubyte[.gz] and their"
            " labels, or name the files: idx:train=FILE,train-labels=FILE,test=FILE,test-labels=FILE",
            dir);
    mqb_paths_deinit(&names);
    return status;
}

static mqb_status name_files(const char *text, struct mqb_paths files[2][2], int32_t *num_classes, struct mqb_error *error)
{
    static const char *const keys[] = {"train", "train-labels", "test", "test-labels", "classes", NULL};
    struct mqb_spec spec;
    uint64_t classes = (uint64_t)*num_classes;
    mqb_status status = mqb_spec_parse("idx", text, keys, &spec, error);
    if (status != MQB_OK)
        return status;
    for (int i = 0; i < 4 && status == MQB_OK; i++) {
        const char *value = mqb_spec_value(&spec, keys[i]);
        if (value != NULL)
            status = mqb_paths_split(&files[i / 2][i % 2], value, error);
    }
    if (status == MQB_OK)
        status = mqb_spec_number(&spec, "classes", 2, 256, &classes, error);
    *num_classes = (int32_t)classes;
    mqb_spec_deinit(&spec);
    return status;
}

static mqb_status open_idx(struct mqb_dataset *dataset, const char *path, struct mqb_error *error)
{
    if (path[0] == '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set idx: where is it? Write %s", dataset->kind->usage);
    dataset->state = mqb_allocate(sizeof(struct idx));
    if (dataset->state == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "data set idx: no memory");
    dataset->image = image;
    dataset->close = close_idx;
    dataset->num_classes = 10;
    dataset->channels = 1;
    struct mqb_paths files[2][2] = {{{0}, {0}}, {{0}, {0}}};
    mqb_status status =
        mqb_spec_is_list(path) ? name_files(path, files, &dataset->num_classes, error) : find_files(path, files, error);
    for (int split = 0; split < 2 && status == MQB_OK; split++)
        status = read_split(dataset, split, &files[split][0], &files[split][1], error);
    if (status == MQB_OK)
        status = mqb_records_sha256(((struct idx *)dataset->state)->split, dataset->sha256, error);
    for (int i = 0; i < 4; i++)
        mqb_paths_deinit(&files[i / 2][i % 2]);
    return status;
}

const struct mqb_dataset_kind mqb_dataset_kind_idx = {
    .name = "idx",
    .usage = "idx:DIR or idx:train=IMAGES,train-labels=LABELS,test=IMAGES,test-labels=LABELS[,classes=N]",
    .open = open_idx,
};
