/* The warden: one per function version. It forks templates when the host says so, is the parent of all
 * processes of the version, pumps their logs, reports their deaths, and kills whatever they leave behind. It
 * never reads code, settings or events.
 *
 * One loop over one epoll; asleep unless something happens. It dies with the host (its socket's end) and
 * takes everything below with it.
 *
 * Orphans. Every child of the warden is a template (it forked it), an instance (a template's sibling fork,
 * which the host announces with PF_ADOPT before and confirms with PF_ADOPTED after), or an orphan: something
 * that user code forked and whose parent is dead. After each death orphans are looked for and killed:
 * children that are not known and were born before the oldest announcement that is still open, so that none
 * can be the instance that it means.
 */
#ifndef PF_WARDEN_H
#define PF_WARDEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pf_error.h"
#include "pf_fd.h"

struct pf_warden;

/* What a new template gets, and what the warden has to forget about afterwards. */
struct pf_order {
    struct pf_packet packet; /* PF_TEMPLATE */
    unsigned char body[PF_BODY_MAX];
};

/* Prepares this process: name, orphans, signals, descriptors (everything but `control`, which becomes 3, is
 * closed), PF_HELLO. All memory that it will ever need is reserved here, outside the heap. */
int pf_warden_open(struct pf_warden **out, int control, pid_t parent, struct pf_error *err);

/* Runs until a template is wanted (1: `order` holds it, the caller forks and calls one of the next two), or
 * until the host is gone (0: all children are dead by then, the caller exits). */
int pf_warden_run(struct pf_warden *warden, struct pf_order *order);

/* After the fork, in the warden: `pid` is the child's, or -errno, which is reported. Closes what belongs to
 * the child. */
void pf_warden_forked(struct pf_warden *warden, struct pf_order *order, pid_t pid);

/* After the fork, in the child: confines it (pf_confine_function). The order's descriptors have their new
 * numbers then: 3 the socket, 4 code, 5 settings, 6 channel and 7 doorbell if they were sent. On failure the
 * host has been told; the child must _exit(111). */
int pf_warden_child(struct pf_warden *warden, struct pf_order *order);

/* The warden's own pid, which its children check for. */
pid_t pf_warden_pid(const struct pf_warden *warden);

void pf_warden_close(struct pf_warden *warden);

#endif
