"""Anything that `register` takes for code: what is shipped, and that it runs without the host's modules."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import importlib
import os
import pathlib
import queue
import socket
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import msgspec
import pytest

from pyfaas._functions.code import CodeImage, code_image
from pyfaas._functions.source import Source
from pyfaas._ipc.values import decode, encode
from pyfaas._worker.handler import build
from pyfaas.errors import InvalidPackage

SETTINGS: dict[str, Any] = {
    "name": "f",
    "version": "$LATEST",
    "memory": 128,
    "trusted": False,
    "log_group": "",
    "log_stream": "",
    "arn": "",
    "max_payload": 6_291_556,
}

Run = Callable[..., Any]
Module = Callable[..., Any]


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Without the modules that tests made, as in a worker."""
    path, finders = list(sys.path), list(sys.meta_path)
    ours = {name: module for name, module in sys.modules.items() if name.startswith("pf_")}
    for name in ours:
        del sys.modules[name]
    sys.path[:] = [folder for folder in path if "pytest-of" not in folder]
    try:
        yield
    finally:
        sys.path[:], sys.meta_path[:] = path, finders
        for name in [name for name in sys.modules if name.startswith("pf_")]:
            del sys.modules[name]
        sys.modules.update(ours)


@pytest.fixture
def run() -> Run:
    def ship_and_run(code: object, event: object = None, handler: str | None = None) -> Any:
        image = code_image(code, handler)
        with elsewhere():
            served = build(SETTINGS, msgspec.msgpack.decode(image.payload))
            kind, payload = served(0, encode(event), bytes(16), 10**9)
            served.close()
        if kind == 2:
            raise RuntimeError(msgspec.msgpack.decode(payload)["errorMessage"])
        assert kind == 0
        return decode(payload)

    return ship_and_run


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Writes a module of the application, `a__b` standing for `a/b.py`, and imports it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str, *, load: bool = True) -> Any:
        path = name.replace("__", "/")
        file = tmp_path / (
            path.removesuffix("init") + "__init__.py" if path.endswith("/init") else f"{path}.py"
        )
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(path.replace("/", ".").removesuffix(".init")) if load else file

    yield write
    for name in [name for name in sys.modules if name.startswith("pf_")]:
        del sys.modules[name]


def kind(image: CodeImage) -> str:
    return str(msgspec.msgpack.decode(image.payload)["kind"])


def refusal(code: object, handler: str | None = None, **limits: int) -> str:
    with pytest.raises(InvalidPackage) as caught:
        code_image(code, handler, **limits)
    return str(caught.value)


# ---- callables ----------------------------------------------------------------------------------------------------

FACTOR = 3


def times(event: int, context: object) -> int:
    return event * FACTOR


def factorial(event: int, context: object) -> int:
    return 1 if event < 2 else event * factorial(event - 1, context)


class Greeter:
    greeting = "hello"

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, event: str, context: object) -> str:
        return f"{self.greeting} {event}, {self.name}"

    def greet(self, event: str, context: object) -> str:
        return self(event, context)

    @classmethod
    def plain(cls, event: str, context: object) -> str:
        return f"{cls.greeting} {event}"


async def later(event: Any, context: object) -> Any:
    await asyncio.sleep(0)
    return event + 1


def test_callables_of_all_kinds(run: Run) -> None:
    offset = 10
    assert run(times, 2) == 6
    assert run(lambda event, context: event + offset, 1) == 11
    assert run(factorial, 5) == 120
    assert run(Greeter("Bob"), "Ada") == "hello Ada, Bob"
    assert run(Greeter("Bob").greet, "Ada") == "hello Ada, Bob"
    assert run(Greeter.plain, "Ada") == "hello Ada"
    assert run(functools.partial(lambda prefix, event, context: prefix + event, "a"), "b") == "ab"
    assert run(later, 1) == 2


def test_what_a_function_of_main_uses_goes_along(run: Run) -> None:
    main = sys.modules["__main__"]
    exec(
        "def pf_helper(x):\n    return x + 1\ndef pf_handler(event, context):\n    return pf_helper(event)",
        vars(main),
    )
    handler = vars(main).pop("pf_handler")
    try:
        assert run(handler, 1) == 2
    finally:
        vars(main).pop("pf_helper", None)
    image = code_image(handler)
    assert image.handler == "__main__.pf_handler"


