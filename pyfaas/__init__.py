"""AWS Lambda as a Python library: register functions, invoke them in forked, confined worker processes.

>>> import pyfaas
>>> issubclass(pyfaas.FunctionTimeout, TimeoutError)
True

Public names are imported when they are first used (PEP 562), so `import pyfaas` costs next to nothing and the
worker's side, which imports this package too, never loads the host's side.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take the name for True; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from pyfaas._function import Function
    from pyfaas._functions.source import Source
    from pyfaas._worker.context import Context
    from pyfaas.errors import (
        AccessDenied,
        FunctionError,
        FunctionNotFound,
        FunctionTimeout,
        InitError,
        InstanceCrashed,
        InternalError,
        InvalidEvent,
        InvalidPackage,
        InvalidResult,
        OutOfMemory,
        PyFaasError,
        RuntimeClosed,
        SandboxUnavailable,
        Throttled,
    )
    from pyfaas.model import FunctionStatistics, Outcome, Report, Statistics
    from pyfaas.runtime import Runtime

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Context",
    "Function",
    "FunctionError",
    "FunctionNotFound",
    "FunctionStatistics",
    "FunctionTimeout",
    "InitError",
    "InstanceCrashed",
    "InternalError",
    "InvalidEvent",
    "InvalidPackage",
    "InvalidResult",
    "OutOfMemory",
    "Outcome",
    "PyFaasError",
    "Report",
    "Runtime",
    "RuntimeClosed",
    "SandboxUnavailable",
    "Source",
    "Statistics",
    "Throttled",
    "__version__",
]

# Where a public name lives, if not in pyfaas.errors, which holds most of them.
_HOMES = {
    "Context": "pyfaas._worker.context",
    "Function": "pyfaas._function",
    "FunctionStatistics": "pyfaas.model",
    "Outcome": "pyfaas.model",
    "Report": "pyfaas.model",
    "Runtime": "pyfaas.runtime",
    "Source": "pyfaas._functions.source",
    "Statistics": "pyfaas.model",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pyfaas' has no attribute {name!r}")
    from importlib import import_module

    try:
        value: object = getattr(import_module(_HOMES.get(name, "pyfaas.errors")), name)
    except ImportError as error:
        if "_native" not in str(error):
            raise
        folder = __file__.rpartition("/")[0]
        raise ImportError(
            f"the extension of pyfaas is not compiled in {folder}: in a folder of sources, start Python elsewhere to "
            "use the installed pyfaas, or compile it here with `pip install -e .`"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
