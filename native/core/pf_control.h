/* The messages between host, supervisor, base, warden, template and instance.
 *
 * One message is one datagram on a SOCK_SEQPACKET socket: this header, then up to PF_BODY_MAX bytes of body,
 * with up to PF_FDS_MAX descriptors beside it. pyfaas/_ipc/control.py holds the same numbers for Python; a
 * test compares them. */
#ifndef PF_CONTROL_H
#define PF_CONTROL_H

#include <stdint.h>

#define PF_BODY_MAX 60000
#define PF_FDS_MAX 6

struct pf_msg {
    uint32_t type;
    int32_t a;
    uint64_t token;
    int64_t b;
    int64_t c;
};
_Static_assert(sizeof(struct pf_msg) == 32, "the header's size is part of the protocol");

enum pf_type {
    PF_HELLO = 1,     /* anyone → host, first on its socket: a = role */
    PF_START = 2,     /* host → supervisor → base: token = key, fd: the new warden's socket */
    PF_FAILED = 3,    /* anyone → host: a = errno, token = what it was about, body: "step\0detail" */
    PF_BASE_DIED = 4, /* supervisor → host: a = wait status */
    PF_TEMPLATE = 5,  /* host → warden: token = id, b = log id, fds: socket, code, settings, log [, channel,
                         doorbell], body: plan */
    PF_ADOPT =
        6, /* host → warden: token = log id, fds: log pipe's read end, log ring; a process is about to come */
    PF_SYNC = 7,  /* host → warden: token = log id: pump, then acknowledge in the ring */
    PF_DROP = 8,  /* host → warden: token = log id: stop pumping, unmap, close */
    PF_EXIT = 9,  /* warden → host: a = wait status, token = pid, b = CPU time in µs, c = peak RSS in KB */
    PF_FORK = 10, /* host → template: token = instance id, fds: channel, doorbell, log pipe's write end */
    PF_READY =
        11, /* template → host: a = PF_LEFT_* flags, b = wall time of init in ns, body: what was left */
    PF_INIT_ERROR = 12, /* template → host: body: msgpack map of the error */
    PF_ADOPTED = 13, /* host → warden: token = log id, a = pid: this process is the one that was announced */
};

enum pf_role { PF_SUPERVISOR = 1, PF_BASE = 2, PF_WARDEN = 3, PF_TEMPLATE_ROLE = 4, PF_INSTANCE = 5 };

enum pf_left { PF_LEFT_THREADS = 1, PF_LEFT_DESCRIPTORS = 2, PF_LEFT_CHILDREN = 4 };

#endif
