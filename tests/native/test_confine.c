/* sanitizers: address,undefined */
#define _GNU_SOURCE
#include "check.h"
#include "pf_children.h"
#include "pf_confine.h"
#include "pf_fd.h"
#include "pf_fork.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct pf_plan plan_with(uint16_t flags)
{
    return (struct pf_plan){
        .header = {.magic = PF_PLAN_MAGIC, .version = PF_PLAN_VERSION, .flags = flags, .limits = 2},
        .limits = {{.resource = RLIMIT_CORE, .value = 0}, {.resource = RLIMIT_NOFILE, .value = 200}},
    };
}

static size_t packed_size(const struct pf_plan *plan)
{
    return sizeof plan->header + plan->header.limits * sizeof plan->limits[0];
}

static void a_plan_that_is_not_whole_is_refused(void)
{
    struct pf_plan plan = plan_with(PF_PLAN_CONFINED), read;
    struct pf_error err = {0};
    size_t size = packed_size(&plan);
    CHECK_EQ(pf_plan_read(&read, &plan, size, &err), 0);
    CHECK_EQ(read.header.limits, 2);
    CHECK_EQ(read.limits[1].value, 200);
    for (size_t len = 0; len < size; len++)
        CHECK_EQ(pf_plan_read(&read, &plan, len, &err), -EBADMSG);
    CHECK(strcmp(err.step, "read plan") == 0);
    plan.header.limits = UINT32_MAX;
    CHECK_EQ(pf_plan_read(&read, &plan, size, &err), -EBADMSG);
    plan = plan_with(0);
    plan.header.version++;
    CHECK_EQ(pf_plan_read(&read, &plan, size, &err), -EBADMSG);
}

/* Runs `body` in a child that has everything wrong that the steps put right; its exit status must be 0. */
static void in_child(void (*body)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        sigset_t all;
        sigfillset(&all);
        umask(0);
        signal(SIGUSR1, SIG_IGN);
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, &all, NULL);
        body();
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static bool only_open(int count)
{
    for (int fd = 0; fd < 256; fd++)
        if ((fcntl(fd, F_GETFD) >= 0) != (fd < count))
            return false;
    return true;
}

/* Log: a pipe. Two descriptors to keep, given in an order in which placing one would overwrite the other. */
static struct pf_place place_here(int ends[2])
{
    struct pf_place place = {.parent = getppid(), .name = "some-name", .nfds = 2, .fds = {4, 3}};
    CHECK_EQ(pipe(ends), 0);
    place.log = ends[1];
    CHECK(dup2(ends[0], 3) == 3 && dup2(ends[1], 4) == 4);
    CHECK_EQ(fcntl(0, F_DUPFD, 100), 100);
    return place;
}

static bool is_pipe_end(int fd, int mode)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == mode;
}

static void check_always(const struct pf_place *place)
{
    struct sigaction action;
    sigset_t blocked;
    int signal_at_death;
    char name[16], directory[64];
    CHECK_EQ(prctl(PR_GET_PDEATHSIG, &signal_at_death), 0);
    CHECK_EQ(signal_at_death, SIGKILL);
    CHECK_EQ(getsid(0), getpid());
    CHECK_EQ(prctl(PR_GET_NAME, name), 0);
    CHECK(strcmp(name, "some-name") == 0);
    CHECK(strcmp(getcwd(directory, sizeof directory), "/") == 0);
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    CHECK_EQ(sigismember(&blocked, SIGUSR2), 0);
    sigaction(SIGUSR1, NULL, &action);
    CHECK(action.sa_handler == SIG_DFL);
    sigaction(SIGPIPE, NULL, &action);
    CHECK(action.sa_handler == SIG_IGN);
    CHECK_EQ(place->fds[0], 3);
    CHECK_EQ(place->fds[1], 4);
    CHECK(only_open(5));
    CHECK(is_pipe_end(1, O_WRONLY) && is_pipe_end(2, O_WRONLY));
    CHECK(is_pipe_end(3, O_WRONLY) && is_pipe_end(4, O_RDONLY));
    CHECK_EQ(fcntl(1, F_GETFD), 0);
    CHECK_EQ(fcntl(3, F_GETFD), FD_CLOEXEC);
}

static void confined(void)
{
    struct pf_plan plan = plan_with(PF_PLAN_CONFINED);
    struct pf_error err = {0};
    struct rlimit limit;
    int ends[2];
    struct pf_place place = place_here(ends);
    CHECK_EQ(pf_confine_function(&plan, &place, &err), 0);
    check_always(&place);
    CHECK_EQ(umask(0), 077);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(limit.rlim_cur == 200 && limit.rlim_max == 200);
    CHECK_EQ(getrlimit(RLIMIT_CORE, &limit), 0);
    CHECK(limit.rlim_cur == 0 && limit.rlim_max == 0);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
}

