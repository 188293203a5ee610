/* One thread's view of everything that may happen while nobody waits: replies, deadlines, messages on
 * sockets.
 *
 * Any thread may add, arm, disarm and wake; one thread waits. While a channel is armed the reactor owns it.
 * At a deadline the peer is killed here, before anybody has to find time for a Python lock.
 */
#ifndef PF_REACTOR_H
#define PF_REACTOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "pf_channel.h"

enum pf_event_kind { PF_EVENT_READABLE = 1, PF_EVENT_CALL = 2 };

struct pf_event {
    uint64_t token;
    enum pf_event_kind kind;
    enum pf_wait wait; /* of a call */
};

struct pf_watch {
    uint64_t token;
    struct pf_channel *channel; /* borrowed; NULL for a plain descriptor */
    uint64_t deadline_ns;       /* of an armed call */
    int fd;                     /* borrowed */
    bool armed;
};

struct pf_reactor {
    int epoll;
    int wake;
    pthread_mutex_t lock;
    struct pf_watch *watches; /* owned; unordered, found by token */
    size_t count, room;
    uint64_t until; /* when the waiting thread looks again by itself; UINT64_MAX: never */
};

int pf_reactor_open(struct pf_reactor *reactor);
void pf_reactor_close(struct pf_reactor *reactor);

/* Tokens are the caller's, unique, and not UINT64_MAX. A channel is added once and armed for each call.
 * Remove before the descriptor or the channel is closed: its number may be another's a moment later. */
int pf_reactor_add(struct pf_reactor *reactor, uint64_t token, int fd, struct pf_channel *channel);
int pf_reactor_remove(struct pf_reactor *reactor, uint64_t token);
int pf_reactor_arm(struct pf_reactor *reactor, uint64_t token);

/* Takes an armed call back from the reactor; false when its event is out already (or it never was armed). */
bool pf_reactor_disarm(struct pf_reactor *reactor, uint64_t token);

int pf_reactor_wake(struct pf_reactor *reactor);

/* Up to `room` (at least 2) events; 0 at the timeout (UINT64_MAX: none), when woken, or for nothing; -EINTR.
 */
int pf_reactor_wait(struct pf_reactor *reactor, struct pf_event *events, int room, uint64_t timeout_ns);

#endif
