"""The rows of the table, one module per question.

Each module here has the same shape: `NAME`, what `--only` takes, and `measure(bench) -> list[Row]`.
To add one: add a file and its name below.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from ..report import Row
    from ..sample import Sample

MODULES = (
    "floor",
    "warm",
    "quiet",
    "cold",
    "startup",
    "idle",
    "memory",
    "busy",
    "throughput",
    "buffers",
    "awaiting",
    "threads",
    "deadline",
    "million",
)


@dataclass
class Bench:
    """How much to measure, and where the details go that have no row of their own."""

    quick: bool = False
    million: bool = False
    samples: list[Sample] = field(default_factory=list)
    peers: dict[str, dict[str, str]] = field(default_factory=dict)

    def calls(self, full: int = 2000) -> int:
        """Calls to make where a full run makes `full`."""
        return max(10, full // 20) if self.quick else full

    def note(self, peer: str, **figures: str) -> None:
        """Keep figures of a peer, for the list below the table."""
        self.peers.setdefault(peer, {}).update(figures)

    @property
    def blocks(self) -> int:
        """Into how many blocks, taken in turn, the calls are divided."""
        return 2 if self.quick else 8


class RowModule(Protocol):
    """What a module of this package offers."""

    NAME: str

    def measure(self, bench: Bench) -> list[Row]: ...


def load(module: str) -> RowModule:
    """The module of the rows with this name."""
    return cast("RowModule", importlib.import_module(f".{module}", __package__))
