#define _GNU_SOURCE
#include "pf_reactor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "pf_clock.h"
#include "pf_fd.h"

#define PF_WAKE_TOKEN UINT64_MAX

int pf_reactor_open(struct pf_reactor *reactor)
{
    *reactor = (struct pf_reactor){.epoll = -1, .wake = -1, .until = UINT64_MAX};
    cleanup_fd int epoll = epoll_create1(EPOLL_CLOEXEC);
    cleanup_fd int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll < 0 || wake < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = PF_WAKE_TOKEN};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event) < 0)
        return -errno;
    int rc = pthread_mutex_init(&reactor->lock, NULL);
    if (rc)
        return -rc;
    reactor->epoll = pf_fd_take(&epoll);
    reactor->wake = pf_fd_take(&wake);
    return 0;
}

void pf_reactor_close(struct pf_reactor *reactor)
{
    if (reactor->epoll < 0)
        return;
    pf_fd_close(&reactor->epoll);
    pf_fd_close(&reactor->wake);
    pthread_mutex_destroy(&reactor->lock);
    free(reactor->watches);
    reactor->watches = NULL;
    reactor->count = reactor->room = 0;
}

static struct pf_watch *find(struct pf_reactor *reactor, uint64_t token)
{
    for (size_t i = 0; i < reactor->count; i++)
        if (reactor->watches[i].token == token)
            return &reactor->watches[i];
    return NULL;
}

static int reserve(struct pf_reactor *reactor)
{
    if (reactor->count < reactor->room)
        return 0;
    size_t room = reactor->room ? 2 * reactor->room : 64;
    struct pf_watch *watches = realloc(reactor->watches, room * sizeof *watches);
    if (!watches)
        return -ENOMEM;
    reactor->watches = watches;
    reactor->room = room;
    return 0;
}

static int add_locked(struct pf_reactor *reactor, uint64_t token, int fd, struct pf_channel *channel)
{
    if (token == PF_WAKE_TOKEN)
        return -EINVAL;
    if (find(reactor, token))
        return -EEXIST;
    int rc = reserve(reactor);
    if (rc < 0)
        return rc;
    /* A channel's doorbell rings for whoever waits: it is of interest here only while it is armed. */
    struct epoll_event event = {.events = channel ? EPOLLONESHOT : EPOLLIN, .data.u64 = token};
    if (epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    reactor->watches[reactor->count++] = (struct pf_watch){.token = token, .fd = fd, .channel = channel};
    return 0;
}

int pf_reactor_add(struct pf_reactor *reactor, uint64_t token, int fd, struct pf_channel *channel)
{
    pthread_mutex_lock(&reactor->lock);
    int rc = add_locked(reactor, token, fd, channel);
    pthread_mutex_unlock(&reactor->lock);
    return rc;
}

int pf_reactor_remove(struct pf_reactor *reactor, uint64_t token)
{
    pthread_mutex_lock(&reactor->lock);
    struct pf_watch *watch = find(reactor, token);
    if (watch) {
        (void)epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
        *watch = reactor->watches[--reactor->count];
    }
    pthread_mutex_unlock(&reactor->lock);
    return watch ? 0 : -ENOENT;
}

static int listen_for_bell(struct pf_reactor *reactor, const struct pf_watch *watch)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = watch->token};
    return epoll_ctl(reactor->epoll, EPOLL_CTL_MOD, watch->fd, &event) < 0 ? -errno : 0;
}

int pf_reactor_arm(struct pf_reactor *reactor, uint64_t token)
{
    pthread_mutex_lock(&reactor->lock);
    struct pf_watch *watch = find(reactor, token);
    int rc = watch && watch->channel ? listen_for_bell(reactor, watch) : -ENOENT;
    bool sooner = false;
    if (rc == 0) {
        watch->armed = true;
        watch->deadline_ns = watch->channel->deadline_ns;
        sooner = watch->deadline_ns < reactor->until;
        if (sooner)
            reactor->until = watch->deadline_ns;
    }
    pthread_mutex_unlock(&reactor->lock);
    return sooner ? pf_reactor_wake(reactor) : rc;
}

