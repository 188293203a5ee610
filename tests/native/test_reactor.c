/* sanitizers: address,undefined thread */
/* The reactor: replies, deadlines, deaths, descriptors; who owns a call while threads arm, disarm and remove.
 */
#include "rig.h"

#include <sched.h>
#include <stdatomic.h>

#include "pf_reactor.h"

#define CHANNELS 8
#define PATIENCE (30 * SECOND) /* for what should come at once: a busy machine may take a while for it */
#define FAR (10 * PATIENCE)    /* a deadline that no test lives to see */

static struct pf_reactor reactor;
static uint8_t got[MAX_PAYLOAD];

/* Events that came together, and how many of them next_event has given out. */
static struct pf_event events_here[2];
static int here, given;

/* Waits for one event, with patience. */
static struct pf_event next_event(void)
{
    uint64_t end = pf_now_ns() + PATIENCE;
    while (given == here && pf_now_ns() < end) {
        int n = pf_reactor_wait(&reactor, events_here, 2, SECOND);
        CHECK(n >= 0 || n == -EINTR);
        here = n < 0 ? 0 : n;
        given = 0;
    }
    CHECK(given < here);
    return events_here[given++];
}

static void post(struct rig *rig, uint64_t length, uint64_t timeout_ns)
{
    static uint8_t bytes[MAX_PAYLOAD];
    pf_channel_want_bell(&rig->channel);
    CHECK_EQ(rig_post(&rig->channel, bytes, length, timeout_ns, PATIENCE, 0), 0);
}

/* A peer that has answered one call, added under `token`. */
static void start(struct rig *rig, uint64_t token, peer_main *run)
{
    static uint8_t sent[8];
    rig_start(rig, run, NULL);
    rig_echo(rig, sent, got, sizeof sent, token, 0);
    CHECK_EQ(pf_reactor_add(&reactor, token, rig->channel.doorbell, &rig->channel), 0);
}

static void stop(struct rig *rig, uint64_t token)
{
    CHECK_EQ(given, here); /* nothing more than was asked for */
    CHECK_EQ(pf_reactor_remove(&reactor, token), 0);
    rig_stop(rig);
}

static void silent_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    for (;;)
        pause();
}

static void once_answering_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0 ||
        pf_peer_receive(&peer, &request) != 1)
        _exit(1);
    pf_peer_reply(&peer, PF_REPLY_RESULT, request.payload, request.length, -1);
    for (;;)
        pause();
}

static void leaving_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    pf_peer_receive(&peer, &request);
}

static void storming_peer(int memfd, int doorbell, const void *argument)
{
    const struct pf_msg bell = {.type = PF_BELL};
    struct pf_peer peer;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    while (pf_send(doorbell, &bell, NULL, 0, NULL, 0, 0) == 0)
        continue;
}

static void refuses_misuse(void)
{
    struct pf_event events[2];
    int ends[2];
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_reactor_add(&reactor, 1, ends[0], NULL), 0);
    CHECK_EQ(pf_reactor_add(&reactor, 1, ends[1], NULL), -EEXIST);
    CHECK_EQ(pf_reactor_add(&reactor, UINT64_MAX, ends[1], NULL), -EINVAL);
    CHECK_EQ(pf_reactor_add(&reactor, 2, -1, NULL), -EBADF);
    CHECK_EQ(pf_reactor_arm(&reactor, 1), -ENOENT);
    CHECK_EQ(pf_reactor_arm(&reactor, 3), -ENOENT);
    CHECK(!pf_reactor_disarm(&reactor, 1));
    CHECK_EQ(pf_reactor_wait(&reactor, events, 1, 0), -EINVAL);
    CHECK_EQ(pf_reactor_wait(&reactor, events, 2, 0), 0);
    CHECK_EQ(pf_reactor_remove(&reactor, 1), 0);
    CHECK_EQ(pf_reactor_remove(&reactor, 1), -ENOENT);
    close(ends[0]);
    close(ends[1]);
}

static void reports_readable_descriptors(void)
{
    struct pf_event events[2];
    int ends[2];
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_reactor_add(&reactor, 7, ends[0], NULL), 0);
    CHECK_EQ(pf_reactor_wait(&reactor, events, 2, 0), 0);
    CHECK(send(ends[1], "x", 1, 0) == 1);
    for (int i = 0; i < 2; i++) { /* for as long as nobody reads it */
        struct pf_event event = next_event();
        CHECK(event.token == 7 && event.kind == PF_EVENT_READABLE);
    }
    CHECK_EQ(pf_reactor_remove(&reactor, 7), 0);
    CHECK_EQ(pf_reactor_wait(&reactor, events, 2, 0), 0);
    close(ends[0]);
    close(ends[1]);
}

