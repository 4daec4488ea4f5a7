/*
 * loader.c - batches of floats, made ahead by background threads while the caller computes.
 *
 * Two slots: the caller holds one batch, the workers fill the next. Workers take CHUNK images at a time, so that both work on
 * the batch that is needed first. What an image becomes depends on (seed, epoch, position) alone, never on who makes it when.
 */
#include "data/source.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#define NUM_WORKERS 2
#define NUM_SLOTS 2
#define CHUNK 8
#define MAX_SIZE 8192

/* Streams of random numbers: purpose in the top byte, epoch below. The counter is the image's position in the epoch. */
enum purpose { ORDER = 0xD0, FLIP = 0xD1, CROP_Y = 0xD2, CROP_X = 0xD3, RESIZED_CROP = 0xD4 };

static uint64_t stream_of(enum purpose purpose, uint64_t epoch)
{
    return (uint64_t)purpose << 56 | (epoch & (((uint64_t)1 << 56) - 1));
}

struct slot {
    float *x;
    int32_t *labels;
    uint32_t *index;
    size_t batch; /* which one is in here or being made; SIZE_MAX: none */
    int32_t num, done;
    int32_t failed; /* the first image that failed, num if none */
    mqb_status status;
    struct mqb_error error;
};

struct worker {
    struct mqb_loader *loader;
    pthread_t thread;
    uint8_t *raw, *pixels; /* as the data set gives it; at the network's size */
};

struct mqb_loader {
    const struct mqb_dataset *dataset;
    struct mqb_loader_config config;
    float table[4][256]; /* normalized u8 by channel */
    size_t num_images, num_batches;
    uint32_t *order; /* of the epoch; NULL: file order */
    struct slot slots[NUM_SLOTS];
    struct worker workers[NUM_WORKERS];
    int num_workers;
    atomic_bool cancel; /* workers drop what they hold */

    pthread_mutex_t lock; /* guards all below and the slots' counters */
    pthread_cond_t work;  /* there may be something to do */
    pthread_cond_t ready; /* a slot is full, or a worker has become idle */
    bool started, stop;
    int num_active;
    uint64_t epoch;
    size_t making;       /* the batch whose images are being handed out ... */
    int32_t making_item; /* ... from this one on */
    size_t next;         /* the batch that mqb_loader_next gives next */
    size_t released;     /* batches below are not in the caller's hands any more */
};

/* ---- one image ---- */

/* Padded crop, flip and normalization in one pass; padding is u8 0. */
static void write_image(const struct mqb_loader *loader, const uint8_t *pixels, int32_t down, int32_t right, bool flip,
                        float *out)
{
    int32_t size = loader->config.size, channels = loader->dataset->channels;
    for (int32_t y = 0; y < size; y++) {
        int32_t from_y = y + down;
        for (int32_t x = 0; x < size; x++, out += channels) {
            int32_t from_x = (flip ? size - 1 - x : x) + right;
            bool inside = from_y >= 0 && from_y < size && from_x >= 0 && from_x < size;
            const uint8_t *from = inside ? pixels + ((size_t)from_y * (size_t)size + (size_t)from_x) * (size_t)channels : NULL;
            for (int32_t c = 0; c < channels; c++)
                out[c] = loader->table[c][inside ? from[c] : 0];
        }
    }
}

