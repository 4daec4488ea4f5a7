/* prove_json.c - what came of the proofs, as JSON. */
#include "report/prove.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *tensors_json(const struct mqb_proof_result *result)
{
    json_t *tensors = json_array();
    for (int i = 0; i < result->num_tensors && tensors != NULL; i++) {
        const struct mqb_proof_tensor *t = &result->tensors[i];
        json_t *own = t->own >= 0 ? json_integer(t->own) : json_null();
        json_t *tensor = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:o}", "tensor", t->tensor, "layer", t->layer, "op", t->op,
                                   "elements", (json_int_t)t->elements, "differ", (json_int_t)t->differ, "max_steps",
                                   (json_int_t)t->max_steps, "own", own);
        if (json_array_append_new(tensors, tensor) != 0) {
            json_decref(tensors);
            return NULL;
        }
    }
    return tensors;
}

static json_t *proof_json(const struct mqb_prove_case *one, const struct mqb_proof_result *result)
{
    const char *verdict = result->missing ? "missing" : mqb_proof_holds(result) ? "equal" : "differs";
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "backend", one->backend, "proof",
                     result->name, "settings", one->settings, "claim", result->claim, "engine", result->engine, "verdict",
                     verdict, "failure", result->failure != NULL ? result->failure : "", "images", (json_int_t)result->images,
                     "labels_differ", (json_int_t)result->labels_differ, "logits", (json_int_t)result->logits, "logits_differ",
                     (json_int_t)result->logits_differ, "elements", (json_int_t)result->elements, "differ",
                     (json_int_t)result->differ, "tensors", tensors_json(result));
}

mqb_status mqb_prove_json(const struct mqb_prove_case *cases, int num_cases, char **text, struct mqb_error *error)
{
    json_t *root = json_object(), *proofs = json_array();
    bool good = json_object_set_new(root, "schema", json_string(MQB_PROVE_SCHEMA)) == 0;
    for (int i = 0; i < num_cases; i++)
        for (int j = 0; j < cases[i].request.num_results; j++)
            good = json_array_append_new(proofs, proof_json(&cases[i], &cases[i].request.results[j])) == 0 && good;
    good = json_object_set_new(root, "proofs", proofs) == 0 && good;
    char *dumped = good ? json_dumps(root, JSON_INDENT(1)) : NULL;
    *text = dumped != NULL ? mqb_format("%s\n", dumped) : NULL;
    free(dumped);
    json_decref(root);
    return *text != NULL
               ? MQB_OK
               : mqb_fail(error, MQB_ERR_MEMORY, "the proofs have no form as JSON (no memory, or a name that is no UTF-8)");
}
