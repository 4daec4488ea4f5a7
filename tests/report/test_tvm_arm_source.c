/*
 * test_tvm_arm_source.c - the C99 that tvm_arm writes: compiled by gcc and clang for this machine and by gcc for AArch64, run
 * (the latter under qemu), and held to the integer executor: every code of every tensor, and the logits, bit for bit.
 */
#include "common/support.h"
#include "quant/hand_net.h"
#include "report/artefacts.h"
#include "report/report.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/mqbench-tvm-XXXXXX";
static const struct mqb_backend *tvm;

/* ---- compilers ---- */

static const struct {
    const char *needs, *compile, *run;
} targets[] = {
    {"gcc", "gcc -O2", ""},
    {"gcc", "gcc -O1 -fsanitize=address,undefined -fno-sanitize-recover=all", ""},
    {"clang", "clang -O2", ""},
    {"aarch64-linux-gnu-gcc qemu-aarch64", "aarch64-linux-gnu-gcc -O3 -static -march=armv8.2-a+dotprod",
     "qemu-aarch64 -cpu max "},
};
#define NUM_TARGETS (sizeof targets / sizeof targets[0])
static bool there[NUM_TARGETS];

static int MQB_PRINTF(1, 2) shell(const char *format, ...)
{
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    return system(command);
}

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    tvm = component("tvm_arm", MQB_BACKEND_INTERFACE);
    for (size_t i = 0; i < NUM_TARGETS; i++) {
        there[i] = shell("for tool in %s; do command -v $tool >/dev/null || exit 1; done", targets[i].needs) == 0;
        if (!there[i])
            printf("%s: not installed, so this part is skipped\n", targets[i].needs);
    }
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return shell("rm -rf '%s'", folder);
}

/* ---- one network ---- */

/* Calls the exported functions on every image of the file, and writes what the taps see, then the output. */
static const char driver[] = "#include <stdint.h>\n"
                             "#include <stdio.h>\n"
                             "static FILE *out;\n"
                             "static void tap(int32_t tensor, const int8_t *codes, int32_t size)\n"
                             "{\n"
                             "    fwrite(&tensor, 4, 1, out);\n"
                             "    fwrite(codes, 1, (size_t)size, out);\n"
                             "}\n"
                             "#define NET_TAP(tensor, codes, size) tap(tensor, codes, size)\n"
                             "#include \"net.c\"\n"
                             "static float image[NET_INPUT_SIZE];\n"
                             "static int8_t input[NET_INPUT_SIZE], scratch[NET_SCRATCH_BYTES];\n"
                             "static int32_t output[NET_OUTPUT_SIZE];\n"
                             "int main(int argc, char **argv)\n"
                             "{\n"
                             "    const int32_t end = -1, exponent = NET_OUTPUT_EXPONENT;\n"
                             "    FILE *in = argc == 3 ? fopen(argv[1], \"rb\") : NULL;\n"
                             "    out = argc == 3 ? fopen(argv[2], \"wb\") : NULL;\n"
                             "    if (!in || !out)\n"
                             "        return 1;\n"
                             "    while (fread(image, sizeof(image), 1, in) == 1) {\n"
                             "        memset(scratch, 85, sizeof(scratch));\n"
                             "        net_quantize(image, input);\n"
                             "        net_run(input, output, scratch);\n"
                             "        fwrite(&end, 4, 1, out);\n"
                             "        fwrite(&exponent, 4, 1, out);\n"
                             "        fwrite(output, sizeof(output), 1, out);\n"
                             "    }\n"
                             "    return fclose(out) != 0 || fclose(in) != 0;\n"
                             "}\n";

struct expected {
    const struct mqb_program *program;
    int images, num_tensors;
    int64_t input_size, classes;
    float *x, *logits;
    uint8_t **taps;
};

