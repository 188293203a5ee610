/* sanitizers: address,undefined */
#define _GNU_SOURCE
#include "check.h"
#include "pf_error.h"
#include "pf_fd.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void sealed_memory_keeps_its_size(void)
{
    cleanup_fd int fd = pf_memfd_sealed("test", 8192);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, 4096), -1);
    CHECK_EQ(ftruncate(fd, 16384), -1);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    size_t size;
    CHECK_EQ(pf_memfd_check(fd, F_SEAL_SHRINK | F_SEAL_GROW, &size), 0);
    CHECK_EQ(size, 8192);
    CHECK_EQ(pf_memfd_check(fd, F_SEAL_WRITE, NULL), -EPERM);
}

static void sealed_data_cannot_be_written(void)
{
    cleanup_fd int fd = pf_memfd_data("test", "hello", 5);
    char text[6] = "";
    CHECK(fd >= 0);
    CHECK_EQ(pf_memfd_check(fd, F_SEAL_WRITE | F_SEAL_SEAL, NULL), 0);
    CHECK_EQ(pwrite(fd, "x", 1, 0), -1);
    CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK_EQ(pread(fd, text, 5, 0), 5);
    CHECK(strcmp(text, "hello") == 0);
}

static void only_memory_files_pass_the_check(void)
{
    cleanup_fd int null = open("/dev/null", O_RDONLY);
    CHECK_EQ(pf_memfd_check(null, F_SEAL_GROW, NULL), -EINVAL);
}

static void a_message_arrives_whole(void)
{
    int ends[2];
    unsigned char body[PF_BODY_MAX], sent[PF_BODY_MAX];
    memset(sent, 7, sizeof sent);
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_pass_creds(ends[1]), 0);
    int before = open_descriptors();
    struct pf_msg msg = {.type = PF_TEMPLATE, .a = -5, .token = UINT64_MAX, .b = INT64_MIN, .c = 3};
    int fds[PF_FDS_MAX] = {0, 1, 2, ends[0], 0, 1};
    CHECK_EQ(pf_send(ends[0], &msg, sent, sizeof sent, fds, PF_FDS_MAX, 0), 0);
    struct pf_packet packet;
    CHECK_EQ(pf_recv(ends[1], &packet, body, sizeof body, PF_FDS_MAX, true, 0), 1);
    CHECK(memcmp(&packet.msg, &msg, sizeof msg) == 0);
    CHECK_EQ(packet.body_len, sizeof sent);
    CHECK(memcmp(body, sent, sizeof sent) == 0);
    CHECK_EQ(packet.nfds, PF_FDS_MAX);
    CHECK_EQ(packet.pid, getpid());
    for (int i = 0; i < packet.nfds; i++)
        CHECK_EQ(fcntl(packet.fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    pf_packet_close(&packet);
    pf_packet_close(&packet);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(pf_recv(ends[1], &packet, body, sizeof body, 0, false, MSG_DONTWAIT), -EAGAIN);
    CHECK_EQ(pf_send(ends[0], &msg, sent, PF_BODY_MAX + 1, NULL, 0, 0), -EINVAL);
    close(ends[0]);
    CHECK_EQ(pf_recv(ends[1], &packet, body, sizeof body, 0, false, 0), 0);
    CHECK_EQ(pf_send(ends[1], &msg, NULL, 0, NULL, 0, 0), -EPIPE);
    close(ends[1]);
}

/* However many are sent, a receiver never gets more than it said, and keeps none of a message that it
 * refuses. */
static void unwanted_descriptors_are_never_installed(void)
{
    for (int creds = 0; creds < 2; creds++) {
        for (int wanted = 0; wanted < PF_FDS_MAX; wanted++) {
            int ends[2];
            CHECK_EQ(pf_socketpair(ends), 0);
            if (creds)
                CHECK_EQ(pf_pass_creds(ends[1]), 0);
            int before = open_descriptors();
            struct pf_msg msg = {.type = PF_HELLO};
            int fds[PF_FDS_MAX] = {0, 0, 0, 0, 0, 0};
            struct pf_packet packet;
            CHECK_EQ(pf_send(ends[0], &msg, NULL, 0, fds, wanted + 1, 0), 0);
            CHECK_EQ(pf_recv(ends[1], &packet, NULL, 0, wanted, creds, 0), -EPROTO);
            CHECK_EQ(packet.nfds, 0);
            CHECK_EQ(open_descriptors(), before);
            close(ends[0]);
            close(ends[1]);
        }
    }
}

static void credentials_come_without_descriptors(void)
{
    int ends[2], fds[1] = {0};
    char text[64];
    pid_t pid = -1;
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_pass_creds(ends[1]), 0);
    CHECK_EQ(send(ends[0], "hi", 2, 0), 2);
    CHECK_EQ(pf_recv_creds(ends[1], text, sizeof text, &pid, 0), 2);
    CHECK_EQ(pid, getpid());
    int before = open_descriptors();
    struct pf_msg msg = {.type = PF_HELLO};
    CHECK_EQ(pf_send(ends[0], &msg, NULL, 0, fds, 1, 0), 0);
    CHECK_EQ(pf_recv_creds(ends[1], text, sizeof text, &pid, 0), -EPROTO);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(send(ends[0], text, sizeof text, 0), sizeof text);
    CHECK_EQ(pf_recv_creds(ends[1], text, 10, &pid, 0), -EPROTO);
    CHECK_EQ(pf_recv_creds(ends[1], text, 10, &pid, MSG_DONTWAIT), -EAGAIN);
    close(ends[0]);
    CHECK_EQ(pf_recv_creds(ends[1], text, 10, &pid, 0), 0);
    close(ends[1]);
}

