"""Typed events: what the annotation of a handler's event asks for is made and checked before the handler is called.

Decided once, in init: a handler without such an annotation is called as ever. Classes of pydantic are made by pydantic
(`validate_python`), with fields by alias and by name; all others by `msgspec.convert`, strictly: no number is made of
text, but what JSON has only as text is (datetime, date, UUID, Decimal, bytes in base64, keys that are numbers).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from pyfaas._ipc import annotated
from pyfaas._ipc.rewrite import path_text, text_of, type_name
from pyfaas._worker.importer import InitFailure

if TYPE_CHECKING:
    from collections.abc import Callable

PROBLEMS: Final = 20
LINE: Final = 500


class UnsupportedEventType(InitFailure):
    """No event can be made into what the handler's annotation asks for."""


UnsupportedEventType.__name__ = f"Runtime.{UnsupportedEventType.__name__}"


class InvalidEvent(Exception):
    """The event is not what the handler's annotation asks for; one line for each problem."""


class _Nested(ValueError):
    """Problems of a model of pydantic that is inside of what msgspec makes."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


def checked(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return what to call in the handler's place: itself, if nothing is known of its event.

    Raises:
        UnsupportedEventType: The annotation asks for what its library cannot make.
    """
    event = annotated.event_of(handler)
    if event.maker is None:
        if event.unresolved:
            _note(event.unresolved)
        return handler
    try:
        convert = (_by_pydantic if event.maker == annotated.PYDANTIC else _by_msgspec)(event.type)
    except NameError as error:  # a field's type that only type checkers see; pydantic's own error is one too
        _note(f"the type of the event, {_named(event.type)}: {text_of(error).splitlines()[0]}")
        return handler
    except Exception as error:
        raise UnsupportedEventType(f"the type of the event, {_named(event.type)}: {error}") from error

    def with_typed_event(event: Any, context: Any) -> Any:
        return handler(convert(event), context)

    return with_typed_event


def _note(reason: str) -> None:
    print(f"[WARNING] pyfaas: {reason}; events are not checked")


def _named(wanted: Any) -> str:
    return str(wanted.__qualname__ if isinstance(wanted, type) else wanted)[:200]


def _by_pydantic(wanted: Any) -> Callable[[Any], Any]:
    check = _validator(wanted)
    failure: type[Exception] = sys.modules["pydantic"].ValidationError

    def convert(event: Any) -> Any:
        try:
            return check(event)
        except failure as error:
            raise InvalidEvent(_text(_problems(error))) from None

    return convert


def _validator(wanted: Any) -> Callable[[Any], Any]:
    """What pydantic makes of an annotation. It was imported by whoever made the model."""
    pydantic = sys.modules["pydantic"]
    adapter = pydantic.TypeAdapter(wanted)
    if getattr(adapter, "pydantic_complete", True) is False:
        adapter.rebuild(raise_errors=True)
    check: Callable[..., Any] = adapter.validator.validate_python
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 11):
        return check
    # A host that has the model sends what `model_dump` returns: names.
    return lambda event: check(event, by_name=True)


def _problems(error: Any) -> list[tuple[str, str]]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(path_text(list(one["loc"])), one["msg"]) for one in found]


def _by_msgspec(wanted: Any) -> Callable[[Any], Any]:
    msgspec.msgpack.Decoder(wanted)  # says now what it cannot make
    hook = _hook()

    def convert(event: Any) -> Any:
        try:
            return msgspec.convert(event, wanted, str_keys=True, dec_hook=hook)
        except msgspec.ValidationError as error:
            raise InvalidEvent(_text(_located(error))) from None

    return convert


def _hook() -> Callable[[Any, Any], Any]:
    """What msgspec asks about classes that it does not know."""
    checks: dict[Any, Callable[[Any], Any]] = {}

    def hook(wanted: Any, value: Any) -> Any:
        if annotated.maker_of(wanted) != annotated.PYDANTIC:
            return value if isinstance(value, wanted) else _refuse(wanted, value)
        check = checks.get(wanted) or checks.setdefault(wanted, _validator(wanted))
        try:
            return check(value)
        except sys.modules["pydantic"].ValidationError as error:
            raise _Nested(_problems(error)) from None

    return hook


def _refuse(wanted: type, value: object) -> NoReturn:
    raise ValueError(f"Expected `{_named(wanted)}`, got `{type_name(value)}`")


def _located(error: msgspec.ValidationError) -> list[tuple[str, str]]:
    text = str(error)
    reason, _, path = text.rpartition(" - at `")
    if not path.startswith("$") or not path.endswith("`"):
        reason, path = text, "$`"
    problems = error.__cause__.problems if isinstance(error.__cause__, _Nested) else [("$", reason)]
    return [(path[:-1] + inner[1:], reason) for inner, reason in problems]


def _text(problems: list[tuple[str, str]]) -> str:
    lines = [" ".join(f"{path}: {reason}".splitlines()) for path, reason in problems[:PROBLEMS]]
    lines = [line if len(line) <= LINE else f"{line[: LINE - 1]}…" for line in lines]
    if len(problems) > PROBLEMS:
        lines.append(f"… and {len(problems) - PROBLEMS:,} more problems")
    return "\n".join(lines)
