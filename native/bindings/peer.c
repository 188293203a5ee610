/* Peer: the instance's end. */
#include "bindings.h"

#include <errno.h>
#include <stdbool.h>

#include "buffers.h"
#include "pf_fd.h"
#include "pf_peer.h"

struct peer_object {
    PyObject_HEAD struct pf_peer peer;
    int log;
    struct pf_memory_object *loan; /* what the request's arrays are views of; the arena is the peer's own */
};

static PyObject *raise_errno(int rc)
{
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int peer_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"memfd", "doorbell", "log", NULL};
    struct peer_object *self = (struct peer_object *)op;
    int memfd, doorbell;
    self->log = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|i:Peer", names, &memfd, &doorbell, &self->log))
        return -1;
    if (self->peer.region) {
        PyErr_SetString(PyExc_RuntimeError, "a peer is opened once");
        return -1;
    }
    int rc = pf_peer_open(&self->peer, memfd, doorbell);
    if (rc < 0)
        raise_errno(rc);
    return rc < 0 ? -1 : 0;
}

static PyObject *peer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct peer_object *self = (struct peer_object *)alloc(type, 0);
    if (self)
        self->peer.doorbell = -1;
    return (PyObject *)self;
}

/* Whoever still has views of the request gets the arena itself. The peer can serve no more. */
static void give_up_arena(struct peer_object *self)
{
    struct pf_memory_object *loan = self->loan;
    self->loan = NULL;
    if (loan && Py_REFCNT((PyObject *)loan) > 1) {
        loan->mapping = self->peer.request_arena.bytes;
        loan->mapped = self->peer.request_arena.capacity;
        self->peer.request_arena = (struct pf_arena){0};
    }
    Py_XDECREF((PyObject *)loan);
}

/* Before the host may write the next request: views that the function kept must not change under it. */
static int settle_loan(struct peer_object *self)
{
    struct pf_memory_object *loan = self->loan;
    if (!loan)
        return 0;
    uint8_t *bytes = self->peer.request_arena.bytes;
    int rc = 0;
    if (Py_REFCNT((PyObject *)loan) > 1) {
        rc = pf_arena_part(&self->peer.request_arena, loan->length);
        if (rc == -ENOMEM && PyGC_Collect() > 0) /* it may be garbage that holds them */
            rc = Py_REFCNT((PyObject *)loan) > 1 ? pf_arena_part(&self->peer.request_arena, loan->length) : 0;
    }
    if (rc < 0) {
        give_up_arena(self);
        PyErr_NoMemory();
        return -1;
    }
    if (self->peer.request_arena.bytes != bytes) {
        loan->mapping = bytes;
        loan->mapped = loan->length; /* munmap rounds up */
    }
    self->loan = NULL;
    Py_DECREF((PyObject *)loan);
    return 0;
}

