/*
 * images.c - folders of JPEG and PNG pictures, labelled by a CSV or by one folder a class.
 */
#include "data/source.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MAX_CLASSES 1000000

struct images_split {
    struct mqb_paths files;
    int32_t *labels;
    size_t capacity; /* of labels */
};

struct images {
    struct images_split split[2];
    struct mqb_paths classes; /* names of class folders, of the first split that has such */
    bool classes_given;
    struct mqb_sha256 hash;
};

static mqb_status image(const struct mqb_dataset *dataset, enum mqb_split split, size_t index, int32_t size, bool augment,
                        uint64_t key, uint8_t *out, struct mqb_error *error)
{
    const char *path = ((const struct images *)dataset->state)->split[split].files.items[index];
    struct mqb_picture picture;
    mqb_status status = mqb_picture_read(path, &picture, error);
    if (status != MQB_OK)
        return status;
    status = mqb_picture_fit(&picture, size, augment, key, out, error);
    mqb_picture_deinit(&picture);
    return status == MQB_OK ? MQB_OK : mqb_fail_prefix(error, status, "%s", path);
}

static void close_images(struct mqb_dataset *dataset)
{
    struct images *state = dataset->state;
    for (int split = 0; split < 2; split++) {
        mqb_paths_deinit(&state->split[split].files);
        mqb_deallocate(state->split[split].labels);
    }
    mqb_paths_deinit(&state->classes);
    mqb_deallocate(state);
}

/* Adds dir/name; what is hashed is its name, size and label, not where it lies. */
static mqb_status add_image(struct images *state, enum mqb_split split, const char *dir, const char *name, int32_t label,
                            struct mqb_error *error)
{
    struct images_split *to = &state->split[split];
    char *path = mqb_path_join(dir, name);
    mqb_status status = MQB_OK;
    struct stat info;
    if (path != NULL && to->files.num == to->capacity) {
        size_t capacity = to->capacity == 0 ? 64 : to->capacity * 2;
        int32_t *labels = mqb_allocate_array(capacity, sizeof *labels);
        if (labels != NULL) {
            if (to->capacity > 0)
                memcpy(labels, to->labels, to->capacity * sizeof *labels);
            mqb_deallocate(to->labels);
            to->labels = labels;
            to->capacity = capacity;
        }
    }
    if (path == NULL || to->files.num == to->capacity)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for a list of %zu pictures", to->files.num + 1);
    else if (stat(path, &info) != 0)
        status = mqb_fail(error, errno == ENOENT ? MQB_ERR_NOT_FOUND : MQB_ERR_IO,
                          "%s: cannot be opened (%s); is the folder right?", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s: is not a file; expected a JPEG or PNG picture", path);
    if (status == MQB_OK) {
        to->labels[to->files.num] = label;
        status = mqb_paths_add(&to->files, path, error);
    }
    if (status == MQB_OK) {
        char text[64];
        int length = snprintf(text, sizeof text, "%lld %d\n", (long long)info.st_size, label);
        mqb_sha256_update(&state->hash, name, strlen(name) + 1);
        mqb_sha256_update(&state->hash, text, (size_t)length);
    }
    mqb_deallocate(path);
    return status;
}

static mqb_status add_csv(struct mqb_dataset *dataset, enum mqb_split split, const char *dir, const char *csv_path,
                          struct mqb_error *error)
{
    struct images *state = dataset->state;
    struct mqb_label_csv csv;
    size_t limit = dataset->limit[split];
    mqb_status status = mqb_label_csv_read(csv_path, &csv, error);
    if (status != MQB_OK)
        return status;
    for (size_t i = 0; i < csv.num && status == MQB_OK; i++) {
        if (state->classes_given && csv.index[i] >= dataset->num_classes)
            status = mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: label %d of %s is outside the classes 0 to %d", csv_path,
                              csv.line[i], csv.index[i], csv.file[i], dataset->num_classes - 1);
        /* The classes are what the whole file speaks of, also under a limit. */
        if (!state->classes_given && csv.index[i] >= dataset->num_classes)
            dataset->num_classes = csv.index[i] + 1;
    }
    for (size_t i = 0; i < csv.num && status == MQB_OK && (limit == 0 || state->split[split].files.num < limit); i++) {
        status = add_image(state, split, dir, csv.file[i], csv.index[i], error);
        if (status != MQB_OK)
            mqb_fail_prefix(error, status, "%s:%d", csv_path, csv.line[i]);
    }
    mqb_label_csv_deinit(&csv);
    return status;
}

static bool is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool is_picture_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".png") == 0);
}

