/* sanitizers: address,undefined thread */
/* The channel between two honest ends: every size, both ways to wait, shortages, signals, deaths. */
#include "rig.h"

#include <sched.h>
#include <sys/time.h>

static uint8_t sent[MAX_PAYLOAD], got[MAX_PAYLOAD];

static void echoes_every_size(void)
{
    static const uint64_t sizes[] = {
        0,       1,           63, PF_INLINE_CAP - 1, PF_INLINE_CAP, PF_INLINE_CAP + 1, 262144, 262145,
        1000000, MAX_PAYLOAD, 5};
    struct rig rig;
    rig_start(&rig, echo_peer, NULL);
    for (uint32_t spin = 0; spin <= 50000; spin += 50000)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            rig_echo(&rig, sent, got, sizes[i], i + spin, spin);
    rig_stop(&rig);
}

/* Arenas come, grow, are given up and come again: both ends agree at every step. */
static void echoes_random_sizes(void)
{
    struct rig rig;
    uint64_t state = 88172645463325252u;
    rig_start(&rig, echo_peer, NULL);
    for (int i = 0; i < 3000; i++) {
        uint64_t roll = next_random(&state);
        uint64_t length = roll % 64 == 0 ? next_random(&state) % 1000000 : next_random(&state) % 2000;
        rig_echo(&rig, sent, got, length, (uint64_t)i, roll & 64 ? 20000 : 0);
    }
    rig_stop(&rig);
}

static void gives_up_idle_arenas(void)
{
    struct rig rig;
    rig_start(&rig, echo_peer, NULL);
    rig_echo(&rig, sent, got, 500000, 1, 0);
    CHECK(rig.channel.request_arena.bytes && rig.channel.response_arena.bytes);
    for (unsigned i = 0; i < PF_ARENA_KEEP_UNUSED + 2; i++)
        rig_echo(&rig, sent, got, 100, i, 0);
    CHECK(!rig.channel.request_arena.bytes && !rig.channel.response_arena.bytes);
    rig_echo(&rig, sent, got, 300000, 2, 0);
    rig_stop(&rig);
}

/* No descriptor left for an arena: the call fails, the old arena stays at both ends, the next call is right.
 * The peer spins, so that it looks at its doorbell only when it has to. */
static void survives_shortage_of_descriptors(void)
{
    struct rig rig;
    struct rlimit before, none;
    rig_start(&rig, echo_peer, NULL);
    for (uint64_t i = 0; i < 5; i++)
        rig_echo(&rig, sent, got, 300000, i, 100 * MS);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    int rc = rig_post(&rig.channel, sent, 2000000, SECOND, SECOND, 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_EQ(rc, -EMFILE);
    rig_echo(&rig, sent, got, 100000, 2, 100 * MS);
    rig_echo(&rig, sent, got, 2000000, 3, 100 * MS);
    rig_stop(&rig);
}

/* Every step of the opening fails once; none leaves a descriptor behind. */
static void open_leaves_nothing_behind(void)
{
    struct rlimit before, tight;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    int held = open_descriptors(), lowest = dup(0), failed = 0;
    close(lowest);
    for (int extra = 0; extra < 6; extra++) {
        struct pf_channel channel;
        int memfd = -1, doorbell = -1;
        tight = before;
        tight.rlim_cur = (rlim_t)(lowest + extra);
        CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
        int rc = pf_channel_open(&channel, MAX_PAYLOAD, &memfd, &doorbell);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        failed += rc == -EMFILE;
        CHECK(rc == 0 || rc == -EMFILE);
        if (rc == 0) {
            close(memfd);
            close(doorbell);
        }
        pf_channel_close(&channel);
        CHECK_EQ(open_descriptors(), held);
    }
    CHECK_EQ(failed, 3);
}

static void refuses_misuse(void)
{
    struct rig rig;
    rig_start(&rig, echo_peer, NULL);
    CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_DEAD);
    CHECK_EQ(rig_post(&rig.channel, sent, MAX_PAYLOAD + 1, SECOND, SECOND, 0), -EMSGSIZE);
    CHECK_EQ(rig_post(&rig.channel, sent, 1, SECOND, SECOND, 0), 0);
    CHECK_EQ(rig_post(&rig.channel, sent, 1, SECOND, SECOND, 0), -EBUSY);
    rig_stop(&rig);
    CHECK_EQ(rig_post(&rig.channel, sent, 1, SECOND, SECOND, 0), -EBADF);
    CHECK_EQ(pf_channel_kill(&rig.channel), -ESRCH);
}

