/* Channel: the host's end. A call spans post, wait and take under one release of the GIL. */
#include "bindings.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "buffers.h"
#include "channel.h"
#include "log.h"
#include "pf_fd.h"

static PyObject *raise_errno(int rc)
{
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Enter and leave bracket every use without the GIL, so that close() in another thread waits for the last of
 * them. */
static int enter(struct pf_channel_object *self)
{
    if (self->closing || !self->channel.region) {
        PyErr_SetString(PyExc_ValueError, "the channel is closed");
        return -1;
    }
    if (self->users) {
        PyErr_SetString(PyExc_RuntimeError, "the channel is in use by another thread");
        return -1;
    }
    self->users++;
    return 0;
}

static void close_now(struct pf_channel_object *self)
{
    pf_channel_close(&self->channel);
    pf_fd_close(&self->memfd);
    pf_fd_close(&self->peer_doorbell);
}

static void leave(struct pf_channel_object *self)
{
    self->users--;
    if (self->closing && !self->users)
        close_now(self);
}

static int channel_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_payload", NULL};
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    unsigned long long max_payload;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K:Channel", names, &max_payload))
        return -1;
    if (self->channel.region) {
        PyErr_SetString(PyExc_RuntimeError, "a channel is opened once");
        return -1;
    }
    int rc = pf_channel_open(&self->channel, max_payload, &self->memfd, &self->peer_doorbell);
    if (rc < 0)
        raise_errno(rc);
    return rc < 0 ? -1 : 0;
}

static PyObject *channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct pf_channel_object *self = (struct pf_channel_object *)alloc(type, 0);
    if (!self)
        return NULL;
    self->channel.doorbell = self->channel.pidfd = self->memfd = self->peer_doorbell = -1;
    return (PyObject *)self;
}

static void channel_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    close_now((struct pf_channel_object *)op);
    Py_XDECREF(((struct pf_channel_object *)op)->log);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

static PyObject *take_reply(struct pf_channel_object *self)
{
    struct pf_channel *channel = &self->channel;
    uint64_t length = channel->reply.length;
    if (channel->reply.kind == PF_REPLY_BUFFERS) {
        PyObject *parts = pf_buffers_copy(Py_TYPE((PyObject *)self), pf_channel_reply(channel), length);
        if (parts)
            pf_channel_end(channel);
        return parts;
    }
    char *target;
    PyObject *bytes = pf_bytes_new(length, &target);
    if (!bytes)
        return NULL;
    if (length < PF_COPY_UNLOCKED) {
        pf_channel_take(channel, target);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        pf_channel_take(channel, target);
        Py_END_ALLOW_THREADS;
    }
    return bytes;
}

/* A result is its bytes; anything else is (how the wait ended, kind of reply, bytes). In place of bytes, a
 * result with buffers has what pf_buffers_copy returns. */
static PyObject *conclude(struct pf_channel_object *self, enum pf_wait wait)
{
    if (wait != PF_WAIT_REPLY)
        return Py_BuildValue("(iiy#)", (int)wait, -1, "", (Py_ssize_t)0);
    PyObject *bytes = take_reply(self);
    if (!bytes || self->channel.reply.kind == PF_REPLY_RESULT)
        return bytes;
    return Py_BuildValue("(iiN)", (int)wait, (int)self->channel.reply.kind, bytes);
}

static int parse_uint64(PyObject *value, uint64_t *out)
{
    *out = PyLong_AsUnsignedLongLong(value);
    return *out == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
}

struct request {
    uint64_t kind, spin_ns;
    struct pf_pieces payload;
};

static int parse_request(PyObject *const *args, Py_ssize_t count, struct request *request)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "expected (kind, payload, spin_ns)");
        return -1;
    }
    if (parse_uint64(args[0], &request->kind) < 0 || parse_uint64(args[2], &request->spin_ns) < 0)
        return -1;
    return pf_pieces_open(&request->payload, args[1]);
}

/* Needs no GIL. */
static int post(struct pf_channel *channel, const struct request *request)
{
    uint8_t *room;
    int rc = pf_channel_reserve(channel, request->payload.length, &room);
    if (rc < 0)
        return rc;
    pf_pieces_copy(&request->payload, room);
    pf_channel_send(channel, (uint32_t)request->kind, request->payload.length, (uint32_t)request->spin_ns);
    return 0;
}

