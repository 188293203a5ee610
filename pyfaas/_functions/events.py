"""Events of trusted functions: what is the application's own in them goes by value, as with callables."""

from __future__ import annotations

import io
import pickle
import weakref
from types import FunctionType
from typing import Any, Final

from pyfaas._functions import origin
from pyfaas._ipc import classes

#: Of classes: once the worker has one, what comes with later events is not looked at.
_taken: Final[weakref.WeakKeyDictionary[type, bytes]] = weakref.WeakKeyDictionary()


def dumps(value: object) -> bytes:
    """Pickle an event.

    Raises:
        InvalidPackage: A class or function of the application in it cannot travel.
        Exception: Whatever pickle, or a method of the value, raises.
    """
    file = io.BytesIO()
    _EventPickler(file, protocol=5).dump(value)
    return file.getvalue()


class _EventPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, type | FunctionType) or origin.is_found(value):
            return NotImplemented
        from pyfaas._functions import callables  # it imports cloudpickle, which takes 20 ms

        if isinstance(value, FunctionType):
            return pickle.loads, (callables.pickled(value)[0],)
        data = _taken.get(value)
        if data is None:
            data = _taken[value] = callables.pickled(value)[0]
        return classes.in_event, (classes.key_of(value), value.__module__, value.__qualname__, data)