static void expect(struct expected *e, const struct mqb_graph *graph, const struct mqb_program *program, int images,
                   uint64_t seed)
{
    *e = (struct expected){.program = program, .images = images, .num_tensors = mqb_program_num_tensors(program)};
    e->input_size = mqb_value_size(&graph->values[graph->input]);
    e->classes = mqb_value_size(&graph->values[graph->output]);
    e->x = mqb_allocate_array((size_t)(images * e->input_size), sizeof(float));
    e->logits = mqb_allocate_array((size_t)(images * e->classes), sizeof(float));
    e->taps = mqb_allocate_array((size_t)e->num_tensors, sizeof *e->taps);
    assert_true(e->x && e->logits && e->taps);
    for (int i = 0; i < e->num_tensors; i++)
        e->taps[i] = mqb_allocate((size_t)(images * mqb_program_tensor(program, i)->size));
    for (int64_t i = 0; i < images * e->input_size; i++)
        e->x[i] = 6.0f * mqb_uniform(seed, 3, (uint64_t)i) - 3.0f;
    e->x[0] = -1e30f; /* saturates */
    e->x[1] = 1e30f;
    OK(mqb_program_run(program, NULL, e->x, images, e->logits, e->taps, &err));
}

static void release(struct expected *e)
{
    for (int i = 0; i < e->num_tensors; i++)
        mqb_deallocate(e->taps[i]);
    mqb_deallocate(e->taps);
    mqb_deallocate(e->logits);
    mqb_deallocate(e->x);
}

/* How many elements of the driver's output are not what the executor gave; *elements: how many there were. */
static int64_t differing(const struct expected *e, const char *path, int64_t *elements)
{
    FILE *file = fopen(path, "rb");
    int64_t differ = 0;
    int32_t *sums = mqb_allocate_array((size_t)e->classes, sizeof *sums);
    assert_non_null(file);
    for (int image = 0; image < e->images; image++) {
        int32_t tensor, exponent, seen = 0;
        while (fread(&tensor, 4, 1, file) == 1 && tensor >= 0) {
            const struct mqb_program_tensor *t = mqb_program_tensor(e->program, tensor);
            assert_non_null(t);
            int8_t *codes = mqb_allocate((size_t)t->size);
            assert_int_equal(fread(codes, 1, (size_t)t->size, file), t->size);
            for (int64_t i = 0; i < t->size; i++)
                differ += codes[i] + (t->is_signed ? 128 : 0) != e->taps[tensor][image * t->size + i];
            *elements += t->size;
            seen++;
            mqb_deallocate(codes);
        }
        assert_int_equal(seen, e->num_tensors);
        assert_int_equal(fread(&exponent, 4, 1, file), 1);
        assert_int_equal(fread(sums, sizeof *sums, (size_t)e->classes, file), e->classes);
        for (int64_t k = 0; k < e->classes; k++)
            differ += ldexpf((float)sums[k], exponent) != e->logits[image * e->classes + k];
        *elements += e->classes;
    }
    assert_int_equal(fgetc(file), EOF);
    mqb_deallocate(sums);
    fclose(file);
    return differ;
}

static void write_files(const struct mqb_deploy *deploy, const struct mqb_program *program, const struct mqb_options *options)
{
    struct mqb_result *result = mqb_allocate(sizeof *result);
    result->model_name = mqb_strdup("net.onnx");
    result->backend = mqb_strdup("tvm_arm");
    result->algo = mqb_strdup("lsq");
    OK(mqb_artefacts_write(folder, deploy, program, tvm, options, result, &err));
    assert_true(result->num_files >= 5);
    mqb_result_destroy(result);
}

