/* The host's end of the channel to one instance. The peer is hostile: see pf_layout.h for what may be
 * believed.
 *
 * One thread owns an end at a time: whoever leased the instance. Only pf_channel_kill may be called from
 * another.
 */
#ifndef PF_CHANNEL_H
#define PF_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pf_arena.h"
#include "pf_error.h"
#include "pf_layout.h"
#include "pf_spin.h"

#define PF_MAX_WAKES 64u  /* wake-ups that one call may cause before it counts as a storm */
#define PF_BELL_BATCH 64u /* messages read at one wake-up: honest calls may leave one behind each */
#define PF_GLANCE_NS UINT64_C(10000)
#define PF_PROMPT 8       /* so many late replies in a row, and a peer is not prompt any more */
#define PF_PROMPT_TRY 16u /* every so many calls it is tried whether it has become so */
#define PF_PROMPT_SPIN_NS                                                                                    \
    100000u /* how long a prompt peer spins for its next request, whoever else is busy */
#define PF_MAX_NS (UINT64_C(1) << 62)

enum pf_wait {
    PF_WAIT_PENDING = 0,
    PF_WAIT_REPLY,
    PF_WAIT_DEADLINE,
    PF_WAIT_DEAD,        /* the process ended or closed its doorbell without a reply */
    PF_WAIT_PROTOCOL,    /* the peer broke a rule: error.detail says which */
    PF_WAIT_INTERRUPTED, /* a signal for the host's thread */
};

struct pf_reply {
    uint64_t length;
    uint32_t kind;
    uint32_t flags;
};

struct pf_channel {
    struct pf_region *region; /* owned mapping */
    int doorbell;             /* owned */
    _Atomic bool doomed;      /* killed before it said hello: it dies at its hello */
    _Atomic int pidfd;        /* owned, -1 until the peer said hello; atomic for pf_channel_kill */
    pid_t pid;                /* 0 until then */
    pid_t parent;             /* whose child the peer has to be; 0: this process's own */
    uint64_t max_payload;
    uint64_t seq;           /* of the request that was posted last */
    uint64_t log_read;      /* of the request whose output is known to have left the pipe */
    uint64_t last_response; /* what the response line's seq was when it was last believed */
    uint64_t posted_ns;
    uint64_t start_ns;      /* how long the peer may take until it says hello; set by the owner */
    uint64_t timeout_ns;    /* of a call, from its post or the hello; set by the owner, as the one above */
    uint64_t first_spin_ns; /* how long to spin for the first reply; set by the owner */
    uint64_t attempt_ns;    /* how long the last attempt might have spun; 0: the call was waited for */
    uint64_t deadline_ns;   /* of the call in flight; moves once, at the hello of a new peer */
    uint64_t finished_ns;
    uint32_t wakes;
    uint32_t flags; /* of the request that is being made */
    bool busy;
    uint8_t prompt; /* how often to look at once still: replies came within PF_GLANCE_NS */
    struct pf_reply reply;
    struct pf_arena request_arena;
    struct pf_arena response_arena;
    struct pf_spin spin;
    struct pf_error error;
    uint8_t id[PF_ID_SIZE];
    uint8_t next_id[PF_ID_SIZE]; /* made while the peer was busy with the one before */
    struct pf_ids ids;
};

/* Makes the region and the doorbell; *memfd and *peer_doorbell are for the peer and owned by the caller. */
int pf_channel_open(struct pf_channel *channel, uint64_t max_payload, int *memfd, int *peer_doorbell);
void pf_channel_close(struct pf_channel *channel);

/* For a forked child of the host: closes descriptors only. The mappings did not come along, and something
 * else may be where they were. */
void pf_channel_forget(struct pf_channel *channel);

/* Publishes a request. -EBUSY: one is in flight. -EPROTO: the peer wrote when it had no right to, or reads
 * nothing. Times beyond PF_MAX_NS count as that. After any other outcome than a reply that was taken, the
 * channel stays busy for good. */
int pf_channel_post(struct pf_channel *channel, uint32_t kind, const void *payload, uint64_t length,
                    uint32_t spin_ns);

/* True if output of the last call, or of one before, may still be in the log pipe: have it read, and say so.
 * The peer's word, on which only its own function's log depends. */
bool pf_channel_log_left(struct pf_channel *channel);
void pf_channel_log_was_read(struct pf_channel *channel);

/* The same in two steps, for a payload in pieces: *room is where its `length` bytes go before it is sent. */
int pf_channel_reserve(struct pf_channel *channel, uint64_t length, uint8_t **room);
void pf_channel_send(struct pf_channel *channel, uint32_t kind, uint64_t length, uint32_t spin_ns);

/* Looks once, without waiting, whether the call is decided. */
enum pf_wait pf_channel_step(struct pf_channel *channel);

/* Spins, then sleeps until the call is decided. At the deadline the peer is killed before this returns. */
enum pf_wait pf_channel_wait(struct pf_channel *channel, uint64_t spin_ns);

/* Looks for a moment if replies came within PF_GLANCE_NS: for a caller who keeps others waiting meanwhile. */
enum pf_wait pf_channel_glance(struct pf_channel *channel, uint64_t moment_ns);

/* Spins only. PF_WAIT_PENDING: the call goes on, and the peer will ring: a reactor may have it. */
enum pf_wait pf_channel_attempt(struct pf_channel *channel, uint64_t spin_ns);

/* For a reactor: ask to be rung before the post; read the doorbell when it is readable. */
void pf_channel_want_bell(struct pf_channel *channel);
enum pf_wait pf_channel_ring_received(struct pf_channel *channel);

/* The peer's process has ended: what was complete before that still counts. */
enum pf_wait pf_channel_ended(struct pf_channel *channel);

/* Copies the reply's bytes (channel->reply.length of them) and ends the call. */
void pf_channel_take(struct pf_channel *channel, void *bytes);

/* The same in two steps, for a reply with parts. The bytes are shared: the peer may change them at any time.
 */
const uint8_t *pf_channel_reply(struct pf_channel *channel);
void pf_channel_end(struct pf_channel *channel);

/* True if the peer had entered the handler for the request in flight (the peer's word; only its own function
 * gains). */
bool pf_channel_was_taken(const struct pf_channel *channel);

/* SIGKILL by pidfd, or at the hello that has not come yet (-ESRCH: also if the peer is gone). */
int pf_channel_kill(struct pf_channel *channel);

#endif
