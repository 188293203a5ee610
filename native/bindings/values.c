/* The two walks that frame the codec of events and results: over objects before they are encoded, and over
 * bytes before they are decoded. The work itself is msgspec's. */
#include "bindings.h"

#include "pf_msgpack.h"

/* A list that holds itself twice grows exponentially: no walk visits more values than this (about half a
 * second). */
#define PF_WALK_LIMIT (1L << 26)

/* Bytes in one piece that are worth a buffer although nothing else needs the slow path, and how many of them
 * outweigh its visit, which every value in the whole then gets. Measured: up to what fits into the region,
 * two copies more cost less. */
#define PF_LARGE 65536
#define PF_LARGE_FOR_EACH 4096

enum pf_value { PF_VALUE_PLAIN = 0, PF_VALUE_CONVERT = 1, PF_VALUE_HUGE = 2, PF_VALUE_LARGE = 3 };

struct walk {
    long left;
    Py_ssize_t large; /* bytes in large pieces */
};

static enum pf_value walk(PyObject *value, int depth, struct walk *state);

static inline int is_leaf(PyTypeObject *type)
{
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type ||
           type == Py_TYPE(Py_None);
}

static inline enum pf_value walk_item(PyObject *item, int depth, struct walk *state)
{
    if (is_leaf(Py_TYPE(item)))
        return --state->left < 0 ? PF_VALUE_HUGE : PF_VALUE_PLAIN;
    /* No Python code runs in here, so nobody can take the item away; the reference costs a nanosecond and
     * keeps that from being a condition of memory safety. */
    Py_INCREF(item);
    const enum pf_value answer = walk(item, depth + 1, state);
    Py_DECREF(item);
    return answer;
}

static enum pf_value walk_list(PyObject *list, int depth, struct walk *state)
{
    enum pf_value answer = PF_VALUE_PLAIN;
    for (Py_ssize_t i = 0; answer == PF_VALUE_PLAIN && i < PyList_Size(list); i++) {
        PyObject *item = PyList_GetItem(list, i);
        if (item == NULL) { /* it shrank */
            PyErr_Clear();
            return PF_VALUE_CONVERT;
        }
        answer = walk_item(item, depth, state);
    }
    return answer;
}

static enum pf_value walk_tuple(PyObject *tuple, int depth, struct walk *state)
{
    enum pf_value answer = PF_VALUE_PLAIN;
    const Py_ssize_t size = PyTuple_Size(tuple);
    for (Py_ssize_t i = 0; answer == PF_VALUE_PLAIN && i < size; i++)
        answer = walk_item(PyTuple_GetItem(tuple, i), depth, state);
    return answer;
}

static enum pf_value walk_dict(PyObject *dict, int depth, struct walk *state)
{
    enum pf_value answer = PF_VALUE_PLAIN;
    PyObject *key, *item;
    Py_ssize_t pos = 0;
    while (answer == PF_VALUE_PLAIN && PyDict_Next(dict, &pos, &key, &item)) {
        if (Py_TYPE(key) != &PyUnicode_Type)
            return PF_VALUE_CONVERT;
        answer = walk_item(item, depth, state);
    }
    return answer;
}

static enum pf_value walk(PyObject *value, int depth, struct walk *state)
{
    PyTypeObject *type = Py_TYPE(value);
    if (--state->left < 0)
        return PF_VALUE_HUGE;
    if (is_leaf(type))
        return PF_VALUE_PLAIN;
    if (type == &PyBytes_Type || type == &PyByteArray_Type) {
        const Py_ssize_t size = type == &PyBytes_Type ? PyBytes_Size(value) : PyByteArray_Size(value);
        state->large += size >= PF_LARGE ? size : 0;
        return PF_VALUE_PLAIN;
    }
    if (depth >= PF_MSGPACK_DEPTH) /* too deep or cyclic: the slow path finds out which, and says where */
        return PF_VALUE_CONVERT;
    if (type == &PyDict_Type)
        return walk_dict(value, depth, state);
    if (type == &PyList_Type)
        return walk_list(value, depth, state);
    if (type == &PyTuple_Type)
        return walk_tuple(value, depth, state);
    return PF_VALUE_CONVERT;
}

PyDoc_STRVAR(
    check_value_doc,
    "check_value(value, /)\n--\n\n"
    "0: plain, a MessagePack encoder may have it as it is (it refuses integers beyond 64 bits and lone\n"
    "surrogates by itself); 1: it must be converted, or cannot be encoded; 2: it has too many parts; 3: "
    "plain,\n"
    "and made of large bytes above all.");

static PyObject *check_value(PyObject *Py_UNUSED(module), PyObject *value)
{
    struct walk state = {.left = PF_WALK_LIMIT};
    enum pf_value answer = walk(value, 0, &state);
    if (answer == PF_VALUE_PLAIN && state.large / PF_LARGE_FOR_EACH > PF_WALK_LIMIT - state.left)
        answer = PF_VALUE_LARGE;
    return PyLong_FromLong(answer);
}

PyDoc_STRVAR(check_encoded_doc,
             "check_encoded(data, /)\n--\n\n"
             "0 if these bytes are MessagePack such as pyfaas writes; otherwise the number of a\n"
             "fault in pyfaas._ipc.values.FAULTS.");

static PyObject *check_encoded(PyObject *Py_UNUSED(module), PyObject *data)
{
    char *bytes;
    Py_ssize_t len;
    if (PyBytes_AsStringAndSize(data, &bytes, &len) < 0)
        return NULL;
    return PyLong_FromLong(pf_msgpack_check((const uint8_t *)bytes, (size_t)len));
}

static PyMethodDef methods[] = {
    {"check_value", check_value, METH_O, check_value_doc},
    {"check_encoded", check_encoded, METH_O, check_encoded_doc},
    {NULL, NULL, 0, NULL},
};

int pf_bind_values(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