/* Exports, compiles for every target, runs, compares. */
static void prove(const char *label, const struct mqb_deploy *deploy, const struct mqb_program *program,
                  const struct mqb_options *options, int images, bool sanitize)
{
    struct expected e;
    char path[256];
    expect(&e, deploy->graph, program, images, 11);
    write_files(deploy, program, options);
    snprintf(path, sizeof path, "%s/driver.c", folder);
    OK(mqb_file_write(path, driver, sizeof driver - 1, &err));
    snprintf(path, sizeof path, "%s/images", folder);
    OK(mqb_file_write(path, e.x, (size_t)(images * e.input_size) * sizeof(float), &err));
    snprintf(path, sizeof path, "%s/codes", folder);
    for (size_t i = 0; i < NUM_TARGETS; i++) {
        int64_t elements = 0;
        if (!there[i] || (strstr(targets[i].compile, "sanitize") && !sanitize))
            continue;
        const char *flags = "-std=c99 -Wall -Wextra -Werror -pedantic";
        assert_int_equal(shell("cd %s && %s %s -c net.c -o net.o", folder, targets[i].compile, flags), 0);
        assert_int_equal(shell("cd %s && %s %s driver.c -o driver", folder, targets[i].compile, flags), 0);
        assert_int_equal(shell("cd %s && rm -f codes && %s./driver images codes", folder, targets[i].run), 0);
        int64_t differ = differing(&e, path, &elements);
        printf("%s: %s%s: %lld of %lld codes and logits differ\n", label, targets[i].run, targets[i].compile, (long long)differ,
               (long long)elements);
        assert_int_equal(differ, 0);
    }
    release(&e);
}

static struct mqb_options *options_of(const char *rounding, const char *add)
{
    struct mqb_options *options;
    OK(mqb_options_create(tvm->options, tvm->num_options, &options, &err));
    OK(mqb_options_set(options, "rounding", rounding, "test", &err));
    OK(mqb_options_set(options, "add", add, "test", &err));
    return options;
}

/* ---- by hand: every operator and every shape of it ---- */

static mqb_value_id conv(struct hand_net *net, const char *name, mqb_value_id x, int64_t k, int64_t r, int64_t s,
                         int64_t stride, int64_t dilation, int64_t group, const int64_t pads[4], bool has_bias)
{
    char text[64];
    static const struct hand_weight weights[2] = {{.pot = true, .qmin = -128, .qmax = 127, .scale = 0x1p-7f},
                                                  {.pot = true, .qmin = -8, .qmax = 7, .scale = 0x1p-3f}}; /* packed */
    const struct hand_weight weight = weights[net->graph->num_nodes % 2];
    int64_t dims[4] = {k, net->graph->values[x].dims[1] / group, r, s}, strides[2] = {stride, stride},
            dilations[2] = {dilation, dilation};
    snprintf(text, sizeof text, "%s.w", name);
    mqb_value_id inputs[3] = {x, hand_weight(net, text, 4, dims, &weight), MQB_NONE};
    if (has_bias) {
        snprintf(text, sizeof text, "%s.b", name);
        inputs[2] = hand_param(net, text, 1, &k, NULL);
        for (int64_t i = 0; i < k; i++)
            net->graph->values[inputs[2]].data[i] = hand_uniform(net) - 0.5f;
    }
    mqb_node_id node = hand_node(net, "Conv", name, has_bias ? 3 : 2, inputs);
    hand_list(net, node, "strides", 2, strides);
    hand_list(net, node, "dilations", 2, dilations);
    hand_list(net, node, "pads", 4, pads);
    hand_attr_int(net, node, "group", group);
    hand_infer(net);
    return hand_out(net, node);
}

static mqb_value_id pool(struct hand_net *net, const char *op, const char *name, mqb_value_id x, int64_t stride,
                         const int64_t pads[4], int include)
{
    mqb_node_id node = hand_node(net, op, name, 1, &x);
    int64_t kernel[2] = {3, 2}, strides[2] = {stride, stride};
    hand_list(net, node, "kernel_shape", 2, kernel);
    hand_list(net, node, "strides", 2, strides);
    hand_list(net, node, "pads", 4, pads);
    hand_attr_int(net, node, "ceil_mode", 1);
    hand_attr_int(net, node, "count_include_pad", include);
    hand_infer(net);
    return hand_out(net, node);
}

