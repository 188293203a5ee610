#define _GNU_SOURCE
#include "pf_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pf_clock.h"
#include "pf_control.h"
#include "pf_fd.h"

/* Looks at a word that a peer is about to write, a few microseconds in all. */
#define PF_LOG_PATIENCE 200

int pf_channel_open(struct pf_channel *channel, uint64_t max_payload, int *memfd, int *peer_doorbell)
{
    *channel = (struct pf_channel){.doorbell = -1, .pidfd = -1, .max_payload = max_payload};
    int rc = pf_ids_open(&channel->ids);
    if (rc < 0)
        return rc;
    pf_ids_next(&channel->ids, channel->next_id);
    cleanup_fd int region_fd = pf_memfd_sealed("pyfaas-channel", sizeof(struct pf_region));
    if (region_fd < 0)
        return region_fd;
    int ends[2] = {-1, -1};
    rc = pf_socketpair(ends);
    if (rc < 0)
        return rc;
    cleanup_fd int ours = ends[0];
    cleanup_fd int theirs = ends[1];
    rc = pf_pass_creds(ours);
    if (rc < 0)
        return rc;
    /* Room for some ten messages: descriptors on the way to a peer that never reads count against the host's
     * user. */
    const int room = 4096;
    if (setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0)
        return -errno;
    void *region = mmap(NULL, sizeof(struct pf_region), PROT_READ | PROT_WRITE, MAP_SHARED, region_fd, 0);
    if (region == MAP_FAILED)
        return -errno;
    if (madvise(region, sizeof(struct pf_region), MADV_DONTFORK) < 0) {
        rc = -errno;
        munmap(region, sizeof(struct pf_region));
        return rc;
    }
    channel->region = region;
    *(volatile uint8_t *)channel->region->request_bytes = 0; /* small calls find their pages mapped */
    *(volatile uint8_t *)channel->region->response_bytes = 0;
    channel->doorbell = pf_fd_take(&ours);
    *memfd = pf_fd_take(&region_fd);
    *peer_doorbell = pf_fd_take(&theirs);
    return 0;
}

void pf_channel_close(struct pf_channel *channel)
{
    if (channel->region) {
        /* Whoever keeps the descriptor keeps no memory at the host's cost. The first page stays: a peer that
         * is not dead yet must not take zeros for a request. */
        (void)madvise(channel->region->request_bytes, 2 * PF_INLINE_CAP, MADV_REMOVE);
        munmap(channel->region, sizeof(struct pf_region));
    }
    pf_arena_discard(&channel->request_arena);
    pf_arena_discard(&channel->response_arena);
    pf_channel_forget(channel);
}

void pf_channel_forget(struct pf_channel *channel)
{
    if (channel->doorbell >= 0)
        close(channel->doorbell);
    int pidfd = atomic_exchange(&channel->pidfd, -1);
    if (pidfd >= 0)
        close(pidfd);
    channel->region = NULL;
    channel->request_arena = channel->response_arena = (struct pf_arena){0};
    channel->doorbell = -1;
    channel->busy = false;
}

static enum pf_wait broken(struct pf_channel *channel, const char *rule)
{
    channel->error.code = EPROTO;
    channel->error.step = "channel";
    snprintf(channel->error.detail, sizeof channel->error.detail, "%s", rule);
    pf_channel_kill(channel);
    return PF_WAIT_PROTOCOL;
}

static void ring(struct pf_channel *channel)
{
    const struct pf_msg bell = {.type = PF_BELL};
    /* A full buffer means that the peer has bells enough; a closed one shows as a death in the wait. */
    (void)pf_send(channel->doorbell, &bell, NULL, 0, NULL, 0, MSG_DONTWAIT);
}

/* Gives the peer a new arena of at least `size` bytes, sent over the doorbell before it is used. Failing
 * leaves the old one in place at both ends: they must never differ. */
static int provide(struct pf_channel *channel, struct pf_arena *arena, uint32_t type, uint64_t size)
{
    struct pf_arena fresh = {0};
    cleanup_fd int fd = -1;
    int rc = pf_arena_create(&fresh, size, &fd);
    if (rc < 0)
        return rc;
    struct pf_msg message = {.type = type, .b = (int64_t)fresh.capacity};
    rc = pf_send(channel->doorbell, &message, NULL, 0, &fd, 1, MSG_DONTWAIT);
    if (rc == -EPIPE || rc == -ECONNRESET)
        rc = 0; /* the wait will see the death */
    if (rc < 0) {
        pf_arena_close(&fresh);
        return rc;
    }
    pf_arena_discard(arena);
    *arena = fresh;
    return 0;
}

