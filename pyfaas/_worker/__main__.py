"""Where the supervisor and the base begin. Run by path, imported by nobody.

    python -I -S __main__.py supervisor <control> <host pidfd> <executable> <folder of pyfaas> <library path>...
    python -I    __main__.py base       <control>                           <folder of pyfaas> <library path>...

The supervisor is C: of Python it has only the interpreter that started it, without site and without pyfaas.
"""

from __future__ import annotations

import gc
import sys

#: What the base's environment is, and nothing else; a template gives its function an environment of its own.
_ENVIRONMENT = ("LANG=C.UTF-8",)
_INHERITED = (b"LD_LIBRARY_PATH",)


def supervise(control: str, host: str, executable: str, folder: str, *libraries: str) -> None:
    """Be the supervisor until the host is gone."""
    import posix
    from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
    from importlib.util import module_from_spec

    # Whatever the host left inheritable, as servers do with the sockets that they listen on, is none of ours.
    posix.closerange(max(int(control), int(host)) + 1, 2**31 - 1)
    # Past the package: importing that would cost more than everything else here.
    spec = FileFinder(f"{folder}/pyfaas", (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec("_native")
    if spec is None or spec.loader is None:
        raise SystemExit(f"pyfaas._native is not in {folder}; was pyfaas installed completely?")
    native = module_from_spec(spec)
    spec.loader.exec_module(native)
    kept = [b"%b=%b" % (name, posix.environ[name]) for name in _INHERITED if name in posix.environ]
    command = (executable, "-I", __file__, "base", "3", folder, *libraries)
    native.supervise(int(control), int(host), command, (*_ENVIRONMENT, *kept))


def base(control: str, folder: str, *libraries: str) -> None:
    """Be the base, and in its descendants whatever they are."""
    gc.disable()  # nothing that is imported now is ever garbage
    sys.path += [path for path in (folder, *libraries) if path not in sys.path]
    sys.argv = [""]
    from pyfaas._worker import base as worker

    worker.run(int(control))


if __name__ == "__main__":
    if sys.argv[1] == "supervisor":
        supervise(*sys.argv[2:])
    else:
        base(*sys.argv[2:])
