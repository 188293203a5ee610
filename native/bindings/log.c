/* LogRing: the host's side of a log ring. */
#include "bindings.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "log.h"
#include "pf_clock.h"
#include "pf_fd.h"

static PyObject *raise_errno(int rc)
{
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int log_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", NULL};
    struct pf_log_object *self = (struct pf_log_object *)op;
    Py_ssize_t size = 262144;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:LogRing", names, &size))
        return -1;
    if (self->log.header != NULL || self->closed) {
        PyErr_SetString(PyExc_RuntimeError, "a log ring is opened once");
        return -1;
    }
    int fd = size < 0 ? -EINVAL : pf_log_create((size_t)size);
    int rc = fd < 0 ? fd : pf_log_map(&self->log, fd);
    if (rc == -EINVAL) {
        PyErr_Format(PyExc_ValueError,
                     "a log ring has a power of two of bytes from 4096 to 67108864, not %zd", size);
        return -1;
    }
    self->fd = fd < 0 ? -1 : fd;
    if (rc < 0)
        raise_errno(rc);
    return rc < 0 ? -1 : 0;
}

static PyObject *log_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct pf_log_object *self = (struct pf_log_object *)alloc(type, 0);
    if (self != NULL)
        self->fd = -1;
    return (PyObject *)self;
}

static void close_if_unused(struct pf_log_object *self)
{
    if (self->closed && self->users == 0)
        pf_log_unmap(&self->log);
}

static void log_dealloc(PyObject *op)
{
    struct pf_log_object *self = (struct pf_log_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    pf_fd_close(&self->fd);
    pf_log_unmap(&self->log);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

static int check_open(struct pf_log_object *self)
{
    if (!self->closed && self->log.header != NULL)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the log ring is closed");
    return -1;
}

PyDoc_STRVAR(fileno_doc, "fileno() -> int\n\nThe memory file, to be sent with PF_ADOPT. ValueError after "
                         "release_fd() or close().");

static PyObject *log_fileno(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct pf_log_object *self = (struct pf_log_object *)op;
    if (check_open(self) < 0)
        return NULL;
    if (self->fd >= 0)
        return PyLong_FromLong(self->fd);
    PyErr_SetString(PyExc_ValueError, "the log ring's descriptor has been released");
    return NULL;
}

PyDoc_STRVAR(release_fd_doc, "release_fd()\n\nClose the descriptor, which is of no use once it has been "
                             "sent; the ring stays readable.");

static PyObject *log_release_fd(PyObject *op, PyObject *unused)
{
    (void)unused;
    pf_fd_close(&((struct pf_log_object *)op)->fd);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close()\n\nGive up descriptor and memory. Idempotent.");

static PyObject *log_close(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct pf_log_object *self = (struct pf_log_object *)op;
    pf_fd_close(&self->fd);
    self->closed = true;
    close_if_unused(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(read_doc, "read(start) -> (bytes, dropped, head)\n\nWhat was written from position `start` on, "
                       "how many bytes of it had been "
                       "overwritten already, and the position to continue from.");

static PyObject *log_read(PyObject *op, PyObject *args)
{
    struct pf_log_object *self = (struct pf_log_object *)op;
    unsigned long long start;
    if (!PyArg_ParseTuple(args, "K:read", &start))
        return NULL;
    if (check_open(self) < 0)
        return NULL;
    uint64_t head = pf_log_head(&self->log), dropped, next;
    size_t cap = head > start ? (size_t)(head - start < self->log.size ? head - start : self->log.size) : 0;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)cap);
    if (bytes == NULL)
        return NULL;
    size_t len = pf_log_read(&self->log, start, PyBytes_AsString(bytes), cap, &dropped, &next);
    if (len != cap) { /* overwritten while it was copied */
        PyObject *rest = PyBytes_FromStringAndSize(PyBytes_AsString(bytes), (Py_ssize_t)len);
        Py_DECREF(bytes);
        if (rest == NULL)
            return NULL;
        bytes = rest;
    }
    return Py_BuildValue("(NKK)", bytes, (unsigned long long)dropped, (unsigned long long)next);
}

/* The warden may be behind with reading: then its socket is full for a moment. */
static int send_request(int warden, uint64_t id, uint64_t deadline)
{
    struct pf_msg msg = {.type = PF_SYNC, .token = id};
    for (;;) {
        int rc = pf_send(warden, &msg, NULL, 0, NULL, 0, MSG_DONTWAIT);
        int64_t left = (int64_t)(deadline - pf_now_ns());
        if (rc != -EAGAIN)
            return rc;
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd wait = {.fd = warden, .events = POLLOUT};
        poll(&wait, 1, (int)(left / 1000000) + 1);
    }
}

PyDoc_STRVAR(sync_doc, "sync(warden_fd, log_id, timeout_s) -> bool\n\nWait until all that had been written "
                       "to the log's pipe before this "
                       "call is in the ring. False: the warden did not answer in time, or is gone.");

static PyObject *log_sync(PyObject *op, PyObject *args)
{
    struct pf_log_object *self = (struct pf_log_object *)op;
    int warden, rc;
    unsigned long long id;
    double timeout;
    if (!PyArg_ParseTuple(args, "iKd:sync", &warden, &id, &timeout))
        return NULL;
    if (check_open(self) < 0)
        return NULL;
    uint64_t wait = (uint64_t)((timeout < 0 ? 0 : timeout > 1e6 ? 1e6 : timeout) * 1e9);
    self->users++;
    Py_BEGIN_ALLOW_THREADS;
    uint64_t deadline = pf_now_ns() + wait;
    uint32_t request = pf_log_sync_request(&self->log);
    rc = send_request(warden, id, deadline);
    if (rc == 0)
        rc = pf_log_sync_wait(&self->log, request, (int64_t)(deadline - pf_now_ns()));
    Py_END_ALLOW_THREADS;
    self->users--;
    close_if_unused(self);
    return PyBool_FromLong(rc == 0);
}

static PyObject *log_get_head(PyObject *op, void *unused)
{
    (void)unused;
    struct pf_log_object *self = (struct pf_log_object *)op;
    if (check_open(self) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(pf_log_head(&self->log));
}

static PyMethodDef methods[] = {
    {"fileno", log_fileno, METH_NOARGS, fileno_doc},
    {"release_fd", log_release_fd, METH_NOARGS, release_fd_doc},
    {"read", log_read, METH_VARARGS, read_doc},
    {"sync", log_sync, METH_VARARGS, sync_doc},
    {"close", log_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *log_get_mark(PyObject *op, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((struct pf_log_object *)op)->mark);
}

static PyGetSetDef properties[] = {
    {"mark", log_get_mark, NULL, "The position at which the last call on the channel began.", NULL},
    {"head", log_get_head, NULL, "Bytes written since the beginning: the position of what comes next.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "LogRing(size=262144)\n\nThe latest bytes that a function's process wrote to stdout and stderr."},
    {Py_tp_new, log_new},
    {Py_tp_init, log_init},
    {Py_tp_dealloc, log_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pyfaas._native.LogRing",
    .basicsize = sizeof(struct pf_log_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

bool pf_log_object_check(PyObject *object)
{
    return PyType_GetSlot(Py_TYPE(object), Py_tp_dealloc) == (void *)log_dealloc;
}

int pf_bind_log(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL)
        return -1;
    int rc = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return rc;
}
