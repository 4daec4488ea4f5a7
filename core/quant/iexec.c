/*
 * iexec.c - runs an integer program: a few images a task, each worker in an arena of its own. What an image gives does not
 * depend on its neighbours, the worker or the order.
 */
#include "quant/program.h"

#include <pthread.h>
#include <string.h>

struct run {
    const struct mqb_program *program;
    const float *x;
    int n;
    int group; /* images a task */
    float *logits;
    uint8_t *const *taps;
    const uint8_t *const *forced; /* NULL, or by tensor what its readers read instead */
    char *arenas;                 /* one a worker */
    struct mqb_pool *pool;        /* NULL; or what shares out a layer's bands, with all tensors in the first arena */
    double *times;                /* NULL, or by worker and operator: program_times.c */
};

struct layer_run {
    const struct run *run;
    struct mqb_iconv_run conv;
    int32_t workers;
};

static void run_band(void *context, int index, int worker)
{
    const struct layer_run *layer = context;
    const struct mqb_program *program = layer->run->program;
    char *arena = layer->run->arenas + (size_t)worker * program->arena_size;
    mqb_iconv_run_band(&layer->conv, layer->workers, index, (int32_t *)(void *)(arena + program->accumulators),
                       arena + program->scratch);
}

/* On one worker, or shared out. */
static void run_conv(const struct run *run, const struct mqb_iconv_run *conv, char *arena)
{
    const struct mqb_program *program = run->program;
    struct layer_run layer = {run, *conv, run->pool ? mqb_pool_num_threads(run->pool) : 1};
    const int32_t bands = mqb_iconv_num_bands(conv, layer.workers);
    if (run->pool)
        mqb_pool_run(run->pool, bands, run_band, &layer);
    else
        for (int32_t i = 0; i < bands; i++)
            mqb_iconv_run_band(conv, 1, i, (int32_t *)(void *)(arena + program->accumulators), arena + program->scratch);
}

/* The images as the first operators take them: codes, or under float islands reals. */
static void enter(const struct mqb_program *program, int64_t size, const float *x, char *place)
{
    const struct mqb_itensor *t = &program->tensors[program->input];
    const struct mqb_program_tensor *info = &t->info;
    if (!t->real) {
        const struct mqb_contract *rule = mqb_program_rule(program, MQB_FACTOR_INPUT);
        const struct mqb_quantize_rows rows = {rule, info->scale, info->zero_point, info->qmin, info->qmax, t->offset};
        mqb_quantize_rows(&rows, size, x, (uint8_t *)place);
        return;
    }
    memcpy(place, x, (size_t)size * sizeof(float));
    if (program->half)
        mqb_real_halves(size, (float *)(void *)place);
}

static void tap(const struct run *run, int32_t tensor, int64_t first, int64_t images, char *arena)
{
    const struct mqb_itensor *t = &run->program->tensors[tensor];
    if (!t->real && run->taps && run->taps[t->index])
        memcpy(run->taps[t->index] + first * t->info.size, arena + t->place, (size_t)(images * t->info.size));
    if (!t->real && run->forced && run->forced[t->index])
        memcpy(arena + t->place, run->forced[t->index] + first * t->info.size, (size_t)(images * t->info.size));
}

static void dequantize(const struct mqb_itensor *t, int64_t size, const uint8_t *codes, float *reals)
{
    for (int64_t i = 0; i < size; i++)
        reals[i] = t->info.scale * (float)((int32_t)codes[i] - t->zero_stored);
}

static void run_op(const struct run *run, const struct mqb_iop *op, char *arena, int64_t first, int64_t images)
{
    const struct mqb_program *program = run->program;
    const uint8_t *in[MQB_MAX_INPUTS];
    uint8_t *out = op->out == MQB_NONE ? NULL : (uint8_t *)arena + program->tensors[op->out].place;
    if (op->kind == MQB_IOP_CONV) {
        bool real = !out || program->tensors[op->out].real;
        float *reals = !out ? run->logits + first * program->num_classes : real ? (float *)(void *)out : NULL;
        const uint8_t *side = op->conv->adds ? (const uint8_t *)arena + program->tensors[op->in[1]].place : NULL;
        const uint8_t *x = (const uint8_t *)arena + program->tensors[op->in[0]].place;
        const struct mqb_iconv_run conv = {op->conv, (int32_t)images, x, side, real ? NULL : out, reals};
        run_conv(run, &conv, arena);
    } else if (op->kind == MQB_IOP_QUANTIZE) {
        const struct mqb_itensor *x = &program->tensors[op->in[0]];
        mqb_quantize_rows(&op->quantize, images * x->info.size, (const float *)(const void *)(arena + x->place), out);
    } else if (op->kind == MQB_IOP_DEQUANTIZE) {
        const struct mqb_itensor *x = &program->tensors[op->in[0]];
        dequantize(x, images * x->info.size, (const uint8_t *)arena + x->place, (float *)(void *)out);
    } else if (op->kind == MQB_IOP_REAL) {
        mqb_ireal_run(program, op, images, arena, arena + program->scratch);
    } else {
        for (int64_t i = 0; i < images; i++) {
            for (int32_t j = 0; j < op->num_in; j++) {
                const struct mqb_itensor *t = &program->tensors[op->in[j]];
                in[j] = (const uint8_t *)arena + t->place + i * t->info.size;
            }
            mqb_iop_run(program, op, in, out + i * program->tensors[op->out].info.size);
        }
    }
    if (out)
        tap(run, op->out, first, images, arena);
}