static void peer_dealloc(PyObject *op)
{
    struct peer_object *self = (struct peer_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    give_up_arena(self);
    pf_peer_close(&self->peer);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

static int check_open(struct peer_object *self)
{
    if (self->peer.region)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the peer is closed");
    return -1;
}

static PyObject *peer_hello(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct peer_object *self = (struct peer_object *)op;
    if (check_open(self) < 0)
        return NULL;
    int rc = pf_peer_hello(&self->peer);
    return rc < 0 ? raise_errno(rc) : Py_NewRef(Py_None);
}

/* (text, buffers) of a request with buffers; large ones are views of the arena. */
static PyObject *read_buffers(struct peer_object *self, const struct pf_request *request)
{
    if (request->payload != self->peer.request_arena.bytes) { /* small */
        PyObject *copy =
            PyByteArray_FromStringAndSize((const char *)request->payload, (Py_ssize_t)request->length);
        PyObject *parts = copy ? pf_buffers_view(copy, request->payload, request->length) : NULL;
        Py_XDECREF(copy);
        return parts;
    }
    struct pf_memory_object *loan = pf_memory_new(Py_TYPE((PyObject *)self));
    if (!loan)
        return NULL;
    loan->bytes = self->peer.request_arena.bytes;
    loan->length = request->length;
    self->loan = loan;
    return pf_buffers_view((PyObject *)loan, request->payload, request->length);
}

/* As Py_BuildValue would, in half its time. */
static PyObject *describe(struct peer_object *self, const struct pf_request *request)
{
    PyObject *tuple = PyTuple_New(4);
    PyObject *parts[4] = {
        PyLong_FromLong((long)request->kind),
        request->kind == PF_KIND_BUFFERS
            ? read_buffers(self, request)
            : PyBytes_FromStringAndSize((const char *)request->payload, (Py_ssize_t)request->length),
        PyBytes_FromStringAndSize((const char *)request->id, PF_ID_SIZE),
        PyLong_FromUnsignedLongLong(request->deadline_ns),
    };
    bool failed = !tuple;
    for (Py_ssize_t i = 0; i < 4; i++) {
        failed = failed || !parts[i];
        if (tuple)
            PyTuple_SetItem(tuple, i, parts[i]);
        else
            Py_XDECREF(parts[i]);
    }
    if (failed)
        Py_CLEAR(tuple);
    return tuple;
}

static PyObject *peer_receive(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct peer_object *self = (struct peer_object *)op;
    if (check_open(self) < 0)
        return NULL;
    struct pf_request request;
    int rc;
    do {
        Py_BEGIN_ALLOW_THREADS;
        rc = pf_peer_receive(&self->peer, &request);
        Py_END_ALLOW_THREADS;
        if (rc == -EINTR && PyErr_CheckSignals() < 0)
            return NULL;
    } while (rc == -EINTR);
    if (rc < 0)
        return raise_errno(rc);
    if (rc == 0)
        Py_RETURN_NONE;
    return describe(self, &request);
}

static int write_reply(struct pf_peer *peer, const struct pf_pieces *payload)
{
    uint8_t *room;
    int rc = pf_peer_reserve(peer, payload->length, &room);
    if (rc == 0)
        pf_pieces_copy(payload, room);
    return rc;
}

static PyObject *peer_reply(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    struct peer_object *self = (struct peer_object *)op;
    if (check_open(self) < 0)
        return NULL;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "expected (kind, payload)");
        return NULL;
    }
    unsigned long kind = PyLong_AsUnsignedLong(args[0]);
    if (kind == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    struct pf_pieces payload;
    if (pf_pieces_open(&payload, args[1]) < 0)
        return NULL;
    const uint64_t length = payload.length;
    int rc;
    if (length <= PF_INLINE_CAP) { /* a copy and no wait */
        rc = write_reply(&self->peer, &payload);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        rc = write_reply(&self->peer, &payload);
        Py_END_ALLOW_THREADS;
    }
    pf_pieces_close(&payload);
    if (rc < 0)
        return raise_errno(rc);
    /* Now that the result is written, nothing of it has to hold on to the request any more. */
    if (PyList_CheckExact(args[1]) && PyList_SetSlice(args[1], 0, PyList_Size(args[1]), NULL) < 0)
        return NULL;
    if (settle_loan(self) < 0)
        return NULL;
    rc = pf_peer_send(&self->peer, (uint32_t)kind, length, self->log);
    return rc < 0 ? raise_errno(rc) : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"hello", peer_hello, METH_NOARGS, "Tells the host that this process is there."},
    {"receive", peer_receive, METH_NOARGS,
     "receive() -> (kind, payload, request id, deadline on the monotonic clock in ns), or None: no host"},
    {"reply", (PyCFunction)(void (*)(void))peer_reply, METH_FASTCALL,
     "reply(kind, payload): bytes, or a list of pieces, which it empties. MemoryError: what the function\n"
     "keeps of its event does not fit; the peer may reply once more and then has to end."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "Peer(memfd, doorbell, log=-1): the instance's end; owns both descriptors. `log`: the log pipe."},
    {Py_tp_new, peer_new},
    {Py_tp_init, peer_init},
    {Py_tp_dealloc, peer_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pyfaas._native.Peer",
    .basicsize = sizeof(struct peer_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int pf_bind_peer(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type)
        return -1;
    int rc = PyModule_AddObjectRef(module, "Peer", type);
    Py_DECREF(type);
    return rc;
}
