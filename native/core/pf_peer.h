/* The instance's end of the channel. It runs in the confined process, beside the user's code: whatever it
 * does wrong hurts this instance alone. */
#ifndef PF_PEER_H
#define PF_PEER_H

#include <stdint.h>

#include "pf_arena.h"
#include "pf_layout.h"
#include "pf_spin.h"

struct pf_peer {
    struct pf_region *region; /* owned mapping */
    int doorbell;             /* owned */
    uint64_t seq;             /* of the request in hand */
    uint64_t stay_until_seq;  /* before it, no move to another CPU */
    uint32_t spin_limit_ns;   /* the host's hint */
    struct pf_spin spin;
    struct pf_arena request_arena;
    struct pf_arena response_arena;
};

struct pf_request {
    const uint8_t *payload; /* borrowed: in the shared area until the reply */
    uint64_t length;
    uint64_t deadline_ns; /* on the monotonic clock, from the moment that it was received */
    uint32_t kind;
    uint8_t id[PF_ID_SIZE];
};

/* Maps the region and takes both descriptors, also on failure. */
int pf_peer_open(struct pf_peer *peer, int memfd, int doorbell);
void pf_peer_close(struct pf_peer *peer);

/* Tells the host that this process is there; the kernel adds which one it is. */
int pf_peer_hello(struct pf_peer *peer);

/* 1: a request; 0: the host is gone; -EINTR: a signal, call again. */
int pf_peer_receive(struct pf_peer *peer, struct pf_request *request);

/* Where a reply of `length` bytes goes before it is sent: 0, or -EPIPE when the host is gone. */
int pf_peer_reserve(struct pf_peer *peer, uint64_t length, uint8_t **room);

/* 0, or -EPIPE when the host is gone. From here on the host may write the next request. `log` is the
 * descriptor of the log pipe. */
int pf_peer_send(struct pf_peer *peer, uint32_t kind, uint64_t length, int log);

/* Both, with a copy in between. */
int pf_peer_reply(struct pf_peer *peer, uint32_t kind, const void *bytes, uint64_t length, int log);

#endif
