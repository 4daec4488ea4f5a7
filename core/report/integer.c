/* integer.c - an integer program on the test images. */
#include "report/integer.h"

#include <math.h>
#include <string.h>

#define BATCH 128

int64_t mqb_labels_agree(const float *a, const float *b, int64_t n, int64_t classes)
{
    int64_t agree = 0;
    for (int64_t i = 0; i < n; i++)
        agree += mqb_predicted_class(a + i * classes, classes) == mqb_predicted_class(b + i * classes, classes);
    return agree;
}

mqb_status mqb_integer_test(const struct mqb_integer_test *test, const struct mqb_program *program, int64_t limit,
                            struct mqb_accuracy *accuracy, int64_t *labels_agree, struct mqb_error *error)
{
    int64_t classes = mqb_program_num_classes(program), num_batches = 0;
    double start = mqb_seconds();
    float *logits = mqb_allocate_array(BATCH * (size_t)classes, sizeof *logits);
    struct mqb_loader *loader = NULL;
    mqb_status status = logits == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for logits")
                                       : mqb_session_loader(test->trained, test->dataset, MQB_SPLIT_TEST, BATCH, test->normalize,
                                                            &loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    memset(accuracy, 0, sizeof *accuracy);
    *labels_agree = 0;
    while (status == MQB_OK && (limit == 0 || accuracy->n < limit)) {
        struct mqb_batch batch;
        if ((status = mqb_loader_next(loader, &batch, error)) != MQB_OK || batch.num_images == 0)
            break;
        int64_t done = accuracy->n, n = limit != 0 && limit - done < batch.num_images ? limit - done : batch.num_images;
        if ((status = mqb_program_run(program, test->pool, batch.x, (int)n, logits, NULL, error)) != MQB_OK)
            break;
        mqb_accuracy_add(accuracy, logits, batch.labels, (int)n, classes);
        *labels_agree += mqb_labels_agree(logits, test->fake_logits + done * classes, n, classes);
        num_batches++;
        if (test->progress != NULL && test->progress->report != NULL) {
            struct mqb_progress p = {"evaluate integer", num_batches, (int64_t)mqb_loader_num_batches(loader), NAN,
                                     (double)accuracy->top1 / (double)accuracy->n, mqb_seconds() - start};
            test->progress->report(test->progress->context, &p);
        }
    }
    mqb_loader_destroy(loader);
    mqb_deallocate(logits);
    return status;
}
