#define _GNU_SOURCE
#include "pf_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "pf_clock.h"
#include "pf_fd.h"

/* Requests between two moves to another CPU. */
#define PF_STAY 64u

int pf_peer_open(struct pf_peer *peer, int memfd, int doorbell)
{
    cleanup_fd int region_fd = memfd;
    *peer = (struct pf_peer){.doorbell = doorbell};
    size_t size = 0;
    int rc = pf_memfd_check(region_fd, F_SEAL_SHRINK | F_SEAL_GROW, &size);
    if (rc < 0)
        return rc;
    if (size != sizeof(struct pf_region))
        return -EINVAL;
    void *region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, region_fd, 0);
    if (region == MAP_FAILED)
        return -errno;
    peer->region = region;
    return 0;
}

void pf_peer_close(struct pf_peer *peer)
{
    if (peer->region)
        munmap(peer->region, sizeof(struct pf_region));
    pf_arena_close(&peer->request_arena);
    pf_arena_close(&peer->response_arena);
    pf_fd_close(&peer->doorbell);
    peer->region = NULL;
}

static int ring(struct pf_peer *peer, uint32_t type, int32_t a)
{
    const struct pf_msg message = {.type = type, .a = a};
    int rc = pf_send(peer->doorbell, &message, NULL, 0, NULL, 0, MSG_DONTWAIT);
    return rc == -EAGAIN ? 0 : rc;
}

int pf_peer_hello(struct pf_peer *peer)
{
    return ring(peer, PF_HELLO, PF_INSTANCE);
}

/* Reads one message from the doorbell: 1 read, 0 the host is gone, -EAGAIN nothing there. */
static int read_doorbell(struct pf_peer *peer, int flags)
{
    struct pf_packet packet;
    int rc = pf_recv(peer->doorbell, &packet, NULL, 0, 1, false, flags);
    if (rc <= 0)
        return rc == -EPROTO ? 1 : rc;
    if (packet.nfds == 1 && packet.msg.type == PF_REQUEST_ARENA)
        rc = pf_arena_map(&peer->request_arena, packet.fds[0], (uint64_t)packet.msg.b);
    else if (packet.nfds == 1 && packet.msg.type == PF_RESPONSE_ARENA)
        rc = pf_arena_map(&peer->response_arena, packet.fds[0], (uint64_t)packet.msg.b);
    pf_packet_close(&packet);
    return rc < 0 ? rc : 1;
}

static int sleep_until_request(struct pf_peer *peer)
{
    struct pf_region *region = peer->region;
    bool there = false, slept = false;
    int rc = 1;
    while (rc > 0 && !there) {
        atomic_store_explicit(&region->peer_asleep, 1, memory_order_seq_cst);
        there = atomic_load_explicit(&region->request.seq, memory_order_seq_cst) != peer->seq;
        if (there && slept)
            break;
        struct pollfd fd = {.fd = peer->doorbell, .events = POLLIN};
        if (!there)
            rc = ppoll(&fd, 1, NULL, NULL) < 0 ? -errno : 1;
        /* One message for each wake-up. Also when the request was there already: its bell may come all the
         * same, and bells that nobody reads would fill the host's send buffer. */
        if (rc > 0)
            rc = read_doorbell(peer, MSG_DONTWAIT);
        if (rc == -EAGAIN)
            rc = 1;
        slept = true;
    }
    atomic_store_explicit(&region->peer_asleep, 0, memory_order_relaxed);
    return rc;
}

/* A waker of a socket promises the scheduler to sleep next, so the woken one is put on the waker's CPU; but
 * the waker spins, and the two would take turns there for milliseconds. So the peer moves over. */
static void step_aside(struct pf_peer *peer, uint32_t cpu)
{
    cpu_set_t all, others;
    if (cpu >= CPU_SETSIZE || (int)cpu != sched_getcpu() || peer->seq < peer->stay_until_seq)
        return;
    peer->stay_until_seq = peer->seq + PF_STAY;
    if (sched_getaffinity(0, sizeof all, &all) < 0)
        return; /* more CPUs than fit, or not allowed: it stays slow for a moment */
    others = all;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
        (void)sched_setaffinity(0, sizeof all, &all);
}

