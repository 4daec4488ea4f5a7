/* bracket.c - the same frozen network under each profile of its backend. */
#include "report/bracket.h"

#include <string.h>

#define MAX_CHOICES 8
#define MAX_CHOICE 64

static mqb_status run_choice(const struct mqb_bracket_config *config, const char *choice, struct mqb_result *result,
                             struct mqb_error *error)
{
    struct mqb_bracket_profile *profile = &result->bracket[result->num_bracket];
    struct mqb_backend_rules rules = {.struct_size = sizeof rules};
    struct mqb_program *program = NULL;
    mqb_status status = mqb_options_set(config->options, config->backend->bracket, choice, "--bracket", error);
    if (status == MQB_OK)
        status = config->backend->rules(mqb_host_table(), config->options, &rules, error);
    if (status == MQB_OK)
        status = mqb_program_create(config->deploy, &rules, config->compute, &program, error);
    if (status == MQB_OK)
        status = mqb_integer_test(&config->test, program, 0, &profile->integer, &profile->labels_agree, error);
    if (status == MQB_OK) {
        profile->name = mqb_strdup(rules.contract.profile);
        result->num_bracket++;
        status = profile->name != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
    }
    mqb_program_destroy(program);
    return status == MQB_OK ? status : mqb_fail_prefix(error, status, "--bracket, %s=%s", config->backend->bracket, choice);
}

static const struct mqb_option_spec *find_option(const struct mqb_backend *backend)
{
    if (!MQB_HAS_FIELD(backend, struct mqb_backend, bracket) || backend->bracket == NULL)
        return NULL;
    for (uint32_t i = 0; i < backend->num_options; i++)
        if (strcmp(backend->options[i].name, backend->bracket) == 0)
            return &backend->options[i];
    return NULL;
}

mqb_status mqb_bracket_run(const struct mqb_bracket_config *config, struct mqb_result *result, struct mqb_error *error)
{
    const struct mqb_option_spec *option = find_option(config->backend);
    char chosen[MAX_CHOICE], choice[MAX_CHOICE];
    if (option == NULL || option->choices == NULL)
        return MQB_OK;
    snprintf(chosen, sizeof chosen, "%s", mqb_option_text(config->options, option->name));
    result->bracket = mqb_allocate_array(MAX_CHOICES, sizeof *result->bracket);
    if (result->bracket == NULL || (result->bracket[0].name = mqb_strdup(config->rules->contract.profile)) == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
    result->bracket[0].integer = result->integer;
    result->bracket[0].labels_agree = result->labels_agree;
    result->num_bracket = 1;
    mqb_status status = MQB_OK;
    for (const char *at = option->choices; *at != '\0' && status == MQB_OK && result->num_bracket < MAX_CHOICES;) {
        size_t length = strcspn(at, "|");
        snprintf(choice, sizeof choice, "%.*s", (int)length, at);
        if (strcmp(choice, chosen) != 0)
            status = run_choice(config, choice, result, error);
        at += length + (at[length] == '|');
    }
    mqb_status restored = mqb_options_set(config->options, option->name, chosen, "--bracket", status == MQB_OK ? error : NULL);
    return status != MQB_OK ? status : restored;
}
