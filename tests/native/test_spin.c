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

static void does_not_spin_without_a_budget(void)
{
    struct pf_spin spin = {0}, rich = {.budget_ns = UINT32_MAX};
    _Atomic uint64_t word = 5;
    CHECK(!pf_spin_until_changed(&spin, &word, 5, UINT64_MAX));
    CHECK(!pf_spin_until_changed(&rich, &word, 5, 0));
}

static void ends_after_its_budget(void)
{
    struct pf_spin spin = {.budget_ns = 2000000};
    _Atomic uint64_t word = 5;
    uint64_t start = pf_now_ns();
    CHECK(!pf_spin_until_changed(&spin, &word, 5, UINT64_MAX));
    CHECK(pf_now_ns() - start >= 2000000);
    start = pf_now_ns();
    spin.budget_ns = UINT32_MAX;
    CHECK(!pf_spin_until_changed(&spin, &word, 5, 1000000));
    CHECK(pf_now_ns() - start >= 1000000);
}

static void learns_from_waits(void)
{
    struct pf_spin spin = {0};
    pf_spin_learn(&spin, 0, 50000);
    CHECK_EQ(spin.budget_ns, 50000);
    pf_spin_learn(&spin, SECOND, 50000);
    CHECK_EQ(spin.budget_ns, 25000);
    for (int i = 0; i < 20; i++)
        pf_spin_learn(&spin, SECOND, 50000);
    CHECK_EQ(spin.budget_ns, 0);
    pf_spin_learn(&spin, 50000 + PF_WAKE_UP_NS - 1, 50000); /* a wake-up took most of it */
    CHECK_EQ(spin.budget_ns, 50000);
    pf_spin_learn(&spin, 0, 0); /* told not to spin */
    CHECK_EQ(spin.budget_ns, 0);
}

static void large_limits_do_not_wrap(void)
{
    struct pf_spin spin = {0};
    pf_spin_learn(&spin, 0, UINT64_MAX);
    CHECK(spin.budget_ns == UINT32_MAX);
    pf_spin_learn(&spin, UINT64_MAX, UINT64_MAX);
    CHECK(spin.budget_ns == UINT32_MAX / 2);
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
}

int main(void)
{
    RUN(sees_what_is_there_at_once);
    RUN(does_not_spin_without_a_budget);
    RUN(ends_after_its_budget);
    RUN(learns_from_waits);
    RUN(large_limits_do_not_wrap);
    RUN(notices_a_change);
    return 0;
}
