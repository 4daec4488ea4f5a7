/* args.c - flags by table. */
#include "args.h"
#include "train/train.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 26

void cli_sets_deinit(struct cli_sets *sets)
{
    for (size_t i = 0; i < sets->num; i++) {
        mqb_deallocate(sets->keys[i]);
        mqb_deallocate(sets->values[i]);
    }
    mqb_deallocate(sets->keys);
    mqb_deallocate(sets->values);
    *sets = (struct cli_sets){0};
}

/* Takes key and value over, NULL meaning that there was no memory. */
static bool sets_add(struct cli_sets *sets, char *key, char *value)
{
    if (sets->num == sets->capacity) {
        size_t capacity = 2 * sets->capacity + 8;
        char **keys = mqb_allocate_array(capacity, sizeof *keys), **values = mqb_allocate_array(capacity, sizeof *values);
        if (keys != NULL && values != NULL) {
            for (size_t i = 0; i < sets->num; i++) {
                keys[i] = sets->keys[i];
                values[i] = sets->values[i];
            }
            mqb_deallocate(sets->keys);
            mqb_deallocate(sets->values);
            sets->keys = keys;
            sets->values = values;
            sets->capacity = capacity;
        } else {
            mqb_deallocate(keys);
            mqb_deallocate(values);
        }
    }
    if (key == NULL || value == NULL || sets->num == sets->capacity) {
        mqb_deallocate(key);
        mqb_deallocate(value);
        cli_error("no memory for the words of the command line");
        return false;
    }
    sets->keys[sets->num] = key;
    sets->values[sets->num++] = value;
    return true;
}

static void print_flags(const struct cli_flag *flags)
{
    for (const struct cli_flag *flag = flags; flag->name != NULL; flag++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", flag->name, flag->value != NULL ? " " : "", flag->value != NULL ? flag->value : "");
        printf("  %-*s", HELP_COLUMN - 2, left);
        if (strlen(left) > HELP_COLUMN - 4)
            printf("\n%*s", HELP_COLUMN, "");
        for (const char *text = flag->help; *text != '\0';) {
            size_t length = strcspn(text, "\n");
            printf("%s%.*s\n", "", (int)length, text);
            text += length;
            if (*text == '\n') {
                text++;
                printf("%*s", HELP_COLUMN, "");
            }
        }
    }
}

static void print_help(const struct cli_syntax *syntax)
{
    printf("usage: %s\n\n%s\n\n", syntax->usage, syntax->about);
    print_flags(syntax->flags);
    printf("  %-*sthis help\n", HELP_COLUMN - 2, "--help");
}

static const struct cli_flag *find_flag(const struct cli_flag *flags, const char *name, size_t length)
{
    for (; flags->name != NULL; flags++)
        if (strlen(flags->name) == length && memcmp(flags->name, name, length) == 0)
            return flags;
    return NULL;
}

static bool refuse_flag(const struct cli_syntax *syntax, const char *word, size_t length)
{
    const char *names[64];
    char given[64];
    size_t num_names = 0;
    for (const struct cli_flag *flag = syntax->flags; flag->name != NULL && num_names < 63; flag++)
        names[num_names++] = flag->name;
    names[num_names++] = "help";
    size_t dashes = strspn(word, "-");
    snprintf(given, sizeof given, "%.*s", (int)(length > dashes ? length - dashes : 0), word + dashes);
    const char *nearest = mqb_nearest(given, names, num_names);
    if (nearest != NULL)
        cli_error("there is no flag %.*s, did you mean --%s?", (int)length, word, nearest);
    else
        cli_error("there is no flag %.*s here; --help lists them", (int)length, word);
    return false;
}

static bool parse_whole(const char *text, long long min, long long max, long long *value)
{
    char *end;
    errno = 0;
    long long parsed = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || parsed < min || parsed > max || strchr(" \t\n+", text[0]) != NULL)
        return false;
    *value = parsed;
    return true;
}

static bool set_whole(const struct cli_flag *flag, const char *text)
{
    long long value;
    if (!parse_whole(text, flag->min, flag->max, &value)) {
        cli_error("--%s %s: expected a whole number from %lld to %lld", flag->name, text, flag->min, flag->max);
        return false;
    }
    if (flag->type == CLI_INT)
        *(int *)flag->target = (int)value;
    else if (flag->type == CLI_SIZE)
        *(size_t *)flag->target = (size_t)value;
    else
        *(uint64_t *)flag->target = (uint64_t)value;
    return true;
}

