"""Source text as a function's code."""

from __future__ import annotations

from dataclasses import dataclass

from pyfaas.errors import InvalidPackage


@dataclass(frozen=True, slots=True)
class Source:
    """A function as source text. The host only carries it: it is compiled in the worker, confined.

    Args:
        text: One module's source.
        handler: Name of the function in it, or `module.name` with the module that `filename` names.
        filename: What tracebacks call it, below `/var/task`.

    Raises:
        InvalidPackage: A parameter is wrong. What is wrong with the text itself is an `InitError` later.

    >>> Source("def handler(event, context): return event").filename
    'lambda_function.py'
    """

    text: str
    handler: str = "handler"
    filename: str = "lambda_function.py"

    def __post_init__(self) -> None:
        for name in ("text", "handler", "filename"):
            value: object = getattr(self, name)
            if not isinstance(value, str):
                raise InvalidPackage(f"Source: {name} is a {type(value).__name__}, not a str")
        stem = self.filename.removesuffix(".py")
        if stem == self.filename or not stem.isidentifier():
            raise InvalidPackage(
                f"Source: filename {self.filename!r} has to be an identifier and .py, as 'lambda_function.py'"
            )
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise InvalidPackage(f"Source: the text cannot be written as UTF-8: {error}") from error
