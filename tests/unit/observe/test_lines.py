import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas._observe import lines
from pyfaas.model import Report

REPORT = Report(duration_ms=2.9, billed_ms=3, memory_mb=128, max_memory_mb=36, cpu_ms=1.0)
COLD = Report(
    duration_ms=2.9, billed_ms=3, memory_mb=128, max_memory_mb=36, cpu_ms=1.0, cold=True, init_ms=101.237
)


def test_lines_are_those_of_aws() -> None:
    assert lines.start_line("<id>") == "START RequestId: <id> Version: $LATEST\n"
    assert lines.start_line("<id>", "7") == "START RequestId: <id> Version: 7\n"
    assert lines.end_line("<id>") == "END RequestId: <id>\n"
    common = (
        "REPORT RequestId: <id>\tDuration: 2.90 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 36 MB\t"
    )
    assert lines.report_line("<id>", REPORT) == f"{common}\n"
    assert lines.report_line("<id>", COLD) == f"{common}Init Duration: 101.24 ms\t\n"


def test_texts_are_those_of_aws() -> None:
    assert lines.timeout_text("<id>", 1) == "RequestId: <id> Error: Task timed out after 1.00 seconds"
    assert lines.exit_text("<id>", 0) == "RequestId: <id> Error: Runtime exited without providing a reason"
    assert lines.exit_text("<id>", 127) == "RequestId: <id> Error: Runtime exited with error: exit status 127"
    assert (
        lines.timeout_line("<id>", 3, 0)
        == "1970-01-01T00:00:00.000Z <id> Task timed out after 3.00 seconds\n"
    )


@pytest.mark.parametrize(
    ("duration", "granularity", "billed"),
    [
        (0, 1, 1),
        (0.01, 1, 1),
        (1, 1, 1),
        (1.01, 1, 2),
        (2.9, 1, 3),
        (3.0000000001, 1, 3),
        (99.5, 100, 100),
        (100, 100, 100),
        (100.2, 100, 200),
        (251, 250, 500),
    ],
)
def test_billed_is_rounded_up(duration: float, granularity: int, billed: int) -> None:
    assert lines.billed_ms(duration, granularity) == billed


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("", 10, ""),
        ("short\n", 10, "short\n"),
        ("one\ntwo\n", 4, "two\n"),
        ("one\ntwo\n", 7, "two\n"),
        ("one\ntwo\n", 8, "one\ntwo\n"),
        ("a long line\n", 5, "line\n"),
        ("ää", 3, "ä"),
    ],
)
def test_tail(text: str, limit: int, expected: str) -> None:
    assert lines.tail(text, limit) == expected


@given(text=st.text(alphabet="ab\nä€😀"), limit=st.integers(1, 40))
def test_tail_fits_and_is_an_end(text: str, limit: int) -> None:
    end = lines.tail(text, limit)
    assert text.endswith(end)
    assert len(end.encode()) <= limit
    if len(text.encode()) <= limit:
        assert end == text