/* Small requests go out, and prompt replies come in, under the GIL: letting go of it costs more than it
 * spares others. When more are busy than there are CPUs (spin_ns is 0) others wait for it, and each change of
 * hands takes a wake-up: then it pays to wait for the instance's own, which makes it prompt for the rest of
 * the thread's turn. */
static int post_and_glance(struct pf_channel *channel, const struct request *request, enum pf_wait *wait)
{
    int rc;
    if (request->payload.length < PF_COPY_UNLOCKED) {
        rc = post(channel, request);
        if (rc == 0)
            *wait = pf_channel_glance(channel, request->spin_ns ? PF_GLANCE_NS : PF_PROMPT_SPIN_NS);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        rc = post(channel, request);
        Py_END_ALLOW_THREADS;
    }
    return rc;
}

/* Runs the wait again after each signal that Python's handlers let pass; one that raises ends the peer. */
static int wait_without_gil(struct pf_channel *channel, const struct request *request, enum pf_wait *wait)
{
    int rc = post_and_glance(channel, request, wait);
    if (rc == 0 && *wait == PF_WAIT_PENDING) {
        Py_BEGIN_ALLOW_THREADS;
        *wait = pf_channel_wait(channel, request->spin_ns);
        Py_END_ALLOW_THREADS;
    }
    while (rc == 0 && *wait == PF_WAIT_INTERRUPTED) {
        if (PyErr_CheckSignals() < 0) {
            pf_channel_kill(channel);
            return -EINTR;
        }
        Py_BEGIN_ALLOW_THREADS;
        *wait = pf_channel_wait(channel, 0);
        Py_END_ALLOW_THREADS;
    }
    return rc;
}

/* What a new peer writes before it says hello belongs to its first call. */
static void mark_log(struct pf_channel_object *self)
{
    if (self->channel.pid)
        pf_log_object_mark(self->log);
}

/* None: output of a call before has to be read first. */
static PyObject *exchange(struct pf_channel_object *self, const struct request *request)
{
    if (!self->channel.busy && pf_channel_log_left(&self->channel))
        return Py_NewRef(Py_None);
    mark_log(self);
    enum pf_wait wait = PF_WAIT_PENDING;
    int rc = wait_without_gil(&self->channel, request, &wait);
    if (rc == -EPROTO)
        return conclude(self, PF_WAIT_PROTOCOL);
    if (rc < 0)
        return PyErr_Occurred() ? NULL : raise_errno(rc);
    return conclude(self, wait);
}

static PyObject *use(PyObject *op, PyObject *const *args, Py_ssize_t count,
                     PyObject *(*how)(struct pf_channel_object *, const struct request *))
{
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    struct request request;
    if (parse_request(args, count, &request) < 0)
        return NULL;
    PyObject *result = NULL;
    if (enter(self) == 0) {
        result = how(self, &request);
        leave(self);
    }
    pf_pieces_close(&request.payload);
    return result;
}

static PyObject *channel_call(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    return use(op, args, count, exchange);
}

/* True: the call goes on, and a reactor may have it. */
static PyObject *attempt(struct pf_channel_object *self, const struct request *request)
{
    if (!self->channel.busy && pf_channel_log_left(&self->channel))
        return Py_NewRef(Py_None);
    mark_log(self);
    enum pf_wait wait = PF_WAIT_PENDING;
    int rc = post_and_glance(&self->channel, request, &wait);
    bool pending = rc == 0 && wait == PF_WAIT_PENDING;
    if (pending && !request->spin_ns) {
        wait = pf_channel_attempt(&self->channel, 0);
    } else if (pending) {
        Py_BEGIN_ALLOW_THREADS;
        wait = pf_channel_attempt(&self->channel, request->spin_ns);
        Py_END_ALLOW_THREADS;
    }
    if (rc == -EPROTO)
        return conclude(self, PF_WAIT_PROTOCOL);
    if (rc < 0)
        return raise_errno(rc);
    return wait == PF_WAIT_PENDING ? Py_NewRef(Py_True) : conclude(self, wait);
}

static PyObject *channel_attempt(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    return use(op, args, count, attempt);
}

