/* Payloads in many pieces, and with buffers: see pf_buffers.h for how these lie in memory. */
#define _GNU_SOURCE
#include "bindings.h"

#include <string.h>
#include <sys/mman.h>

#include "buffers.h"
#include "pf_buffers.h"

#define PF_LARGE_PAGE ((uintptr_t)2 << 20)
#define PF_OWN_MAPPING ((uint64_t)4 << 20) /* smaller ones come from the allocator, which has warm pages */

int pf_pieces_open(struct pf_pieces *pieces, PyObject *payload)
{
    pieces->many = NULL;
    pieces->count = 0;
    pieces->length = 0;
    if (!PyList_CheckExact(payload)) {
        if (PyObject_GetBuffer(payload, &pieces->one, PyBUF_SIMPLE) < 0)
            return -1;
        pieces->length = (uint64_t)pieces->one.len;
        return 0;
    }
    const Py_ssize_t count = PyList_Size(payload);
    pieces->many = PyMem_Calloc((size_t)count + 1, sizeof *pieces->many);
    if (!pieces->many) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *piece = PyList_GetItem(payload, i); /* fails if it shrank meanwhile */
        if (!piece || PyObject_GetBuffer(piece, &pieces->many[i], PyBUF_SIMPLE) < 0) {
            pf_pieces_close(pieces);
            return -1;
        }
        pieces->count = i + 1;
        pieces->length += (uint64_t)pieces->many[i].len; /* of memory that exists: cannot overflow */
    }
    return 0;
}

void pf_pieces_close(struct pf_pieces *pieces)
{
    if (!pieces->many) {
        PyBuffer_Release(&pieces->one);
        return;
    }
    for (Py_ssize_t i = 0; i < pieces->count; i++)
        PyBuffer_Release(&pieces->many[i]);
    PyMem_Free(pieces->many);
    *pieces = (struct pf_pieces){0};
}

void pf_pieces_copy(const struct pf_pieces *pieces, uint8_t *target)
{
    if (!pieces->many && pieces->length)
        memcpy(target, pieces->one.buf, pieces->length);
    for (Py_ssize_t i = 0; i < pieces->count; i++) {
        const size_t length = (size_t)pieces->many[i].len;
        if (length)
            memcpy(target, pieces->many[i].buf, length);
        target += length;
    }
}

static void ask_for_large_pages(void *start, uint64_t length)
{
    const uintptr_t first = ((uintptr_t)start + PF_LARGE_PAGE - 1) & ~(PF_LARGE_PAGE - 1);
    const uintptr_t end = ((uintptr_t)start + length) & ~(PF_LARGE_PAGE - 1);
    if (first < end)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}

PyObject *pf_bytes_new(uint64_t length, char **target)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (!bytes)
        return NULL;
    *target = PyBytes_AsString(bytes);
    if (length >= PF_OWN_MAPPING)
        ask_for_large_pages(*target, length);
    return bytes;
}

static int memory_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    struct pf_memory_object *self = (struct pf_memory_object *)op;
    return PyBuffer_FillInfo(view, op, self->bytes, (Py_ssize_t)self->length, 0, flags);
}

static void memory_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    struct pf_memory_object *self = (struct pf_memory_object *)op;
    if (self->mapping)
        munmap(self->mapping, self->mapped);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(op);
    Py_DECREF(type);
}

struct pf_memory_object *pf_memory_new(PyTypeObject *ours)
{
    PyObject *module = PyType_GetModule(ours);
    PyObject *type = module ? PyObject_GetAttrString(module, "Memory") : NULL;
    if (!type)
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    PyObject *memory = alloc((PyTypeObject *)type, 0);
    Py_DECREF(type);
    return (struct pf_memory_object *)memory;
}

/* Private memory to be filled: a bytearray, or a mapping of large pages. */
static PyObject *new_memory(PyTypeObject *ours, uint64_t length, char **target)
{
    if (length < PF_OWN_MAPPING) {
        PyObject *array = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)length);
        if (array)
            *target = PyByteArray_AsString(array);
        return array;
    }
    struct pf_memory_object *memory = pf_memory_new(ours);
    if (!memory)
        return NULL;
    const size_t mapped = length + PF_LARGE_PAGE; /* to begin where a large page does */
    void *mapping = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        Py_DECREF(memory);
        return PyErr_NoMemory();
    }
    memory->mapping = mapping;
    memory->mapped = mapped;
    memory->bytes = (uint8_t *)(((uintptr_t)mapping + PF_LARGE_PAGE - 1) & ~(PF_LARGE_PAGE - 1));
    memory->length = length;
    ask_for_large_pages(mapping, mapped);
    *target = (char *)memory->bytes;
    return (PyObject *)memory;
}

/* Head and table of a payload, copied once, and where they say that everything is. */
struct parts {
    struct pf_buffers_head head;
    struct pf_buffers_entry *table; /* owned, with `starts` behind it */
    uint64_t *starts;
    char **targets;
    uint64_t text;
};