def test_modules_of_the_application_go_by_value(run: Run, module: Module) -> None:
    module("pf_app__init", "")
    module(
        "pf_app__names", "import json\nPREFIX = 'dear '\ndef title(name): return json.dumps(PREFIX + name)"
    )
    hooks = module(
        "pf_app__hooks",
        "from pf_app.names import title\nfrom pf_app import names\nimport pf_app.names as again\n"
        "def handler(event, context): return [title(event), names.title(event), again.PREFIX]",
    )
    assert run(hooks.handler, "Ada") == ['"dear Ada"', '"dear Ada"', "dear "]


def test_modules_that_mention_each_other(run: Run, module: Module) -> None:
    module("pf_one", "import pf_two\ndef f(n): return n if n < 1 else pf_two.g(n - 1)", load=False)
    two = module("pf_two", "import pf_one\ndef g(n): return pf_one.f(n)\ndef handler(e, c): return g(e)")
    assert run(two.handler, 5) == 0


def test_unused_things_of_a_module_stay_behind(run: Run, module: Module) -> None:
    module(
        "pf_state",
        "import sqlite3, threading\nlock = threading.Lock()\ndb = sqlite3.connect(':memory:')\n"
        "class Client:\n    def __init__(self): self.lock = threading.RLock()\nclient = Client()\nVALUE = 5",
    )
    hooks = module(
        "pf_hooks",
        "import pf_state\ndef good(e, c): return pf_state.VALUE\ndef bad(e, c): return pf_state.db.execute('x')",
    )
    assert run(hooks.good) == 5
    with pytest.raises(RuntimeError, match=r"'pf_state\.db' is a sqlite3\.Connection, which did not travel"):
        run(hooks.bad)
    sys.modules["pf_state"].db.close()


def test_a_module_has_one_set_of_variables(run: Run, module: Module) -> None:
    module(
        "pf_rates", "RATE = 1\ndef change(rate):\n    global RATE\n    RATE = rate\ndef rate(): return RATE"
    )
    hooks = module(
        "pf_hooks",
        "import pf_rates\nfrom pf_rates import change, rate\n"
        "def handler(e, c):\n    change(e)\n    return [pf_rates.RATE, rate(), pf_rates.rate()]",
    )
    assert run(hooks.handler, 5) == [5, 5, 5]
    assert hooks.pf_rates.RATE == 1


def test_imports_inside_functions_find_what_travelled(run: Run, module: Module) -> None:
    module("pf_shop__init", "")
    module("pf_shop__names", "def cls():\n    from . import models\n    return models.Model\n")
    models = module(
        "pf_shop__models",
        "from .names import cls\nclass Model: pass\n"
        "def handler(e, c):\n    import pf_shop.models\n    return [cls() is Model, pf_shop.models.Model is Model]",
    )
    assert run(models.handler) == [True, True]


def test_files_bring_along_what_they_import(run: Run, module: Module) -> None:
    module("pf_second", "VALUE = 3", load=False)
    module(
        "pf_first", "import pf_second\ntry:\n    import pf_nowhere\nexcept ImportError:\n    pass", load=False
    )
    module("pf_mentioned", "def value():\n    from pf_first import pf_second\n    return pf_second.VALUE")
    hooks = module("pf_hooks", "import pf_mentioned\ndef handler(e, c): return pf_mentioned.value()")
    assert run(hooks.handler) == 3


