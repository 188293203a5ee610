/* What a Channel has to know of a LogRing. */
#ifndef PF_BINDINGS_LOG_H
#define PF_BINDINGS_LOG_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

#include "pf_log.h"

struct pf_log_object {
    PyObject_HEAD struct pf_log log;
    uint64_t mark; /* where the output of the call in flight begins */
    int fd;        /* -1 once released */
    int users;     /* threads inside without the GIL */
    bool closed;
};

/* Whether it is a LogRing. */
bool pf_log_object_check(PyObject *object);

/* A call begins: what is in the ring already is another's. NULL: no log, nothing to do. */
static inline void pf_log_object_mark(PyObject *object)
{
    struct pf_log_object *self = (struct pf_log_object *)object;
    if (self && self->log.header)
        self->mark = pf_log_head(&self->log);
}

#endif