static void wakes_and_times_out(void)
{
    struct pf_event events[2];
    uint64_t begin = pf_now_ns();
    CHECK_EQ(pf_reactor_wait(&reactor, events, 2, 10 * MS), 0);
    CHECK(pf_now_ns() - begin >= 9 * MS);
    CHECK_EQ(pf_reactor_wake(&reactor), 0);
    CHECK_EQ(pf_reactor_wake(&reactor), 0);
    CHECK_EQ(pf_reactor_wait(&reactor, events, 2, UINT64_MAX), 0);
}

static void reports_replies(void)
{
    struct rig rig;
    struct pf_event events[2];
    static const uint64_t lengths[] = {4, 100000, 0, 1000000};
    start(&rig, 1, echo_peer);
    for (size_t i = 0; i < 4; i++) {
        post(&rig, lengths[i], PATIENCE);
        CHECK_EQ(pf_reactor_arm(&reactor, 1), 0);
        struct pf_event event = next_event();
        CHECK(event.token == 1 && event.kind == PF_EVENT_CALL && event.wait == PF_WAIT_REPLY);
        CHECK(rig.channel.reply.length == lengths[i]);
        pf_channel_take(&rig.channel, got);
        CHECK(!pf_reactor_disarm(&reactor, 1));
    }
    CHECK_EQ(pf_reactor_wait(&reactor, events, 2, 0), 0);
    stop(&rig, 1);
}

/* The first call of a new peer: its hello comes through the reactor, and moves the deadline. */
static void reports_the_first_reply_of_a_new_peer(void)
{
    struct rig rig;
    rig_start(&rig, echo_peer, NULL);
    CHECK_EQ(pf_reactor_add(&reactor, 1, rig.channel.doorbell, &rig.channel), 0);
    post(&rig, 4, PATIENCE);
    CHECK_EQ(pf_reactor_arm(&reactor, 1), 0);
    CHECK_EQ(next_event().wait, PF_WAIT_REPLY);
    CHECK(rig.channel.pidfd >= 0);
    stop(&rig, 1);
}

static void verdict_is(peer_main *run, uint64_t timeout_ns, enum pf_wait wanted)
{
    struct rig rig;
    int status;
    rig_start(&rig, run, NULL);
    CHECK_EQ(pf_reactor_add(&reactor, 1, rig.channel.doorbell, &rig.channel), 0);
    post(&rig, 4, timeout_ns);
    CHECK_EQ(pf_reactor_arm(&reactor, 1), 0);
    CHECK_EQ(next_event().wait, wanted);
    CHECK(waitpid(rig.child, &status, 0) == rig.child); /* dead by itself or killed by now */
    rig.child = 0;
    stop(&rig, 1);
}

static void reports_deadlines_deaths_and_storms(void)
{
    verdict_is(silent_peer, 0, PF_WAIT_DEADLINE);
    verdict_is(silent_peer, 15 * MS, PF_WAIT_DEADLINE);
    verdict_is(leaving_peer, PATIENCE, PF_WAIT_DEAD);
    verdict_is(storming_peer, PATIENCE, PF_WAIT_PROTOCOL);
}

static struct rig rigs[CHANNELS];

static void keeps_many_deadlines_apart(void)
{
    bool ended[CHANNELS] = {0};
    for (uint64_t i = 0; i < CHANNELS; i++) {
        start(&rigs[i], i, i % 2 ? once_answering_peer : echo_peer);
        post(&rigs[i], 4, (1 + (i * 5) % CHANNELS) * 10 * MS);
        CHECK_EQ(pf_reactor_arm(&reactor, i), 0);
    }
    for (int n = 0; n < CHANNELS; n++) {
        struct pf_event event = next_event();
        CHECK(!ended[event.token]);
        ended[event.token] = true;
        CHECK(event.wait == PF_WAIT_DEADLINE || (event.wait == PF_WAIT_REPLY && event.token % 2 == 0));
    }
    for (uint64_t i = 0; i < CHANNELS; i++)
        stop(&rigs[i], i);
}

/* ---- with threads ---- */

static _Atomic bool finished;
static _Atomic uint64_t events_of[CHANNELS];
static _Atomic int last_wait[CHANNELS];

static void *wait_forever(void *argument)
{
    struct pf_event events[32];
    (void)argument;
    while (!finished) {
        int n = pf_reactor_wait(&reactor, events, 32, UINT64_MAX);
        CHECK(n >= 0 || n == -EINTR);
        for (int i = 0; i < n; i++) {
            last_wait[events[i].token] = (int)events[i].wait;
            events_of[events[i].token]++;
        }
    }
    return NULL;
}

static void in_a_thread(void (*run)(void))
{
    pthread_t thread;
    finished = false;
    for (int i = 0; i < CHANNELS; i++)
        events_of[i] = 0;
    CHECK(pthread_create(&thread, NULL, wait_forever, NULL) == 0);
    run();
    finished = true;
    pf_reactor_wake(&reactor);
    pthread_join(thread, NULL);
}

static void await_events(uint64_t token, uint64_t count)
{
    uint64_t end = pf_now_ns() + PATIENCE;
    while (events_of[token] < count) {
        CHECK(pf_now_ns() < end);
        sched_yield();
    }
    CHECK(events_of[token] == count);
}

