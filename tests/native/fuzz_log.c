/* What a function writes to its pipe, pumped into the ring as the warden does it and read as the host does
 * it, in pieces and at positions from the input: a reader gets what was written there, or learns that it is
 * gone. */
#define _GNU_SOURCE
#include "fuzz_input.h"
#include "pf_fd.h"
#include "pf_log.h"

#include <fcntl.h>

enum { RING = 4096, LONGEST = 3 * RING };

struct scene {
    struct pf_log log;
    int pipe[2];      /* the function's end is closed at its end */
    uint64_t written; /* to the pipe */
    uint64_t mark;    /* where the host goes on reading */
    uint8_t salt;     /* makes the bytes the input's */
    uint32_t asked;
};

/* The byte that belongs at a position. */
static uint8_t byte_at(const struct scene *scene, uint64_t position)
{
    return (uint8_t)(position * 31 + (position >> 8) + scene->salt);
}

static void write_output(struct scene *scene, size_t length)
{
    uint8_t bytes[LONGEST];
    if (scene->pipe[1] < 0)
        return;
    for (size_t i = 0; i < length; i++)
        bytes[i] = byte_at(scene, scene->written + i);
    ssize_t n = write(scene->pipe[1], bytes, length);
    scene->written += n > 0 ? (uint64_t)n : 0;
}

static void pump(struct scene *scene)
{
    int more = scene->pipe[0] < 0 ? 0 : pf_log_pump(&scene->log, scene->pipe[0]);
    CHECK_EQ(more, scene->pipe[0] >= 0 && scene->pipe[1] >= 0);
    CHECK_EQ(pf_log_head(&scene->log), scene->written);
    if (!more)
        pf_fd_close(&scene->pipe[0]);
}

static void read_output(struct scene *scene, uint64_t start, size_t cap)
{
    uint64_t dropped, next, head = pf_log_head(&scene->log);
    uint8_t *out = malloc(cap); /* of exactly this size */
    size_t length = pf_log_read(&scene->log, start, out, cap, &dropped, &next);
    CHECK(length <= cap && next == start + dropped + length);
    CHECK(start < head ? next <= head : next == start && dropped == 0);
    if (start < head) /* one reader at a time: nothing is overwritten meanwhile */
        CHECK_EQ(dropped, head - start > RING ? head - start - RING : 0);
    for (size_t i = 0; i < length; i++)
        CHECK_EQ(out[i], byte_at(scene, start + dropped + i));
    free(out);
    scene->mark = next;
}

static void synchronise(struct scene *scene, uint64_t answer)
{
    if (answer % 2) {
        uint32_t request = pf_log_sync_pending(&scene->log);
        CHECK_EQ(request, scene->asked);
        pump(scene);
        pf_log_sync_ack(&scene->log, request);
        CHECK_EQ(pf_log_sync_wait(&scene->log, request, 0), 0);
    } else {
        scene->asked++;
        CHECK_EQ(pf_log_sync_request(&scene->log), scene->asked);
        CHECK_EQ(pf_log_sync_wait(&scene->log, scene->asked, 0), -ETIMEDOUT);
    }
}

static void run_step(struct scene *scene, struct input *input)
{
    uint64_t byte = number(input, 1), choice = byte % 8;
    if (choice <= 1)
        write_output(scene, (size_t)(number(input, 2) % LONGEST));
    else if (choice <= 3)
        pump(scene);
    else if (choice == 4)
        read_output(scene, scene->mark, (size_t)(number(input, 2) % LONGEST));
    else if (choice == 5)
        read_output(scene, number(input, byte & 8 ? 8 : 2), (size_t)(number(input, 2) % LONGEST));
    else if (choice == 6)
        synchronise(scene, byte >> 3);
    else if (byte >> 3 == 0)
        pf_fd_close(&scene->pipe[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .left = size};
    struct scene scene = {.salt = (uint8_t)number(&input, 1)};
    int free_descriptor = next_descriptor(), memory = pf_log_create(RING);
    CHECK(memory >= 0);
    CHECK_EQ(pf_log_map(&scene.log, memory), 0);
    close(memory);
    CHECK_EQ(pipe2(scene.pipe, O_CLOEXEC | O_NONBLOCK), 0);
    while (input.left > 0)
        run_step(&scene, &input);
    pf_fd_close(&scene.pipe[0]);
    pf_fd_close(&scene.pipe[1]);
    pf_log_unmap(&scene.log);
    CHECK_EQ(next_descriptor(), free_descriptor);
    return 0;
}
