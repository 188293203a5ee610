/* What a failed step says about itself: it crosses process boundaries as it is. */
#ifndef PF_ERROR_H
#define PF_ERROR_H

#include <stdio.h>
#include <string.h>

struct pf_error {
    int code;         /* a positive errno; 0 means that nothing failed */
    const char *step; /* borrowed: a string literal that names the step */
    char detail[96];  /* what the step was about; may be empty, always terminated */
};

/* Fills `err` (which may be NULL) and returns -code, so that a step can end with `return pf_fail(...)`. */
static inline int pf_fail(struct pf_error *err, int code, const char *step, const char *detail)
{
    if (code < 0)
        code = -code;
    if (err != NULL) {
        err->code = code;
        err->step = step;
        err->detail[0] = '\0';
        if (detail != NULL) {
            size_t len = strnlen(detail, sizeof err->detail - 1);
            memcpy(err->detail, detail, len);
            err->detail[len] = '\0';
        }
    }
    return -code;
}

#endif
