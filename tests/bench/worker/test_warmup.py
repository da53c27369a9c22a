"""The warm-up's rule, on a clock that is told what each pass takes."""

import pytest

from bench.worker.warmup import warm_up


class Clock:
    """Time passes only in the passes: these seconds each, the last of them for ever."""

    def __init__(self, *seconds: float) -> None:
        self.now, self._left = 0.0, list(seconds)

    def work(self) -> None:
        self.now += self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def read(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "passes", "stable"),
    [
        ((0.1,), 6, 1),  # two medians need three passes each
        ((9, 0.1, 0.1, 0.1), 6, 1),  # one slow pass does not move a median
        ((5, 3, 1, 0.5, 0.1), 9, 1),  # medians 0.1 and 0.1 only once two of the earlier three are 0.1
        ((0.100, 0.100, 0.100, 0.1029, 0.1029, 0.1029), 6, 1),
        ((0.100, 0.100, 0.100, 0.104, 0.104, 0.104), 8, 1),
        (tuple(0.5**n for n in range(30)), 20, 0),  # faster and faster
        ((6,), 4, 0),  # 20 s are over after the fourth
        ((30,), 3, 0),  # three in any case
    ],
)
def test_it_goes_on_until_the_times_have_settled(seconds, passes, stable):
    clock = Clock(*seconds)
    result = warm_up(clock.work, clock.read)
    assert (result["passes"], result["stable"]) == (passes, stable)
    assert result["seconds"] == clock.now
