"""Code that exists only in memory is imported like any other."""

from __future__ import annotations

import linecache
import pickle
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyfaas._worker import importer

Resolve = Callable[..., Any]


@pytest.fixture
def resolve() -> Iterator[Resolve]:
    modules, finders = set(sys.modules), list(sys.meta_path)

    def resolve_files(handler: str, **sources: str) -> Any:
        files = {name.replace("__SLASH__", "/"): text.encode() for name, text in sources.items()}
        return importer.resolve({"kind": "files", "files": files, "handler": handler})

    yield resolve_files
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    linecache.clearcache()


def files(**sources: str) -> dict[str, str]:
    """`a__b` stands for the path `a/b.py`, `a__init` for `a/__init__.py`."""
    paths = {}
    for name, text in sources.items():
        path = name.replace("__", "/")
        paths[path.removesuffix("init") + "__init__.py" if path.endswith("/init") else f"{path}.py"] = text
    return paths


def test_a_single_module(resolve: Resolve) -> None:
    handler = resolve("pf_app.handler", **files(pf_app="def handler(event, context):\n    return __file__"))
    assert handler({}, None) == "/var/task/pf_app.py"
    assert sys.modules["pf_app"].__spec__ is not None
    assert sys.modules["pf_app"].__spec__.origin == "/var/task/pf_app.py"


def test_packages_with_relative_imports(resolve: Resolve) -> None:
    handler = resolve(
        "pf_pkg.api.hook.handler",
        **files(
            pf_pkg__init="",
            pf_pkg__names="NAME = 'Ada'",
            pf_pkg__api__init="from ..names import NAME",
            pf_pkg__api__hook="from . import NAME\nimport pf_pkg.names as n\ndef handler(e, c): return NAME + n.NAME",
        ),
    )
    assert handler({}, None) == "AdaAda"


def test_a_folder_without_init_is_a_namespace(resolve: Resolve) -> None:
    handler = resolve("pf_ns.inner.mod.handler", **files(pf_ns__inner__mod="handler = print"))
    assert handler is print


def test_a_folder_never_hides_a_library(resolve: Resolve) -> None:
    sources = files(pf_app="import wave\nhandler = wave.open", wave__notes="")
    sys.modules.pop("wave", None)
    assert resolve("pf_app.handler", **sources).__module__ == "wave"


def test_as_lambda_slashes_separate_folders(resolve: Resolve) -> None:
    assert resolve("pf_dir/mod.handler", **files(pf_dir__mod="handler = len")) is len


def test_tracebacks_show_the_source(resolve: Resolve) -> None:
    handler = resolve("pf_app.handler", **files(pf_app="def handler(event, context):\n    return 1 / event"))
    with pytest.raises(ZeroDivisionError) as caught:
        handler(0, None)
    text = "".join(traceback.format_tb(caught.value.__traceback__))
    assert 'File "/var/task/pf_app.py", line 2, in handler' in text
    assert "return 1 / event" in text


def test_data_beside_the_code(resolve: Resolve) -> None:
    resolve("pf_pkg.handler", **files(pf_pkg__init="handler = len"), **{"pf_pkg/data.txt": "here"})
    assert pkgutil.get_data("pf_pkg", "data.txt") == b"here"
    with pytest.raises(OSError, match="missing"):
        pkgutil.get_data("pf_pkg", "missing.txt")


def test_source_encoding_is_honoured(resolve: Resolve) -> None:
    sources = {"pf_app.py": "handler = lambda e, c: 'größe'"}
    assert resolve("pf_app.handler", **sources)({}, None) == "größe"


def test_libraries(resolve: Resolve) -> None:
    del resolve
    assert importer.resolve({"kind": "import", "handler": "os.path.basename"})("a/b") == "b"
    assert importer.resolve({"kind": "pickle", "pickle": pickle.dumps(len)}) is len


@pytest.mark.parametrize(
    ("handler", "source", "error_type", "text"),
    [
        ("pf_app.missing", "", "Runtime.HandlerNotFound", "Handler 'missing' missing on module 'pf_app'"),
        ("pf_app.handler", "handler = 3", "Runtime.HandlerNotFound", "is a int, which cannot be called"),
        ("pf_nope.handler", "", "Runtime.ImportModuleError", "Unable to import module 'pf_nope'"),
        ("pf_app.handler", "import pf_gone", "Runtime.ImportModuleError", "No module named 'pf_gone'"),
        ("pf_app.handler", "def handler(:", "Runtime.UserCodeSyntaxError", "pf_app.py, line 1"),
        ("pf_app.handler", "x = '\0'", "Runtime.UserCodeSyntaxError", "null"),
        ("handler", "", "Runtime.MalformedHandlerName", "module.name"),
        ("wave.handler", "", "Runtime.HandlerNotFound", "is another module of that name in the way?"),
    ],
)
def test_failures_have_lambdas_names(
    resolve: Resolve, handler: str, source: str, error_type: str, text: str
) -> None:
    import wave  # noqa: F401  # it is in the way of the last case

    with pytest.raises(importer.InitFailure) as caught:
        resolve(handler, **files(pf_app=source, wave="handler = len"))
    assert type(caught.value).__name__ == error_type
    assert text in str(caught.value)


def test_what_the_code_raises_is_raised(resolve: Resolve) -> None:
    with pytest.raises(KeyError, match="boom"):
        resolve("pf_app.handler", **files(pf_app="raise KeyError('boom')"))
    with pytest.raises(SystemExit):
        resolve("pf_app2.handler", **files(pf_app2="raise SystemExit(3)"))


class Wrapped:
    """Looks like a function registered by the module itself."""

    def __init__(self, function: object) -> None:
        self.function = function

    def __pyfaas_reduce__(self) -> object:
        return self.function


def test_a_registered_function_is_unwrapped() -> None:
    assert importer._called(Wrapped(len), "x") is len
