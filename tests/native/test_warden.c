/* sanitizers: address,undefined */
#define _GNU_SOURCE
#include "check.h"
#include "pf_children.h"
#include "pf_clock.h"
#include "pf_confine.h"
#include "pf_fd.h"
#include "pf_fork.h"
#include "pf_log.h"
#include "pf_warden.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What a template of these tests does; the token of its order says it. */
enum task {
    EXITS = 1,     /* with status 7 */
    CRASHES,       /* after writing "hello" without a newline */
    WAITS,         /* until its socket ends */
    LEAVES_ORPHAN, /* a grandchild that waits for ever; PF_HELLO with its pid, then exit */
    FORKS,         /* a sibling for each PF_FORK, which says PF_HELLO on its doorbell and waits for its end */
};

static _Noreturn void wait_for_end(int socket)
{
    char byte;
    while (read(socket, &byte, 1) > 0)
        continue;
    _exit(0);
}

static void say_hello(int socket, pid_t about)
{
    struct pf_msg msg = {.type = PF_HELLO, .a = about};
    CHECK_EQ(pf_send(socket, &msg, NULL, 0, NULL, 0, 0), 0);
}

static _Noreturn void leave_orphan(int socket)
{
    pid_t orphan = fork();
    if (orphan == 0)
        for (;;)
            pause();
    say_hello(socket, orphan);
    _exit(0);
}

static _Noreturn void fork_instances(int socket)
{
    struct pf_fork how;
    struct pf_packet packet;
    CHECK_EQ(pf_fork_prepare(&how), 0);
    while (pf_recv(socket, &packet, NULL, 0, 1, false, 0) == 1) {
        pid_t warden = getppid();
        if (pf_fork_sibling(&how) == 0) {
            CHECK_EQ(pf_confine_die_with_parent(warden), 0);
            say_hello(packet.fds[0], getpid());
            wait_for_end(packet.fds[0]);
        }
        pf_packet_close(&packet);
    }
    _exit(0);
}

static _Noreturn void be_template(struct pf_warden *warden, struct pf_order *order)
{
    if (pf_warden_child(warden, order) != 0)
        _exit(111);
    int socket = order->packet.fds[0];
    switch (order->packet.msg.token) {
    case EXITS:
        _exit(7);
    case CRASHES:
        if (write(1, "hello", 5) == 5)
            kill(getpid(), SIGKILL);
        _exit(1);
    case LEAVES_ORPHAN:
        leave_orphan(socket);
    case FORKS:
        fork_instances(socket);
    default:
        wait_for_end(socket);
    }
}

static _Noreturn void be_warden(int control, pid_t parent)
{
    static struct pf_order order; /* 60 KB: not on a stack that ASan watches */
    struct pf_warden *warden;
    struct pf_error err = {0};
    if (pf_warden_open(&warden, control, parent, &err) != 0)
        _exit(111);
    while (pf_warden_run(warden, &order) == 1) {
        pid_t pid = fork();
        if (pid == 0)
            be_template(warden, &order);
        pf_warden_forked(warden, &order, pid < 0 ? -errno : pid);
    }
    pf_warden_close(warden);
    _exit(0);
}

/* ---- the host's side of a test ---- */

struct host {
    pid_t warden;
    int control;
};

static struct pf_msg receive(int socket)
{
    struct pf_packet packet;
    unsigned char body[512];
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    CHECK_EQ(poll(&wait, 1, 20000), 1);
    CHECK_EQ(pf_recv(socket, &packet, body, sizeof body, 0, false, 0), 1);
    return packet.msg;
}

static bool is_quiet(int socket, int ms)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    return poll(&wait, 1, ms) == 0;
}

static bool dies(int pidfd, int ms)
{
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    return poll(&wait, 1, ms) == 1;
}

static struct host open_host(void)
{
    int ends[2];
    struct host host;
    pid_t self = getpid();
    CHECK_EQ(pf_socketpair(ends), 0);
    host.control = ends[0];
    host.warden = fork();
    if (host.warden == 0)
        be_warden(ends[1], self);
    close(ends[1]);
    struct pf_msg hello = receive(host.control);
    CHECK_EQ(hello.type, PF_HELLO);
    CHECK_EQ(hello.a, PF_WARDEN);
    CHECK_EQ((pid_t)hello.token, host.warden);
    return host;
}

static void close_host(struct host *host)
{
    int status;
    close(host->control);
    CHECK_EQ(waitpid(host->warden, &status, 0), host->warden);
    CHECK_EQ(status, 0);
}

