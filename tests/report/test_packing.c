/* test_packing.c - weights.bin: hand-made bytes, and what a run leaves in --out read back by a reader of its own. */
#include "report/hand_model.h"
#include "report/packing.h"

#include <jansson.h>
#include <sys/stat.h>

static char folder[] = "/tmp/mqbench-packing-XXXXXX";

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static struct mqb_frozen weight(int32_t *codes, int64_t num_codes, float *scale, int32_t *zero_point, int32_t qmin,
                                int32_t qmax)
{
    return (struct mqb_frozen){.role = MQB_ROLE_WEIGHT,
                               .name = (char *)(uintptr_t) "w",
                               .num_channels = 1,
                               .scale = scale,
                               .zero_point = zero_point,
                               .qmin = qmin,
                               .qmax = qmax,
                               .codes = codes,
                               .num_codes = num_codes};
}

/* Two weights, an odd count of 4-bit codes and two bytes, worked out by hand. */
static void test_packing_hand_made_bytes(void **state)
{
    (void)state;
    int32_t four[5] = {-8, 7, -1, 0, 3}, eight[2] = {255, 128}, zero[2] = {0, -2};
    float scale[2] = {1.0f, -0.0f};
    struct mqb_frozen frozen[3] = {
        weight(four, 5, scale, zero, -8, 7), {.role = MQB_ROLE_ACTIVATION}, weight(eight, 2, scale, zero + 1, 0, 255)};
    const struct mqb_deploy deploy = {.frozen = frozen, .num_frozen = 3};
    struct mqb_packed_place places[3] = {{0}};
    static const uint8_t expected[] = {
        0x00, 0x00, 0x80, 0x3f, 0,    0,    0,    0,    /* 1.0f, 0 */
        0x00, 0x00, 0x80, 0x3f, 0xfe, 0xff, 0xff, 0xff, /* 1.0f, -2 */
        0x78, 0x0f, 0x03,                               /* -8 low, 7 high; -1 low, 0 high; 3 low, padding */
        0xff, 0x80,
    };
    uint8_t *data;
    int64_t size;
    OK(mqb_packing_write(&deploy, &data, &size, places, &err));
    assert_int_equal(size, sizeof expected);
    assert_memory_equal(data, expected, sizeof expected);
    assert_int_equal(places[0].scale, 0);
    assert_int_equal(places[0].zero_point, 4);
    assert_int_equal(places[0].codes, 16);
    assert_int_equal(places[2].codes, 19);
    assert_int_equal(mqb_packing_code_bytes(&frozen[0]) + mqb_packing_code_bytes(&frozen[2]), 5);
    mqb_deallocate(data);
}