static void run_task(void *context, int index, int worker)
{
    const struct run *run = context;
    const struct mqb_program *program = run->program;
    const struct mqb_itensor *input = &program->tensors[program->input];
    char *arena = run->arenas + (size_t)worker * program->arena_size;
    int64_t first = (int64_t)index * run->group, images = run->n - first;
    if (images > run->group)
        images = run->group;
    enter(program, images * input->info.size, run->x + first * input->info.size, arena + input->place);
    tap(run, program->input, first, images, arena);
    for (int32_t i = 0; i < program->num_ops; i++) {
        double start = run->times ? mqb_seconds() : 0.0;
        run_op(run, &program->ops[i], arena, first, images);
        if (run->times)
            run->times[(size_t)worker * (size_t)program->num_ops + (size_t)i] += mqb_seconds() - start;
    }
    if (program->output != MQB_NONE && program->tensors[program->output].real)
        memcpy(run->logits + first * program->num_classes, arena + program->tensors[program->output].place,
               (size_t)(images * program->num_classes) * sizeof(float));
    else if (program->output != MQB_NONE) /* the network ends in a quantized tensor */
        dequantize(&program->tensors[program->output], images * program->num_classes,
                   (const uint8_t *)arena + program->tensors[program->output].place, run->logits + first * program->num_classes);
}

/* ---- arenas ---- */

/* One set of arenas stays with the program between runs; a run that finds it taken makes its own. */
struct mqb_spare {
    pthread_mutex_t mutex;
    int workers;
    char *arenas;
};

struct mqb_spare *mqb_spare_create(void)
{
    struct mqb_spare *spare = mqb_allocate(sizeof(*spare));
    if (spare)
        pthread_mutex_init(&spare->mutex, NULL);
    return spare;
}

void mqb_spare_destroy(struct mqb_spare *spare)
{
    if (!spare)
        return;
    pthread_mutex_destroy(&spare->mutex);
    mqb_deallocate(spare->arenas);
    mqb_deallocate(spare);
}

static char *swap_arenas(struct mqb_spare *spare, int workers, char *arenas, int *held)
{
    pthread_mutex_lock(&spare->mutex);
    char *old = spare->arenas;
    *held = spare->workers;
    spare->arenas = arenas;
    spare->workers = workers;
    pthread_mutex_unlock(&spare->mutex);
    return old;
}

static char *take_arenas(const struct mqb_program *program, int workers)
{
    int held;
    char *arenas = swap_arenas(program->spare, 0, NULL, &held);
    if (arenas && held >= workers)
        return arenas;
    mqb_deallocate(arenas);
    return mqb_allocate_array((size_t)workers, program->arena_size);
}

static void give_arenas(const struct mqb_program *program, int workers, char *arenas)
{
    int held;
    mqb_deallocate(swap_arenas(program->spare, workers, arenas, &held));
}

mqb_status mqb_program_run(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                           uint8_t *const *taps, struct mqb_error *error)
{
    return mqb_program_run_forced(program, pool, x, n, logits, taps, NULL, error);
}

static mqb_status run_images(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                             uint8_t *const *taps, const uint8_t *const *forced, double *times, struct mqb_error *error)
{
    if (n < 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "an integer program was asked to run %d images, expected 0 or more", n);
    if (n == 0)
        return MQB_OK;
    int workers = pool ? mqb_pool_num_threads(pool) : 1, share = (n - 1) / workers + 1;
    int group = share < program->group ? share : program->group, num_tasks = (n - 1) / group + 1;
    struct run run = {program, x, n, group, logits, taps, forced, take_arenas(program, workers), NULL, times};
    if (!run.arenas)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the tensors of an integer program: %d times %zu bytes", workers,
                        program->arena_size);
    if (num_tasks < workers) /* too few for all: they work on one together */
        run.pool = pool;
    if (pool && !run.pool)
        mqb_pool_run(pool, num_tasks, run_task, &run);
    else
        for (int i = 0; i < num_tasks; i++)
            run_task(&run, i, 0);
    give_arenas(program, workers, run.arenas);
    return MQB_OK;
}

mqb_status mqb_program_run_forced(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n,
                                  float *logits, uint8_t *const *taps, const uint8_t *const *forced, struct mqb_error *error)
{
    return run_images(program, pool, x, n, logits, taps, forced, NULL, error);
}

mqb_status mqb_program_run_timed(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                                 double *times, struct mqb_error *error)
{
    return run_images(program, pool, x, n, logits, NULL, NULL, times, error);
}
