/* What a function's processes are confined to: one ordered list of steps for the template, before the first
 * byte of user code, and one for each instance, right after its fork. Everything that can be prepared has
 * been, by the host (pyfaas/_sandbox/plan.py); here it is only applied. A step that fails ends the process:
 * nothing runs less confined than asked for. */
#ifndef PF_CONFINE_H
#define PF_CONFINE_H

#include <stdint.h>
#include <sys/types.h>

#include "pf_control.h"
#include "pf_error.h"

#define PF_PLAN_MAGIC 0x4e4c5046u /* "FPLN" */
#define PF_PLAN_VERSION 1
#define PF_PLAN_LIMITS_MAX 16
/* Flag: all steps; without it only those that a worker needs in order to work. */
#define PF_PLAN_CONFINED 1u

/* As packed: this header, then `limits` times a pf_plan_limit, then nothing. */
struct pf_plan_header {
    uint32_t magic;
    uint16_t version;
    uint16_t flags;
    uint32_t limits;
    uint32_t zero;
};

struct pf_plan_limit {
    uint32_t resource; /* RLIMIT_* of this machine */
    uint32_t zero;
    uint64_t value; /* soft and hard; a lower hard limit that is already there stays */
};

struct pf_plan {
    struct pf_plan_header header;
    struct pf_plan_limit limits[PF_PLAN_LIMITS_MAX];
};

/* Where the process is: who its parent must be, and the descriptors that it is to keep. */
struct pf_place {
    pid_t parent;
    const char *name; /* for ps */
    int log;          /* becomes 1 and 2 */
    int nfds;
    int fds[PF_FDS_MAX]; /* become 3, 4, … in this order; everything else is closed */
};

/* Copies and checks a packed plan. */
int pf_plan_read(struct pf_plan *plan, const void *packed, size_t len, struct pf_error *err);

/* 0, or -errno with the step's name in `err`; then the process must end. `place->fds` has the new numbers
 * afterwards. */
int pf_confine_function(const struct pf_plan *plan, struct pf_place *place, struct pf_error *err);
int pf_confine_instance(const struct pf_plan *plan, struct pf_place *place, struct pf_error *err);

/* Steps that trusted processes use too. */
int pf_confine_die_with_parent(pid_t parent);
int pf_confine_descriptors(struct pf_place *place);
void pf_confine_signals(void);

#endif