static void silent_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    while (pf_peer_receive(&peer, &request) >= 0 && request.length != 4)
        continue;
}

/* At the deadline the peer is killed, and not earlier than that. */
static void keeps_deadlines(void)
{
    static const uint64_t timeouts[] = {0, 1, 20 * MS};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        struct rig rig;
        rig_start(&rig, silent_peer, NULL);
        uint64_t start = pf_now_ns();
        CHECK_EQ(rig_call(&rig, sent, 1, timeouts[i], 1000), PF_WAIT_DEADLINE);
        CHECK(pf_now_ns() - start >= timeouts[i]);
        CHECK_EQ(rig_post(&rig.channel, sent, 1, SECOND, SECOND, 0), -EBUSY);
        int status;
        CHECK(waitpid(rig.child, &status, 0) == rig.child && WIFSIGNALED(status) &&
              WTERMSIG(status) == SIGKILL);
        rig.child = 0;
        rig_stop(&rig);
    }
}

/* The largest times do not wrap around to a deadline in the past. */
static void accepts_endless_timeouts(void)
{
    struct rig rig;
    rig_start(&rig, echo_peer, NULL);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(rig_post(&rig.channel, sent, 9, UINT64_MAX, UINT64_MAX, 0), 0);
        CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_REPLY);
        pf_channel_take(&rig.channel, got);
        CHECK(rig.channel.finished_ns >= rig.channel.deadline_ns - rig.channel.timeout_ns);
    }
    rig_stop(&rig);
}

/* Answers without having said who it is; `argument` is not NULL if it also rings. */
static void mute_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    if (pf_peer_open(&peer, memfd, doorbell) < 0)
        _exit(1);
    while (pf_peer_receive(&peer, &request) == 1) {
        if (!argument)
            peer.doorbell = -1;
        pf_peer_reply(&peer, PF_REPLY_RESULT, "x", 1, -1);
        peer.doorbell = doorbell;
    }
}

static void believes_nobody_before_its_hello(void)
{
    for (int rings = 0; rings < 2; rings++) {
        struct rig rig;
        rig_start(&rig, mute_peer, rings ? &rings : NULL);
        CHECK_EQ(rig_post(&rig.channel, sent, 1, 5 * SECOND, 50 * MS, 0), 0);
        CHECK_EQ(pf_channel_wait(&rig.channel, 0), rings ? PF_WAIT_PROTOCOL : PF_WAIT_DEADLINE);
        CHECK_EQ(pf_channel_kill(&rig.channel), -ESRCH);
        rig_stop(&rig);
    }
}

static void failing_peer(int memfd, int doorbell, const void *argument)
{
    char detail[120];
    (void)memfd, (void)argument;
    memset(detail, 'd', sizeof detail);
    detail[sizeof detail - 1] = 0;
    pf_send_failed(doorbell, 0, EPERM, "seccomp", detail);
    _exit(111);
}

static void reports_failed_confinement(void)
{
    struct rig rig;
    rig_start(&rig, failing_peer, NULL);
    CHECK_EQ(rig_call(&rig, sent, 1, SECOND, 0), PF_WAIT_DEAD);
    CHECK_EQ(rig.channel.error.code, EPERM);
    CHECK(strcmp(rig.channel.error.step, "confinement") == 0);
    CHECK(strcmp(rig.channel.error.detail, "seccomp") == 0 && rig.channel.error.detail[8] == 'd');
    rig_stop(&rig);
}

