/* A larger shared area beside the region, made by the host when a payload does not fit inline, kept while it
 * is used. */
#ifndef PF_ARENA_H
#define PF_ARENA_H

#include <stdint.h>

#define PF_ARENA_MIN (256u * 1024u)
#define PF_ARENA_KEEP_UNUSED 8u /* calls that an arena may sit idle before it is given up */

struct pf_arena {
    uint8_t *bytes; /* owned mapping, NULL when there is none */
    uint64_t capacity;
    uint32_t unused;
};

/* Makes room for `size` bytes, rounded up to a power of two; *fd is the descriptor for the peer, owned by the
 * caller. What the arena held before is closed. */
int pf_arena_create(struct pf_arena *arena, uint64_t size, int *fd);

/* Maps an arena that the host sent (the peer's side); does not take the descriptor. */
int pf_arena_map(struct pf_arena *arena, int fd, uint64_t capacity);

void pf_arena_close(struct pf_arena *arena);

/* For views of the first `length` bytes that outlive a request (the peer's side): those bytes become private
 * memory, at the address where they are, and the arena is mapped at another. What other threads write
 * meanwhile may be lost. Failing changes nothing. */
int pf_arena_part(struct pf_arena *arena, uint64_t length);

/* For the host: also frees the pages, which a peer may map for as long as it likes at the host's cost. */
void pf_arena_discard(struct pf_arena *arena);

#endif
