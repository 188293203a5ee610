/* The supervisor: one per Runtime, exec'd, with nothing of the host's in it. It keeps a base running, passes
 * messages between host and base unread, inherits the orphans of everything below it and kills them, and ends
 * with the host. */
#ifndef PF_SUPERVISE_H
#define PF_SUPERVISE_H

#include "pf_error.h"

struct pf_supervise {
    int control;            /* to the host; borrowed */
    int host;               /* the host's pidfd, or -1; borrowed */
    const char *executable; /* of the base */
    char *const *argv;      /* of the base; its control socket is descriptor 3 */
    char *const *envp;
};

/* How long the base may live without having been a quick death, and how many quick ones in a row are too
 * many. */
#define PF_QUICK_DEATH_NS 1000000000LL
#define PF_QUICK_DEATHS_MAX 5

/* Runs until the host is gone (0) or the base cannot be kept alive (-ECHILD) or this process cannot be
 * prepared (-errno, `err` filled and the host told). Nothing that it started is alive when it returns. */
int pf_supervise(const struct pf_supervise *plan, struct pf_error *err);

#endif