/* The class folders of `dir`; they must be those that the other split has, if it has any. */
static mqb_status list_classes(struct images *state, const char *dir, struct mqb_paths *classes, struct mqb_error *error)
{
    struct mqb_paths names = {0};
    mqb_status status = mqb_paths_list(&names, dir, error);
    for (size_t i = 0; i < names.num && status == MQB_OK; i++) {
        char *path = mqb_path_join(dir, names.items[i]);
        if (path == NULL)
            status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", dir);
        else if (is_dir(path))
            status = mqb_paths_add(classes, names.items[i], error);
        mqb_deallocate(path);
    }
    mqb_paths_deinit(&names);
    if (status == MQB_OK && classes->num == 0)
        status = mqb_fail(error, MQB_ERR_NOT_FOUND,
                          "%s: the folder holds no class folders; expected one folder a class, or name a label file:"
                          " test=%s,test-labels=FILE.csv",
                          dir, dir);
    for (size_t i = 0; i < classes->num && status == MQB_OK && state->classes.num > 0; i++)
        if (classes->num != state->classes.num || strcmp(classes->items[i], state->classes.items[i]) != 0)
            status = mqb_fail(error, MQB_ERR_FORMAT,
                              "%s: its %zu class folders are not the %zu of the other split (here '%s', there '%s');"
                              " labels would not agree",
                              dir, classes->num, state->classes.num, classes->items[i],
                              i < state->classes.num ? state->classes.items[i] : "none");
    for (size_t i = 0; i < classes->num && status == MQB_OK && state->classes.num < classes->num; i++)
        status = mqb_paths_add(&state->classes, classes->items[i], error);
    return status;
}

/* Label = rank of the class folder's name. The classes take turns, so that any first part of the list is balanced. */
static mqb_status add_folders(struct mqb_dataset *dataset, enum mqb_split split, const char *dir, struct mqb_error *error)
{
    struct images *state = dataset->state;
    struct mqb_paths classes = {0}, *members = NULL;
    size_t limit = dataset->limit[split], longest = 0;
    mqb_status status = list_classes(state, dir, &classes, error);
    if (status == MQB_OK) {
        members = mqb_allocate_array(classes.num, sizeof *members);
        if (members == NULL)
            status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", dir);
    }
    for (size_t c = 0; c < classes.num && status == MQB_OK; c++) {
        struct mqb_paths names = {0};
        char *path = mqb_path_join(dir, classes.items[c]);
        if (path == NULL)
            status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", dir);
        else
            status = mqb_paths_list(&names, path, error);
        for (size_t i = 0; i < names.num && status == MQB_OK; i++)
            if (is_picture_name(names.items[i]))
                status = mqb_paths_add(&members[c], names.items[i], error);
        if (status == MQB_OK && members[c].num == 0)
            status = mqb_fail(error, MQB_ERR_NOT_FOUND,
                              "%s: the class folder holds no picture (.jpg, .jpeg, .png); fill or remove it", path);
        longest = members[c].num > longest ? members[c].num : longest;
        mqb_paths_deinit(&names);
        mqb_deallocate(path);
    }
    for (size_t i = 0; i < longest; i++) {
        for (size_t c = 0; c < classes.num && status == MQB_OK && (limit == 0 || state->split[split].files.num < limit); c++) {
            if (i >= members[c].num)
                continue;
            char *name = mqb_path_join(classes.items[c], members[c].items[i]);
            if (name == NULL)
                status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", dir);
            else
                status = add_image(state, split, dir, name, (int32_t)c, error);
            mqb_deallocate(name);
        }
    }
    if (status == MQB_OK && state->classes_given && (size_t)dataset->num_classes < classes.num)
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s: has %zu class folders, more than classes=%d", dir, classes.num,
                          dataset->num_classes);
    if (status == MQB_OK && (size_t)dataset->num_classes < classes.num)
        dataset->num_classes = (int32_t)classes.num;
    for (size_t c = 0; members != NULL && c < classes.num; c++)
        mqb_paths_deinit(&members[c]);
    mqb_deallocate(members);
    mqb_paths_deinit(&classes);
    return status;
}

/* csv NULL: one folder a class. */
static mqb_status add_split(struct mqb_dataset *dataset, enum mqb_split split, const char *dir, const char *csv,
                            struct mqb_error *error)
{
    struct images *state = dataset->state;
    mqb_sha256_update(&state->hash, mqb_split_name(split), strlen(mqb_split_name(split)) + 1);
    mqb_status status = csv != NULL ? add_csv(dataset, split, dir, csv, error) : add_folders(dataset, split, dir, error);
    dataset->num[split] = state->split[split].files.num;
    dataset->labels[split] = state->split[split].labels;
    return status;
}

