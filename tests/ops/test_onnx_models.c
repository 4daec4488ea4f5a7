/* test_onnx_models.c - import and export of whole networks: the published files where present, and the built-in ones. */
#include "../graph/graph_equal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#define MODELS MQB_SHARED "/data/models/"
#define PLACE MQB_BINARY_DIR "/tests/"

struct model {
    const char *file;
    int32_t num_nodes;
    int num_conv, num_params; /* parameters and states */
    int64_t input[3], classes;
};

/* Numbers of operators are those that protoc --decode shows for the files. */
static const struct model models[] = {
    {"resnet20_cifar10.onnx", 73, 19, 97, {3, 32, 32}, 10},
    {"resnet20_cifar10_convshortcut.onnx", 71, 21, 99, {3, 32, 32}, 10},
    {"resnet8_cifar10.onnx", 29, 9, 48, {3, 32, 32}, 10},
    {"mobilenetv1_0.75_imagenet.onnx", 84, 28, 137, {3, 224, 224}, 1000},
    {"mobilenetv2_1.0_imagenet_foldedbn_int8deq.onnx", 100, 53, 106, {3, 224, 224}, 1000},
};

static struct mqb_graph *import(const char *path)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    if (mqb_onnx_import(path, &mqb_ops, &graph, &error) != MQB_OK) {
        fail_msg("%s", error.text);
    }
    return graph;
}

static void export_to(const struct mqb_graph *graph, const char *path)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (mqb_onnx_export(graph, path, &error) != MQB_OK) {
        fail_msg("%s", error.text);
    }
}

static bool present(const char *path)
{
    if (!mqb_file_exists(path)) {
        print_message("skipped: %s is not here\n", path);
    }
    return mqb_file_exists(path);
}

static void test_import_published_model_has_its_nodes_and_shapes(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof(models) / sizeof(models[0]); m++) {
        char path[512];
        snprintf(path, sizeof(path), "%s%s", MODELS, models[m].file);
        if (!present(path)) {
            skip();
        }
        struct mqb_graph *graph = import(path);
        int num_conv = 0, num_params = 0;
        for (int32_t k = 0; k < graph->num_ordered; k++) {
            num_conv += strcmp(graph->nodes[graph->order[k]].op->name, "Conv") == 0;
        }
        for (int32_t i = 0; i < graph->num_values; i++) {
            const struct mqb_value *value = &graph->values[i];
            num_params += !value->dead && (value->kind == MQB_VALUE_PARAM || value->kind == MQB_VALUE_STATE);
        }
        assert_int_equal(graph->num_ordered, models[m].num_nodes);
        assert_int_equal(num_conv, models[m].num_conv);
        assert_int_equal(num_params, models[m].num_params);
        const struct mqb_value *input = &graph->values[graph->input], *output = &graph->values[graph->output];
        assert_string_equal(input->name, "input");
        assert_string_equal(output->name, "logits");
        assert_int_equal(input->dims[0], MQB_BATCH);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(input->dims[1 + i], models[m].input[i]);
        }
        assert_int_equal(output->rank, 2);
        assert_int_equal(output->dims[1], models[m].classes);
        mqb_graph_destroy(graph);
    }
}

static void check_round_trip(struct mqb_graph *graph)
{
    struct mqb_error error = MQB_ERROR_INIT;
    void *first, *second;
    size_t first_size, second_size;
    export_to(graph, PLACE "round_trip.onnx");
    struct mqb_graph *again = import(PLACE "round_trip.onnx");
    const char *differ = graphs_differ(graph, again);
    if (differ) {
        fail_msg("the round trip changed '%s'", differ);
    }
    assert_int_equal(mqb_file_read(PLACE "round_trip.onnx", SIZE_MAX / 4, &first, &first_size, &error), MQB_OK);
    export_to(again, PLACE "round_trip.onnx");
    assert_int_equal(mqb_file_read(PLACE "round_trip.onnx", SIZE_MAX / 4, &second, &second_size, &error), MQB_OK);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    mqb_deallocate(first);
    mqb_deallocate(second);
    mqb_graph_destroy(again);
}