static void handle_alarm(int signal)
{
    (void)signal;
}

static void slow_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    while (pf_peer_receive(&peer, &request) == 1) {
        poll(NULL, 0, 60);
        pf_peer_reply(&peer, PF_REPLY_RESULT, request.payload, request.length, -1);
    }
}

static void reports_signals_of_the_host(void)
{
    struct rig rig;
    struct sigaction action = {.sa_handler = handle_alarm}, before;
    struct itimerval timer = {.it_value.tv_usec = 20000};
    rig_start(&rig, slow_peer, NULL);
    CHECK(rig_call(&rig, sent, 1, SECOND, 0) == PF_WAIT_REPLY);
    pf_channel_take(&rig.channel, got);
    CHECK(sigaction(SIGALRM, &action, &before) == 0);
    CHECK_EQ(rig_post(&rig.channel, "abc", 3, 5 * SECOND, SECOND, 0), 0);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_INTERRUPTED);
    CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_REPLY);
    pf_channel_take(&rig.channel, got);
    CHECK(memcmp(got, "abc", 3) == 0);
    sigaction(SIGALRM, &before, NULL);
    rig_stop(&rig);
}

/* Bells may pile up over many calls that did not have to sleep: that is not a storm. */
static void ringing_peer(int memfd, int doorbell, const void *argument)
{
    const struct pf_msg bell = {.type = PF_BELL};
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    while (pf_peer_receive(&peer, &request) == 1) {
        pf_peer_reply(&peer, PF_REPLY_RESULT, request.payload, request.length, -1);
        while (pf_send(doorbell, &bell, NULL, 0, NULL, 0, MSG_DONTWAIT) == 0)
            continue;
        atomic_store(&peer.region->taken, UINT64_MAX); /* the host waits for it */
    }
}

static void forgives_bells_that_piled_up(void)
{
    struct rig rig;
    rig_start(&rig, ringing_peer, NULL);
    for (uint64_t i = 0; i < 5; i++) {
        rig_echo(&rig, sent, got, 10, i, 0);
        while (atomic_load(&rig.channel.region->taken) != UINT64_MAX)
            sched_yield();
    }
    rig_stop(&rig);
}

static void leaving_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    if (pf_peer_receive(&peer, &request) == 1)
        pf_peer_reply(&peer, PF_REPLY_RESULT, request.payload, request.length, -1);
}

/* A peer that died between two calls had not begun the second, whatever its size. */
static void death_between_calls_is_a_death(void)
{
    for (uint64_t length = 10; length <= 1000000; length *= 100000) {
        struct rig rig;
        int status;
        rig_start(&rig, leaving_peer, NULL);
        rig_echo(&rig, sent, got, 10, 1, 0);
        CHECK(waitpid(rig.child, &status, 0) == rig.child && status == 0);
        rig.child = 0;
        CHECK_EQ(rig_call(&rig, sent, length, SECOND, 0), PF_WAIT_DEAD);
        CHECK(!pf_channel_was_taken(&rig.channel));
        rig_stop(&rig);
    }
}

/* Leaves a byte in its log pipe in every second call. */
static void logging_peer(int memfd, int doorbell, const void *argument)
{
    const int *log = argument;
    struct pf_peer peer;
    struct pf_request request;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    for (int i = 0; pf_peer_receive(&peer, &request) == 1; i++) {
        CHECK(i % 2 == 0 || write(log[1], "x", 1) == 1);
        pf_peer_reply(&peer, PF_REPLY_RESULT, request.payload, request.length, log[0]);
    }
}

