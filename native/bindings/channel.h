/* What the reactor has to know of a Channel. */
#ifndef PF_BINDINGS_CHANNEL_H
#define PF_BINDINGS_CHANNEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pf_channel.h"
#include "pf_clock.h"

struct pf_channel_object {
    PyObject_HEAD struct pf_channel channel;
    int memfd, peer_doorbell; /* owned until the peer has them */
    int users;                /* threads inside, under the GIL */
    PyObject *log;            /* LogRing of the peer; NULL before `expect` */
    bool closing;
};

#endif
