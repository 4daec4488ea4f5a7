/*
 * run.c - a primitive on the calling thread. The objects that tie an operand to its memory are made for each call: they
 * carry the addresses, and a plan is shared by threads.
 */
#include "onednn.h"

enum { MAX_OPERANDS = 5 };

/* OpenMP's interface; its header belongs to one compiler, the library serves all. */
extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int count);

int onednn_threads_one(void)
{
    int threads = omp_get_max_threads();

    if (threads != 1) {
        omp_set_num_threads(1);
    }
    return threads;
}

void onednn_threads_restore(int threads)
{
    if (threads != 1) {
        omp_set_num_threads(threads);
    }
}

static void *address(const void *data, size_t offset)
{
    return (char *)(uintptr_t)data + offset;
}

int onednn_run(const struct mqb_conv_plan *plan, dnnl_primitive_t primitive, int32_t repeats,
               const struct onednn_operand *operands, size_t num_operands)
{
    dnnl_exec_arg_t args[MAX_OPERANDS];
    dnnl_stream_t stream = NULL;
    size_t num_args = 0;
    int threads = onednn_threads_one();
    int failed = dnnl_stream_create(&stream, plan->engine, dnnl_stream_default_flags) != dnnl_success;

    for (size_t i = 0; i < num_operands && !failed; i++) {
        args[i].arg = operands[i].argument;
        failed =
            dnnl_memory_create(&args[i].memory, operands[i].desc, plan->engine, address(operands[i].data, 0)) != dnnl_success;
        num_args += !failed;
    }
    for (int32_t n = 0; n < repeats && !failed; n++) {
        for (size_t i = 0; i < num_args && n > 0 && !failed; i++) {
            if (operands[i].step != 0) {
                void *data = address(operands[i].data, (size_t)n * operands[i].step);
                failed = dnnl_memory_set_data_handle(args[i].memory, data) != dnnl_success;
            }
        }
        failed = failed || dnnl_primitive_execute(primitive, stream, (int)num_args, args) != dnnl_success;
    }
    failed = failed || dnnl_stream_wait(stream) != dnnl_success;
    for (size_t i = 0; i < num_args; i++) {
        dnnl_memory_destroy(args[i].memory);
    }
    dnnl_stream_destroy(stream);
    onednn_threads_restore(threads);
    return failed;
}