static void tell(struct host *host, uint32_t type, uint64_t token, int a)
{
    struct pf_msg msg = {.type = type, .token = token, .a = a};
    CHECK_EQ(pf_send(host->control, &msg, NULL, 0, NULL, 0, 0), 0);
}

/* Returns our end of the template's socket; `log` is the writing end of its log, or -1. */
static int start(struct host *host, enum task task, int log)
{
    struct pf_plan plan = {.header = {.magic = PF_PLAN_MAGIC, .version = PF_PLAN_VERSION}};
    int ends[2], null = open("/dev/null", O_RDWR);
    CHECK_EQ(pf_socketpair(ends), 0);
    int fds[4] = {ends[1], null, null, log >= 0 ? log : null};
    struct pf_msg msg = {.type = PF_TEMPLATE, .token = task};
    CHECK_EQ(pf_send(host->control, &msg, &plan, sizeof plan.header, fds, 4, 0), 0);
    close(ends[1]);
    close(null);
    return ends[0];
}

/* Announces a process with this log; returns the writing end of its pipe. */
static int announce(struct host *host, uint64_t id, struct pf_log *log)
{
    int ends[2];
    cleanup_fd int ring = pf_log_create(4096);
    CHECK_EQ(pf_log_map(log, ring), 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    int fds[2] = {ends[0], ring};
    struct pf_msg msg = {.type = PF_ADOPT, .token = id};
    CHECK_EQ(pf_send(host->control, &msg, NULL, 0, fds, 2, 0), 0);
    close(ends[0]);
    return ends[1];
}

static pid_t fork_instance(int template, int *doorbell)
{
    int ends[2];
    struct pf_msg msg = {.type = PF_FORK};
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_send(template, &msg, NULL, 0, &ends[1], 1, 0), 0);
    close(ends[1]);
    *doorbell = ends[0];
    return receive(ends[0]).a;
}

/* ---- the tests ---- */

static void an_exit_is_reported(void)
{
    struct host host = open_host();
    int socket = start(&host, EXITS, -1);
    struct pf_msg report = receive(host.control);
    CHECK_EQ(report.type, PF_EXIT);
    CHECK_EQ(report.a, 7 << 8);
    CHECK(report.token > 1);
    CHECK(report.c > 0);
    close(socket);
    close_host(&host);
}

static void a_death_is_reported_after_its_last_words(void)
{
    struct host host = open_host();
    for (uint64_t id = 1; id <= 20; id++) {
        struct pf_log log;
        unsigned char text[16];
        uint64_t dropped, next;
        int pipe = announce(&host, id, &log);
        int socket = start(&host, CRASHES, pipe);
        close(pipe);
        struct pf_msg report = receive(host.control);
        CHECK_EQ(report.type, PF_EXIT);
        CHECK_EQ(report.a, SIGKILL);
        CHECK_EQ(pf_log_read(&log, 0, text, sizeof text, &dropped, &next), 5);
        CHECK(memcmp(text, "hello", 5) == 0);
        tell(&host, PF_DROP, id, 0);
        pf_log_unmap(&log);
        close(socket);
    }
    close_host(&host);
}

static void a_sync_is_answered_after_the_pump(void)
{
    struct host host = open_host();
    struct pf_log log;
    int pipe = announce(&host, 5, &log);
    for (int i = 1; i <= 50; i++) {
        CHECK_EQ(write(pipe, "0123456789", 10), 10);
        uint32_t request = pf_log_sync_request(&log);
        tell(&host, PF_SYNC, 5, 0);
        CHECK_EQ(pf_log_sync_wait(&log, request, 20000000000), 0);
        CHECK_EQ(pf_log_head(&log), 10 * i);
    }
    close(pipe);
    uint32_t request = pf_log_sync_request(&log);
    tell(&host, PF_SYNC, 5, 0); /* also after the pipe's end */
    CHECK_EQ(pf_log_sync_wait(&log, request, 20000000000), 0);
    pf_log_unmap(&log);
    close_host(&host);
}

static void an_orphan_is_killed(void)
{
    struct host host = open_host();
    int socket = start(&host, LEAVES_ORPHAN, -1);
    pid_t orphan = receive(socket).a;
    cleanup_fd int pidfd = pf_pidfd_open(orphan); /* fails when it is dead and reaped already */
    CHECK(pidfd < 0 || dies(pidfd, 20000));
    CHECK_EQ(receive(host.control).type, PF_EXIT);
    CHECK(is_quiet(host.control, 50)); /* of the orphan nothing is said */
    close(socket);
    close_host(&host);
}