static void test_export_published_model_comes_back_the_same(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof(models) / sizeof(models[0]); m++) {
        char path[512];
        snprintf(path, sizeof(path), "%s%s", MODELS, models[m].file);
        if (!present(path)) {
            skip();
        }
        struct mqb_graph *graph = import(path);
        graph->normalize = mqb_strdup("mean:0.485,0.456,0.406/std:0.229,0.224,0.225");
        check_round_trip(graph);
        mqb_graph_destroy(graph);
    }
}

/* The built-in network is the published one: same nodes, same parameters. */
static void test_build_resnet20_matches_published_structure(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *built;
    if (!present(MODELS "resnet20_cifar10.onnx")) {
        skip();
    }
    struct mqb_graph *published = import(MODELS "resnet20_cifar10.onnx");
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 1, &built, &error), MQB_OK);
    assert_int_equal(built->num_ordered, published->num_ordered);
    for (int32_t k = 0; k < built->num_ordered; k++) {
        const struct mqb_node *a = &built->nodes[built->order[k]], *b = &published->nodes[published->order[k]];
        assert_string_equal(a->name, b->name);
        assert_ptr_equal(a->op, b->op);
        assert_int_equal(a->num_inputs, b->num_inputs);
        assert_int_equal(a->num_attrs, b->num_attrs);
        for (int32_t i = 0; i < a->num_attrs; i++) {
            assert_true(attrs_equal(&a->attrs[i], &b->attrs[i]));
        }
        for (int32_t i = 0; i < a->num_inputs; i++) {
            const struct mqb_value *u = &built->values[a->inputs[i]], *v = &published->values[b->inputs[i]];
            assert_int_equal(u->kind, v->kind);
            assert_int_equal(mqb_value_size(u), mqb_value_size(v));
            if (u->data) {
                assert_string_equal(u->name, v->name);
            }
        }
    }
    mqb_graph_destroy(published);
    mqb_graph_destroy(built);
}

static void test_build_networks_come_back_from_a_file_the_same(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    for (const char *const *name = mqb_model_names(); *name; name++) {
        struct mqb_graph *graph;
        assert_int_equal(mqb_model_build(*name, &mqb_ops, 1, 28, 27, 7, 3, &graph, &error), MQB_OK);
        int depth = 1; /* weighted layers on the way from input to output, the linear one among them; no projections */
        for (int32_t k = 0; k < graph->num_ordered; k++) {
            const struct mqb_node *node = &graph->nodes[graph->order[k]];
            depth += strcmp(node->op->name, "Conv") == 0 && strstr(node->name, "downsample") == NULL;
        }
        if (strncmp(*name, "resnet", 6) == 0) {
            assert_int_equal(depth, atoi(*name + strlen("resnet")));
        }
        assert_int_equal(graph->values[graph->output].dims[1], 7);
        check_round_trip(graph);
        mqb_graph_destroy(graph);
    }
}

static void test_build_initialization_has_he_variance_and_follows_the_seed(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *a, *b, *c;
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 5, &a, &error), MQB_OK);
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 5, &b, &error), MQB_OK);
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 6, &c, &error), MQB_OK);
    assert_null(graphs_differ(a, b));
    assert_non_null(graphs_differ(a, c));
    const struct mqb_value *weight = &a->values[mqb_graph_find_value(a, "layer3.1.conv2.weight")];
    double sum = 0.0, squares = 0.0, n = (double)mqb_value_size(weight);
    for (int64_t i = 0; i < mqb_value_size(weight); i++) {
        sum += (double)weight->data[i];
        squares += (double)weight->data[i] * (double)weight->data[i];
    }
    double wanted = 2.0 / (9.0 * 64.0); /* of 36864 numbers: the mean is within 5 sigma, the variance within 4 % */
    assert_true(sum / n * sum / n < 25.0 * wanted / n);
    assert_true(squares / n > 0.96 * wanted && squares / n < 1.04 * wanted);
    mqb_graph_destroy(a);
    mqb_graph_destroy(b);
    mqb_graph_destroy(c);
}

static void test_build_unknown_name_lists_and_suggests(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    assert_int_equal(mqb_model_build("resnet21", &mqb_ops, 3, 32, 32, 10, 1, &graph, &error), MQB_ERR_NOT_FOUND);
    assert_null(graph);
    assert_non_null(strstr(error.text, "resnet21"));
    assert_non_null(strstr(error.text, "resnet20, resnet32"));
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 0, 32, 32, 10, 1, &graph, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 1, 1, &graph, &error), MQB_ERR_ARGUMENT);
}

