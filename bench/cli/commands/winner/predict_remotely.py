"""`bench predict --url`, which needs no PyTorch."""

import sys
from argparse import Namespace

from bench.cli.exit_codes import BAD_INPUT, DONE
from bench.cli.options import OF_CHECKPOINT
from bench.cli.terminal import progress
from bench.errors import InputError
from bench.predict import tables
from bench.serving.predictions import Asked, predict

# Options that say what predicts and how, by the names of their values: the server does.
_OF_THE_SERVER = ("variant", *OF_CHECKPOINT, "threads", "ray", "ray_cpus", "shard")


def execute(options: Namespace) -> int:
    for name in _OF_THE_SERVER:
        if getattr(options, name, None) is not None:
            raise InputError(f"--{name.replace('_', '-')}: the server says how cases are run; leave it out with --url")
    asked = Asked(
        url=options.url,
        model=str(options.source),
        inputs=tuple(options.inputs),
        out=options.out,
        split=options.only_split,
        report=options.report,
        in_flight=options.read_ahead,
        timeout_s=options.timeout_s,
        again=options.typed,
    )
    with progress(sys.stderr) as shown:
        result = predict(asked, shown)
    share = result.server_s / result.wall_s if result.wall_s else 0.0
    print("\n".join((*result.summary("the server worked", share), f"Predictions: {result.folder / tables.CSV}")))
    return BAD_INPUT if result.failed else DONE
