from pyfaas._observe.statistics import Counters, snapshot
from pyfaas.model import FunctionStatistics


def test_counters_count() -> None:
    counters = Counters()
    counters.ended(error=False, cold=True)
    counters.ended(error=True, cold=True)
    counters.ended(error=True)
    counters.throttled()
    assert repr(counters) == "<Counters invocations=3 errors=2 throttles=1 cold_starts=2>"
    assert counters.snapshot(starting=1, idle=2, busy=3, queued=4) == FunctionStatistics(
        starting=1, idle=2, busy=3, queued=4, invocations=3, errors=2, throttles=1, cold_starts=2
    )


def test_snapshot_stays_as_it_was() -> None:
    counters = Counters()
    before = snapshot({"b": counters.snapshot(), "a": counters.snapshot()})
    counters.ended(error=False)
    assert before.functions["a"].invocations == 0
    assert list(before.functions) == ["a", "b"]
