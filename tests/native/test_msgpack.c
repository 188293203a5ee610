/* sanitizers: address,undefined */
#define _GNU_SOURCE
#include "check.h"
#include "pf_msgpack.h"

#include <stdlib.h>
#include <string.h>

/* In a block of exactly its size, so that the sanitizer sees a read beyond it. */
static int check(const void *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    CHECK(copy != NULL);
    memcpy(copy, data, len);
    int fault = pf_msgpack_check(copy, len);
    free(copy);
    return fault;
}

#define FAULT(text) check(text, sizeof(text) - 1)

static void faults_have_their_names(void)
{
    CHECK_EQ(FAULT("\xc0"), PF_MSGPACK_OK);
    CHECK_EQ(FAULT("\x81\xa4name\xa3"
                   "Ada"),
             PF_MSGPACK_OK);
    CHECK_EQ(FAULT("\x92\xcb........\xc7\x02\x01xx"), PF_MSGPACK_OK);
    CHECK_EQ(FAULT(""), PF_MSGPACK_TRUNCATED);
    CHECK_EQ(FAULT("\xdb\xff\xff\xff\xff"), PF_MSGPACK_TRUNCATED);
    CHECK_EQ(FAULT("\xdf\xff\xff\xff\xff"), PF_MSGPACK_TRUNCATED);
    CHECK_EQ(FAULT("\xc0\xc0"), PF_MSGPACK_TRAILING);
    CHECK_EQ(FAULT("\xc1"), PF_MSGPACK_RESERVED);
    CHECK_EQ(FAULT("\x81\xc0\xc0"), PF_MSGPACK_KEY);
    CHECK_EQ(FAULT("\x81\xc4\x01kv"), PF_MSGPACK_KEY);
    CHECK_EQ(FAULT("\xd4\x06x"), PF_MSGPACK_TYPE);
    CHECK_EQ(FAULT("\xd6\xff...."), PF_MSGPACK_TYPE);
}

static void depth_has_a_limit(void)
{
    uint8_t deep[PF_MSGPACK_DEPTH + 2];
    memset(deep, 0x91, sizeof deep);
    deep[PF_MSGPACK_DEPTH] = 0xc0;
    CHECK_EQ(check(deep, PF_MSGPACK_DEPTH + 1), PF_MSGPACK_OK);
    deep[PF_MSGPACK_DEPTH] = 0x91;
    deep[PF_MSGPACK_DEPTH + 1] = 0xc0;
    CHECK_EQ(check(deep, PF_MSGPACK_DEPTH + 2), PF_MSGPACK_DEEP);
}

static void tiny_containers_have_a_limit(void)
{
    const uint32_t count = 1000000;
    uint8_t *bomb = malloc(count + 5);
    CHECK(bomb != NULL);
    memset(bomb, 0x80, count + 5);
    const uint8_t head[5] = {0xdd, (uint8_t)(count >> 24), (uint8_t)(count >> 16), (uint8_t)(count >> 8),
                             (uint8_t)count};
    memcpy(bomb, head, sizeof head);
    CHECK_EQ(pf_msgpack_check(bomb, count + 5), PF_MSGPACK_BOMB);
    free(bomb);
}

/* Whatever comes: an answer, and no read outside. */
static void random_bytes(void)
{
    static const uint8_t heads[] = {0x81, 0x92, 0xa3, 0xc4, 0xc7, 0xca, 0xcf, 0xd4,
                                    0xd8, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf};
    uint32_t state = 1;
    uint8_t data[64];
    for (int round = 0; round < 300000; round++) {
        size_t len = 0;
        for (size_t i = 0; i < sizeof data; i++) {
            state = state * 1664525u + 1013904223u;
            uint8_t byte = (uint8_t)(state >> 24);
            data[i] = (state >> 16 & 3) == 0   ? heads[byte % sizeof heads]
                      : (state >> 16 & 3) == 1 ? byte % 4
                                               : byte;
            len = state % (sizeof data + 1);
        }
        int fault = check(data, len);
        CHECK(fault >= PF_MSGPACK_OK && fault <= PF_MSGPACK_BOMB);
    }
}

int main(void)
{
    RUN(faults_have_their_names);
    RUN(depth_has_a_limit);
    RUN(tiny_containers_have_a_limit);
    RUN(random_bytes);
    return 0;
}
