/* link: -Wl,--wrap=pf_pidfd_kill
 *
 * Hostile peers on channels that a reactor watches: a call that is armed is decided once, by its own peer's
 * doing, and the others are not disturbed. */
#include "hostile_steps.h"
#include "pf_reactor.h"

enum { PEERS = 3, ROOM = 8 };

struct watched {
    struct hostile peer;
    bool armed; /* the reactor owns the channel until it says otherwise */
    bool there; /* it knows the channel */
};

struct scene {
    struct pf_reactor reactor;
    struct watched peers[PEERS];
    int plain[2]; /* a socket of another kind, as a template's: the reactor says only that it is readable */
};

static void add(struct scene *scene, uint64_t token)
{
    struct watched *watched = &scene->peers[token];
    int rc = pf_reactor_add(&scene->reactor, token, watched->peer.channel.doorbell, &watched->peer.channel);
    CHECK_EQ(rc, watched->there ? -EEXIST : 0);
    watched->there = true;
}

static void post(struct scene *scene, uint64_t token, struct input *input)
{
    struct watched *watched = &scene->peers[token];
    if (watched->armed)
        return;
    pf_channel_want_bell(&watched->peer.channel);
    if (hostile_post(&watched->peer, input) != 0)
        return;
    CHECK_EQ(pf_reactor_arm(&scene->reactor, token), watched->there ? 0 : -ENOENT);
    watched->armed = watched->there;
}

static void take_back(struct scene *scene, uint64_t token)
{
    struct watched *watched = &scene->peers[token];
    CHECK_EQ(pf_reactor_disarm(&scene->reactor, token), watched->armed);
    watched->armed = false;
}

static void forget(struct scene *scene, uint64_t token)
{
    struct watched *watched = &scene->peers[token];
    CHECK_EQ(pf_reactor_remove(&scene->reactor, token), watched->there ? 0 : -ENOENT);
    watched->there = watched->armed = false;
}

static void wait_for_events(struct scene *scene, struct input *input)
{
    struct pf_event events[ROOM];
    int room = 2 + (int)(number(input, 1) % (ROOM - 1));
    int count = pf_reactor_wait(&scene->reactor, events, room, 0);
    CHECK(count >= 0 && count <= room);
    for (int i = 0; i < count; i++) {
        if (events[i].kind == PF_EVENT_READABLE) {
            CHECK(events[i].token == PEERS);
            continue;
        }
        CHECK(events[i].kind == PF_EVENT_CALL && events[i].token < PEERS);
        struct watched *watched = &scene->peers[events[i].token];
        CHECK(watched->armed && events[i].wait != PF_WAIT_PENDING);
        CHECK(events[i].wait != PF_WAIT_DEADLINE || watched->peer.channel.doomed);
        CHECK(watched->peer.channel.region->host_asleep == 0);
        watched->armed = false;
        hostile_decided(&watched->peer, events[i].wait);
    }
}

static void talk_elsewhere(struct scene *scene, struct input *input)
{
    char bytes[8];
    if (number(input, 1) % 2)
        (void)!write(scene->plain[1], "hello", 5);
    else
        (void)!read(scene->plain[0], bytes, sizeof bytes);
}

static void run_step(struct scene *scene, struct input *input)
{
    uint64_t byte = number(input, 1), choice = byte % 16, token = (byte >> 4) % PEERS;
    if (choice <= 9)
        hostile_step(&scene->peers[token].peer, input, choice);
    else if (choice <= 11)
        wait_for_events(scene, input);
    else if (choice == 12)
        post(scene, token, input);
    else if (choice == 13)
        scene->peers[token].armed ? (void)0 : hostile_take(&scene->peers[token].peer);
    else if (choice == 14)
        byte >> 6 ? take_back(scene, token) : talk_elsewhere(scene, input);
    else
        byte >> 6 ? forget(scene, token) : add(scene, token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .left = size};
    struct scene scene = {0};
    int free_descriptor = next_descriptor();
    kills = 0;
    CHECK_EQ(pf_reactor_open(&scene.reactor), 0);
    CHECK_EQ(pf_socketpair(scene.plain), 0);
    fcntl(scene.plain[0], F_SETFL, O_NONBLOCK);
    fcntl(scene.plain[1], F_SETFL, O_NONBLOCK);
    CHECK_EQ(pf_reactor_add(&scene.reactor, PEERS, scene.plain[0], NULL), 0);
    for (uint64_t token = 0; token < PEERS; token++) {
        hostile_open(&scene.peers[token].peer, number(&input, 1));
        add(&scene, token);
    }
    while (input.left > 0)
        run_step(&scene, &input);
    pf_reactor_close(&scene.reactor);
    for (uint64_t token = 0; token < PEERS; token++)
        hostile_close(&scene.peers[token].peer);
    close(scene.plain[0]);
    close(scene.plain[1]);
    CHECK_EQ(next_descriptor(), free_descriptor);
    return 0;
}