bool pf_reactor_disarm(struct pf_reactor *reactor, uint64_t token)
{
    pthread_mutex_lock(&reactor->lock);
    struct pf_watch *watch = find(reactor, token);
    bool armed = watch && watch->armed;
    if (armed)
        watch->armed = false;
    pthread_mutex_unlock(&reactor->lock);
    return armed;
}

int pf_reactor_wake(struct pf_reactor *reactor)
{
    uint64_t one = 1;
    return write(reactor->wake, &one, sizeof one) < 0 && errno != EAGAIN ? -errno : 0;
}

/* When to look again: at the earliest deadline. A time that was agreed on before and is still to come is kept
 * although its call is over: one needless look then is cheaper than a wake-up for each call that is armed
 * meanwhile. */
static uint64_t next_look(struct pf_reactor *reactor, uint64_t now, uint64_t until)
{
    pthread_mutex_lock(&reactor->lock);
    if (reactor->until > now && reactor->until < until)
        until = reactor->until;
    for (size_t i = 0; i < reactor->count; i++)
        if (reactor->watches[i].armed && reactor->watches[i].deadline_ns < until)
            until = reactor->watches[i].deadline_ns;
    reactor->until = until;
    pthread_mutex_unlock(&reactor->lock);
    return until;
}

static int decide(struct pf_watch *watch, enum pf_wait wait, struct pf_event *event)
{
    watch->armed = false;
    struct pf_channel *channel = watch->channel;
    atomic_store_explicit(&channel->region->host_asleep, 0, memory_order_relaxed);
    if (wait == PF_WAIT_REPLY && channel->attempt_ns)
        pf_spin_learn(&channel->spin, channel->finished_ns - channel->posted_ns, channel->attempt_ns);
    *event = (struct pf_event){.token = watch->token, .kind = PF_EVENT_CALL, .wait = wait};
    return 1;
}

static int on_ready(struct pf_reactor *reactor, uint64_t token, struct pf_event *event)
{
    struct pf_watch *watch = find(reactor, token);
    if (!watch)
        return 0;
    if (!watch->channel) {
        *event = (struct pf_event){.token = token, .kind = PF_EVENT_READABLE};
        return 1;
    }
    if (!watch->armed)
        return 0;
    enum pf_wait wait = pf_channel_ring_received(watch->channel);
    watch->deadline_ns = watch->channel->deadline_ns; /* the hello of a new peer moved it */
    if (wait != PF_WAIT_PENDING)
        return decide(watch, wait, event);
    (void)listen_for_bell(reactor, watch);
    return 0;
}

static int collect_deadlines(struct pf_reactor *reactor, struct pf_event *events, int room)
{
    uint64_t now = pf_now_ns();
    int n = 0;
    for (size_t i = 0; i < reactor->count && n < room; i++) {
        struct pf_watch *watch = &reactor->watches[i];
        if (!watch->armed || watch->deadline_ns > now)
            continue;
        enum pf_wait wait = pf_channel_step(watch->channel);
        if (wait == PF_WAIT_PENDING) {
            pf_channel_kill(watch->channel);
            wait = PF_WAIT_DEADLINE;
        }
        n += decide(watch, wait, &events[n]);
    }
    return n;
}

int pf_reactor_wait(struct pf_reactor *reactor, struct pf_event *events, int room, uint64_t timeout_ns)
{
    enum { BATCH = 64 };
    struct epoll_event ready[BATCH];
    if (room < 2)
        return -EINVAL;
    uint64_t now = pf_now_ns();
    uint64_t until = next_look(reactor, now, timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns);
    struct timespec timeout = pf_timespec(until > now ? until - now : 0);
    int half = room / 2 < BATCH ? room / 2 : BATCH; /* the other half is for deadlines */
    int n = (int)syscall(SYS_epoll_pwait2, reactor->epoll, ready, half, until == UINT64_MAX ? NULL : &timeout,
                         NULL, 0);
    if (n < 0)
        return -errno;
    int count = 0;
    pthread_mutex_lock(&reactor->lock);
    for (int i = 0; i < n; i++) {
        uint64_t drained;
        if (ready[i].data.u64 == PF_WAKE_TOKEN)
            (void)!read(reactor->wake, &drained, sizeof drained);
        else
            count += on_ready(reactor, ready[i].data.u64, &events[count]);
    }
    count += collect_deadlines(reactor, events + count, room - count);
    pthread_mutex_unlock(&reactor->lock);
    return count;
}