/* An arena that no call used for a while goes back to the system; both ends drop both. */
static bool drop_unused_arenas(struct pf_channel *channel, bool used_request)
{
    struct pf_arena *request = &channel->request_arena, *response = &channel->response_arena;
    if (!request->bytes && !response->bytes)
        return false;
    request->unused = used_request ? 0 : request->unused + 1;
    response->unused++; /* reset when a reply comes through it */
    bool idle = request->unused > PF_ARENA_KEEP_UNUSED || !request->bytes;
    idle = idle && (response->unused > PF_ARENA_KEEP_UNUSED || !response->bytes);
    if (!idle || used_request)
        return false;
    pf_arena_discard(request);
    pf_arena_discard(response);
    return true;
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static void begin(struct pf_channel *channel)
{
    channel->seq++;
    memcpy(channel->id, channel->next_id, PF_ID_SIZE);
    channel->wakes = 0;
    channel->attempt_ns = 0;
    if (!channel->prompt && channel->seq % PF_PROMPT_TRY == 0)
        channel->prompt = 2; /* the first wakes it, the second finds it awake */
    channel->busy = true;
    channel->error = (struct pf_error){0};
    channel->reply = (struct pf_reply){0};
    channel->posted_ns = pf_now_ns();
    channel->finished_ns = 0;
    channel->timeout_ns = at_most(channel->timeout_ns, PF_MAX_NS);
    channel->start_ns = at_most(channel->start_ns, PF_MAX_NS);
    channel->deadline_ns =
        channel->posted_ns + (channel->pidfd >= 0 ? channel->timeout_ns : channel->start_ns);
}

static void publish(struct pf_channel *channel, uint32_t kind, uint64_t length, uint32_t flags,
                    uint32_t spin_ns)
{
    struct pf_region *region = channel->region;
    struct pf_request_line *line = &region->request;
    line->length = length;
    line->timeout_ns = channel->timeout_ns;
    line->kind = kind;
    line->flags = flags;
    line->spin_ns = channel->prompt && spin_ns < PF_PROMPT_SPIN_NS ? PF_PROMPT_SPIN_NS : spin_ns;
    line->cpu = (uint32_t)sched_getcpu();
    memcpy(line->id, channel->id, PF_ID_SIZE);
    atomic_store_explicit(&line->seq, channel->seq, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&region->peer_asleep, memory_order_relaxed))
        ring(channel);
    pf_ids_next(&channel->ids, channel->next_id); /* while the peer works */
}

int pf_channel_reserve(struct pf_channel *channel, uint64_t length, uint8_t **room)
{
    struct pf_region *region = channel->region;
    if (!region)
        return -EBADF;
    if (channel->busy)
        return -EBUSY;
    if (length > channel->max_payload)
        return -EMSGSIZE;
    if (atomic_load_explicit(&region->response.seq, memory_order_acquire) != channel->last_response) {
        broken(channel, "the instance replied when nothing was asked");
        return -EPROTO;
    }
    bool in_arena = length > PF_INLINE_CAP;
    channel->flags = in_arena ? PF_REQUEST_IN_ARENA : 0;
    if (drop_unused_arenas(channel, in_arena))
        channel->flags |= PF_REQUEST_DROP_ARENAS;
    if (in_arena && channel->request_arena.capacity < length) {
        int rc = provide(channel, &channel->request_arena, PF_REQUEST_ARENA, length);
        if (rc == -EAGAIN)
            broken(channel, "the instance does not read its doorbell");
        if (rc < 0)
            return rc == -EAGAIN ? -EPROTO : rc;
    }
    *room = in_arena ? channel->request_arena.bytes : region->request_bytes;
    return 0;
}

void pf_channel_send(struct pf_channel *channel, uint32_t kind, uint64_t length, uint32_t spin_ns)
{
    begin(channel);
    publish(channel, kind, length, channel->flags, spin_ns);
}

int pf_channel_post(struct pf_channel *channel, uint32_t kind, const void *payload, uint64_t length,
                    uint32_t spin_ns)
{
    uint8_t *room;
    int rc = pf_channel_reserve(channel, length, &room);
    if (rc < 0)
        return rc;
    if (length)
        memcpy(room, payload, length);
    pf_channel_send(channel, kind, length, spin_ns);
    return 0;
}