static void test_packing_narrowest_name(void **state)
{
    (void)state;
    static const struct {
        int32_t qmin, qmax;
        const char *name;
    } known[] = {{-2, 1, "int4"},   {-7, 7, "int4"},     {-8, 7, "int4"},  {0, 3, "uint4"},  {0, 15, "uint4"},
                 {-16, 15, "int8"}, {-128, 127, "int8"}, {0, 16, "uint8"}, {0, 255, "uint8"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct mqb_frozen frozen = weight(NULL, 3, NULL, NULL, known[i].qmin, known[i].qmax);
        assert_string_equal(mqb_packing_name(&frozen), known[i].name);
    }
    struct mqb_frozen wide = weight(NULL, 3, NULL, NULL, -128, 128);
    const struct mqb_deploy deploy = {.frozen = &wide, .num_frozen = 1};
    struct mqb_packed_place place;
    uint8_t *data;
    int64_t size;
    assert_null(mqb_packing_name(&wide));
    assert_int_equal(mqb_packing_write(&deploy, &data, &size, &place, &err), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'w'"));
    assert_null(data);
}

/* ---- the reader: knows the index and nothing of the writer ---- */

static int64_t number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        fail_msg("no whole number \"%s\" in the index", key);
    return json_integer_value(value);
}

static uint32_t word_at(const uint8_t *data, int64_t offset)
{
    return (uint32_t)data[offset] | (uint32_t)data[offset + 1] << 8 | (uint32_t)data[offset + 2] << 16 |
           (uint32_t)data[offset + 3] << 24;
}

static int32_t code_at(const uint8_t *codes, const char *packing, int64_t i)
{
    if (strcmp(packing, "uint8") == 0)
        return codes[i];
    if (strcmp(packing, "int8") == 0)
        return codes[i] < 128 ? codes[i] : codes[i] - 256;
    int32_t half = i % 2 ? codes[i / 2] / 16 : codes[i / 2] % 16;
    if (strcmp(packing, "uint4") == 0)
        return half;
    assert_string_equal(packing, "int4");
    return half < 8 ? half : half - 16;
}

/* Every weight of the index, as real numbers, against the file of the float graph; returns the bytes that the index speaks of.
 */
static int64_t check_point(const json_t *point, const uint8_t *data, int64_t size, const struct mqb_graph *graph)
{
    const json_t *packed = json_object_get(point, "packed"), *shape = json_object_get(point, "shape");
    const char *packing = json_string_value(json_object_get(packed, "packing")),
               *tensor = json_string_value(json_object_get(point, "tensor"));
    int64_t channels = (int64_t)json_array_size(json_object_get(point, "scale")), elements = 1, bytes = number(packed, "bytes");
    int64_t offset = number(packed, "offset"), scale_offset = number(packed, "scale_offset"),
            zero_offset = number(packed, "zero_point_offset");
    assert_string_equal(json_string_value(json_object_get(packed, "file")), "weights.bin");
    for (size_t i = 0; i < json_array_size(shape); i++)
        elements *= json_integer_value(json_array_get(shape, i));
    assert_int_equal(bytes, strstr(packing, "4") ? (elements + 1) / 2 : elements);
    assert_true(offset + bytes <= size);
    const struct mqb_value *value = &graph->values[mqb_graph_find_value(graph, tensor)];
    assert_int_equal(mqb_value_size(value), elements);
    for (int64_t c = 0; c < channels; c++) {
        double listed = json_real_value(json_array_get(json_object_get(point, "scale"), (size_t)c));
        float scale;
        uint32_t word = word_at(data, scale_offset + 4 * c);
        memcpy(&scale, &word, sizeof scale);
        int32_t zero = (int32_t)word_at(data, zero_offset + 4 * c);
        assert_true((double)scale == (double)(float)listed);
        assert_int_equal(zero, json_integer_value(json_array_get(json_object_get(point, "zero_point"), (size_t)c)));
        for (int64_t i = c * (elements / channels); i < (c + 1) * (elements / channels); i++) {
            int32_t code = code_at(data + offset, packing, i);
            assert_in_range(code + 512, (uintmax_t)(number(point, "qmin") + 512), (uintmax_t)(number(point, "qmax") + 512));
            if ((float)(code - zero) * scale != value->data[i])
                fail_msg("%s[%d]: code %d is %.9g, the graph has %.9g", tensor, (int)i, (int)code,
                         (double)((float)(code - zero) * scale), (double)value->data[i]);
        }
    }
    return bytes + 8 * channels;
}

static void check_run(const char *backend, int bits, const char *first_packing)
{
    static const char *const keys[] = {"recipe.epochs", "recipe.calibration_batches", "recipe.calibration_batch"};
    static const char *const values[] = {"0", "1", "16"};
    char out[96], path[160];
    snprintf(out, sizeof out, "%s/%s%d", folder, backend, bits);
    const struct mqb_job_config config = {
        .backend = backend,
        .algo = "lsq",
        .dataset = "synth",
        .weight_bits = bits,
        .activation_bits = 8,
        .io_bits = 8,
        .set_keys = keys,
        .set_values = values,
        .num_set = 3,
        .seed = 5,
        .threads = 1,
        .train_limit = 16,
        .test_limit = 8,
        .out = out,
        .model = MQB_SOURCE_DIR "/models/resnet20_synth.onnx",
    };
    struct mqb_result *result;
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->deployable);
    void *data;
    size_t size;
    struct mqb_graph *graph;
    snprintf(path, sizeof path, "%s/weights.bin", out);
    OK(mqb_file_read(path, 1 << 24, &data, &size, &err));
    assert_int_equal(size, result->weight_bytes_packed); /* the record says what was written */
    snprintf(path, sizeof path, "%s/resnet20_synth_quantized.onnx", out);
    OK(mqb_onnx_import(path, &mqb_ops, &graph, &err));
    snprintf(path, sizeof path, "%s/qparams.json", out);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, NULL), *point;
    size_t i;
    int64_t sum = 0;
    int num_weights = 0, num_packed = 0;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "points"), i, point)
    {
        bool is_weight = strcmp(json_string_value(json_object_get(point, "role")), "weight") == 0;
        assert_int_equal(is_weight, json_object_get(point, "packed") != NULL);
        if (!is_weight)
            continue;
        num_weights++;
        num_packed +=
            strcmp(json_string_value(json_object_get(json_object_get(point, "packed"), "packing")), first_packing) == 0;
        sum += check_point(point, data, (int64_t)size, graph);
    }
    assert_int_equal(sum, size); /* no hole, nothing twice */
    assert_int_equal(num_weights, 20);
    assert_int_equal(num_packed, bits > 4 ? 20 : 18); /* the first and the last layer have 8 bits */
    json_decref(root);
    mqb_graph_destroy(graph);
    mqb_deallocate(data);
    mqb_result_destroy(result);
}

static void test_packing_reader_gets_the_codes(void **state)
{
    (void)state;
    check_run("snpe_sim", 4, "uint4");
    check_run("fbgemm_x86", 4, "int4");
    check_run("tensorrt_sim", 3, "int4");
    check_run("tvm_arm", 8, "int8");
    check_run("snpe_sim", 5, "uint8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packing_hand_made_bytes),
        cmocka_unit_test(test_packing_narrowest_name),
        cmocka_unit_test(test_packing_reader_gets_the_codes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
