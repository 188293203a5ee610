import copy
import dataclasses
import pickle
from typing import Any, cast

import pytest

from pyfaas.errors import FunctionError
from pyfaas.model import FunctionStatistics, Outcome, Report, Statistics


def test_outcome_with_a_value() -> None:
    outcome = Outcome(value={"a": 1}, request_id="7d0c")
    assert outcome.ok
    assert outcome.unwrap() == {"a": 1}


def test_outcome_with_none_is_a_value() -> None:
    outcome: Outcome[None] = Outcome(value=None, request_id="7d0c")
    assert outcome.ok
    assert outcome.unwrap() is None


def test_outcome_with_an_error_raises_that_error() -> None:
    error = FunctionError(error_type="KeyError", error_message="'x'")
    outcome: Outcome[Any] = Outcome(error=error, request_id="7d0c")
    assert not outcome.ok
    with pytest.raises(FunctionError) as raised:
        outcome.unwrap()
    assert raised.value is error


@pytest.mark.parametrize(
    "value",
    [
        Report(duration_ms=1.5, billed_ms=2, memory_mb=128, max_memory_mb=30, cpu_ms=1.0),
        Outcome(value=1, request_id="7d0c"),
        FunctionStatistics(idle=1),
        Statistics({"greet": FunctionStatistics(idle=1)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen_and_survive_pickling_and_copying(value: Any) -> None:
    first = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, first, None)
    assert not hasattr(value, "__dict__")
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


def test_statistics_add_up() -> None:
    one = FunctionStatistics(
        starting=1, idle=2, busy=3, queued=4, invocations=5, errors=6, throttles=7, cold_starts=8
    )
    both = Statistics({"a": one, "b": one})
    for field in dataclasses.fields(FunctionStatistics):
        assert getattr(both, field.name) == 2 * getattr(one, field.name) == getattr(both.total, field.name)
    assert both.total.instances == 12


def test_statistics_of_nothing() -> None:
    assert Statistics({}).total == FunctionStatistics()


def test_statistics_do_not_change() -> None:
    functions = {"a": FunctionStatistics()}
    snapshot = Statistics(functions)
    functions["b"] = FunctionStatistics()
    assert list(snapshot.functions) == ["a"]
    changeable = cast("dict[str, FunctionStatistics]", snapshot.functions)
    with pytest.raises(TypeError, match="snapshot"):
        changeable["b"] = FunctionStatistics()
    with pytest.raises(TypeError, match="snapshot"):
        changeable.clear()
    with pytest.raises(TypeError, match="snapshot"):
        del changeable["a"]
