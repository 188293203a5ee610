#define _GNU_SOURCE
#include "pf_fd.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Not executable where the kernel can say so (6.3); older kernels refuse the flag with EINVAL. */
static int memfd_new(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

int pf_memfd_sealed(const char *name, size_t size)
{
    cleanup_fd int fd = memfd_new(name);
    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)size) != 0)
        return -errno;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return -errno;
    return pf_fd_take(&fd);
}

int pf_memfd_data(const char *name, const void *data, size_t len)
{
    cleanup_fd int fd = memfd_new(name);
    if (fd < 0)
        return fd;
    const char *at = data;
    for (size_t left = len; left > 0;) {
        ssize_t n = write(fd, at, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        left -= (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        return -errno;
    return pf_fd_take(&fd);
}

int pf_memfd_check(int fd, int seals, size_t *size)
{
    int have = fcntl(fd, F_GET_SEALS);
    if (have < 0)
        return -errno;
    if ((have & seals) != seals)
        return -EPERM;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    if (size != NULL)
        *size = (size_t)st.st_size;
    return 0;
}

int pf_socketpair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0 ? -errno : 0;
}

int pf_pass_creds(int fd)
{
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ? -errno : 0;
}

/* The kernel's own order: credentials first, descriptors after them. The buffer given to it has exactly the
 * room that is wanted: what does not fit is not installed in this process but dropped. */
struct ancillary {
    _Alignas(
        struct cmsghdr) char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * PF_FDS_MAX)];
};

static void take_ancillary(struct msghdr *header, struct pf_packet *packet)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
            struct ucred creds;
            memcpy(&creds, CMSG_DATA(c), sizeof creds);
            packet->pid = creds.pid;
        } else if (c->cmsg_type == SCM_RIGHTS) {
            size_t bytes = c->cmsg_len - CMSG_LEN(0);
            for (size_t i = 0; i < bytes / sizeof(int) && packet->nfds < PF_FDS_MAX; i++)
                memcpy(&packet->fds[packet->nfds++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        }
    }
}

/* Fills pid, fds and nfds of the packet. Bytes received, 0 at the end, -EPROTO after dropping all
 * descriptors. */
static ssize_t receive(int fd, struct iovec *parts, size_t count, struct pf_packet *packet, int max_fds,
                       bool creds, int flags)
{
    struct ancillary ancillary;
    size_t room = (creds ? CMSG_SPACE(sizeof(struct ucred)) : 0) +
                  (max_fds > 0 ? CMSG_LEN(sizeof(int) * (size_t)max_fds) : 0);
    struct msghdr header = {.msg_iov = parts,
                            .msg_iovlen = count,
                            .msg_control = room > 0 ? ancillary.room : NULL,
                            .msg_controllen = room};
    packet->nfds = 0;
    packet->pid = 0;
    ssize_t n;
    do
        n = recvmsg(fd, &header, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? 0 : -errno; /* a peer that died with our bytes unread is simply gone */
    if (room > 0)
        take_ancillary(&header, packet);
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        pf_packet_close(packet);
        return -EPROTO;
    }
    return n;
}

ssize_t pf_recv_creds(int fd, void *buf, size_t cap, pid_t *pid, int flags)
{
    struct pf_packet packet;
    struct iovec part = {.iov_base = buf, .iov_len = cap};
    ssize_t n = receive(fd, &part, 1, &packet, 0, true, flags);
    *pid = packet.pid;
    return n;
}

int pf_recv(int fd, struct pf_packet *packet, void *body, size_t cap, int max_fds, bool creds, int flags)
{
    if (max_fds < 0 || max_fds > PF_FDS_MAX)
        return -EINVAL;
    struct iovec parts[2] = {{.iov_base = &packet->msg, .iov_len = sizeof packet->msg},
                             {.iov_base = body, .iov_len = cap}};
    ssize_t n = receive(fd, parts, 2, packet, max_fds, creds, flags);
    packet->body_len = 0;
    if (n < 0)
        return (int)n;
    if (n == 0) {
        pf_packet_close(packet);
        return 0;
    }
    if ((size_t)n < sizeof packet->msg) {
        pf_packet_close(packet);
        return -EPROTO;
    }
    packet->body_len = (size_t)n - sizeof packet->msg;
    return 1;
}

int pf_send(int fd, const struct pf_msg *msg, const void *body, size_t body_len, const int *fds, int nfds,
            int flags)
{
    if (nfds < 0 || nfds > PF_FDS_MAX || body_len > PF_BODY_MAX)
        return -EINVAL;
    struct iovec parts[2] = {{.iov_base = (void *)msg, .iov_len = sizeof *msg},
                             {.iov_base = (void *)body, .iov_len = body_len}};
    struct ancillary ancillary;
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = body_len > 0 ? 2 : 1};
    if (nfds > 0) {
        memset(&ancillary, 0, sizeof ancillary);
        header.msg_control = ancillary.room;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &header, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

void pf_packet_close(struct pf_packet *packet)
{
    for (int i = 0; i < packet->nfds; i++)
        pf_fd_close(&packet->fds[i]);
    packet->nfds = 0;
}

int pf_send_failed(int fd, uint64_t token, int code, const char *step, const char *detail)
{
    char body[256];
    size_t step_len = strnlen(step, 96);
    size_t detail_len = detail == NULL ? 0 : strnlen(detail, 128);
    memcpy(body, step, step_len);
    body[step_len] = '\0';
    if (detail_len > 0)
        memcpy(body + step_len + 1, detail, detail_len);
    struct pf_msg msg = {.type = PF_FAILED, .a = code < 0 ? -code : code, .token = token};
    return pf_send(fd, &msg, body, step_len + 1 + detail_len, NULL, 0, MSG_DONTWAIT);
}

int pf_pidfd_open(pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by definition */
    return fd < 0 ? -errno : (int)fd;
}

int pf_pidfd_kill(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) != 0 ? -errno : 0;
}

pid_t pf_parent_of(pid_t pid)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -ESRCH;
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n <= 0)
        return -ESRCH;
    text[n] = '\0';
    const char *end = strrchr(text, ')'); /* the name before it is the process's own choice */
    int parent;
    if (end == NULL || sscanf(end + 1, " %*c %d", &parent) != 1)
        return -ESRCH;
    return (pid_t)parent;
}

bool pf_is_running(pid_t pid)
{
    enum { PF_EXITING = 4 }; /* of the kernel's flags of a task, field 9 */
    char path[32], text[512];
    unsigned flags;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = 0;
    const char *end = strrchr(text, ')'); /* the name before it is the process's own choice */
    return end && sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && !(flags & PF_EXITING);
}

int64_t pf_boottime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
