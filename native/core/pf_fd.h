/* Descriptors: ownership in the declaration, sealed memory files, sockets that carry messages, pidfds.
 *
 * Every function returns 0 or a descriptor or a count (>= 0), or a negative errno. Every descriptor is
 * close-on-exec. */
#ifndef PF_FD_H
#define PF_FD_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "pf_control.h"

static inline void pf_fd_close(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
        *fd = -1;
    }
}

/* `cleanup_fd int fd = -1;` closes fd at the end of the scope; `return pf_fd_take(&fd);` hands it on instead.
 */
#define cleanup_fd __attribute__((cleanup(pf_fd_close)))

static inline int pf_fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* A zeroed memory file of `size` bytes that nobody can resize, nor unseal. Writable by every holder. */
int pf_memfd_sealed(const char *name, size_t size);

/* A memory file with these bytes, which nobody can change any more. */
int pf_memfd_data(const char *name, const void *data, size_t len);

/* 0 when `fd` is a memory file with at least these seals (F_SEAL_*); *size (may be NULL) is then final if
 * SHRINK and GROW are among them. -EPERM when one is missing, -EINVAL when it is no memory file. */
int pf_memfd_check(int fd, int seals, size_t *size);

/* Two connected SOCK_SEQPACKET ends. */
int pf_socketpair(int ends[2]);

/* Lets the kernel state the sender's pid with each message that arrives on `fd`. Set before the first one is
 * sent. */
int pf_pass_creds(int fd);

/* One datagram: `len` of its bytes in `buf`, *pid = its sender as the kernel sees it (0: unknown; pass_creds
 * not set). No descriptor is ever accepted. 0 means that the peer is gone (an empty datagram counts as that).
 * -EPROTO: the datagram was longer than `cap` or had descriptors with it, which the kernel has dropped.
 * `flags` as of recvmsg (MSG_DONTWAIT). */
ssize_t pf_recv_creds(int fd, void *buf, size_t cap, pid_t *pid, int flags);

/* Sends one message. `body` may be NULL if body_len is 0; descriptors are borrowed. Never raises SIGPIPE. */
int pf_send(int fd, const struct pf_msg *msg, const void *body, size_t body_len, const int *fds, int nfds,
            int flags);

struct pf_packet {
    struct pf_msg msg;
    size_t body_len;
    int nfds;
    int fds[PF_FDS_MAX]; /* owned by the packet until they are taken */
    pid_t pid;           /* 0 when not asked for */
};

/* Receives one message; at most `max_fds` descriptors, none is accepted beyond. 1: a message; 0: the peer is
 * gone; -EPROTO: not a message of ours (any descriptors are closed); -EAGAIN and others as of recvmsg. */
int pf_recv(int fd, struct pf_packet *packet, void *body, size_t cap, int max_fds, bool creds, int flags);

/* Closes what is left in the packet; idempotent. */
void pf_packet_close(struct pf_packet *packet);

/* PF_FAILED: `code` is a positive errno. Best effort, never blocks. */
int pf_send_failed(int fd, uint64_t token, int code, const char *step, const char *detail);

int pf_pidfd_open(pid_t pid);
int pf_pidfd_kill(int pidfd, int signal);

/* The parent's pid as /proc says, or -ESRCH. Meaningful while a pidfd proves that `pid` has not been reused.
 */
pid_t pf_parent_of(pid_t pid);

/* Whether it has not begun to exit, which it does before its descriptors are closed. False when in doubt. */
bool pf_is_running(pid_t pid);

/* Time in nanoseconds by CLOCK_BOOTTIME, on which the kernel counts births; the other clock: pf_clock.h. */
int64_t pf_boottime(void);

#endif
