/*
 * cifar10.c - CIFAR-10, binary version (Krizhevsky 2009): records of one label byte and three 32x32 planes, R, G, B.
 */
#include "data/source.h"

#include <fnmatch.h>
#include <string.h>

#define SIZE 32
#define PLANE ((size_t)SIZE * SIZE)
#define RECORD (1 + 3 * PLANE)
#define NUM_CLASSES 10

struct cifar10 {
    struct mqb_records split[2];
};

static mqb_status image(const struct mqb_dataset *dataset, enum mqb_split split, size_t index, int32_t size, bool augment,
                        uint64_t key, uint8_t *out, struct mqb_error *error)
{
    (void)size, (void)augment, (void)key, (void)error;
    const uint8_t *in = ((const struct cifar10 *)dataset->state)->split[split].pixels[index];
    for (size_t i = 0; i < PLANE; i++) {
        out[3 * i] = in[i];
        out[3 * i + 1] = in[PLANE + i];
        out[3 * i + 2] = in[2 * PLANE + i];
    }
    return MQB_OK;
}

static void close_cifar10(struct mqb_dataset *dataset)
{
    struct cifar10 *state = dataset->state;
    mqb_records_deinit(&state->split[0]);
    mqb_records_deinit(&state->split[1]);
    mqb_deallocate(state);
}

static mqb_status read_file(struct mqb_records *records, const char *path, size_t limit, struct mqb_error *error)
{
    void *data = NULL;
    size_t size = 0;
    mqb_status status = mqb_file_read(path, SIZE_MAX / 2, &data, &size, error);
    if (status != MQB_OK)
        return status;
    const uint8_t *bytes = data;
    size_t num = size / RECORD;
    if (num == 0 || size % RECORD != 0) {
        mqb_deallocate(data);
        return mqb_fail(
            error, MQB_ERR_FORMAT,
            "%s: its %zu bytes are no whole number of CIFAR-10 records (%zu bytes each): cut in the middle of record %zu, or"
            " not a CIFAR-10 binary file; fetch it again",
            path, size, RECORD, num);
    }
    status = mqb_records_add_block(records, data, size, num, error);
    if (status != MQB_OK)
        return mqb_fail_prefix(error, status, "%s", path);
    for (size_t i = 0; i < num && (limit == 0 || records->num < limit); i++) {
        const uint8_t *record = bytes + i * RECORD;
        if (record[0] >= NUM_CLASSES)
            return mqb_fail(error, MQB_ERR_FORMAT,
                            "%s: record %zu has label %d, expected 0 to %d; the file is damaged or not CIFAR-10", path, i,
                            record[0], NUM_CLASSES - 1);
        records->pixels[records->num] = record + 1;
        records->labels[records->num++] = record[0];
    }
    return MQB_OK;
}

static mqb_status read_split(struct mqb_dataset *dataset, enum mqb_split split, const struct mqb_paths *files,
                             struct mqb_error *error)
{
    struct mqb_records *records = &((struct cifar10 *)dataset->state)->split[split];
    size_t limit = dataset->limit[split];
    mqb_status status = MQB_OK;
    for (size_t i = 0; i < files->num && status == MQB_OK && (limit == 0 || records->num < limit); i++)
        status = read_file(records, files->items[i], limit, error);
    dataset->num[split] = records->num;
    dataset->labels[split] = records->labels;
    return status;
}

/* The usual folder: every data_batch_*.bin is training data, every test*.bin test data. */
static mqb_status find_files(const char *dir, struct mqb_paths files[2], struct mqb_error *error)
{
    struct mqb_paths names = {0};
    mqb_status status = mqb_paths_list(&names, dir, error);
    for (size_t i = 0; i < names.num && status == MQB_OK; i++) {
        bool train = fnmatch("data_batch_*.bin", names.items[i], 0) == 0;
        if (!train && fnmatch("test*.bin", names.items[i], 0) != 0)
            continue;
        char *path = mqb_path_join(dir, names.items[i]);
        if (path == NULL)
            status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", dir);
        else
            status = mqb_paths_add(&files[train ? MQB_SPLIT_TRAIN : MQB_SPLIT_TEST], path, error);
        mqb_deallocate(path);
    }
    if (status == MQB_OK && files[0].num + files[1].num == 0)
        status = mqb_fail(
            error, MQB_ERR_NOT_FOUND,
            "%s: the folder holds no CIFAR-10 file; expected data_batch_1.bin ... data_batch_5.bin and test_batch.bin, or name"
            " the files: cifar10:train=FILE+FILE,test=FILE",
            dir);
    mqb_paths_deinit(&names);
    return status;
}

static mqb_status name_files(const char *text, struct mqb_paths files[2], struct mqb_error *error)
{
    static const char *const keys[] = {"train", "test", NULL};
    struct mqb_spec spec;
    mqb_status status = mqb_spec_parse("cifar10", text, keys, &spec, error);
    if (status != MQB_OK)
        return status;
    for (int split = 0; split < 2 && status == MQB_OK; split++) {
        const char *value = mqb_spec_value(&spec, keys[split]);
        if (value != NULL)
            status = mqb_paths_split(&files[split], value, error);
    }
    mqb_spec_deinit(&spec);
    return status;
}

static mqb_status open_cifar10(struct mqb_dataset *dataset, const char *path, struct mqb_error *error)
{
    if (path[0] == '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set cifar10: where is it? Write %s", dataset->kind->usage);
    dataset->state = mqb_allocate(sizeof(struct cifar10));
    if (dataset->state == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "data set cifar10: no memory");
    dataset->image = image;
    dataset->close = close_cifar10;
    dataset->num_classes = NUM_CLASSES;
    dataset->channels = 3;
    dataset->height = dataset->width = SIZE;
    struct mqb_paths files[2] = {{0}, {0}};
    mqb_status status = mqb_spec_is_list(path) ? name_files(path, files, error) : find_files(path, files, error);
    for (int split = 0; split < 2 && status == MQB_OK; split++)
        status = read_split(dataset, split, &files[split], error);
    if (status == MQB_OK)
        status = mqb_records_sha256(((struct cifar10 *)dataset->state)->split, dataset->sha256, error);
    mqb_paths_deinit(&files[0]);
    mqb_paths_deinit(&files[1]);
    return status;
}

const struct mqb_dataset_kind mqb_dataset_kind_cifar10 = {
    .name = "cifar10",
    .usage = "cifar10:DIR or cifar10:train=A.bin+B.bin,test=C.bin",
    .open = open_cifar10,
};
