/* test_models.c - FP32 logits of real networks against recorded ones: within 1e-4 of the largest logit. */
#include "common/support.h"
#include "quant/quant.h"
#include "exec/exec.h"

#include <math.h>


#define NUM_IMAGES 16

struct model {
    const char *file;
    const char *images; /* CIFAR records or 224 x 224 records */
    int size, label_bytes;
    bool planes;        /* RGB planes, else HWC */
    float scale[3], shift[3];
};

#define IMAGENET {1 / (255 * 0.229f), 1 / (255 * 0.224f), 1 / (255 * 0.225f)}, {-0.485f / 0.229f, -0.456f / 0.224f, -0.406f / 0.225f}
#define RAW {1, 1, 1}, {0, 0, 0}
#define TF {1 / 127.5f, 1 / 127.5f, 1 / 127.5f}, {-1, -1, -1}
#define CIFAR "cifar10/test_lossless_0000-0499.bin", 32, 1, true
#define VAL "imagenet/val16_224_u8.bin", 224, 2, false

static const struct model models[] = {
    {"resnet20_cifar10", CIFAR, IMAGENET},
    {"resnet20_cifar10_convshortcut", CIFAR, IMAGENET},
    {"resnet8_cifar10", CIFAR, RAW},
    {"mobilenetv1_0.75_imagenet", VAL, TF},
    {"mobilenetv2_1.0_imagenet_foldedbn_int8deq", VAL, TF},
};

static float *load_images(const struct model *m)
{
    char path[512];
    void *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/data/%s", MQB_SHARED, m->images);
    OK(mqb_file_read(path, (size_t)1 << 28, &bytes, &size, &err));
    size_t pixels = (size_t)m->size * (size_t)m->size, record = pixels * 3 + (size_t)m->label_bytes;
    assert_true(size >= NUM_IMAGES * record);
    float *x = mqb_allocate_array(NUM_IMAGES * pixels * 3, sizeof *x);
    for (size_t n = 0; n < NUM_IMAGES; n++)
        for (size_t i = 0; i < pixels; i++)
            for (size_t c = 0; c < 3; c++) {
                const uint8_t *image = (const uint8_t *)bytes + n * record + (size_t)m->label_bytes;
                x[(n * pixels + i) * 3 + c] = (float)image[m->planes ? c * pixels + i : i * 3 + c] * m->scale[c] + m->shift[c];
            }
    mqb_deallocate(bytes);
    return x;
}

static void run_model(const struct model *m)
{
    char path[512];
    snprintf(path, sizeof path, "%s/data/models/%s.onnx", MQB_SHARED, m->file);
    if (!mqb_file_exists(path)) {
        print_message("no reference models here: skipped\n");
        skip();
    }
    struct mqb_graph *graph;
    OK(mqb_onnx_import(path, &mqb_ops, &graph, &err));
    struct mqb_pool *pool;
    OK(mqb_pool_create(2, &pool, &err));
    struct mqb_exec_config config = {.graph = graph, .host = mqb_host_table(), .compute = component("native", MQB_COMPUTE_INTERFACE),
                                     .pool = pool, .batch = NUM_IMAGES};
    struct mqb_exec *exec;
    OK(mqb_exec_create(&config, &exec, &err));
    float *x = load_images(m), *want;
    OK(mqb_exec_forward(exec, x, NUM_IMAGES, &err));
    const float *got = mqb_exec_value(exec, graph->output);
    snprintf(path, sizeof path, "%s/data/models/%s.golden16.f32", MQB_SHARED, m->file);
    size_t size, classes = (size_t)mqb_value_size(&graph->values[graph->output]);
    OK(mqb_file_read(path, 1 << 20, (void **)&want, &size, &err));
    assert_int_equal(size, NUM_IMAGES * classes * sizeof(float));
    double largest = 0, worst = 0;
    for (size_t i = 0; i < NUM_IMAGES * classes; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    print_message("%s: largest logit %g, largest difference %g of it\n", m->file, largest, worst / largest);
    assert_true(worst <= 1e-4 * largest);
    mqb_deallocate(want);
    mqb_deallocate(x);
    mqb_exec_destroy(exec);
    mqb_pool_destroy(pool);
    mqb_graph_destroy(graph);
}

#define MODEL_TEST(name, index)                                                                                       \
    static void test_model_##name##_equals_golden(void **state)                                                       \
    {                                                                                                                 \
        (void)state;                                                                                                  \
        run_model(&models[index]);                                                                                    \
    }
MODEL_TEST(resnet20, 0)
MODEL_TEST(resnet20_convshortcut, 1)
MODEL_TEST(resnet8, 2)
MODEL_TEST(mobilenetv1, 3)
MODEL_TEST(mobilenetv2, 4)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_resnet20_equals_golden),
        cmocka_unit_test(test_model_resnet20_convshortcut_equals_golden),
        cmocka_unit_test(test_model_resnet8_equals_golden),
        cmocka_unit_test(test_model_mobilenetv1_equals_golden),
        cmocka_unit_test(test_model_mobilenetv2_equals_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
