import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import _config, _schema
from pyfaas._config import FunctionConfig, RuntimeConfig, function_name
from pyfaas.errors import InvalidPackage

GOOD: list[tuple[str, Any]] = [
    ("memory", 129),
    ("memory", 10_240),
    ("timeout", 0.001),
    ("timeout", 900),
    ("env", {}),
    ("env", {"A": "", "b_2": "x" * 4092}),
    ("description", "ä" * 256),
    ("tags", {"team": "blue"}),
    ("max_payload", 1),
    ("max_payload", 100_000_000),
    ("reuse", 1),
    ("idle_timeout", 0.5),
    ("trusted", True),
    ("isolation", "none"),
    ("isolation", "strict"),
    ("queue_timeout", 0),
    ("queue_timeout", 10_000.0),
    ("batch", True),
    ("ephemeral_storage", 10_240),
]

BAD: list[tuple[str, Any, str]] = [
    ("memory", 127, "memory=127: must be a whole number of MB from 128 to 10240"),
    ("memory", 10_241, "10240"),
    ("memory", "256", "memory='256': must be a whole number"),
    ("memory", 256.5, "whole number"),
    ("memory", True, "memory=True"),
    ("memory", None, "memory=None"),
    ("timeout", 0, "timeout=0: must be a number of seconds above 0, up to 900"),
    ("timeout", -1, "above 0"),
    ("timeout", float("nan"), "timeout=nan"),
    ("timeout", float("inf"), "timeout=inf"),
    ("timeout", 901, "timeout=901: must be up to 900 seconds; batch=True allows 14400"),
    ("timeout", 14_401, "up to 900"),
    ("env", {"AWS_REGION": "x"}, "env: 'AWS_REGION' is set by pyfaas, as by Lambda: use another name"),
    ("env", {"1A": "x"}, "no name"),
    ("env", {"": "x"}, "no name"),
    ("env", {"A=B": "x"}, "no name"),
    ("env", {"A\n": "x"}, "no name"),
    ("env", {"A": "x\0y"}, "NUL"),
    ("env", {"A": "x" * 4096}, "env: 4097 bytes, but names and values may take 4096 in all"),
    ("env", {"A": 1}, "env=<dict>: must be a dict of str to str"),
    ("env", "A=1", "must be a dict"),
    ("description", "x" * 257, "256 characters"),
    ("tags", {"": "x"}, "tags"),
    ("tags", {str(number): "x" for number in range(51)}, "up to 50"),
    ("max_payload", 0, "bytes"),
    ("reuse", 0, "reuse=0: must be a whole number of invocations, 1 or more"),
    ("reuse", 1.5, "reuse"),
    ("idle_timeout", 0, "above 0"),
    ("idle_timeout", float("inf"), "idle_timeout"),
    ("trusted", 1, "True or False"),
    ("isolation", "docker", "isolation='docker': must be 'none', 'standard' or 'strict'"),
    ("queue_timeout", -0.1, "0 or more"),
    ("ephemeral_storage", 511, "from 512 to 10240"),
]


