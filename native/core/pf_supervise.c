#define _GNU_SOURCE
#include "pf_supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "pf_children.h"
#include "pf_clock.h"
#include "pf_confine.h"
#include "pf_fd.h"

enum {
    THREAD_STACK = 1 << 20, /* glibc takes the default size of threads' stacks from the limit at exec */
    BACKOFF_MS = 20,        /* before the second quick restart; doubled for each further one */
    ORPHANS_MAX = 1024,     /* looked at in one sweep */
};

struct supervisor {
    const struct pf_supervise *plan;
    int signals, poll;
    int base;       /* our end of the base's socket, -1 while there is no base */
    pid_t pid;      /* of the base, 0 while there is none */
    uint64_t since; /* when it was started */
    uint64_t again; /* when to start the next one */
    int quick;      /* quick deaths in a row */
    bool holding;   /* a message for the base that it could not take yet */
    struct pf_packet held;
    unsigned char body[PF_BODY_MAX];
};

static int watch(struct supervisor *s, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(s->poll, operation, fd, &event) != 0 ? -errno : 0;
}

/* Messages from the host are read only while there is a base that can take them; that the host is gone is
 * noticed anyway. */
static void listen_to_host(struct supervisor *s, bool on)
{
    watch(s, EPOLL_CTL_MOD, s->plan->control, on ? EPOLLIN : 0);
}

/* ---- the base ---- */

static _Noreturn void become_base(struct supervisor *s, int socket, pid_t parent)
{
    struct rlimit stack;
    struct pf_place place = {.parent = parent, .log = STDERR_FILENO, .nfds = 1, .fds = {socket}};
    if (pf_confine_die_with_parent(parent) != 0)
        _exit(111);
    if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_max >= THREAD_STACK) {
        stack.rlim_cur = THREAD_STACK; /* the base raises its own again: threads are created with 1 MB, the
                                          main thread may use more */
        setrlimit(RLIMIT_STACK, &stack);
    }
    if (pf_confine_descriptors(&place) != 0)
        _exit(111);
    fcntl(place.fds[0], F_SETFD, 0);
    pf_confine_signals();
    if (chdir("/") != 0)
        _exit(111);
    execve(s->plan->executable, s->plan->argv, s->plan->envp);
    _exit(127);
}

static int start_base(struct supervisor *s)
{
    int ends[2];
    int rc = pf_socketpair(ends);
    if (rc != 0)
        return rc;
    pid_t parent = getpid();
    s->since = pf_now_ns();
    s->pid = fork();
    if (s->pid == 0)
        become_base(s, ends[1], parent);
    if (s->pid < 0)
        rc = -errno;
    close(ends[1]);
    if (rc != 0) {
        s->pid = 0;
        close(ends[0]);
        return rc;
    }
    s->base = ends[0];
    watch(s, EPOLL_CTL_ADD, s->base, EPOLLIN);
    listen_to_host(s, true);
    return 0;
}

/* What the base had not read yet is lost with it; the host learns that from the ends of the wardens' sockets.
 */
static void forget_base(struct supervisor *s)
{
    if (s->base >= 0)
        watch(s, EPOLL_CTL_DEL, s->base, 0);
    pf_fd_close(&s->base);
    listen_to_host(s, false);
}

static void base_died(struct supervisor *s, int status)
{
    struct pf_msg msg = {.type = PF_BASE_DIED, .a = status, .token = (uint64_t)s->pid};
    uint64_t now = pf_now_ns();
    forget_base(s);
    s->pid = 0;
    s->quick = now - s->since < PF_QUICK_DEATH_NS ? s->quick + 1 : 0;
    s->again = now + (s->quick > 1 ? ((uint64_t)BACKOFF_MS << (s->quick - 2)) * 1000000 : 0);
    pf_send(s->plan->control, &msg, NULL, 0, NULL, 0, MSG_DONTWAIT);
}

/* ---- what goes through ---- */

static void pass_on(struct supervisor *s)
{
    struct pf_packet *p = &s->held;
    int rc = pf_send(s->base, &p->msg, s->body, p->body_len, p->fds, p->nfds, MSG_DONTWAIT);
    s->holding = rc == -EAGAIN;
    if (!s->holding)
        pf_packet_close(p);
    watch(s, EPOLL_CTL_MOD, s->base, s->holding ? EPOLLIN | EPOLLOUT : EPOLLIN);
    listen_to_host(s, !s->holding);
}

/* False: the host is gone. */
static bool from_host(struct supervisor *s)
{
    if (s->base < 0 || s->holding)
        return true;
    int rc = pf_recv(s->plan->control, &s->held, s->body, sizeof s->body, PF_FDS_MAX, false, MSG_DONTWAIT);
    if (rc == 0)
        return false;
    if (rc == 1)
        pass_on(s);
    return true;
}

/* A base says little (it is there; a fork failed): if the host has not read hundreds of these, one more is
 * lost. */
