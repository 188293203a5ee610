/* What the host and one instance share: a sealed memfd with a request and a response area.
 *
 * Every line below has one writer. The host treats each field that the peer can write as a hint: it reads it
 * once into a local, validates the local and forgets the shared copy. Sequence numbers are published last
 * (release) and read first (acquire).
 *
 * Sequence s of the request line is the slot's generation. The peer answers with 2*s ("I need a larger area",
 * at most once) and 2*s+1 (the reply).
 */
#ifndef PF_LAYOUT_H
#define PF_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pf_id.h"

#define PF_INLINE_CAP 65536u

enum pf_request_flag {
    PF_REQUEST_IN_ARENA = 1,    /* the payload is in the request arena, not in the region */
    PF_REQUEST_DROP_ARENAS = 2, /* the host gave up its arenas: unmap yours */
};

enum pf_response_flag {
    PF_RESPONSE_IN_ARENA = 1,
};

#define PF_KIND_BUFFERS 5u /* of a request or a reply: with buffers, see pf_buffers.h */

enum pf_reply_kind {
    PF_REPLY_RESULT = 0,
    PF_REPLY_PICKLE = 1,
    PF_REPLY_ERROR = 2,
    PF_REPLY_INVALID_RESULT = 3,
    PF_REPLY_INVALID_EVENT = 4,
    PF_REPLY_BUFFERS = PF_KIND_BUFFERS,
    PF_REPLY_KINDS
};

/* Messages on the doorbell, as struct pf_msg; those of pf_control.h come first in a peer's life. */
enum pf_doorbell_message {
    PF_BELL = 32,           /* look at the region */
    PF_REQUEST_ARENA = 33,  /* b = capacity, with the arena's descriptor; host to peer only */
    PF_RESPONSE_ARENA = 34, /* the same for replies */
};

struct pf_request_line { /* writer: host */
    _Atomic uint64_t seq;
    uint64_t length;
    uint64_t timeout_ns;
    uint32_t kind;
    uint32_t flags;
    uint32_t spin_ns; /* how long the peer should spin for the next request */
    uint32_t cpu;     /* where the host's thread runs: two that spin must not share it */
    uint8_t id[PF_ID_SIZE];
};

struct pf_response_line { /* writer: peer */
    _Atomic uint64_t seq;
    uint64_t length;
    uint32_t kind;
    uint32_t flags;
    uint8_t id[PF_ID_SIZE];
};

struct pf_region {
    _Alignas(64) struct pf_request_line request;
    _Alignas(64) struct pf_response_line response;
    _Alignas(64) _Atomic uint32_t host_asleep; /* writer: host */
    _Alignas(64) _Atomic uint32_t peer_asleep; /* writer: peer */
    _Alignas(64) _Atomic uint64_t taken;       /* writer: peer; the last request whose handler was entered */
    _Alignas(64) _Atomic uint64_t
        log_checked; /* writer: peer; after reply s, when the host is at work already:
                        2*s if no output is left in its log pipe, else 2*s+1 */
    _Alignas(4096) uint8_t request_bytes[PF_INLINE_CAP];
    _Alignas(4096) uint8_t response_bytes[PF_INLINE_CAP];
};

_Static_assert(sizeof(struct pf_region) == 4096 + 2 * PF_INLINE_CAP, "the region has no hidden padding");
_Static_assert(sizeof(struct pf_request_line) <= 64, "the request line fits one cache line");

#endif
