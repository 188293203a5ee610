/* sanitizers: address,undefined thread */
#define _GNU_SOURCE
#include "check.h"
#include "pf_clock.h"
#include "pf_fd.h"
#include "pf_log.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

enum { SIZE = 4096 };

static void open_ring(struct pf_log *log)
{
    cleanup_fd int fd = pf_log_create(SIZE);
    CHECK(fd >= 0);
    CHECK_EQ(pf_log_map(log, fd), 0);
}

/* The byte that belongs at a position: a reader can tell whether what it got is what was there. */
static unsigned char byte_at(uint64_t position)
{
    return (unsigned char)(position * 31 + (position >> 8));
}

static void put(struct pf_log *log, size_t len)
{
    unsigned char chunk[SIZE * 3];
    uint64_t head = pf_log_head(log);
    for (size_t i = 0; i < len; i++)
        chunk[i] = byte_at(head + i);
    pf_log_write(log, chunk, len);
}

/* Reads from `start` on and checks every byte; returns how many were dropped. */
static uint64_t take(struct pf_log *log, uint64_t start, uint64_t *next)
{
    unsigned char out[SIZE];
    uint64_t dropped;
    size_t len = pf_log_read(log, start, out, sizeof out, &dropped, next);
    CHECK_EQ(*next, start + dropped + len);
    for (size_t i = 0; i < len; i++)
        CHECK_EQ(out[i], byte_at(start + dropped + i));
    return dropped;
}

static void sizes_are_checked(void)
{
    CHECK_EQ(pf_log_create(100), -EINVAL);
    CHECK_EQ(pf_log_create(5000), -EINVAL);
    CHECK_EQ(pf_log_create(128 << 20), -EINVAL);
    cleanup_fd int unsealed = open("/dev/null", O_RDWR);
    cleanup_fd int odd = pf_memfd_sealed("odd", PF_LOG_HEADER + 5000);
    cleanup_fd int empty = pf_memfd_sealed("empty", PF_LOG_HEADER);
    struct pf_log log;
    CHECK(pf_log_map(&log, unsealed) < 0);
    CHECK_EQ(pf_log_map(&log, odd), -EINVAL);
    CHECK_EQ(pf_log_map(&log, empty), -EINVAL);
}

static void what_was_written_is_read(void)
{
    struct pf_log log;
    uint64_t next = 0;
    open_ring(&log);
    CHECK_EQ(take(&log, 0, &next), 0);
    CHECK_EQ(next, 0);
    for (size_t len = 1; len < 300; len += 7) {
        uint64_t start = next;
        put(&log, len);
        CHECK_EQ(take(&log, start, &next), 0);
        CHECK_EQ(next, start + len);
    }
    CHECK_EQ(take(&log, next + 1000, &next), 0); /* a position that does not exist yet is the end */
    pf_log_unmap(&log);
    pf_log_unmap(&log);
}

static void the_oldest_is_dropped_and_counted(void)
{
    struct pf_log log;
    uint64_t next;
    open_ring(&log);
    put(&log, SIZE * 2 + 17);
    CHECK_EQ(take(&log, 0, &next), SIZE + 17);
    CHECK_EQ(next, SIZE * 2 + 17);
    put(&log, 10);
    CHECK_EQ(take(&log, next, &next), 0);
    pf_log_unmap(&log);
}

/* The moment between the writer's announcement and its copy, in which a reader must not trust what it has
 * copied. */
static void what_is_being_overwritten_is_not_trusted(void)
{
    struct pf_log log;
    uint64_t next;
    open_ring(&log);
    put(&log, SIZE);
    atomic_store(&log.header->reserve, SIZE + 100);
    memset(log.ring, 'x', 100);
    CHECK_EQ(take(&log, 0, &next), 100);
    CHECK_EQ(next, SIZE);
    atomic_store(&log.header->reserve, SIZE * 2);
    CHECK_EQ(take(&log, 0, &next), SIZE);
    pf_log_unmap(&log);
}

static void a_small_buffer_reads_in_parts(void)
{
    struct pf_log log;
    unsigned char out[10];
    uint64_t dropped, next;
    open_ring(&log);
    put(&log, 25);
    CHECK_EQ(pf_log_read(&log, 0, out, 10, &dropped, &next), 10);
    CHECK_EQ(pf_log_read(&log, next, out, 10, &dropped, &next), 10);
    CHECK_EQ(pf_log_read(&log, next, out, 10, &dropped, &next), 5);
    CHECK_EQ(next, 25);
    pf_log_unmap(&log);
}