int pf_peer_receive(struct pf_peer *peer, struct pf_request *request)
{
    struct pf_region *region = peer->region;
    uint32_t limit = peer->spin_limit_ns;
    bool caught = pf_spin_until_changed(&peer->spin, &region->request.seq, peer->seq, limit);
    if (!caught) {
        uint64_t start = pf_now_ns();
        int rc = sleep_until_request(peer);
        if (rc <= 0)
            return rc;
        pf_spin_learn(&peer->spin, pf_now_ns() - start, limit);
    }
    peer->seq = atomic_load_explicit(&region->request.seq, memory_order_acquire);
    const struct pf_request_line *line = &region->request;
    peer->spin_limit_ns = line->spin_ns;
    if (!caught && line->spin_ns)
        step_aside(peer, line->cpu);
    if (line->flags & PF_REQUEST_DROP_ARENAS) {
        pf_arena_close(&peer->request_arena);
        pf_arena_close(&peer->response_arena);
    }
    bool in_arena = line->flags & PF_REQUEST_IN_ARENA;
    while (in_arena && peer->request_arena.capacity < line->length) { /* its descriptor is on the way */
        int rc = read_doorbell(peer, 0);
        if (rc <= 0)
            return rc;
    }
    *request = (struct pf_request){.payload = in_arena ? peer->request_arena.bytes : region->request_bytes,
                                   .length = line->length,
                                   .deadline_ns = pf_now_ns() + line->timeout_ns,
                                   .kind = line->kind};
    memcpy(request->id, line->id, PF_ID_SIZE);
    atomic_store_explicit(&region->taken, peer->seq, memory_order_release);
    return 1;
}

static int publish(struct pf_peer *peer, uint64_t seq, uint32_t kind, uint32_t flags, uint64_t length)
{
    struct pf_region *region = peer->region;
    struct pf_response_line *line = &region->response;
    line->length = length;
    line->kind = kind;
    line->flags = flags;
    memcpy(line->id, region->request.id, PF_ID_SIZE);
    atomic_store_explicit(&line->seq, seq, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&region->host_asleep, memory_order_relaxed) ? ring(peer, PF_BELL, 0) : 0;
}

static int obtain_arena(struct pf_peer *peer, uint64_t length)
{
    int rc = publish(peer, 2 * peer->seq, 0, 0, length);
    while (rc >= 0 && peer->response_arena.capacity < length) {
        rc = read_doorbell(peer, 0);
        if (rc == 0)
            return -EPIPE;
        if (rc == -EINTR)
            rc = 1;
    }
    return rc < 0 ? rc : 0;
}

int pf_peer_reserve(struct pf_peer *peer, uint64_t length, uint8_t **room)
{
    bool in_arena = length > PF_INLINE_CAP;
    if (in_arena && peer->response_arena.capacity < length) {
        int rc = obtain_arena(peer, length);
        if (rc < 0)
            return rc;
    }
    *room = in_arena ? peer->response_arena.bytes : peer->region->response_bytes;
    return 0;
}

static bool has_output(int log)
{
    int left = 0;
    return log >= 0 && ioctl(log, FIONREAD, &left) == 0 && left > 0;
}

int pf_peer_send(struct pf_peer *peer, uint32_t kind, uint64_t length, int log)
{
    uint32_t flags = length > PF_INLINE_CAP ? PF_RESPONSE_IN_ARENA : 0;
    int rc = publish(peer, 2 * peer->seq + 1, kind, flags, length);
    /* What has been written was written before. The question costs more than all else here, so the host does
     * not wait for its answer. */
    atomic_store_explicit(&peer->region->log_checked, 2 * peer->seq + has_output(log), memory_order_release);
    return rc;
}

int pf_peer_reply(struct pf_peer *peer, uint32_t kind, const void *bytes, uint64_t length, int log)
{
    uint8_t *room;
    int rc = pf_peer_reserve(peer, length, &room);
    if (rc < 0)
        return rc;
    if (length)
        memcpy(room, bytes, length);
    return pf_peer_send(peer, kind, length, log);
}
