/* sanitizers: address,undefined */
#define _GNU_SOURCE
#include "check.h"
#include "pf_buffers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct payload {
    struct pf_buffers_head head;
    struct pf_buffers_entry table[4];
};

/* Checks as the host does, each part in a block of exactly its size. */
static int check(const struct payload *payload, uint64_t length, uint64_t *text, uint64_t *starts)
{
    int fault = pf_buffers_check_head(&payload->head, length);
    if (fault)
        return fault;
    const size_t size = payload->head.count * sizeof *payload->table;
    CHECK(sizeof payload->head + size <= length);
    struct pf_buffers_entry *table = malloc(size ? size : 1);
    uint64_t *exact = malloc(payload->head.count * sizeof *exact + 1);
    CHECK(table != NULL && exact != NULL);
    memset(table, 0, size);
    memcpy(table, payload->table, size < sizeof payload->table ? size : sizeof payload->table);
    fault = pf_buffers_locate(&payload->head, table, length, text, exact);
    if (!fault && payload->head.count)
        memcpy(starts, exact, payload->head.count * sizeof *exact);
    free(table);
    free(exact);
    return fault;
}

static void parts_are_found(void)
{
    const struct payload payload = {{.text = 3, .count = 2}, {{.length = 10, .form = 1}, {.length = 64}}};
    uint64_t text, starts[4];
    /* head 16, table 32, text at 48 to 51, buffers at 64 and 128 */
    CHECK_EQ(check(&payload, 192, &text, starts), PF_BUFFERS_OK);
    CHECK_EQ(text, 48);
    CHECK_EQ(starts[0], 64);
    CHECK_EQ(starts[1], 128);
    CHECK_EQ(check(&payload, 191, &text, starts), PF_BUFFERS_TRUNCATED);
    CHECK_EQ(check(&payload, 193, &text, starts), PF_BUFFERS_TRAILING);
    CHECK_EQ(check(&payload, 70, &text, starts), PF_BUFFERS_TRUNCATED);
    CHECK_EQ(check(&payload, 50, &text, starts), PF_BUFFERS_TRUNCATED);
    CHECK_EQ(check(&payload, 40, &text, starts), PF_BUFFERS_TRUNCATED);
    CHECK_EQ(check(&payload, 15, &text, starts), PF_BUFFERS_TRUNCATED);
    const struct payload empty = {{.text = 1}};
    CHECK_EQ(check(&empty, 17, &text, starts), PF_BUFFERS_OK);
    CHECK_EQ(check(&empty, 0, &text, starts), PF_BUFFERS_TRUNCATED);
}

static void lies_have_their_names(void)
{
    uint64_t text, starts[4];
    const struct {
        struct payload payload;
        int fault;
    } cases[] = {
        {{{.text = UINT64_MAX, .count = 1}}, PF_BUFFERS_TRUNCATED},
        {{{.text = UINT64_MAX - 31, .count = 1}}, PF_BUFFERS_TRUNCATED},
        {{{.text = 1, .count = 1}, {{.length = UINT64_MAX}}}, PF_BUFFERS_TRUNCATED},
        {{{.text = 1, .count = 1}, {{.length = UINT64_MAX - 63}}}, PF_BUFFERS_TRUNCATED},
        {{{.text = 1, .count = 2}, {{.length = 64}, {.length = (uint64_t)-128}}}, PF_BUFFERS_TRUNCATED},
        {{{.text = 1, .count = PF_BUFFERS_MOST + 1}}, PF_BUFFERS_TOO_MANY},
        {{{.text = 1, .count = UINT32_MAX}}, PF_BUFFERS_TOO_MANY},
        {{{.text = 1, .count = 1000}}, PF_BUFFERS_TRUNCATED},
        {{{.text = 1, .count = 1}, {{.length = 64, .form = 2}}}, PF_BUFFERS_FORM},
        {{{.text = 1, .count = 1}, {{.length = 64, .zero = 1}}}, PF_BUFFERS_FORM},
        {{{.text = 1, .count = 1, .zero = 1}, {{.length = 64}}}, PF_BUFFERS_FORM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_EQ(check(&cases[i].payload, 128, &text, starts), cases[i].fault);
}

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t number(uint64_t near)
{
    const uint64_t choice = next();
    return choice % 8 == 0 ? next() : choice % 8 == 1 ? -(next() % 256) : near + next() % 5 - 2;
}

/* Whatever the numbers: what is accepted lies within the payload, in order, aligned, without overlaps. */
static void random_tables(void)
{
    int accepted = 0;
    for (int round = 0; round < 300000; round++) {
        struct payload payload = {{.text = number(20), .count = next() % 5}};
        uint64_t length = 16 + 16 * payload.head.count + payload.head.text;
        for (uint32_t i = 0; i < 4; i++) {
            payload.table[i] = (struct pf_buffers_entry){number(100), next() % 16 ? next() % 2 : 2, 0};
            if (i < payload.head.count)
                length += -length % PF_BUFFERS_ALIGN + payload.table[i].length;
        }
        length += next() % 4 == 0 ? number(0) : 0;
        uint64_t text, starts[4];
        if (check(&payload, length, &text, starts))
            continue;
        accepted++;
        uint64_t end = text + payload.head.text;
        CHECK(end >= text && end <= length);
        for (uint32_t i = 0; i < payload.head.count; i++) {
            CHECK(starts[i] % PF_BUFFERS_ALIGN == 0 && starts[i] >= end && starts[i] <= length);
            end = starts[i] + payload.table[i].length;
            CHECK(end >= starts[i] && end <= length);
        }
        CHECK_EQ(end, length);
    }
    CHECK(accepted > 1000);
}

int main(void)
{
    RUN(parts_are_found);
    RUN(lies_have_their_names);
    RUN(random_tables);
    return 0;
}