static bool set_bits(const struct cli_flag *flag, const char *text)
{
    int *bits = flag->target;
    char weights[8];
    long long w, a;
    size_t length = strcspn(text, "/");
    snprintf(weights, sizeof weights, "%.*s", (int)(length < 7 ? length : 7), text);
    bool right = parse_whole(weights, flag->min, flag->max, &w);
    if (right && text[length] == '/')
        right = parse_whole(text + length + 1, flag->min, flag->max, &a);
    else
        a = w = right ? w : 0;
    if (!right) {
        cli_error("--%s %s: expected W or W/A, bits of weights and activations, each from %lld to %lld, as in 4 or 4/8", flag->name, text,
                  flag->min, flag->max);
        return false;
    }
    bits[0] = (int)w;
    bits[1] = (int)a;
    return true;
}

/* "lr=0.1" is meant for the recipe. */
static bool refuse_bare_key(const struct cli_flag *flag, const char *text, size_t length)
{
    const char *names[64];
    char key[64];
    size_t num_specs, num_names = 0;
    const struct mqb_option_spec *specs = mqb_recipe_specs(&num_specs);
    for (; num_names < num_specs && num_names < 64; num_names++)
        names[num_names] = specs[num_names].name;
    snprintf(key, sizeof key, "%.*s", (int)length, text);
    const char *nearest = mqb_nearest(key, names, num_names);
    cli_error("--%s %s: whose key is it? expected recipe.KEY=VALUE, ALGORITHM.KEY=VALUE or BACKEND.KEY=VALUE%s%s%s", flag->name, text,
              nearest != NULL ? ", did you mean recipe." : "", nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    return false;
}

static bool set_pair(const struct cli_flag *flag, const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) {
        cli_error("--%s %s: expected KEY=VALUE, as in recipe.momentum=0.9", flag->name, text);
        return false;
    }
    size_t length = (size_t)(equals - text);
    if (memchr(text, '.', length) == NULL)
        return refuse_bare_key(flag, text, length);
    return sets_add(flag->target, mqb_format("%.*s", (int)length, text), mqb_strdup(equals + 1));
}

static bool set_value(const struct cli_flag *flag, const char *text)
{
    switch (flag->type) {
    case CLI_SWITCH:
        *(bool *)flag->target = true;
        return true;
    case CLI_TEXT:
    case CLI_OPTIONAL_TEXT:
        if (text[0] == '\0') {
            cli_error("--%s has an empty value; expected %s", flag->name, flag->value);
            return false;
        }
        *(const char **)flag->target = text;
        return true;
    case CLI_BITS:
        return set_bits(flag, text);
    case CLI_SET:
        return set_pair(flag, text);
    case CLI_RECIPE:
        return sets_add(flag->target, mqb_format("recipe.%s", flag->name), mqb_strdup(text));
    default:
        return set_whole(flag, text);
    }
}

static bool is_flag(const char *word)
{
    return strncmp(word, "--", 2) == 0;
}

/* One flag at argv[*at], which moves over its value. */
static bool parse_flag(const struct cli_syntax *syntax, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *name = word + 2;
    size_t length = strcspn(name, "=");
    const struct cli_flag *flag = is_flag(word) ? find_flag(syntax->flags, name, length) : NULL;
    if (flag == NULL)
        return refuse_flag(syntax, word, is_flag(word) ? length + 2 : strcspn(word, "="));
    if (flag->given != NULL)
        *flag->given = true;
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    if (flag->type == CLI_SWITCH) {
        if (value == NULL)
            return set_value(flag, "");
        cli_error("--%s takes no value; leave '=%s' out", flag->name, value);
        return false;
    }
    if (value == NULL && *at + 1 < argc && !is_flag(argv[*at + 1]))
        value = argv[++*at];
    if (value == NULL && flag->type == CLI_OPTIONAL_TEXT)
        value = "-";
    if (value == NULL) {
        cli_error("--%s needs a value: --%s %s", flag->name, flag->name, flag->value);
        return false;
    }
    return set_value(flag, value);
}

static bool refuse_word(const struct cli_syntax *syntax, const char *word)
{
    if (syntax->max_words > 0)
        cli_error("'%s' is one word too many; expected at most %d (%s)", word, syntax->max_words, syntax->word_name);
    else
        cli_error("'%s' does not belong to a flag; flags are written --flag value (--help lists them)", word);
    return false;
}

enum cli_parsed cli_parse(const struct cli_syntax *syntax, int argc, char **argv)
{
    int num_words = 0;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(syntax);
            return CLI_HELPED;
        }
    for (int i = 0; i < argc; i++) {
        bool right;
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            right = parse_flag(syntax, argc, argv, &i);
        else if (num_words < syntax->max_words)
            right = (syntax->words[num_words++] = argv[i]) != NULL;
        else
            right = refuse_word(syntax, argv[i]);
        if (!right)
            return CLI_REFUSED;
    }
    return CLI_GO;
}

int cli_parsed_exit(enum cli_parsed parsed)
{
    return parsed == CLI_REFUSED ? CLI_WRONG : CLI_OK;
}
