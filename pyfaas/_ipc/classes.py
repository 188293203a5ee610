"""Classes of the application in events and results of trusted functions, which pickle alone would look up by name.

In the worker such a class may have come by value, with the callable or with an event: it has no module there to be
found in. cloudpickle gives each class that it takes by value a key, which both sides keep: a result names the class by
this key, and the host finds the very class that it sent. An event's class that the worker does not know comes along.
"""

from __future__ import annotations

import io
import pickle
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_MAIN = ("__main__", "__mp_main__")


def key_of(cls: type) -> str | None:
    """Return cloudpickle's key of a class that it has taken, or brought, by value; `None` if it has not."""
    keys: MutableMapping[type, str] = _cloudpickles("_DYNAMIC_CLASS_TRACKER_BY_CLASS")
    return keys.get(cls)


def _of_key(key: str | None) -> type | None:
    classes: MutableMapping[str | None, type] = _cloudpickles("_DYNAMIC_CLASS_TRACKER_BY_ID")
    return classes.get(key)


def _cloudpickles(name: str) -> Any:
    # Where it is not loaded, nothing came by value.
    return getattr(sys.modules.get("cloudpickle.cloudpickle"), name, {})


def _below(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = getattr(value, part)
    return value


def in_event(key: str | None, module: str, name: str, data: bytes) -> Any:
    """Return the class that an event of the host names: the one that is here already, or the one that came along."""
    found: Any = _of_key(key)
    if found is None and module not in _MAIN:
        try:
            found = _below(import_module(module), name)
        except Exception:  # noqa: BLE001  # it is not here, or its module cannot be run here
            found = None
    return pickle.loads(data) if found is None else found  # noqa: S301  # only ever the host's own bytes


def in_result(key: str, module: str, name: str) -> Any:
    """Return the host's class that a result names."""
    found = _of_key(key)
    if found is not None:
        return found
    try:
        return _below(sys.modules[module], name)
    except (KeyError, AttributeError):
        raise pickle.UnpicklingError(f"the class {module}.{name} is not in this process any more") from None


class _ResultPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) and (key := key_of(value)) is not None:
            return in_result, (key, value.__module__, value.__qualname__)
        return NotImplemented


def dumps_result(value: object) -> bytes:
    """Pickle a worker's result."""
    file = io.BytesIO()
    _ResultPickler(file, protocol=5).dump(value)
    return file.getvalue()


#: How this process pickles what it sends; in the host it is replaced (`pyfaas/runtime.py`).
dumps: Callable[[object], bytes] = dumps_result
