/* The loops of the trusted processes, and the three forks that lead from the base to an instance. What Python
 * has to do around a fork is done here; everything else is in the core. */
#include "bindings.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "pf_confine.h"
#include "pf_fd.h"
#include "pf_fork.h"
#include "pf_supervise.h"
#include "pf_warden.h"

enum { FAILED_EXIT = 111, MAIN_STACK = 8 << 20 };

static PyObject *raise_step(const struct pf_error *err)
{
    PyObject *text = PyUnicode_FromFormat("%s: %s (%s)", err->step, strerror(err->code), err->detail);
    if (text == NULL)
        return NULL;
    PyObject *args = Py_BuildValue("(iN)", err->code, text);
    if (args == NULL)
        return NULL;
    PyErr_SetObject(PyExc_OSError, args);
    Py_DECREF(args);
    return NULL;
}

/* ---- supervisor ---- */

enum { ARGS_MAX = 512 };

/* The strings stay owned by the list `kept`, which the caller holds. */
static int c_strings(PyObject *sequence, char **strings, PyObject *kept)
{
    Py_ssize_t count = PySequence_Size(sequence);
    if (count < 0)
        return -1;
    if (count >= ARGS_MAX) {
        PyErr_Format(PyExc_ValueError, "at most %d strings, not %zd", ARGS_MAX - 1, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        PyObject *bytes = NULL;
        int ok = item != NULL && PyUnicode_FSConverter(item, &bytes) && PyList_Append(kept, bytes) == 0;
        Py_XDECREF(item);
        if (ok)
            strings[i] = PyBytes_AsString(bytes);
        Py_XDECREF(bytes);
        if (!ok)
            return -1;
    }
    strings[count] = NULL;
    return 0;
}

PyDoc_STRVAR(supervise_doc, "supervise(control_fd, host_pidfd, argv, environment)\n\nBe the supervisor until "
                            "the host is gone: keep a base running (argv, "
                            "environment as NAME=value), with its control socket as descriptor 3. OSError: "
                            "it could not be kept running.");

static PyObject *process_supervise(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *argv, *environment;
    char *argument[ARGS_MAX], *variable[ARGS_MAX];
    struct pf_supervise plan = {.argv = argument, .envp = variable};
    if (!PyArg_ParseTuple(args, "iiOO:supervise", &plan.control, &plan.host, &argv, &environment))
        return NULL;
    PyObject *kept = PyList_New(0);
    if (kept == NULL)
        return NULL;
    if (c_strings(argv, argument, kept) != 0 || c_strings(environment, variable, kept) != 0 ||
        argument[0] == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "argv is empty");
        Py_DECREF(kept);
        return NULL;
    }
    plan.executable = argument[0];
    struct pf_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    rc = pf_supervise(&plan, &err);
    Py_END_ALLOW_THREADS;
    Py_DECREF(kept);
    if (rc == 0)
        Py_RETURN_NONE;
    if (err.code == 0)
        pf_fail(&err, -rc, "keep base alive", "it died too often and too soon");
    return raise_step(&err);
}

/* ---- base ---- */

