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
    char *arenas; /* one a worker */
};

static void quantize_input(const struct mqb_program *program, int64_t size, const float *x, uint8_t *codes)
{
    const struct mqb_itensor *t = &program->tensors[program->input];
    const struct mqb_program_tensor *info = &t->info;
    for (int64_t i = 0; i < size; i++)
        codes[i] =
            (uint8_t)(mqb_quantize_value(&program->contract, x[i], info->scale, info->zero_point, info->qmin, info->qmax) +
                      t->offset);
}

static void tap(const struct run *run, int32_t tensor, int64_t first, int64_t images, const uint8_t *codes)
{
    int64_t size = run->program->tensors[tensor].info.size;
    if (run->taps && run->taps[tensor])
        memcpy(run->taps[tensor] + first * size, codes, (size_t)(images * size));
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
    float *logits = out ? NULL : run->logits + first * program->num_classes;
    if (op->kind == MQB_IOP_CONV) {
        mqb_iconv_run(op->conv, (int32_t)images, (const uint8_t *)arena + program->tensors[op->in[0]].place,
                      (int32_t *)(void *)(arena + program->accumulators), arena + program->scratch, out, logits);
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
        tap(run, op->out, first, images, out);
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
    uint8_t *codes = (uint8_t *)arena + input->place;
    quantize_input(program, images * input->info.size, run->x + first * input->info.size, codes);
    tap(run, program->input, first, images, codes);
    for (int32_t i = 0; i < program->num_ops; i++)
        run_op(run, &program->ops[i], arena, first, images);
    if (program->output != MQB_NONE)
        dequantize_output(program, images * program->num_classes,
                          (const uint8_t *)arena + program->tensors[program->output].place,
                          run->logits + first * program->num_classes);
}

mqb_status mqb_program_run(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                           uint8_t *const *taps, struct mqb_error *error)
{
    if (n < 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "an integer program was asked to run %d images, expected 0 or more", n);
    if (n == 0)
        return MQB_OK;
    int workers = pool ? mqb_pool_num_threads(pool) : 1, num_tasks = (n - 1) / program->group + 1;
    struct run run = {program, x, n, logits, taps, mqb_allocate_array((size_t)workers, program->arena_size)};
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
