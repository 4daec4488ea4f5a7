/* sha256_x86.h - SHA-256 by the CPU's own instructions, several times as fast. Private to core/base/. */
#ifndef MQB_SHA256_X86_H
#define MQB_SHA256_X86_H

#include "base/base.h"

/* False on CPUs without them, and on other machines. */
bool mqb_sha256_x86_usable(void);
void mqb_sha256_x86_blocks(uint32_t state[8], const uint32_t constants[64], const uint8_t *data, size_t num_blocks);

#endif