def test_defaults_are_lambdas() -> None:
    config = FunctionConfig.make()
    assert (config.memory, config.timeout, config.ephemeral_storage, config.max_payload) == (
        128,
        3,
        512,
        6_291_556,
    )
    assert (config.reuse, config.idle_timeout, config.isolation) == (None, None, "standard")
    assert config.max_wait == config.timeout


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_good_value(name: str, value: Any) -> None:
    assert getattr(FunctionConfig.make(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value", "text"), BAD)
def test_bad_value(name: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidPackage) as raised:
        FunctionConfig.make(**{name: value})
    assert text in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("name", sorted({*_config.BOUNDS, *_config.FLAGS}))
def test_what_is_plainly_right_is_right_by_the_schema_too(name: str) -> None:
    cls = FunctionConfig if name in FunctionConfig.__dataclass_fields__ else RuntimeConfig
    low, high = _config.BOUNDS.get(name, (False, True))
    for value in (low, high):
        made = getattr(cls.make(**{name: value}), name)
        checked = _schema.validate(cls.__name__, {name: value})[name]
        assert (made, type(made)) == (checked, type(checked))


def test_a_whole_number_of_seconds_is_seconds() -> None:
    timeout = FunctionConfig.make(timeout=5).timeout
    assert (timeout, type(timeout)) == (5.0, float)


def test_every_parameter_has_bounds_and_words() -> None:
    for ours, theirs in ((FunctionConfig, _schema.FunctionConfig), (RuntimeConfig, _schema.RuntimeConfig)):
        names = set(ours.__dataclass_fields__)
        assert names == set(theirs.model_fields) == set(theirs.wanted)


def test_all_errors_in_one_text() -> None:
    with pytest.raises(InvalidPackage) as raised:
        FunctionConfig.make(memory=1, timeout=-1, trusted="yes")
    for name in ("memory=1", "timeout=-1", "trusted='yes'"):
        assert name in str(raised.value)


def test_batch_allows_four_hours() -> None:
    assert FunctionConfig.make(batch=True, timeout=14_400).timeout == 14_400
    with pytest.raises(InvalidPackage, match="14400"):
        FunctionConfig.make(batch=True, timeout=14_401)


def test_secrets_are_not_shown() -> None:
    with pytest.raises(InvalidPackage) as raised:
        FunctionConfig.make(env={"PASSWORD": 12345})
    assert "12345" not in str(raised.value)


def test_long_values_are_cut() -> None:
    with pytest.raises(InvalidPackage) as raised:
        FunctionConfig.make(description="x" * 100_000)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("wrong", "right"), [("memroy", "memory"), ("time_out", "timeout"), ("isolate", "isolation")]
)
def test_unknown_parameter(wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"unknown parameter '{wrong}'; did you mean '{right}'?"):
        FunctionConfig.make(**{wrong: 1})


def test_unknown_parameter_like_none_lists_them_all() -> None:
    with pytest.raises(TypeError, match="there are: batch, description, env"):
        FunctionConfig.make(zzz=1)


def test_callers_dict_is_copied() -> None:
    env = {"A": "1"}
    config = FunctionConfig.make(env=env)
    env["B"] = "2"
    assert config.env == {"A": "1"}


def test_queue_timeout_overrides_the_timeout_as_wait() -> None:
    assert FunctionConfig.make(timeout=5).max_wait == 5
    assert FunctionConfig.make(timeout=5, queue_timeout=0).max_wait == 0


def test_concurrency_is_ten_per_usable_cpu() -> None:
    assert RuntimeConfig.make().concurrency == 10 * len(os.sched_getaffinity(0))
    assert RuntimeConfig.make(max_concurrency=3).concurrency == 3


@pytest.mark.parametrize(
    "wrong", [{"max_concurrency": 0}, {"max_queue": -1}, {"init_timeout": 0}, {"init_timeout": 901}]
)
def test_bad_runtime_value(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidPackage, match=next(iter(wrong))):
        RuntimeConfig.make(**wrong)


@pytest.mark.parametrize("name", ["a", "greet", "Resize-2_x", "x" * 64])
def test_function_name(name: str) -> None:
    assert function_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "größe", "a\n", "<lambda>", None, 7])
def test_bad_function_name(name: object) -> None:
    with pytest.raises(InvalidPackage, match="function name"):
        function_name(name)


@given(memory=st.integers(-10, 20_000), timeout=st.floats(-10, 20_000), batch=st.booleans())
def test_bounds_hold(memory: int, timeout: float, batch: bool) -> None:
    valid = 128 <= memory <= 10_240 and 0 < timeout <= (14_400 if batch else 900)
    try:
        FunctionConfig.make(memory=memory, timeout=timeout, batch=batch)
    except InvalidPackage:
        assert not valid
    else:
        assert valid


def test_pydantic_is_imported_only_to_check() -> None:
    program = (
        "import sys; from pyfaas._config import FunctionConfig as F, RuntimeConfig as R;"
        "F.make(memory=256, timeout=5, env=None, trusted=True); R.make(max_queue=5);"
        "assert 'pydantic' not in sys.modules;"
        "F.make(env={'A': 'b'}); assert 'pydantic' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_module_has_what_it_says() -> None:
    assert all(hasattr(_config, name) for name in _config.__all__)