/* "I need a larger area": one size hint a call, believed within the function's limit. */
static enum pf_wait answer_need(struct pf_channel *channel, uint64_t need)
{
    channel->last_response = 2 * channel->seq;
    if (need <= PF_INLINE_CAP || need > channel->max_payload)
        return broken(channel, "impossible size hint");
    if (need <= channel->response_arena.capacity)
        return broken(channel, "size hint although there is room");
    int rc = provide(channel, &channel->response_arena, PF_RESPONSE_ARENA, need);
    if (rc == 0)
        return PF_WAIT_PENDING;
    if (rc == -EAGAIN)
        return broken(channel, "the instance does not read its doorbell");
    enum pf_wait result = broken(channel, "no room for the result");
    channel->error.code = -rc; /* the host's own shortage, not the peer's doing */
    return result;
}

enum pf_wait pf_channel_step(struct pf_channel *channel)
{
    struct pf_response_line *line = &channel->region->response;
    uint64_t seq = atomic_load_explicit(&line->seq, memory_order_acquire);
    /* Nobody is believed before its hello: a call must not be answered by a process that cannot be killed. */
    if (seq == channel->last_response || channel->pidfd < 0)
        return PF_WAIT_PENDING;
    uint64_t length = *(volatile uint64_t *)&line->length;
    uint32_t kind = *(volatile uint32_t *)&line->kind;
    uint32_t flags = *(volatile uint32_t *)&line->flags;
    uint8_t id[PF_ID_SIZE];
    memcpy(id, line->id, PF_ID_SIZE);
    if (!channel->busy)
        return broken(channel, "the instance replied when nothing was asked");
    if (seq != 2 * channel->seq && seq != 2 * channel->seq + 1)
        return broken(channel, "wrong generation");
    if (memcmp(id, channel->id, PF_ID_SIZE) != 0)
        return broken(channel, "wrong request id");
    if (seq == 2 * channel->seq)
        return answer_need(channel, length);
    channel->last_response = seq;
    uint64_t capacity = flags & PF_RESPONSE_IN_ARENA ? channel->response_arena.capacity : PF_INLINE_CAP;
    if (kind >= PF_REPLY_KINDS)
        return broken(channel, "unknown kind of reply");
    if (flags & ~(uint32_t)PF_RESPONSE_IN_ARENA)
        return broken(channel, "unknown flag in a reply");
    if (length > capacity || length > channel->max_payload)
        return broken(channel, "a reply larger than its area");
    channel->reply = (struct pf_reply){.length = length, .kind = kind, .flags = flags};
    channel->finished_ns = pf_now_ns();
    if (channel->finished_ns - channel->posted_ns < PF_GLANCE_NS)
        channel->prompt = PF_PROMPT;
    return PF_WAIT_REPLY;
}

/* The first message: the kernel says which process wrote it. One with CAP_SYS_ADMIN may name another, so the
 * parent counts. */
static enum pf_wait adopt(struct pf_channel *channel, pid_t pid)
{
    if (pid <= 0)
        return broken(channel, "hello without credentials");
    cleanup_fd int pidfd = pf_pidfd_open(pid);
    if (pidfd == -ESRCH)
        channel->pid = pid; /* gone already: its parent knows how it ended */
    if (pidfd < 0 && pidfd != -ESRCH)
        pf_fail(&channel->error, pidfd, "pidfd", NULL);
    if (pidfd < 0)
        return PF_WAIT_DEAD;
    pid_t parent = pf_parent_of(pid);
    if (parent == -ESRCH) {
        channel->pid = pid;
        return PF_WAIT_DEAD;
    }
    if (parent != (channel->parent ? channel->parent : getpid()))
        return broken(channel, "hello from a process of another parent");
    channel->pid = pid;
    channel->pidfd = pf_fd_take(&pidfd);
    if (channel->doomed)
        pf_channel_kill(channel);
    channel->deadline_ns = pf_now_ns() + channel->timeout_ns;
    return PF_WAIT_PENDING;
}

/* Confinement failed in the peer, which is about to exit; if it does not, it is known well enough to be
 * killed. */
