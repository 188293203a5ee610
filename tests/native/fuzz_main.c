/* A small driver for LLVMFuzzerTestOneInput where there is no libFuzzer: fuzz_main SECONDS [FILE]...
 *
 * Runs the files, then changes to them and to what it found. With the core built by
 * -fsanitize-coverage=trace-pc it keeps the inputs that reached something new. An input that ends the program
 * is in fuzz-last-input: its length as 32 bits, then its bytes. One that takes too long ends it, too. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MOST_BYTES 512u
#define MOST_INPUTS 4096u
#define PLACES 65536u
#define LONGEST_RUN_S 20u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_cov_trace_pc(void);

struct input {
    uint32_t size;
    uint8_t bytes[MOST_BYTES];
};

static uint8_t seen[PLACES];
static uintptr_t previous;
static size_t found, inputs;
static struct input pool[MOST_INPUTS];
static struct input *last; /* in a file, so that it outlives a crash */
static uint64_t state = 88172645463325252u;

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uint8_t *place = &seen[(here ^ (previous * 3)) % PLACES];
    found += !*place;
    *place = 1;
    previous = here;
}

static uint64_t next(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static void change(struct input *input)
{
    for (uint64_t n = 1 + next(6); n > 0; n--) {
        uint64_t place = next(input->size + 1), kind = next(5);
        const struct input *other = &pool[next(inputs)];
        if (kind == 0 && place < input->size) {
            input->bytes[place] ^= (uint8_t)(1u << next(8));
        } else if (kind == 1 && place < input->size) {
            input->bytes[place] = (uint8_t)next(256);
        } else if (kind == 2 && input->size < MOST_BYTES) { /* insert */
            memmove(input->bytes + place + 1, input->bytes + place, input->size - place);
            input->bytes[place] = (uint8_t)next(next(2) ? 16 : 256);
            input->size++;
        } else if (kind == 3 && place < input->size && input->size > 1) { /* remove */
            memmove(input->bytes + place, input->bytes + place + 1, input->size - place - 1);
            input->size--;
        } else if (kind == 4 && other->size) { /* continue with a piece of another */
            uint64_t start = next(other->size), length = other->size - start;
            length = length < MOST_BYTES - place ? length : MOST_BYTES - place;
            memcpy(input->bytes + place, other->bytes + start, length);
            input->size = (uint32_t)(place + length);
        }
    }
}

static void run(const struct input *input)
{
    size_t before = found;
    *last = *input;
    previous = 0;
    alarm(LONGEST_RUN_S);
    LLVMFuzzerTestOneInput(input->bytes, input->size);
    if (found > before && inputs < MOST_INPUTS)
        pool[inputs++] = *input;
}

static void run_file(const char *name)
{
    struct input input = {0};
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, input.bytes, sizeof input.bytes);
    if (fd >= 0)
        close(fd);
    if (n < 0) {
        perror(name);
        exit(2);
    }
    input.size = (uint32_t)n;
    run(&input);
    if (inputs < MOST_INPUTS)
        pool[inputs++] = input;
}

int main(int count, char **names)
{
    if (count < 2)
        return fprintf(stderr, "usage: %s SECONDS [FILE]...\n", names[0]), 2;
    int fd = open("fuzz-last-input", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *last) < 0)
        return perror("fuzz-last-input"), 2;
    last = mmap(NULL, sizeof *last, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (last == MAP_FAILED)
        return perror("fuzz-last-input"), 2;
    for (int i = 2; i < count; i++)
        run_file(names[i]);
    if (inputs == 0)
        inputs = 1; /* the empty one */
    time_t end = time(NULL) + atoi(names[1]);
    uint64_t runs = 0;
    for (state ^= (uint64_t)time(NULL); time(NULL) < end; runs++) {
        struct input input = pool[next(inputs)];
        change(&input);
        run(&input);
    }
    printf("%llu runs, %zu inputs, %zu places\n", (unsigned long long)runs, inputs, found);
    unlink("fuzz-last-input");
    return 0;
}
