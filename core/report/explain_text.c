/* explain_text.c - an explanation as a table for a terminal, and as JSON. */
#include "report/explain.h"
#include "report/text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 120
#define NAME 34 /* columns of a tensor's name */
#define LABEL 15

/* The end of a name tells tensors apart. */
static void add_name(struct mqb_text *text, const char *name)
{
    size_t length = strlen(name);
    bool cut = length > NAME;
    mqb_text_add(text, "  %s%-*s ", cut ? ".." : "", cut ? NAME - 2 : NAME, cut ? name + length - (NAME - 2) : name);
}

static void add_line(struct mqb_text *text, const char *label, const char *sentence)
{
    mqb_text_add(text, "  %-*s", LABEL - 2, label);
    mqb_text_wrap(text, sentence, LABEL, WIDTH);
}

static const char *role_word(const struct mqb_explained_point *p)
{
    return p->scheme.role == MQB_ROLE_WEIGHT ? "weight" : "activation";
}

/* "-128..127", "one scale, a power of two". */
static void scheme_words(const struct mqb_scheme *scheme, char codes[24], char scale[48])
{
    snprintf(codes, 24, "%d..%d", (int)scheme->qmin, (int)scheme->qmax);
    snprintf(scale, 48, "%s%s%s", scheme->per_channel ? "a channel" : "a tensor", scheme->pot_scale ? ", 2^n" : "",
             scheme->symmetric ? "" : ", zero");
}

static void add_point(struct mqb_text *text, const struct mqb_explained_point *p)
{
    char codes[24], scale[48];
    scheme_words(&p->scheme, codes, scale);
    add_name(text, p->tensor);
    mqb_text_add(text, "%-10s  %d%s  %-9s %-15s %s%s%s\n", role_word(p), (int)p->scheme.bits, p->io ? "*" : " ", codes, scale,
                 p->rule, p->reader != NULL ? ", for " : "", p->reader != NULL ? p->reader : "");
}

static void add_heading(struct mqb_text *text, const struct mqb_explained_network *n, const struct mqb_explanation *e)
{
    char fold[48] = "", *passes = NULL;
    mqb_text_add(text, "\n  %s: %s\n\n", n->backend, n->description);
    mqb_text_add(text, "  %-*s%s  %.12s\n", LABEL - 2, "model", e->model, e->sha256);
    for (int i = 0; i < n->num_passes; i++) {
        char *longer = passes == NULL ? mqb_strdup(n->passes[i]) : mqb_format("%s, %s", passes, n->passes[i]);
        mqb_deallocate(passes);
        passes = longer;
    }
    snprintf(fold, sizeof fold, " (batch norm folding %d)", n->bn_fold);
    mqb_text_add(text, "  %-*s%s%s\n", LABEL - 2, "passes", passes != NULL ? passes : "none", fold);
    mqb_deallocate(passes);
    if (n->profile[0] != '\0')
        mqb_text_add(text, "  %-*s%s\n", LABEL - 2, "contract", n->profile);
    char *verdict =
        n->refusal[0] == '\0' ? mqb_strdup("nothing is known against it before calibration") : mqb_format("no: %s", n->refusal);
    add_line(text, "integers", verdict != NULL ? verdict : "-");
    mqb_deallocate(verdict);
}

/* Each way in which codes come about, once. */
static void add_arithmetic(struct mqb_text *text, const struct mqb_explained_network *n)
{
    bool any = false;
    for (int i = 0; i < n->num_points; i++) {
        const struct mqb_explained_point *p = &n->points[i];
        bool seen = p->arithmetic[0] == '\0';
        for (int k = 0; k < i && !seen; k++)
            seen = strcmp(n->points[k].kind, p->kind) == 0 && strcmp(n->points[k].arithmetic, p->arithmetic) == 0;
        if (seen)
            continue;
        if (!any)
            mqb_text_add(text, "\n  how codes come about (A: a layer's sum)\n\n");
        any = true;
        add_line(text, p->kind, p->arithmetic);
    }
}

static void add_network(struct mqb_text *text, const struct mqb_explained_network *n, const struct mqb_explanation *e)
{
    int num_weights = 0;
    bool io = false;
    for (int i = 0; i < n->num_points; i++) {
        num_weights += n->points[i].scheme.role == MQB_ROLE_WEIGHT;
        io |= n->points[i].io;
    }
    add_heading(text, n, e);
    mqb_text_add(text, "\n  %d points: %d on activations, %d on weights%s\n\n", n->num_points, n->num_points - num_weights,
                 num_weights, io ? " (*: first and last layer)" : "");
    mqb_text_add(text, "  %-*s %-10s  %-3s %-9s %-15s %s\n", NAME, "tensor", "role", "bit", "codes", "one scale", "rule");
    for (int i = 0; i < n->num_points; i++)
        add_point(text, &n->points[i]);
    add_arithmetic(text, n);
    if (n->num_tensors > 0)
        mqb_text_add(text, "\n  no point\n\n");
    for (int i = 0; i < n->num_tensors; i++) {
        add_name(text, n->tensors[i].tensor);
        mqb_text_wrap(text, n->tensors[i].why, NAME + 3, WIDTH);
    }
}

/* ---- one tensor, everywhere ---- */

