/* sanitizers: address,undefined thread */
/* A table of attacks on the host's end. After each one the verdict is right, a fresh channel works, no
 * descriptor is left, and a channel to another peer has answered correctly all along. */
#include "attacks.h"

static const struct attack attacks[] = {
    {"early reply", replies_early, PF_WAIT_PROTOCOL, "nothing was asked"},
    {"early reply to the next call", replies_early_to_the_next, PF_WAIT_PROTOCOL, NULL, -1},
    {"second reply", replies_twice, PF_WAIT_PROTOCOL, NULL, -1},
    {"forged id", forges_the_id, PF_WAIT_PROTOCOL, "id"},
    {"id of the last call", replays_the_last_id, PF_WAIT_PROTOCOL, "id", 1},
    {"past generation", answers_the_past, PF_WAIT_PROTOCOL, "generation"},
    {"future generation", answers_the_future, PF_WAIT_PROTOCOL, "generation"},
    {"last generation", answers_with_the_last_number, PF_WAIT_PROTOCOL, "generation"},
    {"unknown kind", invents_a_kind, PF_WAIT_PROTOCOL, "kind"},
    {"unknown large kind", invents_a_large_kind, PF_WAIT_PROTOCOL, "kind"},
    {"unknown flag", invents_a_flag, PF_WAIT_PROTOCOL, "flag"},
    {"reply beyond the inline area", exceeds_the_inline_area, PF_WAIT_PROTOCOL, "larger"},
    {"gigantic reply", claims_a_gigantic_reply, PF_WAIT_PROTOCOL, "larger"},
    {"length near the wrap", claims_a_reply_near_the_wrap, PF_WAIT_PROTOCOL, "larger"},
    {"reply in no arena", claims_an_arena_it_has_not, PF_WAIT_PROTOCOL, "larger"},
    {"need that fits inline", needs_what_fits_inline, PF_WAIT_PROTOCOL, "hint"},
    {"need of nothing", needs_nothing, PF_WAIT_PROTOCOL, "hint"},
    {"need beyond the limit", needs_more_than_allowed, PF_WAIT_PROTOCOL, "hint"},
    {"need of everything", needs_everything, PF_WAIT_PROTOCOL, "hint"},
    {"need of what is there", needs_what_it_has, PF_WAIT_PROTOCOL, "hint", 1},
    {"need, then silence", needs_and_says_nothing_more, PF_WAIT_DEADLINE, NULL, 0, 50 * MS},
    {"reply beyond the arena", exceeds_its_arena, PF_WAIT_PROTOCOL, NULL},
    {"need, then death", needs_and_dies, PF_WAIT_DEAD, NULL},
    {"need, then the past", needs_and_goes_back, PF_WAIT_PROTOCOL, "generation"},
    {"arenas that nobody fetches", never_reads_its_doorbell, PF_WAIT_PROTOCOL, "doorbell", -1},
    {"closed doorbell", closes_its_doorbell, PF_WAIT_PROTOCOL, "closed its doorbell"},
    {"doorbell shut down", shuts_its_doorbell_down, PF_WAIT_PROTOCOL, "closed its doorbell"},
    {"empty message", sends_an_empty_message, PF_WAIT_PROTOCOL, "closed its doorbell"},
    {"short message", sends_a_short_message, PF_WAIT_PROTOCOL, "message"},
    {"long message", sends_a_long_message, PF_WAIT_PROTOCOL, "message"},
    {"second hello", says_hello_again, PF_WAIT_PROTOCOL, "message"},
    {"failure after the hello", fails_after_its_hello, PF_WAIT_PROTOCOL, "message"},
    {"arena from the peer", offers_an_arena, PF_WAIT_PROTOCOL, "message"},
    {"unknown message", sends_an_unknown_type, PF_WAIT_PROTOCOL, "message"},
    {"a descriptor", sends_a_descriptor, PF_WAIT_PROTOCOL, "message"},
    {"many descriptors", sends_many_descriptors, PF_WAIT_PROTOCOL, "message"},
    {"storm of bells", storms, PF_WAIT_PROTOCOL, "storm"},
    {"steady bells", rings_slowly, PF_WAIT_PROTOCOL, "storm"},
    {"stopped process", stops_itself, PF_WAIT_DEADLINE, NULL, 0, 50 * MS},
    {"exit in the call", exits, PF_WAIT_DEAD, NULL},
    {"exit with many threads", exits_with_threads, PF_WAIT_DEAD, NULL},
    {"death by signal", is_killed, PF_WAIT_DEAD, NULL},
    {"death that leaves a child", leaves_only_a_child, PF_WAIT_DEAD, NULL},
    {"reply, then a closed doorbell", replies_and_closes, PF_WAIT_PROTOCOL, "closed its doorbell", 1},
    {"reply to a sleeper hidden", hides_the_sleeper, PF_WAIT_DEADLINE, NULL, -1, 50 * MS},
    {"holes in the arena", punches_holes, PF_WAIT_PROTOCOL, NULL, -1},
    {"holes in the region", punches_the_whole_region, PF_WAIT_DEADLINE, NULL, 0, 100 * MS},
    {"resized region", resizes, PF_WAIT_DEAD, NULL, 1},
    {"reply that changes while it is read", changes_its_mind, PF_WAIT_PROTOCOL, NULL, -1},
    {"no attack", serve, PF_WAIT_REPLY, NULL, 20},
};