static void an_announced_instance_is_no_orphan(void)
{
    struct host host = open_host();
    struct pf_log log;
    int doorbell, template = start(&host, FORKS, -1), pipe = announce(&host, 9, &log);
    pid_t instance = fork_instance(template, &doorbell);
    CHECK_EQ(pf_parent_of(instance), host.warden);
    cleanup_fd int pidfd = pf_pidfd_open(instance);
    for (int i = 0; i < 5; i++) { /* deaths, after each of which orphans are looked for */
        close(start(&host, EXITS, -1));
        CHECK_EQ(receive(host.control).a, 7 << 8);
    }
    CHECK(!dies(pidfd, 50));
    tell(&host, PF_ADOPTED, 9, instance);
    close(start(&host, EXITS, -1));
    CHECK_EQ(receive(host.control).a, 7 << 8);
    CHECK(!dies(pidfd, 50));
    close(doorbell);
    struct pf_msg report = receive(host.control);
    CHECK_EQ((pid_t)report.token, instance);
    CHECK_EQ(report.a, 0);
    close(pipe);
    close(template);
    CHECK_EQ(receive(host.control).type, PF_EXIT);
    pf_log_unmap(&log);
    close_host(&host);
}

/* Cold starts without a pause must not keep orphans alive: what is older than every open announcement is none
 * of them. */
static void an_old_orphan_dies_while_a_fork_is_announced(void)
{
    struct host host = open_host();
    struct pf_log log;
    int doorbell, template = start(&host, FORKS, -1);
    pid_t orphan = fork_instance(template, &doorbell); /* never announced, and no death has come after it */
    cleanup_fd int pidfd = pf_pidfd_open(orphan);
    CHECK(is_quiet(host.control, 30)); /* births are counted in ticks of 10 ms */
    tell(&host, PF_SYNC, 4711, 0);
    CHECK(is_quiet(host.control, 30));
    int pipe = announce(&host, 9, &log);
    CHECK(!dies(pidfd, 0));
    close(start(&host, EXITS, -1));
    CHECK(dies(pidfd, 20000));
    close(doorbell);
    close(pipe);
    close(template);
    pf_log_unmap(&log);
    close_host(&host);
}

static void an_instance_that_is_given_up_is_an_orphan(void)
{
    struct host host = open_host();
    struct pf_log log;
    int doorbell, template = start(&host, FORKS, -1), pipe = announce(&host, 9, &log);
    pid_t instance = fork_instance(template, &doorbell);
    cleanup_fd int pidfd = pf_pidfd_open(instance);
    tell(&host, PF_DROP, 9, 0);
    CHECK(dies(pidfd, 20000));
    close(doorbell);
    close(pipe);
    close(template);
    pf_log_unmap(&log);
    close_host(&host);
}

/* Its report must not be lost only because the host does not know its pid yet. */
static void an_instance_that_dies_unconfirmed_is_reported(void)
{
    struct host host = open_host();
    int template = start(&host, FORKS, -1);
    for (uint64_t id = 1; id <= 30; id++) {
        struct pf_log log;
        int doorbell, pipe = announce(&host, id, &log);
        pid_t instance = fork_instance(template, &doorbell);
        close(doorbell);
        struct pf_msg report = receive(host.control);
        CHECK_EQ((pid_t)report.token, instance);
        tell(&host, PF_ADOPTED, id, instance); /* too late, and harmless */
        tell(&host, PF_DROP, id, 0);
        close(pipe);
        pf_log_unmap(&log);
    }
    close(template);
    close_host(&host);
}

static void a_plan_that_cannot_be_applied_names_its_step(void)
{
    struct host host = open_host();
    int ends[2], fds[4];
    struct pf_packet packet;
    char body[256];
    CHECK_EQ(pf_socketpair(ends), 0);
    for (int i = 0; i < 4; i++)
        fds[i] = ends[1];
    struct pf_msg msg = {.type = PF_TEMPLATE, .token = WAITS};
    CHECK_EQ(pf_send(host.control, &msg, "junk", 4, fds, 4, 0), 0);
    CHECK_EQ(pf_recv(ends[0], &packet, body, sizeof body, 0, false, 0), 1);
    CHECK_EQ(packet.msg.type, PF_FAILED);
    CHECK_EQ(packet.msg.a, EBADMSG);
    CHECK(strcmp(body, "read plan") == 0);
    CHECK_EQ(receive(host.control).a, 111 << 8);
    close(ends[0]);
    close(ends[1]);
    close_host(&host);
}