def test_large_packages_that_are_perhaps_not_needed_stay_behind(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    module("pf_large", "VALUE = 3", load=False)
    module("pf_mentioned", "def value():\n    import pf_large")
    hooks = module(
        "pf_hooks",
        "import pf_mentioned\ndef mentions(e, c): pf_mentioned.value()\ndef needs(e, c): import pf_large",
    )
    monkeypatch.setattr("pyfaas._functions.callables.USEFUL_MAX", 8)
    assert "files" not in msgspec.msgpack.decode(code_image(hooks.mentions).payload)
    assert "files" in msgspec.msgpack.decode(code_image(hooks.needs).payload)


def test_what_decorators_made(run: Run, module: Module) -> None:
    tools = module(
        "pf_tools",
        "import functools, threading, typing\n"
        "@functools.lru_cache(maxsize=3, typed=True)\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "@functools.singledispatch\ndef kind(value):\n    'Its kind.'\n    return 'object'\n"
        "@kind.register\ndef _(value: list): return [kind(one) for one in value]\n"
        "class Lazy:\n    @functools.cached_property\n    def value(self): return 7\n"
        "Cents = typing.NewType('Cents', int)\nP = typing.ParamSpec('P')\n"
        "class Sentinel:\n    def __reduce__(self): return 'MISSING'\nMISSING = Sentinel()\n"
        "def given(value=MISSING): return value is not MISSING\n"
        "def handler(e, c):\n"
        "    parameters = fib.cache_parameters()\n"
        "    return [fib(10), parameters['maxsize'], parameters['typed'], kind([1]), kind.__doc__,\n"
        "            Lazy().value, Cents(2), P.__name__, given(), given(1)]\n",
    )
    expected = [55, 3, True, ["object"], "Its kind.", 7, 2, "P", False, True]
    assert run(tools.handler) == expected
    assert (
        run(module("pf_hooks", "import pf_tools\ndef handler(e, c): return pf_tools.handler(e, c)").handler)
        == expected
    )


def test_imports_inside_functions_are_shipped_as_files(run: Run, module: Module) -> None:
    module("pf_late__init", "", load=False)
    module("pf_late__deep", "VALUE = 7", load=False)
    module("pf_late__hooks", "", load=False)
    module("pf_side", "VALUE = 8", load=False)
    hooks = module(
        "pf_late__hooks",
        "def handler(e, c):\n    from pf_late import deep\n    from . import deep as same\n"
        "    from .deep import VALUE\n"
        "    import pf_side, json\n    return [deep.VALUE, same.VALUE, VALUE, pf_side.VALUE]\n"
        "def optional(e, c):\n    try:\n        import pf_not_there\n    except ImportError:\n        return 'no'",
    )
    assert run(hooks.handler) == [7, 7, 7, 8]
    assert run(hooks.optional) == "no"


def test_classes_of_the_application_go_by_value(run: Run, module: Module) -> None:
    models = module(
        "pf_models",
        "import dataclasses, enum\nclass C(enum.Enum):\n    A = 1\n@dataclasses.dataclass\nclass Point:\n    x: int",
    )
    point, colour = models.Point(3), models.C
    assert run(lambda event, context: [point.x, colour.A.value, type(point)(4).x]) == [3, 1, 4]


def test_libraries_go_by_name() -> None:
    import json

    for code, handler in ((json.dumps, "json.dumps"), (len, "builtins.len"), (cloudpickle.dumps, None)):
        image = code_image(code)
        assert kind(image) == "import"
        assert handler is None or image.handler == handler
    # pyfaas counts as one wherever it was imported from.
    assert kind(code_image(code_image)) == "import"


def test_cloudpickles_list_of_modules_is_left_alone(module: Module) -> None:
    hooks = module("pf_hooks", "def handler(e, c): return 1")
    before = cloudpickle.list_registry_pickle_by_value()
    code_image(hooks.handler)
    with pytest.raises(InvalidPackage):
        code_image(lambda event, context: HELD)
    assert cloudpickle.list_registry_pickle_by_value() == before


class Registered:
    """Looks like pyfaas.Function: it holds a Runtime and knows the function that it was made of."""

    def __init__(self, function: object) -> None:
        self.function = function
        self.runtime = threading.Lock()

    def __pyfaas_reduce__(self) -> object:
        return self.function

    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        return "<Function other>"


def test_registered_functions_are_replaced_by_what_they_were_made_of(run: Run, module: Module) -> None:
    hooks = module(
        "pf_hooks",
        "def helper(n): return n + 1\ndef handler(e, c): return e if e > 3 else handler(helper(e), c)",
    )
    hooks.handler = Registered(hooks.handler)
    assert run(hooks.handler.function, 1) == 4
    assert run(hooks.handler, 1) == 4


def test_registered_functions_without_a_callable_say_so_when_used(run: Run) -> None:
    other: Any = Registered(None)
    assert run(lambda event, context: event or other.invoke(), 1) == 1
    with pytest.raises(RuntimeError, match="'<Function other>' is a pyfaas Function without a callable"):
        run(lambda event, context: other.invoke())
    assert "was not registered from a callable" in refusal(other)


# ---- what cannot travel -------------------------------------------------------------------------------------------

HELD = threading.Lock()


class Client:
    def __init__(self) -> None:
        self.parts = {"held": [HELD]}


class Refusing:
    def __reduce_ex__(self, _: object) -> Any:
        raise ValueError("never")


class Runtime:
    __module__ = "pyfaas.runtime"


def held(value: object) -> Callable[..., Any]:
    def greet(event: object, context: object) -> object:
        return value

    return greet


ADVICE = "it inside the handler or at module level of the function's own code"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (HELD, f"a lock, which cannot travel to another process; make {ADVICE}"),
        (
            Runtime(),
            "a pyfaas Runtime, which cannot travel to another process; a function cannot invoke the Runtime",
        ),
        ((item for item in [1]), "a generator, which cannot travel to another process; use a list"),
        (threading.Thread(), "a thread"),
        (threading.Event(), "a threading.Event"),
        (queue.Queue(), "a queue.Queue"),
        (
            contextvars.ContextVar[int]("pf").set(1),
            "a Token of a ContextVar, which cannot travel to another process; capture",
        ),
        (contextvars.copy_context(), "a contextvars.Context"),
        (
            weakref.ref(threading),
            "a weak reference, which cannot travel to another process; capture the object itself",
        ),
        (memoryview(b"x"), "a memoryview, which cannot travel to another process; capture bytes"),
        (Refusing(), "a test_code.Refusing, which cannot travel to another process (ValueError: never)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_refusals_name_the_variable(value: object, what: str) -> None:
    text = refusal(held(value)).replace("tests.unit.functions.", "")
    assert text.startswith(f"held.greet: captured variable 'value' is {what}")


def test_refusals_look_behind_decorators() -> None:
    way = "captured variable 'value', attribute '__wrapped__', captured variable 'HELD' is a lock"
    assert way in refusal(held(functools.lru_cache(lambda: HELD)))


def test_refusals_of_open_things(tmp_path: pathlib.Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as db,
        socket.socket() as sock,
        (tmp_path / "x").open("w+") as file,
    ):
        assert refusal(held(db)) == (
            "held.greet: captured variable 'value' is a sqlite3.Connection, which cannot travel to another process; "
            f"open {ADVICE}"
        )
        assert "is a socket, which" in refusal(held(sock))
        assert "is an open file, which" in refusal(held(file))


def test_refusals_name_the_way_to_the_variable() -> None:
    client = Client()
    assert ": captured variable 'HELD' is a lock" in refusal(lambda event, context: HELD)
    text = refusal(lambda event, context: client)
    assert "captured variable 'client', attribute 'parts', item 'held', item 0 is a lock" in text
    assert "captured variable 'value', captured variable 'value' is a lock" in refusal(held(held(HELD)))
    assert "its object, attribute 'name' is a lock" in refusal(Greeter(HELD).greet)  # type: ignore[arg-type]
    assert "argument 0 is a lock" in refusal(functools.partial(later, HELD))

    def default(event: object, context: object, lock: object = HELD, *, other: object = 1) -> None: ...

    assert "a parameter's default is a lock" in refusal(default)


def test_sys_stdout_travels() -> None:
    stream = sys.__stdout__
    if sys.stdout is stream:
        assert kind(code_image(lambda event, context: stream)) == "pickle"


# ---- modules, files, text -----------------------------------------------------------------------------------------


def test_a_module_is_found_and_not_imported(run: Run, module: Module) -> None:
    module("pf_alone", "raise_ = 1 / 1\ndef handler(e, c): return __file__", load=False)
    image = code_image("pf_alone:handler")
    assert "pf_alone" not in sys.modules
    assert (kind(image), image.handler) == ("files", "pf_alone.handler")
    assert run("pf_alone:handler") == "/var/task/pf_alone.py"


def test_a_package_is_shipped_whole(run: Run, module: Module, tmp_path: pathlib.Path) -> None:
    module("pf_pack__init", "NAME = 'n'", load=False)
    module("pf_pack__deep__init", "", load=False)
    module("pf_pack__deep__hook", "from .. import NAME\ndef handler(e, c): return NAME", load=False)
    (tmp_path / "pf_pack/data.json").write_text("{}")
    (tmp_path / "pf_pack/__pycache__").mkdir()
    (tmp_path / "pf_pack/__pycache__/x.pyc").write_text("")
    (tmp_path / "pf_pack/.hidden").write_text("")
    image = code_image("pf_pack.deep.hook:handler")
    assert sorted(msgspec.msgpack.decode(image.payload)["files"]) == [
        "pf_pack/__init__.py",
        "pf_pack/data.json",
        "pf_pack/deep/__init__.py",
        "pf_pack/deep/hook.py",
    ]
    assert "pf_pack" not in sys.modules
    assert run("pf_pack.deep.hook:handler") == "n"
    assert image.sha256 == code_image("pf_pack.deep.hook:handler").sha256


def test_a_folder_without_init_is_a_package_too(run: Run, module: Module) -> None:
    module("pf_space__hook", "def handler(e, c): return 'here'", load=False)
    assert run("pf_space.hook:handler") == "here"


def test_modules_of_libraries_go_by_name() -> None:
    for code in (
        "json:dumps",
        "os.path:join",
        "sys:getsizeof",
        "cloudpickle:dumps",
        "pyfaas.errors:PyFaasError",
    ):
        assert kind(code_image(code)) == "import"


def test_files(run: Run, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    file = module("pf_script", "def handler(e, c): return e * 2", load=False)
    assert run(f"{file}:handler", 4) == 8
    assert run(str(file), 4, handler="handler") == 8
    assert run(file, 4, handler="pf_script.handler") == 8
    monkeypatch.chdir(file.parent)
    assert run("pf_script.py:handler", 4) == 8


def test_source_text(run: Run) -> None:
    assert run(Source("def handler(event, context): return 'größe'", filename="pf_text.py")) == "größe"
    assert run(Source("def go(event, context): return 1", "go", "pf_app.py")) == 1
    assert run(Source("def go(event, context): return 1", filename="pf_app.py"), handler="pf_app.go") == 1
    # What is wrong with the text is found where it runs, confined.
    image = code_image(Source("def handler(:", filename="pf_bad.py"))
    with elsewhere(), pytest.raises(Exception, match="Syntax error in module 'pf_bad'"):
        build(SETTINGS, msgspec.msgpack.decode(image.payload))


@pytest.mark.parametrize(
    ("code", "handler", "text"),
    [
        ("nowhere.py:handler", None, "'nowhere.py' does not exist; the current folder is"),
        ("pf_missing:handler", None, "module 'pf_missing' was not found"),
        ("json.missing:handler", None, "module 'json.missing' was not found"),
        ("handler", None, "'handler' names no handler; write 'module:name' or 'file.py:name'"),
        ("app.handler", None, "names no handler"),
        ("json:", None, "the handler's name is empty"),
        ("json:a b", None, "has to be an identifier"),
        ("json:a.b", None, "has to be an identifier"),
        (":handler", None, "is no module's name"),
        ("a/b:handler", None, "is no module's name"),
        ("x.py", None, "the handler's name is empty"),
        ("json:dumps", "dumps", "names the handler already"),
        ("", None, "names no handler"),
        ("__main__:handler", None, "register the callable itself"),
        ("def handler(event, context):\n    pass", None, "wrap source text in pyfaas.Source"),
        ("a.b.py:handler", None, "no dot but that of .py"),
        (".", None, "this version ships modules and single files"),
        ("code.zip", None, "this version ships modules and single files"),
        (3, None, "int cannot be called"),
        (None, None, "NoneType cannot be called"),
        (times, "times", "a callable is its own handler"),
        (times, 3, "handler is a int"),
        (Source("x"), "a.b", "has to be an identifier"),
        (Source("x", ""), None, "the handler's name is empty"),
    ],
)
def test_mistakes_are_explained(code: object, handler: Any, text: str) -> None:
    assert text in refusal(code, handler)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3,), "text is a int"),
        (("x", None), "handler is a NoneType"),
        (("x", "handler", "../x.py"), "has to be an identifier and .py"),
        (("x", "handler", "x.txt"), "has to be an identifier and .py"),
        (("\ud800",), "cannot be written as UTF-8"),
    ],
)
def test_source_checks_its_parameters(arguments: Any, text: str) -> None:
    with pytest.raises(InvalidPackage, match=text):
        Source(*arguments)


def test_an_unreadable_file(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "folder.py"
    folder.mkdir()
    assert "cannot be read: Is a directory" in refusal(f"{folder}:handler")


def test_limits() -> None:
    data = os.urandom(100_000)
    assert "bytes; the limit is 100,000" in refusal(lambda event, context: data, unpacked_max=100_000)
    assert "bytes when compressed; the limit is 90,000" in refusal(
        lambda event, context: data, packed_max=90_000
    )
    zeros = bytes(100_000)
    assert kind(code_image(lambda event, context: zeros, packed_max=90_000)) == "pickle"


def test_threads_may_make_images_at_the_same_time() -> None:
    images = [None] * 8

    def make(index: int) -> None:
        images[index] = code_image(lambda event, context: index)  # type: ignore[call-overload]

    threads = [threading.Thread(target=make, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(images)