static void attacker_main(int memfd, int doorbell, const void *argument)
{
    const struct attack *attack = argument;
    struct attacker a = {.memfd = dup(memfd)};
    if (pf_peer_open(&a.peer, memfd, doorbell) < 0 || pf_peer_hello(&a.peer) < 0)
        _exit(1);
    signal(SIGPIPE, SIG_IGN);
    attack->run(&a);
}

/* ---- attacks before the hello ---- */

static void hello_as(int doorbell, pid_t pid)
{
    struct pf_msg message = {.type = PF_HELLO, .a = PF_INSTANCE};
    struct ucred claimed = {.pid = pid, .uid = getuid(), .gid = getgid()};
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof claimed)] = {0};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof claimed);
    memcpy(CMSG_DATA(c), &claimed, sizeof claimed);
    if (sendmsg(doorbell, &header, MSG_NOSIGNAL) < 0)
        (void)send(doorbell, "x", 1,
                   MSG_NOSIGNAL); /* only a capable peer can lie: break another rule instead */
    pause();
}

/* A capable peer names the host's own process, for the host to kill. */
static void names_the_host(int memfd, int doorbell, const void *argument)
{
    (void)memfd, (void)argument;
    hello_as(doorbell, getppid());
}

static void names_the_first_process(int memfd, int doorbell, const void *argument)
{
    (void)memfd, (void)argument;
    hello_as(doorbell, 1);
}

static void sends_a_grandchild(int memfd, int doorbell, const void *argument)
{
    (void)memfd, (void)argument;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const struct pf_msg hello = {.type = PF_HELLO, .a = PF_INSTANCE};
        (void)pf_send(doorbell, &hello, NULL, 0, NULL, 0, 0);
        pause();
    }
    pause();
}

static void bombs_the_hello(int memfd, int doorbell, const void *argument)
{
    (void)memfd, (void)argument;
    struct attacker a = {.peer.doorbell = doorbell};
    sends_descriptors(&a, PF_HELLO, 253);
    pause();
}

static void fails_with_nonsense(int memfd, int doorbell, const void *argument)
{
    (void)memfd, (void)argument;
    char body[256];
    const struct pf_msg failed = {.type = PF_FAILED, .a = INT32_MIN};
    memset(body, 0xff, sizeof body);
    (void)pf_send(doorbell, &failed, body, sizeof body, NULL, 0, 0);
    pause(); /* and does not exit */
}

