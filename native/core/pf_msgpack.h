/* Is this MessagePack what pyfaas itself writes? One pass without recursion or allocation, before a parser
 * that builds objects may see bytes from a confined process. Header only: tests and fuzzers include it as it
 * is.
 *
 * Beyond being well-formed and complete, the value must be one that the encoder can produce: keys are text,
 * no more than PF_MSGPACK_DEPTH levels, extension types 1 to PF_MSGPACK_EXT. And it must not be a bomb: an
 * empty map is one byte here and 64 or more as an object, so lists and maps are limited to one for each three
 * bytes, plus a constant that no memory limit of a host notices. Everything else grows by a factor below 25.
 */
#ifndef PF_MSGPACK_H
#define PF_MSGPACK_H

#include <stddef.h>
#include <stdint.h>

#define PF_MSGPACK_DEPTH 256
#define PF_MSGPACK_EXT 5
#define PF_MSGPACK_FREE_CONTAINERS 262144u

enum pf_msgpack_fault {
    PF_MSGPACK_OK = 0,
    PF_MSGPACK_TRUNCATED = 1,
    PF_MSGPACK_TRAILING = 2,
    PF_MSGPACK_RESERVED = 3, /* the byte 0xc1 */
    PF_MSGPACK_DEEP = 4,
    PF_MSGPACK_KEY = 5,
    PF_MSGPACK_TYPE = 6,
    PF_MSGPACK_BOMB = 7,
};

static inline size_t pf_msgpack_limit(size_t len)
{
    return PF_MSGPACK_FREE_CONTAINERS + len / 3;
}

/* One item's header. `items` is what a container holds, keys counted; `skip` is what follows as plain bytes.
 */
struct pf_msgpack_item {
    uint64_t items, skip;
    uint8_t container, map, text, ext;
    int8_t ext_type;
};

static inline uint64_t pf_msgpack_big_endian(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

/* Reads the header at `at`, of which `left` > 0 bytes exist; returns its length, or 0 with *fault set. */
static inline size_t pf_msgpack_header(const uint8_t *at, size_t left, struct pf_msgpack_item *item,
                                       int *fault)
{
    /* Of each head from 0xc0 to 0xdf: bytes of a length field (0: none), then bytes that simply follow. */
    static const uint8_t length_width[32] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0,
                                             0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    static const uint8_t fixed_skip[32] = {0, 0, 0, 0, 0, 0, 0, 0, 0,  0, 4, 8, 1, 2, 4, 8,
                                           1, 2, 4, 8, 1, 2, 4, 8, 16, 0, 0, 0, 0, 0, 0, 0};
    const uint8_t head = at[0];
    *item = (struct pf_msgpack_item){0};
    if (head < 0x80 || head >= 0xe0) /* a small integer */
        return 1;
    if (head < 0xa0) {
        item->container = 1;
        item->map = head < 0x90;
        item->items = (uint64_t)(head & 0x0f) << item->map;
        return 1;
    }
    if (head < 0xc0) {
        item->text = 1;
        item->skip = head & 0x1f;
        return 1;
    }
    const unsigned width = length_width[head - 0xc0];
    item->ext = (head >= 0xc7 && head <= 0xc9) || (head >= 0xd4 && head <= 0xd8);
    const size_t size = 1u + width + item->ext;
    if (head == 0xc1 || left < size) {
        *fault = head == 0xc1 ? PF_MSGPACK_RESERVED : PF_MSGPACK_TRUNCATED;
        return 0;
    }
    item->skip = width ? pf_msgpack_big_endian(at + 1, width) : fixed_skip[head - 0xc0];
    item->text = head >= 0xd9 && head <= 0xdb;
    if (item->ext)
        item->ext_type = (int8_t)at[1 + width];
    if (head >= 0xdc) {
        item->container = 1;
        item->map = head >= 0xde;
        item->items = item->skip << item->map;
        item->skip = 0;
    }
    return size;
}

/* Returns PF_MSGPACK_OK, or what is wrong. Reads nothing outside `data[0..len)`, which nobody may change
 * meanwhile. */
static inline int pf_msgpack_check(const uint8_t *data, size_t len)
{
    uint64_t pending[PF_MSGPACK_DEPTH + 1]; /* items still to come, by level */
    uint8_t is_map[PF_MSGPACK_DEPTH + 1];
    size_t pos = 0, containers = 0;
    const size_t limit = pf_msgpack_limit(len);
    unsigned depth = 0;
    pending[0] = 1;
    is_map[0] = 0;
    for (;;) {
        while (pending[depth] == 0) {
            if (depth == 0)
                return pos == len ? PF_MSGPACK_OK : PF_MSGPACK_TRAILING;
            depth--;
        }
        if (pos >= len)
            return PF_MSGPACK_TRUNCATED;
        struct pf_msgpack_item item;
        int fault = PF_MSGPACK_OK;
        const size_t size = pf_msgpack_header(data + pos, len - pos, &item, &fault);
        if (size == 0)
            return fault;
        pos += size;
        if (item.skip > len - pos)
            return PF_MSGPACK_TRUNCATED;
        pos += (size_t)item.skip;
        const int is_key = is_map[depth] && pending[depth] % 2 == 0;
        pending[depth]--;
        if (is_key && !item.text)
            return PF_MSGPACK_KEY;
        if (item.ext && (item.ext_type < 1 || item.ext_type > PF_MSGPACK_EXT))
            return PF_MSGPACK_TYPE;
        if (!item.container)
            continue;
        if (item.items > len - pos) /* each takes a byte at least */
            return PF_MSGPACK_TRUNCATED;
        if (++containers > limit)
            return PF_MSGPACK_BOMB;
        if (++depth > PF_MSGPACK_DEPTH)
            return PF_MSGPACK_DEEP;
        pending[depth] = item.items;
        is_map[depth] = item.map;
    }
}

#endif