static void says_whether_output_is_left(void)
{
    struct rig rig;
    int log[2];
    char byte;
    CHECK(pipe(log) == 0);
    rig_start(&rig, logging_peer, log);
    CHECK(!pf_channel_log_left(&rig.channel)); /* nothing ran yet */
    for (uint64_t i = 0; i < 20; i++) {
        rig_echo(&rig, sent, got, 10, i, i < 10 ? 0 : 100000);
        for (int tries = 0; tries < 1000 && rig.channel.region->log_checked >> 1 < i + 1; tries++)
            poll(NULL, 0, 1); /* until it has looked: a host that asks sooner takes it for left */
        CHECK_EQ(pf_channel_log_left(&rig.channel), i % 2 == 1);
        CHECK_EQ(pf_channel_log_left(&rig.channel), i % 2 == 1); /* still */
        if (i % 2)
            CHECK(read(log[0], &byte, 1) == 1);
        pf_channel_log_was_read(&rig.channel);
        CHECK(!pf_channel_log_left(&rig.channel));
    }
    /* A peer that says anything else than "none is left" is asked to have it read. */
    rig_echo(&rig, sent, got, 10, 1, 0);
    const uint64_t seq = rig.channel.seq, claims[] = {0, 2 * seq - 2, 2 * seq + 1, 2 * seq + 2, UINT64_MAX};
    kill(rig.child, SIGSTOP);
    CHECK(waitpid(rig.child, NULL, WUNTRACED) == rig.child);
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        atomic_store(&rig.channel.region->log_checked, claims[i]);
        CHECK(pf_channel_log_left(&rig.channel));
    }
    rig_stop(&rig);
    close(log[0]);
    close(log[1]);
}

/* Starts on the host's CPU; says after each call which CPUs it may use, and on which it is. */
static void bound_peer(int memfd, int doorbell, const void *argument)
{
    const cpu_set_t *cpus = argument;
    cpu_set_t now;
    struct pf_peer peer;
    struct pf_request request;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    CHECK(sched_setaffinity(0, sizeof *cpus, cpus) == 0);
    while (pf_peer_receive(&peer, &request) == 1) {
        int answer[2] = {sched_getcpu(), 0};
        CHECK(sched_getaffinity(0, sizeof now, &now) == 0);
        answer[1] = CPU_EQUAL(&now, cpus);
        pf_peer_reply(&peer, PF_REPLY_RESULT, answer, sizeof answer, -1);
    }
}

/* Two that spin on one CPU would take turns there: the peer moves, if it may, and only when spinning is
 * wanted. */
static void a_peer_steps_aside(void)
{
    cpu_set_t all, one, none;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    if (CPU_COUNT(&all) < 2)
        return;
    int here = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(here, &one);
    none = one;
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    for (int bound = 0; bound < 2; bound++) {
        struct rig rig;
        int answer[2] = {-1, -1};
        bool moved = false;
        rig_start(&rig, bound_peer, bound ? &none : &all);
        for (int i = 0; i < 10; i++) { /* soon: the scheduler would part them too, some time */
            CHECK_EQ(rig_call(&rig, sent, 1, 10 * SECOND, 100000), PF_WAIT_REPLY);
            pf_channel_take(&rig.channel, answer);
            CHECK_EQ(answer[1], 1); /* what it may use is as before */
            moved = moved || answer[0] != here;
        }
        CHECK_EQ(moved, !bound);
        rig_stop(&rig);
    }
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
}

