/* Peer: the instance's end. */
#include "bindings.h"

#include <errno.h>
#include <stdbool.h>

#include "pf_fd.h"
#include "pf_peer.h"

struct peer_object {
    PyObject_HEAD struct pf_peer peer;
    int log;
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

static void peer_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    pf_peer_close(&((struct peer_object *)op)->peer);
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

/* As Py_BuildValue would, in half its time. */
static PyObject *describe(const struct pf_request *request)
{
    PyObject *tuple = PyTuple_New(4);
    PyObject *parts[4] = {
        PyLong_FromLong((long)request->kind),
        PyBytes_FromStringAndSize((const char *)request->payload, (Py_ssize_t)request->length),
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
    return describe(&request);
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
    Py_buffer payload;
    if (PyObject_GetBuffer(args[1], &payload, PyBUF_SIMPLE) < 0)
        return NULL;
    int rc;
    if (payload.len <= PF_INLINE_CAP) { /* a copy and no wait */
        rc = pf_peer_reply(&self->peer, (uint32_t)kind, payload.buf, (uint64_t)payload.len, self->log);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        rc = pf_peer_reply(&self->peer, (uint32_t)kind, payload.buf, (uint64_t)payload.len, self->log);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&payload);
    return rc < 0 ? raise_errno(rc) : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"hello", peer_hello, METH_NOARGS, "Tells the host that this process is there."},
    {"receive", peer_receive, METH_NOARGS,
     "receive() -> (kind, payload, request id, deadline on the monotonic clock in ns), or None: no host"},
    {"reply", (PyCFunction)(void (*)(void))peer_reply, METH_FASTCALL, "reply(kind, payload)"},
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
