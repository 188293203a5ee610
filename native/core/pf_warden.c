#define _GNU_SOURCE
#include "pf_warden.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "pf_children.h"
#include "pf_confine.h"
#include "pf_log.h"

enum {
    LOGS_MAX = 8192,     /* processes of one version at a time; the host's limits are far below */
    PIDS_MAX = 4 << 20,  /* the kernel's own bound on pid numbers */
    CHILDREN_MAX = 4096, /* looked at in one sweep; more wait for the next */
    REAPED_MAX =
        256, /* per turn of the loop, so that a flood of deaths cannot keep the host's messages waiting */
    MESSAGES_MAX = 64, /* the same the other way round */
    ANNOUNCED_S = 10,  /* after this an announcement counts as forgotten by the host */
    RETRY_MS = 200,    /* only while there is a child of which it is not certain what it is */
};

enum source { FROM_CONTROL = -1, FROM_SIGNALS = -2 }; /* otherwise the index of a log */

struct log_slot {
    struct pf_log ring;
    uint64_t id;
    int64_t announced; /* not before this time; 0 once the process is known */
    pid_t pid;         /* 0: not known yet */
    int pipe;          /* -1: at its end */
    bool used;
};

struct pf_warden {
    int control, signals, poll;
    pid_t pid;
    int64_t caught_up; /* when all messages had been read: one that comes now was sent after that */
    bool sweep_due;
    bool reap_due;    /* there may be more dead children */
    bool host_busy;   /* its socket was full: wait until it takes messages again */
    size_t logs_used; /* slots from here on have never been used */
    uint8_t known[PIDS_MAX / 8];
    struct log_slot logs[LOGS_MAX];
};

static bool is_known(const struct pf_warden *w, pid_t pid)
{
    return pid > 0 && pid < PIDS_MAX && (w->known[pid / 8] >> (pid % 8) & 1) != 0;
}

static void set_known(struct pf_warden *w, pid_t pid, bool known)
{
    if (pid <= 0 || pid >= PIDS_MAX)
        return;
    uint8_t bit = (uint8_t)(1u << (pid % 8));
    w->known[pid / 8] = known ? w->known[pid / 8] | bit : w->known[pid / 8] & (uint8_t)~bit;
}

static int watch(struct pf_warden *w, int operation, int fd, uint32_t events, int64_t source)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)source};
    return epoll_ctl(w->poll, operation, fd, &event) != 0 ? -errno : 0;
}

/* ---- logs ---- */

static struct log_slot *find_log(struct pf_warden *w, uint64_t id)
{
    for (size_t i = 0; i < w->logs_used; i++)
        if (w->logs[i].used && w->logs[i].id == id)
            return &w->logs[i];
    return NULL;
}

static struct log_slot *free_log(struct pf_warden *w)
{
    for (size_t i = 0; i < w->logs_used; i++)
        if (!w->logs[i].used)
            return &w->logs[i];
    return w->logs_used < LOGS_MAX ? &w->logs[w->logs_used++] : NULL;
}

static void pump(struct pf_warden *w, struct log_slot *slot)
{
    if (!slot->used || slot->pipe < 0)
        return;
    if (pf_log_pump(&slot->ring, slot->pipe) > 0)
        return;
    watch(w, EPOLL_CTL_DEL, slot->pipe, 0, 0);
    pf_fd_close(&slot->pipe);
}

static void drop(struct pf_warden *w, struct log_slot *slot)
{
    if (slot->pipe >= 0)
        watch(w, EPOLL_CTL_DEL, slot->pipe, 0, 0);
    pf_fd_close(&slot->pipe);
    pf_log_unmap(&slot->ring);
    slot->used = false;
}

static int adopt(struct pf_warden *w, struct pf_packet *packet)
{
    if (packet->nfds != 2 || find_log(w, packet->msg.token) != NULL)
        return -EINVAL;
    struct log_slot *slot = free_log(w);
    if (slot == NULL)
        return -ENOSPC;
    int rc = pf_log_map(&slot->ring, packet->fds[1]);
    if (rc != 0)
        return rc;
    slot->id = packet->msg.token;
    slot->pid = 0;
    slot->announced = w->caught_up;
    slot->used = true;
    slot->pipe = pf_fd_take(&packet->fds[0]);
    rc = fcntl(slot->pipe, F_SETFL, O_NONBLOCK) != 0 ? -errno : 0;
    if (rc == 0)
        rc = watch(w, EPOLL_CTL_ADD, slot->pipe, EPOLLIN, slot - w->logs);
    if (rc != 0)
        drop(w, slot);
    return rc;
}