static void wrong_messages_are_refused(void)
{
    struct host host = open_host();
    const uint32_t types[] = {PF_TEMPLATE, PF_ADOPT, PF_HELLO, 4711};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        tell(&host, types[i], 77, 0);
        struct pf_msg failed = receive(host.control);
        CHECK_EQ(failed.type, PF_FAILED);
        CHECK_EQ(failed.token, 77);
    }
    CHECK_EQ(send(host.control, "short", 5, 0), 5);
    tell(&host, PF_SYNC, 4711, 0);
    tell(&host, PF_DROP, 4711, 0);
    tell(&host, PF_ADOPTED, 4711, 1);
    tell(&host, PF_ADOPTED, 4711, -1);
    close(start(&host, EXITS, -1)); /* and it still works */
    CHECK_EQ(receive(host.control).a, 7 << 8);
    close_host(&host);
}

/* More reports than the socket takes: none is lost, none comes twice, and the warden is never stuck. */
static void a_host_that_does_not_read_loses_nothing(void)
{
    enum { MANY = 600 };
    static bool seen[1 << 22];
    struct host host = open_host();
    for (int i = 0; i < MANY; i++)
        close(start(&host, EXITS, -1));
    struct pf_log log;
    int pipe = announce(&host, 1, &log);
    uint32_t request = pf_log_sync_request(&log);
    tell(&host, PF_SYNC, 1, 0);
    CHECK_EQ(pf_log_sync_wait(&log, request, 60000000000), 0);
    for (int i = 0; i < MANY; i++) {
        struct pf_msg report = receive(host.control);
        CHECK_EQ(report.type, PF_EXIT);
        CHECK(!seen[report.token]);
        seen[report.token] = true;
    }
    CHECK(is_quiet(host.control, 20));
    close(pipe);
    pf_log_unmap(&log);
    close_host(&host);
}

static void the_end_of_the_host_ends_everything(void)
{
    struct host host = open_host();
    struct pf_log log;
    int doorbell, template = start(&host, FORKS, -1), pipe = announce(&host, 9, &log);
    pid_t instance = fork_instance(template, &doorbell);
    cleanup_fd int pidfd = pf_pidfd_open(instance);
    uint64_t begin = pf_now_ns();
    close_host(&host); /* returns when the warden is dead */
    CHECK(dies(pidfd, 0));
    CHECK(pf_now_ns() - begin < 1000000000);
    close(doorbell);
    close(template);
    close(pipe);
    pf_log_unmap(&log);
}

static void the_death_of_the_warden_ends_everything(void)
{
    struct host host = open_host();
    struct pf_log log;
    int doorbell, template = start(&host, FORKS, -1), pipe = announce(&host, 9, &log);
    (void)fork_instance(template, &doorbell);
    struct pollfd ends[2] = {{.fd = template, .events = POLLIN}, {.fd = doorbell, .events = POLLIN}};
    CHECK_EQ(kill(host.warden, SIGKILL), 0);
    CHECK_EQ(waitpid(host.warden, NULL, 0), host.warden);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(poll(&ends[i], 1, 20000), 1);
        CHECK((ends[i].revents & POLLHUP) != 0);
    }
    close(host.control);
    close(doorbell);
    close(template);
    close(pipe);
    pf_log_unmap(&log);
}

static long switches(pid_t pid)
{
    char path[64], line[128];
    long count = -1, number;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &number) == 1)
            count = number;
    fclose(file);
    CHECK(count >= 0);
    return count;
}

static void an_idle_warden_sleeps(void)
{
    struct host host = open_host();
    struct pf_log log;
    int template = start(&host, WAITS, -1), pipe = announce(&host, 1, &log);
    tell(&host, PF_ADOPTED, 1, 0);
    close(pipe); /* a pipe at its end must not keep it busy */
    CHECK(is_quiet(host.control, 300));
    long before = switches(host.warden);
    CHECK(is_quiet(host.control, 1500));
    CHECK_EQ(switches(host.warden), before);
    close(template);
    pf_log_unmap(&log);
    close_host(&host);
}

int main(void)
{
    CHECK_EQ(pf_children_adopt_orphans(), 0);
    RUN(an_exit_is_reported);
    RUN(a_death_is_reported_after_its_last_words);
    RUN(a_sync_is_answered_after_the_pump);
    RUN(an_orphan_is_killed);
    RUN(an_announced_instance_is_no_orphan);
    RUN(an_old_orphan_dies_while_a_fork_is_announced);
    RUN(an_instance_that_is_given_up_is_an_orphan);
    RUN(an_instance_that_dies_unconfirmed_is_reported);
    RUN(a_plan_that_cannot_be_applied_names_its_step);
    RUN(wrong_messages_are_refused);
    RUN(a_host_that_does_not_read_loses_nothing);
    RUN(the_end_of_the_host_ends_everything);
    RUN(the_death_of_the_warden_ends_everything);
    RUN(an_idle_warden_sleeps);
    pf_children_end();
    return 0;
}
