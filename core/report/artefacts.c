/* artefacts.c - what a run leaves in --out. */
#include "report/artefacts.h"
#include "report/packing.h"
#include "quant/program_view.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHTS_FILE "weights.bin"

mqb_status mqb_result_add_file(struct mqb_result *result, const char *path, struct mqb_error *error)
{
    char **files = mqb_allocate_array((size_t)result->num_files + 1, sizeof *files);
    char *copy = mqb_strdup(path);
    if (files == NULL || copy == NULL) {
        mqb_deallocate(files);
        mqb_deallocate(copy);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the list of files");
    }
    if (result->num_files > 0)
        memcpy(files, result->files, (size_t)result->num_files * sizeof *files);
    files[result->num_files++] = copy;
    mqb_deallocate(result->files);
    result->files = files;
    return MQB_OK;
}

/* What the exporters' callbacks work on. */
struct engine {
    const struct mqb_deploy *deploy;
    const struct mqb_program *program;
    struct mqb_result *result;
};

static mqb_status check_name(const char *name, struct mqb_error *error)
{
    if (name == NULL || name[0] == '\0' || strchr(name, '/') != NULL)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the exporter wants to write \"%s\"; expected a plain file name", name != NULL ? name : "");
    return MQB_OK;
}

static mqb_status write_text(const struct mqb_export *request, const char *name, const char *text, size_t length, struct mqb_error *error)
{
    const struct engine *engine = request->engine;
    mqb_status status = check_name(name, error);
    if (status != MQB_OK)
        return status;
    char *path = mqb_path_join(request->dir, name);
    status = path == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path") : mqb_file_write(path, text, length, error);
    if (status == MQB_OK)
        status = mqb_result_add_file(engine->result, path, error);
    mqb_deallocate(path);
    return status;
}

static mqb_status write_onnx(const struct mqb_export *request, const char *name, struct mqb_error *error)
{
    const struct engine *engine = request->engine;
    mqb_status status = check_name(name, error);
    if (status != MQB_OK)
        return status;
    char *path = mqb_path_join(request->dir, name);
    status = path == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path") : mqb_onnx_export(engine->deploy->graph, path, error);
    if (status == MQB_OK)
        status = mqb_result_add_file(engine->result, path, error);
    mqb_deallocate(path);
    return status;
}

static mqb_status write_quantized_onnx(const struct mqb_export *request, const char *name, uint32_t flags, struct mqb_error *error)
{
    const struct engine *engine = request->engine;
    mqb_status status = check_name(name, error);
    if (status != MQB_OK)
        return status;
    char *path = mqb_path_join(request->dir, name);
    status = path == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path")
                          : mqb_program_export_onnx(engine->program, engine->deploy, flags, path, error);
    if (status == MQB_OK)
        status = mqb_result_add_file(engine->result, path, error);
    mqb_deallocate(path);
    return status;
}

/* Where a weight lies in weights.bin. */
static void add_place(json_t *point, const struct mqb_graph *graph, const struct mqb_frozen *frozen, const struct mqb_packed_place *place)
{
    const struct mqb_value *value = &graph->values[frozen->value];
    json_t *shape = json_array();
    for (int32_t i = 0; i < value->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)value->dims[i]));
    json_object_set_new(point, "shape", shape);
    json_object_set_new(point, "packed",
                        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "file", WEIGHTS_FILE, "packing", mqb_packing_name(frozen), "offset",
                                  (json_int_t)place->codes, "bytes", (json_int_t)mqb_packing_code_bytes(frozen), "scale_offset",
                                  (json_int_t)place->scale, "zero_point_offset", (json_int_t)place->zero_point));
}

static json_t *frozen_json(const struct mqb_graph *graph, const struct mqb_frozen *frozen)
{
    json_t *scales = json_array(), *zero_points = json_array();
    for (int c = 0; c < frozen->num_channels; c++) {
        json_array_append_new(scales, json_real(frozen->scale[c]));
        json_array_append_new(zero_points, json_integer(frozen->zero_point[c]));
    }
    const char *reader = frozen->is_private && frozen->reader != MQB_NONE ? graph->nodes[frozen->reader].name : NULL;
    return json_pack("{s:s, s:s*, s:s, s:i, s:b, s:b, s:i, s:i, s:o, s:o}", "tensor", frozen->name, "reader", reader, "role",
                     frozen->role == MQB_ROLE_WEIGHT ? "weight" : "activation", "bits", frozen->scheme.bits, "symmetric",
                     frozen->scheme.symmetric, "per_channel", frozen->scheme.per_channel, "qmin", frozen->qmin, "qmax", frozen->qmax,
                     "scale", scales, "zero_point", zero_points);
}

/* The packed weights, and their index with everything else that is known of the points. */
static mqb_status write_qparams(const struct mqb_export *request, const struct mqb_deploy *deploy, const struct mqb_result *result,
                                struct mqb_error *error)
{
    uint8_t *weights = NULL;
    int64_t size = 0;
    struct mqb_packed_place *places = mqb_allocate_array((size_t)deploy->num_frozen + 1, sizeof *places);
    mqb_status status = places != NULL ? mqb_packing_write(deploy, &weights, &size, places, error)
                                       : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the index of the weights");
    if (status == MQB_OK)
        status = write_text(request, WEIGHTS_FILE, (const char *)weights, (size_t)size, error);
    mqb_deallocate(weights);
    if (status != MQB_OK) {
        mqb_deallocate(places);
        return status;
    }
    json_t *points = json_array();
    for (int i = 0; i < deploy->num_frozen; i++) {
        json_t *point = frozen_json(deploy->graph, &deploy->frozen[i]);
        if (deploy->frozen[i].role == MQB_ROLE_WEIGHT)
            add_place(point, deploy->graph, &deploy->frozen[i], &places[i]);
        json_array_append_new(points, point);
    }
    mqb_deallocate(places);
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:o}", "schema", "mqbench.qparams/1", "model", result->model_name, "backend",
                             result->backend, "algo", result->algo, "points", points);
    char *text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(root);
    if (text == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "qparams.json: no memory, or a name that is not UTF-8");
    status = write_text(request, "qparams.json", text, strlen(text), error);
    free(text);
    return status;
}