static mqb_value_id join(struct hand_net *net, const char *op, const char *name, mqb_value_id a, mqb_value_id b)
{
    mqb_value_id inputs[2] = {a, b};
    mqb_node_id node = hand_node(net, op, name, 2, inputs);
    if (strcmp(op, "Concat") == 0)
        hand_attr_int(net, node, "axis", 1);
    hand_infer(net);
    return hand_out(net, node);
}

/* A point with scale 2^exponent. */
static mqb_value_id point(struct hand_net *net, mqb_value_id value, int exponent)
{
    hand_point(net, value, ldexpf(1.0f, exponent), 0, -128, 127);
    return value;
}

static mqb_value_id clip(struct hand_net *net, const char *name, mqb_value_id x, double low, double high)
{
    mqb_node_id node = hand_node(net, "Clip", name, 1, &x);
    hand_attr_real(net, node, "min", low);
    hand_attr_real(net, node, "max", high);
    hand_infer(net);
    return hand_out(net, node);
}

static void hand_graph(struct hand_net *net, uint64_t seed)
{
    static const int64_t none[4] = {0, 0, 0, 0}, odd[4] = {1, 0, 2, 1}, two[4] = {2, 2, 2, 2}, one[4] = {1, 1, 1, 1};
    const int64_t fc[2] = {5, 16}, start[4] = {0, 4, 1, 0}, step[4] = {1, 1, 2, 3},
                  end[4] = {INT32_MAX, 12, INT32_MAX, INT32_MAX}, before[4] = {0, 3, 1, 0}, after[4] = {0, 5, 0, 2};
    hand_create(net, seed);
    mqb_value_id x = point(net, hand_input(net, 6, 11, 9), -5);
    /* dense with stride and uneven pads; grouped; depthwise, dilated, with ReLU6 fused */
    mqb_value_id a = conv(net, "dense", x, 16, 3, 3, 2, 1, 1, odd, true);
    a = point(net, hand_unary(net, "Relu", "dense.relu", a), -3);
    hand_infer(net);
    mqb_value_id b = point(net, conv(net, "grouped", a, 16, 1, 1, 1, 1, 4, none, false), -4);
    mqb_value_id c = conv(net, "depthwise", b, 16, 3, 3, 1, 2, 16, two, true);
    c = point(net, clip(net, "depthwise.relu6", c, 0, 6), -2);
    /* several output channels a group of one input channel */
    mqb_value_id d = point(net, conv(net, "multiplier", c, 32, 3, 1, 1, 1, 16, (const int64_t[4]){1, 0, 1, 0}, true), 0);
    mqb_node_id shuffle = hand_node(net, "ChannelShuffle", "shuffle", 1, &d);
    hand_attr_int(net, shuffle, "group", 4);
    hand_infer(net);
    d = point(net, conv(net, "narrow", hand_out(net, shuffle), 16, 1, 1, 1, 1, 1, none, true), 1);
    /* additions: different scales; a scale finer than both; a ReLU that two read */
    mqb_value_id sum = point(net, join(net, "Add", "add", b, c), -1);
    sum = point(net, join(net, "Add", "add.fine", sum, c), -6);
    mqb_value_id relu = hand_unary(net, "Relu", "alone", sum);
    hand_infer(net);
    /* squeeze and excite: a product with one pixel */
    mqb_value_id gate = hand_unary(net, "GlobalAveragePool", "squeeze", relu);
    hand_infer(net);
    gate = conv(net, "excite", gate, 16, 1, 1, 1, 1, 1, none, true);
    gate = point(net, gate, -4);
    gate = point(net, hand_unary(net, "HardSigmoid", "gate", gate), -7);
    hand_infer(net);
    mqb_value_id scaled = point(net, join(net, "Mul", "scale", relu, gate), -6);
    /* concatenation with two scales; slice with steps; pad; pools with their own scale, with and without counted padding */
    mqb_value_id all = point(net, join(net, "Concat", "concat", scaled, d), -4);
    mqb_node_id slice = hand_node(net, "Slice", "slice", 1, &all);
    hand_list(net, slice, "starts", 4, start);
    hand_list(net, slice, "ends", 4, end);
    hand_list(net, slice, "steps", 4, step);
    hand_infer(net);
    mqb_value_id cut = hand_out(net, slice);
    mqb_node_id pad = hand_node(net, "Pad", "pad", 1, &cut);
    hand_list(net, pad, "pads_begin", 4, before);
    hand_list(net, pad, "pads_end", 4, after);
    hand_attr_real(net, pad, "value", 1.5);
    hand_infer(net);
    mqb_value_id p = pool(net, "MaxPool", "most", hand_out(net, pad), 1, one, 0);
    p = point(net, p, -2);
    mqb_value_id mean = pool(net, "AveragePool", "mean", p, 1, one, 0);
    mqb_value_id counted = point(net, pool(net, "AveragePool", "counted", p, 1, one, 1), -3);
    sum = point(net, join(net, "Add", "means", mean, counted), -2);
    sum = point(net, hand_unary(net, "HardSwish", "swish", sum), -2);
    hand_infer(net);
    mqb_value_id last = hand_unary(net, "GlobalAveragePool", "global", sum);
    hand_infer(net);
    last = hand_unary(net, "Flatten", "flat", last);
    hand_infer(net);
    const struct hand_weight weight = {.pot = true, .qmin = -128, .qmax = 127, .scale = 0x1p-6f};
    mqb_value_id inputs[3] = {last, hand_weight(net, "fc.w", 2, fc, &weight), hand_param(net, "fc.b", 1, fc, NULL)};
    hand_node(net, "Gemm", "fc", 3, inputs);
    hand_infer(net);
}