/* Whoever glances keeps others waiting: only while replies come at once, and for a few microseconds. */
static void glances_at_prompt_peers(void)
{
    struct rig rig;
    rig_start(&rig, slow_peer, NULL); /* 60 ms */
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(rig_post(&rig.channel, "ping", 4, 2 * SECOND, SECOND, 0), 0);
        uint64_t begin = pf_now_ns();
        CHECK_EQ(pf_channel_glance(&rig.channel, PF_GLANCE_NS), PF_WAIT_PENDING);
        CHECK(rig.channel.prompt <= 2 && pf_now_ns() - begin < SECOND);
        CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_REPLY);
        pf_channel_take(&rig.channel, got);
    }
    rig_stop(&rig);
    rig_start(&rig, echo_peer, NULL);
    int glanced = 0;
    for (int i = 0; i < 100000 && glanced < 20; i++) {
        CHECK_EQ(rig_post(&rig.channel, "ping", 4, 2 * SECOND, SECOND, 100000), 0);
        enum pf_wait wait = pf_channel_glance(&rig.channel, PF_GLANCE_NS);
        glanced += wait == PF_WAIT_REPLY;
        if (wait == PF_WAIT_PENDING)
            wait = pf_channel_wait(&rig.channel, 100000);
        CHECK_EQ(wait, PF_WAIT_REPLY);
        pf_channel_take(&rig.channel, got);
        CHECK(memcmp(got, "ping", 4) == 0);
    }
    CHECK(glanced == 20 || sysconf(_SC_NPROCESSORS_ONLN) < 2);
    rig_stop(&rig);
}

static void attempts_end_as_waits_do(void)
{
    struct rig rig;
    rig_start(&rig, echo_peer, NULL);
    CHECK_EQ(rig_post(&rig.channel, "ping", 4, 2 * SECOND, SECOND, 0), 0);
    CHECK_EQ(pf_channel_attempt(&rig.channel, 0), PF_WAIT_PENDING); /* it has not said hello */
    CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_REPLY);
    pf_channel_take(&rig.channel, got);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(rig_post(&rig.channel, "ping", 4, 2 * SECOND, SECOND, 100000), 0);
        enum pf_wait wait = pf_channel_attempt(&rig.channel, i % 2 ? 100000 : 0);
        CHECK(wait == PF_WAIT_REPLY || wait == PF_WAIT_PENDING);
        if (wait == PF_WAIT_PENDING) { /* it will ring */
            CHECK_EQ(rig.channel.region->host_asleep, 1);
            struct pollfd bell = {.fd = rig.channel.doorbell, .events = POLLIN};
            while (wait == PF_WAIT_PENDING && poll(&bell, 1, 2000) == 1)
                wait = pf_channel_ring_received(&rig.channel);
        }
        CHECK_EQ(wait, PF_WAIT_REPLY);
        pf_channel_take(&rig.channel, got);
    }
    rig_stop(&rig);
}

static void pause_up_to(uint64_t *state, uint64_t most)
{
    for (uint64_t n = next_random(state) % most; n > 0; n--)
        pf_pause();
}

static void dying_peer(int memfd, int doorbell, const void *argument)
{
    struct pf_peer peer;
    struct pf_request request;
    (void)argument;
    if (pf_peer_open(&peer, memfd, doorbell) < 0 || pf_peer_hello(&peer) < 0)
        _exit(1);
    pf_peer_receive(&peer, &request);
    _exit(0);
}

static void death_in_a_call_was_in_the_call(void)
{
    struct rig rig;
    rig_start(&rig, dying_peer, NULL);
    CHECK_EQ(rig_call(&rig, sent, 10, SECOND, 0), PF_WAIT_DEAD);
    CHECK(pf_channel_was_taken(&rig.channel));
    rig_stop(&rig);
}

/* One end goes to sleep just when the other writes, at jittered moments: a lost wake-up would show as a
 * deadline. */
static void race_to_sleep(uint32_t peer_spins_ns, uint64_t pauses_before, uint64_t pauses_after, int calls)
{
    struct rig rig;
    uint64_t state = 7;
    rig_start(&rig, echo_peer, NULL);
    for (int i = 0; i < calls; i++) {
        pause_up_to(&state, pauses_before);
        CHECK_EQ(rig_post(&rig.channel, "ping", 4, 2 * SECOND, SECOND, peer_spins_ns), 0);
        pause_up_to(&state, pauses_after);
        CHECK_EQ(pf_channel_wait(&rig.channel, 0), PF_WAIT_REPLY);
        pf_channel_take(&rig.channel, got);
    }
    rig_echo(&rig, sent, got, 100000, 1, 0); /* there is room for an arena's descriptor beside the bells */
    rig_stop(&rig);
}

