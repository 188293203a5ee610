/* What a hostile peer may do to its end of a channel, as small steps read from a fuzzer's input, and what has
 * to hold at the host's end whatever these were.
 *
 * The peer is this process itself: link with -Wl,--wrap=pf_pidfd_kill, so that the host's kills are counted
 * here instead. */
#ifndef HOSTILE_STEPS_H
#define HOSTILE_STEPS_H

#include "rig.h" /* first: it asks for GNU's extensions */

#include "fuzz_input.h"

#include <sys/eventfd.h>

#define FUZZ_MAX_PAYLOAD 300000u

struct hostile {
    struct pf_channel channel; /* the host's end */
    struct pf_arena arenas[2]; /* the peer's mappings */
    int doorbell;
    bool shut;
    enum pf_wait verdict;
};

int __wrap_pf_pidfd_kill(int pidfd, int signal);

static unsigned kills;

int __wrap_pf_pidfd_kill(int pidfd, int signal)
{
    CHECK(pidfd >= 0 && signal == SIGKILL);
    kills++;
    return 0;
}

/* Either the peer is known already (its pidfd stands for a process that never ends), or it has yet to say
 * hello as a child of the host or of somebody else. */
static inline void hostile_open(struct hostile *peer, uint64_t beginning)
{
    int memfd;
    *peer = (struct hostile){.doorbell = -1};
    CHECK_EQ(pf_channel_open(&peer->channel, FUZZ_MAX_PAYLOAD, &memfd, &peer->doorbell), 0);
    close(memfd);
    if (beginning % 8 > 1)
        peer->channel.pidfd = eventfd(0, EFD_CLOEXEC);
    else if (beginning % 8 == 1)
        peer->channel.parent = getppid();
}

static inline void hostile_close(struct hostile *peer)
{
    pf_channel_close(&peer->channel);
    pf_arena_close(&peer->arenas[0]);
    pf_arena_close(&peer->arenas[1]);
    close(peer->doorbell);
}

/* ---- what the peer does ---- */

/* Numbers near the limits that the code compares with, or any. */
static inline uint64_t length_hint(struct input *input)
{
    static const uint64_t edges[] = {
        0,         PF_INLINE_CAP, PF_ARENA_MIN,     2 * PF_ARENA_MIN, FUZZ_MAX_PAYLOAD,
        INT64_MAX, UINT64_MAX,    UINT64_C(1) << 32};
    uint64_t choice = number(input, 1);
    return choice & 0x80 ? number(input, 8) : edges[choice % 8] + (choice >> 3) % 3 - 1;
}

static inline void write_anywhere(struct hostile *peer, struct input *input)
{
    uint64_t place = number(input, 2), length = number(input, 1) % 64;
    place = place & 0x8000 ? place * 4 % (sizeof *peer->channel.region - 64) : place % 512;
    for (uint64_t i = 0; i < length; i++)
        ((uint8_t *)peer->channel.region)[place + i] = (uint8_t)number(input, 1);
}

/* A response line that is right but for what the input changes. */
static inline void forge_line(struct hostile *peer, struct input *input)
{
    struct pf_response_line *line = &peer->channel.region->response;
    uint64_t changes = number(input, 1);
    line->length = changes & 1 ? length_hint(input) : 4;
    line->kind = changes & 2 ? (uint32_t)number(input, 4) : 0;
    line->flags = changes & 4 ? (uint32_t)number(input, 1) : 0;
    memcpy(line->id, peer->channel.id, PF_ID_SIZE);
    if (changes & 8)
        line->id[number(input, 1) % PF_ID_SIZE] ^= (uint8_t)number(input, 1);
    uint64_t seq = 2 * peer->channel.seq + !(changes & 16);
    atomic_store(&line->seq, changes & 32 ? seq + (uint64_t)(int64_t)(int8_t)number(input, 1) : seq);
}

