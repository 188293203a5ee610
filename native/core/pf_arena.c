#define _GNU_SOURCE
#include "pf_arena.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pf_fd.h"

static int map(struct pf_arena *arena, int fd, uint64_t capacity)
{
    void *bytes = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    arena->bytes = bytes;
    arena->capacity = capacity;
    arena->unused = 0;
    return 0;
}

int pf_arena_create(struct pf_arena *arena, uint64_t size, int *fd)
{
    uint64_t capacity = PF_ARENA_MIN;
    while (capacity < size) {
        if (capacity > (UINT64_MAX >> 2))
            return -EOVERFLOW;
        capacity <<= 1;
    }
    pf_arena_close(arena);
    cleanup_fd int memfd = pf_memfd_sealed("pyfaas-arena", capacity);
    if (memfd < 0)
        return memfd;
    int rc = map(arena, memfd, capacity);
    if (rc < 0)
        return rc;
    if (madvise(arena->bytes, capacity, MADV_DONTFORK) < 0) {
        rc = -errno;
        pf_arena_close(arena);
        return rc;
    }
    *fd = pf_fd_take(&memfd);
    return 0;
}

int pf_arena_map(struct pf_arena *arena, int fd, uint64_t capacity)
{
    pf_arena_close(arena);
    return map(arena, fd, capacity);
}

int pf_arena_part(struct pf_arena *arena, uint64_t length)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), size = (length + page - 1) & ~(page - 1);
    if (length == 0 || length > arena->capacity)
        return -EINVAL;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -errno;
    (void)madvise(copy, size, MADV_HUGEPAGE);
    memcpy(copy, arena->bytes, length);
    /* An old size of zero: a second mapping of the same pages, which needs no descriptor. */
    void *again = mremap(arena->bytes, 0, arena->capacity, MREMAP_MAYMOVE);
    if (again == MAP_FAILED) {
        const int rc = -errno;
        munmap(copy, size);
        return rc;
    }
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, arena->bytes) == MAP_FAILED) {
        const int rc = -errno;
        munmap(copy, size);
        munmap(again, arena->capacity);
        return rc;
    }
    if (arena->capacity > size)
        munmap(arena->bytes + size, arena->capacity - size);
    arena->bytes = again;
    return 0;
}

void pf_arena_close(struct pf_arena *arena)
{
    if (arena->bytes)
        munmap(arena->bytes, arena->capacity);
    *arena = (struct pf_arena){0};
}

void pf_arena_discard(struct pf_arena *arena)
{
    if (arena->bytes)
        (void)madvise(arena->bytes, arena->capacity, MADV_REMOVE);
    pf_arena_close(arena);
}
