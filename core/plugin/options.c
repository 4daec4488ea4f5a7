/* options.c - typed, range-checked options with defaults. */
#include "plugin/options.h"
#include "plugin/manifest.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct option {
    const struct mqb_option_spec *spec;
    char *text; /* as given */
    int64_t integer;
    double real;
};

struct mqb_options {
    size_t num_options;
    struct option options[];
};

static struct option *find_option(const struct mqb_options *options, const char *name)
{
    for (size_t i = 0; i < options->num_options; i++) {
        if (strcmp(options->options[i].spec->name, name) == 0) {
            return (struct option *)&options->options[i];
        }
    }
    return NULL;
}

bool mqb_options_has(const struct mqb_options *options, const char *name)
{
    return find_option(options, name) != NULL;
}

mqb_status mqb_options_fail_unknown(const struct mqb_options *options, const char *name, const char *where,
                                    const char *const *also, size_t num_also, struct mqb_error *error)
{
    char list[512] = "";
    size_t used = 0, num_options = options->num_options;
    const char **names = mqb_allocate_array(num_options + num_also + 1, sizeof(*names));
    const char *near = NULL;
    for (size_t i = 0; i < num_options && used < sizeof(list); i++) {
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", options->options[i].spec->name);
    }
    if (names) {
        for (size_t i = 0; i < num_options + num_also; i++) {
            names[i] = i < num_options ? options->options[i].spec->name : also[i - num_options];
        }
        near = mqb_nearest(name, names, num_options + num_also);
        mqb_deallocate(names);
    }
    return mqb_fail(error, MQB_ERR_ARGUMENT, "%s: there is no option \"%.64s\"; %s%s%s%s%s", where, name,
                    num_options ? "options here are " : "none are taken here, so remove it", list,
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static mqb_status fail_value(const struct mqb_option_spec *spec, const char *where, const char *value, const char *problem,
                             const char *wanted, struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_ARGUMENT, "%s: %s = \"%.80s\" %s; give %s%s%s%s", where, spec->name, value, problem, wanted,
                    spec->doc ? " (" : "", spec->doc ? spec->doc : "", spec->doc ? ")" : "");
}

/* A number as C writes it, whatever the process's locale. */
static bool parse_real(const char *text, double *value)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) {
        return false;
    }
    char *end;
    double parsed = strtod_l(text, &end, plain);
    freelocale(plain);
    *value = parsed;
    return end != text && *end == '\0' && isfinite(parsed);
}

static bool parse_int(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long parsed = strtoll(text, &end, 10);
    *value = parsed;
    return end != text && *end == '\0' && errno == 0;
}

static mqb_status set_number(const struct mqb_option_spec *spec, const char *value, const char *where, struct option *parsed,
                             struct mqb_error *error)
{
    bool is_int = spec->type == MQB_OPTION_INT;
    char wanted[128];
    snprintf(wanted, sizeof(wanted), "a %s from %.15g to %.15g", is_int ? "whole number" : "number", spec->min, spec->max);
    if (is_int ? !parse_int(value, &parsed->integer) : !parse_real(value, &parsed->real)) {
        return fail_value(spec, where, value, is_int ? "is not a whole number" : "is not a number", wanted, error);
    }
    if (is_int) {
        parsed->real = (double)parsed->integer;
    }
    if (!(parsed->real >= spec->min && parsed->real <= spec->max)) {
        return fail_value(spec, where, value, "is out of range", wanted, error);
    }
    return MQB_OK;
}

/* The index of `value` among "a|b|c", or -1. Writes the choices as words to `wanted`, the nearest to `near`. */
static int find_choice(const char *choices, const char *value, char *wanted, size_t wanted_size, char near[64])
{
    enum { MAX_CHOICES = 32 };
    const char *words[MAX_CHOICES];
    char copy[512];
    int found = -1, num_words = 0;
    snprintf(copy, sizeof(copy), "%s", choices);
    for (char *word = copy; word && num_words < MAX_CHOICES; num_words++) {
        char *bar = strchr(word, '|');
        if (bar) {
            *bar = '\0';
        }
        words[num_words] = word;
        word = bar ? bar + 1 : NULL;
    }
    size_t used = (size_t)snprintf(wanted, wanted_size, "one of ");
    for (int i = 0; i < num_words; i++) {
        if (strcmp(words[i], value) == 0) {
            found = i;
        }
        if (used < wanted_size) {
            used += (size_t)snprintf(wanted + used, wanted_size - used, "%s%s", i ? ", " : "", words[i]);
        }
    }
    const char *nearest = mqb_nearest(value, words, (size_t)num_words);
    snprintf(near, 64, "%s", nearest ? nearest : "");
    return found;
}

