"""The imports inside functions: what runs only when they are called, in the worker."""

from __future__ import annotations

import dis
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_BY_TEXT = {"import_module", "__import__"}


def inside(function: FunctionType) -> Iterator[str]:
    """Yield the full names that a function, or one that is defined in it, imports: of modules, and what it takes
    from them, which may be modules too.
    """  # noqa: D205
    package = function.__globals__.get("__package__") or ""
    for code in _nested(function.__code__):
        if not _BY_TEXT.isdisjoint(code.co_names):
            yield from (text for text in code.co_consts if _is_name(text))
        if _IMPORT_NAME not in code.co_code[::2]:
            continue  # to look at each instruction takes a hundred times longer
        constants: list[object] = [None, None]  # an import's level and names are loaded just before it
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME":
                level = constants[-2] if isinstance(constants[-2], int) else 0
                taken = constants[-1] if isinstance(constants[-1], tuple) else ()
                for name in _resolved(instruction.argval, level, package):
                    yield name
                    yield from (f"{name}.{part}" for part in taken)
            elif (
                instruction.opname.startswith("LOAD_") and "CONST" in instruction.opname
            ) or "SMALL_INT" in instruction.opname:
                constants = [constants[-1], instruction.argval]


def globals_of(code: CodeType) -> dict[str, None]:
    """Return the names of the globals that a code object, or one that is defined in it, uses; in order."""
    names: dict[str, None] = {}
    for inner in _nested(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opname in {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"}:
                names[instruction.argval] = None
    return names


def _is_name(constant: object) -> bool:
    return isinstance(constant, str) and all(part.isidentifier() for part in constant.split("."))


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _resolved(name: str, level: int, package: str) -> Iterator[str]:
    if level == 0:
        yield name
        return
    parts = package.split(".")
    if package and level <= len(parts):
        base = ".".join(parts[: len(parts) - level + 1])
        yield f"{base}.{name}" if name else base
