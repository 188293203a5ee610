/* How long a wait spins before it sleeps, learned from the waits before it.
 *
 * A blocking wake-up costs about 40 us, a round trip through a spinning peer well under one. Spinning pays
 * when the answer comes soon, and is waste otherwise: a wait that spinning caught restores the budget, one
 * that it did not cuts it down. Now and then a wait tries the full limit again, or two ends that sleep would
 * never find each other awake.
 */
#ifndef PF_SPIN_H
#define PF_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pf_clock.h"

/* Every so many waits that spinning did not catch, one more tries the full limit. */
#define PF_SPIN_RETRY 16u

struct pf_spin {
    uint32_t budget_ns;
    uint32_t misses; /* in a row */
};

static inline bool pf_spin_changed(_Atomic uint64_t *word, uint64_t old, uint64_t budget_ns)
{
    uint64_t end = pf_now_ns() + budget_ns;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old)
                return true;
            pf_pause();
        }
    } while (pf_now_ns() < end);
    return false;
}

/* True as soon as *word differs from `old`; false after the budget (at most limit_ns; 0: no spinning at all).
 */
static inline bool pf_spin_until_changed(struct pf_spin *spin, _Atomic uint64_t *word, uint64_t old,
                                         uint64_t limit_ns)
{
    if (limit_ns > UINT32_MAX)
        limit_ns = UINT32_MAX;
    if (atomic_load_explicit(word, memory_order_acquire) != old)
        return true;
    if (limit_ns == 0)
        return false;
    uint64_t budget = spin->budget_ns < limit_ns ? spin->budget_ns : limit_ns;
    if (spin->misses % PF_SPIN_RETRY == 0)
        budget = limit_ns;
    bool caught = budget != 0 && pf_spin_changed(word, old, budget);
    spin->misses = caught ? 0 : spin->misses + 1;
    spin->budget_ns = caught ? (uint32_t)limit_ns : (uint32_t)(budget / 4);
    return caught;
}

/* Tells the budget how long a wait took that spinning did not catch: within the limit, it would have paid. */
static inline void pf_spin_learn(struct pf_spin *spin, uint64_t waited_ns, uint64_t limit_ns)
{
    if (waited_ns >= limit_ns)
        return;
    spin->budget_ns = limit_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)limit_ns;
    spin->misses = 0;
}

#endif
