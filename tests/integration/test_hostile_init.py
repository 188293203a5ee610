"""Functions whose init takes over the template: calls fail, or the function fools itself; nobody else notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pyfaas

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).with_name("hostile_init.py").read_text()
WAYS: dict[str, type[pyfaas.PyFaasError] | None] = {
    "no forks": pyfaas.InstanceCrashed,
    "closed descriptors": pyfaas.InstanceCrashed,
    "ready again and again": pyfaas.InstanceCrashed,
    "nonsense instead of ready": pyfaas.InitError,
    "exit when asked to fork": pyfaas.InstanceCrashed,
    "nonsense after the hello": pyfaas.InstanceCrashed,
    "a failure that is none": pyfaas.SandboxUnavailable,
    "is all instances itself": None,
}


def echo(event: Any, context: Any) -> Any:
    return event


@pytest.mark.parametrize("way", WAYS)
def test_init_that_speaks_for_the_template(nothing_leaks: None, way: str) -> None:
    with pyfaas.Runtime(init_timeout=1) as rt:
        canary = rt.register("canary", echo)
        text = SOURCE.replace('WAY = "no forks"', f"WAY = {way!r}")
        hostile = rt.register("hostile", pyfaas.Source(text), timeout=1)
        for _ in range(2):
            futures = [hostile.submit(number) for number in range(2)]
            errors = [hostile.call(1).error, *(future.exception(20) for future in futures)]
            assert [type(error) for error in errors] == [WAYS[way] or type(None)] * 3
            assert canary.invoke("song") == "song"
