/* text.c - text that grows, and how times, sizes and counts are written for people. */
#include "report/text.h"

#include <string.h>

static bool reserve(struct mqb_text *text, size_t more)
{
    if (text->failed || text->size + more + 1 <= text->capacity)
        return !text->failed;
    size_t capacity = 2 * (text->size + more) + 256;
    char *data = mqb_allocate(capacity);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    if (text->size > 0)
        memcpy(data, text->data, text->size);
    mqb_deallocate(text->data);
    text->data = data;
    text->capacity = capacity;
    return true;
}

void mqb_text_add(struct mqb_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length >= 0 && reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->size, text->capacity - text->size, format, again);
        text->size += (size_t)length;
    }
    va_end(again);
}

void mqb_text_wrap(struct mqb_text *text, const char *sentence, int indent, int width)
{
    int column = indent;
    bool first = true;
    for (const char *word = sentence + strspn(sentence, " \n"); *word != '\0';) {
        int length = (int)strcspn(word, " \n");
        if (!first && column + 1 + length > width) {
            mqb_text_add(text, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            mqb_text_add(text, " ");
            column++;
        }
        mqb_text_add(text, "%.*s", length, word);
        column += length;
        first = false;
        word += length;
        word += strspn(word, " \n");
    }
    mqb_text_add(text, "\n");
}

void mqb_text_deinit(struct mqb_text *text)
{
    mqb_deallocate(text->data);
    *text = (struct mqb_text){0};
}

void mqb_text_seconds(double seconds, char out[MQB_SHORT])
{
    if (!(seconds >= 0.0) || seconds > 1e9) {
        snprintf(out, MQB_SHORT, "-");
        return;
    }
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 9.995)
        snprintf(out, MQB_SHORT, "%.2f s", seconds);
    else if (seconds < 99.95)
        snprintf(out, MQB_SHORT, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(out, MQB_SHORT, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(out, MQB_SHORT, "%lld h %02lld min", whole / 3600, whole / 60 % 60);
}

void mqb_text_bytes(double bytes, char out[MQB_SHORT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; bytes >= 1023.5 && unit < 4; unit++)
        bytes /= 1024.0;
    snprintf(out, MQB_SHORT, unit > 0 && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

void mqb_text_count(int64_t count, char out[MQB_SHORT])
{
    char digits[MQB_SHORT];
    uint64_t magnitude = count < 0 ? 0u - (uint64_t)count : (uint64_t)count;
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)magnitude), used = 0;
    if (count < 0)
        out[used++] = '-';
    for (int i = 0; i < length && used < MQB_SHORT - 2; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
}

void mqb_text_amount(double amount, char out[MQB_SHORT])
{
    static const char *const units[] = {"", " k", " M", " G", " T", " P"};
    size_t unit = 0;
    while (amount >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        amount /= 1000.0;
        unit++;
    }
    snprintf(out, MQB_SHORT, unit == 0 ? "%.0f%s" : "%.2f%s", amount, units[unit]);
}