static int prepare_base(int control)
{
    struct rlimit stack;
    struct pf_msg hello = {.type = PF_HELLO, .a = PF_BASE, .token = (uint64_t)getpid()};
    prctl(PR_SET_NAME, "pyfaas-base", 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (getrlimit(RLIMIT_STACK, &stack) == 0) { /* threads keep the size that was set at exec */
        stack.rlim_cur = stack.rlim_max < MAIN_STACK ? stack.rlim_max : MAIN_STACK;
        setrlimit(RLIMIT_STACK, &stack);
    }
    if (signal(SIGCHLD, SIG_IGN) == SIG_ERR)
        return -errno; /* wardens are reaped by the kernel; the host sees their sockets end */
    return pf_send(control, &hello, NULL, 0, NULL, 0, 0);
}

static void refuse_start(int control, struct pf_packet *packet, int code, const char *step)
{
    pf_packet_close(packet);
    pf_send_failed(control, packet->msg.token, code, step, NULL);
}

/* One PF_START. 1: this is the warden now; 0: still the base. */
static int fork_warden(int control, struct pf_packet *packet)
{
    PyOS_BeforeFork();
    pid_t pid = fork();
    int code = errno;
    if (pid == 0) {
        PyOS_AfterFork_Child();
        signal(SIGCHLD, SIG_DFL);
        return 1;
    }
    PyOS_AfterFork_Parent();
    if (pid < 0)
        refuse_start(control, packet, code, "fork warden");
    pf_packet_close(packet);
    return 0;
}

PyDoc_STRVAR(base_loop_doc,
             "base_loop(control_fd) -> (warden_fd, base_pid) | None\n\nBe the base: fork a warden for each "
             "request. Returns in "
             "each warden, with its control socket, and in the base when the supervisor is gone (None).");

static PyObject *process_base_loop(PyObject *module, PyObject *args)
{
    (void)module;
    int control;
    if (!PyArg_ParseTuple(args, "i:base_loop", &control))
        return NULL;
    pid_t base = getpid();
    int rc = prepare_base(control);
    while (rc >= 0) {
        struct pf_packet packet;
        Py_BEGIN_ALLOW_THREADS;
        rc = pf_recv(control, &packet, NULL, 0, 1, false, 0);
        Py_END_ALLOW_THREADS;
        if (rc == 0)
            Py_RETURN_NONE;
        if (rc == -EPROTO)
            rc = 0; /* dropped; the next one may be better */
        if (rc <= 0)
            continue;
        if (packet.msg.type != PF_START || packet.nfds != 1)
            refuse_start(control, &packet, EBADMSG, "start warden");
        else if (fork_warden(control, &packet))
            return Py_BuildValue("(ii)", pf_fd_take(&packet.fds[0]), (int)base);
    }
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- warden ---- */

/* In the template. Python's own repairs come before the confinement: it is still trusted code only. */
static PyObject *template_child(struct pf_warden *warden, struct pf_order *order)
{
    pid_t parent = pf_warden_pid(warden);
    PyOS_AfterFork_Child();
    if (pf_warden_child(warden, order) != 0)
        _exit(FAILED_EXIT);
    const struct pf_packet *p = &order->packet;
    int solo = p->nfds == 5;
    return Py_BuildValue("(Ky#iiiiii)", (unsigned long long)p->msg.token, order->body,
                         (Py_ssize_t)p->body_len, (int)parent, p->fds[0], p->fds[1], p->fds[2],
                         solo ? p->fds[3] : -1, solo ? p->fds[4] : -1);
}

PyDoc_STRVAR(warden_loop_doc,
             "warden_loop(control_fd, base_pid) -> (template_id, plan, parent, socket, code, settings, "
             "channel, doorbell) | None\n\n"
             "Be the warden. Returns in each template, confined, with its descriptors (channel and doorbell "
             "are -1 unless it is a solo "
             "instance), and in the warden when the host is gone and all children are dead (None).");

static PyObject *process_warden_loop(PyObject *module, PyObject *args)
{
    (void)module;
    int control, base;
    struct pf_warden *warden;
    struct pf_order order;
    struct pf_error err = {0};
    if (!PyArg_ParseTuple(args, "ii:warden_loop", &control, &base))
        return NULL;
    if (pf_warden_open(&warden, control, base, &err) != 0)
        return raise_step(&err);
    for (;;) {
        int rc;
        Py_BEGIN_ALLOW_THREADS;
        rc = pf_warden_run(warden, &order);
        Py_END_ALLOW_THREADS;
        if (rc == 0)
            break;
        PyOS_BeforeFork();
        pid_t pid = fork();
        if (pid < 0)
            pid = -errno;
        if (pid == 0)
            return template_child(warden, &order);
        PyOS_AfterFork_Parent();
        pf_warden_forked(warden, &order, pid);
    }
    pf_warden_close(warden);
    Py_RETURN_NONE;
}

/* ---- template ---- */

/* In the instance: confined before Python runs its fork hooks, because these may be user code. */
static PyObject *instance_child(struct pf_packet *packet, const struct pf_plan *plan, pid_t parent)
{
    struct pf_error err = {0};
    struct pf_place place = {.parent = parent, .name = "pyfaas-inst", .log = packet->fds[2], .nfds = 2};
    place.fds[0] = packet->fds[1]; /* the doorbell: 3 */
    place.fds[1] = packet->fds[0]; /* the channel: 4, until it is mapped */
    if (pf_confine_instance(plan, &place, &err) != 0) {
        pf_send_failed(place.fds[0], packet->msg.token, err.code, err.step, err.detail);
        _exit(FAILED_EXIT);
    }
    /* Before Python is repaired: the host gets to know this process meanwhile. */
    const struct pf_msg hello = {.type = PF_HELLO, .a = PF_INSTANCE};
    (void)pf_send(place.fds[0], &hello, NULL, 0, NULL, 0, MSG_DONTWAIT); /* without it, it is too late soon */
    PyOS_AfterFork_Child();
    return Py_BuildValue("(iiK)", place.fds[1], place.fds[0], (unsigned long long)packet->msg.token);
}

PyDoc_STRVAR(template_loop_doc, "template_loop(socket, plan, parent) -> (channel, doorbell, instance_id) | "
                                "None\n\nBe the template: fork an instance for each "
                                "request. Returns in each instance, confined, and in the template when the "
                                "host has no more use for it (None).");

static PyObject *process_template_loop(PyObject *module, PyObject *args)
{
    (void)module;
    int socket, parent;
    const char *packed;
    Py_ssize_t len;
    struct pf_fork fork;
    struct pf_plan plan;
    struct pf_error err = {0};
    if (!PyArg_ParseTuple(args, "iy#i:template_loop", &socket, &packed, &len, &parent))
        return NULL;
    int rc = pf_plan_read(&plan, packed, (size_t)len, &err);
    if (rc != 0)
        return raise_step(&err);
    rc = pf_fork_prepare(&fork);
    if (rc != 0) {
        pf_fail(&err, rc, "prepare fork", "");
        return raise_step(&err);
    }
    for (;;) {
        struct pf_packet packet;
        Py_BEGIN_ALLOW_THREADS;
        rc = pf_recv(socket, &packet, NULL, 0, 3, false, 0);
        Py_END_ALLOW_THREADS;
        if (rc == 0)
            Py_RETURN_NONE;
        if (rc < 0 && rc != -EPROTO)
            break;
        if (rc < 0)
            continue;
        if (packet.msg.type != PF_FORK || packet.nfds != 3) {
            refuse_start(socket, &packet, EBADMSG, "fork instance");
            continue;
        }
        PyOS_BeforeFork();
        pid_t pid = pf_fork_sibling(&fork);
        if (pid == 0)
            return instance_child(&packet, &plan, parent);
        PyOS_AfterFork_Parent();
        if (pid < 0)
            refuse_start(socket, &packet, -pid, "fork instance");
        pf_packet_close(&packet);
    }
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyMethodDef functions[] = {
    {"supervise", process_supervise, METH_VARARGS, supervise_doc},
    {"base_loop", process_base_loop, METH_VARARGS, base_loop_doc},
    {"warden_loop", process_warden_loop, METH_VARARGS, warden_loop_doc},
    {"template_loop", process_template_loop, METH_VARARGS, template_loop_doc},
    {NULL, NULL, 0, NULL},
};

int pf_bind_process(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
