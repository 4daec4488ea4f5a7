/*
 * golden.h - the conformance runner: every case of a folder of reference vectors, replayed through the components that ship.
 *
 * A driver replays one case and reports the first difference. The runner replays a case with the components' defaults; if it
 * fails, once more with compat = paper, and then a rule (rules.c) may call it a deviation by design.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "base/base.h"
#include "plugin/registry.h"
#include "quant/quant.h"

#include <jansson.h>
#include <stdbool.h>

/* What all cases share. */
struct golden_run {
    struct mqb_registry *registry;
    struct mqb_pool *pool;
    const struct mqb_compute *compute;
};

/* One case, replayed once. */
struct golden_case {
    const struct golden_run *run;
    const char *folder;         /* where the files lie that a case points to */
    const json_t *item, *cases; /* cases: all of the file */
    bool compat;                /* replay the released behaviour */
    char problem[512];          /* the first difference; "" if there is none */
    const char *not_shipped;    /* the component that the case is about and that we do not have; then nothing was replayed */
    struct mqb_error error;     /* for calls into the engine */
    struct golden_memory *memory;
};

/* A tensor of a file. Lives as long as the case; data is NULL if the file has none (null). */
struct golden_tensor {
    float *data;
    int64_t size;
    int rank;
    int64_t dims[6];
};

/* How far a number may be off: relative to the tensor's largest magnitude, plus absolute. */
struct golden_tolerance {
    double relative, absolute;
};

/* ---- case.c ---- */

/* Zeroed; freed with the case. Never NULL. */
void *golden_alloc(struct golden_case *c, int64_t count, size_t size);
void golden_case_release(struct golden_case *c);

/* Keeps the first sentence. */
void golden_problem(struct golden_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Did the call succeed? If not, its sentence (in c->error) is the problem. */
bool golden_ok(struct golden_case *c, mqb_status status);

const char *golden_text(const json_t *object, const char *key); /* "" if absent */
int64_t golden_int(const json_t *object, const char *key);      /* true is 1; 0 if absent */
double golden_number(struct golden_case *c, const json_t *object, const char *key);
/* Object at the end of a path of keys, as in "expected.state_after"; NULL if it ends before. */
const json_t *golden_get(const json_t *object, const char *path);
struct golden_tensor golden_tensor_of(struct golden_case *c, const json_t *json);
/* As above, but it must be there. */
struct golden_tensor golden_need(struct golden_case *c, const json_t *object, const char *path);
struct mqb_tensor_view golden_view(const struct golden_tensor *tensor);
/* [n][c][h][w] as [n][h][w][c]. */
struct golden_tensor golden_nhwc(struct golden_case *c, const struct golden_tensor *tensor);
/* Element `index` of a list of whole numbers, which may be wrapped in a tensor. */
int64_t golden_at(struct golden_case *c, const json_t *object, const char *key, size_t index);
size_t golden_size(const json_t *object, const char *key);

double golden_largest(const struct golden_tensor *tensor);
void golden_compare(struct golden_case *c, const char *what, const struct golden_tensor *want, const float *got,
                    struct golden_tolerance tolerance);

/* The vtable of a component of the build tree's manifest; NULL is a problem. */
const void *golden_component(struct golden_case *c, enum mqb_kind kind, const char *id);
/* "name=value ..." over the defaults of `specs`; "@key" as a value is the case's hyper.key. NULL is a problem. */
struct mqb_options *golden_options(struct golden_case *c, const struct mqb_option_spec *specs, size_t num_specs,
                                   const char *settings);

/* ---- drivers ---- */

typedef void golden_driver(struct golden_case *c);
golden_driver golden_quantizer_case; /* quantizer.c: families 1 and 4 */
golden_driver golden_observer_case;  /* observer.c: family 2 */
golden_driver golden_fold_case;      /* fold.c: family 3 */
golden_driver golden_integer_case;   /* integer.c: family 5 */
golden_driver golden_trace_case;     /* trace.c: family 6 */
golden_driver golden_ort_case;       /* ort.c: family 7, of which each file has a name: fam7_ort_qlinearconv */

/* ---- rules.c ---- */

/* Checks that the document, a file, names every rule. */
mqb_status golden_rules_check(const char *document, struct mqb_error *error);
/* The id of the rule that this case falls under, or NULL. */
const char *golden_rule_of(const json_t *item);

#endif