static inline void send_message(struct hostile *peer, struct input *input)
{
    static const uint32_t types[] = {PF_BELL,           PF_HELLO, PF_FAILED, PF_REQUEST_ARENA,
                                     PF_RESPONSE_ARENA, 0,        UINT32_MAX};
    uint8_t message[400] = {0};
    uint32_t type = types[number(input, 1) % 7];
    uint64_t shape = number(input, 1),
             length = shape & 1 ? number(input, 2) % sizeof message : sizeof(struct pf_msg);
    memcpy(message, &type, sizeof type);
    for (size_t i = sizeof type; (shape & 2) && i < 64; i++)
        message[i] = (uint8_t)number(input, 1);
    int fds[PF_FDS_MAX] = {0, 1, 2, 0, 1, 2};
    if (shape & 4)
        (void)pf_send(peer->doorbell, (struct pf_msg *)message, NULL, 0, fds, (int)(shape >> 3) % 7,
                      MSG_DONTWAIT);
    else
        (void)send(peer->doorbell, message, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline void fetch_arena(struct hostile *peer, struct input *input)
{
    struct pf_packet packet;
    if (pf_recv(peer->doorbell, &packet, NULL, 0, 1, false, MSG_DONTWAIT) != 1)
        return;
    struct pf_arena *arena = &peer->arenas[packet.msg.type == PF_RESPONSE_ARENA];
    if (packet.nfds == 1 && pf_arena_map(arena, packet.fds[0], (uint64_t)packet.msg.b) == 0)
        memset(arena->bytes, (int)number(input, 1), 300);
    pf_packet_close(&packet);
}

/* A process chooses its own name, which /proc shows among the fields that the host reads. */
static inline void take_name(struct input *input)
{
    char name[16] = {0};
    for (uint64_t i = 0, length = number(input, 1) % sizeof name; i < length; i++)
        name[i] = (char)number(input, 1);
    CHECK_EQ(prctl(PR_SET_NAME, name, 0, 0, 0), 0);
}

static inline void end_connection(struct hostile *peer)
{
    peer->shut = true;
    (void)shutdown(peer->doorbell, SHUT_RDWR);
}

/* One of `choice` 0 to 9. */
static inline void hostile_step(struct hostile *peer, struct input *input, uint64_t choice)
{
    if (choice <= 1)
        write_anywhere(peer, input);
    else if (choice <= 4)
        forge_line(peer, input);
    else if (choice <= 6)
        send_message(peer, input);
    else if (choice == 7)
        fetch_arena(peer, input);
    else if (choice == 8)
        take_name(input);
    else if (number(input, 1) % 64 == 0)
        end_connection(peer);
}

/* ---- the host's end ---- */

static inline int hostile_post(struct hostile *peer, struct input *input)
{
    static const uint8_t payload[FUZZ_MAX_PAYLOAD + 1];
    uint64_t length = number(input, 3) % (FUZZ_MAX_PAYLOAD + 2), timeout = number(input, 1);
    bool busy = peer->channel.busy;
    if (!busy) {
        peer->channel.timeout_ns = timeout & 1 ? UINT64_MAX : 0;
        peer->channel.start_ns = UINT64_MAX;
        peer->channel.first_spin_ns = timeout & 2 ? 1000 : 0;
        if (pf_channel_log_left(&peer->channel) && timeout & 4)
            pf_channel_log_was_read(&peer->channel);
    }
    int rc = pf_channel_post(&peer->channel, 0, payload, length, 0);
    CHECK(rc != 0 || !busy);
    CHECK(rc == 0 || rc == -EBUSY || rc == -EMSGSIZE || rc == -EPROTO);
    peer->verdict = rc == 0 ? PF_WAIT_PENDING : rc == -EPROTO ? PF_WAIT_PROTOCOL : peer->verdict;
    return rc;
}

/* Nothing is believed but a line that says what it has to. The peer stands still, so it can be looked at
 * again. */
static inline void check_reply(const struct pf_channel *channel)
{
    const struct pf_response_line *line = &channel->region->response;
    CHECK(channel->busy && channel->pidfd >= 0);
    CHECK(line->seq == 2 * channel->seq + 1 && memcmp(line->id, channel->id, PF_ID_SIZE) == 0);
    CHECK(channel->reply.kind < PF_REPLY_KINDS && channel->reply.length <= FUZZ_MAX_PAYLOAD);
    CHECK(channel->reply.flags <= PF_RESPONSE_IN_ARENA);
    bool in_arena = channel->reply.flags & PF_RESPONSE_IN_ARENA;
    CHECK(channel->reply.length <= (in_arena ? channel->response_arena.capacity : PF_INLINE_CAP));
}

/* Who broke a rule is killed, as is who closed its doorbell and lives, whatever it calls itself. */
static inline void hostile_decided(struct hostile *peer, enum pf_wait wait)
{
    const struct pf_channel *channel = &peer->channel;
    peer->verdict = wait;
    if (wait == PF_WAIT_REPLY)
        check_reply(channel);
    if (wait == PF_WAIT_PROTOCOL)
        CHECK(channel->error.code > 0 && channel->doomed && (channel->pidfd < 0 || kills > 0));
    if (wait == PF_WAIT_DEAD && channel->pid)
        CHECK(channel->error.code > 0);
    CHECK(memchr(channel->error.detail, 0, sizeof channel->error.detail) != NULL);
    CHECK(channel->response_arena.capacity <= 2 * FUZZ_MAX_PAYLOAD);
    if (channel->pid)
        CHECK(channel->pid == getpid() && (channel->parent == getppid()));
}

static inline void hostile_take(struct hostile *peer)
{
    if (peer->verdict != PF_WAIT_REPLY || !peer->channel.busy)
        return;
    uint8_t *bytes = malloc(peer->channel.reply.length);
    pf_channel_take(&peer->channel, bytes);
    free(bytes);
}

#endif
