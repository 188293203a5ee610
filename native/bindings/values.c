/* The two walks that frame the codec of events and results: over objects before they are encoded, and over
 * bytes before they are decoded. The work itself is msgspec's. */
#include "bindings.h"

#include "pf_msgpack.h"

/* A list that holds itself twice grows exponentially: no walk visits more values than this (about half a
 * second). */
#define PF_WALK_LIMIT (1L << 26)

enum pf_value { PF_VALUE_PLAIN = 0, PF_VALUE_CONVERT = 1, PF_VALUE_HUGE = 2 };

static enum pf_value walk(PyObject *value, int depth, long *left);

static inline int is_leaf(PyTypeObject *type)
{
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type ||
           type == Py_TYPE(Py_None) || type == &PyBytes_Type || type == &PyByteArray_Type;
}

static inline enum pf_value walk_item(PyObject *item, int depth, long *left)
{
    if (is_leaf(Py_TYPE(item)))
        return --*left < 0 ? PF_VALUE_HUGE : PF_VALUE_PLAIN;
    /* No Python code runs in here, so nobody can take the item away; the reference costs a nanosecond and
     * keeps that from being a condition of memory safety. */
    Py_INCREF(item);
    const enum pf_value answer = walk(item, depth + 1, left);
    Py_DECREF(item);
    return answer;
}

static enum pf_value walk_list(PyObject *list, int depth, long *left)
{
    enum pf_value answer = PF_VALUE_PLAIN;
    for (Py_ssize_t i = 0; answer == PF_VALUE_PLAIN && i < PyList_Size(list); i++) {
        PyObject *item = PyList_GetItem(list, i);
        if (item == NULL) { /* it shrank */
            PyErr_Clear();
            return PF_VALUE_CONVERT;
        }
        answer = walk_item(item, depth, left);
    }
    return answer;
}

static enum pf_value walk_tuple(PyObject *tuple, int depth, long *left)
{
    enum pf_value answer = PF_VALUE_PLAIN;
    const Py_ssize_t size = PyTuple_Size(tuple);
    for (Py_ssize_t i = 0; answer == PF_VALUE_PLAIN && i < size; i++)
        answer = walk_item(PyTuple_GetItem(tuple, i), depth, left);
    return answer;
}

static enum pf_value walk_dict(PyObject *dict, int depth, long *left)
{
    enum pf_value answer = PF_VALUE_PLAIN;
    PyObject *key, *item;
    Py_ssize_t pos = 0;
    while (answer == PF_VALUE_PLAIN && PyDict_Next(dict, &pos, &key, &item)) {
        if (Py_TYPE(key) != &PyUnicode_Type)
            return PF_VALUE_CONVERT;
        answer = walk_item(item, depth, left);
    }
    return answer;
}

static enum pf_value walk(PyObject *value, int depth, long *left)
{
    PyTypeObject *type = Py_TYPE(value);
    if (--*left < 0)
        return PF_VALUE_HUGE;
    if (is_leaf(type))
        return PF_VALUE_PLAIN;
    if (depth >= PF_MSGPACK_DEPTH) /* too deep or cyclic: the slow path finds out which, and says where */
        return PF_VALUE_CONVERT;
    if (type == &PyDict_Type)
        return walk_dict(value, depth, left);
    if (type == &PyList_Type)
        return walk_list(value, depth, left);
    if (type == &PyTuple_Type)
        return walk_tuple(value, depth, left);
    return PF_VALUE_CONVERT;
}

PyDoc_STRVAR(
    check_value_doc,
    "check_value(value, /)\n--\n\n"
    "0: plain, a MessagePack encoder may have it as it is (it refuses integers beyond 64 bits and lone\n"
    "surrogates by itself); 1: it must be converted, or cannot be encoded; 2: it has too many parts.");

static PyObject *check_value(PyObject *Py_UNUSED(module), PyObject *value)
{
    long left = PF_WALK_LIMIT;
    return PyLong_FromLong(walk(value, 0, &left));
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
