/* The log ring: what a function's processes wrote to stdout and stderr, kept in memory that host and warden
 * share.
 *
 * Writer: the warden, which pumps the pipe into it. Readers: the host, any number of threads. Neither waits
 * for the other: the oldest bytes are overwritten, and a reader learns how many it has missed. No hostile
 * process ever maps this. */
#ifndef PF_LOG_H
#define PF_LOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PF_LOG_HEADER 4096
#define PF_LOG_PUMP_MAX                                                                                      \
    (1 << 20) /* bytes of one pipe that one pump moves at most: a flood must not stop the warden */

struct pf_log_header {
    _Atomic uint64_t reserve;  /* bytes written or just being written, since the beginning */
    _Atomic uint64_t head;     /* bytes written, since the beginning */
    _Atomic uint32_t sync_req; /* the host asked this often that the pipe be pumped */
    _Atomic uint32_t sync_ack; /* the warden has answered this request and all before; a futex */
};

struct pf_log {
    struct pf_log_header *header; /* NULL: not mapped */
    unsigned char *ring;
    size_t size; /* of the ring, a power of two */
};

/* A sealed memory file for a ring of `size` bytes (a power of two, 4 KiB to 64 MiB). */
int pf_log_create(size_t size);

/* Maps the ring in `fd` (borrowed). The mapping does not pass to forked children. */
int pf_log_map(struct pf_log *log, int fd);
void pf_log_unmap(struct pf_log *log);

/* Appends. One writer at a time. */
void pf_log_write(struct pf_log *log, const void *data, size_t len);

/* Copies what was written from position `start` on, at most `cap` bytes, to `out`; fewer or none if there is
 * no more. *dropped: bytes that were overwritten before they could be read; *next: the position to continue
 * from. */
size_t pf_log_read(const struct pf_log *log, uint64_t start, void *out, size_t cap, uint64_t *dropped,
                   uint64_t *next);

uint64_t pf_log_head(const struct pf_log *log);

/* Moves what is in the pipe (non-blocking) to the ring, at most PF_LOG_PUMP_MAX bytes. 1: the writers may
 * write more; 0: all of them are gone. */
int pf_log_pump(struct pf_log *log, int pipe);

/* Host: announces a request (then send PF_SYNC); returns its number. Waits for it: 0, or -ETIMEDOUT. */
uint32_t pf_log_sync_request(struct pf_log *log);
int pf_log_sync_wait(struct pf_log *log, uint32_t request, int64_t timeout_ns);

/* Warden: the number to acknowledge is read before the pump, so that it covers what was written before the
 * request. */
uint32_t pf_log_sync_pending(const struct pf_log *log);
void pf_log_sync_ack(struct pf_log *log, uint32_t request);

#endif
