/* Reactor: one thread waits for everything; events leave it in batches, under one hold of the GIL. */
#include "bindings.h"

#include <errno.h>

#include "channel.h"
#include "pf_fd.h"
#include "pf_reactor.h"

#define PF_EVENTS 128

struct reactor_object {
    PyObject_HEAD struct pf_reactor reactor;
    PyObject *channels; /* token -> Channel, so that what is borrowed below lives */
    PyObject *channel_type;
    bool open, waiting;
};

static bool closed(struct reactor_object *self)
{
    if (!self->open)
        PyErr_SetString(PyExc_ValueError, "the reactor is closed");
    return !self->open;
}

static PyObject *conclude(int rc)
{
    if (rc >= 0)
        return Py_NewRef(Py_None);
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *reactor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct reactor_object *self = (struct reactor_object *)alloc(type, 0);
    if (!self)
        return NULL;
    self->reactor.epoll = -1;
    PyObject *module = PyType_GetModule(type);
    self->channel_type = module ? PyObject_GetAttrString(module, "Channel") : NULL;
    self->channels = PyDict_New();
    int rc = self->channel_type && self->channels ? pf_reactor_open(&self->reactor) : 0;
    self->open = rc == 0 && self->reactor.epoll >= 0;
    if (self->open)
        return (PyObject *)self;
    Py_DECREF(self);
    return rc < 0 ? conclude(rc) : NULL;
}

static void reactor_dealloc(PyObject *op)
{
    struct reactor_object *self = (struct reactor_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    pf_reactor_close(&self->reactor);
    Py_XDECREF(self->channels);
    Py_XDECREF(self->channel_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

static PyObject *reactor_add(PyObject *op, PyObject *args)
{
    struct reactor_object *self = (struct reactor_object *)op;
    unsigned long long token;
    int fd;
    if (!PyArg_ParseTuple(args, "Ki:add", &token, &fd) || closed(self))
        return NULL;
    return conclude(pf_reactor_add(&self->reactor, token, fd, NULL));
}

static PyObject *reactor_add_channel(PyObject *op, PyObject *args)
{
    struct reactor_object *self = (struct reactor_object *)op;
    unsigned long long token;
    PyObject *object;
    if (!PyArg_ParseTuple(args, "KO!:add_channel", &token, self->channel_type, &object) || closed(self))
        return NULL;
    struct pf_channel *channel = &((struct pf_channel_object *)object)->channel;
    PyObject *key = PyLong_FromUnsignedLongLong(token);
    if (!key)
        return NULL;
    int rc = PyDict_SetItem(self->channels, key, object);
    Py_DECREF(key);
    return rc < 0 ? NULL : conclude(pf_reactor_add(&self->reactor, token, channel->doorbell, channel));
}

static PyObject *reactor_remove(PyObject *op, PyObject *arg)
{
    struct reactor_object *self = (struct reactor_object *)op;
    uint64_t token = PyLong_AsUnsignedLongLong(arg);
    if (token == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    if (!self->open)
        return PyBool_FromLong(false); /* it forgot all when it was closed */
    int rc = pf_reactor_remove(&self->reactor, token);
    int held = PyDict_Contains(self->channels, arg);
    if (held < 0 || (held && PyDict_DelItem(self->channels, arg) < 0))
        return NULL;
    return PyBool_FromLong(rc == 0);
}

static PyObject *reactor_arm(PyObject *op, PyObject *arg)
{
    struct reactor_object *self = (struct reactor_object *)op;
    uint64_t token = PyLong_AsUnsignedLongLong(arg);
    if ((token == (uint64_t)-1 && PyErr_Occurred()) || closed(self))
        return NULL;
    return conclude(pf_reactor_arm(&self->reactor, token));
}

static PyObject *reactor_disarm(PyObject *op, PyObject *arg)
{
    struct reactor_object *self = (struct reactor_object *)op;
    uint64_t token = PyLong_AsUnsignedLongLong(arg);
    if ((token == (uint64_t)-1 && PyErr_Occurred()) || closed(self))
        return NULL;
    return PyBool_FromLong(pf_reactor_disarm(&self->reactor, token));
}

static PyObject *reactor_wake(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct reactor_object *self = (struct reactor_object *)op;
    return self->open ? conclude(pf_reactor_wake(&self->reactor)) : Py_NewRef(Py_None);
}

static PyObject *reactor_close(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct reactor_object *self = (struct reactor_object *)op;
    if (self->waiting) {
        PyErr_SetString(PyExc_RuntimeError, "a thread waits for the reactor");
        return NULL;
    }
    if (self->open)
        pf_reactor_close(&self->reactor);
    self->open = false;
    PyDict_Clear(self->channels);
    return Py_NewRef(Py_None);
}

/* In a forked child: epoll_ctl there would change the parent's set, and the lock may have been held. */
static PyObject *reactor_forget(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct reactor_object *self = (struct reactor_object *)op;
    if (self->open) {
        pf_fd_close(&self->reactor.epoll);
        pf_fd_close(&self->reactor.wake);
    }
    self->open = false;
    return Py_NewRef(Py_None);
}

static PyObject *reactor_wait(PyObject *op, PyObject *arg)
{
    struct reactor_object *self = (struct reactor_object *)op;
    long long timeout = PyLong_AsLongLong(arg);
    if ((timeout == -1 && PyErr_Occurred()) || closed(self))
        return NULL;
    struct pf_event events[PF_EVENTS];
    int count;
    self->waiting = true;
    Py_BEGIN_ALLOW_THREADS;
    count = pf_reactor_wait(&self->reactor, events, PF_EVENTS, timeout < 0 ? UINT64_MAX : (uint64_t)timeout);
    Py_END_ALLOW_THREADS;
    self->waiting = false;
    if (count == -EINTR)
        count = 0;
    if (count < 0)
        return conclude(count);
    PyObject *list = PyList_New(count);
    for (int i = 0; list && i < count; i++) {
        PyObject *item = Py_BuildValue("(Ki)", (unsigned long long)events[i].token,
                                       events[i].kind == PF_EVENT_READABLE ? 0 : (int)events[i].wait);
        if (!item || PyList_SetItem(list, i, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"add", reactor_add, METH_VARARGS, "add(token, fd): report when fd is readable"},
    {"add_channel", reactor_add_channel, METH_VARARGS,
     "add_channel(token, channel): so that it can be armed"},
    {"remove", reactor_remove, METH_O, "remove(token) -> whether it was there"},
    {"arm", reactor_arm, METH_O, "arm(token): watch the call that was posted, and its deadline"},
    {"disarm", reactor_disarm, METH_O, "disarm(token) -> whether the call is the caller's again"},
    {"wake", reactor_wake, METH_NOARGS, "Makes wait() return."},
    {"wait", reactor_wait, METH_O,
     "wait(timeout_ns) -> [(token, wait)]; wait is 0 for a readable descriptor"},
    {"forget", reactor_forget, METH_NOARGS, "Closes the descriptors and nothing else: for a forked child."},
    {"close", reactor_close, METH_NOARGS, "Lets everything go, when nobody waits any more; idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "Reactor(): deadlines, replies and messages, watched by one thread that does not hold the GIL."},
    {Py_tp_new, reactor_new},
    {Py_tp_dealloc, reactor_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pyfaas._native.Reactor",
    .basicsize = sizeof(struct reactor_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int pf_bind_reactor(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type)
        return -1;
    int rc = PyModule_AddObjectRef(module, "Reactor", type);
    Py_DECREF(type);
    return rc;
}
