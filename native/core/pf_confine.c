#define _GNU_SOURCE
#include "pf_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pf_fd.h"

int pf_plan_read(struct pf_plan *plan, const void *packed, size_t len, struct pf_error *err)
{
    memset(plan, 0, sizeof *plan);
    if (len < sizeof plan->header)
        return pf_fail(err, EBADMSG, "read plan", "shorter than its header");
    memcpy(&plan->header, packed, sizeof plan->header);
    if (plan->header.magic != PF_PLAN_MAGIC || plan->header.version != PF_PLAN_VERSION)
        return pf_fail(err, EBADMSG, "read plan", "made by another version of pyfaas");
    size_t bytes = plan->header.limits * sizeof plan->limits[0];
    if (plan->header.limits > PF_PLAN_LIMITS_MAX || len != sizeof plan->header + bytes)
        return pf_fail(err, EBADMSG, "read plan", "its length does not fit its contents");
    memcpy(plan->limits, (const char *)packed + sizeof plan->header, bytes);
    return 0;
}

/* The parent may have died before the request was made: then it never comes, hence the check after it. */
int pf_confine_die_with_parent(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

/* The C library hides its own two signals from sigaction. Whoever started the host may have them ignored. */
static void reset_hidden(int number)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {.handler = NULL};
    syscall(SYS_rt_sigaction, number, NULL, &action, sizeof action.mask);
    if (action.handler != (void *)SIG_IGN)
        return;
    memset(&action, 0, sizeof action);
    syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask);
}

/* SIGPIPE and SIGXFSZ stay ignored: Python makes exceptions of them. */
void pf_confine_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action = {.sa_handler = number == SIGPIPE || number == SIGXFSZ ? SIG_IGN : SIG_DFL};
        if (sigaction(number, &action, NULL) != 0) /* KILL and STOP have nothing to reset */
            reset_hidden(number);
    }
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Out of the way first, then down to the wanted numbers: no order of the old numbers can overwrite one that
 * is still needed. */
int pf_confine_descriptors(struct pf_place *place)
{
    enum { away = 64 };
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    int high[3 + PF_FDS_MAX] = {null, place->log >= 0 ? place->log : null,
                                place->log >= 0 ? place->log : null};
    int count = 3 + place->nfds;
    for (int i = 0; i < place->nfds; i++)
        high[3 + i] = place->fds[i];
    for (int i = 0; i < count; i++) {
        high[i] = fcntl(high[i], F_DUPFD_CLOEXEC, away);
        if (high[i] < 0)
            return -errno;
    }
    null = -1; /* every old number is about to be closed or overwritten */
    for (int i = 0; i < count; i++)
        if (dup3(high[i], i, i < 3 ? 0 : O_CLOEXEC) < 0)
            return -errno;
    for (int i = 0; i < place->nfds; i++)
        place->fds[i] = 3 + i;
    return syscall(SYS_close_range, count, ~0u, 0) != 0 ? -errno : 0;
}

static int step_umask(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan, (void)place;
    umask(077);
    return 0;
}

static int step_signals(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan, (void)place;
    pf_confine_signals();
    return 0;
}

static int step_parent(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan;
    return pf_confine_die_with_parent(place->parent);
}

/* Its own session and process group: a signal to "my group" stays with the function. */
static int step_session(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan, (void)place;
    return setsid() < 0 ? -errno : 0;
}

static int step_descriptors(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan;
    return pf_confine_descriptors(place);
}

static int step_directory(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan, (void)place;
    return chdir("/") != 0 ? -errno : 0;
}

static int step_name(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan;
    return prctl(PR_SET_NAME, place->name, 0, 0, 0) != 0 ? -errno : 0;
}

static int step_limits(const struct pf_plan *plan, struct pf_place *place)
{
    (void)place;
    for (uint32_t i = 0; i < plan->header.limits; i++) {
        struct rlimit have, want;
        int resource = (int)plan->limits[i].resource;
        if (getrlimit(resource, &have) != 0)
            return -errno;
        want.rlim_max = plan->limits[i].value < have.rlim_max ? (rlim_t)plan->limits[i].value : have.rlim_max;
        want.rlim_cur = want.rlim_max;
        if (setrlimit(resource, &want) != 0)
            return -errno;
    }
    return 0;
}

/* No core file, and nobody of the same user can attach or read the memory. */
static int step_dumpable(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan, (void)place;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ? -errno : 0;
}

static int step_privileges(const struct pf_plan *plan, struct pf_place *place)
{
    (void)plan, (void)place;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ? -errno : 0;
}

struct step {
    const char *name;
    int (*apply)(const struct pf_plan *plan, struct pf_place *place);
    bool always; /* needed in order to work at all, also with isolation="none" */
};

/* One step, one line. */
/* clang-format off */
/* Once per function, by trusted code. The order is that of docs/design: what needs rights comes before what
 * gives them up. */
static const struct step function_steps[] = {
    {"set umask", step_umask, false},
    {"reset signals", step_signals, true},
    {"die with parent", step_parent, true},
    {"own session", step_session, true},
    {"close descriptors", step_descriptors, true},
    {"change directory", step_directory, true},
    {"set name", step_name, true},
    {"set limits", step_limits, false},
    {"not dumpable", step_dumpable, false},
    {"no new privileges", step_privileges, false},
};

/* Once per instance. What user code in init may have undone is done again. */
static const struct step instance_steps[] = {
    {"die with parent", step_parent, true},
    {"own session", step_session, true},
    {"close descriptors", step_descriptors, true},
    {"set name", step_name, true},
    {"not dumpable", step_dumpable, false},
};
/* clang-format on */

static int apply(const struct step *steps, size_t count, const struct pf_plan *plan, struct pf_place *place,
                 struct pf_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!steps[i].always && (plan->header.flags & PF_PLAN_CONFINED) == 0)
            continue;
        int rc = steps[i].apply(plan, place);
        if (rc != 0)
            return pf_fail(err, rc, steps[i].name, place->name);
    }
    return 0;
}

int pf_confine_function(const struct pf_plan *plan, struct pf_place *place, struct pf_error *err)
{
    return apply(function_steps, sizeof function_steps / sizeof *function_steps, plan, place, err);
}

int pf_confine_instance(const struct pf_plan *plan, struct pf_place *place, struct pf_error *err)
{
    return apply(instance_steps, sizeof instance_steps / sizeof *instance_steps, plan, place, err);
}
