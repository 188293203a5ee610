/* link: -Wl,--wrap=pf_pidfd_kill
 *
 * What /proc says of a process whose name is its own choice: parentheses, spaces, digits, newlines, nothing
 * at all. The fuzzer gives the name to itself, so that the kernel writes the line; each reader finds what it
 * looks for. */
#include "hostile_steps.h"
#include "pf_children.h"

/* A process that closed its doorbell and lives is no dead one: see is_running in pf_channel.c. */
static void check_running(void)
{
    struct hostile peer;
    struct input nothing = {0};
    kills = 0;
    hostile_open(&peer, 7);
    peer.channel.pid = getpid();
    peer.channel.parent = getppid();
    CHECK_EQ(hostile_post(&peer, &nothing), 0);
    end_connection(&peer);
    hostile_decided(&peer, pf_channel_ring_received(&peer.channel));
    CHECK_EQ(peer.verdict, PF_WAIT_PROTOCOL);
    CHECK(strstr(peer.channel.error.detail, "closed its doorbell") != NULL);
    hostile_close(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int64_t birth;
    if (birth == 0)
        birth = pf_children_birth(getpid());
    char name[16] = {0};
    memcpy(name, data, size < sizeof name - 1 ? size : sizeof name - 1);
    CHECK_EQ(prctl(PR_SET_NAME, name, 0, 0, 0), 0);
    CHECK_EQ(pf_parent_of(getpid()), getppid());
    CHECK(birth > 0);
    CHECK_EQ(pf_children_birth(getpid()), birth);
    check_running();
    return 0;
}