static void from_base(struct supervisor *s)
{
    struct pf_packet packet;
    unsigned char body[512];
    int rc = pf_recv(s->base, &packet, body, sizeof body, 0, false, MSG_DONTWAIT);
    if (rc == 1)
        pf_send(s->plan->control, &packet.msg, body, packet.body_len, NULL, 0, MSG_DONTWAIT);
    if (rc != 0)
        return;
    forget_base(s);
    kill(s->pid, SIGKILL); /* if it is not dead already: without its socket it is of no use */
}

/* Every child but the base is an orphan of a process that died. */
static void reap(struct supervisor *s)
{
    struct signalfd_siginfo info;
    pid_t pid, pids[ORPHANS_MAX];
    int status;
    while (read(s->signals, &info, sizeof info) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
        if (pid == s->pid)
            base_died(s, status);
    int count = pf_children_list(pids, ORPHANS_MAX);
    for (int i = 0; i < count; i++)
        if (pids[i] != s->pid)
            kill(pids[i], SIGKILL);
}

/* ---- the loop ---- */

static int prepare(struct supervisor *s, struct pf_error *err)
{
    sigset_t all, child;
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    prctl(PR_SET_NAME, "pyfaas-super", 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* functions of the same user must not read or trace it */
    if (setsid() < 0 && getsid(0) != getpid())
        return pf_fail(err, errno, "own session", NULL);
    int rc = pf_children_adopt_orphans();
    if (rc != 0)
        return pf_fail(err, rc, "adopt orphans", NULL);
    sigfillset(&all);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (sigaction(SIGCHLD, &action, NULL) != 0)
        return pf_fail(err, errno, "supervisor signals", NULL);
    s->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signals < 0)
        return pf_fail(err, errno, "supervisor signals", NULL);
    s->poll = epoll_create1(EPOLL_CLOEXEC);
    if (s->poll < 0)
        return pf_fail(err, errno, "supervisor loop", NULL);
    rc = watch(s, EPOLL_CTL_ADD, s->signals, EPOLLIN);
    if (rc == 0)
        rc = watch(s, EPOLL_CTL_ADD, s->plan->control, 0);
    if (rc == 0 && s->plan->host >= 0)
        rc = watch(s, EPOLL_CTL_ADD, s->plan->host, EPOLLIN);
    return rc != 0 ? pf_fail(err, rc, "supervisor loop", NULL) : 0;
}

/* 0: go on; 1: the host is gone. */
static int turn(struct supervisor *s)
{
    struct epoll_event events[8];
    int64_t wait = s->pid == 0 ? (int64_t)(s->again - pf_now_ns()) / 1000000 + 1 : -1;
    int count = epoll_wait(s->poll, events, 8, s->pid == 0 && wait < 0 ? 0 : (int)wait);
    bool gone = false, signalled = false;
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        if (fd == s->plan->host) {
            gone = true;
        } else if (fd == s->plan->control) {
            if ((events[i].events & (EPOLLHUP | EPOLLERR)) != 0 || !from_host(s))
                gone = true;
        } else if (fd == s->signals) {
            signalled = true;
        } else if (fd == s->base) {
            if ((events[i].events & (EPOLLIN | EPOLLHUP)) != 0)
                from_base(s);
            if (s->holding && s->base >= 0)
                pass_on(s);
        }
    }
    if (signalled)
        reap(s);
    return gone;
}

static int keep_base(struct supervisor *s)
{
    for (;;) {
        if (s->pid == 0 && s->quick >= PF_QUICK_DEATHS_MAX)
            return -ECHILD;
        if (s->pid == 0 && pf_now_ns() >= s->again) {
            if (s->holding)
                pf_packet_close(&s->held);
            s->holding = false;
            int rc = start_base(s);
            if (rc != 0) {
                s->quick++;
                s->again = pf_now_ns() + (uint64_t)BACKOFF_MS * 1000000;
            }
        }
        if (turn(s) != 0)
            return 0;
    }
}

int pf_supervise(const struct pf_supervise *plan, struct pf_error *err)
{
    struct supervisor s = {.plan = plan, .signals = -1, .poll = -1, .base = -1};
    int rc = prepare(&s, err);
    if (rc != 0) {
        pf_send_failed(plan->control, 0, err->code, err->step, err->detail);
        return rc;
    }
    struct pf_msg hello = {.type = PF_HELLO, .a = PF_SUPERVISOR, .token = (uint64_t)getpid()};
    pf_send(plan->control, &hello, NULL, 0, NULL, 0, MSG_DONTWAIT);
    rc = keep_base(&s);
    if (rc != 0)
        pf_send_failed(plan->control, 0, -rc, "keep base alive", "it died too often and too soon");
    pf_children_end();
    if (s.holding)
        pf_packet_close(&s.held);
    pf_fd_close(&s.base);
    pf_fd_close(&s.signals);
    pf_fd_close(&s.poll);
    return rc;
}