static bool is_edge(const struct mqb_explained_point *p, const char *edge)
{
    return strcmp(p->tensor, edge) == 0 || (p->parameter != NULL && strcmp(p->parameter, edge) == 0);
}

static const struct mqb_explained_tensor *find_absent(const struct mqb_explained_network *n, const char *edge)
{
    for (int i = 0; i < n->num_tensors; i++)
        if (strcmp(n->tensors[i].tensor, edge) == 0)
            return &n->tensors[i];
    return NULL;
}

static const char merged[] = "its passes leave no tensor of this name: it is merged into another";

static void add_edge(struct mqb_text *text, const struct mqb_explained_network *n, const char *edge)
{
    bool any = false;
    for (int i = 0; i < n->num_points; i++) {
        const struct mqb_explained_point *p = &n->points[i];
        char codes[24], scale[48];
        if (!is_edge(p, edge))
            continue;
        scheme_words(&p->scheme, codes, scale);
        char *sentence = mqb_format("point: %s%s%s; %d bits%s, codes %s, one scale %s%s", p->rule,
                                    p->reader != NULL ? ", for " : "", p->reader != NULL ? p->reader : "", (int)p->scheme.bits,
                                    p->io ? " (first or last layer)" : "", codes, scale, p->scheme.symmetric ? "" : " point");
        add_line(text, any ? "" : n->backend, sentence != NULL ? sentence : "-");
        mqb_deallocate(sentence);
        if (p->arithmetic[0] != '\0')
            add_line(text, "", p->arithmetic);
        any = true;
    }
    const struct mqb_explained_tensor *absent = find_absent(n, edge);
    char *sentence = any ? NULL : mqb_format("no point: %s", absent != NULL ? absent->why : merged);
    if (!any)
        add_line(text, n->backend, sentence != NULL ? sentence : "-");
    mqb_deallocate(sentence);
}

mqb_status mqb_explanation_screen(const struct mqb_explanation *explanation, char **text, struct mqb_error *error)
{
    struct mqb_text out = {0};
    if (explanation->edge == NULL) {
        add_network(&out, &explanation->networks[0], explanation);
    } else {
        mqb_text_add(&out, "\n  %s in %s\n\n", explanation->edge, explanation->model);
        for (int i = 0; i < explanation->num_networks; i++)
            add_edge(&out, &explanation->networks[i], explanation->edge);
    }
    mqb_text_add(&out, "\n");
    if (out.failed) {
        mqb_text_deinit(&out);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to write an explanation");
    }
    *text = out.data;
    return MQB_OK;
}

/* ---- JSON ---- */

static json_t *string(const char *text)
{
    json_t *value = text != NULL ? json_string(text) : NULL;
    return value != NULL ? value : json_null();
}

static json_t *point_json(const struct mqb_explained_point *p)
{
    return json_pack("{s:o, s:o, s:s, s:i, s:b, s:i, s:i, s:b, s:b, s:b, s:o, s:o, s:o, s:o}", "tensor", string(p->tensor),
                     "parameter", string(p->parameter), "role", role_word(p), "bits", (int)p->scheme.bits, "io", p->io, "qmin",
                     (int)p->scheme.qmin, "qmax", (int)p->scheme.qmax, "symmetric", p->scheme.symmetric, "per_channel",
                     p->scheme.per_channel, "power_of_two", p->scheme.pot_scale, "rule", string(p->rule), "reader",
                     string(p->reader), "kind", string(p->kind), "arithmetic", string(p->arithmetic));
}

/* Everything, or what concerns one tensor. */
static json_t *network_json(const struct mqb_explained_network *n, const char *edge)
{
    json_t *points = json_array(), *tensors = json_array(), *passes = json_array();
    for (int i = 0; i < n->num_points; i++)
        if (edge == NULL || is_edge(&n->points[i], edge))
            json_array_append_new(points, point_json(&n->points[i]));
    for (int i = 0; i < n->num_tensors; i++)
        if (edge == NULL || strcmp(n->tensors[i].tensor, edge) == 0)
            json_array_append_new(
                tensors, json_pack("{s:o, s:o}", "tensor", string(n->tensors[i].tensor), "why", string(n->tensors[i].why)));
    for (int i = 0; i < n->num_passes; i++)
        json_array_append_new(passes, string(n->passes[i]));
    return json_pack("{s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o}", "backend", string(n->backend), "description",
                     string(n->description), "profile", string(n->profile[0] != '\0' ? n->profile : NULL), "bn_fold",
                     n->bn_fold, "passes", passes, "refusal", string(n->refusal[0] != '\0' ? n->refusal : NULL), "points",
                     points, "no_point", tensors);
}

mqb_status mqb_explanation_json(const struct mqb_explanation *explanation, char **text, struct mqb_error *error)
{
    json_t *networks = json_array();
    for (int i = 0; i < explanation->num_networks; i++)
        json_array_append_new(networks, network_json(&explanation->networks[i], explanation->edge));
    json_t *root =
        json_pack("{s:s, s:{s:o, s:s}, s:o, s:o}", "schema", MQB_EXPLAIN_SCHEMA, "model", "name", string(explanation->model),
                  "sha256", explanation->sha256, "edge", string(explanation->edge), "backends", networks);
    char *dumped = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    *text = dumped != NULL ? mqb_format("%s\n", dumped) : NULL;
    free(dumped);
    return *text != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory to write an explanation as JSON");
}
