/* sanitizers: address,undefined thread */
/* Spinning: what it learns from, and that it ends. */
#include "rig.h"

#include "pf_spin.h"

static void sees_what_is_there_at_once(void)
{
    struct pf_spin spin = {0};
    _Atomic uint64_t word = 5;
    CHECK(pf_spin_until_changed(&spin, &word, 4, 0));
    CHECK(pf_spin_until_changed(&spin, &word, 4, UINT64_MAX));
}

static void does_not_spin_when_told_so(void)
{
    struct pf_spin spin = {.budget_ns = UINT32_MAX};
    _Atomic uint64_t word = 5;
    CHECK(!pf_spin_until_changed(&spin, &word, 5, 0));
    CHECK_EQ(spin.misses, 0); /* and learns nothing from it */
}

static void ends_after_its_budget(void)
{
    struct pf_spin spin = {.budget_ns = 2000000, .misses = 1};
    _Atomic uint64_t word = 5;
    uint64_t start = pf_now_ns();
    CHECK(!pf_spin_until_changed(&spin, &word, 5, UINT64_MAX));
    CHECK(pf_now_ns() - start >= 2000000);
    start = pf_now_ns();
    spin.budget_ns = UINT32_MAX;
    CHECK(!pf_spin_until_changed(&spin, &word, 5, 1000000));
    CHECK(pf_now_ns() - start >= 1000000);
}

static void gives_up_and_tries_again(void)
{
    struct pf_spin spin = {0};
    _Atomic uint64_t word = 5;
    uint32_t full = 0;
    for (int i = 0; i < 4 * (int)PF_SPIN_RETRY; i++) {
        pf_spin_until_changed(&spin, &word, 5, 50000);
        full += spin.budget_ns == 50000 / 4;
    }
    CHECK_EQ(full, 4);
    for (int i = 0; i < 12; i++)
        pf_spin_until_changed(&spin, &word, 5, 50000);
    CHECK_EQ(spin.budget_ns, 0);
}

static void learns_from_waits(void)
{
    struct pf_spin spin = {.misses = 5};
    pf_spin_learn(&spin, 50000, 50000); /* spinning would not have caught it either */
    CHECK_EQ(spin.budget_ns, 0);
    CHECK_EQ(spin.misses, 5);
    pf_spin_learn(&spin, 49999, 50000);
    CHECK_EQ(spin.budget_ns, 50000);
    CHECK_EQ(spin.misses, 0);
    pf_spin_learn(&spin, 0, UINT64_MAX);
    CHECK_EQ(spin.budget_ns, UINT32_MAX);
}

static void *set_word(void *word)
{
    poll(NULL, 0, 1);
    atomic_store((_Atomic uint64_t *)word, 6);
    return NULL;
}

static void notices_a_change(void)
{
    struct pf_spin spin = {.budget_ns = UINT32_MAX};
    _Atomic uint64_t word = 5;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, set_word, &word) == 0);
    CHECK(pf_spin_until_changed(&spin, &word, 5, UINT64_MAX));
    pthread_join(thread, NULL);
    CHECK_EQ(spin.budget_ns, UINT32_MAX); /* a limit beyond it does not wrap */
    CHECK_EQ(spin.misses, 0);
}

int main(void)
{
    RUN(sees_what_is_there_at_once);
    RUN(does_not_spin_when_told_so);
    RUN(ends_after_its_budget);
    RUN(gives_up_and_tries_again);
    RUN(learns_from_waits);
    RUN(notices_a_change);
    return 0;
}
