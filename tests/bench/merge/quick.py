"""A shard runner for tests: each backend is launched once, and the peak of the device is not measured."""

from dataclasses import replace
from functools import partial

from bench import run
from bench.merge.shard_runner import ShardRunner
from bench.schedule.limits import DEFAULT

FACTORY = f"{__name__}:Quick"


class Quick(ShardRunner):
    def __init__(self) -> None:
        run.run = partial(run.run, limits=replace(DEFAULT, launches=1, peak=False))  # type: ignore[assignment]
