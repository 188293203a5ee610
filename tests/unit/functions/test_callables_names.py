"""A module that is loaded under two names, as `python -m` and benchmarks do."""

from __future__ import annotations

import sys

import pytest

from pyfaas._functions.code import code_image


def test_a_module_under_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "second_name", sys.modules[__name__])
    assert code_image(lambda event, context: helper(event)).payload


def helper(event: object) -> object:
    return event
