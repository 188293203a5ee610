"""`import pyfaas` costs next to nothing, and the names are there all the same."""

import subprocess
import sys

import pytest

import pyfaas

HEAVY = ("pydantic", "psutil", "msgspec", "cloudpickle", "asyncio", "dataclasses", "typing", "pyfaas.runtime")


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = python("import sys; before = set(sys.modules); import pyfaas; print(*set(sys.modules) - before)")
    assert not set(loaded.split()) & set(HEAVY)
    assert len(loaded.split()) <= 3, loaded


def test_errors_load_nothing_heavy() -> None:
    loaded = python("import sys; from pyfaas import errors; print(*sys.modules)").split()
    assert not set(loaded) & (set(HEAVY) - {"typing"})


def test_dir_has_the_public_names() -> None:
    assert set(pyfaas.__all__) <= set(dir(pyfaas))
    assert pyfaas.__all__ == sorted(pyfaas.__all__)


@pytest.mark.parametrize("name", pyfaas.__all__)
def test_public_name_exists(name: str) -> None:
    assert getattr(pyfaas, name) is not None


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Lambda'"):
        pyfaas.Lambda  # noqa: B018
