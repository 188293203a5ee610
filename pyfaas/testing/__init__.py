"""For tests of pyfaas and of what is built on it: a clock that moves when told, contracts, the pytest fixture `faas`.

>>> import pyfaas.testing
>>> clock = pyfaas.testing.VirtualClock()

Names are imported when they are first used: pytest imports this package for its plugin wherever pyfaas is installed.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take the name for True
if TYPE_CHECKING:
    from pyfaas.testing.clock import ClockContract, VirtualClock

__all__ = ["ClockContract", "VirtualClock"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pyfaas.testing' has no attribute {name!r}")
    from pyfaas.testing import clock

    value: object = getattr(clock, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