static mqb_status make_image(const struct worker *worker, uint64_t epoch, size_t position, size_t index, float *out,
                             struct mqb_error *error)
{
    const struct mqb_loader *loader = worker->loader;
    const struct mqb_loader_config *config = &loader->config;
    const struct mqb_dataset *dataset = loader->dataset;
    uint64_t seed = config->seed, key = 0;
    bool resized_crop = dataset->height == 0 && config->augment.resized_crop;
    if (resized_crop) {
        uint32_t word[4];
        mqb_philox(seed, stream_of(RESIZED_CROP, epoch), position, word);
        key = (uint64_t)word[0] << 32 | word[1];
    }
    uint8_t *target = worker->raw != NULL ? worker->raw : worker->pixels;
    mqb_status status = dataset->image(dataset, config->split, index, config->size, resized_crop, key, target, error);
    if (status == MQB_OK && worker->raw != NULL) {
        struct mqb_resize resize = {
            .height = dataset->height,
            .width = dataset->width,
            .channels = dataset->channels,
            .stride = (size_t)dataset->width * (size_t)dataset->channels,
            .to_height = config->size,
            .to_width = config->size,
            .rows = config->size,
            .cols = config->size,
        };
        status = mqb_resize(&resize, worker->raw, worker->pixels, error);
    }
    if (status != MQB_OK)
        return status;
    int32_t padding = config->augment.crop_padding, down = 0, right = 0;
    if (padding > 0) {
        down = (int32_t)(mqb_uniform(seed, stream_of(CROP_Y, epoch), position) * (float)(2 * padding + 1)) - padding;
        right = (int32_t)(mqb_uniform(seed, stream_of(CROP_X, epoch), position) * (float)(2 * padding + 1)) - padding;
    }
    bool flip = config->augment.flip && mqb_uniform(seed, stream_of(FLIP, epoch), position) < 0.5f;
    write_image(loader, worker->pixels, down, right, flip, out);
    return MQB_OK;
}

/* ---- the background ---- */

static int32_t batch_count(const struct mqb_loader *loader, size_t batch)
{
    size_t left = loader->num_images - batch * (size_t)loader->config.batch;
    return left < (size_t)loader->config.batch ? (int32_t)left : loader->config.batch;
}

struct chunk {
    struct slot *slot;
    size_t batch;
    uint64_t epoch;
    int32_t begin, end;
};

/* Called with the lock held. False: nothing to do now. */
static bool take_chunk(struct mqb_loader *loader, struct chunk *chunk)
{
    if (!loader->started || loader->making >= loader->num_batches || loader->making >= loader->released + NUM_SLOTS)
        return false;
    struct slot *slot = &loader->slots[loader->making % NUM_SLOTS];
    if (loader->making_item == 0) {
        slot->batch = loader->making;
        slot->num = slot->failed = batch_count(loader, loader->making);
        slot->done = 0;
        slot->status = MQB_OK;
    }
    int32_t end = loader->making_item + CHUNK < slot->num ? loader->making_item + CHUNK : slot->num;
    *chunk = (struct chunk){slot, slot->batch, loader->epoch, loader->making_item, end};
    loader->making_item = end;
    if (end == slot->num) {
        loader->making++;
        loader->making_item = 0;
    }
    return true;
}