/* ---- children ---- */

/* A pid that the host names counts only if it is a child of ours now: it may be long dead, and its number
 * another's. */
static void adopted(struct pf_warden *w, const struct pf_msg *msg)
{
    siginfo_t info;
    struct log_slot *slot = find_log(w, msg->token);
    if (slot != NULL) {
        slot->announced = 0;
        slot->pid = (pid_t)msg->a;
    }
    if (msg->a > 0 && waitid(P_PID, (id_t)msg->a, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        set_known(w, msg->a, true);
}

/* Everything that the dead process wrote is in the ring before its death is reported. */
static void pump_of(struct pf_warden *w, pid_t pid)
{
    bool found = false;
    for (size_t i = 0; i < w->logs_used; i++) {
        if (!w->logs[i].used || w->logs[i].pid != pid)
            continue;
        pump(w, &w->logs[i]);
        found = true;
    }
    for (size_t i = 0; !found && i < w->logs_used; i++)
        pump(w, &w->logs[i]);
}

/* Nothing that is announced and not confirmed was born before this; INT64_MAX when nothing is. */
static int64_t oldest_announcement(const struct pf_warden *w)
{
    int64_t oldest = INT64_MAX, forgotten = pf_boottime() - (int64_t)ANNOUNCED_S * 1000000000;
    for (size_t i = 0; i < w->logs_used; i++) {
        const struct log_slot *slot = &w->logs[i];
        if (slot->used && slot->announced > forgotten && slot->announced < oldest)
            oldest = slot->announced;
    }
    return oldest;
}

static bool unread_messages(const struct pf_warden *w)
{
    int bytes = 0;
    return ioctl(w->control, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* The exit is reported while the child is still a zombie, and only then reaped: a report that does not fit
 * into the host's socket is not lost, and no queue is needed. False: the socket is full. */
static bool report(struct pf_warden *w, const siginfo_t *info, const struct rusage *usage)
{
    pump_of(w, info->si_pid);
    int status = info->si_code == CLD_EXITED
                     ? W_EXITCODE(info->si_status & 0xff, 0)
                     : info->si_status | (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
    struct pf_msg msg = {.type = PF_EXIT,
                         .a = status,
                         .token = (uint64_t)info->si_pid,
                         .b = (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
                              usage->ru_utime.tv_usec + usage->ru_stime.tv_usec,
                         .c = usage->ru_maxrss};
    return pf_send(w->control, &msg, NULL, 0, NULL, 0, MSG_DONTWAIT) != -EAGAIN;
}

/* Nobody is interested in the death of an orphan. A child that is not known may also be an instance that was
 * quicker than its announcement. */
static void reap(struct pf_warden *w)
{
    w->reap_due = false;
    for (int i = 0; i < REAPED_MAX; i++) {
        siginfo_t info = {.si_pid = 0};
        struct rusage usage;
        long rc = syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, &usage);
        if (rc != 0 || info.si_pid == 0)
            return;
        bool interesting = is_known(w, info.si_pid) || oldest_announcement(w) < INT64_MAX;
        if (!interesting && unread_messages(w))
            break;
        if (interesting && !report(w, &info, &usage)) {
            w->host_busy = true;
            watch(w, EPOLL_CTL_MOD, w->control, EPOLLIN | EPOLLOUT, FROM_CONTROL);
            return;
        }
        waitpid(info.si_pid, NULL, __WALL);
        set_known(w, info.si_pid, false);
        w->sweep_due = true;
    }
    w->reap_due = true;
}

/* The host announces an instance before it asks for the fork. So if nothing is unread *after* the children
 * were listed, every announcement for them has been read; and if something is, it was sent after we had last
 * caught up. */
static void sweep(struct pf_warden *w)
{
    pid_t pids[CHILDREN_MAX];
    int count = pf_children_list(pids, CHILDREN_MAX);
    int64_t certain = oldest_announcement(w);
    if (unread_messages(w) && w->caught_up < certain)
        certain = w->caught_up;
    w->sweep_due = false;
    for (int i = 0; i < count; i++) {
        if (is_known(w, pids[i]))
            continue;
        if (certain == INT64_MAX || pf_children_birth(pids[i]) < certain)
            kill(pids[i], SIGKILL); /* its death makes the next sweep due */
        else
            w->sweep_due = true;
    }
}

/* ---- the loop ---- */

static void refuse(struct pf_warden *w, struct pf_packet *packet, int code, const char *step)
{
    pf_packet_close(packet);
    pf_send_failed(w->control, packet->msg.token, code, step, NULL);
}

static void synchronise(struct pf_warden *w, uint64_t id)
{
    struct log_slot *slot = find_log(w, id);
    if (slot == NULL)
        return;
    uint32_t request = pf_log_sync_pending(&slot->ring);
    pump(w, slot);
    pf_log_sync_ack(&slot->ring, request);
}

/* 1: it asks for a template; 0: done with. */
static int obey(struct pf_warden *w, struct pf_order *order)
{
    struct pf_packet *packet = &order->packet;
    struct log_slot *slot;
    int rc = 0;
    switch (packet->msg.type) {
    case PF_TEMPLATE:
        if (packet->nfds == 4 || packet->nfds == 6)
            return 1;
        refuse(w, packet, EINVAL, "start template");
        return 0;
    case PF_ADOPT:
        rc = adopt(w, packet);
        if (rc != 0)
            refuse(w, packet, -rc, "adopt log");
        break;
    case PF_ADOPTED:
        adopted(w, &packet->msg);
        break;
    case PF_SYNC:
        synchronise(w, packet->msg.token);
        break;
    case PF_DROP:
        slot = find_log(w, packet->msg.token);
        if (slot != NULL)
            drop(w, slot);
        w->sweep_due = true; /* the announced process may be here without ever having said so */
        break;
    default:
        refuse(w, packet, EBADMSG, "read message");
    }
    pf_packet_close(packet);
    return 0;
}

/* 1: a template is wanted; 0: nothing more for now; -ENOTCONN: the host is gone. */
static int read_control(struct pf_warden *w, struct pf_order *order)
{
    for (int i = 0; i < MESSAGES_MAX; i++) {
        int64_t before = pf_boottime();
        int rc = pf_recv(w->control, &order->packet, order->body, sizeof order->body, PF_FDS_MAX, false,
                         MSG_DONTWAIT);
        if (rc == -EAGAIN) {
            w->caught_up = before;
            return 0;
        }
        if (rc == -EPROTO || rc == -ENOMEM)
            continue;
        if (rc <= 0)
            return -ENOTCONN;
        if (obey(w, order) != 0)
            return 1;
    }
    return 0;
}

static void read_signals(struct pf_warden *w)
{
    struct signalfd_siginfo info;
    while (read(w->signals, &info, sizeof info) > 0)
        w->reap_due = true;
}

static int turn(struct pf_warden *w, struct pf_order *order)
{
    struct epoll_event events[64];
    int timeout = w->reap_due && !w->host_busy ? 0 : w->sweep_due ? RETRY_MS : -1;
    int count = epoll_wait(w->poll, events, 64, timeout);
    bool control = false;
    for (int i = 0; i < count; i++) {
        int64_t source = (int64_t)events[i].data.u64;
        if (source == FROM_CONTROL) {
            control = true;
            if (w->host_busy && (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
                w->host_busy = false;
                w->reap_due = true;
                watch(w, EPOLL_CTL_MOD, w->control, EPOLLIN, FROM_CONTROL);
            }
        } else if (source == FROM_SIGNALS) {
            read_signals(w);
        } else {
            pump(w, &w->logs[source]);
        }
    }
    int rc = control ? read_control(w, order) : 0;
    if (w->reap_due && !w->host_busy)
        reap(w);
    if (w->sweep_due && rc >= 0)
        sweep(w);
    return rc;
}

int pf_warden_run(struct pf_warden *warden, struct pf_order *order)
{
    int rc;
    do
        rc = turn(warden, order);
    while (rc == 0);
    if (rc > 0)
        return 1;
    pf_children_end();
    return 0;
}

/* ---- the fork of a template ---- */

void pf_warden_forked(struct pf_warden *warden, struct pf_order *order, pid_t pid)
{
    struct log_slot *slot = find_log(warden, (uint64_t)order->packet.msg.b);
    if (slot != NULL) { /* its log was announced, too, but needs no confirmation */
        slot->announced = 0;
        slot->pid = pid;
    }
    if (pid > 0) {
        set_known(warden, pid, true);
        pf_packet_close(&order->packet);
    } else {
        refuse(warden, &order->packet, (int)-pid, "fork template");
    }
}

int pf_warden_child(struct pf_warden *warden, struct pf_order *order)
{
    struct pf_error err = {0};
    struct pf_plan plan;
    struct pf_place place = {.parent = warden->pid, .name = "pyfaas-tmpl", .log = order->packet.fds[3]};
    place.fds[place.nfds++] = order->packet.fds[0];
    place.fds[place.nfds++] = order->packet.fds[1];
    place.fds[place.nfds++] = order->packet.fds[2];
    if (order->packet.nfds == 6) {
        place.fds[place.nfds++] = order->packet.fds[4];
        place.fds[place.nfds++] = order->packet.fds[5];
    }
    pf_warden_close(warden);
    int rc = pf_plan_read(&plan, order->body, order->packet.body_len, &err);
    if (rc == 0)
        rc = pf_confine_function(&plan, &place, &err);
    if (rc != 0) {
        pf_send_failed(place.fds[0], order->packet.msg.token, err.code, err.step, err.detail);
        return rc;
    }
    order->packet.nfds = place.nfds;
    memcpy(order->packet.fds, place.fds, sizeof place.fds);
    return 0;
}

/* ---- its own beginning and end ---- */

static int open_loop(struct pf_warden *w, struct pf_error *err)
{
    sigset_t all, child;
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    sigfillset(&all);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &all, NULL); /* nothing short of SIGKILL or SIGSTOP disturbs it */
    if (sigaction(SIGCHLD, &action, NULL) != 0)
        return pf_fail(err, errno, "warden signals", NULL);
    w->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signals < 0)
        return pf_fail(err, errno, "warden signals", NULL);
    w->poll = epoll_create1(EPOLL_CLOEXEC);
    if (w->poll < 0)
        return pf_fail(err, errno, "warden loop", NULL);
    int rc = watch(w, EPOLL_CTL_ADD, w->control, EPOLLIN, FROM_CONTROL);
    if (rc == 0)
        rc = watch(w, EPOLL_CTL_ADD, w->signals, EPOLLIN, FROM_SIGNALS);
    return rc != 0 ? pf_fail(err, rc, "warden loop", NULL) : 0;
}

static int prepare(struct pf_warden *w, pid_t parent, struct pf_error *err)
{
    struct pf_place place = {
        .parent = parent, .name = "pyfaas-warden", .log = -1, .nfds = 1, .fds = {w->control}};
    pid_t child;
    int rc = pf_confine_die_with_parent(parent);
    if (rc != 0)
        return pf_fail(err, rc, "die with parent", place.name);
    prctl(PR_SET_NAME, place.name, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* functions of the same user must not read or trace it */
    rc = pf_confine_descriptors(&place);
    if (rc != 0)
        return pf_fail(err, rc, "close descriptors", place.name);
    w->control = place.fds[0];
    rc = pf_children_adopt_orphans();
    if (rc != 0)
        return pf_fail(err, rc, "adopt orphans", place.name);
    rc = pf_children_list(&child, 1);
    if (rc < 0)
        return pf_fail(err, rc, "list children", "/proc/thread-self/children");
    return open_loop(w, err);
}

int pf_warden_open(struct pf_warden **out, int control, pid_t parent, struct pf_error *err)
{
    struct pf_warden *w =
        mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w == MAP_FAILED)
        return pf_fail(err, errno, "warden memory", NULL);
    w->control = control;
    w->signals = w->poll = -1;
    w->pid = getpid();
    w->caught_up = pf_boottime();
    int rc = prepare(w, parent, err);
    if (rc != 0) {
        pf_send_failed(w->control, 0, err->code, err->step, err->detail);
        pf_warden_close(w);
        return rc;
    }
    struct pf_msg hello = {.type = PF_HELLO, .a = PF_WARDEN, .token = (uint64_t)w->pid};
    pf_send(w->control, &hello, NULL, 0, NULL, 0, MSG_DONTWAIT);
    *out = w;
    return 0;
}

pid_t pf_warden_pid(const struct pf_warden *warden)
{
    return warden->pid;
}

void pf_warden_close(struct pf_warden *warden)
{
    pf_fd_close(&warden->control);
    pf_fd_close(&warden->signals);
    pf_fd_close(&warden->poll);
    for (size_t i = 0; i < warden->logs_used; i++) {
        pf_fd_close(&warden->logs[i].pipe);
        warden->logs[i].ring.header = NULL; /* in a forked child there is no mapping */
    }
    munmap(warden, sizeof *warden);
}
