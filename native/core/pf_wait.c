#define _GNU_SOURCE
/* How the host waits for a reply: under its caller's eyes, spinning, asleep; in the end the peer rings. */
#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "pf_channel.h"
#include "pf_clock.h"

void pf_channel_want_bell(struct pf_channel *channel)
{
    atomic_store_explicit(&channel->region->host_asleep, 1, memory_order_seq_cst);
}

static enum pf_wait sleep_once(struct pf_channel *channel, uint64_t remaining)
{
    struct pollfd fds[2] = {{.fd = channel->doorbell, .events = POLLIN},
                            {.fd = channel->pidfd, .events = POLLIN}};
    struct timespec timeout = pf_timespec(remaining);
    int n = ppoll(fds, channel->pidfd >= 0 ? 2 : 1, &timeout, NULL);
    if (n < 0)
        return errno == EINTR ? PF_WAIT_INTERRUPTED : PF_WAIT_PENDING;
    enum pf_wait result = n > 0 && fds[0].revents ? pf_channel_ring_received(channel) : PF_WAIT_PENDING;
    return result == PF_WAIT_PENDING && fds[1].revents ? pf_channel_ended(channel) : result;
}

/* Until the call is decided, or (PF_WAIT_PENDING) the peer has said hello. */
static enum pf_wait wait_asleep(struct pf_channel *channel)
{
    _Atomic uint32_t *asleep = &channel->region->host_asleep;
    enum pf_wait result = PF_WAIT_PENDING;
    bool unborn = channel->pidfd < 0;
    while (result == PF_WAIT_PENDING && (channel->pidfd < 0) == unborn) {
        atomic_store_explicit(asleep, 1, memory_order_relaxed);
        atomic_thread_fence(
            memory_order_seq_cst); /* first tell, then look: the peer does both the other way round */
        result = pf_channel_step(channel);
        if (result != PF_WAIT_PENDING)
            break;
        uint64_t now = pf_now_ns();
        if (now < channel->deadline_ns) {
            result = sleep_once(channel, channel->deadline_ns - now);
        } else {
            pf_channel_kill(channel);
            result = PF_WAIT_DEADLINE;
        }
    }
    atomic_store_explicit(asleep, 0, memory_order_relaxed);
    return result;
}

enum pf_wait pf_channel_wait(struct pf_channel *channel, uint64_t spin_ns)
{
    if (!channel->region || !channel->busy)
        return PF_WAIT_DEAD;
    _Atomic uint64_t *reply = &channel->region->response.seq;
    enum pf_wait result = PF_WAIT_PENDING;
    if (channel->pidfd < 0) {
        result = wait_asleep(channel);
        /* A process that has just been forked answers soon: whoever spins needs no second wake-up. */
        if (result == PF_WAIT_PENDING && spin_ns)
            (void)pf_spin_changed(reply, channel->last_response, channel->first_spin_ns);
    } else {
        (void)pf_spin_until_changed(&channel->spin, reply, channel->last_response, spin_ns);
    }
    if (result == PF_WAIT_PENDING)
        result = pf_channel_step(channel);
    if (result != PF_WAIT_PENDING)
        return result;
    result = wait_asleep(channel);
    pf_spin_learn(&channel->spin, pf_now_ns() - channel->posted_ns, spin_ns);
    return result;
}

enum pf_wait pf_channel_glance(struct pf_channel *channel, uint64_t moment_ns)
{
    if (!channel->prompt || !channel->region || !channel->busy)
        return PF_WAIT_PENDING;
    channel->prompt--;
    (void)pf_spin_changed(&channel->region->response.seq, channel->last_response, moment_ns);
    return pf_channel_step(channel);
}

enum pf_wait pf_channel_attempt(struct pf_channel *channel, uint64_t spin_ns)
{
    if (!channel->region || !channel->busy)
        return PF_WAIT_DEAD;
    channel->attempt_ns = spin_ns;
    if (channel->pidfd >= 0)
        (void)pf_spin_until_changed(&channel->spin, &channel->region->response.seq, channel->last_response,
                                    spin_ns);
    enum pf_wait result = pf_channel_step(channel);
    if (result != PF_WAIT_PENDING)
        return result;
    pf_channel_want_bell(channel); /* first tell, then look: the peer does both the other way round */
    result = pf_channel_step(channel);
    if (result != PF_WAIT_PENDING)
        atomic_store_explicit(&channel->region->host_asleep, 0, memory_order_relaxed);
    return result;
}