/* The reactor sleeps until a far deadline; what is armed then for a shorter time comes long before that, and
 * so does what follows. How late each is depends on who else wants the processor: the best of them tells. */
static void arm_in_any_order(void)
{
    static const uint64_t near_ms[CHANNELS] = {0,  30, 0, 5,
                                               10, 0,  1, 40}; /* 0: a far one, each time another */
    uint64_t least_late = UINT64_MAX;
    for (uint64_t i = 0; i < CHANNELS; i++) {
        uint64_t begin = pf_now_ns(), timeout = near_ms[i] ? near_ms[i] * MS : FAR - i * SECOND;
        post(&rigs[i], 4, timeout);
        CHECK_EQ(pf_reactor_arm(&reactor, i), 0);
        if (!near_ms[i])
            continue;
        await_events(i, 1);
        CHECK(last_wait[i] == PF_WAIT_DEADLINE);
        uint64_t took = pf_now_ns() - begin;
        CHECK(took >= timeout);
        least_late = took - timeout < least_late ? took - timeout : least_late;
    }
    CHECK(least_late < SECOND);
    for (uint64_t i = 0; i < CHANNELS; i++)
        CHECK(pf_reactor_disarm(&reactor, i) == (near_ms[i] == 0));
}

static void wakes_for_a_sooner_deadline(void)
{
    for (uint64_t i = 0; i < CHANNELS; i++)
        start(&rigs[i], i, once_answering_peer);
    in_a_thread(arm_in_any_order);
    for (uint64_t i = 0; i < CHANNELS; i++)
        stop(&rigs[i], i);
}

/* Each call has exactly one owner at its end: whoever disarms it, or whoever gets its event. */
static void *race_for_calls(void *argument)
{
    uint64_t token = (uint64_t)(uintptr_t)argument, seed = token + 99, events = 0, taken_back = 0;
    struct rig *rig = &rigs[token];
    for (int i = 0; i < 1500; i++) {
        post(rig, i % 100 == 5 ? 70000 : 4, PATIENCE);
        CHECK_EQ(pf_reactor_arm(&reactor, token), 0);
        for (uint64_t n = next_random(&seed) % 30000; n > 0 && events_of[token] == events; n--)
            pf_pause();
        if (pf_reactor_disarm(&reactor, token)) {
            taken_back++;
            CHECK_EQ(pf_channel_wait(&rig->channel, 0), PF_WAIT_REPLY);
        } else {
            await_events(token, ++events);
            CHECK_EQ(last_wait[token], PF_WAIT_REPLY);
        }
        CHECK(events_of[token] == events);
        static _Thread_local uint8_t bytes[70000];
        pf_channel_take(&rig->channel, bytes);
    }
    fprintf(stderr, "    %llu taken back, %llu events\n", (unsigned long long)taken_back,
            (unsigned long long)events);
    return NULL;
}

static void race(void)
{
    pthread_t threads[2];
    for (uintptr_t i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, race_for_calls, (void *)i) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void a_call_has_one_owner(void)
{
    for (uint64_t i = 0; i < 2; i++)
        start(&rigs[i], i, echo_peer);
    in_a_thread(race);
    for (uint64_t i = 0; i < 2; i++)
        stop(&rigs[i], i);
}

/* Removed in the middle of a call, at a random moment, and closed at once. */
static void remove_at_random(void)
{
    uint64_t seed = 5;
    for (uint64_t i = 0; i < CHANNELS; i++) {
        post(&rigs[i], 4, i % 3 == 0 ? MS / 10 : SECOND);
        CHECK_EQ(pf_reactor_arm(&reactor, i), 0);
        for (uint64_t n = next_random(&seed) % 3000; n > 0; n--)
            pf_pause();
        CHECK_EQ(pf_reactor_remove(&reactor, i), 0);
        pf_channel_close(&rigs[i].channel);
    }
}

static void removal_ends_the_reactors_interest(void)
{
    for (int round = 0; round < 10; round++) {
        for (uint64_t i = 0; i < CHANNELS; i++)
            start(&rigs[i], i, echo_peer);
        in_a_thread(remove_at_random);
        for (uint64_t i = 0; i < CHANNELS; i++)
            rig_stop(&rigs[i]);
    }
}

int main(void)
{
    int held = open_descriptors();
    CHECK_EQ(pf_reactor_open(&reactor), 0);
    RUN(refuses_misuse);
    RUN(reports_readable_descriptors);
    RUN(wakes_and_times_out);
    RUN(reports_replies);
    RUN(reports_the_first_reply_of_a_new_peer);
    RUN(reports_deadlines_deaths_and_storms);
    RUN(keeps_many_deadlines_apart);
    RUN(wakes_for_a_sooner_deadline);
    RUN(a_call_has_one_owner);
    RUN(removal_ends_the_reactors_interest);
    pf_reactor_close(&reactor);
    pf_reactor_close(&reactor);
    CHECK_EQ(open_descriptors(), held);
    return 0;
}
