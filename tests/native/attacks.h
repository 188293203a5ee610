/* What a hostile peer does with its end of the channel, one function for each way. The table of what the host
 * has to make of them is in test_hostile_peer.c. */
#ifndef ATTACKS_H
#define ATTACKS_H

#include "rig.h"

#include <sched.h>
#include <stdatomic.h>

/* What an attack works with: the peer's own ends, and whether the hello is out. */
struct attacker {
    struct pf_peer peer;
    struct pf_request request;
    int memfd;
};

typedef void attack_fn(struct attacker *);

struct attack {
    const char *name;
    attack_fn *run;
    enum pf_wait verdict;
    const char *detail;  /* part of the host's error text; NULL: any */
    int replies;         /* calls that are answered before that */
    uint64_t timeout_ns; /* 0: ten seconds */
};

/* ---- what the attacks are made of ---- */

static struct pf_response_line *line_of(struct attacker *a)
{
    return &a->peer.region->response;
}

static void next_request(struct attacker *a)
{
    int rc;
    while ((rc = pf_peer_receive(&a->peer, &a->request)) == -EINTR)
        continue;
    if (rc <= 0)
        _exit(0);
}

static void send_bell(struct attacker *a)
{
    const struct pf_msg bell = {.type = PF_BELL};
    (void)pf_send(a->peer.doorbell, &bell, NULL, 0, NULL, 0, 0);
}

/* Writes a response line as it likes. Offset is added to the sequence number of an honest reply. */
static void forge(struct attacker *a, int64_t offset, uint64_t length, uint32_t kind, uint32_t flags)
{
    struct pf_response_line *line = line_of(a);
    line->length = length;
    line->kind = kind;
    line->flags = flags;
    memcpy(line->id, a->request.id, PF_ID_SIZE);
    atomic_store(&line->seq, 2 * a->peer.seq + 1 + (uint64_t)offset);
    send_bell(a);
}

static void reply(struct attacker *a)
{
    if (pf_peer_reply(&a->peer, PF_REPLY_RESULT, a->request.payload, a->request.length, -1) < 0)
        _exit(0);
}

static void serve(struct attacker *a)
{
    for (;;) {
        next_request(a);
        reply(a);
    }
}

static void hang(struct attacker *a)
{
    (void)a;
    for (;;)
        pause();
}

/* ---- the attacks ---- */

static void replies_early(struct attacker *a)
{
    a->peer.seq = 1;
    atomic_store(&line_of(a)->seq, 3);
    hang(a);
}

static void replies_early_to_the_next(struct attacker *a)
{
    next_request(a);
    reply(a);
    atomic_store(&line_of(a)->seq, 5);
    hang(a);
}

static void replies_twice(struct attacker *a)
{
    next_request(a);
    reply(a);
    a->peer.seq++;
    forge(a, 0, 4, PF_REPLY_RESULT, 0);
    hang(a);
}

static void forges_the_id(struct attacker *a)
{
    next_request(a);
    a->request.id[7] ^= 1;
    forge(a, 0, 4, PF_REPLY_RESULT, 0);
    hang(a);
}

static void replays_the_last_id(struct attacker *a)
{
    next_request(a);
    uint8_t old[PF_ID_SIZE];
    memcpy(old, a->request.id, PF_ID_SIZE);
    reply(a);
    next_request(a);
    memcpy(a->request.id, old, PF_ID_SIZE);
    forge(a, 0, 4, PF_REPLY_RESULT, 0);
    hang(a);
}

#define FORGERY(name, ...)                                                                                   \
    static void name(struct attacker *a)                                                                     \
    {                                                                                                        \
        next_request(a);                                                                                     \
        forge(a, __VA_ARGS__);                                                                               \
        hang(a);                                                                                             \
    }
