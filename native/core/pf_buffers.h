/* A payload with buffers: a head, a table, MessagePack, and then each buffer at the next multiple of 64
 * bytes.
 *
 *     struct pf_buffers_head | struct pf_buffers_entry × count | MessagePack | buffer | buffer …
 *
 * The table says how long each buffer is and nothing about where: so they cannot overlap, and all of them
 * together are never larger than the payload. In the MessagePack part, extension types stand for them, the
 * first for the first; pyfaas/_ipc/buffers.py knows what they mean. Header only: tests and fuzzers include it
 * as it is.
 */
#ifndef PF_BUFFERS_H
#define PF_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

#define PF_BUFFERS_MOST 1024u
#define PF_BUFFERS_ALIGN 64u

/* What the receiver makes of a buffer. */
enum pf_buffers_form {
    PF_BUFFER_BYTES = 0,  /* an object `bytes` */
    PF_BUFFER_MEMORY = 1, /* memory that something else is a view of */
    PF_BUFFER_FORMS
};

enum pf_buffers_fault {
    PF_BUFFERS_OK = 0,
    PF_BUFFERS_TRUNCATED = 1, /* the head, the table, the text or a buffer ends beyond the payload */
    PF_BUFFERS_TOO_MANY = 2,
    PF_BUFFERS_FORM = 3,     /* a form that does not exist, or a reserved field that is not zero */
    PF_BUFFERS_TRAILING = 4, /* the payload goes on after the last buffer */
};

struct pf_buffers_head {
    uint64_t text; /* bytes of MessagePack */
    uint32_t count;
    uint32_t zero;
};

struct pf_buffers_entry {
    uint64_t length;
    uint32_t form;
    uint32_t zero;
};

_Static_assert(sizeof(struct pf_buffers_head) == 16 && sizeof(struct pf_buffers_entry) == 16,
               "the wire has no padding");

/* Whether a table may be read after this head, which is a private copy; its size is 16 × count. */
static inline int pf_buffers_check_head(const struct pf_buffers_head *head, uint64_t length)
{
    if (length < sizeof *head)
        return PF_BUFFERS_TRUNCATED;
    if (head->count > PF_BUFFERS_MOST)
        return PF_BUFFERS_TOO_MANY;
    if (head->zero)
        return PF_BUFFERS_FORM;
    return head->count * sizeof(struct pf_buffers_entry) > length - sizeof *head ? PF_BUFFERS_TRUNCATED
                                                                                 : PF_BUFFERS_OK;
}

/* Finds where everything is in a payload of `length` bytes: *text, and starts[i] of each buffer. Head and
 * table are private copies; the head was checked. Every part then lies within the payload. */
static inline int pf_buffers_locate(const struct pf_buffers_head *head, const struct pf_buffers_entry *table,
                                    uint64_t length, uint64_t *text, uint64_t *starts)
{
    uint64_t at = sizeof *head + head->count * sizeof *table; /* at most `length`, here and below */
    *text = at;
    if (head->text > length - at)
        return PF_BUFFERS_TRUNCATED;
    at += head->text;
    for (uint32_t i = 0; i < head->count; i++) {
        if (table[i].form >= PF_BUFFER_FORMS || table[i].zero)
            return PF_BUFFERS_FORM;
        const uint64_t gap = -at % PF_BUFFERS_ALIGN;
        if (gap > length - at || table[i].length > length - at - gap)
            return PF_BUFFERS_TRUNCATED;
        starts[i] = at + gap;
        at += gap + table[i].length;
    }
    return at == length ? PF_BUFFERS_OK : PF_BUFFERS_TRAILING;
}

#endif
