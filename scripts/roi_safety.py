"""What each ROI strategy costs and loses on made-up cases, with a checkpoint's network run by one backend.

    python scripts/roi_safety.py --demo abdomen                  # 60 cases
    python scripts/roi_safety.py --cases 2 --strategies coarse

Prints a row for each strategy: cases, those that fell back, voxels of pancreas and of lesion outside the region, tiles
relative to the full volume (a tile a pass), and the change of the mean DSC of pancreas and lesion.
"""

import argparse
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout that is not installed

import engines
from bench.accuracy import dsc, outside_of
from bench.choices import DEMOS, ROIS
from bench.data.cases import find_cases
from bench.data.layouts import CaseFiles
from bench.data.volume import MaskValues, read_mask
from bench.demo import CHECKPOINTS, write_demo
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from engines.base import Session, Target
from models.load import build_model, read_checkpoint
from models.model import Model
from models.task import PANCREAS

LESION = PANCREAS.labels["lesion"]


@dataclass(frozen=True)
class Result:
    """One case by one strategy: forward passes' tiles, DSC of pancreas and lesion, and what was lost."""

    tiles: int
    whole: float
    lesion: float
    fallback: bool = False
    whole_outside: int = 0
    lesion_outside: int = 0


def measure(pipeline: Pipeline, case: CaseFiles, mask: Path) -> Result:
    """Predict a case, and hold it against its truth."""
    assert case.mask_path is not None
    outcome = pipeline.run(case.image_paths, mask)
    truth, labels = (read_mask(path, None, MaskValues.of(PANCREAS)) for path in (case.mask_path, mask))
    result = Result(outcome.tiles, dsc(labels > 0, truth > 0), dsc(labels == LESION, truth == LESION))
    if outcome.roi is None:
        return result
    rest = outside_of(truth, outcome.roi)
    lost = int((rest > 0).sum()), int((rest == LESION).sum())
    return replace(result, fallback=outcome.roi.fallback, whole_outside=lost[0], lesion_outside=lost[1])


def opened(options: argparse.Namespace, model: Model, cache: Path) -> AbstractContextManager[Session]:
    """The backend, built for the network's tile."""
    target = Target("cpu", model.tile, options.batch, options.threads, cache, channels=model.channels)
    return engines.load(options.backend).open(model, target)


def row(name: str, results: list[Result], full: list[Result]) -> str:
    """A line of the table."""
    share = sum(r.tiles for r in results) / sum(r.tiles for r in full)
    changes = (
        sum(getattr(a, of) - getattr(b, of) for a, b in zip(results, full, strict=True)) / len(full)
        for of in ("whole", "lesion")
    )
    cells = (
        name, len(results), sum(r.fallback for r in results), sum(r.whole_outside for r in results),
        sum(r.lesion_outside for r in results), f"{share:.3f}", *(f"{change:+.4f}" for change in changes),
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Draw the cases, run every strategy on each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", choices=DEMOS, default="abdomen")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--strategies", default=",".join(ROIS[1:]))
    parser.add_argument("--checkpoint", type=Path, help="another than the demo's")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--backend", default="openvino-fp32", help="one that needs no calibration")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    names = ["none", *(name for name in options.strategies.split(",") if name != "none")]
    if unknown := set(names) - set(ROIS):
        parser.error(f"unknown strategies: {', '.join(sorted(unknown))}; there are {', '.join(ROIS)}")
    torch.set_num_threads(options.threads)
    model = build_model(read_checkpoint(options.checkpoint or CHECKPOINTS[options.demo]))
    settings = InferenceSettings(
        protocol="sliding-window",
        tile=model.tile,
        overlap=options.overlap,
        batch=options.batch,
        roi="none",
        window=model.window,
        foreground_ml=model.task.foreground_ml,
        painting=model.painting,
        channels=model.channels,
        labels=model.labels,
        subtypes=model.subtypes,
    )
    results: dict[str, list[Result]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, opened(options, model, Path(folder)) as session:
        root = write_demo(Path(folder) / "demo", counts={"validation": options.cases}, kind=options.demo)
        for case in find_cases(root, "validation")[1]:
            for name in names:
                pipeline = Pipeline(session, replace(settings, roi=name))
                results[name].append(measure(pipeline, case, Path(folder) / "mask.nii.gz"))
                print(case.name, name, results[name][-1], file=sys.stderr, flush=True)
    print(
        "| strategy | cases | fell back | pancreas outside | lesion outside | tiles, of none | DSC pancreas | lesion |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in names:
        print(row(name, results[name], results["none"]))
    print(
        f"none: mean DSC {_mean(results['none'], 'whole'):.4f} pancreas, {_mean(results['none'], 'lesion'):.4f} lesion"
    )


def _mean(results: list[Result], of: str) -> float:
    return float(sum(getattr(r, of) for r in results)) / len(results)


if __name__ == "__main__":
    main()
