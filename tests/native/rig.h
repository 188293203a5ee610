/* Peers for tests of the channel: real processes, forked, that end with the test. */
#ifndef RIG_H
#define RIG_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "pf_channel.h"
#include "pf_clock.h"
#include "pf_control.h"
#include "pf_fd.h"
#include "pf_peer.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define MAX_PAYLOAD (UINT64_C(6) << 20)

struct rig {
    struct pf_channel channel;
    pid_t child; /* 0 when there is none to reap */
};

/* What a peer process does with its two descriptors; it exits when this returns. */
typedef void peer_main(int memfd, int doorbell, const void *argument);

static inline void rig_open(struct rig *rig, int *memfd, int *doorbell)
{
    rig->child = 0;
    CHECK(pf_channel_open(&rig->channel, MAX_PAYLOAD, memfd, doorbell) == 0);
}

static inline void rig_fork(struct rig *rig, int memfd, int doorbell, peer_main *run, const void *argument)
{
    fflush(NULL);
    rig->child = fork();
    CHECK(rig->child >= 0);
    if (rig->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(rig->channel.doorbell);
        run(memfd, doorbell, argument);
        _exit(0);
    }
    close(memfd);
    close(doorbell);
}

static inline void rig_start(struct rig *rig, peer_main *run, const void *argument)
{
    int memfd, doorbell;
    rig_open(rig, &memfd, &doorbell);
    rig_fork(rig, memfd, doorbell, run, argument);
}

/* Ends the peer and lets everything go; returns its wait status. */
static inline int rig_stop(struct rig *rig)
{
    int status = 0;
    pf_channel_close(&rig->channel);
    if (rig->child > 0) {
        kill(rig->child, SIGKILL);
        CHECK(waitpid(rig->child, &status, 0) == rig->child);
    }
    rig->child = 0;
    return status;
}

static inline int rig_post(struct pf_channel *channel, const void *payload, uint64_t length,
                           uint64_t timeout_ns, uint64_t start_ns, uint32_t spin_ns)
{
    channel->timeout_ns = timeout_ns;
    channel->start_ns = start_ns;
    return pf_channel_post(channel, 0, payload, length, spin_ns);
}

/* Posts and waits, across interruptions. A broken rule that the post finds is one that the wait would have
 * found. */
static inline enum pf_wait rig_call(struct rig *rig, const void *payload, uint64_t length,
                                    uint64_t timeout_ns, uint32_t spin_ns)
{
    int rc = rig_post(&rig->channel, payload, length, timeout_ns, 5 * SECOND, spin_ns);
    if (rc == -EPROTO)
        return PF_WAIT_PROTOCOL;
    CHECK_EQ(rc, 0);
    enum pf_wait wait;
    do
        wait = pf_channel_wait(&rig->channel, spin_ns);
    while (wait == PF_WAIT_INTERRUPTED);
    return wait;
}

/* Bytes that say which call and which place in it they belong to. */
static inline void pattern(uint8_t *bytes, uint64_t length, uint64_t seed)
{
    for (uint64_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(seed * 131 + i * 7 + (i >> 8));
}

/* A call to an echoing peer whose answer has to be the question. */
static inline void rig_echo(struct rig *rig, uint8_t *sent, uint8_t *got, uint64_t length, uint64_t seed,
                            uint32_t spin_ns)
{
    pattern(sent, length, seed);
    enum pf_wait wait = rig_call(rig, sent, length, 10 * SECOND, spin_ns);
    CHECK_EQ(wait, PF_WAIT_REPLY);
    CHECK(rig->channel.reply.length == length);
    memset(got, 0, length);
    pf_channel_take(&rig->channel, got);
    CHECK(memcmp(sent, got, length) == 0);
}

/* The honest peer: answers with the request's bytes until the host is gone. */
static inline void echo_peer(int memfd, int doorbell, const void *argument)
{
    (void)argument;
    struct pf_peer peer;
    struct pf_request request;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    while (pf_peer_receive(&peer, &request) == 1)
        if (pf_peer_reply(&peer, PF_REPLY_RESULT, request.payload, request.length, -1) < 0)
            _exit(2);
    pf_peer_close(&peer);
}

static inline int open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    int count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* A small generator of its own, so that a run can be repeated from its seed. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