/* Called without the lock. Returns the first image that failed, chunk->end if none did. */
static int32_t make_chunk(const struct worker *worker, const struct chunk *chunk, mqb_status *status, struct mqb_error *error)
{
    struct mqb_loader *loader = worker->loader;
    size_t batch = (size_t)loader->config.batch, size = (size_t)loader->config.size;
    size_t image_size = size * size * (size_t)loader->dataset->channels;
    for (int32_t i = chunk->begin; i < chunk->end; i++) {
        if (atomic_load_explicit(&loader->cancel, memory_order_relaxed))
            return chunk->end;
        size_t position = chunk->batch * batch + (size_t)i;
        uint32_t index = loader->order == NULL ? (uint32_t)position : loader->order[position];
        chunk->slot->index[i] = index;
        chunk->slot->labels[i] = loader->dataset->labels[loader->config.split][index];
        *status = make_image(worker, chunk->epoch, position, index, chunk->slot->x + (size_t)i * image_size, error);
        if (*status != MQB_OK)
            return i;
    }
    return chunk->end;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct mqb_loader *loader = worker->loader;
    pthread_mutex_lock(&loader->lock);
    for (;;) {
        struct chunk chunk;
        while (!loader->stop && !take_chunk(loader, &chunk))
            pthread_cond_wait(&loader->work, &loader->lock);
        if (loader->stop)
            break;
        loader->num_active++;
        pthread_mutex_unlock(&loader->lock);
        struct mqb_error error = MQB_ERROR_INIT;
        mqb_status status = MQB_OK;
        int32_t failed = make_chunk(worker, &chunk, &status, &error);
        pthread_mutex_lock(&loader->lock);
        loader->num_active--;
        struct slot *slot = chunk.slot;
        if (status != MQB_OK && failed < slot->failed) {
            slot->failed = failed;
            slot->status = status;
            slot->error = error;
        }
        slot->done += chunk.end - chunk.begin;
        if (slot->done == slot->num || loader->num_active == 0)
            pthread_cond_broadcast(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* The background never takes the program's signals. */
static int start_worker(struct worker *worker)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&worker->thread, NULL, run_worker, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* ---- the caller's side ---- */

static mqb_status check_config(const struct mqb_dataset *dataset, const struct mqb_loader_config *config,
                               struct mqb_error *error)
{
    size_t num = dataset->num[config->split];
    if (num == 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s has no %s images; name a folder or files that have some",
                        dataset->name, mqb_split_name(config->split));
    if (config->batch < 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "a batch of %d images; expected at least 1", config->batch);
    if (config->size < 1 || config->size > MAX_SIZE)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "images of %dx%d pixels for the network; expected 1 to %d", config->size,
                        config->size, MAX_SIZE);
    if (dataset->channels < 1 || dataset->channels > 4)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "data set %s has %d channels; expected 1 to 4", dataset->name,
                        dataset->channels);
    if (config->augment.crop_padding < 0 || config->augment.crop_padding > config->size)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "a crop padding of %d pixels; expected 0 to %d, the images' size",
                        config->augment.crop_padding, config->size);
    if (config->drop_last && num < (size_t)config->batch)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "data set %s has %zu %s images, fewer than one batch of %d; choose a smaller batch", dataset->name, num,
                        mqb_split_name(config->split), config->batch);
    return MQB_OK;
}

static mqb_status allocate(struct mqb_loader *loader, struct mqb_error *error)
{
    const struct mqb_dataset *dataset = loader->dataset;
    size_t batch = (size_t)loader->config.batch, size = (size_t)loader->config.size, channels = (size_t)dataset->channels;
    size_t image_size = size * size * channels, raw_size = (size_t)dataset->height * (size_t)dataset->width * channels;
    bool scaled = raw_size > 0 && (dataset->height != loader->config.size || dataset->width != loader->config.size);
    bool complete = true;
    for (int i = 0; i < NUM_SLOTS; i++) {
        struct slot *slot = &loader->slots[i];
        slot->batch = SIZE_MAX;
        slot->x = mqb_allocate_array(batch, image_size * sizeof *slot->x);
        slot->labels = mqb_allocate_array(batch, sizeof *slot->labels);
        slot->index = mqb_allocate_array(batch, sizeof *slot->index);
        complete = complete && slot->x != NULL && slot->labels != NULL && slot->index != NULL;
    }
    for (int i = 0; i < NUM_WORKERS; i++) {
        struct worker *worker = &loader->workers[i];
        worker->loader = loader;
        worker->pixels = mqb_allocate(image_size);
        worker->raw = scaled ? mqb_allocate(raw_size) : NULL;
        complete = complete && worker->pixels != NULL && (worker->raw != NULL) == scaled;
    }
    if (loader->config.shuffle) {
        loader->order = mqb_allocate_array(loader->num_images, sizeof *loader->order);
        complete = complete && loader->order != NULL;
    }
    if (!complete)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for batches of %zu images of %zux%zu; choose a smaller batch", batch,
                        size, size);
    return MQB_OK;
}

