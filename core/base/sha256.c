/* sha256.c - SHA-256 (FIPS 180-4). */
#include "base/sha256_x86.h"

#include <errno.h>
#include <string.h>

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void add_block(uint32_t state[8], const uint8_t block[64])
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    /* Eight rounds a turn, so that the words change their names instead of their places. */
    for (int i = 0; i < 64; i += 8)
        for (int j = 0; j < 8; j++) {
            uint32_t *a = &v[-j & 7], *b = &v[(1 - j) & 7], *c = &v[(2 - j) & 7], *d = &v[(3 - j) & 7];
            uint32_t *e = &v[(4 - j) & 7], *f = &v[(5 - j) & 7], *g = &v[(6 - j) & 7], *h = &v[(7 - j) & 7];
            uint32_t s1 = rotate(*e, 6) ^ rotate(*e, 11) ^ rotate(*e, 25);
            uint32_t t1 = *h + s1 + ((*e & *f) ^ (~*e & *g)) + round_constants[i + j] + w[i + j];
            uint32_t s0 = rotate(*a, 2) ^ rotate(*a, 13) ^ rotate(*a, 22);
            *d += t1;
            *h = t1 + s0 + ((*a & *b) ^ (*a & *c) ^ (*b & *c));
        }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

static void add_blocks(struct mqb_sha256 *hash, const uint8_t *data, size_t num_blocks)
{
    if (hash->hardware) {
        mqb_sha256_x86_blocks(hash->state, round_constants, data, num_blocks);
        return;
    }
    for (size_t i = 0; i < num_blocks; i++)
        add_block(hash->state, data + 64 * i);
}

void mqb_sha256_init(struct mqb_sha256 *hash)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->num_bytes = 0;
    hash->hardware = mqb_sha256_x86_usable();
}

void mqb_sha256_update(struct mqb_sha256 *hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    while (size > 0) {
        size_t filled = hash->num_bytes % 64, take = 64 - filled < size ? 64 - filled : size;
        if (filled == 0 && size >= 64) {
            take = size / 64 * 64;
            add_blocks(hash, bytes, size / 64);
        } else {
            memcpy(hash->block + filled, bytes, take);
            if (filled + take == 64)
                add_blocks(hash, hash->block, 1);
        }
        hash->num_bytes += take;
        bytes += take;
        size -= take;
    }
}

void mqb_sha256_hex(struct mqb_sha256 *hash, char hex[65])
{
    uint64_t bits = hash->num_bytes * 8;
    uint8_t tail[72] = {0x80};
    size_t padding = (hash->num_bytes % 64 < 56 ? 56 : 120) - hash->num_bytes % 64;
    for (int i = 0; i < 8; i++)
        tail[padding + i] = (uint8_t)(bits >> (56 - 8 * i));
    mqb_sha256_update(hash, tail, padding + 8);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", hash->state[i]);
}

mqb_status mqb_sha256_file(const char *path, char hex[65], struct mqb_error *error)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return mqb_fail(error, errno == ENOENT ? MQB_ERR_NOT_FOUND : MQB_ERR_IO, "%s: cannot be opened (%s)", path, strerror(errno));
    struct mqb_sha256 hash;
    mqb_sha256_init(&hash);
    uint8_t buffer[1 << 14];
    size_t got;
    while ((got = fread(buffer, 1, sizeof buffer, file)) > 0)
        mqb_sha256_update(&hash, buffer, got);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed)
        return mqb_fail(error, MQB_ERR_IO, "%s: reading failed", path);
    mqb_sha256_hex(&hash, hex);
    return MQB_OK;
}
