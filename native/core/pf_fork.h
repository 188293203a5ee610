/* A fork whose child is not a child of the caller but a sibling: the template makes instances that belong to
 * the warden. */
#ifndef PF_FORK_H
#define PF_FORK_H

#include <stddef.h>
#include <sys/types.h>

/* What the C library keeps per thread and a bare clone would leave wrong in the child. */
struct pf_fork {
    int *tid; /* where the C library caches the thread's id */
    void *robust_list;
    size_t robust_len;
};

/* Finds these; once per thread that wants to fork. -errno where the kernel does not tell
 * (CONFIG_CHECKPOINT_RESTORE is off). */
int pf_fork_prepare(struct pf_fork *fork);

/* 0 in the child, the child's pid in the caller, or -errno. The caller must have one thread only: no atfork
 * handler runs. */
pid_t pf_fork_sibling(const struct pf_fork *fork);

#endif
