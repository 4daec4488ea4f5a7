/*
 * test_torch_networks.c - torchvision's own export of each network, imported: equal logits; its weights, copied by name into
 * the built-in network: equal logits. Runs where PyTorch is installed.
 */
#include "network_weights.h"

#include <sys/stat.h>
#include <sys/wait.h>

static float *floats(const char *folder, const char *name, const char *end, size_t count)
{
    char path[512];
    void *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/%s.%s.f32", folder, name, end);
    OK(mqb_file_read(path, (size_t)1 << 24, &bytes, &size, &err));
    assert_int_equal(size, count * sizeof(float));
    return bytes;
}

static struct mqb_graph *imported(const char *folder, const char *name, const char *variant)
{
    char path[512];
    struct mqb_graph *graph;
    snprintf(path, sizeof path, "%s/%s%s.onnx", folder, name, variant);
    OK(mqb_onnx_import(path, &mqb_ops, &graph, &err));
    return graph;
}

/* Every parameter and running statistic of `graph` has one in `theirs`; `names` has lines of their name and ours. */
static void transfer(struct mqb_graph *graph, const struct mqb_graph *theirs, char *names)
{
    int copied = 0, wanted = 0;
    for (int32_t i = 0; i < graph->num_values; i++)
        wanted += graph->values[i].kind == MQB_VALUE_PARAM || graph->values[i].kind == MQB_VALUE_STATE;
    for (char *line = strtok(names, "\n"); line; line = strtok(NULL, "\n"), copied++) {
        char *ours = strchr(line, ' ');
        assert_non_null(ours);
        *ours++ = '\0';
        mqb_value_id from = mqb_graph_find_value(theirs, line), to = mqb_graph_find_value(graph, ours);
        if (from == MQB_NONE || to == MQB_NONE)
            fail_msg("no tensor '%s' in %s", from == MQB_NONE ? line : ours, from == MQB_NONE ? "the export" : graph->name);
        const struct mqb_value *a = &theirs->values[from], *b = &graph->values[to];
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->rank, b->rank);
        assert_memory_equal(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]);
        memcpy(b->data, a->data, (size_t)mqb_value_size(a) * sizeof(float));
    }
    assert_int_equal(copied, wanted);
}

/* With the first Python that has PyTorch; Debian's packages belong to the second. False: there is none. */
static bool export_network(const char *name, const char *folder)
{
    static const char *const pythons[] = {"python3", "/usr/bin/python3"};
    for (size_t i = 0; i < sizeof pythons / sizeof pythons[0]; i++) {
        char command[1024];
        snprintf(command, sizeof command, "%s '%s/tests/peers/torch_networks.py' %s '%s' >'%s/%s.log' 2>&1", pythons[i],
                 MQB_SOURCE_DIR, name, folder, folder, name);
        int result = system(command);
        if (result == 0)
            return true;
        if (!WIFEXITED(result) || (WEXITSTATUS(result) != 77 && WEXITSTATUS(result) != 127))
            fail_msg("%s failed; see %s/%s.log", command, folder, name);
    }
    return false;
}

static void check_network(const char *name)
{
    static const char *const files[] = {".onnx", "_folded.onnx", ".images.f32", ".logits.f32", ".names", ".log"};
    const char *folder = MQB_BINARY_DIR "/tests/torch";
    char path[512];
    float logits[MAX_LOGITS];
    void *names;
    size_t size;
    mkdir(folder, 0777);
    if (!export_network(name, folder)) {
        print_message("PyTorch and torchvision are not installed: skipped\n");
        skip();
    }
    float *images = floats(folder, name, "images", (size_t)IMAGES * SIDE * SIDE * 3);
    float *want = floats(folder, name, "logits", MAX_LOGITS);
    struct mqb_graph *theirs = imported(folder, name, "_folded");
    snprintf(path, sizeof path, "%s, imported, batch norm folded", name);
    forward(theirs, images, IMAGES, logits);
    logits_equal(path, logits, want);
    mqb_graph_destroy(theirs);
    theirs = imported(folder, name, "");
    snprintf(path, sizeof path, "%s, imported", name);
    forward(theirs, images, IMAGES, logits);
    logits_equal(path, logits, want);
    struct mqb_graph *ours = built(name, 3, SIDE, SIDE, CLASSES);
    snprintf(path, sizeof path, "%s/%s.names", folder, name);
    OK(mqb_file_read(path, (size_t)1 << 20, &names, &size, &err));
    char *text = mqb_format("%.*s", (int)size, (const char *)names);
    transfer(ours, theirs, text);
    snprintf(path, sizeof path, "%s, built here, their weights", name);
    forward(ours, images, IMAGES, logits);
    logits_equal(path, logits, want);
    mqb_deallocate(text);
    mqb_deallocate(names);
    mqb_deallocate(images);
    mqb_deallocate(want);
    mqb_graph_destroy(ours);
    mqb_graph_destroy(theirs);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s%s", folder, name, files[i]);
        remove(path);
    }
}

static void test_torch_resnet18_equal_logits(void **state)
{
    (void)state;
    check_network("resnet18");
}

static void test_torch_resnet50_equal_logits(void **state)
{
    (void)state;
    check_network("resnet50");
}

static void test_torch_mobilenet_v2_equal_logits(void **state)
{
    (void)state;
    check_network("mobilenet_v2");
}

static void test_torch_efficientnet_lite0_equal_logits(void **state)
{
    (void)state;
    check_network("efficientnet_lite0");
}

static void test_torch_regnetx_600mf_equal_logits(void **state)
{
    (void)state;
    check_network("regnetx_600mf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch_resnet18_equal_logits),      cmocka_unit_test(test_torch_resnet50_equal_logits),
        cmocka_unit_test(test_torch_mobilenet_v2_equal_logits),  cmocka_unit_test(test_torch_efficientnet_lite0_equal_logits),
        cmocka_unit_test(test_torch_regnetx_600mf_equal_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
