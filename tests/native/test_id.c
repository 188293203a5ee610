/* sanitizers: address,undefined */
/* Ids: the published test vector, and that no two are the same. */
#include "check.h"
#include "pf_id.h"

static void is_siphash(void)
{
    /* Of 00 01 … 07 under the key 00 01 … 0f; entry 8 of the reference implementation's vectors_sip128. */
    static const uint8_t wanted[16] = {0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61,
                                       0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97, 0xb4};
    const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    uint64_t out[2];
    pf_sip_word(key, 0x0706050403020100u, out);
    CHECK(memcmp(out, wanted, sizeof wanted) == 0);
}

static void ids_are_uuids_and_differ(void)
{
    static uint8_t ids[4][1000][PF_ID_SIZE];
    for (int channel = 0; channel < 4; channel++) {
        struct pf_ids source;
        CHECK_EQ(pf_ids_open(&source), 0);
        for (int i = 0; i < 1000; i++) {
            pf_ids_next(&source, ids[channel][i]);
            CHECK((ids[channel][i][6] & 0xf0) == 0x40 && (ids[channel][i][8] & 0xc0) == 0x80);
        }
    }
    const uint8_t (*all)[PF_ID_SIZE] = ids[0];
    for (int i = 0; i < 4000; i++)
        for (int j = 0; j < i; j++)
            CHECK(memcmp(all[i], all[j], PF_ID_SIZE) != 0);
}

int main(void)
{
    RUN(is_siphash);
    RUN(ids_are_uuids_and_differ);
    return 0;
}
