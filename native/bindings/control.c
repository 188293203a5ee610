/* Messages, sealed memory files and pidfds for Python. Nothing here blocks. */
#include "bindings.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "pf_fd.h"

static PyObject *raise_errno(int rc)
{
    errno = rc < 0 ? -rc : rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyDoc_STRVAR(socketpair_doc,
             "socketpair() -> (int, int)\n\nTwo connected SOCK_SEQPACKET descriptors, close-on-exec.");

static PyObject *control_socketpair(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    int ends[2];
    int rc = pf_socketpair(ends);
    if (rc != 0)
        return raise_errno(rc);
    return Py_BuildValue("(ii)", ends[0], ends[1]);
}

PyDoc_STRVAR(
    pass_creds_doc,
    "pass_creds(fd)\n\nLet the kernel state the sender's pid with each message that arrives. Before the "
    "first one is sent.");

static PyObject *control_pass_creds(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    if (!PyArg_ParseTuple(args, "i:pass_creds", &fd))
        return NULL;
    int rc = pf_pass_creds(fd);
    if (rc != 0)
        return raise_errno(rc);
    Py_RETURN_NONE;
}

static int parse_fds(PyObject *sequence, int *fds, int *count)
{
    *count = 0;
    if (sequence == NULL)
        return 0;
    Py_ssize_t len = PySequence_Size(sequence);
    if (len < 0)
        return -1;
    if (len > PF_FDS_MAX) {
        PyErr_Format(PyExc_ValueError, "a message takes at most %d descriptors, not %zd", PF_FDS_MAX, len);
        return -1;
    }
    for (Py_ssize_t i = 0; i < len; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        if (item == NULL)
            return -1;
        fds[i] = PyObject_AsFileDescriptor(item);
        Py_DECREF(item);
        if (fds[i] < 0)
            return -1;
    }
    *count = (int)len;
    return 0;
}

PyDoc_STRVAR(send_doc, "send(fd, type, a=0, token=0, b=0, c=0, body=b'', fds=())\n\nSend one control "
                       "message. BlockingIOError: the "
                       "socket is full; BrokenPipeError: the peer is gone.");

static PyObject *control_send(PyObject *module, PyObject *args, PyObject *kwargs)
{
    (void)module;
    static char *names[] = {"fd", "type", "a", "token", "b", "c", "body", "fds", NULL};
    int fd, a = 0, fds[PF_FDS_MAX], nfds;
    unsigned int type;
    unsigned long long token = 0;
    long long b = 0, c = 0;
    Py_buffer body = {.buf = NULL, .len = 0};
    PyObject *sequence = NULL, *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iI|iKLLy*O:send", names, &fd, &type, &a, &token, &b, &c,
                                     &body, &sequence))
        return NULL;
    struct pf_msg msg = {.type = type, .a = a, .token = token, .b = b, .c = c};
    if (body.len > PF_BODY_MAX) {
        PyErr_Format(PyExc_ValueError, "a message's body has at most %d bytes, not %zd", PF_BODY_MAX,
                     body.len);
    } else if (parse_fds(sequence, fds, &nfds) == 0) {
        int rc = pf_send(fd, &msg, body.buf, (size_t)body.len, fds, nfds, MSG_DONTWAIT);
        result = rc != 0 ? raise_errno(rc) : Py_NewRef(Py_None);
    }
    if (body.obj != NULL)
        PyBuffer_Release(&body);
    return result;
}

static PyObject *fds_tuple(struct pf_packet *packet)
{
    PyObject *tuple = PyTuple_New(packet->nfds);
    if (tuple == NULL)
        return NULL;
    for (int i = 0; i < packet->nfds; i++) {
        PyObject *number = PyLong_FromLong(packet->fds[i]);
        if (number == NULL || PyTuple_SetItem(tuple, i, number) != 0) {
            Py_DECREF(tuple);
            return NULL;
        }
    }
    return tuple;
}

PyDoc_STRVAR(recv_doc,
             "recv(fd, max_fds=0, creds=False) -> (type, a, token, b, c, body, fds, pid) | None\n\n"
             "Receive one control message; None: the peer is gone. BlockingIOError: there is none now.\n"
             "OSError(EPROTO): not a message of ours, or with more descriptors than max_fds.\n"
             "pid is the sender as the kernel sees it; 0 unless creds=True after pass_creds.");