static const struct {
    const char *name;
    peer_main *run;
    enum pf_wait verdict;
    bool killed; /* the process is known well enough to be killed */
} beginnings[] = {
    {"hello in the host's name", names_the_host, PF_WAIT_PROTOCOL, false},
    {"hello in the name of process 1", names_the_first_process, PF_WAIT_PROTOCOL, false},
    {"hello from a grandchild", sends_a_grandchild, PF_WAIT_PROTOCOL, false},
    {"hello with many descriptors", bombs_the_hello, PF_WAIT_PROTOCOL, false},
    {"failure full of nonsense", fails_with_nonsense, PF_WAIT_DEAD, true},
};

/* ---- the host's side ---- */

struct canary {
    struct rig rig;
    _Atomic bool stop;
    _Atomic uint64_t calls;
};

static void *sing(void *argument)
{
    struct canary *canary = argument;
    uint8_t sent[3000], got[3000];
    for (uint64_t i = 0; !canary->stop; i++) {
        rig_echo(&canary->rig, sent, got, i % sizeof sent, i, i % 2 ? 0 : 5000);
        canary->calls++;
    }
    return NULL;
}

static void answers_again(void)
{
    struct rig rig;
    uint8_t sent[64], got[64];
    rig_start(&rig, echo_peer, NULL);
    rig_echo(&rig, sent, got, sizeof sent, 1, 0);
    rig_stop(&rig);
}

static bool was_killed(struct rig *rig)
{
    int status;
    siginfo_t info = {0};
    uint64_t end = pf_now_ns() + 5 * SECOND;
    while (pf_now_ns() < end && waitid(P_PID, (id_t)rig->child, &info, WEXITED | WNOHANG) == 0 &&
           !info.si_pid)
        sched_yield();
    if (!info.si_pid)
        return false;
    status = info.si_status;
    rig->child = 0;
    return info.si_code != CLD_KILLED || status == SIGKILL;
}

/* Calls until something else than a reply comes, or `most` replies did. */
static enum pf_wait call_repeatedly(struct rig *rig, const struct attack *attack, int most, int *replies)
{
    static uint8_t got[MAX_PAYLOAD];
    enum pf_wait wait = PF_WAIT_REPLY;
    for (*replies = 0; *replies < most && wait == PF_WAIT_REPLY; *replies += wait == PF_WAIT_REPLY) {
        wait = rig_call(rig, "ping", 4, attack->timeout_ns ? attack->timeout_ns : 10 * SECOND,
                        *replies % 2 * 5000);
        if (wait == PF_WAIT_REPLY)
            pf_channel_take(&rig->channel, got);
        if (wait == PF_WAIT_REPLY && attack->replies > 0)
            poll(NULL, 0, 5); /* time to do harm between two calls */
    }
    return wait;
}

static void survive(const struct attack *attack)
{
    struct rig rig;
    int replies;
    rig_start(&rig, attacker_main, attack);
    if (attack->run == replies_early)
        while (atomic_load(&rig.channel.region->response.seq) == 0)
            sched_yield();
    enum pf_wait wait =
        call_repeatedly(&rig, attack, attack->verdict == PF_WAIT_REPLY ? attack->replies : 1000, &replies);
    bool right = wait == attack->verdict && (attack->replies < 0 || replies == attack->replies) &&
                 (!attack->detail || strstr(rig.channel.error.detail, attack->detail));
    /* Holes, bells and toggles may also end otherwise, by the moment that they hit: what counts is that it
     * ends. */
    if (attack->run == punches_holes)
        right = wait == PF_WAIT_PROTOCOL || wait == PF_WAIT_DEAD;
    if (attack->run == hides_the_sleeper)
        right = wait != PF_WAIT_PROTOCOL;
    if (!right)
        fprintf(stderr, "    verdict %d after %d replies: %s\n", wait, replies, rig.channel.error.detail);
    CHECK(right);
    if (wait != PF_WAIT_REPLY && rig.channel.pidfd >= 0)
        CHECK(was_killed(&rig));
    rig_stop(&rig);
}

static void survives_attacks(void)
{
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        int held = open_descriptors();
        fprintf(stderr, "    %s\n", attacks[i].name);
        survive(&attacks[i]);
        answers_again();
        CHECK_EQ(open_descriptors(), held);
    }
}