static enum pf_wait accept_failure(struct pf_channel *channel, const struct pf_packet *packet,
                                   const char *body)
{
    struct pf_error *error = &channel->error;
    enum pf_wait result = adopt(channel, packet->pid);
    if (result == PF_WAIT_PROTOCOL)
        return result;
    *error = (struct pf_error){.code = packet->msg.a > 0 ? packet->msg.a : EPROTO, .step = "confinement"};
    size_t size = packet->body_len < sizeof error->detail ? packet->body_len : sizeof error->detail - 1;
    memcpy(error->detail, body, size); /* "step\0detail" */
    return PF_WAIT_DEAD;
}

static enum pf_wait read_message(struct pf_channel *channel, bool *empty)
{
    char body[256]; /* what pf_send_failed writes at most */
    struct pf_packet packet;
    int rc = pf_recv(channel->doorbell, &packet, body, sizeof body, 0, true, MSG_DONTWAIT);
    *empty = rc == -EAGAIN;
    if (rc == -EAGAIN)
        return PF_WAIT_PENDING;
    if (rc == -EPROTO)
        return broken(channel, "unknown message on the doorbell");
    if (rc <= 0)
        return PF_WAIT_DEAD;
    bool known = channel->pidfd >= 0;
    if (known && packet.msg.type == PF_BELL)
        return PF_WAIT_PENDING;
    if (!known && packet.msg.type == PF_HELLO)
        return adopt(channel, packet.pid);
    if (!known && packet.msg.type == PF_FAILED)
        return accept_failure(channel, &packet, body);
    return broken(channel, "unknown message on the doorbell");
}

/* A reply that was complete before the end still counts. The process may also have closed its doorbell and
 * live. */
enum pf_wait pf_channel_ended(struct pf_channel *channel)
{
    enum pf_wait last = pf_channel_step(channel);
    if (last != PF_WAIT_PENDING)
        return last;
    if (!channel->error.code && channel->pid && pf_is_running(channel->pid))
        return broken(channel, "the instance closed its doorbell");
    pf_channel_kill(channel);
    return PF_WAIT_DEAD;
}

enum pf_wait pf_channel_ring_received(struct pf_channel *channel)
{
    if (++channel->wakes > PF_MAX_WAKES)
        return broken(channel, "a storm of wake-ups");
    enum pf_wait result = PF_WAIT_PENDING;
    bool empty = false;
    for (uint32_t n = 0; n < PF_BELL_BATCH && !empty && result == PF_WAIT_PENDING; n++) {
        result = read_message(channel, &empty);
        if (result == PF_WAIT_DEAD)
            return pf_channel_ended(channel);
        /* The first bell is mostly the only one: looking at once spares the read that would find nothing. */
        if (result == PF_WAIT_PENDING)
            result = pf_channel_step(channel);
    }
    return result;
}

const uint8_t *pf_channel_reply(struct pf_channel *channel)
{
    if (!(channel->reply.flags & PF_RESPONSE_IN_ARENA))
        return channel->region->response_bytes;
    channel->response_arena.unused = 0;
    return channel->response_arena.bytes;
}

void pf_channel_end(struct pf_channel *channel)
{
    channel->busy = false;
}

void pf_channel_take(struct pf_channel *channel, void *bytes)
{
    const uint8_t *reply = pf_channel_reply(channel);
    if (channel->reply.length)
        memcpy(bytes, reply, channel->reply.length);
    pf_channel_end(channel);
}

bool pf_channel_log_left(struct pf_channel *channel)
{
    if (channel->log_read == channel->seq)
        return false;
    _Atomic uint64_t *word = &channel->region->log_checked;
    uint64_t checked = atomic_load_explicit(word, memory_order_acquire);
    for (int i = 0; i < PF_LOG_PATIENCE && checked >> 1 < channel->seq; i++) { /* it is about to look */
        pf_pause();
        checked = atomic_load_explicit(word, memory_order_acquire);
    }
    return checked != 2 * channel->seq;
}

void pf_channel_log_was_read(struct pf_channel *channel)
{
    channel->log_read = channel->seq;
}

bool pf_channel_was_taken(const struct pf_channel *channel)
{
    return channel->busy &&
           atomic_load_explicit(&channel->region->taken, memory_order_acquire) >= channel->seq;
}

int pf_channel_kill(struct pf_channel *channel)
{
    channel->doomed = true;
    int pidfd = channel->pidfd;
    return pidfd < 0 ? -ESRCH : pf_pidfd_kill(pidfd, SIGKILL);
}
