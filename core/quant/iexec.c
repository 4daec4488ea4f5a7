/*
 * iexec.c - runs an integer program: a few images a task, each worker in an arena of its own. What an image gives does not
 * depend on its neighbours, the worker or the order.
 */
#include "quant/program.h"

#include <string.h>

struct run {
    const struct mqb_program *program;
    const float *x;
    int n;
    float *logits;
    uint8_t *const *taps;
    const uint8_t *const *forced; /* NULL, or by tensor what its readers read instead */
    char *arenas;                 /* one a worker */
    double *times;                /* NULL, or by worker and operator: program_times.c */
};

/* The images as the first operators take them: codes, or under float islands reals. */
static void enter(const struct mqb_program *program, int64_t size, const float *x, char *place)
{
    const struct mqb_itensor *t = &program->tensors[program->input];
    const struct mqb_program_tensor *info = &t->info;
    if (!t->real) {
        const struct mqb_quantize_rows rows = {&program->contract, info->scale, info->zero_point,
                                               info->qmin,         info->qmax,  t->offset};
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

/* The output's codes as reals, where the network ends in a quantized tensor. */
static void dequantize_output(const struct mqb_program *program, int64_t size, const uint8_t *codes, float *logits)
{
    const struct mqb_itensor *t = &program->tensors[program->output];
    for (int64_t i = 0; i < size; i++)
        logits[i] = t->info.scale * (float)((int32_t)codes[i] - t->zero_stored);
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
        mqb_iconv_run(op->conv, (int32_t)images, (const uint8_t *)arena + program->tensors[op->in[0]].place, side,
                      (int32_t *)(void *)(arena + program->accumulators), arena + program->scratch, real ? NULL : out, reals);
    } else if (op->kind == MQB_IOP_QUANTIZE) {
        const struct mqb_itensor *x = &program->tensors[op->in[0]];
        mqb_quantize_rows(&op->quantize, images * x->info.size, (const float *)(const void *)(arena + x->place), out);
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
    int64_t first = (int64_t)index * program->group, images = run->n - first;
    if (images > program->group)
        images = program->group;
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
    else if (program->output != MQB_NONE)
        dequantize_output(program, images * program->num_classes,
                          (const uint8_t *)arena + program->tensors[program->output].place,
                          run->logits + first * program->num_classes);
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
    int workers = pool ? mqb_pool_num_threads(pool) : 1, num_tasks = (n - 1) / program->group + 1;
    struct run run = {program, x, n, logits, taps, forced, mqb_allocate_array((size_t)workers, program->arena_size), NULL};
    run.times = times;
    if (!run.arenas)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the tensors of an integer program: %d times %zu bytes", workers,
                        program->arena_size);
    if (pool)
        mqb_pool_run(pool, num_tasks, run_task, &run);
    else
        for (int i = 0; i < num_tasks; i++)
            run_task(&run, i, 0);
    mqb_deallocate(run.arenas);
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