FORGERY(answers_the_past, -2, 4, 0, 0)
FORGERY(answers_the_future, 2, 4, 0, 0)
FORGERY(answers_with_the_last_number, INT64_MAX, 4, 0, 0)
FORGERY(invents_a_kind, 0, 4, PF_REPLY_KINDS, 0)
FORGERY(invents_a_large_kind, 0, 4, UINT32_MAX, 0)
FORGERY(invents_a_flag, 0, 4, 0, 4)
FORGERY(exceeds_the_inline_area, 0, PF_INLINE_CAP + 1, 0, 0)
FORGERY(claims_a_gigantic_reply, 0, UINT64_MAX, 0, 0)
FORGERY(claims_a_reply_near_the_wrap, 0, UINT64_MAX - 4095, 0, PF_RESPONSE_IN_ARENA)
FORGERY(claims_an_arena_it_has_not, 0, 1, 0, PF_RESPONSE_IN_ARENA)
FORGERY(needs_what_fits_inline, -1, PF_INLINE_CAP, 0, 0)
FORGERY(needs_nothing, -1, 0, 0, 0)
FORGERY(needs_more_than_allowed, -1, MAX_PAYLOAD + 1, 0, 0)
FORGERY(needs_everything, -1, UINT64_MAX, 0, 0)
FORGERY(needs_and_says_nothing_more, -1, 100000, 0, 0)

static void needs_what_it_has(struct attacker *a)
{
    uint8_t *bytes = calloc(1, 100000);
    next_request(a);
    if (pf_peer_reply(&a->peer, 0, bytes, 100000, -1) < 0)
        _exit(0);
    next_request(a);
    forge(a, -1, 80000, 0, 0);
    hang(a);
}

static void exceeds_its_arena(struct attacker *a)
{
    next_request(a);
    forge(a, -1, 100000, 0, 0);
    forge(a, 0, 300000, 0, PF_RESPONSE_IN_ARENA);
    hang(a);
}

static void needs_and_dies(struct attacker *a)
{
    next_request(a);
    forge(a, -1, 100000, 0, 0);
    _exit(0);
}

static void needs_and_goes_back(struct attacker *a)
{
    next_request(a);
    forge(a, -1, 100000, 0, 0);
    poll(NULL, 0, 5);
    forge(a, -3, 100000, 0, 0);
    hang(a);
}

/* Larger and larger, and the arenas that come are never fetched: their descriptors would pile up on the way.
 */
static void never_reads_its_doorbell(struct attacker *a)
{
    for (uint64_t seq = 1;; seq++) {
        while (atomic_load(&a->peer.region->request.seq) != seq)
            sched_yield();
        a->peer.seq = seq;
        memcpy(a->request.id, a->peer.region->request.id, PF_ID_SIZE);
        uint64_t round = seq % 14;
        if (round < 5)
            forge(a, -1, UINT64_C(200000) << round, 0, 0);
        poll(NULL, 0, 1);
        forge(a, 0, 4, 0, 0);
    }
}

static void closes_its_doorbell(struct attacker *a)
{
    next_request(a);
    close(a->peer.doorbell);
    hang(a);
}

static void shuts_its_doorbell_down(struct attacker *a)
{
    next_request(a);
    shutdown(a->peer.doorbell, SHUT_RDWR);
    hang(a);
}

static void sends_an_empty_message(struct attacker *a)
{
    next_request(a);
    (void)send(a->peer.doorbell, "", 0, MSG_NOSIGNAL);
    hang(a);
}

static void sends_bytes(struct attacker *a, size_t length)
{
    static uint8_t bytes[4096];
    next_request(a);
    (void)send(a->peer.doorbell, bytes, length, MSG_NOSIGNAL);
    hang(a);
}

static void sends_a_short_message(struct attacker *a)
{
    sends_bytes(a, 31);
}
static void sends_a_long_message(struct attacker *a)
{
    sends_bytes(a, 4096);
}

static void sends_type(struct attacker *a, uint32_t type)
{
    const struct pf_msg message = {.type = type, .a = PF_INSTANCE, .b = 1 << 20};
    next_request(a);
    (void)pf_send(a->peer.doorbell, &message, NULL, 0, NULL, 0, 0);
    hang(a);
}

static void says_hello_again(struct attacker *a)
{
    sends_type(a, PF_HELLO);
}
static void fails_after_its_hello(struct attacker *a)
{
    sends_type(a, PF_FAILED);
}
static void offers_an_arena(struct attacker *a)
{
    sends_type(a, PF_REQUEST_ARENA);
}
static void sends_an_unknown_type(struct attacker *a)
{
    sends_type(a, UINT32_MAX);
}

/* One descriptor, or as many as a message can carry. */
static void sends_descriptors(struct attacker *a, uint32_t type, int count)
{
    struct pf_msg message = {.type = type};
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    static _Alignas(struct cmsghdr) char room[CMSG_SPACE(253 * sizeof(int))];
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room};
    header.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &a->peer.doorbell, sizeof(int));
    if (sendmsg(a->peer.doorbell, &header, MSG_NOSIGNAL) < 0)
        _exit(3);
}

