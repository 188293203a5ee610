/* pf_msgpack_check against a second reading of the format, which is slow and recursive: the two agree on
 * every input. The bytes are in a block of exactly their size, so that the sanitizer sees a read beyond it.
 */
#include "fuzz_input.h"
#include "pf_msgpack.h"

struct reading {
    const uint8_t *at, *end;
};

struct value {
    uint64_t bytes, items; /* what follows as plain bytes; what a container holds, keys counted */
    bool text, container, map, extension;
    uint8_t type;
};

static bool field(struct reading *r, unsigned width, uint64_t *value)
{
    *value = 0;
    if ((uint64_t)(r->end - r->at) < width)
        return false;
    while (width-- > 0)
        *value = *value * 256 + *r->at++;
    return true;
}

/* The heads without a length beside them. */
static void read_short(uint8_t head, struct value *value)
{
    if (head < 0xc0 && head >= 0xa0)
        *value = (struct value){.text = true, .bytes = head - 0xa0};
    else if (head < 0xa0 && head >= 0x90)
        *value = (struct value){.container = true, .items = head - 0x90};
    else if (head < 0x90 && head >= 0x80)
        *value = (struct value){.container = true, .map = true, .items = 2 * (uint64_t)(head - 0x80)};
    else if (head == 0xca || head == 0xce || head == 0xd2)
        value->bytes = 4;
    else if (head == 0xcb || head == 0xcf || head == 0xd3)
        value->bytes = 8;
    else if (head == 0xcd || head == 0xd1)
        value->bytes = 2;
    else if (head == 0xcc || head == 0xd0)
        value->bytes = 1;
    else if (head >= 0xd4 && head <= 0xd8)
        *value = (struct value){.extension = true, .bytes = UINT64_C(1) << (head - 0xd4)};
}

/* The heads with a length of 1, 2 or 4 bytes; 0: not one of these. */
static unsigned read_long(uint8_t head, struct value *value)
{
    value->extension = head >= 0xc7 && head <= 0xc9;
    value->text = head >= 0xd9 && head <= 0xdb;
    value->container = head >= 0xdc && head <= 0xdf;
    value->map = head >= 0xde && head <= 0xdf;
    if (head >= 0xc4 && head <= 0xc6)
        return 1u << (head - 0xc4);
    if (value->extension)
        return 1u << (head - 0xc7);
    if (value->text)
        return 1u << (head - 0xd9);
    return value->container ? 2u << (head & 1) : 0;
}

static int read_value(struct reading *r, unsigned depth, bool is_key)
{
    uint64_t head, length, type = 0;
    struct value value = {0};
    if (!field(r, 1, &head))
        return PF_MSGPACK_TRUNCATED;
    if (head == 0xc1)
        return PF_MSGPACK_RESERVED;
    unsigned width = read_long((uint8_t)head, &value);
    if (!field(r, width, &length))
        return PF_MSGPACK_TRUNCATED;
    if (value.container)
        value.items = value.map ? 2 * length : length;
    else
        value.bytes = length;
    if (width == 0)
        read_short((uint8_t)head, &value);
    if (value.extension && !field(r, 1, &type))
        return PF_MSGPACK_TRUNCATED;
    if (value.bytes > (uint64_t)(r->end - r->at))
        return PF_MSGPACK_TRUNCATED;
    r->at += value.bytes;
    if (is_key && !value.text)
        return PF_MSGPACK_KEY;
    if (value.extension && (type < 1 || type > PF_MSGPACK_EXT))
        return PF_MSGPACK_TYPE;
    if (value.container && value.items > (uint64_t)(r->end - r->at))
        return PF_MSGPACK_TRUNCATED;
    if (value.container && depth == PF_MSGPACK_DEPTH)
        return PF_MSGPACK_DEEP;
    int fault = PF_MSGPACK_OK;
    for (uint64_t i = 0; i < value.items && fault == PF_MSGPACK_OK; i++)
        fault = read_value(r, depth + 1, value.map && i % 2 == 0);
    return fault;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >=
        PF_MSGPACK_FREE_CONTAINERS) /* from here on a bomb is possible, of which this reading knows nothing */
        return 0;
    uint8_t *copy = malloc(size);
    memcpy(copy, data, size);
    struct reading r = {.at = copy, .end = copy + size};
    int wanted = read_value(&r, 0, false);
    if (wanted == PF_MSGPACK_OK && r.at != r.end)
        wanted = PF_MSGPACK_TRAILING;
    CHECK_EQ(pf_msgpack_check(copy, size), wanted);
    free(copy);
    return 0;
}