static PyObject *publish(struct pf_channel_object *self, const struct request *request)
{
    mark_log(self);
    pf_channel_want_bell(&self->channel);
    int rc;
    if (request->payload.length < PF_COPY_UNLOCKED) {
        rc = post(&self->channel, request);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        rc = post(&self->channel, request);
        Py_END_ALLOW_THREADS;
    }
    return rc < 0 ? raise_errno(rc) : Py_NewRef(Py_None);
}

static PyObject *channel_post(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    return use(op, args, count, publish);
}

static PyObject *channel_take(PyObject *op, PyObject *arg)
{
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    long wait = PyLong_AsLong(arg);
    if ((wait == -1 && PyErr_Occurred()) || enter(self) < 0)
        return NULL;
    PyObject *result = NULL;
    if (wait == PF_WAIT_REPLY && !self->channel.busy)
        PyErr_SetString(PyExc_RuntimeError, "there is no reply to take");
    else
        result = conclude(self, (enum pf_wait)wait);
    leave(self);
    return result;
}

static PyObject *channel_expect(PyObject *op, PyObject *args)
{
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    int parent;
    unsigned long long max_payload, timeout_ns, start_ns, first_spin_ns;
    PyObject *log;
    if (!PyArg_ParseTuple(args, "iKKKKO:expect", &parent, &max_payload, &timeout_ns, &start_ns,
                          &first_spin_ns, &log))
        return NULL;
    if (!pf_log_object_check(log)) {
        PyErr_SetString(PyExc_TypeError, "expected a LogRing");
        return NULL;
    }
    Py_XDECREF(self->log);
    self->log = Py_NewRef(log);
    struct pf_channel *channel = &self->channel;
    channel->parent = (pid_t)parent;
    channel->max_payload = max_payload;
    channel->timeout_ns = timeout_ns;
    channel->start_ns = start_ns;
    channel->first_spin_ns = first_spin_ns;
    return Py_NewRef(Py_None);
}

static PyObject *channel_release_peer(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    pf_fd_close(&self->memfd);
    pf_fd_close(&self->peer_doorbell);
    return Py_NewRef(Py_None);
}

static PyObject *channel_kill(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(pf_channel_kill(&((struct pf_channel_object *)op)->channel) == 0);
}

static PyObject *channel_close(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    self->closing = true;
    pf_channel_kill(&self->channel);
    if (!self->users)
        close_now(self);
    return Py_NewRef(Py_None);
}

static PyObject *channel_forget(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    pf_channel_forget(&self->channel); /* nothing is unmapped: the region did not come along */
    pf_fd_close(&self->memfd);
    pf_fd_close(&self->peer_doorbell);
    return Py_NewRef(Py_None);
}

static PyObject *channel_fileno(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((struct pf_channel_object *)op)->channel.doorbell);
}

static PyObject *get_peer_ends(PyObject *op, void *closure)
{
    (void)closure;
    struct pf_channel_object *self = (struct pf_channel_object *)op;
    return Py_BuildValue("(ii)", self->memfd, self->peer_doorbell);
}

static PyObject *get_pid(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromLong(((struct pf_channel_object *)op)->channel.pid);
}

static PyObject *get_request_id(PyObject *op, void *closure)
{
    (void)closure;
    return PyBytes_FromStringAndSize((const char *)((struct pf_channel_object *)op)->channel.id, PF_ID_SIZE);
}

static PyObject *get_duration_ns(PyObject *op, void *closure)
{
    (void)closure;
    const struct pf_channel *channel = &((struct pf_channel_object *)op)->channel;
    uint64_t started = channel->deadline_ns - channel->timeout_ns; /* the post, or a new peer's hello */
    uint64_t ended = channel->finished_ns ? channel->finished_ns : pf_now_ns();
    bool began = channel->pidfd >= 0 && ended > started;
    return PyLong_FromUnsignedLongLong(began ? ended - started : 0);
}

static PyObject *get_log_left(PyObject *op, void *closure)
{
    (void)closure;
    struct pf_channel *channel = &((struct pf_channel_object *)op)->channel;
    return PyBool_FromLong(channel->region && pf_channel_log_left(channel));
}

