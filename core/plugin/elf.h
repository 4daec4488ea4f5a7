/*
 * elf.h - looks at a shared object as a file, before the dynamic linker does.
 *
 * Two reasons: the dynamic linker crashes on a file that is cut in the middle, and the versions in a plugin's entry
 * must be compared before any code of the plugin (constructors included) runs.
 */
#ifndef MQB_PLUGIN_ELF_H
#define MQB_PLUGIN_ELF_H

#include <stdbool.h>
#include <stddef.h>

/* True if the file is a complete shared object for this machine; else `found` says what it is instead. */
bool mqb_elf_check(const void *file, size_t size, char *found, size_t found_size);

enum mqb_elf_answer { MQB_ELF_FOUND, MQB_ELF_ABSENT, MQB_ELF_UNKNOWN };

/* Copies the first `num_bytes` of the data that symbol `name` stands for, as they are in the file (not relocated).
 * ABSENT: the file exports no such symbol. UNKNOWN: the file was stripped of what is needed to say.
 * Call it only for a file that mqb_elf_check accepted. */
enum mqb_elf_answer mqb_elf_read_symbol(const void *file, size_t size, const char *name, void *bytes, size_t num_bytes);

#endif