static int read_parts(struct parts *parts, const uint8_t *shared, uint64_t length)
{
    parts->head = (struct pf_buffers_head){0};
    if (length >= sizeof parts->head)
        memcpy(&parts->head, shared, sizeof parts->head);
    int fault = pf_buffers_check_head(&parts->head, length);
    if (fault)
        return fault;
    const size_t count = parts->head.count;
    parts->table =
        PyMem_Malloc((count + 1) * (sizeof *parts->table + sizeof *parts->starts + sizeof *parts->targets));
    if (!parts->table) {
        PyErr_NoMemory();
        return -1;
    }
    parts->starts = (uint64_t *)(parts->table + count);
    parts->targets = (char **)(parts->starts + count);
    memcpy(parts->table, shared + sizeof parts->head, count * sizeof *parts->table);
    return pf_buffers_locate(&parts->head, parts->table, length, &parts->text, parts->starts);
}

/* (text, buffers), all of it allocated and nothing copied yet. */
static PyObject *allocate(PyTypeObject *ours, struct parts *parts, char **text)
{
    PyObject *bytes = pf_bytes_new(parts->head.text, text);
    PyObject *buffers = bytes ? PyList_New(parts->head.count) : NULL;
    for (uint32_t i = 0; buffers && i < parts->head.count; i++) {
        const struct pf_buffers_entry *entry = &parts->table[i];
        PyObject *buffer = entry->form == PF_BUFFER_BYTES
                               ? pf_bytes_new(entry->length, &parts->targets[i])
                               : new_memory(ours, entry->length, &parts->targets[i]);
        if (!buffer)
            Py_CLEAR(buffers);
        else
            PyList_SetItem(buffers, i, buffer);
    }
    PyObject *both = buffers ? PyTuple_Pack(2, bytes, buffers) : NULL;
    Py_XDECREF(bytes);
    Py_XDECREF(buffers);
    return both;
}

static void copy_parts(const struct parts *parts, const uint8_t *shared, char *text)
{
    memcpy(text, shared + parts->text, parts->head.text);
    for (uint32_t i = 0; i < parts->head.count; i++)
        memcpy(parts->targets[i], shared + parts->starts[i], parts->table[i].length);
}

PyObject *pf_buffers_copy(PyTypeObject *ours, const uint8_t *shared, uint64_t length)
{
    struct parts parts = {0};
    PyObject *result = NULL;
    char *text;
    const int fault = read_parts(&parts, shared, length);
    if (fault)
        result = fault < 0 ? NULL : PyLong_FromLong(fault);
    else
        result = allocate(ours, &parts, &text);
    if (result && !fault && length < PF_COPY_UNLOCKED) {
        copy_parts(&parts, shared, text);
    } else if (result && !fault) {
        Py_BEGIN_ALLOW_THREADS;
        copy_parts(&parts, shared, text);
        Py_END_ALLOW_THREADS;
    }
    PyMem_Free(parts.table);
    return result;
}

static PyObject *view_of(PyObject *whole, const struct parts *parts, const uint8_t *bytes, uint32_t i)
{
    const uint64_t start = parts->starts[i], length = parts->table[i].length;
    if (parts->table[i].form == PF_BUFFER_BYTES) {
        char *target;
        PyObject *copy = pf_bytes_new(length, &target);
        if (copy)
            memcpy(target, bytes + start, length);
        return copy;
    }
    PyObject *all = PyMemoryView_FromObject(whole);
    PyObject *view = all ? PySequence_GetSlice(all, (Py_ssize_t)start, (Py_ssize_t)(start + length)) : NULL;
    Py_XDECREF(all);
    return view;
}

PyObject *pf_buffers_view(PyObject *whole, const uint8_t *bytes, uint64_t length)
{
    struct parts parts = {0};
    PyObject *buffers = NULL, *result = NULL;
    const int fault = read_parts(&parts, bytes, length);
    if (fault > 0)
        PyErr_Format(PyExc_ValueError, "a damaged payload: fault %d", fault);
    if (!fault)
        buffers = PyList_New(parts.head.count);
    for (uint32_t i = 0; buffers && i < parts.head.count; i++) {
        PyObject *buffer = view_of(whole, &parts, bytes, i);
        if (!buffer)
            Py_CLEAR(buffers);
        else
            PyList_SetItem(buffers, i, buffer);
    }
    if (buffers)
        result =
            Py_BuildValue("(y#N)", (const char *)bytes + parts.text, (Py_ssize_t)parts.head.text, buffers);
    PyMem_Free(parts.table);
    return result;
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "Memory that arrays are views of; it is let go with the last of them."},
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_getbuffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pyfaas._native.Memory",
    .basicsize = sizeof(struct pf_memory_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int pf_bind_buffers(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type)
        return -1;
    int rc = PyModule_AddObjectRef(module, "Memory", type);
    Py_DECREF(type);
    return rc;
}