mqb_status mqb_loader_create(const struct mqb_dataset *dataset, const struct mqb_loader_config *config,
                             struct mqb_loader **loader, struct mqb_error *error)
{
    mqb_status status = check_config(dataset, config, error);
    if (status != MQB_OK)
        return status;
    struct mqb_loader *created = mqb_allocate(sizeof *created);
    if (created == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a loader");
    created->dataset = dataset;
    created->config = *config;
    created->num_images = dataset->num[config->split];
    size_t batch = (size_t)config->batch;
    created->num_batches = created->num_images / batch + (!config->drop_last && created->num_images % batch != 0);
    for (int c = 0; c < 4; c++)
        for (int u = 0; u < 256; u++)
            created->table[c][u] = (float)u * config->normalize.a[c] + config->normalize.b[c];
    atomic_init(&created->cancel, false);
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->work, NULL);
    pthread_cond_init(&created->ready, NULL);
    status = allocate(created, error);
    for (int i = 0; i < NUM_WORKERS && status == MQB_OK; i++) {
        int failed = start_worker(&created->workers[i]);
        if (failed == 0)
            created->num_workers++;
        else
            status = mqb_fail(error, MQB_ERR_MEMORY, "a thread for loading data cannot be started (%s)", strerror(failed));
    }
    if (status != MQB_OK) {
        mqb_loader_destroy(created);
        return status;
    }
    *loader = created;
    return MQB_OK;
}

void mqb_loader_destroy(struct mqb_loader *loader)
{
    if (loader == NULL)
        return;
    atomic_store(&loader->cancel, true);
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->num_workers; i++)
        pthread_join(loader->workers[i].thread, NULL);
    for (int i = 0; i < NUM_WORKERS; i++) {
        mqb_deallocate(loader->workers[i].raw);
        mqb_deallocate(loader->workers[i].pixels);
    }
    for (int i = 0; i < NUM_SLOTS; i++) {
        mqb_deallocate(loader->slots[i].x);
        mqb_deallocate(loader->slots[i].labels);
        mqb_deallocate(loader->slots[i].index);
    }
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->ready);
    pthread_mutex_destroy(&loader->lock);
    mqb_deallocate(loader->order);
    mqb_deallocate(loader);
}

size_t mqb_loader_num_batches(const struct mqb_loader *loader)
{
    return loader->num_batches;
}

mqb_status mqb_loader_start(struct mqb_loader *loader, uint64_t epoch, size_t first, struct mqb_error *error)
{
    if (first > loader->num_batches)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "the epoch is to start at batch %zu, but has only %zu; was the batch size or the data set changed?",
                        first, loader->num_batches);
    pthread_mutex_lock(&loader->lock);
    loader->started = false;
    atomic_store(&loader->cancel, true);
    while (loader->num_active > 0)
        pthread_cond_wait(&loader->ready, &loader->lock);
    atomic_store(&loader->cancel, false);
    if (loader->order != NULL)
        mqb_shuffle(loader->config.seed, stream_of(ORDER, epoch), loader->order, (uint32_t)loader->num_images);
    for (int i = 0; i < NUM_SLOTS; i++)
        loader->slots[i].batch = SIZE_MAX;
    loader->epoch = epoch;
    loader->making = loader->next = loader->released = first;
    loader->making_item = 0;
    loader->started = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    return MQB_OK;
}

mqb_status mqb_loader_next(struct mqb_loader *loader, struct mqb_batch *batch, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    *batch = (struct mqb_batch){0};
    pthread_mutex_lock(&loader->lock);
    if (!loader->started) {
        status = mqb_fail(error, MQB_ERR_ARGUMENT, "a loader was asked for a batch before mqb_loader_start");
        goto out;
    }
    loader->released = loader->next;
    pthread_cond_broadcast(&loader->work);
    if (loader->next == loader->num_batches)
        goto out;
    struct slot *slot = &loader->slots[loader->next % NUM_SLOTS];
    while (slot->batch != loader->next || slot->done < slot->num)
        pthread_cond_wait(&loader->ready, &loader->lock);
    if (slot->status != MQB_OK) { /* stays: asking again gives the same answer */
        status = mqb_fail(error, slot->status, "%s", slot->error.text);
        goto out;
    }
    loader->next++;
    *batch = (struct mqb_batch){slot->num, slot->x, slot->labels, slot->index};
out:
    pthread_mutex_unlock(&loader->lock);
    return status;
}
