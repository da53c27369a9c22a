"""`bench run` within this process, as short as it can be."""

import contextlib
import io
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import nibabel as nib

from bench import run as bench_run
from bench.cli.main import main
from bench.schedule.limits import DEFAULT
from tests.bench.forked import forked_workers


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and all that it printed."""

    code: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        return self.out + self.err


def bench(*arguments: str) -> Ended:
    """Call `bench` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    for handler in nib.imageglobals.logger.handlers:
        handler.setStream(err)  # what nibabel logs goes to stderr
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as error:  # argparse's
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def small_runs(fork: bool = True) -> Iterator[None]:
    """Within it runs are as short as they can be, and workers forks where `fork` says so."""
    limits = replace(DEFAULT, launches=1, peak=False, confirmation=False)
    with (
        patch.object(bench_run, "run", partial(bench_run.run, limits=limits)),
        forked_workers() if fork else contextlib.nullcontext(),
    ):
        yield


def runs_folder(folder: Path) -> None:
    """Work in `folder`, caches included."""
    os.chdir(folder)
    os.environ["VOXBENCH_CACHE"] = str(folder / "cache")
