"""`bench inspect`, and the options that say how a network is read."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from bench.cli.exit_codes import DONE
from bench.plan.request import model_options
from models.errors import CheckpointError
from models.inspection import describe, inspect
from models.options import ModelOptions


def execute(options: Namespace) -> int:
    paths, network = options.files, model_options(options)
    if options.folds is not None:
        from bench.plan.networks import network_paths

        paths = network_paths(paths, options.folds)
    infos = [inspect(path, network) for path in paths]
    reason = _why_no_ensemble(paths, network) if len(paths) > 1 else None
    if options.format == "json":
        several = {"networks": infos, "ensemble": reason is None, "ensemble_reason": reason}
        print(json.dumps(several if len(paths) > 1 else infos[0], indent=2))
        return DONE
    print("\n\n".join(map(describe, infos)))
    if len(paths) > 1:
        print(f"\nensemble: {f'none: {reason}' if reason else f'{len(paths)} networks, whose logits are averaged'}")
    return DONE


def _why_no_ensemble(paths: Sequence[Path], options: ModelOptions) -> str | None:
    """What keeps the networks from being averaged; None where nothing does."""
    from bench.plan.networks import read_networks  # the preparation of a run, which a single file needs not

    try:
        read_networks(tuple(paths), options)
    except CheckpointError as error:
        return str(error)
    return None
