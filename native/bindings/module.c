/* The extension module `pyfaas._native`: the core for Python. Each file beside this one adds its own part. */
#include "bindings.h"

static int exec_module(PyObject *module)
{
    int (*const parts[])(PyObject *) = {pf_bind_control, pf_bind_log,     pf_bind_channel,
                                        pf_bind_peer,    pf_bind_reactor, pf_bind_process,
                                        pf_bind_values,  pf_bind_line,    pf_bind_buffers};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i](module) < 0)
            return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pyfaas._native",
    .m_doc = "Channels, processes and confinement, written in C.",
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
