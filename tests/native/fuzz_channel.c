/* link: -Wl,--wrap=pf_pidfd_kill
 *
 * What a hostile peer may leave in the region and on the doorbell, as a program of small steps read from the
 * input. Each step is one byte that chooses, and operands. The host's end runs between the peer's writes, so
 * that the state of the channel moves on: post, forge, step, take, post again. */
#include "hostile_steps.h"

/* Looks, reads the doorbell, or waits: not at all where the answer is there or the deadline over, else for a
 * moment. */
static void run_host(struct hostile *peer, struct input *input, uint64_t choice)
{
    struct pf_channel *channel = &peer->channel;
    if (peer->verdict == PF_WAIT_REPLY && !channel->busy && choice == 0) {
        hostile_decided(peer, pf_channel_step(channel)); /* between two calls nothing may come */
        CHECK(peer->verdict == PF_WAIT_PENDING || peer->verdict == PF_WAIT_PROTOCOL);
        return;
    }
    if (peer->verdict != PF_WAIT_PENDING || !channel->busy)
        return;
    if (choice == 0) {
        hostile_decided(peer, pf_channel_step(channel));
    } else if (choice == 1) {
        hostile_decided(peer, pf_channel_ring_received(channel));
    } else {
        uint64_t moment = number(input, 1);
        channel->timeout_ns = moment & 1 ? 100 * moment : 0; /* a hello moves the deadline */
        channel->deadline_ns = pf_now_ns() + channel->timeout_ns;
        enum pf_wait wait = PF_WAIT_PENDING;
        if (moment & 4)
            wait = moment & 8 ? pf_channel_glance(channel, 1000) : pf_channel_attempt(channel, 1000);
        while (wait == PF_WAIT_PENDING || wait == PF_WAIT_INTERRUPTED)
            wait = pf_channel_wait(channel, moment & 2 ? 1000 : 0);
        hostile_decided(peer, wait);
        CHECK(peer->verdict != PF_WAIT_PENDING);
    }
}

static void run_step(struct hostile *peer, struct input *input)
{
    uint64_t choice = number(input, 1) % 16;
    if (choice <= 9) {
        hostile_step(peer, input, choice);
    } else if (choice <= 12) {
        run_host(peer, input, choice - 10);
    } else if (choice == 13) {
        (void)hostile_post(peer, input);
    } else if (choice == 14) {
        hostile_take(peer);
    } else {
        pf_channel_want_bell(&peer->channel);
        (void)pf_channel_was_taken(&peer->channel);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .left = size};
    struct hostile peer;
    int free_descriptor = next_descriptor();
    kills = 0;
    hostile_open(&peer, number(&input, 1));
    while (input.left > 0)
        run_step(&peer, &input);
    hostile_close(&peer);
    CHECK_EQ(next_descriptor(), free_descriptor);
    return 0;
}
