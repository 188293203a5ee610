/* What the machine itself can do: the floor under every latency that run.py reports.
 *
 *   floor spin    COUNT          two processes ping-pong through shared memory, both spinning
 *   floor sockets COUNT GAP_US   a socketpair ping-pong, each end blocking; GAP_US of sleep before each round trip
 *
 * The two ends are pinned to two different CPUs. Prints one round trip in nanoseconds per line; exit status 77 when
 * there is only one CPU. Compiled by floor.py; depends on nothing but libc.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 200, ONE_CPU = 77 };

struct shared {
    _Alignas(128) _Atomic uint64_t request; /* on a cache line each, or the two ends fight over one */
    _Alignas(128) _Atomic uint64_t reply;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void pause_us(long gap_us)
{
    struct timespec t = {gap_us / 1000000, gap_us % 1000000 * 1000};
    if (gap_us > 0)
        nanosleep(&t, NULL);
}

/* The index-th CPU that this process may use, or -1. */
static int allowed_cpu(int index)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set) && index-- == 0)
            return cpu;
    return -1;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void spin_peer(struct shared *s)
{
    for (uint64_t next = 1;; next++) {
        while (atomic_load_explicit(&s->request, memory_order_acquire) != next)
            relax();
        atomic_store_explicit(&s->reply, next, memory_order_release);
    }
}

static void spin_call(struct shared *s, uint64_t next)
{
    atomic_store_explicit(&s->request, next, memory_order_release);
    while (atomic_load_explicit(&s->reply, memory_order_acquire) != next)
        relax();
}

static void socket_peer(int fd)
{
    char byte;
    while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
        ;
}

static void socket_call(int fd)
{
    char byte = 1;
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) {
        perror("socketpair");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    int spin = argc >= 3 && strcmp(argv[1], "spin") == 0;
    if (!spin && !(argc >= 4 && strcmp(argv[1], "sockets") == 0)) {
        fprintf(stderr, "usage: floor spin COUNT | floor sockets COUNT GAP_US\n");
        return 2;
    }
    long count = atol(argv[2]), gap_us = spin ? 0 : atol(argv[3]);
    int here = allowed_cpu(0), there = allowed_cpu(1), ends[2];
    if (here < 0 || there < 0)
        return ONE_CPU;
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t *took = calloc((size_t)count, sizeof *took);
    if (s == MAP_FAILED || !took || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return 1;

    pid_t parent = getpid(), peer = fork();
    if (peer < 0)
        return 1;
    if (peer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(ends[0]);
        pin(there);
        if (spin)
            spin_peer(s);
        else
            socket_peer(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    pin(here);
    /* Gaps make the warm-up as slow as the measurement, so it is shorter there. */
    long warm_up = gap_us ? 5 : WARM_UP;
    for (long i = -warm_up; i < count; i++) {
        pause_us(gap_us);
        uint64_t begin = now_ns();
        if (spin)
            spin_call(s, (uint64_t)(i + warm_up + 1));
        else
            socket_call(ends[0]);
        if (i >= 0)
            took[i] = now_ns() - begin;
    }
    kill(peer, SIGKILL);
    waitpid(peer, NULL, 0);
    for (long i = 0; i < count; i++)
        printf("%llu\n", (unsigned long long)took[i]);
    free(took);
    return 0;
}
