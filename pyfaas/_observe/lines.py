"""The lines that Lambda writes around an invocation, and its fixed texts, letter for letter.

Source: recorded from AWS Lambda (python3.x runtimes).
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfaas.model import Report

#: What the tail of a log may hold, in bytes: Lambda's `X-Amz-Log-Result`.
TAIL_BYTES = 4096


def start_line(request_id: str, version: str = "$LATEST") -> str:
    r"""Return the line before an invocation, with its end of line.

    >>> start_line("7d0c")
    'START RequestId: 7d0c Version: $LATEST\n'
    """
    return f"START RequestId: {request_id} Version: {version}\n"


def end_line(request_id: str) -> str:
    r"""Return the line after an invocation.

    >>> end_line("7d0c")
    'END RequestId: 7d0c\n'
    """
    return f"END RequestId: {request_id}\n"


def report_line(request_id: str, report: Report) -> str:
    r"""Return the line of numbers; each is followed by a tab, the last too.

    >>> from pyfaas.model import Report
    >>> report = Report(duration_ms=2.9, billed_ms=3, memory_mb=128, max_memory_mb=36, cpu_ms=1)
    >>> report_line("7d0c", report).split("\t")[:3]
    ['REPORT RequestId: 7d0c', 'Duration: 2.90 ms', 'Billed Duration: 3 ms']
    """
    parts = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mb} MB",
        f"Max Memory Used: {report.max_memory_mb} MB",
    ]
    if report.init_ms is not None:
        parts.append(f"Init Duration: {report.init_ms:.2f} ms")
    return "\t".join([*parts, "\n"])


def timeout_text(request_id: str, timeout_s: float) -> str:
    """Return the error message of an invocation that took too long.

    >>> timeout_text("7d0c", 3)
    'RequestId: 7d0c Error: Task timed out after 3.00 seconds'
    """
    return f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"


def timeout_line(request_id: str, timeout_s: float, wall_ns: int) -> str:
    r"""Return the log line of an invocation that took too long.

    >>> timeout_line("7d0c", 3, 1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123Z 7d0c Task timed out after 3.00 seconds\n'
    """
    return f"{timestamp(wall_ns)} {request_id} Task timed out after {timeout_s:.2f} seconds\n"


def exit_text(request_id: str, exit_code: int | None = None) -> str:
    """Return the error message of a process that ended by itself; status 0 is no reason.

    >>> exit_text("7d0c")
    'RequestId: 7d0c Error: Runtime exited without providing a reason'
    >>> exit_text("7d0c", 127)
    'RequestId: 7d0c Error: Runtime exited with error: exit status 127'
    """
    if not exit_code:
        return f"RequestId: {request_id} Error: Runtime exited without providing a reason"
    return f"RequestId: {request_id} Error: Runtime exited with error: exit status {exit_code}"


def signal_text(request_id: str, name: str) -> str:
    """Return the error message of a process that a signal ended.

    >>> signal_text("7d0c", "segmentation fault")
    'RequestId: 7d0c Error: Runtime exited with error: signal: segmentation fault'
    """
    return f"RequestId: {request_id} Error: Runtime exited with error: signal: {name}"


def timestamp(wall_ns: int) -> str:
    """Return a time since 1970 as ISO 8601 in UTC, cut to ms.

    >>> timestamp(1_700_000_000_999_999_999)
    '2023-11-14T22:13:20.999Z'
    """
    from datetime import UTC, datetime

    seconds, ns = divmod(wall_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns // 10**6:03d}Z"


def billed_ms(duration_ms: float, granularity_ms: int = 1) -> int:
    """Round a duration up to whole units of billing, at least one: 1 ms; 100 and 250 ms in older days.

    >>> billed_ms(2.1), billed_ms(0), billed_ms(2.1, 100), billed_ms(100, 100)
    (3, 1, 100, 100)
    """
    # 1e-6 ms is the clock's resolution: a duration of 3.0000000001 ms is 3 ms plus the error of a division.
    units = duration_ms / granularity_ms
    whole = floor(units) if units - floor(units) < 1e-6 else ceil(units)
    return max(1, whole) * granularity_ms


def tail(text: str, limit: int = TAIL_BYTES) -> str:
    r"""Return the last whole lines that fit into so many bytes of UTF-8; of a longer last line, its end.

    >>> tail("one\ntwo\nthree\n", 10)
    'two\nthree\n'
    >>> tail("only one line", 8)
    'one line'
    """
    if len(text) * 4 <= limit:
        return text
    # A character takes one byte or more, so `limit` characters are enough to look at.
    data = text[-limit - 1 :].encode("utf-8", "surrogatepass")
    if len(data) <= limit:
        return text
    cut = data[len(data) - limit :]
    if data[len(data) - limit - 1 : len(data) - limit] != b"\n":
        start = cut.find(b"\n") + 1
        cut = cut[start:] if start < len(cut) else cut
    while cut and cut[0] & 0xC0 == 0x80:
        cut = cut[1:]
    return cut.decode("utf-8", "surrogatepass")


__all__ = [
    "TAIL_BYTES",
    "billed_ms",
    "end_line",
    "exit_text",
    "report_line",
    "signal_text",
    "start_line",
    "tail",
    "timeout_line",
    "timeout_text",
    "timestamp",
]