static void test_tvm_source_every_operator_same_bits(void **state)
{
    (void)state;
    static const char *const roundings[] = {"upward", "tonearest", "floor"}, *const adds[] = {"each", "sum"};
    for (int i = 0; i < 6; i++) {
        struct mqb_options *options = options_of(roundings[i % 3], adds[i / 3]);
        struct mqb_backend_rules rules = {.struct_size = sizeof rules};
        struct mqb_program *program;
        struct hand_net net;
        char label[64];
        OK(tvm->rules(mqb_host_table(), options, &rules, &err));
        hand_graph(&net, (uint64_t)i + 1);
        OK(mqb_program_create(&net.deploy, &rules, NULL, &program, &err));
        snprintf(label, sizeof label, "every operator, %s, %s", roundings[i % 3], adds[i / 3]);
        prove(label, &net.deploy, program, options, 3, true);
        mqb_program_destroy(program);
        hand_destroy(&net);
        mqb_options_destroy(options);
    }
}

/* The network ends in codes, not in sums; the last layer is a change of shape alone. */
static void test_tvm_source_output_of_codes_same_bits(void **state)
{
    (void)state;
    static const int64_t none[4] = {0, 0, 0, 0};
    struct mqb_options *options = options_of("upward", "each");
    struct mqb_backend_rules rules = {.struct_size = sizeof rules};
    struct mqb_program *program;
    struct hand_net net;
    OK(tvm->rules(mqb_host_table(), options, &rules, &err));
    hand_create(&net, 5);
    mqb_value_id x = point(&net, hand_input(&net, 3, 4, 4), -5);
    x = point(&net, conv(&net, "conv */ \"1\"", x, 7, 3, 3, 1, 1, 1, none, true), -2);
    hand_unary(&net, "Flatten", "flat", x);
    hand_infer(&net);
    OK(mqb_program_create(&net.deploy, &rules, NULL, &program, &err));
    prove("codes", &net.deploy, program, options, 2, true);
    mqb_program_destroy(program);
    hand_destroy(&net);
    mqb_options_destroy(options);
}

