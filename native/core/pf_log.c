#define _GNU_SOURCE
#include "pf_log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pf_clock.h"
#include "pf_fd.h"

int pf_log_create(size_t size)
{
    if (size < 4096 || size > (64U << 20) || (size & (size - 1)) != 0)
        return -EINVAL;
    return pf_memfd_sealed("pyfaas-log", PF_LOG_HEADER + size);
}

int pf_log_map(struct pf_log *log, int fd)
{
    size_t bytes;
    int rc = pf_memfd_check(fd, F_SEAL_SHRINK | F_SEAL_GROW, &bytes);
    if (rc != 0)
        return rc;
    size_t size = bytes - PF_LOG_HEADER;
    if (bytes <= PF_LOG_HEADER || (size & (size - 1)) != 0)
        return -EINVAL;
    unsigned char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    if (madvise(map, bytes, MADV_DONTFORK) != 0) {
        rc = -errno;
        munmap(map, bytes);
        return rc;
    }
    *log = (struct pf_log){.header = (void *)map, .ring = map + PF_LOG_HEADER, .size = size};
    return 0;
}

void pf_log_unmap(struct pf_log *log)
{
    if (log->header != NULL)
        munmap(log->header, PF_LOG_HEADER + log->size);
    log->header = NULL;
}

/* Writer and reader touch the same bytes at the same time, which is no error here (the reader finds out and
 * trims), but only atomic accesses make that defined. Relaxed eight-byte ones cost the same as plain ones. */
static void ring_put(unsigned char *ring, const unsigned char *from, size_t len)
{
    while (len > 0 && ((uintptr_t)ring & 7) != 0) {
        __atomic_store_n(ring++, *from++, __ATOMIC_RELAXED);
        len--;
    }
    for (; len >= 8; ring += 8, from += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, from, 8);
        __atomic_store_n((uint64_t *)(void *)ring, word, __ATOMIC_RELAXED);
    }
    while (len-- > 0)
        __atomic_store_n(ring++, *from++, __ATOMIC_RELAXED);
}

static void ring_get(unsigned char *to, const unsigned char *ring, size_t len)
{
    while (len > 0 && ((uintptr_t)ring & 7) != 0) {
        *to++ = __atomic_load_n(ring++, __ATOMIC_RELAXED);
        len--;
    }
    for (; len >= 8; ring += 8, to += 8, len -= 8) {
        uint64_t word = __atomic_load_n((const uint64_t *)(const void *)ring, __ATOMIC_RELAXED);
        memcpy(to, &word, 8);
    }
    while (len-- > 0)
        *to++ = __atomic_load_n(ring++, __ATOMIC_RELAXED);
}

void pf_log_write(struct pf_log *log, const void *data, size_t len)
{
    const unsigned char *from = data;
    while (len > 0) {
        uint64_t head = atomic_load_explicit(&log->header->head, memory_order_relaxed);
        size_t offset = (size_t)(head & (log->size - 1));
        size_t n = log->size - offset < len ? log->size - offset : len;
        atomic_store_explicit(&log->header->reserve, head + n, memory_order_relaxed);
        atomic_thread_fence(memory_order_release); /* no byte changes before a reader can know that it may */
        ring_put(log->ring + offset, from, n);
        atomic_store_explicit(&log->header->head, head + n, memory_order_release);
        from += n;
        len -= n;
    }
}

uint64_t pf_log_head(const struct pf_log *log)
{
    return atomic_load_explicit(&log->header->head, memory_order_acquire);
}

size_t pf_log_read(const struct pf_log *log, uint64_t start, void *out, size_t cap, uint64_t *dropped,
                   uint64_t *next)
{
    uint64_t head = pf_log_head(log);
    uint64_t from = start;
    *dropped = 0;
    *next = start;
    if (start >= head)
        return 0;
    if (head - from > log->size)
        from = head - log->size;
    size_t len = head - from < cap ? (size_t)(head - from) : cap;
    size_t offset = (size_t)(from & (log->size - 1));
    size_t first = log->size - offset < len ? log->size - offset : len;
    ring_get(out, log->ring + offset, first);
    ring_get((unsigned char *)out + first, log->ring, len - first);
    atomic_thread_fence(memory_order_acquire);
    uint64_t reserve = atomic_load_explicit(&log->header->reserve, memory_order_relaxed);
    uint64_t oldest = reserve > log->size ? reserve - log->size : 0;
    size_t lost = 0; /* overwritten while we copied */
    if (oldest > from)
        lost = oldest - from < len ? (size_t)(oldest - from) : len;
    if (lost > 0)
        memmove(out, (unsigned char *)out + lost, len - lost);
    *dropped = from - start + lost;
    *next = from + len;
    return len - lost;
}

int pf_log_pump(struct pf_log *log, int pipe)
{
    unsigned char chunk[32768];
    for (size_t moved = 0; moved < PF_LOG_PUMP_MAX;) {
        ssize_t n = read(pipe, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 1 : 0;
        if (n == 0)
            return 0;
        pf_log_write(log, chunk, (size_t)n);
        moved += (size_t)n;
    }
    return 1;
}

uint32_t pf_log_sync_request(struct pf_log *log)
{
    return atomic_fetch_add_explicit(&log->header->sync_req, 1, memory_order_acq_rel) + 1;
}

uint32_t pf_log_sync_pending(const struct pf_log *log)
{
    return atomic_load_explicit(&log->header->sync_req, memory_order_acquire);
}

void pf_log_sync_ack(struct pf_log *log, uint32_t request)
{
    atomic_store_explicit(&log->header->sync_ack, request, memory_order_release);
    syscall(SYS_futex, &log->header->sync_ack, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

int pf_log_sync_wait(struct pf_log *log, uint32_t request, int64_t timeout_ns)
{
    uint64_t deadline = pf_now_ns() + (uint64_t)timeout_ns;
    for (;;) {
        uint32_t ack = atomic_load_explicit(&log->header->sync_ack, memory_order_acquire);
        if ((int32_t)(ack - request) >= 0)
            return 0;
        int64_t left = (int64_t)(deadline - pf_now_ns());
        if (left <= 0)
            return -ETIMEDOUT;
        struct timespec wait = pf_timespec((uint64_t)left);
        syscall(SYS_futex, &log->header->sync_ack, FUTEX_WAIT, ack, &wait, NULL, 0);
    }
}
