/* sanitizers: address,undefined */
/* Arenas: sizes, shortages, and what a peer keeps of one that was given up. */
#include "rig.h"

#include <sys/resource.h>

#include "pf_arena.h"

static void is_as_large_as_asked(void)
{
    static const uint64_t sizes[] = {0, 1, PF_ARENA_MIN, PF_ARENA_MIN + 1, 3000000, UINT64_C(8) << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pf_arena arena = {0};
        cleanup_fd int fd = -1;
        CHECK_EQ(pf_arena_create(&arena, sizes[i], &fd), 0);
        CHECK(arena.capacity >= sizes[i] && arena.capacity >= PF_ARENA_MIN);
        CHECK((arena.capacity & (arena.capacity - 1)) == 0);
        arena.bytes[0] = arena.bytes[arena.capacity - 1] = 7;
        size_t size;
        CHECK_EQ(pf_memfd_check(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL, &size), 0);
        CHECK_EQ(size, arena.capacity);
        CHECK(ftruncate(fd, 0) < 0);
        pf_arena_close(&arena);
        CHECK(!arena.bytes && arena.capacity == 0);
        pf_arena_close(&arena);
    }
}

static void impossible_sizes_fail(void)
{
    static const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX / 2 + 2, UINT64_C(1) << 62, UINT64_C(1) << 50};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pf_arena arena = {0};
        int fd = -1, held = open_descriptors();
        CHECK(pf_arena_create(&arena, sizes[i], &fd) < 0);
        CHECK(fd == -1 && !arena.bytes);
        CHECK_EQ(open_descriptors(), held);
    }
}

static void both_ends_see_the_same(void)
{
    struct pf_arena host = {0}, peer = {0};
    cleanup_fd int fd = -1;
    CHECK_EQ(pf_arena_create(&host, 300000, &fd), 0);
    CHECK_EQ(pf_arena_map(&peer, fd, host.capacity), 0);
    pattern(host.bytes, 300000, 3);
    CHECK(memcmp(host.bytes, peer.bytes, 300000) == 0);
    CHECK(pf_arena_map(&peer, -1, host.capacity) < 0 && !peer.bytes);
    pf_arena_close(&host);
}

/* The host's bytes go when the host lets go, whoever still maps them. */
static void a_peer_keeps_no_pages(void)
{
    struct pf_arena host = {0}, peer = {0};
    cleanup_fd int fd = -1;
    struct stat stat;
    CHECK_EQ(pf_arena_create(&host, 1 << 20, &fd), 0);
    CHECK_EQ(pf_arena_map(&peer, fd, host.capacity), 0);
    pattern(host.bytes, host.capacity, 3);
    CHECK(fstat(fd, &stat) == 0 && stat.st_blocks > 0);
    pf_arena_discard(&host);
    CHECK(fstat(fd, &stat) == 0);
    CHECK_EQ(stat.st_blocks, 0);
    CHECK(peer.bytes[0] == 0 && peer.bytes[peer.capacity - 1] == 0);
    pf_arena_close(&peer);
    pf_arena_discard(&host);
}

/* The same for a channel's own region, except the lines at its beginning. */
static void a_kept_region_costs_one_page(void)
{
    struct pf_channel channel;
    struct stat stat;
    int memfd, doorbell;
    CHECK_EQ(pf_channel_open(&channel, MAX_PAYLOAD, &memfd, &doorbell), 0);
    memset(channel.region->request_bytes, 1, 2 * PF_INLINE_CAP);
    channel.region->request.timeout_ns = 1;
    pf_channel_close(&channel);
    CHECK(fstat(memfd, &stat) == 0 && stat.st_blocks * 512 <= 4096);
    close(memfd);
    close(doorbell);
}

/* What a peer parts with keeps its address and its bytes; the arena goes on at another. */
static void a_part_is_left_alone(void)
{
    static const uint64_t lengths[] = {1, 4096, 4097, 200000, PF_ARENA_MIN};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const uint64_t length = lengths[i];
        struct pf_arena host = {0}, peer = {0};
        cleanup_fd int fd = -1;
        CHECK_EQ(pf_arena_create(&host, PF_ARENA_MIN, &fd), 0);
        CHECK_EQ(pf_arena_map(&peer, fd, host.capacity), 0);
        pattern(host.bytes, length, 3);
        uint8_t *part = peer.bytes;
        uint8_t *wanted = malloc(length);
        CHECK(wanted != NULL);
        memcpy(wanted, part, length);
        CHECK_EQ(pf_arena_part(&peer, length), 0);
        CHECK(peer.bytes != part && peer.capacity == host.capacity);
        memset(host.bytes, 9, host.capacity); /* the next request */
        CHECK(memcmp(part, wanted, length) == 0);
        CHECK(peer.bytes[0] == 9 && peer.bytes[peer.capacity - 1] == 9);
        part[0] = 7;
        CHECK(host.bytes[0] == 9);
        pf_arena_discard(&host);
        CHECK(part[0] == 7 && memcmp(part + 1, wanted + 1, length - 1) == 0);
        CHECK_EQ(munmap(part, length), 0);
        pf_arena_close(&peer);
        free(wanted);
    }
}

static void a_part_that_does_not_fit_changes_nothing(void)
{
    struct pf_arena host = {0}, peer = {0};
    cleanup_fd int fd = -1;
    int status;
    CHECK_EQ(pf_arena_create(&host, PF_ARENA_MIN, &fd), 0);
    CHECK_EQ(pf_arena_map(&peer, fd, host.capacity), 0);
    CHECK_EQ(pf_arena_part(&peer, 0), -EINVAL);
    CHECK_EQ(pf_arena_part(&peer, host.capacity + 1), -EINVAL);
    CHECK_EQ(pf_arena_part(&peer, UINT64_MAX), -EINVAL);
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {0, 0};
        const struct pf_arena before = peer;
        if (setrlimit(RLIMIT_DATA, &limit) < 0 || pf_arena_part(&peer, 100000) != -ENOMEM)
            _exit(1);
        _exit(memcmp(&before, &peer, sizeof peer) == 0 ? 0 : 2);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    pf_arena_close(&peer);
    pf_arena_discard(&host);
}

static void is_not_inherited(void)
{
    struct pf_arena arena = {0};
    cleanup_fd int fd = -1;
    int status;
    CHECK_EQ(pf_arena_create(&arena, 1, &fd), 0);
    pid_t child = fork();
    if (child == 0) {
        unsigned char resident;
        _exit(mincore(arena.bytes, 1, &resident) < 0 && errno == ENOMEM ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    pf_arena_close(&arena);
}

int main(void)
{
    RUN(is_as_large_as_asked);
    RUN(impossible_sizes_fail);
    RUN(both_ends_see_the_same);
    RUN(a_peer_keeps_no_pages);
    RUN(a_kept_region_costs_one_page);
    RUN(a_part_is_left_alone);
    RUN(a_part_that_does_not_fit_changes_nothing);
    RUN(is_not_inherited);
    return 0;
}
