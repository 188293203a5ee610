#define _GNU_SOURCE
#include "pf_fork.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

int pf_fork_prepare(struct pf_fork *fork)
{
    if (prctl(PR_GET_TID_ADDRESS, &fork->tid, 0, 0, 0) != 0)
        return -errno;
    if (fork->tid == NULL || *fork->tid != (int)syscall(SYS_gettid))
        return -ENOTSUP; /* not the layout that we know */
    if (syscall(SYS_get_robust_list, 0, &fork->robust_list, &fork->robust_len) != 0)
        return -errno;
    return 0;
}

/* CLONE_PARENT|SIGCHLD and nothing else: the filter that functions run under will let exactly this pass. What
 * CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID would have done for the C library is made up for afterwards;
 * without it abort() and recursive mutexes in the child would act on the parent's thread id. */
pid_t pf_fork_sibling(const struct pf_fork *fork)
{
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        *fork->tid = (int)syscall(SYS_gettid);
        syscall(SYS_set_tid_address, fork->tid);
        syscall(SYS_set_robust_list, fork->robust_list, fork->robust_len);
    }
    return (pid_t)pid;
}
