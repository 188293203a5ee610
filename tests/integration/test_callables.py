"""Callables as people write them, run by real interpreters: packages, prompts, notebooks, scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyfaas

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def python(*arguments: str, cwd: Path, text: str | None = None, path: Path | None = None) -> str:
    """Run an interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, *([path] if path else [])]))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# ---- a package of the application, run with -m --------------------------------------------------------------------

PACKAGE = {
    "shop/__init__.py": "from .prices import price\n",
    "shop/prices.py": """
from __future__ import annotations
import dataclasses, enum, functools, logging, typing
from typing import TYPE_CHECKING, Generic, NamedTuple, NewType, ParamSpec, TypeVar
from . import state
from .sub import deep
if TYPE_CHECKING:
    from .nowhere import Missing

T = TypeVar("T")
P = ParamSpec("P")
Cents = NewType("Cents", int)
log = logging.getLogger(__name__)

class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    @property
    def nice(self): return self.name.lower()

class Pair(NamedTuple):
    a: int
    b: int = 2
    def total(self): return self.a + self.b

@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    price: float = 1.0
    tags: list[str] = dataclasses.field(default_factory=list)
    def gross(self): return self.price * state.RATE

@dataclasses.dataclass(slots=True)
class Slotted:
    x: int

class Box(Generic[T]):
    def __init__(self, value: T): self.value = value

class Base:
    @classmethod
    def make(cls, event, context): return cls.__name__ + event
    @staticmethod
    def double(event, context): return event * 2
    def method(self, event, context): return "base " + event

class Child(Base):
    @functools.cached_property
    def suffix(self): return "!"
    def method(self, event, context): return super().method(event, context) + self.suffix

class Problem(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code

class Missing_:
    def __reduce__(self): return "MISSING"
MISSING = Missing_()

def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        log.warning("calling %s", function.__name__)
        return function(*args, **kwargs)
    return wrapper

@functools.lru_cache(maxsize=None)
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@functools.singledispatch
def kind(value): return "object"
@kind.register
def _(value: int): return "int"
@kind.register(list)
def _(value): return [kind(part) for part in value]

@logged
def price(event: float, context: Missing = None, *, rate: int = 3) -> Missing: return Item("x", event).gross() * rate

def odd(n, context=None): return False if n == 0 else even(n - 1)
def even(n): return True if n == 0 else odd(n - 1)

def numbers(n):
    yield from range(n)
def generates(event, context): return list(numbers(event))

async def later(n):
    for number in range(n):
        yield number
async def awaits(event, context): return [number async for number in later(event)]

COUNT = 0
def counts(event, context):
    global COUNT
    COUNT += 1
    return COUNT

def defaults(event, context, item=Item("d"), *, colour=Colour.BLUE): return [item.name, colour.nice]
def nests(event, context):
    def product(n): return 1 if n == 0 else n * product(n - 1)
    class Local:
        def go(self): return product(event)
    return Local().go()
def closure():
    total = 0
    def add(event, context):
        nonlocal total
        total += event
        return total
    return add

def changes(event, context):
    state.change_rate(event)
    return [state.RATE, state.rate(), Item("x", 1.0).gross()]
def lazily(event, context):
    from .sub import lazy
    import shop.sub.lazier as lazier
    return [lazy.VALUE, lazier.VALUE, deep.depth()]
def by_text(event, context):
    import importlib
    return importlib.import_module("shop.sub.lazy").VALUE
def is_one_module(event, context):
    from .sub.lazier import Item as other
    import shop.prices
    return [state.item_class() is Item, other is Item, shop.prices.Item is Item, shop.prices.COUNT is COUNT]
def catches(event, context):
    try:
        state.fail()
    except Problem as problem:
        return problem.code
def various(event, context):
    return [Pair(1).total(), Slotted(3).x, Box[int](4).value, Cents(5), kind([1, "a"]), state.same(MISSING)]
def raises(event, context): raise Problem(5)
""",
    "shop/state.py": """
import threading
RATE = 2
lock = threading.Lock()
def change_rate(rate):
    global RATE
    RATE = rate
def rate(): return RATE
def item_class():
    from .prices import Item  # what imports this module cannot be imported above
    return Item
def same(value):
    from shop import prices
    return value is prices.MISSING
def fail():
    from . import prices
    raise prices.Problem(7)
""",
    "shop/sub/__init__.py": "",
    "shop/sub/deep.py": "from . import other\ndef depth(): return other.value() + 2\n",
    "shop/sub/other.py": "def value(): return 40\n",
    "shop/sub/lazy.py": "import beside\nVALUE = beside.VALUE\n",
    "shop/sub/lazier.py": "from ..prices import Item\nVALUE = 'lazier'\n",
    "beside.py": "import further\nVALUE = further.VALUE\n",
    "further.py": "VALUE = 'far'\n",
    "shop/__main__.py": """
import functools, json
import pyfaas
from . import prices
from .prices import Item, Problem, even

def local(event, context): return [Item("l", event).gross(), helper(event), __name__]
def helper(n): return even(n)

CASES = {
    "local": (local, 4.0),
    "decorated": (prices.price, 3.0),
    "mutual recursion": (prices.odd, 5),
    "cached recursion": (functools.partial(lambda fibonacci, event, context: fibonacci(event), prices.fibonacci), 30),
    "generator": (prices.generates, 3),
    "async": (prices.awaits, 3),
    "defaults": (prices.defaults, None),
    "nested": (prices.nests, 4),
    "closure": (prices.closure(), 3),
    "global": (prices.counts, None),
    "state of a module": (prices.changes, 7),
    "lazy imports": (prices.lazily, None),
    "lazy import by text": (prices.by_text, None),
    "one of each module": (prices.is_one_module, None),
    "exceptions are the same class": (prices.catches, None),
    "various": (prices.various, None),
    "classmethod": (prices.Child.make, "x"),
    "staticmethod": (prices.Child.double, "x"),
    "bound method": (prices.Child().method, "x"),
    "partial": (functools.partial(prices.defaults, item=Item("p")), None),
    "cached lambda": (functools.lru_cache(lambda event, context: event), 1),
}
results = {}
with pyfaas.Runtime() as rt:
    for name, (code, event) in CASES.items():
        try:
            results[name] = rt.register("f", code).invoke(event)
        except pyfaas.PyFaasError as error:
            results[name] = f"{type(error).__name__}: {error}"
    error = rt.register("f", prices.raises).call().error
    results["raises"] = [error.error_type, error.error_message]
    results["the host's own"] = prices.COUNT
print(json.dumps(results))
""",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("application")
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    results: dict[str, object] = json.loads(python("-m", "shop", cwd=folder, path=folder))
    return results


@pytest.mark.parametrize(
    ("case", "result"),
    [
        ("local", [8.0, True, "__main__"]),
        ("decorated", 18.0),
        ("mutual recursion", True),
        ("cached recursion", 832040),
        ("generator", [0, 1, 2]),
        ("async", [0, 1, 2]),
        ("defaults", ["d", "blue"]),
        ("nested", 24),
        ("closure", 3),
        ("global", 1),
        ("state of a module", [7, 7, 7.0]),
        ("lazy imports", ["far", "lazier", 42]),
        ("lazy import by text", "far"),
        ("one of each module", [True, True, True, True]),
        ("exceptions are the same class", 7),
        ("various", [3, 3, 4, 5, ["int", "object"], True]),
        ("classmethod", "Childx"),
        ("staticmethod", "xx"),
        ("bound method", "base x!"),
        ("partial", ["p", "blue"]),
        ("cached lambda", 1),
        ("raises", ["Problem", "code 5"]),
        ("the host's own", 0),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_package_with_everything_that_it_uses(case: str, result: object, shop: dict[str, object]) -> None:
    assert shop[case] == result


# ---- prompts, notebooks, scripts ----------------------------------------------------------------------------------

CELLS = (
    "import dataclasses, enum, pyfaas",
    "class Colour(enum.Enum):\n    RED = 1",
    "@dataclasses.dataclass\nclass Item:\n    n: int\n    def gross(self): return self.n * RATE",
    "RATE = 3",
    "def helper(n): return Item(n).gross()",
    "def handler(event, context): return [helper(event), Colour.RED.name]",
    "rt = pyfaas.Runtime()",
    "f = rt.register('f', handler)",
    "print('first:', f.invoke(2))",
    "RATE = 10",
    "print('as registered:', f.invoke(2))",
    "def handler(event, context): return ['changed', helper(event)]",
    "f = rt.register('f', handler)",
    "print('again:', f.invoke(2))",
    "print('lambda:', rt.register('l', lambda event, context: event + RATE).invoke(1))",
    "def nexts(event, context): return [isinstance(event, Item), Item(event.n + 1), Colour.RED]",
    "t = rt.register('t', nexts, trusted=True)",
    "out = t.invoke(Item(4))",
    "print('trusted:', t.invoke(Item(4)), out[1] == Item(5), out[2] is Colour.RED)",
    "rt.close()",
)
PRINTED = """\
first: [6, 'RED']
as registered: [6, 'RED']
again: ['changed', 20]
lambda: 11
trusted: [True, Item(n=5), <Colour.RED: 1>] True True
"""


def printed(output: str) -> str:
    lines = [line.replace(">>> ", "").replace("... ", "") for line in output.splitlines()]
    titles = tuple(line.partition(":")[0] + ":" for line in PRINTED.splitlines())
    return "".join(f"{line}\n" for line in lines if line.startswith(titles))


SCRIPT = "\n\n".join(CELLS) + "\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-i", "-q"), "".join(f"{cell}\n\n" for cell in CELLS)),
        (("-",), SCRIPT),
        (("-c", SCRIPT), None),
        (("-c", f"exec({SCRIPT!r}, {{'__name__': 'plugin'}})"), None),
        (("-c", f"exec({SCRIPT!r}, {{}})"), None),
        (("script.py",), None),
        (("-m", "script"), None),
        (("-m", "folder"), None),
    ],
    ids=["prompt", "stdin", "-c", "exec", "exec without a name", "script", "-m module", "-m package"],
)
def test_prompts_and_scripts(arguments: tuple[str, ...], text: str | None, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/__main__.py").write_text(SCRIPT)
    assert printed(python(*arguments, cwd=tmp_path, text=text)) == PRINTED


def test_a_notebook(tmp_path: Path) -> None:
    for name in ("nbconvert", "ipykernel"):
        pytest.importorskip(name, reason=f"this machine: {name} is not installed")
    common: dict[str, object] = {"cell_type": "code", "execution_count": None, "metadata": {}}
    cells = [common | {"outputs": [], "source": cell} for cell in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    (tmp_path / "it.ipynb").write_text(json.dumps(notebook))
    python(
        "-m",
        "jupyter",
        "nbconvert",
        "--to",
        "notebook",
        "--execute",
        "--output",
        "done",
        "it.ipynb",
        cwd=tmp_path,
    )
    done = json.loads((tmp_path / "done.ipynb").read_text())
    texts = [output.get("text", "") for cell in done["cells"] for output in cell["outputs"]]
    assert printed("".join("".join(text) for text in texts)) == PRINTED


# ---- trusted functions: the application's classes in events and results -------------------------------------------


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def move(event: Point, context: object) -> Point:
    assert isinstance(event, Point)
    return Point(event.x + 1)


def test_classes_of_the_application_in_events_and_results(rt: pyfaas.Runtime) -> None:
    function = rt.register("move", move, trusted=True)
    for _ in range(3):  # the class comes along each time, and stays the same
        assert function.invoke(Point(1)) == Point(2)


def test_classes_that_the_function_does_not_know(rt: pyfaas.Runtime) -> None:
    class Local:
        value = 3

    echo = rt.register("echo", lambda event, context: [event, type(event), event.value], trusted=True)
    returned, cls, value = echo.invoke(Local())
    assert type(returned) is cls is Local
    assert value == 3


def test_functions_in_events(rt: pyfaas.Runtime) -> None:
    apply = rt.register("apply", lambda event, context: event["call"](event["x"]), trusted=True)
    assert apply.invoke({"call": lambda x: Point(x).x + 1, "x": 1}) == 2


def test_a_class_that_the_worker_can_import_is_the_one_it_imports(
    rt: pyfaas.Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pf_models.py").write_text(
        "class Model:\n    pass\ndef handler(event, context): return [type(event) is Model, Model()]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import pf_models  # type: ignore[import-not-found]

    try:
        function = rt.register("f", "pf_models:handler", trusted=True)
        same, model = function.invoke(pf_models.Model())
        assert same
        assert type(model) is pf_models.Model
    finally:
        del sys.modules["pf_models"]


def test_what_cannot_travel_in_an_event_is_named(rt: pyfaas.Runtime) -> None:
    import threading

    lock = threading.Lock()

    class Holds:
        held = lock

    echo = rt.register("echo", lambda event, context: None, trusted=True)
    with pytest.raises(pyfaas.InvalidEvent, match="attribute 'held' is a lock, which cannot travel"):
        echo.invoke(Holds())


def test_functions_that_are_not_trusted_get_and_give_none_of_this(rt: pyfaas.Runtime) -> None:
    function = rt.register("move", move)
    with pytest.raises(pyfaas.InvalidEvent, match="Point is not supported"):
        function.invoke(Point(1))
    with pytest.raises(pyfaas.InvalidResult, match="Point is not supported"):
        rt.register("make", lambda event, context: Point(1)).invoke()