/* Sums and shifts that no layer of these networks has: the function of the source against the contract's definition. */
static void test_tvm_source_rescale_extremes_same_as_contract(void **state)
{
    (void)state;
    static const char *const roundings[] = {"upward", "tonearest", "floor"};
    static const char prints[] = "#include \"net.c\"\n"
                                 "#include <stdio.h>\n"
                                 "int main(void)\n"
                                 "{\n"
                                 "    int a, shift;\n"
                                 "    while (scanf(\"%d %d\", &a, &shift) == 2)\n"
                                 "        printf(\"%d\\n\", (int)rescale(a, shift));\n"
                                 "    return 0;\n"
                                 "}\n";
    static const int64_t none[4] = {0, 0, 0, 0};
    char path[256];
    if (!there[1])
        skip();
    for (int i = 0; i < 3; i++) {
        struct mqb_options *options = options_of(roundings[i], "each");
        struct mqb_backend_rules rules = {.struct_size = sizeof rules};
        struct mqb_program *program;
        struct hand_net net;
        OK(tvm->rules(mqb_host_table(), options, &rules, &err));
        hand_create(&net, 5);
        mqb_value_id x = point(&net, hand_input(&net, 1, 1, 1), -5);
        point(&net, conv(&net, "conv", x, 1, 1, 1, 1, 1, 1, none, false), -2);
        hand_unary(&net, "Flatten", "flat", hand_out(&net, 0));
        hand_infer(&net);
        OK(mqb_program_create(&net.deploy, &rules, NULL, &program, &err));
        write_files(&net.deploy, program, options);
        snprintf(path, sizeof path, "%s/prints.c", folder);
        OK(mqb_file_write(path, prints, sizeof prints - 1, &err));
        snprintf(path, sizeof path, "%s/questions", folder);
        FILE *questions = fopen(path, "w");
        for (int shift = -29; shift <= 40; shift++)
            for (int bit = 0; bit <= 30; bit++)
                for (int32_t d = -1; d <= 1; d++)
                    for (int sign = -1; sign <= 1; sign += 2)
                        fprintf(questions, "%d %d\n", sign * (int)((bit < 30 ? 1 << bit : INT32_MAX - 1) + d), shift);
        fclose(questions);
        assert_int_equal(
            shell("cd %s && %s -std=c99 prints.c -o prints && ./prints <questions >answers && paste -d ' ' questions "
                  "answers >both",
                  folder, targets[1].compile),
            0);
        snprintf(path, sizeof path, "%s/both", folder);
        FILE *both = fopen(path, "r");
        int32_t a, shift, answer, num = 0;
        while (fscanf(both, "%d %d %d", &a, &shift, &answer) == 3) {
            struct mqb_requantizer r;
            int32_t most = shift <= 0 ? 1 << 30 : INT32_MAX;
            OK(mqb_requantizer_init(&r, &rules.contract, ldexpf(1.0f, -shift), 1.0f, 1.0f, 0, -most, most, &err));
            if (answer != mqb_requantize(&r, a))
                fail_msg("%s: %d by %d is %d, not %d", roundings[i], a, shift, answer, mqb_requantize(&r, a));
            num++;
        }
        fclose(both);
        assert_int_equal(num, 70 * 31 * 3 * 2);
        mqb_program_destroy(program);
        hand_destroy(&net);
        mqb_options_destroy(options);
    }
}

/* ---- real networks ---- */

struct network {
    struct mqb_session session;
    struct mqb_options *options, *lsq_options;
    struct mqb_backend_rules rules;
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_deploy *deploy;
    struct mqb_program *program;
};

static void run_passes(struct network *net)
{
    const struct mqb_entry *entry;
    int32_t edits;
    for (int i = 0; net->rules.passes[i] != NULL; i++) {
        struct mqb_options *options;
        OK(mqb_registry_find(net->session.registry, MQB_KIND_PASS, net->rules.passes[i], &entry, &err));
        const struct mqb_pass *pass = entry->vtable;
        OK(mqb_registry_options(net->session.registry, entry, pass->options, pass->num_options, NULL, NULL, 0, &options, &err));
        OK(pass->run(mqb_host_table(), net->graph, options, &edits, &err));
        OK(mqb_graph_infer(net->graph, &err));
        mqb_graph_sweep(net->graph);
        mqb_options_destroy(options);
    }
}

