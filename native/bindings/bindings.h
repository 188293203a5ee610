/* What each file of this folder adds to the module. Returns 0, or -1 with an exception set. */
#ifndef PF_BINDINGS_H
#define PF_BINDINGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int pf_bind_channel(PyObject *module);
int pf_bind_peer(PyObject *module);
int pf_bind_reactor(PyObject *module);
int pf_bind_line(PyObject *module);
int pf_bind_log(PyObject *module);
int pf_bind_control(PyObject *module);
int pf_bind_process(PyObject *module);
int pf_bind_values(PyObject *module);
int pf_bind_buffers(PyObject *module);

#endif