static PyObject *channel_log_was_read(PyObject *op, PyObject *unused)
{
    (void)unused;
    pf_channel_log_was_read(&((struct pf_channel_object *)op)->channel);
    return Py_NewRef(Py_None);
}

static PyObject *get_was_taken(PyObject *op, void *closure)
{
    (void)closure;
    const struct pf_channel *channel = &((struct pf_channel_object *)op)->channel;
    return PyBool_FromLong(channel->region && pf_channel_was_taken(channel));
}

static PyObject *get_error(PyObject *op, void *closure)
{
    (void)closure;
    const struct pf_error *error = &((struct pf_channel_object *)op)->channel.error;
    size_t length = sizeof error->detail; /* "step\0detail" of a peer that failed: both parts */
    while (length && !error->detail[length - 1])
        length--;
    return Py_BuildValue("(isy#)", error->code, error->step ? error->step : "", error->detail,
                         (Py_ssize_t)length);
}

static PyMethodDef methods[] = {
    {"call", (PyCFunction)(void (*)(void))channel_call, METH_FASTCALL,
     "call(kind, payload, spin_ns) -> bytes | (wait, kind, bytes); None: first read the log that is left"},
    {"attempt", (PyCFunction)(void (*)(void))channel_attempt, METH_FASTCALL,
     "attempt(kind, payload, spin_ns) -> as call, or True: the call goes on, for a reactor to wait"},
    {"post", (PyCFunction)(void (*)(void))channel_post, METH_FASTCALL,
     "post(kind, payload, spin_ns): publish, for a reactor to wait"},
    {"take", channel_take, METH_O, "take(wait) -> what call would have returned"},
    {"expect", channel_expect, METH_VARARGS,
     "expect(pid, max_payload, timeout_ns, start_ns, first_spin_ns, log): whose child the peer has to be; "
     "the "
     "limits of each call, and of the peer's start; how long to spin for its first reply; its LogRing"},
    {"log_was_read", channel_log_was_read, METH_NOARGS, "What was left in the log pipe has been read."},
    {"release_peer", channel_release_peer, METH_NOARGS, "Closes the ends that were sent to the peer."},
    {"kill", channel_kill, METH_NOARGS, "SIGKILL by pidfd; False if there is nobody to kill."},
    {"close", channel_close, METH_NOARGS, "Kills the peer and lets everything go; idempotent."},
    {"forget", channel_forget, METH_NOARGS,
     "Lets everything go without a kill: for a forked child of the host."},
    {"fileno", channel_fileno, METH_NOARGS, "The doorbell."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"peer_ends", get_peer_ends, NULL, "(memfd, doorbell) for the peer; (-1, -1) once released.", NULL},
    {"pid", get_pid, NULL, "The peer's pid by the kernel's word; 0 before its hello.", NULL},
    {"request_id", get_request_id, NULL, "Id of the last request, 16 bytes.", NULL},
    {"duration_ns", get_duration_ns, NULL, "Of the last call, from its post (or a new peer's hello).", NULL},
    {"log_left", get_log_left, NULL, "Whether output may still be in the log pipe.", NULL},
    {"was_taken", get_was_taken, NULL, "Whether the peer had entered the handler.", NULL},
    {"error", get_error, NULL, "(errno, step, detail) of what went wrong last.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Channel(max_payload): the host's end of the channel to one instance."},
    {Py_tp_new, channel_new},
    {Py_tp_init, channel_init},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pyfaas._native.Channel",
    .basicsize = sizeof(struct pf_channel_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int pf_bind_channel(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type)
        return -1;
    int rc = PyModule_AddObjectRef(module, "Channel", type);
    Py_DECREF(type);
    const struct {
        const char *name;
        long value;
    } constants[] = {{"WAIT_REPLY", PF_WAIT_REPLY},
                     {"WAIT_DEADLINE", PF_WAIT_DEADLINE},
                     {"WAIT_DEAD", PF_WAIT_DEAD},
                     {"WAIT_PROTOCOL", PF_WAIT_PROTOCOL},
                     {"INLINE_CAP", PF_INLINE_CAP}};
    for (size_t i = 0; rc == 0 && i < sizeof constants / sizeof *constants; i++)
        rc = PyModule_AddIntConstant(module, constants[i].name, constants[i].value);
    return rc;
}
