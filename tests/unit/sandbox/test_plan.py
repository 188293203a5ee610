"""The plan: limits in, the bytes that the core reads out."""

from __future__ import annotations

import re
import resource
import struct
from pathlib import Path
from typing import Any

import pytest

from pyfaas._sandbox import plan
from pyfaas._sandbox.plan import Limits

HEADER = Path(__file__).parents[3] / "native" / "core" / "pf_confine.h"
MB = 1 << 20


def unpack(packed: bytes) -> tuple[int, dict[int, int]]:
    """Read a plan as pf_plan_read does; return flags and limits."""
    magic, version, flags, count, zero = struct.unpack_from("=IHHII", packed)
    assert (magic, version, zero) == (plan.MAGIC, plan.VERSION, 0)
    limits = [struct.unpack_from("=IIQ", packed, 16 + 16 * i) for i in range(count)]
    assert len(packed) == 16 + 16 * count
    assert {padding for _, padding, _ in limits} <= {0}
    return flags, {number: value for number, _, value in limits}


def test_numbers_are_those_of_the_core() -> None:
    text = HEADER.read_text()
    defined = dict(re.findall(r"#define PF_PLAN_(\w+) (\w+?)u?\s", text))
    assert int(defined["MAGIC"], 16) == plan.MAGIC
    assert int(defined["VERSION"]) == plan.VERSION
    assert int(defined["CONFINED"]) == plan.CONFINED
    assert len(Limits().rlimits()) <= int(defined["LIMITS_MAX"])


def test_limits_follow_the_function() -> None:
    flags, limits = unpack(Limits(memory=256, scratch=1024, open_files=64).pack())
    assert flags == plan.CONFINED
    assert limits[resource.RLIMIT_DATA] == (256 + plan.DATA_MARGIN_MB) * MB
    assert limits[resource.RLIMIT_FSIZE] == 1024 * MB
    assert limits[resource.RLIMIT_NOFILE] == 64


def test_what_nobody_needs_is_shut() -> None:
    _, limits = unpack(Limits().pack())
    assert limits[resource.RLIMIT_CORE] == 0
    assert limits[resource.RLIMIT_MSGQUEUE] == 0
    assert resource.RLIMIT_AS not in limits  # numpy reserves gigabytes of address space
    assert resource.RLIMIT_NPROC not in limits  # counts per user, not per function


def test_without_isolation_nothing_is_limited() -> None:
    assert unpack(Limits(isolation="none").pack()) == (0, {})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("memory", 127, "memory=127 MB is outside 128 to 10240 MB"),
        ("memory", 10_241, "memory=10241 MB is outside 128 to 10240 MB"),
        ("scratch", 0, "scratch=0 MB is outside 512 to 10240 MB"),
        ("open_files", 1, "open_files=1 is outside 16 to 1048576"),
        ("isolation", "gentle", "isolation='gentle' is not known; choose one of none, standard, strict"),
    ],
)
def test_errors_name_value_and_remedy(name: str, value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Limits(**{name: value})
