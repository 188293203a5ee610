/* Request ids that nobody outside this process can guess, at the cost of some arithmetic.
 *
 * SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012) over a counter, under a key of random
 * bits for each channel: what a peer has seen says nothing about what comes. A getrandom for each handful of
 * ids would cost ten times a round trip through the channel.
 */
#ifndef PF_ID_H
#define PF_ID_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

#define PF_ID_SIZE 16u

struct pf_ids {
    uint64_t key[2]; /* secret */
    uint64_t count;
};

static inline int pf_ids_open(struct pf_ids *ids)
{
    ids->count = 0;
    return getrandom(ids->key, sizeof ids->key, 0) == (ssize_t)sizeof ids->key ? 0 : -EIO;
}

static inline uint64_t pf_rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void pf_sip_rounds(uint64_t v[4], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1], v[1] = pf_rotate(v[1], 13) ^ v[0], v[0] = pf_rotate(v[0], 32);
        v[2] += v[3], v[3] = pf_rotate(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = pf_rotate(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = pf_rotate(v[1], 17) ^ v[2], v[2] = pf_rotate(v[2], 32);
    }
}

/* SipHash-2-4-128 of one word, little-endian like every machine that is supported. */
static inline void pf_sip_word(const uint64_t key[2], uint64_t word, uint64_t out[2])
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du ^ 0xee,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const uint64_t blocks[2] = {word, UINT64_C(8) << 56}; /* the word, and the end with its length */
    for (int i = 0; i < 2; i++) {
        v[3] ^= blocks[i];
        pf_sip_rounds(v, 2);
        v[0] ^= blocks[i];
    }
    v[2] ^= 0xee;
    pf_sip_rounds(v, 4);
    out[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    pf_sip_rounds(v, 4);
    out[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The next id: a UUID, version 4, of 122 bits nobody can guess. */
static inline void pf_ids_next(struct pf_ids *ids, uint8_t id[PF_ID_SIZE])
{
    uint64_t out[2];
    pf_sip_word(ids->key, ids->count++, out);
    memcpy(id, out, PF_ID_SIZE);
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
}

#endif
