/* A payload with buffers as a hostile process may write it, in a block of exactly its size. The first two
 * bytes of the input say how much longer the payload is than the input; what is missing are zeros. */
#include "pf_buffers.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const size_t length = size - 2 + (size_t)(data[0] | data[1] << 8);
    uint8_t *payload = calloc(length + 1, 1);
    struct pf_buffers_head head = {0};
    expect(payload != NULL);
    memcpy(payload, data + 2, size - 2);
    if (length >= sizeof head)
        memcpy(&head, payload, sizeof head);
    if (pf_buffers_check_head(&head, length) == PF_BUFFERS_OK) {
        const size_t table_size = head.count * sizeof(struct pf_buffers_entry);
        struct pf_buffers_entry *table = malloc(table_size + 1);
        uint64_t *starts = malloc(head.count * sizeof *starts + 1), text, sum = 0;
        expect(table && starts && sizeof head + table_size <= length);
        memcpy(table, payload + sizeof head, table_size);
        if (pf_buffers_locate(&head, table, length, &text, starts) == PF_BUFFERS_OK) {
            for (uint64_t i = 0; i < head.text; i++)
                sum += payload[text + i];
            uint64_t end = text + head.text;
            for (uint32_t i = 0; i < head.count; i++) {
                expect(starts[i] >= end && starts[i] % PF_BUFFERS_ALIGN == 0);
                for (uint64_t n = 0; n < table[i].length; n++)
                    sum += payload[starts[i] + n];
                end = starts[i] + table[i].length;
            }
            expect(end == length && sum < UINT64_MAX);
        }
        free(table);
        free(starts);
    }
    free(payload);
    return 0;
}