static void unconfined(void)
{
    struct pf_plan plan = plan_with(0);
    struct pf_error err = {0};
    struct rlimit limit;
    int ends[2];
    struct pf_place place = place_here(ends);
    CHECK_EQ(pf_confine_function(&plan, &place, &err), 0);
    check_always(&place);
    CHECK_EQ(umask(0), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(limit.rlim_max != 200);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

/* What user code can have undone in init is done again. */
static void confined_again(void)
{
    struct pf_plan plan = plan_with(PF_PLAN_CONFINED);
    struct pf_error err = {0};
    int ends[2], signal_at_death;
    struct pf_place place = place_here(ends);
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_PDEATHSIG, 0);
    CHECK_EQ(pf_confine_instance(&plan, &place, &err), 0);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK_EQ(prctl(PR_GET_PDEATHSIG, &signal_at_death), 0);
    CHECK_EQ(signal_at_death, SIGKILL);
    CHECK_EQ(getsid(0), getpid());
    CHECK(only_open(5));
}

static void stops_at_the_wrong_parent(void)
{
    struct pf_plan plan = plan_with(PF_PLAN_CONFINED);
    struct pf_error err = {0};
    struct pf_place place = {.parent = getpid(), .name = "some-name", .log = -1};
    CHECK_EQ(pf_confine_function(&plan, &place, &err), -ESRCH);
    CHECK_EQ(err.code, ESRCH);
    CHECK(strcmp(err.step, "die with parent") == 0);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0); /* and not one step further */
}

static void names_the_step_that_fails(void)
{
    struct pf_plan plan = plan_with(PF_PLAN_CONFINED);
    struct pf_error err = {0};
    struct pf_place place = {.parent = getppid(), .name = "some-name", .log = -1};
    plan.limits[0].resource = 4711;
    CHECK_EQ(pf_confine_function(&plan, &place, &err), -EINVAL);
    CHECK(strcmp(err.step, "set limits") == 0);
}

/* ---- the sibling fork ---- */

static void check_sibling(const struct pf_fork *how)
{
    pthread_mutex_t mutex;
    pthread_mutexattr_t recursive;
    int *address = NULL;
    CHECK_EQ(*how->tid, syscall(SYS_gettid));
    CHECK_EQ(prctl(40 /* PR_GET_TID_ADDRESS */, &address, 0, 0, 0), 0);
    CHECK(address == how->tid);
    void *head = NULL;
    size_t len = 0;
    CHECK_EQ(syscall(SYS_get_robust_list, 0, &head, &len), 0);
    CHECK(head == how->robust_list);
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&mutex, &recursive);
    CHECK_EQ(pthread_mutex_lock(&mutex), 0);
    CHECK_EQ(pthread_mutex_lock(&mutex), EDEADLK);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void a_sibling_is_the_grandparents_child(void)
{
    int status;
    pid_t self = getpid(), middle = fork();
    if (middle == 0) {
        struct pf_fork how;
        CHECK_EQ(pf_fork_prepare(&how), 0);
        pid_t sibling = pf_fork_sibling(&how);
        if (sibling == 0) {
            check_sibling(&how);
            CHECK_EQ(getppid(), self);
            raise(SIGTERM); /* of itself, not of the process that it was copied from */
        }
        CHECK(sibling > 0);
        CHECK_EQ(waitpid(sibling, NULL, 0), -1);
        _exit(0);
    }
    for (int i = 0; i < 2; i++) {
        pid_t pid = waitpid(-1, &status, 0);
        CHECK(pid > 0);
        CHECK_EQ(status, pid == middle ? 0 : SIGTERM);
    }
    CHECK_EQ(waitpid(-1, NULL, 0), -1);
}

/* ---- children ---- */

/* A tree of three generations whose processes do not care for SIGTERM. */
static _Noreturn void grow(void)
{
    signal(SIGTERM, SIG_IGN);
    for (int depth = 0, left = 2; depth < 3 && left > 0; left--)
        if (fork() == 0)
            depth++, left = 3;
    for (;;)
        pause();
}

static void ends_a_tree(void)
{
    pid_t pids[8];
    CHECK_EQ(pf_children_adopt_orphans(), 0);
    CHECK_EQ(pf_children_list(pids, 8), 0);
    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            grow();
    CHECK_EQ(pf_children_list(pids, 8), 3);
    CHECK_EQ(pf_children_list(pids, 2), 2);
    pf_children_end();
    CHECK_EQ(pf_children_list(pids, 8), 0);
    CHECK_EQ(waitpid(-1, NULL, 0), -1);
}

/* More pids than one read of the list returns. */
static void lists_many(void)
{
    static pid_t pids[2000];
    for (int i = 0; i < 900; i++)
        if (fork() == 0)
            for (;;)
                pause();
    CHECK_EQ(pf_children_list(pids, 2000), 900);
    for (int i = 0; i < 900; i++)
        CHECK_EQ(pf_parent_of(pids[i]), getpid());
    pf_children_end();
}

static void every_step_is_taken(void)
{
    in_child(confined);
}
static void without_isolation_only_what_is_needed(void)
{
    in_child(unconfined);
}
static void an_instance_is_confined_again(void)
{
    in_child(confined_again);
}
static void a_wrong_parent_stops_it(void)
{
    in_child(stops_at_the_wrong_parent);
}
static void a_failing_step_is_named(void)
{
    in_child(names_the_step_that_fails);
}
static void a_tree_is_killed_to_the_last(void)
{
    in_child(ends_a_tree);
}
static void many_children_are_listed(void)
{
    in_child(lists_many);
}

int main(void)
{
    RUN(a_plan_that_is_not_whole_is_refused);
    RUN(every_step_is_taken);
    RUN(without_isolation_only_what_is_needed);
    RUN(an_instance_is_confined_again);
    RUN(a_wrong_parent_stops_it);
    RUN(a_failing_step_is_named);
    RUN(a_sibling_is_the_grandparents_child);
    RUN(a_tree_is_killed_to_the_last);
    RUN(many_children_are_listed);
    return 0;
}