static void survives_beginnings(void)
{
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        int held = open_descriptors();
        struct rig rig;
        fprintf(stderr, "    %s\n", beginnings[i].name);
        rig_start(&rig, beginnings[i].run, NULL);
        CHECK_EQ(rig_call(&rig, "ping", 4, SECOND, 0), beginnings[i].verdict);
        CHECK_EQ(rig.channel.pidfd >= 0, beginnings[i].killed);
        if (beginnings[i].killed)
            CHECK(was_killed(&rig) && rig.channel.error.code == EPROTO);
        rig_stop(&rig);
        answers_again();
        CHECK_EQ(open_descriptors(), held);
    }
}

/* ---- noise ---- */

/* Random bytes over the region, now a word, now a byte: mostly where payloads are, rarely in the lines before
 * them. In between it answers, rightly or almost rightly, so that calls come as far as they can. */
static void scribbler(int memfd, int doorbell, const void *argument)
{
    struct attacker a = {0};
    uint64_t state = *(const uint64_t *)argument, seq;
    if (pf_peer_open(&a.peer, memfd, doorbell) < 0 || pf_peer_hello(&a.peer) < 0)
        _exit(1);
    struct pf_region *region = a.peer.region;
    for (;;) {
        uint64_t roll = next_random(&state), word = next_random(&state);
        uint64_t start = roll % 1024 == 0 ? 0 : offsetof(struct pf_region, request_bytes);
        uint64_t end = start ? sizeof *region - 8 : 512;
        memcpy((uint8_t *)region + start + (roll >> 8) % (end - start), &word, roll & 2 ? 1 : sizeof word);
        if ((seq = atomic_load(&region->request.seq)) == a.peer.seq)
            continue;
        a.peer.seq = seq;
        memcpy(a.request.id, region->request.id, PF_ID_SIZE);
        if (word % 8 == 0)
            forge(&a, -1, word >> (word % 64), 0, 0);
        bool wrong = word % 16 == 1;
        forge(&a, 0, word >> (wrong ? 1 : 48), wrong ? (uint32_t)roll : (roll >> 60) % PF_REPLY_KINDS, wrong);
    }
}

static void survives_noise(void)
{
    static uint8_t got[MAX_PAYLOAD];
    uint64_t seed = 0x9e3779b97f4a7c15u, counts[PF_WAIT_INTERRUPTED + 1] = {0};
    int held = open_descriptors();
    for (uint64_t end = pf_now_ns() + 3 * SECOND; pf_now_ns() < end;) {
        struct rig rig;
        next_random(&seed);
        rig_start(&rig, scribbler, &seed);
        enum pf_wait wait = PF_WAIT_REPLY;
        while (wait == PF_WAIT_REPLY) {
            wait = rig_call(&rig, got, next_random(&seed) % 70000, 3 * MS, next_random(&seed) % 2 * 20000);
            if (wait == PF_WAIT_REPLY)
                pf_channel_take(&rig.channel, got);
            counts[wait]++;
        }
        rig_stop(&rig);
    }
    fprintf(stderr, "    %llu replies, %llu deadlines, %llu deaths, %llu broken rules\n",
            (unsigned long long)counts[PF_WAIT_REPLY], (unsigned long long)counts[PF_WAIT_DEADLINE],
            (unsigned long long)counts[PF_WAIT_DEAD], (unsigned long long)counts[PF_WAIT_PROTOCOL]);
    CHECK(counts[PF_WAIT_PROTOCOL] > 10 && counts[PF_WAIT_REPLY] > 10);
    CHECK_EQ(open_descriptors(), held);
    answers_again();
}

int main(void)
{
    struct canary canary = {0};
    pthread_t thread;
    rig_start(&canary.rig, echo_peer, NULL);
    CHECK(pthread_create(&thread, NULL, sing, &canary) == 0);
    while (canary.calls == 0)
        sched_yield();
    RUN(survives_attacks);
    RUN(survives_beginnings);
    RUN(survives_noise);
    canary.stop = true;
    pthread_join(thread, NULL);
    CHECK(canary.calls > 1000);
    rig_stop(&canary.rig);
    return 0;
}
