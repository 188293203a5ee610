/* Payloads in many pieces on their way out, and with buffers on their way in. */
#ifndef PF_BINDINGS_BUFFERS_H
#define PF_BINDINGS_BUFFERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

#define PF_COPY_UNLOCKED (256u * 1024u) /* from here on a copy is long enough to let other threads run */

/* The memory of a payload: one object with a buffer, or a list of them that follow each other. */
struct pf_pieces {
    Py_buffer one;
    Py_buffer *many; /* owned; NULL if there is one */
    Py_ssize_t count;
    uint64_t length;
};

/* 0, or -1 with an exception set. What is open keeps the objects alive. */
int pf_pieces_open(struct pf_pieces *pieces, PyObject *payload);
void pf_pieces_close(struct pf_pieces *pieces);

/* Needs no GIL. */
void pf_pieces_copy(const struct pf_pieces *pieces, uint8_t *target);

/* New bytes to be filled; large ones of large pages, which are mapped in a fraction of the time. */
PyObject *pf_bytes_new(uint64_t length, char **target);

/* Copies a payload with buffers out of memory that a hostile process may write meanwhile: (text, buffers), or
 * the number of what is wrong with it (enum pf_buffers_fault). */
PyObject *pf_buffers_copy(PyTypeObject *ours, const uint8_t *shared, uint64_t length);

/* The same of a payload that nobody changes: its buffers are views of `whole`, which begins with it. */
PyObject *pf_buffers_view(PyObject *whole, const uint8_t *bytes, uint64_t length);

/* Memory: what a view of an arena or a large buffer holds on to. */
struct pf_memory_object {
    PyObject_HEAD uint8_t *bytes;
    uint64_t length;
    void *mapping; /* owned, unmapped with the last reference; NULL: borrowed */
    size_t mapped;
};

/* `ours` is any type of this module. */
struct pf_memory_object *pf_memory_new(PyTypeObject *ours);

#endif