static void calibrate(struct network *net, int images)
{
    struct mqb_dataset *dataset;
    struct mqb_loader *loader;
    struct mqb_loader_config config = {
        .split = MQB_SPLIT_TRAIN, .batch = images, .size = (int32_t)net->graph->values[net->graph->input].dims[2]};
    OK(mqb_dataset_open("synth", (size_t)images, 1, 0, &dataset, &err));
    OK(mqb_normalize_parse("unit", &config.normalize, &err));
    OK(mqb_loader_create(dataset, &config, &loader, &err));
    OK(mqb_calibrate(net->graph, net->points, net->session.compute, net->session.pool, loader, images, 1, NULL, &err));
    mqb_loader_destroy(loader);
    mqb_dataset_close(dataset);
}

static void prove_model(const char *path, const char *label, int bits, int images)
{
    struct network net = {.rules = {.struct_size = sizeof(struct mqb_backend_rules)}};
    const struct mqb_entry *entry;
    char sha256[65];
    if (!mqb_file_exists(path)) {
        printf("%s: not there, so this part is skipped\n", path);
        return;
    }
    OK(mqb_session_open(NULL, "native", 2, &net.session, &err));
    net.options = options_of("upward", "each");
    OK(tvm->rules(mqb_host_table(), net.options, &net.rules, &err));
    OK(mqb_session_model(&net.session, path, &net.graph, sha256, &err));
    run_passes(&net);
    OK(mqb_registry_find(net.session.registry, MQB_KIND_QUANTIZER, "lsq", &entry, &err));
    const struct mqb_quantizer *lsq = entry->vtable;
    OK(mqb_registry_options(net.session.registry, entry, lsq->options, lsq->num_options, NULL, NULL, 0, &net.lsq_options,
                            &err));
    struct mqb_quantizer_choice choice = {"lsq", lsq, net.lsq_options};
    struct mqb_points_config config = {.host = mqb_host_table(),
                                       .rules = &net.rules,
                                       .weight = choice,
                                       .activation = choice,
                                       .weight_bits = bits,
                                       .activation_bits = bits,
                                       .io_bits = 8};
    OK(mqb_points_create(net.graph, &config, &net.points, &err));
    calibrate(&net, 4);
    OK(mqb_deploy_create(net.graph, net.points, &net.deploy, &err));
    OK(mqb_program_create(net.deploy, &net.rules, net.session.compute, &net.program, &err));
    prove(label, net.deploy, net.program, net.options, images, false);
    mqb_program_destroy(net.program);
    mqb_deploy_destroy(net.deploy);
    mqb_points_destroy(net.points);
    mqb_graph_destroy(net.graph);
    mqb_options_destroy(net.options);
    mqb_options_destroy(net.lsq_options);
    mqb_session_close(&net.session);
}

static void test_tvm_source_resnets_same_bits(void **state)
{
    (void)state;
    prove_model(MQB_SOURCE_DIR "/models/resnet20_synth.onnx", "resnet20_synth", 8, 3);
    prove_model(MQB_SOURCE_DIR "/models/resnet20_synth.onnx", "resnet20_synth, 4 bits", 4, 3);
    prove_model(MQB_SHARED "/data/models/resnet20_cifar10.onnx", "resnet20_cifar10", 8, 3);
    prove_model(MQB_SHARED "/data/models/resnet8_cifar10.onnx", "resnet8_cifar10", 8, 3);
}

static void test_tvm_source_mobilenet_same_bits(void **state)
{
    (void)state;
    prove_model(MQB_SHARED "/data/models/mobilenetv1_0.75_imagenet.onnx", "mobilenetv1_0.75", 8, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tvm_source_every_operator_same_bits),
        cmocka_unit_test(test_tvm_source_output_of_codes_same_bits),
        cmocka_unit_test(test_tvm_source_rescale_extremes_same_as_contract),
        cmocka_unit_test(test_tvm_source_resnets_same_bits),
        cmocka_unit_test(test_tvm_source_mobilenet_same_bits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
