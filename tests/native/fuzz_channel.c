/* What a hostile peer may leave in the region and on the doorbell, as a program of small steps read from the
 * input.
 *
 * Each step is one byte that chooses, and operands. The host's end runs between the peer's writes, so that
 * the state of the channel moves on: post, forge, step, take, post again. The checks state what must hold
 * whatever the bytes were. */
#include "rig.h"

#include <sys/eventfd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_MAX_PAYLOAD 300000u

struct fuzz {
    const uint8_t *data;
    size_t left;
    struct pf_channel channel;
    struct pf_arena arenas[2]; /* the peer's mappings */
    int doorbell;
    enum pf_wait verdict;
};

static uint64_t number(struct fuzz *fuzz, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && fuzz->left > 0; i++, fuzz->left--)
        value |= (uint64_t)*fuzz->data++ << (8 * i);
    return value;
}

/* Numbers near the limits that the code compares with, or any. */
static uint64_t length_hint(struct fuzz *fuzz)
{
    static const uint64_t edges[] = {
        0,         PF_INLINE_CAP, PF_ARENA_MIN,     2 * PF_ARENA_MIN, FUZZ_MAX_PAYLOAD,
        INT64_MAX, UINT64_MAX,    UINT64_C(1) << 32};
    uint64_t choice = number(fuzz, 1);
    return choice & 0x80 ? number(fuzz, 8) : edges[choice % 8] + (choice >> 3) % 3 - 1;
}

static void write_anywhere(struct fuzz *fuzz)
{
    uint64_t place = number(fuzz, 2), length = number(fuzz, 1) % 64;
    place = place & 0x8000 ? place * 4 % (sizeof *fuzz->channel.region - 64) : place % 512;
    for (uint64_t i = 0; i < length; i++)
        ((uint8_t *)fuzz->channel.region)[place + i] = (uint8_t)number(fuzz, 1);
}

/* A response line that is right but for what the input changes. */
static void forge_line(struct fuzz *fuzz)
{
    struct pf_response_line *line = &fuzz->channel.region->response;
    uint64_t changes = number(fuzz, 1);
    line->length = changes & 1 ? length_hint(fuzz) : 4;
    line->kind = changes & 2 ? (uint32_t)number(fuzz, 4) : 0;
    line->flags = changes & 4 ? (uint32_t)number(fuzz, 1) : 0;
    memcpy(line->id, fuzz->channel.id, PF_ID_SIZE);
    if (changes & 8)
        line->id[number(fuzz, 1) % PF_ID_SIZE] ^= (uint8_t)number(fuzz, 1);
    uint64_t seq = 2 * fuzz->channel.seq + !(changes & 16);
    atomic_store(&line->seq, changes & 32 ? seq + (uint64_t)(int64_t)(int8_t)number(fuzz, 1) : seq);
}

