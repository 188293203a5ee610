/* How long a wait spins before it sleeps, learned from the waits before it.
 *
 * A blocking wake-up costs about 40 us, a round trip through a spinning peer well under one. Spinning pays
 * when the answer comes soon, and is waste otherwise: so a wait that was longer than the limit halves the
 * budget, and one that spinning would have caught restores it.
 */
#ifndef PF_SPIN_H
#define PF_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pf_clock.h"

#define PF_WAKE_UP_NS 60000u /* a wait that slept includes one wake-up */

struct pf_spin {
    uint32_t budget_ns;
};

/* True as soon as *word differs from `old`; false after the budget (at most limit_ns). */
static inline bool pf_spin_until_changed(struct pf_spin *spin, _Atomic uint64_t *word, uint64_t old,
                                         uint64_t limit_ns)
{
    uint64_t budget = spin->budget_ns < limit_ns ? spin->budget_ns : limit_ns;
    if (atomic_load_explicit(word, memory_order_acquire) != old)
        return true;
    if (budget == 0)
        return false;
    uint64_t end = pf_now_ns() + budget;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old)
                return true;
            pf_pause();
        }
    } while (pf_now_ns() < end);
    return false;
}

/* Tells the budget how long the whole wait took. */
static inline void pf_spin_learn(struct pf_spin *spin, uint64_t waited_ns, uint64_t limit_ns)
{
    if (limit_ns > UINT32_MAX)
        limit_ns = UINT32_MAX;
    if (waited_ns < limit_ns + PF_WAKE_UP_NS)
        spin->budget_ns = (uint32_t)limit_ns;
    else
        spin->budget_ns /= 2;
}

#endif
