/*
 * onnx_case.h - one small ONNX file a case: imported, exported, compared; or refused with the right sentence.
 * The files are left in tests/onnx/ of the build folder, each with the file that we export from it: another runtime
 * given both must compute the same.
 */
#ifndef ONNX_CASE_H
#define ONNX_CASE_H

#include "../graph/graph_equal.h"
#include "../graph/onnx_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h> /* program_invocation_short_name: programs that run at the same time use files of their own */

#define PLACE MQB_BINARY_DIR "/tests/onnx"

/* Ends the file with output "y", imports it, exports it, and checks that the exported one is the same network. */
static inline struct mqb_graph *import_case(struct onnx_file *f, const char *name)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph, *again = NULL;
    char path[512], out_path[512];
    assert_int_equal(mqb_dir_create(PLACE, &error), MQB_OK);
    snprintf(path, sizeof(path), "%s/%s.onnx", PLACE, name);
    snprintf(out_path, sizeof(out_path), "%s/%s.out.onnx", PLACE, name);
    onnx_end(f, "y", path);
    if (mqb_onnx_import(path, &mqb_ops, &graph, &error) != MQB_OK) {
        fail_msg("%s", error.text);
    }
    assert_string_equal(graph->values[graph->output].name, "y");
    if (mqb_onnx_export(graph, out_path, &error) != MQB_OK || mqb_onnx_import(out_path, &mqb_ops, &again, &error) != MQB_OK) {
        fail_msg("%s", error.text);
    }
    const char *differ = graphs_differ(graph, again);
    if (differ) {
        fail_msg("%s: the round trip changed '%s'", name, differ);
    }
    mqb_graph_destroy(again);
    return graph;
}

/* The file is refused; the sentence names file, and contains `part`. */
static inline void refuse_case(struct onnx_file *f, const char *part)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    assert_int_equal(mqb_dir_create(PLACE, &error), MQB_OK);
    char path[512], name[64];
    snprintf(name, sizeof(name), "%s.refused.onnx", program_invocation_short_name);
    snprintf(path, sizeof(path), "%s/%s", PLACE, name);
    onnx_end(f, "y", path);
    if (mqb_onnx_import(path, &mqb_ops, &graph, &error) == MQB_OK) {
        fail_msg("a file was accepted that should give: %s", part);
    }
    assert_null(graph);
    if (!strstr(error.text, part) || !strstr(error.text, name)) {
        fail_msg("'%s' is not in: %s", part, error.text);
    }
}

static inline const struct mqb_node *node_at(const struct mqb_graph *graph, int32_t position)
{
    assert_true(position < graph->num_ordered);
    return &graph->nodes[graph->order[position]];
}

static inline void check_list(const struct mqb_node *node, const char *name, int count, ...)
{
    const struct mqb_attr *attr = mqb_node_attr(node, name);
    va_list list;
    assert_non_null(attr);
    assert_int_equal(attr->list_size, count);
    va_start(list, count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(attr->list[i], va_arg(list, int));
    }
    va_end(list);
}

/* Operators in order, separated by blanks, and the shape of the output. */
static inline void check_graph(const struct mqb_graph *graph, const char *ops, int rank, int d1, int d2, int d3)
{
    char text[256] = "";
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", k ? " " : "", node_at(graph, k)->op->name);
    }
    assert_string_equal(text, ops);
    const struct mqb_value *y = &graph->values[graph->output];
    const int dims[3] = {d1, d2, d3};
    assert_int_equal(y->rank, rank);
    assert_int_equal(y->dims[0], MQB_BATCH);
    for (int i = 1; i < rank; i++) {
        assert_int_equal(y->dims[i], dims[i - 1]);
    }
}

#endif