static void a_pipe_is_pumped_to_its_end(void)
{
    struct pf_log log;
    int pipe_ends[2];
    open_ring(&log);
    CHECK_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
    CHECK_EQ(fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(pf_log_pump(&log, pipe_ends[0]), 1);
    CHECK_EQ(write(pipe_ends[1], "hello", 5), 5);
    CHECK_EQ(pf_log_pump(&log, pipe_ends[0]), 1);
    CHECK_EQ(pf_log_head(&log), 5);
    CHECK_EQ(write(pipe_ends[1], "!", 1), 1);
    close(pipe_ends[1]);
    CHECK_EQ(pf_log_pump(&log, pipe_ends[0]), 0);
    CHECK_EQ(pf_log_head(&log), 6);
    close(pipe_ends[0]);
    pf_log_unmap(&log);
}

/* The mapping of trusted processes does not reach the hostile ones that are forked from them. */
static void a_forked_child_has_no_ring(void)
{
    struct pf_log log;
    int status;
    open_ring(&log);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY), ends[2];
        (void)null;
        CHECK_EQ(pipe(ends), 0);
        errno = 0; /* the kernel says whether the address is there, without a fault */
        _exit(write(ends[1], log.ring, 1) == -1 && errno == EFAULT ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    pf_log_unmap(&log);
}

struct race {
    struct pf_log log;
    atomic_bool done;
};

static void *read_all(void *argument)
{
    struct race *race = argument;
    uint64_t next = 0, dropped = 0;
    while (!atomic_load(&race->done) || next != pf_log_head(&race->log))
        dropped += take(&race->log, next, &next);
    fprintf(stderr, "    read up to %llu, %llu dropped\n", (unsigned long long)next,
            (unsigned long long)dropped);
    return NULL;
}

static void no_reader_ever_gets_a_wrong_byte(void)
{
    struct race race = {.done = false};
    pthread_t readers[2];
    open_ring(&race.log);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&readers[i], NULL, read_all, &race), 0);
    for (size_t i = 0; i < 4000; i++)
        put(&race.log, 1 + i * 37 % 1500);
    atomic_store(&race.done, true);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(readers[i], NULL), 0);
    pf_log_unmap(&race.log);
}

static void *answer(void *argument)
{
    struct race *race = argument;
    uint32_t last = 0;
    while (!atomic_load(&race->done)) {
        uint32_t request = pf_log_sync_pending(&race->log);
        if (request != last)
            pf_log_sync_ack(&race->log, request);
        last = request;
    }
    return NULL;
}

static void a_sync_waits_for_its_answer(void)
{
    struct race race = {.done = false};
    pthread_t warden;
    open_ring(&race.log);
    uint64_t start = pf_now_ns();
    CHECK_EQ(pf_log_sync_wait(&race.log, pf_log_sync_request(&race.log), 20000000), -ETIMEDOUT);
    CHECK(pf_now_ns() - start >= 20000000);
    CHECK_EQ(pthread_create(&warden, NULL, answer, &race), 0);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(pf_log_sync_wait(&race.log, pf_log_sync_request(&race.log), 10000000000), 0);
    atomic_store(&race.done, true);
    CHECK_EQ(pthread_join(warden, NULL), 0);
    pf_log_unmap(&race.log);
}

static void a_sync_survives_the_counters_overflow(void)
{
    struct pf_log log;
    open_ring(&log);
    atomic_store(&log.header->sync_req, UINT32_MAX - 1);
    atomic_store(&log.header->sync_ack, UINT32_MAX - 1);
    uint32_t request = pf_log_sync_request(&log);
    CHECK_EQ(pf_log_sync_wait(&log, request, 0), -ETIMEDOUT);
    request = pf_log_sync_request(&log);
    CHECK_EQ(request, 0);
    CHECK_EQ(pf_log_sync_wait(&log, request, 0), -ETIMEDOUT);
    pf_log_sync_ack(&log, request);
    CHECK_EQ(pf_log_sync_wait(&log, request, 0), 0);
    pf_log_unmap(&log);
}

int main(void)
{
    RUN(sizes_are_checked);
    RUN(what_was_written_is_read);
    RUN(the_oldest_is_dropped_and_counted);
    RUN(what_is_being_overwritten_is_not_trusted);
    RUN(a_small_buffer_reads_in_parts);
    RUN(a_pipe_is_pumped_to_its_end);
    RUN(a_forked_child_has_no_ring);
    RUN(no_reader_ever_gets_a_wrong_byte);
    RUN(a_sync_waits_for_its_answer);
    RUN(a_sync_survives_the_counters_overflow);
    return 0;
}
