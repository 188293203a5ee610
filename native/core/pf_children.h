/* The children that a process has right now, as the kernel lists them. Only the process that reaps them may
 * use this: until it does, none of the numbers can come to mean another process. */
#ifndef PF_CHILDREN_H
#define PF_CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Writes at most `cap` pids of this thread's children to `pids`; returns how many, or -errno (-ENOENT: the
 * kernel has no such list). */
int pf_children_list(pid_t *pids, size_t cap);

/* When a child was born, on CLOCK_BOOTTIME in ns, rounded up to the kernel's tick (10 ms); -ESRCH. */
int64_t pf_children_birth(pid_t pid);

/* Kills every child, and every orphan that comes to this process by that (it must be a subreaper), until none
 * is left. */
void pf_children_end(void);

/* Makes this process the parent of its descendants' orphans. */
int pf_children_adopt_orphans(void);

#endif
