/* sanitizers: none */
/* Times of a round trip through the channel between two processes, and of its parts: bench_channel [CALLS].
 */
#include "rig.h"

static uint8_t got[MAX_PAYLOAD], payload[MAX_PAYLOAD];

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void report(const char *what, uint64_t *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, compare);
    printf("%-42s %8.0f ns median %8.0f p10 %8.0f p99\n", what, (double)times[count / 2],
           (double)times[count / 10], (double)times[count * 99 / 100]);
}

static void round_trips(const char *what, uint64_t length, uint32_t spin_ns, uint64_t idle_ns, int count)
{
    struct rig rig;
    uint64_t *times = malloc((size_t)count * sizeof *times);
    CHECK(times != NULL);
    rig_start(&rig, echo_peer, NULL);
    for (int i = -100; i < count; i++) {
        for (uint64_t end = pf_now_ns() + idle_ns; idle_ns && pf_now_ns() < end;)
            poll(NULL, 0, 1);
        uint64_t start = pf_now_ns();
        CHECK_EQ(rig_call(&rig, payload, length, 10 * SECOND, spin_ns), PF_WAIT_REPLY);
        pf_channel_take(&rig.channel, got);
        if (i >= 0)
            times[i] = pf_now_ns() - start;
    }
    report(what, times, count);
    free(times);
    rig_stop(&rig);
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 100000;
    round_trips("4 bytes, both spin", 4, 50000, 0, count);
    round_trips("1 KB, both spin", 1024, 50000, 0, count);
    round_trips("64 KB, both spin", 65536, 50000, 0, count / 10);
    round_trips("1 MB, both spin", 1 << 20, 50000, 0, count / 100);
    round_trips("4 bytes, both sleep", 4, 0, 0, count / 10);
    round_trips("4 bytes, after a pause of 2 ms", 4, 50000, 2 * MS, count / 500);
    return 0;
}
