import threading

import pytest

from pyfaas._clock import Clock, SystemClock
from pyfaas.testing import ClockContract, VirtualClock


class TestSystemClock(ClockContract):
    def clock(self) -> SystemClock:
        return SystemClock()

    def pass_time(self, clock: Clock, seconds: float) -> None:
        pass

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_call_that_raises_does_not_stop_the_others(self) -> None:
        clock, done = self.clock(), threading.Event()
        now = clock.monotonic_ns()
        clock.call_at(now + 1_000_000, lambda: 1 // 0)
        clock.call_at(now + 2_000_000, done.set)
        assert done.wait(5)

    def test_thread_ends_with_the_last_timer(self) -> None:
        clock = self.clock()
        timer = clock.call_at(clock.monotonic_ns() + 10**12, lambda: None)
        thread = clock._thread
        assert thread is not None
        assert thread.is_alive()
        timer.cancel()
        thread.join(5)
        assert not thread.is_alive()


class TestVirtualClock(ClockContract):
    def clock(self) -> VirtualClock:
        return VirtualClock()

    def pass_time(self, clock: VirtualClock, seconds: float) -> None:
        clock.advance(seconds)

    def test_satisfies_the_protocol(self) -> None:
        clock: Clock = self.clock()
        assert clock.monotonic_ns() == clock.monotonic_ns()

    def test_timer_may_set_the_next(self) -> None:
        clock, times = self.clock(), list[int]()
        start = clock.monotonic_ns()

        def tick() -> None:
            times.append(clock.monotonic_ns() - start)
            clock.call_at(clock.monotonic_ns() + 10**9, tick)

        clock.call_at(start + 10**9, tick)
        clock.advance(3.5)
        assert times == [10**9, 2 * 10**9, 3 * 10**9]
        assert clock.monotonic_ns() - start == 3_500_000_000

    def test_missing_waiter_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pyfaas.testing.clock._PATIENCE_S", 0.001)
        with pytest.raises(TimeoutError, match="0 of 1"):
            self.clock().wait_for_waiters()
