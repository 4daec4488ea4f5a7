/* dataset.c - the kinds of data sets, and opening one by its word. */
#include "data/source.h"

#include <string.h>

static const struct mqb_dataset_kind *const kinds[] = {
    &mqb_dataset_kind_cifar10, &mqb_dataset_kind_idx, &mqb_dataset_kind_images, &mqb_dataset_kind_synth, NULL,
};
#define NUM_KINDS (sizeof kinds / sizeof kinds[0] - 1)

const struct mqb_dataset_kind *const *mqb_dataset_kinds(void)
{
    return kinds;
}

const char *mqb_split_name(enum mqb_split split)
{
    return split == MQB_SPLIT_TRAIN ? "train" : "test";
}

static mqb_status find_kind(const char *word, size_t length, const struct mqb_dataset_kind **kind, struct mqb_error *error)
{
    const char *names[NUM_KINDS];
    char all[128] = "";
    for (size_t i = 0, used = 0; i < NUM_KINDS; i++) {
        names[i] = kinds[i]->name;
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0) {
            *kind = kinds[i];
            return MQB_OK;
        }
        if (used < sizeof all)
            used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    char *given = mqb_format("%.*s", (int)length, word);
    const char *nearest = given == NULL ? NULL : mqb_nearest(given, names, NUM_KINDS);
    mqb_status status = MQB_ERR_NOT_FOUND;
    if (nearest != NULL)
        mqb_fail(error, status, "unknown kind of data set '%s' in '%s', did you mean '%s'? (kinds: %s)", given, word, nearest,
                 all);
    else
        mqb_fail(error, status, "unknown kind of data set '%.*s' in '%s'; write KIND:PATH with one of the kinds %s",
                 (int)length, word, word, all);
    mqb_deallocate(given);
    return status;
}

mqb_status mqb_dataset_open(const char *word, size_t train_limit, size_t test_limit, uint64_t seed,
                            struct mqb_dataset **dataset, struct mqb_error *error)
{
    const struct mqb_dataset_kind *kind = NULL;
    size_t length = strcspn(word, ":");
    mqb_status status = find_kind(word, length, &kind, error);
    if (status != MQB_OK)
        return status;
    struct mqb_dataset *opened = mqb_allocate(sizeof *opened);
    char *name = mqb_strdup(word);
    if (opened == NULL || name == NULL) {
        mqb_deallocate(opened);
        mqb_deallocate(name);
        return mqb_fail(error, MQB_ERR_MEMORY, "data set %s: no memory", word);
    }
    opened->kind = kind;
    opened->name = name;
    opened->limit[MQB_SPLIT_TRAIN] = train_limit;
    opened->limit[MQB_SPLIT_TEST] = test_limit;
    opened->seed = seed;
    status = kind->open(opened, word[length] == ':' ? word + length + 1 : "", error);
    if (status == MQB_OK && opened->num[MQB_SPLIT_TRAIN] == 0 && opened->num[MQB_SPLIT_TEST] == 0)
        status = mqb_fail(error, MQB_ERR_FORMAT, "data set %s: holds no image at all; expected %s", word, kind->usage);
    /* Image numbers travel as uint32_t (struct mqb_batch, mqb_shuffle). */
    for (int split = 0; split < 2 && status == MQB_OK; split++)
        if (opened->num[split] > UINT32_MAX)
            status = mqb_fail(error, MQB_ERR_UNSUPPORTED,
                              "data set %s: %zu images in one split; at most 4294967295 can be used", word, opened->num[split]);
    if (status != MQB_OK) {
        mqb_dataset_close(opened);
        return status;
    }
    *dataset = opened;
    return MQB_OK;
}

void mqb_dataset_close(struct mqb_dataset *dataset)
{
    if (dataset == NULL)
        return;
    if (dataset->close != NULL)
        dataset->close(dataset);
    mqb_deallocate(dataset->name);
    mqb_deallocate(dataset);
}