/* The usual folder: train/ and val/ (or test/), each with a label file NAME_labels.csv beside it or one folder a class. */
static mqb_status find_splits(struct mqb_dataset *dataset, const char *root, struct mqb_error *error)
{
    static const struct {
        const char *name;
        enum mqb_split split;
    } places[] = {{"train", MQB_SPLIT_TRAIN}, {"val", MQB_SPLIT_TEST}, {"test", MQB_SPLIT_TEST}};
    struct mqb_paths names = {0};
    mqb_status status = mqb_paths_list(&names, root, error);
    mqb_paths_deinit(&names);
    bool found = false;
    for (size_t i = 0; i < sizeof places / sizeof places[0] && status == MQB_OK; i++) {
        if (dataset->num[places[i].split] > 0)
            continue;
        char *dir = mqb_path_join(root, places[i].name), *csv = mqb_format("%s/%s_labels.csv", root, places[i].name);
        if (dir == NULL || csv == NULL) {
            status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", root);
        } else if (is_dir(dir)) {
            found = true;
            status = add_split(dataset, places[i].split, dir, mqb_file_exists(csv) ? csv : NULL, error);
        }
        mqb_deallocate(dir);
        mqb_deallocate(csv);
    }
    if (status == MQB_OK && !found)
        status = mqb_fail(error, MQB_ERR_NOT_FOUND,
                          "%s: the folder holds neither train/ nor val/ or test/; expected these, each with one folder"
                          " a class or a label file beside it (val_labels.csv), or write images:test=DIR,test-labels=FILE.csv",
                          root);
    return status;
}

static mqb_status name_splits(struct mqb_dataset *dataset, const char *text, struct mqb_error *error)
{
    static const char *const keys[] = {"train", "train-labels", "test", "test-labels", "classes", NULL};
    struct images *state = dataset->state;
    struct mqb_spec spec;
    struct mqb_paths dirs = {0}, csvs = {0};
    uint64_t classes = 0;
    mqb_status status = mqb_spec_parse("images", text, keys, &spec, error);
    if (status != MQB_OK)
        return status;
    status = mqb_spec_number(&spec, "classes", 2, MAX_CLASSES, &classes, error);
    state->classes_given = classes > 0;
    dataset->num_classes = (int32_t)classes;
    for (int split = 0; split < 2 && status == MQB_OK; split++) {
        const char *dir = mqb_spec_value(&spec, keys[2 * split]), *csv = mqb_spec_value(&spec, keys[2 * split + 1]);
        if (dir == NULL && csv != NULL)
            status =
                mqb_fail(error, MQB_ERR_ARGUMENT, "data set images: %s=%s is given without %s=DIR, the folder of its files",
                         keys[2 * split + 1], csv, keys[2 * split]);
        if (dir != NULL && status == MQB_OK)
            status = mqb_paths_split(&dirs, dir, error);
        if (csv != NULL && status == MQB_OK)
            status = mqb_paths_split(&csvs, csv, error);
        if (csv != NULL && status == MQB_OK && csvs.num != dirs.num)
            status = mqb_fail(error, MQB_ERR_ARGUMENT,
                              "data set images: %zu folders in %s, but %zu files in %s; each needs its partner", dirs.num,
                              keys[2 * split], csvs.num, keys[2 * split + 1]);
        for (size_t i = 0; i < dirs.num && status == MQB_OK; i++)
            status = add_split(dataset, (enum mqb_split)split, dirs.items[i], csv == NULL ? NULL : csvs.items[i], error);
        mqb_paths_deinit(&dirs);
        mqb_paths_deinit(&csvs);
    }
    mqb_spec_deinit(&spec);
    return status;
}

static mqb_status open_images(struct mqb_dataset *dataset, const char *path, struct mqb_error *error)
{
    if (path[0] == '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set images: where is it? Write %s", dataset->kind->usage);
    struct images *state = mqb_allocate(sizeof *state);
    if (state == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "data set images: no memory");
    dataset->state = state;
    dataset->image = image;
    dataset->close = close_images;
    dataset->channels = 3;
    mqb_sha256_init(&state->hash);
    mqb_status status = mqb_spec_is_list(path) ? name_splits(dataset, path, error) : find_splits(dataset, path, error);
    mqb_sha256_hex(&state->hash, dataset->sha256);
    return status;
}

const struct mqb_dataset_kind mqb_dataset_kind_images = {
    .name = "images",
    .usage =
        "images:DIR (train/ and val/ or test/) or images:train=DIR,train-labels=A.csv,test=DIR,test-labels=B.csv[,classes=N]",
    .open = open_images,
};
