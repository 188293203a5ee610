#define _GNU_SOURCE
#include "pf_children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pf_fd.h"

int pf_children_adopt_orphans(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 ? -errno : 0;
}

int pf_children_list(pid_t *pids, size_t cap)
{
    cleanup_fd int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char text[4096];
    size_t count = 0;
    pid_t pid = 0; /* the number that is being read; it may go on in the next chunk */
    for (;;) {
        ssize_t n = read(fd, text, sizeof text);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid != 0) {
                if (count < cap)
                    pids[count++] = pid;
                pid = 0;
            }
        }
    }
    if (pid != 0 && count < cap)
        pids[count++] = pid;
    return (int)count;
}

int64_t pf_children_birth(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return -ESRCH;
    text[n] = '\0';
    const char *field =
        strrchr(text, ')'); /* field 2, the name, is the process's own choice; field 22 is wanted */
    for (int i = 2; i < 22 && field != NULL; i++)
        field = strchr(field + 1, ' ');
    long ticks = sysconf(_SC_CLK_TCK);
    if (field == NULL || ticks <= 0)
        return -ESRCH;
    return ((int64_t)strtoull(field, NULL, 10) + 1) * (1000000000 / ticks);
}

/* Killing goes generation by generation: what a dead child leaves behind is reparented to this process, and
 * found in the next round. A process with a pending SIGKILL cannot fork any more, so each round is final for
 * those that it has seen. */
void pf_children_end(void)
{
    pid_t pids[256];
    for (;;) {
        int count = pf_children_list(pids, sizeof pids / sizeof *pids);
        for (int i = 0; i < count; i++)
            kill(pids[i], SIGKILL);
        pid_t gone = waitpid(-1, NULL, __WALL);
        if (gone < 0 && errno == ECHILD)
            return;
        while (gone > 0)
            gone = waitpid(-1, NULL, WNOHANG | __WALL);
    }
}