static PyObject *control_recv(PyObject *module, PyObject *args, PyObject *kwargs)
{
    (void)module;
    static char *names[] = {"fd", "max_fds", "creds", NULL};
    int fd, max_fds = 0, creds = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|ip:recv", names, &fd, &max_fds, &creds))
        return NULL;
    struct pf_packet packet;
    unsigned char body[PF_BODY_MAX];
    int rc = pf_recv(fd, &packet, body, sizeof body, max_fds, creds != 0, MSG_DONTWAIT);
    if (rc == 0)
        Py_RETURN_NONE;
    if (rc < 0)
        return raise_errno(rc);
    PyObject *fds = fds_tuple(&packet);
    PyObject *result = NULL;
    if (fds != NULL)
        result =
            Py_BuildValue("(IiKLLy#Oi)", packet.msg.type, packet.msg.a, (unsigned long long)packet.msg.token,
                          (long long)packet.msg.b, (long long)packet.msg.c, body, (Py_ssize_t)packet.body_len,
                          fds, (int)packet.pid);
    Py_XDECREF(fds);
    if (result == NULL)
        pf_packet_close(&packet);
    return result;
}

PyDoc_STRVAR(
    memfd_sealed_doc,
    "memfd_sealed(name, data) -> int\n\nA memory file with these bytes, which nobody can change any more.");

static PyObject *control_memfd_sealed(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "sy*:memfd_sealed", &name, &data))
        return NULL;
    int fd;
    Py_BEGIN_ALLOW_THREADS;
    fd = pf_memfd_data(name, data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&data);
    return fd < 0 ? raise_errno(fd) : PyLong_FromLong(fd);
}

PyDoc_STRVAR(
    read_memfd_doc,
    "read_memfd(fd) -> bytes\n\nAll bytes of a fully sealed memory file. PermissionError: it is not sealed.");

static PyObject *control_read_memfd(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    size_t size;
    if (!PyArg_ParseTuple(args, "i:read_memfd", &fd))
        return NULL;
    int rc = pf_memfd_check(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, &size);
    if (rc != 0)
        return raise_errno(rc);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes == NULL)
        return NULL;
    char *at = PyBytes_AsString(bytes);
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, at + done, size - done, (off_t)done);
        if (n <= 0) {
            Py_DECREF(bytes);
            return raise_errno(n < 0 ? errno : EIO);
        }
        done += (size_t)n;
    }
    return bytes;
}

PyDoc_STRVAR(pidfd_open_doc,
             "pidfd_open(pid) -> int\n\nA descriptor for this very process; readable once it is dead.");

static PyObject *control_pidfd_open(PyObject *module, PyObject *args)
{
    (void)module;
    int pid;
    if (!PyArg_ParseTuple(args, "i:pidfd_open", &pid))
        return NULL;
    int fd = pf_pidfd_open(pid);
    return fd < 0 ? raise_errno(fd) : PyLong_FromLong(fd);
}

PyDoc_STRVAR(pidfd_kill_doc, "pidfd_kill(pidfd, signal)\n\nProcessLookupError: it is dead and reaped.");

static PyObject *control_pidfd_kill(PyObject *module, PyObject *args)
{
    (void)module;
    int pidfd, number;
    if (!PyArg_ParseTuple(args, "ii:pidfd_kill", &pidfd, &number))
        return NULL;
    int rc = pf_pidfd_kill(pidfd, number);
    if (rc != 0)
        return raise_errno(rc);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(parent_of_doc,
             "parent_of(pid) -> int\n\nThe parent's pid. ProcessLookupError: there is no such process.");

static PyObject *control_parent_of(PyObject *module, PyObject *args)
{
    (void)module;
    int pid;
    if (!PyArg_ParseTuple(args, "i:parent_of", &pid))
        return NULL;
    pid_t parent = pf_parent_of(pid);
    return parent < 0 ? raise_errno(parent) : PyLong_FromLong(parent);
}

static PyMethodDef functions[] = {
    {"socketpair", control_socketpair, METH_NOARGS, socketpair_doc},
    {"pass_creds", control_pass_creds, METH_VARARGS, pass_creds_doc},
    {"send", (PyCFunction)(void (*)(void))control_send, METH_VARARGS | METH_KEYWORDS, send_doc},
    {"recv", (PyCFunction)(void (*)(void))control_recv, METH_VARARGS | METH_KEYWORDS, recv_doc},
    {"memfd_sealed", control_memfd_sealed, METH_VARARGS, memfd_sealed_doc},
    {"read_memfd", control_read_memfd, METH_VARARGS, read_memfd_doc},
    {"pidfd_open", control_pidfd_open, METH_VARARGS, pidfd_open_doc},
    {"pidfd_kill", control_pidfd_kill, METH_VARARGS, pidfd_kill_doc},
    {"parent_of", control_parent_of, METH_VARARGS, parent_of_doc},
    {NULL, NULL, 0, NULL},
};

int pf_bind_control(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