static void send_message(struct fuzz *fuzz)
{
    static const uint32_t types[] = {PF_BELL,           PF_HELLO, PF_FAILED, PF_REQUEST_ARENA,
                                     PF_RESPONSE_ARENA, 0,        UINT32_MAX};
    uint8_t message[400] = {0};
    uint32_t type = types[number(fuzz, 1) % 7];
    uint64_t shape = number(fuzz, 1),
             length = shape & 1 ? number(fuzz, 2) % sizeof message : sizeof(struct pf_msg);
    memcpy(message, &type, sizeof type);
    for (size_t i = sizeof type; (shape & 2) && i < 64; i++)
        message[i] = (uint8_t)number(fuzz, 1);
    int fds[PF_FDS_MAX] = {0, 1, 2, 0, 1, 2};
    if (shape & 4)
        (void)pf_send(fuzz->doorbell, (struct pf_msg *)message, NULL, 0, fds, (int)(shape >> 3) % 7,
                      MSG_DONTWAIT);
    else
        (void)send(fuzz->doorbell, message, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void fetch_arena(struct fuzz *fuzz)
{
    struct pf_packet packet;
    if (pf_recv(fuzz->doorbell, &packet, NULL, 0, 1, false, MSG_DONTWAIT) != 1)
        return;
    struct pf_arena *arena = &fuzz->arenas[packet.msg.type == PF_RESPONSE_ARENA];
    if (packet.nfds == 1 && pf_arena_map(arena, packet.fds[0], (uint64_t)packet.msg.b) == 0)
        memset(arena->bytes, (int)number(fuzz, 1), 300);
    pf_packet_close(&packet);
}

static void post(struct fuzz *fuzz)
{
    static const uint8_t payload[FUZZ_MAX_PAYLOAD + 1];
    uint64_t length = number(fuzz, 3) % (FUZZ_MAX_PAYLOAD + 2), timeout = number(fuzz, 1);
    bool busy = fuzz->channel.busy;
    fuzz->channel.timeout_ns = timeout & 1 ? UINT64_MAX : 0;
    fuzz->channel.start_ns = UINT64_MAX;
    (void)pf_channel_log_left(&fuzz->channel);
    int rc = pf_channel_post(&fuzz->channel, 0, payload, length, 0);
    CHECK(rc != 0 || !busy);
    CHECK(rc == 0 || rc == -EBUSY || rc == -EMSGSIZE || rc == -EPROTO);
    fuzz->verdict = rc == 0 ? PF_WAIT_PENDING : rc == -EPROTO ? PF_WAIT_PROTOCOL : fuzz->verdict;
}

/* Nothing is believed but a line that says what it has to. The peer stands still, so it can be looked at
 * again. */
static void check_reply(struct fuzz *fuzz)
{
    const struct pf_channel *channel = &fuzz->channel;
    const struct pf_response_line *line = &channel->region->response;
    CHECK(channel->busy && channel->pidfd >= 0);
    CHECK(line->seq == 2 * channel->seq + 1 && memcmp(line->id, channel->id, PF_ID_SIZE) == 0);
    CHECK(channel->reply.kind < PF_REPLY_KINDS && channel->reply.length <= FUZZ_MAX_PAYLOAD);
    CHECK(channel->reply.flags <= PF_RESPONSE_IN_ARENA);
    bool in_arena = channel->reply.flags & PF_RESPONSE_IN_ARENA;
    CHECK(channel->reply.length <= (in_arena ? channel->response_arena.capacity : PF_INLINE_CAP));
}

static void decide(struct fuzz *fuzz, enum pf_wait wait)
{
    fuzz->verdict = wait;
    if (wait == PF_WAIT_REPLY)
        check_reply(fuzz);
    CHECK((wait == PF_WAIT_PROTOCOL) <= (fuzz->channel.error.code > 0));
    CHECK(fuzz->channel.response_arena.capacity <= 2 * FUZZ_MAX_PAYLOAD);
}

static void take(struct fuzz *fuzz)
{
    if (fuzz->verdict != PF_WAIT_REPLY || !fuzz->channel.busy)
        return;
    uint8_t *bytes = malloc(fuzz->channel.reply.length);
    pf_channel_take(&fuzz->channel, bytes);
    free(bytes);
}

static void run_host(struct fuzz *fuzz, uint64_t choice)
{
    struct pf_channel *channel = &fuzz->channel;
    if (fuzz->verdict != PF_WAIT_PENDING || !channel->busy)
        return;
    /* A wait that cannot last: its deadline is over, or the answer is there. */
    bool over = channel->deadline_ns <= channel->posted_ns;
    if (choice == 0) {
        decide(fuzz, pf_channel_step(channel));
    } else if (choice == 1) {
        decide(fuzz, pf_channel_ring_received(channel));
    } else if (over || channel->region->response.seq != channel->last_response) {
        channel->deadline_ns = channel->posted_ns;
        decide(fuzz, pf_channel_wait(channel, 0));
    }
}

static void run_step(struct fuzz *fuzz)
{
    uint64_t choice = number(fuzz, 1) % 16;
    if (choice <= 1)
        write_anywhere(fuzz);
    else if (choice <= 4)
        forge_line(fuzz);
    else if (choice <= 6)
        send_message(fuzz);
    else if (choice == 7)
        fetch_arena(fuzz);
    else if (choice <= 9)
        post(fuzz);
    else if (choice <= 12)
        run_host(fuzz, choice - 10);
    else if (choice == 13)
        take(fuzz);
    else if (choice == 14)
        pf_channel_want_bell(&fuzz->channel), (void)pf_channel_was_taken(&fuzz->channel);
    else if (number(fuzz, 1) % 64 == 0)
        (void)shutdown(fuzz->doorbell, SHUT_RDWR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz fuzz = {.data = data, .left = size};
    int memfd;
    CHECK_EQ(pf_channel_open(&fuzz.channel, FUZZ_MAX_PAYLOAD, &memfd, &fuzz.doorbell), 0);
    close(memfd);
    if (number(&fuzz, 1) %
        8) /* mostly after the hello; the descriptor stands for a process that nobody can kill */
        fuzz.channel.pidfd = eventfd(0, EFD_CLOEXEC);
    while (fuzz.left > 0)
        run_step(&fuzz);
    pf_channel_close(&fuzz.channel);
    pf_arena_close(&fuzz.arenas[0]);
    pf_arena_close(&fuzz.arenas[1]);
    close(fuzz.doorbell);
    return 0;
}
