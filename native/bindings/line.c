/* Turnstile and WarmLine: the numbers and the stack that an invocation of a warm function touches twice.
 *
 * Each method is one step under the GIL, so that the way of nearly every invocation needs no lock. What the
 * pool decides under its lock (pyfaas/_pool/state.py) goes through the same steps. */
#include "bindings.h"

#include <stdbool.h>
#include <structmember.h>

struct turnstile_object {
    PyObject_HEAD Py_ssize_t limit, inside, waiting;
    char attended;
};

struct line_object {
    PyObject_HEAD struct turnstile_object *turnstile; /* owned */
    PyObject **idle;                                  /* owned, as what is in it */
    Py_ssize_t count, room;
    Py_ssize_t busy;
    unsigned long long served;
    char direct;
};

/* ---- Turnstile ---- */

static int turnstile_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, "n:Turnstile", names,
                                       &((struct turnstile_object *)op)->limit)
               ? 0
               : -1;
}

static void turnstile_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

static PyMemberDef turnstile_members[] = {
    {"limit", T_PYSSIZET, offsetof(struct turnstile_object, limit), READONLY, "How many may be inside."},
    {"inside", T_PYSSIZET, offsetof(struct turnstile_object, inside), READONLY, "How many are."},
    {"waiting", T_PYSSIZET, offsetof(struct turnstile_object, waiting), 0, "How many want to be."},
    {"attended", T_BOOL, offsetof(struct turnstile_object, attended), 0,
     "Whether somebody wants to know of each that leaves."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot turnstile_slots[] = {
    {Py_tp_doc, "Turnstile(limit): how many instances may be busy at one time, and how many are."},
    {Py_tp_init, turnstile_init},
    {Py_tp_dealloc, turnstile_dealloc},
    {Py_tp_members, turnstile_members},
    {0, NULL},
};

static PyType_Spec turnstile_spec = {
    .name = "pyfaas._native.Turnstile",
    .basicsize = sizeof(struct turnstile_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = turnstile_slots,
};

/* ---- WarmLine ---- */

static int line_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"turnstile", NULL};
    struct line_object *self = (struct line_object *)op;
    PyObject *turnstile;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:WarmLine", names, &turnstile))
        return -1;
    if (self->turnstile || PyType_GetSlot(Py_TYPE(turnstile), Py_tp_dealloc) != (void *)turnstile_dealloc) {
        PyErr_SetString(PyExc_TypeError, "a line is made once, with a Turnstile");
        return -1;
    }
    self->turnstile = (struct turnstile_object *)Py_NewRef(turnstile);
    return 0;
}

static int line_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct line_object *self = (struct line_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->turnstile);
    for (Py_ssize_t i = 0; i < self->count; i++)
        Py_VISIT(self->idle[i]);
    return 0;
}

static int line_clear(PyObject *op)
{
    struct line_object *self = (struct line_object *)op;
    while (self->count)
        Py_DECREF(self->idle[--self->count]);
    return 0;
}