/* Weights and activations as frozen, then the program's biases; zero[] is as long as the widest bias. */
static mqb_status list_tensors(const struct mqb_deploy *deploy, const struct mqb_program *program, struct mqb_export_tensor **tensors,
                               uint32_t *num_tensors, int32_t **zero, struct mqb_error *error)
{
    struct mqb_program_bias bias;
    int num_biases = 0, widest = 1;
    for (; mqb_program_bias(program, num_biases, &bias); num_biases++)
        widest = bias.num_channels > widest ? bias.num_channels : widest;
    *zero = mqb_allocate_array((size_t)widest, sizeof **zero);
    *tensors = mqb_allocate_array((size_t)(deploy->num_frozen + num_biases) + 1, sizeof **tensors);
    if (*zero == NULL || *tensors == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the artefacts");
    for (int i = 0; i < deploy->num_frozen; i++) {
        const struct mqb_frozen *f = &deploy->frozen[i];
        (*tensors)[i] = (struct mqb_export_tensor){
            .struct_size = sizeof **tensors, .role = f->role, .name = f->name, .bits = f->scheme.bits, .codes = f->codes,
            .num_codes = f->num_codes,
            .reader = f->is_private && f->reader != MQB_NONE ? deploy->graph->nodes[f->reader].name : NULL,
            .qparams = {.struct_size = sizeof(struct mqb_qparams), .num_channels = f->num_channels, .scale = f->scale,
                        .zero_point = f->zero_point, .qmin = f->qmin, .qmax = f->qmax},
        };
    }
    for (int i = 0; i < num_biases; i++) {
        mqb_program_bias(program, i, &bias);
        int channels = bias.num_channels; /* one scale is enough to say where all are the same */
        for (channels = 1; channels < bias.num_channels && bias.scale[channels] == bias.scale[0]; channels++)
            continue;
        channels = channels == bias.num_channels ? 1 : bias.num_channels;
        (*tensors)[deploy->num_frozen + i] = (struct mqb_export_tensor){
            .struct_size = sizeof **tensors, .role = MQB_ROLE_BIAS, .name = deploy->graph->values[bias.value].name, .bits = 32,
            .codes = bias.codes, .num_codes = bias.num_channels,
            .qparams = {.struct_size = sizeof(struct mqb_qparams), .num_channels = channels, .scale = bias.scale, .zero_point = *zero,
                        .qmin = INT32_MIN, .qmax = INT32_MAX},
        };
    }
    *num_tensors = (uint32_t)(deploy->num_frozen + num_biases);
    return MQB_OK;
}

char *mqb_artefacts_model(const struct mqb_result *result)
{
    char *model = mqb_strdup(result->model_name), *dot = model != NULL ? strrchr(model, '.') : NULL;
    if (dot != NULL && dot != model)
        *dot = '\0';
    return model;
}

mqb_status mqb_artefacts_write(const char *dir, const struct mqb_deploy *deploy, const struct mqb_program *program,
                               const struct mqb_backend *backend, const struct mqb_options *backend_options,
                               struct mqb_result *result, struct mqb_error *error)
{
    struct engine engine = {deploy, program, result};
    struct mqb_export_tensor *tensors = NULL;
    uint32_t num_tensors = 0;
    int32_t *zero = NULL;
    struct mqb_steps *steps = NULL;
    char *model = mqb_artefacts_model(result), *onnx = NULL;
    mqb_status status = mqb_dir_create(dir, error);
    if (status == MQB_OK)
        status = list_tensors(deploy, program, &tensors, &num_tensors, &zero, error);
    if (status == MQB_OK)
        status = mqb_program_view_create(program, deploy, &steps, error);
    if (status == MQB_OK && model == NULL)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the artefacts");
    if (status != MQB_OK)
        goto out;
    struct mqb_export request = {
        .struct_size = sizeof request, .num_tensors = num_tensors, .tensors = tensors, .dir = dir, .model_name = model,
        .graph = deploy->graph, .write_text = write_text, .write_onnx = write_onnx, .engine = &engine,
        .write_quantized_onnx = write_quantized_onnx,
        .steps = steps,
    };
    if ((status = write_qparams(&request, deploy, result, error)) != MQB_OK)
        goto out;
    onnx = mqb_format("%s_quantized.onnx", model);
    status = onnx == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path") : write_onnx(&request, onnx, error);
    if (status == MQB_OK && MQB_HAS_FIELD(backend, struct mqb_backend, export_files) && backend->export_files != NULL)
        status = backend->export_files(mqb_host_table(), backend_options, &request, error);
out:
    mqb_deallocate(onnx);
    mqb_deallocate(model);
    mqb_deallocate(tensors);
    mqb_deallocate(zero);
    mqb_program_view_destroy(steps);
    return status;
}