/* ---- damage ---- */

/* A network file of our own in memory. */
static uint8_t *sample(size_t *size)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    void *data;
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 8, 8, 10, 1, &graph, &error), MQB_OK);
    export_to(graph, PLACE "sample.onnx");
    mqb_graph_destroy(graph);
    assert_int_equal(mqb_file_read(PLACE "sample.onnx", SIZE_MAX / 4, &data, size, &error), MQB_OK);
    return data;
}

/* An error sentence that names the file, or success; never a crash. Returns true if it was refused. */
static bool try_import(const void *data, size_t size)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    assert_int_equal(mqb_file_write(PLACE "damaged.onnx", data, size, &error), MQB_OK);
    mqb_status status = mqb_onnx_import(PLACE "damaged.onnx", &mqb_ops, &graph, &error);
    if (status == MQB_OK) {
        mqb_graph_destroy(graph);
        return false;
    }
    assert_null(graph);
    if (!strstr(error.text, "damaged.onnx: ")) {
        fail_msg("the sentence does not name the file: %s", error.text);
    }
    return true;
}

static void test_import_truncated_file_is_refused(void **state)
{
    (void)state;
    size_t size;
    uint8_t *data = sample(&size);
    for (size_t cut = 0; cut < size; cut += cut < 3000 ? 97 : size / 60) {
        assert_true(try_import(data, cut));
    }
    assert_true(try_import(data, size - 1));
    assert_false(try_import(data, size));
    mqb_deallocate(data);
}

static void test_import_flipped_bytes_never_crash(void **state)
{
    (void)state;
    size_t size;
    uint8_t *data = sample(&size), *copy = malloc(size);
    int refused = 0;
    for (uint64_t round = 0; round < 300; round++) {
        memcpy(copy, data, size);
        for (uint64_t k = 0; k < 1 + round % 4; k++) {
            uint32_t random[4];
            mqb_philox(7, round, k, random);
            /* Most of the file is weights; the structure, at its begin, gets most of the damage. */
            size_t at = random[0] % (round % 5 == 4 ? size : size < 12000 ? size : 12000);
            copy[at] = (uint8_t)random[1];
        }
        refused += try_import(copy, size);
    }
    assert_true(refused > 50);
    free(copy);
    mqb_deallocate(data);
}

static void test_import_random_bytes_are_refused(void **state)
{
    (void)state;
    uint8_t data[4096];
    for (uint64_t round = 0; round < 64; round++) {
        for (size_t i = 0; i < sizeof(data); i += 16) {
            uint32_t random[4];
            mqb_philox(11, round, i, random);
            memcpy(data + i, random, 16);
        }
        assert_true(try_import(data, sizeof(data) >> (round % 8)));
    }
}

static void test_import_nan_weight_names_tensor_and_element(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 8, 8, 10, 1, &graph, &error), MQB_OK);
    uint32_t bits = 0x7fc00000; /* a NaN */
    memcpy(&graph->values[mqb_graph_find_value(graph, "layer1.0.conv1.weight")].data[14], &bits, 4);
    export_to(graph, PLACE "nan.onnx");
    mqb_graph_destroy(graph);
    assert_int_equal(mqb_onnx_import(PLACE "nan.onnx", &mqb_ops, &graph, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "nan.onnx"));
    assert_non_null(strstr(error.text, "'layer1.0.conv1.weight' is NaN at element 14 (layer1.0.conv1.weight[0][1][1][2])"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_import_published_model_has_its_nodes_and_shapes),
        cmocka_unit_test(test_export_published_model_comes_back_the_same),
        cmocka_unit_test(test_build_resnet20_matches_published_structure),
        cmocka_unit_test(test_build_networks_come_back_from_a_file_the_same),
        cmocka_unit_test(test_build_initialization_has_he_variance_and_follows_the_seed),
        cmocka_unit_test(test_build_unknown_name_lists_and_suggests),
        cmocka_unit_test(test_import_truncated_file_is_refused),
        cmocka_unit_test(test_import_flipped_bytes_never_crash),
        cmocka_unit_test(test_import_random_bytes_are_refused),
        cmocka_unit_test(test_import_nan_weight_names_tensor_and_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
