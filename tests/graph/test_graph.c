/* test_graph.c - reading and editing a graph: order, names, refusals that change nothing, copies, clean-up. */
#include "fake_ops.h"
#include "graph_equal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

static const struct mqb_graph_api *const api = &mqb_graph_calls;

/* x [N,3] -> fc (Gemm, w [4][3]) -> act (Relu) -> sum (Add fc, act) */
struct fixture {
    struct mqb_graph *graph;
    struct mqb_error error;
    mqb_value_id x, w;
    mqb_node_id fc, act, sum;
};

static mqb_node_id add(struct fixture *f, const char *op, const char *name, int32_t num, mqb_value_id a, mqb_value_id b)
{
    mqb_node_id node = MQB_NONE;
    mqb_value_id inputs[2] = {a, b};
    if (api->add_node(f->graph, op, name, inputs, num, &node, &f->error) != MQB_OK) {
        fail_msg("%s", f->error.text);
    }
    return node;
}

static mqb_value_id out(const struct fixture *f, mqb_node_id node)
{
    return api->output(f->graph, node);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const int64_t dims[2] = {MQB_BATCH, 3}, weight_dims[2] = {4, 3};
    const float weight[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    f->error.struct_size = sizeof(f->error);
    assert_int_equal(mqb_graph_create(&fake_ops, &f->graph, &f->error), MQB_OK);
    assert_int_equal(mqb_graph_add_input(f->graph, "x", 2, dims, &f->x, &f->error), MQB_OK);
    assert_int_equal(api->add_value(f->graph, MQB_VALUE_PARAM, "w", 2, weight_dims, weight, &f->w, &f->error), MQB_OK);
    f->fc = add(f, "Gemm", "fc", 2, f->x, f->w);
    f->act = add(f, "Relu", "act", 1, out(f, f->fc), MQB_NONE);
    f->sum = add(f, "Add", "sum", 2, out(f, f->fc), out(f, f->act));
    f->graph->output = out(f, f->sum);
    assert_int_equal(mqb_graph_infer(f->graph, &f->error), MQB_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mqb_graph_destroy(f->graph);
    free(f);
    return 0;
}

/* Every producer stands before its consumers, and the answers of the reading calls agree with each other. */
static void check_legal(const struct mqb_graph *graph)
{
    int32_t n = api->num_nodes(graph);
    for (int32_t k = 0; k < n; k++) {
        mqb_node_id node = api->node_at(graph, k);
        assert_int_equal(api->producer(graph, api->output(graph, node)), node);
        for (int32_t i = 0; i < api->num_inputs(graph, node); i++) {
            mqb_value_id input = api->input(graph, node, i);
            mqb_node_id producer = input == MQB_NONE ? MQB_NONE : api->producer(graph, input);
            bool before = producer == MQB_NONE, listed = input == MQB_NONE;
            for (int32_t j = 0; j < k; j++) {
                before = before || api->node_at(graph, j) == producer;
            }
            for (int32_t j = 0; input != MQB_NONE && j < api->num_consumers(graph, input); j++) {
                listed = listed || api->consumer(graph, input, j) == node;
            }
            assert_true(before);
            assert_true(listed);
        }
    }
}

/* The call is refused with `status`, its sentence holds `text`, and the graph is as before. */
#define EXPECT_REFUSED(f, call, wanted, part)                                                                                  \
    do {                                                                                                                       \
        struct mqb_graph *before;                                                                                              \
        assert_int_equal(mqb_graph_clone((f)->graph, &before, NULL), MQB_OK);                                                  \
        assert_int_equal(call, wanted);                                                                                        \
        if (!strstr((f)->error.text, part)) {                                                                                  \
            fail_msg("'%s' is not in: %s", part, (f)->error.text);                                                             \
        }                                                                                                                      \
        assert_null(graphs_differ(before, (f)->graph));                                                                        \
        check_legal((f)->graph);                                                                                               \
        mqb_graph_destroy(before);                                                                                             \
    } while (0)

static void test_read_calls_describe_the_graph(void **state)
{
    struct fixture *f = *state;
    int64_t dims[MQB_MAX_RANK];
    assert_int_equal(api->num_nodes(f->graph), 3);
    assert_int_equal(api->node_at(f->graph, 0), f->fc);
    assert_int_equal(api->node_at(f->graph, 2), f->sum);
    assert_string_equal(api->node_op(f->graph, f->fc), "Gemm");
    assert_string_equal(api->node_name(f->graph, f->fc), "fc");
    assert_string_equal(api->value_name(f->graph, out(f, f->fc)), "fc");
    assert_int_equal(api->value_kind(f->graph, f->x), MQB_VALUE_INPUT);
    assert_int_equal(api->value_kind(f->graph, f->w), MQB_VALUE_PARAM);
    assert_int_equal(api->value_kind(f->graph, out(f, f->fc)), MQB_VALUE_RESULT);
    assert_int_equal(api->value_shape(f->graph, out(f, f->sum), dims), 2);
    assert_int_equal(dims[0], MQB_BATCH);
    assert_int_equal(dims[1], 4);
    assert_int_equal(api->num_consumers(f->graph, out(f, f->fc)), 2);
    assert_int_equal(api->consumer(f->graph, out(f, f->fc), 0), f->act);
    assert_int_equal(api->consumer(f->graph, out(f, f->fc), 1), f->sum);
    assert_int_equal(api->graph_input(f->graph), f->x);
    assert_int_equal(api->graph_output(f->graph), out(f, f->sum));
    assert_true(api->value_data(f->graph, f->w)[11] == 12.0f);
    assert_null(api->value_data(f->graph, out(f, f->fc)));
    check_legal(f->graph);
}

static void test_read_calls_wrong_ids_get_empty_answers(void **state)
{
    struct fixture *f = *state;
    int64_t dims[MQB_MAX_RANK];
    const int32_t wrong[] = {MQB_NONE, -7, 99};
    for (int i = 0; i < 3; i++) {
        assert_string_equal(api->node_op(f->graph, wrong[i]), "");
        assert_string_equal(api->node_name(f->graph, wrong[i]), "");
        assert_string_equal(api->value_name(f->graph, wrong[i]), "");
        assert_int_equal(api->num_inputs(f->graph, wrong[i]), 0);
        assert_int_equal(api->input(f->graph, wrong[i], 0), MQB_NONE);
        assert_int_equal(api->output(f->graph, wrong[i]), MQB_NONE);
        assert_int_equal(api->producer(f->graph, wrong[i]), MQB_NONE);
        assert_int_equal(api->num_consumers(f->graph, wrong[i]), 0);
        assert_int_equal(api->consumer(f->graph, wrong[i], 0), MQB_NONE);
        assert_int_equal(api->value_shape(f->graph, wrong[i], dims), 0);
        assert_null(api->value_data(f->graph, wrong[i]));
        assert_int_equal(api->attr_int(f->graph, wrong[i], "a", 5), 5);
        assert_int_equal(api->node_at(f->graph, wrong[i]), MQB_NONE);
        assert_int_equal(api->set_attr_int(f->graph, wrong[i], "a", 1, &f->error), MQB_ERR_ARGUMENT);
        assert_int_equal(api->remove_node(f->graph, wrong[i], &f->error), MQB_ERR_ARGUMENT);
    }
    assert_int_equal(api->consumer(f->graph, f->x, 5), MQB_NONE);
    assert_int_equal(api->input(f->graph, f->fc, 2), MQB_NONE);
}

static void test_attributes_keep_type_and_are_replaced(void **state)
{
    struct fixture *f = *state;
    const int64_t list[3] = {1, -2, 3};
    assert_int_equal(api->set_attr_int(f->graph, f->fc, "n", 42, &f->error), MQB_OK);
    assert_int_equal(api->set_attr_real(f->graph, f->fc, "r", 0.5, &f->error), MQB_OK);
    assert_int_equal(api->set_attr_text(f->graph, f->fc, "t", "why", &f->error), MQB_OK);
    assert_int_equal(mqb_node_set_list(f->graph, f->fc, "l", list, 3, &f->error), MQB_OK);
    assert_int_equal(api->attr_int(f->graph, f->fc, "n", 0), 42);
    assert_true(api->attr_real(f->graph, f->fc, "r", 0.0) == 0.5);
    assert_string_equal(api->attr_text(f->graph, f->fc, "t", ""), "why");
    assert_int_equal(mqb_attr_li(&f->graph->nodes[f->fc], "l", 1, 0), -2);
    assert_int_equal(mqb_attr_li(&f->graph->nodes[f->fc], "l", 3, 9), 9);
    assert_int_equal(mqb_attr_li(&f->graph->nodes[f->fc], "n", 0, 9), 9);
    assert_int_equal(api->attr_int(f->graph, f->fc, "t", 8), 8);
    assert_true(api->attr_real(f->graph, f->fc, "n", 0.0) == 42.0);
    assert_string_equal(api->attr_text(f->graph, f->fc, "absent", "else"), "else");
    assert_int_equal(api->set_attr_text(f->graph, f->fc, "n", "now text", &f->error), MQB_OK);
    assert_string_equal(api->attr_text(f->graph, f->fc, "n", ""), "now text");
    assert_int_equal(f->graph->nodes[f->fc].num_attrs, 4);
    assert_int_equal(mqb_node_attr(&f->graph->nodes[f->fc], "l")->list_size, 3);
}

static void test_add_node_taken_name_gets_a_suffix(void **state)
{
    struct fixture *f = *state;
    mqb_node_id a = add(f, "Relu", "act", 1, f->x, MQB_NONE), b = add(f, "Relu", "w", 1, f->x, MQB_NONE);
    mqb_value_id value;
    assert_string_equal(api->node_name(f->graph, a), "act_1");
    assert_string_equal(api->value_name(f->graph, out(f, a)), "act_1");
    assert_string_equal(api->node_name(f->graph, b), "w_1");
    const int64_t dim = 2;
    assert_int_equal(api->add_value(f->graph, MQB_VALUE_STATE, "w", 1, &dim, NULL, &value, &f->error), MQB_OK);
    assert_string_equal(api->value_name(f->graph, value), "w_2");
    assert_true(api->value_data(f->graph, value)[1] == 0.0f);
}

static void test_add_node_wrong_input_is_refused(void **state)
{
    struct fixture *f = *state;
    mqb_node_id node;
    mqb_value_id none = MQB_NONE, wrong[2] = {f->x, 77}, three[4] = {f->x, f->w, f->w, f->w};
    EXPECT_REFUSED(f, api->add_node(f->graph, "Softmax", "s", &f->x, 1, &node, &f->error), MQB_ERR_NOT_FOUND, "'Softmax'");
    EXPECT_REFUSED(f, api->add_node(f->graph, "Relu", "r", &none, 1, &node, &f->error), MQB_ERR_ARGUMENT, "node 'r'");
    EXPECT_REFUSED(f, api->add_node(f->graph, "Add", "a", wrong, 2, &node, &f->error), MQB_ERR_ARGUMENT, "value 77");
    EXPECT_REFUSED(f, api->add_node(f->graph, "Gemm", "g", three, 4, &node, &f->error), MQB_ERR_ARGUMENT, "2 to 3 inputs");
}

static void test_add_node_shape_is_known_at_once_where_possible(void **state)
{
    struct fixture *f = *state;
    int64_t dims[MQB_MAX_RANK];
    mqb_node_id point = add(f, "FakeQuantize", "q", 1, f->w, MQB_NONE), tuned = add(f, "Tuned", "t", 1, f->x, MQB_NONE);
    assert_int_equal(api->value_shape(f->graph, out(f, point), dims), 2);
    assert_int_equal(dims[0], 4);
    assert_int_equal(api->value_shape(f->graph, out(f, tuned), dims), 0);
    assert_int_equal(mqb_graph_infer(f->graph, &f->error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(f->error.text, "node 't' (Tuned): attribute 'knob' must be 7"));
    assert_int_equal(api->set_attr_int(f->graph, tuned, "knob", 7, &f->error), MQB_OK);
    assert_int_equal(mqb_graph_infer(f->graph, &f->error), MQB_OK);
    assert_int_equal(api->value_shape(f->graph, out(f, tuned), dims), 2);
}

static void test_add_value_wrong_kind_or_shape_is_refused(void **state)
{
    struct fixture *f = *state;
    mqb_value_id value;
    const int64_t zero[1] = {0}, huge[3] = {1 << 30, 1 << 30, 1 << 30};
    EXPECT_REFUSED(f, api->add_value(f->graph, MQB_VALUE_RESULT, "v", 0, NULL, NULL, &value, &f->error), MQB_ERR_ARGUMENT,
                   "PARAM, STATE and CONST");
    EXPECT_REFUSED(f, api->add_value(f->graph, MQB_VALUE_PARAM, "v", 1, zero, NULL, &value, &f->error), MQB_ERR_ARGUMENT,
                   "positive");
    EXPECT_REFUSED(f, api->add_value(f->graph, MQB_VALUE_PARAM, "v", 3, huge, NULL, &value, &f->error), MQB_ERR_ARGUMENT,
                   "'v'");
    EXPECT_REFUSED(f, api->add_value(f->graph, MQB_VALUE_PARAM, "v", 9, huge, NULL, &value, &f->error), MQB_ERR_ARGUMENT,
                   "'v'");
}

static void test_quantization_point_is_inserted_before_its_readers(void **state)
{
    struct fixture *f = *state;
    mqb_node_id point = add(f, "FakeQuantize", "fc_point", 1, out(f, f->fc), MQB_NONE);
    assert_int_equal(api->replace_uses(f->graph, out(f, f->fc), out(f, point), point, &f->error), MQB_OK);
    assert_int_equal(api->input(f->graph, f->act, 0), out(f, point));
    assert_int_equal(api->input(f->graph, f->sum, 0), out(f, point));
    assert_int_equal(api->input(f->graph, point, 0), out(f, f->fc));
    assert_int_equal(api->node_at(f->graph, 1), point);
    assert_int_equal(mqb_graph_infer(f->graph, &f->error), MQB_OK);
    check_legal(f->graph);
    /* the same at the graph's output */
    point = add(f, "FakeQuantize", "last", 1, out(f, f->sum), MQB_NONE);
    assert_int_equal(api->replace_uses(f->graph, out(f, f->sum), out(f, point), point, &f->error), MQB_OK);
    assert_int_equal(api->graph_output(f->graph), out(f, point));
    check_legal(f->graph);
}

static void test_set_input_replaces_and_appends(void **state)
{
    struct fixture *f = *state;
    const int64_t dim = 4;
    mqb_value_id bias;
    mqb_node_id point = add(f, "FakeQuantize", "w_point", 1, f->w, MQB_NONE);
    assert_int_equal(api->set_input(f->graph, f->fc, 1, out(f, point), &f->error), MQB_OK);
    assert_int_equal(api->node_at(f->graph, 0), point);
    assert_int_equal(api->add_value(f->graph, MQB_VALUE_PARAM, "b", 1, &dim, NULL, &bias, &f->error), MQB_OK);
    assert_int_equal(api->set_input(f->graph, f->fc, 2, bias, &f->error), MQB_OK);
    assert_int_equal(api->num_inputs(f->graph, f->fc), 3);
    assert_int_equal(api->set_input(f->graph, f->fc, 2, MQB_NONE, &f->error), MQB_OK);
    assert_int_equal(api->input(f->graph, f->fc, 2), MQB_NONE);
    check_legal(f->graph);
}

static void test_set_input_cycle_or_misfit_changes_nothing(void **state)
{
    struct fixture *f = *state;
    EXPECT_REFUSED(f, api->set_input(f->graph, f->fc, 0, out(f, f->sum), &f->error), MQB_ERR_ARGUMENT, "cycle");
    EXPECT_REFUSED(f, api->set_input(f->graph, f->act, 0, out(f, f->act), &f->error), MQB_ERR_ARGUMENT, "cycle");
    EXPECT_REFUSED(f, api->set_input(f->graph, f->sum, 0, f->x, &f->error), MQB_ERR_ARGUMENT,
                   "node 'sum' (Add): shapes of 'x' and 'act' differ");
    EXPECT_REFUSED(f, api->set_input(f->graph, f->act, 1, f->x, &f->error), MQB_ERR_ARGUMENT, "node 'act'");
    EXPECT_REFUSED(f, api->set_input(f->graph, f->act, 3, f->x, &f->error), MQB_ERR_ARGUMENT, "node 'act'");
    EXPECT_REFUSED(f, api->set_input(f->graph, f->fc, 1, MQB_NONE, &f->error), MQB_ERR_ARGUMENT, "node 'fc'");
    EXPECT_REFUSED(f, api->set_input(f->graph, f->fc, 1, 55, &f->error), MQB_ERR_ARGUMENT, "value 55");
}

static void test_replace_uses_cycle_or_misfit_changes_nothing(void **state)
{
    struct fixture *f = *state;
    mqb_node_id point = add(f, "FakeQuantize", "p", 1, out(f, f->fc), MQB_NONE);
    EXPECT_REFUSED(f, api->replace_uses(f->graph, out(f, f->fc), out(f, point), MQB_NONE, &f->error), MQB_ERR_ARGUMENT,
                   "cycle");
    EXPECT_REFUSED(f, api->replace_uses(f->graph, out(f, f->fc), out(f, f->sum), MQB_NONE, &f->error), MQB_ERR_ARGUMENT,
                   "cycle");
    EXPECT_REFUSED(f, api->replace_uses(f->graph, out(f, f->fc), f->x, MQB_NONE, &f->error), MQB_ERR_ARGUMENT, "shapes differ");
    EXPECT_REFUSED(f, api->replace_uses(f->graph, out(f, f->sum), f->x, MQB_NONE, &f->error), MQB_ERR_ARGUMENT, "output");
    EXPECT_REFUSED(f, api->replace_uses(f->graph, 88, f->x, MQB_NONE, &f->error), MQB_ERR_ARGUMENT, "88");
}

static void test_remove_node_only_unread(void **state)
{
    struct fixture *f = *state;
    EXPECT_REFUSED(f, api->remove_node(f->graph, f->fc, &f->error), MQB_ERR_ARGUMENT, "node 'act' reads its result");
    EXPECT_REFUSED(f, api->remove_node(f->graph, f->sum, &f->error), MQB_ERR_ARGUMENT, "the graph's output");
    mqb_value_id act = out(f, f->act);
    assert_int_equal(api->replace_uses(f->graph, act, out(f, f->fc), MQB_NONE, &f->error), MQB_OK);
    assert_int_equal(api->remove_node(f->graph, f->act, &f->error), MQB_OK);
    assert_int_equal(api->num_nodes(f->graph), 2);
    assert_string_equal(api->value_name(f->graph, act), "");
    assert_int_equal(api->remove_node(f->graph, f->act, &f->error), MQB_ERR_ARGUMENT);
    /* the name is free again, the id is not */
    mqb_node_id again = add(f, "Relu", "act", 1, out(f, f->fc), MQB_NONE);
    assert_string_equal(api->node_name(f->graph, again), "act");
    assert_int_not_equal(again, f->act);
    check_legal(f->graph);
}

static void test_sweep_drops_what_the_output_does_not_need(void **state)
{
    struct fixture *f = *state;
    mqb_value_id unused;
    const int64_t dim = 2;
    add(f, "Relu", "side", 1, f->x, MQB_NONE);
    assert_int_equal(api->add_value(f->graph, MQB_VALUE_CONST, "unused", 1, &dim, NULL, &unused, &f->error), MQB_OK);
    assert_int_equal(api->num_nodes(f->graph), 4);
    mqb_graph_sweep(f->graph);
    assert_int_equal(api->num_nodes(f->graph), 3);
    assert_int_equal(mqb_graph_find_value(f->graph, "unused"), MQB_NONE);
    assert_int_equal(mqb_graph_find_value(f->graph, "side"), MQB_NONE);
    assert_int_equal(mqb_graph_find_value(f->graph, "w"), f->w);
    check_legal(f->graph);
    assert_int_equal(mqb_graph_infer(f->graph, &f->error), MQB_OK);
}

static void test_clone_is_equal_and_independent(void **state)
{
    struct fixture *f = *state;
    struct mqb_graph *clone;
    int mark;
    f->graph->normalize = mqb_strdup("tf");
    f->graph->nodes[f->act].point = &mark;
    assert_int_equal(api->set_attr_text(f->graph, f->act, "rule", "r", &f->error), MQB_OK);
    assert_int_equal(mqb_graph_clone(f->graph, &clone, &f->error), MQB_OK);
    assert_null(graphs_differ(f->graph, clone));
    assert_null(clone->nodes[f->act].point);
    clone->values[f->w].data[0] = 99.0f;
    assert_true(f->graph->values[f->w].data[0] == 1.0f);
    /* ids are the same, and the clone grows on its own */
    mqb_node_id node;
    mqb_value_id x = f->x;
    assert_int_equal(api->add_node(clone, "Relu", "more", &x, 1, &node, &f->error), MQB_OK);
    assert_int_equal(api->num_nodes(f->graph), 3);
    mqb_graph_destroy(clone);
}

static void test_check_finite_names_the_element(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mqb_graph_check_finite(f->graph, &f->error), MQB_OK);
    f->graph->values[f->w].data[7] = INFINITY;
    assert_int_equal(mqb_graph_check_finite(f->graph, &f->error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(f->error.text, "tensor 'w' is infinite at element 7 (w[2][1])"));
}

/* A chain far longer than any stack of recursive calls would like. */
static void test_sort_long_chain_needs_no_recursion(void **state)
{
    struct fixture *f = *state;
    struct mqb_graph *graph;
    const int64_t dims[2] = {MQB_BATCH, 3};
    mqb_value_id x;
    assert_int_equal(mqb_graph_create(&fake_ops, &graph, &f->error), MQB_OK);
    assert_int_equal(mqb_graph_add_input(graph, "x", 2, dims, &x, &f->error), MQB_OK);
    mqb_node_id first = MQB_NONE, node;
    for (int i = 0; i < 1500; i++) {
        assert_int_equal(api->add_node(graph, "Relu", "r", &x, 1, &node, &f->error), MQB_OK);
        first = first == MQB_NONE ? node : first;
        x = api->output(graph, node);
    }
    graph->output = x;
    assert_int_equal(mqb_graph_infer(graph, &f->error), MQB_OK);
    assert_int_equal(api->num_nodes(graph), 1500);
    assert_string_equal(api->value_name(graph, x), "r_1499");
    assert_int_equal(api->set_input(graph, first, 0, x, &f->error), MQB_ERR_ARGUMENT);
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_calls_describe_the_graph, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_calls_wrong_ids_get_empty_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attributes_keep_type_and_are_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add_node_taken_name_gets_a_suffix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add_node_wrong_input_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add_node_shape_is_known_at_once_where_possible, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add_value_wrong_kind_or_shape_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quantization_point_is_inserted_before_its_readers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_input_replaces_and_appends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_input_cycle_or_misfit_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replace_uses_cycle_or_misfit_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_node_only_unread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep_drops_what_the_output_does_not_need, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clone_is_equal_and_independent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check_finite_names_the_element, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sort_long_chain_needs_no_recursion, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
