/* elf.c - bounds-checked reading of ELF headers and of one exported symbol. Every offset comes from the file: none is trusted.
 */
#include "plugin/elf.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#define HOST_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define HOST_MACHINE EM_AARCH64
#elif defined(__i386__)
#define HOST_MACHINE EM_386
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_DATA ELFDATA2LSB
#else
#define HOST_DATA ELFDATA2MSB
#endif

static bool inside(size_t size, uint64_t offset, uint64_t length)
{
    return offset <= size && length <= size - offset;
}

/* Header `index` of a table; false if it is not in the file. */
static bool read_row(const void *file, size_t size, uint64_t offset, uint64_t index, void *row, size_t row_size)
{
    if (!inside(size, offset, 0) || index > (size - offset) / row_size || !inside(size, offset + index * row_size, row_size)) {
        return false;
    }
    memcpy(row, (const char *)file + offset + index * row_size, row_size);
    return true;
}

bool mqb_elf_check(const void *file, size_t size, char *found, size_t found_size)
{
    ElfW(Ehdr) header;
    if (size < SELFMAG || memcmp(file, ELFMAG, SELFMAG) != 0) {
        snprintf(found, found_size, size == 0 ? "the file is empty" : "the file is not an ELF file");
        return false;
    }
    if (size < sizeof(header)) {
        snprintf(found, found_size, "the file is cut off after %zu bytes", size);
        return false;
    }
    memcpy(&header, file, sizeof(header));
    if (header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) || header.e_ident[EI_DATA] != HOST_DATA) {
        snprintf(found, found_size, "the file is for machines of another word size or byte order");
        return false;
    }
#ifdef HOST_MACHINE
    if (header.e_machine != HOST_MACHINE) {
        snprintf(found, found_size, "the file is for another processor (ELF machine %u, this one is %u)", header.e_machine,
                 HOST_MACHINE);
        return false;
    }
#endif
    if (header.e_type != ET_DYN) {
        snprintf(found, found_size, "the file is an ELF file of type %u, not a shared object", header.e_type);
        return false;
    }
    if (header.e_phnum == 0 || header.e_phentsize != sizeof(ElfW(Phdr))) {
        snprintf(found, found_size, "the file has no program headers");
        return false;
    }
    for (unsigned i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!read_row(file, size, header.e_phoff, i, &segment, sizeof(segment)) ||
            !inside(size, segment.p_offset, segment.p_filesz)) {
            snprintf(found, found_size, "the file is cut off: program segment %u does not lie within its %zu bytes", i, size);
            return false;
        }
    }
    if (header.e_shoff != 0 && !inside(size, header.e_shoff, (uint64_t)header.e_shnum * header.e_shentsize)) {
        snprintf(found, found_size, "the file is cut off: its section headers do not lie within its %zu bytes", size);
        return false;
    }
    return true;
}

/* Where in the file a virtual address lies. */
static bool address_offset(const void *file, size_t size, const ElfW(Ehdr) * header, uint64_t address, size_t length,
                           uint64_t *offset)
{
    for (unsigned i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!read_row(file, size, header->e_phoff, i, &segment, sizeof(segment)) || segment.p_type != PT_LOAD) {
            continue;
        }
        uint64_t delta = address - segment.p_vaddr;
        if (address >= segment.p_vaddr && inside(segment.p_filesz, delta, length)) {
            *offset = segment.p_offset + delta;
            return inside(size, *offset, length);
        }
    }
    return false;
}

static bool name_equals(const void *file, size_t size, const ElfW(Shdr) * strings, uint64_t index, const char *name)
{
    size_t length = strlen(name) + 1;
    return inside(size, strings->sh_offset, strings->sh_size) && inside(strings->sh_size, index, length) &&
           memcmp((const char *)file + strings->sh_offset + index, name, length) == 0;
}

enum mqb_elf_answer mqb_elf_read_symbol(const void *file, size_t size, const char *name, void *bytes, size_t num_bytes)
{
    ElfW(Ehdr) header;
    ElfW(Shdr) table, strings;
    memcpy(&header, file, sizeof(header));
    unsigned index = 0;
    bool has_table = false;
    if (header.e_shoff == 0 || header.e_shentsize != sizeof(table)) {
        return MQB_ELF_UNKNOWN;
    }
    for (; index < header.e_shnum && !has_table; index++) {
        has_table = read_row(file, size, header.e_shoff, index, &table, sizeof(table)) && table.sh_type == SHT_DYNSYM;
    }
    if (!has_table || table.sh_link >= header.e_shnum ||
        !read_row(file, size, header.e_shoff, table.sh_link, &strings, sizeof(strings))) {
        return MQB_ELF_UNKNOWN;
    }
    for (uint64_t i = 0; i < table.sh_size / sizeof(ElfW(Sym)); i++) {
        ElfW(Sym) symbol;
        if (!read_row(file, size, table.sh_offset, i, &symbol, sizeof(symbol))) {
            return MQB_ELF_UNKNOWN;
        }
        if (symbol.st_shndx != SHN_UNDEF && name_equals(file, size, &strings, symbol.st_name, name)) {
            uint64_t offset;
            if (!address_offset(file, size, &header, symbol.st_value, num_bytes, &offset)) {
                return MQB_ELF_UNKNOWN;
            }
            memcpy(bytes, (const char *)file + offset, num_bytes);
            return MQB_ELF_FOUND;
        }
    }
    return MQB_ELF_ABSENT;
}
