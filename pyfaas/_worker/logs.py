"""stdout, stderr and the logging module, as Lambda has them: whole lines, at once, with the request's id."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from time import gmtime
from typing import TYPE_CHECKING, Any

from pyfaas._ipc.ids import request_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

LINE = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
DATE = "%Y-%m-%dT%H:%M:%S"


class _Current:
    """What the process is working on. One invocation at a time: threads that it left behind log under the next."""

    request_id: bytes = b""


current = _Current()


class LogStream(io.TextIOWrapper):
    """Text to the log pipe: a line at a time, so that a process that is killed has written all lines before."""

    dirty = False

    def write(self, text: str, /) -> int:
        """Write; what follows the last newline waits for `flush`."""
        self.dirty = True
        return super().write(text)


def install() -> None:
    """Put line-wise streams on descriptors 1 and 2 and prepare the logging module: once, before user code runs."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        # No buffer in between: what goes to `sys.stdout.buffer` needs no flush.
        raw = io.FileIO(descriptor, "wb", closefd=False)
        stream = LogStream(
            raw, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    hook_logging()


def flush() -> None:
    """Write out what waits in stdout and stderr, whatever user code put there."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and getattr(stream, "dirty", True):
            # It may be closed, or anything else with a `flush`: a reply must not fail for it.
            with suppress(Exception):
                stream.flush()
                if type(stream) is LogStream:
                    stream.dirty = False


def hook_logging() -> None:
    """Give the root logger Lambda's format, now or when user code imports logging."""
    if "logging" in sys.modules:
        configure()
    else:
        sys.meta_path.insert(0, _LoggingImport())


def configure() -> None:
    """Add a handler with Lambda's format to the root logger, whose level stays at WARNING."""
    import logging

    class LambdaHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                sys.stdout.write(f"{self.format(record)}\n")
            except Exception:  # noqa: BLE001  # as every handler of the logging module does
                self.handleError(record)

        def filter(self, record: logging.LogRecord) -> Any:
            # For other formatters too: `%(aws_request_id)s` is known to those who write for Lambda.
            record.aws_request_id = request_text(current.request_id) if current.request_id else ""
            return super().filter(record)

    handler = LambdaHandler()
    formatter = logging.Formatter(LINE, DATE)
    formatter.converter = gmtime
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)


class _LoggingImport:
    """Configures the logging module when, and if, it is imported: it costs milliseconds."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        if name != "logging":
            return None
        from importlib.machinery import PathFinder

        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_configure(module: ModuleType) -> None:
                execute(module)
                configure()

            spec.loader.exec_module = execute_and_configure  # type: ignore[method-assign]
        return spec