static void what_is_no_message_is_refused(void)
{
    int ends[2];
    struct pf_packet packet;
    char small[8];
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(send(ends[0], "short", 5, 0), 5);
    CHECK_EQ(pf_recv(ends[1], &packet, NULL, 0, 0, false, 0), -EPROTO);
    struct pf_msg msg = {.type = PF_HELLO};
    CHECK_EQ(pf_send(ends[0], &msg, "123456789", 9, NULL, 0, 0), 0);
    CHECK_EQ(pf_recv(ends[1], &packet, small, sizeof small, 0, false, 0), -EPROTO);
    CHECK_EQ(send(ends[0], "", 0, 0), 0);
    CHECK_EQ(pf_recv(ends[1], &packet, NULL, 0, 0, false, 0), 0);
    close(ends[0]);
    close(ends[1]);
}

static void a_peer_that_died_with_mail_unread_is_gone(void)
{
    int ends[2];
    struct pf_packet packet;
    struct pf_msg msg = {.type = PF_HELLO};
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_send(ends[1], &msg, NULL, 0, NULL, 0, 0), 0);
    close(ends[0]);
    CHECK_EQ(pf_recv(ends[1], &packet, NULL, 0, 0, false, 0), 0);
    close(ends[1]);
}

static void a_failure_is_cut_to_size(void)
{
    int ends[2];
    struct pf_packet packet;
    char body[512], detail[400];
    memset(detail, 'd', sizeof detail);
    detail[sizeof detail - 1] = '\0';
    CHECK_EQ(pf_socketpair(ends), 0);
    CHECK_EQ(pf_send_failed(ends[0], 9, -EPERM, "some step", detail), 0);
    CHECK_EQ(pf_recv(ends[1], &packet, body, sizeof body, 0, false, 0), 1);
    CHECK_EQ(packet.msg.type, PF_FAILED);
    CHECK_EQ(packet.msg.a, EPERM);
    CHECK_EQ(packet.body_len, 10 + 128);
    CHECK(strcmp(body, "some step") == 0);
    struct pf_error err;
    CHECK_EQ(pf_fail(&err, EPERM, "s", detail), -EPERM);
    CHECK_EQ(strlen(err.detail), sizeof err.detail - 1);
    close(ends[0]);
    close(ends[1]);
}

static void a_pidfd_names_its_process(void)
{
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    cleanup_fd int pidfd = pf_pidfd_open(child);
    CHECK(pidfd >= 0);
    CHECK_EQ(pf_parent_of(child), getpid());
    CHECK_EQ(pf_pidfd_kill(pidfd, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(pf_pidfd_kill(pidfd, SIGKILL), -ESRCH);
    CHECK_EQ(pf_parent_of(child), -ESRCH);
    CHECK(pf_pidfd_open(child) < 0);
}

int main(void)
{
    RUN(sealed_memory_keeps_its_size);
    RUN(sealed_data_cannot_be_written);
    RUN(only_memory_files_pass_the_check);
    RUN(a_message_arrives_whole);
    RUN(unwanted_descriptors_are_never_installed);
    RUN(credentials_come_without_descriptors);
    RUN(what_is_no_message_is_refused);
    RUN(a_peer_that_died_with_mail_unread_is_gone);
    RUN(a_failure_is_cut_to_size);
    RUN(a_pidfd_names_its_process);
    return 0;
}