static void sends_a_descriptor(struct attacker *a)
{
    next_request(a);
    sends_descriptors(a, PF_BELL, 1);
    hang(a);
}

static void sends_many_descriptors(struct attacker *a)
{
    next_request(a);
    for (;;)
        sends_descriptors(a, PF_BELL, 253);
}

static void storms(struct attacker *a)
{
    next_request(a);
    for (;;)
        send_bell(a);
}

static void rings_slowly(struct attacker *a)
{
    next_request(a);
    for (;;) {
        send_bell(a);
        poll(NULL, 0, 1);
    }
}

static void stops_itself(struct attacker *a)
{
    next_request(a);
    raise(SIGSTOP);
}

static void exits(struct attacker *a)
{
    next_request(a);
    _exit(0);
}

static void *idle(void *argument)
{
    (void)argument;
    for (;;)
        pause();
    return NULL;
}

static void exits_with_threads(struct attacker *a)
{
    pthread_t thread;
    for (int i = 0; i < 20; i++)
        if (pthread_create(&thread, NULL, idle, NULL) != 0)
            _exit(1);
    next_request(a);
    _exit(0);
}

static void is_killed(struct attacker *a)
{
    next_request(a);
    kill(getpid(), SIGKILL);
}

static void leaves_only_a_child(struct attacker *a)
{
    next_request(a);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        poll(NULL, 0, 300); /* holds the doorbell and the mapping, and is not what the host waits for */
        _exit(0);
    }
    _exit(0);
}

static void replies_and_closes(struct attacker *a)
{
    next_request(a);
    reply(a);
    close(a->peer.doorbell);
    hang(a);
}

/* The host believes to be awake and is not: it costs the peer its own deadline. */
static void hides_the_sleeper(struct attacker *a)
{
    next_request(a);
    poll(NULL, 0, 10);
    atomic_store(&a->peer.region->host_asleep, 0);
    reply(a);
    hang(a);
}

static void punches_holes(struct attacker *a)
{
    for (int i = 0; i < 3; i++) {
        next_request(a);
        forge(a, -1, 100000, 0, 0);
        while (a->peer.response_arena.capacity < 100000 && i == 0) {
            struct pf_packet packet;
            if (pf_recv(a->peer.doorbell, &packet, NULL, 0, 1, false, 0) == 1 && packet.nfds == 1)
                (void)pf_arena_map(&a->peer.response_arena, packet.fds[0], (uint64_t)packet.msg.b);
        }
        forge(a, 0, 200000, 0, PF_RESPONSE_IN_ARENA);
        for (int n = 0; n < 200; n++)
            madvise(a->peer.response_arena.bytes, a->peer.response_arena.capacity, MADV_REMOVE);
    }
}

static void punches_the_whole_region(struct attacker *a)
{
    next_request(a);
    for (int i = 0; i < 300; i++)
        (void)fallocate(a->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, sizeof(struct pf_region));
    hang(a);
}

static void resizes(struct attacker *a)
{
    next_request(a);
    if (ftruncate(a->memfd, 0) == 0 || ftruncate(a->memfd, 1 << 24) == 0 ||
        fallocate(a->memfd, 0, 1 << 20, 4096) == 0 || fcntl(a->memfd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
        _exit(4);
    reply(a);
    exits(a);
}

static void *toggle(void *argument)
{
    struct attacker *a = argument;
    struct pf_response_line *line = line_of(a);
    for (uint64_t i = 0;; i++) {
        *(volatile uint64_t *)&line->length = i & 1 ? 4 : UINT64_MAX - i;
        *(volatile uint32_t *)&line->flags = i & 2 ? 0 : PF_RESPONSE_IN_ARENA;
        *(volatile uint32_t *)&line->kind = i & 4 ? 0 : 77;
    }
    return NULL;
}

/* The fields change between any two looks of the host. */
static void changes_its_mind(struct attacker *a)
{
    pthread_t thread;
    next_request(a);
    if (pthread_create(&thread, NULL, toggle, a) != 0)
        _exit(1);
    for (;;) {
        forge(a, 0, 4, 0, 0);
        next_request(a);
    }
}

#endif
