/* Datagrams of any length, with any descriptors and credentials beside them, on a socket that expects control
 * messages: pf_recv takes what has the right form, writes nothing beyond its buffers, and leaves no
 * descriptor open. */
#define _GNU_SOURCE
#include "fuzz_input.h"
#include "pf_fd.h"

#include <fcntl.h>
#include <sys/socket.h>

enum { LONGEST = 4096, MOST_FDS = 12 };

struct sent {
    size_t length;
    int nfds;
    bool empty_parts;
    uint8_t bytes[LONGEST];
};

/* Descriptors may be in one control message or in several: the kernel joins or refuses them. */
static bool send_any(int socket, struct input *input, struct sent *sent)
{
    _Alignas(struct cmsghdr) uint8_t room[2 * CMSG_SPACE(MOST_FDS * sizeof(int))] = {0};
    uint64_t shape = number(input, 1);
    sent->length = shape & 1 ? number(input, 2) % LONGEST : sizeof(struct pf_msg) + (shape >> 4);
    sent->nfds = shape & 2 ? (int)(number(input, 1) % (MOST_FDS + 1)) : 0;
    for (size_t i = 0; i < sent->length; i++)
        sent->bytes[i] = (uint8_t)(i < 48 ? number(input, 1) : i);
    struct iovec part = {.iov_base = sent->bytes, .iov_len = sent->length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (sent->nfds > 0) {
        int split = shape & 4 ? sent->nfds / 2 : 0, counts[2] = {split, sent->nfds - split};
        header.msg_control = room;
        for (int i = 0, at = 0; i < 2; i++) {
            if (counts[i] == 0)
                continue;
            struct cmsghdr *c = (struct cmsghdr *)(room + at);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN((size_t)counts[i] * sizeof(int));
            for (int n = 0; n < counts[i]; n++)
                memcpy(CMSG_DATA(c) + (size_t)n * sizeof(int), &(int){STDERR_FILENO}, sizeof(int));
            at += (int)CMSG_SPACE((size_t)counts[i] * sizeof(int));
            header.msg_controllen = (size_t)at;
        }
    }
    return sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void check_message(const struct pf_packet *packet, const uint8_t *body, const struct sent *sent,
                          bool creds)
{
    CHECK_EQ(packet->body_len, sent->length - sizeof packet->msg);
    CHECK_EQ(packet->nfds, sent->nfds);
    CHECK_EQ(packet->pid, creds ? getpid() : 0);
    CHECK(memcmp(&packet->msg, sent->bytes, sizeof packet->msg) == 0);
    CHECK(memcmp(body, sent->bytes + sizeof packet->msg, packet->body_len) == 0);
    for (int i = 0; i < packet->nfds; i++)
        CHECK_EQ(fcntl(packet->fds[i], F_GETFD), FD_CLOEXEC);
}

static void receive(int socket, struct input *input, const struct sent *sent, bool creds)
{
    size_t cap = number(input, 2) % LONGEST;
    int max_fds = (int)(number(input, 1) % (PF_FDS_MAX + 1));
    uint8_t *body = malloc(cap + 1); /* the sanitizer guards its end */
    CHECK(body != NULL);
    body[cap] = 0xa5;
    struct pf_packet packet;
    int rc = pf_recv(socket, &packet, body, cap, max_fds, creds, MSG_DONTWAIT);
    bool fits = sent->length <= sizeof packet.msg + cap && sent->nfds <= max_fds;
    int wanted = sent->length == 0 && fits ? 0 : sent->length >= sizeof packet.msg && fits ? 1 : -EPROTO;
    CHECK_EQ(rc, wanted);
    CHECK(body[cap] == 0xa5);
    if (rc == 1)
        check_message(&packet, body, sent, creds);
    CHECK(rc == 1 || packet.nfds == 0);
    pf_packet_close(&packet);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .left = size};
    struct sent sent;
    int ends[2], free_descriptor = next_descriptor();
    CHECK_EQ(pf_socketpair(ends), 0);
    bool creds = number(&input, 1) % 2;
    if (creds)
        CHECK_EQ(pf_pass_creds(ends[0]), 0);
    while (input.left > 0) {
        if (!send_any(ends[1], &input, &sent))
            continue;
        int before = next_descriptor();
        receive(ends[0], &input, &sent, creds);
        CHECK_EQ(next_descriptor(), before);
    }
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(next_descriptor(), free_descriptor);
    return 0;
}
