"""Options that several commands have."""

import argparse
from pathlib import Path

from bench.choices import ACCURACIES, MAX_OVERLAP, PREPROCESSINGS, READ_AHEAD, ROIS
from bench.cli.options.values import augmentation, device, fold_numbers, number, shard, tile, whole, window
from bench.plan.request import Request
from bench.worker.allocator import ALLOCATORS


def allocator(how: argparse._ActionsContainer) -> None:
    how.add_argument(
        "--allocator", choices=ALLOCATORS,
        help="what backends do with memory they free: keep it (default, with glibc), or as the system has it",
    )  # fmt: skip


def checkpoint(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--checkpoint", nargs="+", type=Path, metavar="FILE",
        help="trained network (default: the bundled demo); several of one architecture are an ensemble",
    )  # fmt: skip
    folds(group)


def folds(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--folds", type=fold_numbers, metavar="all|0,1", help="an ensemble of these folds of nnU-Net's results folder"
    )


def tta(how: "argparse._ActionsContainer") -> None:
    how.add_argument(
        "--tta", type=augmentation, default=Request.tta, metavar="none|mirror[:x,y]",
        help="test-time augmentation: average over mirrored tiles; mirror: along axes that nnU-Net allows, else all",
    )  # fmt: skip


def network(group: "argparse._ActionsContainer") -> None:
    group.add_argument("--arch", metavar="FILE.py:FACTORY", help="your own network: runs that function of your file")
    group.add_argument("--tile", type=tile, metavar="X,Y,Z", help="sides of a tile in voxels (the training patch)")
    group.add_argument("--window", type=window, metavar="LOW,HIGH", help="HU that are mapped to 0 and 1 (-1000,1000)")
    group.add_argument(
        "--task",
        type=Path,
        metavar="FILE.toml",
        help="channels, labels and structures, where the network's file has none",
    )
    group.add_argument("--trust", type=Path, metavar="FILE", help="run the code in this checkpoint, if it holds any")


def one_backend(group: "argparse._ActionsContainer") -> None:
    """How a single backend runs its cases, of commands that compare nothing."""
    group.add_argument("--backend", metavar="NAME", help="one of those of `bench run`, or NAME@4 (the baseline)")
    group.add_argument("--device", type=device, default=Request.device, metavar="auto|cpu|cuda[:N]")
    group.add_argument(
        "--overlap",
        type=number(0, MAX_OVERLAP),
        default=Request.overlap,
        metavar="F",
        help="of neighbouring tiles (the bundle's own, else 0.5)",
    )
    group.add_argument("--roi", choices=ROIS, default=Request.roi, help="as of `bench run` (none)")
    group.add_argument(
        "--preprocessing", choices=PREPROCESSINGS, default=Request.preprocessing, help="as of `bench run` (auto)"
    )
    tta(group)
    allocator(group)


def one_worker(group: "argparse._ActionsContainer", what_is_read_ahead: str) -> None:
    """How its process works, which changes no mask but by the threads of a library."""
    group.add_argument("--threads", type=whole(1), metavar="N", help="CPU threads (one a core)")
    group.add_argument("--read-ahead", type=whole(1), default=READ_AHEAD, metavar="N", help=what_is_read_ahead)
    timeout(group)


def timeout(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--timeout", dest="timeout_s", type=number(0), default=Request.timeout_s, metavar="S",
        help="for a build or case (1800)",
    )  # fmt: skip


def one_shard(group: "argparse._ActionsContainer", then: str) -> None:
    group.add_argument("--shard", type=shard, metavar="I/N", help=f"shard I of N of the cases, {then}")


def which_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run directory (default: runs/latest)")


def claim(group: "argparse._ActionsContainer", *, defaults: bool) -> None:
    if defaults:
        group.add_argument(
            "--accuracy", choices=("auto", *ACCURACIES), default=Request.accuracy,
            help="what predictions are scored against: the truth, or the baseline's own output, whose agreement is "
            "judged then (auto: the truth where the cases have masks)",
        )  # fmt: skip
    else:
        group.add_argument("--accuracy", choices=ACCURACIES, help="refuse a run that was judged by the other one")
    for name, field, most, text in (
        ("--min-reduction", "min_reduction_pct", 99.0, "per cent of the case time that must be saved"),
        ("--max-dsc-drop", "max_dsc_drop", 1.0, "largest tolerated loss of mean DSC"),
        ("--max-nsd-drop", "max_nsd_drop", 1.0, "largest tolerated loss of mean NSD"),
        ("--max-f1-drop", "max_f1_drop", 1.0, "largest tolerated loss of macro-F1"),
        ("--min-agreement-dsc", "min_agreement_dsc", 1.0, "by agreement: least mean DSC to the baseline's mask"),
        ("--min-agreement-nsd", "min_agreement_nsd", 1.0, "by agreement: least mean NSD to the baseline's mask"),
        ("--min-worst-dsc", "min_worst_dsc", 1.0, "by agreement: least DSC of a single case"),
        ("--max-class-changes", "max_class_changes", 1.0, "by agreement: largest share of cases of another class"),
    ):
        default = getattr(Request, field) if defaults else None
        shown = "the run's" if default is None else f"{default:g}"
        group.add_argument(
            name, dest=field, type=number(0, most), default=default, metavar="X", help=f"{text} ({shown})"
        )
