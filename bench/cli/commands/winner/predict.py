"""`bench predict`."""

import sys
from argparse import Namespace

from bench.cli.exit_codes import BAD_INPUT, DONE
from bench.cli.options import OF_CHECKPOINT
from bench.cli.terminal import progress
from bench.errors import InputError
from bench.plan.request import Request
from bench.predict import tables
from bench.predict.machines import RayCluster, ThisMachine
from bench.predict.predictions import Asked, Predictions, predict
from bench.predict.runner import Machines, NodeRow
from bench.predict.source import Source
from reports.formatting import count, seconds


def execute(options: Namespace) -> int:
    with progress(sys.stderr) as shown:
        result = predict(_asked(options), shown)
    print(text(result))
    return BAD_INPUT if result.failed else DONE


def text(result: Predictions) -> str:
    """For the terminal."""
    lines = result.summary("the forward ran", result.forward_s / result.worker_s if result.worker_s else 0.0)
    lines += [_of_node(row) for row in result.nodes]
    return "\n".join((*lines, f"Predictions: {result.folder / tables.CSV}"))


def _of_node(row: NodeRow) -> str:
    what = "GPU" if row.device == "cuda" else count(row.cores, "core")
    lost = "" if row.lost is None else f"; lost: {row.lost}"
    return f"node {row.node}, {what}: {count(row.cases, 'case')} in {seconds(row.seconds)}{lost}"


def _asked(options: Namespace) -> Asked:
    options.checkpoint = [options.source]
    chosen = tuple(f"--{name}" for name in OF_CHECKPOINT if getattr(options, name) is not None)
    for name in OF_CHECKPOINT:
        if getattr(options, name) is None:
            setattr(options, name, getattr(Request, name, None))
    return Asked(
        source=Source(options.source, options.variant, options.backend, Request.of(options), chosen),
        inputs=tuple(options.inputs),
        out=options.out,
        split=options.only_split,
        report=options.report,
        read_ahead=options.read_ahead,
        timeout_s=options.timeout_s,
        again=options.typed,
        machines=_machines(options),
        shard=options.shard,
    )


def _machines(options: Namespace) -> Machines:
    if options.ray is not None:
        return RayCluster(options.ray, options.ray_cpus)
    if options.ray_cpus is not None:
        raise InputError("--ray-cpus: is the cores of an actor in a cluster; name one with --ray, or give --threads")
    return ThisMachine()