static void loses_no_wake_up(void)
{
    race_to_sleep(0, 2000, 1, 3000);
    race_to_sleep(500000, 1, 10, 20000);
    race_to_sleep(1000, 100, 1, 10000);
}

static void *kill_later(void *channel)
{
    poll(NULL, 0, 20);
    while (pf_channel_kill(channel) < 0)
        poll(NULL, 0, 1);
    return NULL;
}

static void another_thread_may_kill(void)
{
    struct rig rig;
    pthread_t thread;
    rig_start(&rig, silent_peer, NULL);
    CHECK(pthread_create(&thread, NULL, kill_later, &rig.channel) == 0);
    CHECK_EQ(rig_call(&rig, sent, 1, 10 * SECOND, 0), PF_WAIT_DEAD);
    pthread_join(thread, NULL);
    rig_stop(&rig);
}

struct threaded {
    struct pf_peer peer;
};

static void *answer_in_thread(void *argument)
{
    struct threaded *threaded = argument;
    struct pf_request request;
    CHECK(pf_peer_hello(&threaded->peer) == 0);
    while (pf_peer_receive(&threaded->peer, &request) == 1)
        CHECK(pf_peer_reply(&threaded->peer, PF_REPLY_RESULT, request.payload, request.length, -1) == 0);
    return NULL;
}

/* Both ends in one program and on one mapping, where ThreadSanitizer sees every access of either. */
static void honest_ends_do_not_race(void)
{
    struct pf_channel channel;
    struct threaded threaded;
    pthread_t thread;
    int memfd, doorbell;
    CHECK(pf_channel_open(&channel, MAX_PAYLOAD, &memfd, &doorbell) == 0);
    channel.parent = getppid();
    CHECK(pf_peer_open(&threaded.peer, memfd, doorbell) == 0);
    munmap(threaded.peer.region, sizeof *threaded.peer.region);
    threaded.peer.region = channel.region;
    CHECK(pthread_create(&thread, NULL, answer_in_thread, &threaded) == 0);
    struct rig rig = {.channel = channel};
    for (uint64_t i = 0; i < 4000; i++)
        rig_echo(&rig, sent, got, i % 200 == 7 ? 100000 : i % 300, i, i % 2 ? 20000 : 0);
    shutdown(rig.channel.doorbell, SHUT_RDWR);
    pthread_join(thread, NULL);
    threaded.peer.region = NULL;
    pf_peer_close(&threaded.peer);
    pf_channel_close(&rig.channel);
}

int main(void)
{
    int held = open_descriptors();
    RUN(open_leaves_nothing_behind);
    RUN(echoes_every_size);
    RUN(echoes_random_sizes);
    RUN(gives_up_idle_arenas);
    RUN(survives_shortage_of_descriptors);
    RUN(refuses_misuse);
    RUN(keeps_deadlines);
    RUN(accepts_endless_timeouts);
    RUN(believes_nobody_before_its_hello);
    RUN(reports_failed_confinement);
    RUN(reports_signals_of_the_host);
    RUN(forgives_bells_that_piled_up);
    RUN(death_between_calls_is_a_death);
    RUN(death_in_a_call_was_in_the_call);
    RUN(says_whether_output_is_left);
    RUN(a_peer_steps_aside);
    RUN(glances_at_prompt_peers);
    RUN(attempts_end_as_waits_do);
    RUN(loses_no_wake_up);
    RUN(another_thread_may_kill);
    RUN(honest_ends_do_not_race);
    CHECK_EQ(open_descriptors(), held);
    return 0;
}