static mqb_status set_choice(const struct mqb_option_spec *spec, const char *value, const char *where, struct option *parsed,
                             struct mqb_error *error)
{
    char wanted[256], near[64], problem[128];
    parsed->integer = find_choice(spec->choices, value, wanted, sizeof(wanted), near);
    if (parsed->integer >= 0) {
        return MQB_OK;
    }
    snprintf(problem, sizeof(problem), "is not a choice%s%s%s", near[0] ? " (did you mean \"" : "", near,
             near[0] ? "\"?)" : "");
    return fail_value(spec, where, value, problem, wanted, error);
}

mqb_status mqb_options_set(struct mqb_options *options, const char *name, const char *value, const char *where,
                           struct mqb_error *error)
{
    struct option *option = find_option(options, name);
    if (!option) {
        return mqb_options_fail_unknown(options, name, where, NULL, 0, error);
    }
    const struct mqb_option_spec *spec = option->spec;
    struct option parsed = {.spec = spec};
    mqb_status status = MQB_OK;
    bool flag = false;
    switch (spec->type) {
    case MQB_OPTION_INT:
    case MQB_OPTION_REAL:
        status = set_number(spec, value, where, &parsed, error);
        break;
    case MQB_OPTION_BOOL:
        if (!mqb_manifest_parse_bool(value, &flag)) {
            status = fail_value(spec, where, value, "is neither on nor off", "on or off", error);
        }
        parsed.integer = flag;
        break;
    case MQB_OPTION_CHOICE:
        status = set_choice(spec, value, where, &parsed, error);
        break;
    default:
        break;
    }
    if (status) {
        return status;
    }
    parsed.text = mqb_strdup(value);
    if (!parsed.text) {
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for option \"%s\"; free some and try again", where, name);
    }
    mqb_deallocate(option->text);
    *option = parsed;
    return MQB_OK;
}

/* What a component declares is checked too: its author should hear of it, not its user's user. */
static mqb_status check_spec(const struct mqb_options *options, const struct mqb_option_spec *spec, size_t index,
                             struct mqb_error *error)
{
    const char *problem = NULL;
    if (!spec->name || spec->name[0] == '\0') {
        return mqb_fail(error, MQB_ERR_INTERNAL,
                        "option specification %zu has no name; a bug of the component, tell its author", index);
    }
    if (spec->type < MQB_OPTION_INT || spec->type > MQB_OPTION_TEXT) {
        problem = "has an unknown type";
    } else if (!spec->default_value) {
        problem = "has no default value";
    } else if (spec->type == MQB_OPTION_CHOICE && !spec->choices) {
        problem = "is a choice without choices";
    } else if (find_option(options, spec->name)) {
        problem = "is declared twice";
    } else if (mqb_manifest_is_reserved(spec->name)) {
        problem = "has a name that manifests use for themselves";
    }
    return problem ? mqb_fail(error, MQB_ERR_INTERNAL, "option \"%s\" %s; a bug of the component, tell its author", spec->name,
                              problem)
                   : MQB_OK;
}

mqb_status mqb_options_create(const struct mqb_option_spec *specs, size_t num_specs, struct mqb_options **options,
                              struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    struct mqb_options *made = NULL;
    size_t size;
    if (!__builtin_mul_overflow(num_specs, sizeof(struct option), &size) &&
        !__builtin_add_overflow(size, sizeof(*made), &size)) {
        made = mqb_allocate(size);
    }
    if (!made) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %zu options; free some and try again", num_specs);
    }
    for (size_t i = 0; i < num_specs && !status; i++) {
        status = check_spec(made, &specs[i], i, error);
        if (!status) {
            made->options[i].spec = &specs[i];
            made->num_options = i + 1;
            if (mqb_options_set(made, specs[i].name, specs[i].default_value, "the component's own default", error)) {
                status = MQB_ERR_INTERNAL;
            }
        }
    }
    if (status) {
        mqb_options_destroy(made);
        return status;
    }
    *options = made;
    return MQB_OK;
}

void mqb_options_destroy(struct mqb_options *options)
{
    if (!options) {
        return;
    }
    for (size_t i = 0; i < options->num_options; i++) {
        mqb_deallocate(options->options[i].text);
    }
    mqb_deallocate(options);
}

int64_t mqb_option_int(const struct mqb_options *options, const char *name)
{
    const struct option *option = options ? find_option(options, name) : NULL;
    return option ? option->integer : 0;
}

double mqb_option_real(const struct mqb_options *options, const char *name)
{
    const struct option *option = options ? find_option(options, name) : NULL;
    return option ? option->real : 0.0;
}

const char *mqb_option_text(const struct mqb_options *options, const char *name)
{
    const struct option *option = options ? find_option(options, name) : NULL;
    return option ? option->text : "";
}