static void line_dealloc(PyObject *op)
{
    struct line_object *self = (struct line_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    line_clear(op);
    PyMem_Free(self->idle);
    Py_CLEAR(self->turnstile);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

static bool enter(struct line_object *self)
{
    if (!self->turnstile || self->turnstile->inside >= self->turnstile->limit)
        return false;
    self->turnstile->inside++;
    self->busy++;
    return true;
}

static void leave(struct line_object *self)
{
    self->turnstile->inside--;
    self->busy--;
}

static int push(struct line_object *self, PyObject *slot)
{
    if (self->count == self->room) {
        Py_ssize_t room = self->room ? 2 * self->room : 8;
        PyObject **idle = PyMem_Realloc(self->idle, (size_t)room * sizeof *idle);
        if (!idle) {
            PyErr_NoMemory();
            return -1;
        }
        self->idle = idle;
        self->room = room;
    }
    self->idle[self->count++] = Py_NewRef(slot);
    return 0;
}

static PyObject *line_take(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct line_object *self = (struct line_object *)op;
    if (!self->count || !enter(self))
        Py_RETURN_NONE;
    return self->idle[--self->count];
}

static PyObject *line_give(PyObject *op, PyObject *slot)
{
    struct line_object *self = (struct line_object *)op;
    if (!self->direct || !self->busy || self->turnstile->waiting || self->turnstile->attended)
        Py_RETURN_FALSE;
    if (push(self, slot) < 0)
        return NULL;
    leave(self);
    self->served++;
    Py_RETURN_TRUE;
}

static PyObject *line_enter(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(enter((struct line_object *)op));
}

static PyObject *line_leave(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct line_object *self = (struct line_object *)op;
    if (self->busy <= 0) {
        PyErr_SetString(PyExc_RuntimeError, "nobody of this line is inside");
        return NULL;
    }
    leave(self);
    Py_RETURN_NONE;
}

static PyObject *line_put(PyObject *op, PyObject *slot)
{
    if (push((struct line_object *)op, slot) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *line_remove(PyObject *op, PyObject *slot)
{
    struct line_object *self = (struct line_object *)op;
    Py_ssize_t i = 0;
    while (i < self->count && self->idle[i] != slot)
        i++;
    if (i == self->count)
        Py_RETURN_FALSE;
    self->count--;
    for (; i < self->count; i++)
        self->idle[i] = self->idle[i + 1];
    Py_DECREF(slot);
    Py_RETURN_TRUE;
}

static PyObject *line_take_served(PyObject *op, PyObject *unused)
{
    (void)unused;
    struct line_object *self = (struct line_object *)op;
    unsigned long long served = self->served;
    self->served = 0;
    return PyLong_FromUnsignedLongLong(served);
}

static PyObject *get_idle(PyObject *op, void *closure)
{
    (void)closure;
    struct line_object *self = (struct line_object *)op;
    PyObject *tuple = PyTuple_New(self->count);
    for (Py_ssize_t i = 0; tuple && i < self->count; i++)
        PyTuple_SetItem(tuple, i, Py_NewRef(self->idle[i]));
    return tuple;
}

static PyMethodDef line_methods[] = {
    {"take", line_take, METH_NOARGS,
     "take() -> the idle slot used last, now inside; None: no slot, or no room"},
    {"give", line_give, METH_O,
     "give(slot) -> whether a slot from inside is idle again and its call counted; False: the long way"},
    {"enter", line_enter, METH_NOARGS,
     "enter() -> whether there is room inside for one that is still to come"},
    {"leave", line_leave, METH_NOARGS, "One that was inside is no more."},
    {"put", line_put, METH_O, "put(slot): it is idle; it has left, or was never inside"},
    {"remove", line_remove, METH_O, "remove(slot) -> whether it was idle; it is not any more"},
    {"take_served", line_take_served, METH_NOARGS, "take_served() -> calls that `give` has counted since"},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef line_members[] = {
    {"busy", T_PYSSIZET, offsetof(struct line_object, busy), READONLY, "How many of this line are inside."},
    {"direct", T_BOOL, offsetof(struct line_object, direct), 0, "Whether `give` may ever say True."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef line_getset[] = {
    {"idle", get_idle, NULL, "The idle slots, the one used last at the end.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot line_slots[] = {
    {Py_tp_doc, "WarmLine(turnstile): the idle slots of one version."},
    {Py_tp_init, line_init},
    {Py_tp_traverse, line_traverse},
    {Py_tp_clear, line_clear},
    {Py_tp_dealloc, line_dealloc},
    {Py_tp_methods, line_methods},
    {Py_tp_members, line_members},
    {Py_tp_getset, line_getset},
    {0, NULL},
};

static PyType_Spec line_spec = {
    .name = "pyfaas._native.WarmLine",
    .basicsize = sizeof(struct line_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = line_slots,
};

int pf_bind_line(PyObject *module)
{
    PyType_Spec *specs[] = {&turnstile_spec, &line_spec};
    for (size_t i = 0; i < 2; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        int rc = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
        Py_XDECREF(type);
        if (rc < 0)
            return -1;
    }
    return 0;
}
