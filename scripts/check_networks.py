"""Networks of every kind by every CPU backend, against nnU-Net's predictor and MONAI's evaluator: a table.

    python scripts/check_networks.py [--networks Heart,Liver] [--backends torch-compile] [--processes 2]

The networks, images and references are those of the tests (`tests/nnunet.py`, `tests/bundles.py`): trained by nnU-Net's
own trainer or written as MONAI's model zoo does, small, of random weights. Of each backend two figures are shown: the
least DSC of any label between its mask and the reference's, over all images, and the largest difference of its logits
of a tile of the first image to those of the network itself in FP32. INT8 is calibrated on these images. Logits of
weights that mean nothing lie near ties everywhere, so the DSC of BF16 and INT8 says how far these are from FP32, and
nothing of a trained network.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `tests`

import engines
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preparation import preparation_of
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import triple
from engines.base import Calibration, Target
from engines.probe import check
from models.model import Model
from models.suppress import suppress_output

BUNDLE = "bundle "  # before the name of a bundle


@dataclass(frozen=True)
class Reference:
    """A network, the images it is tried on, and the masks that its own tools give of them."""

    model: Model
    images: list[list[Path]]
    masks: list[NDArray[Any]]


def of_nnunet(name: str, folder: Path) -> Reference:
    from tests.bench.pipeline.test_nnunet import load_both
    from tests.bench.pipeline.test_nnunet_networks import KINDS, write_channels
    from tests.nnunet import train

    dataset, plans, configuration = KINDS[name]
    model, predictor = load_both(train(folder, plans, dataset, configuration=configuration))
    images = write_channels(folder, model.channels)
    predictor.predict_from_files_sequential([list(map(str, images))], [str(folder / "theirs")])
    return Reference(model, [images], [labels_in(folder / "theirs.nii.gz")])


def of_bundle(name: str, folder: Path) -> Reference:
    from tests.bundles import BUNDLES, CASES, Evaluator, write, write_case
    from tests.loading import load

    root = write(folder / "root", *BUNDLES[name]())
    model = load(root)[0]
    images = [write_case(folder / str(number), case, model.channels) for number, case in enumerate(CASES)]
    masks = [np.rint(Evaluator(root, paths, folder / f"theirs{number}").mask()) for number, paths in enumerate(images)]
    return Reference(model, images, masks)


def names() -> list[str]:
    from tests.bench.pipeline.test_nnunet_networks import KINDS
    from tests.bundles import BUNDLES

    return [*KINDS, *(BUNDLE + name for name in BUNDLES if not name.startswith("the zoo's"))]


def settings_of(model: Model) -> InferenceSettings:
    return InferenceSettings.of(model, protocol="sliding-window", batch=1, roi="none")


def figures(name: str, backends: list[str]) -> tuple[str, dict[str, str]]:
    """What each backend gives of a network; runs in a process of its own."""
    torch.set_num_threads(1)
    by_name: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch, suppress_output():
        folder = Path(scratch)
        if name.startswith(BUNDLE):
            reference = of_bundle(name.removeprefix(BUNDLE), folder)
        else:
            reference = of_nnunet(name, folder)
        for backend in backends:
            try:
                by_name[backend] = by_backend(reference, backend, folder)
            except Exception as error:  # as in a run, where whatever a runtime raises costs a row
                by_name[backend] = f"failed: {' '.join(str(error).split())[:90]}"
    return name, by_name


def by_backend(reference: Reference, backend: str, folder: Path) -> str:
    model = reference.model
    tiles = tiles_of(reference)
    tile = tiles[:1]
    calibration = Calibration(lambda: tiles, "the images' own tiles")
    target = Target("cpu", model.tile, 1, 1, folder / "cache", calibration, channels=model.channels)
    available = engines.load(backend).probe(target)
    if not available.ok:
        return f"not available: {available.reason}"
    dsc = 1.0
    with torch.inference_mode():
        expected_logits = model.module(tile)[0]  # now: an engine may take the network itself to another precision
    with engines.load(backend).open(model, target) as session, torch.inference_mode():
        difference = float((session.infer(tile)[0] - expected_logits).abs().max())
        pipeline = Pipeline(session, settings_of(model))
        for images, expected in zip(reference.images, reference.masks, strict=True):
            pipeline.run(images, folder / "ours.nii.gz")
            dsc = min(dsc, *least_dsc(labels_in(folder / "ours.nii.gz"), expected.squeeze()))
    return f"{int(dsc * 1e5) / 1e5:.5f}, {difference:.0e}"


def tiles_of(reference: Reference) -> Tensor:
    """All tiles of the images as the network sees them, ``[N, C, D, H, W]``."""
    preprocessor, tiling = preparation_of(settings_of(reference.model), torch.device("cpu"))
    tiles = []
    for images in reference.images:
        prepared, _ = preprocessor.prepare(preprocessor.read(images))
        grid = tiling.grid(triple(prepared.shape[1:]))
        padded = grid.pad(prepared)
        tiles += [padded[(slice(None), *box)] for box in grid.boxes]
    return torch.stack(tiles)


def labels_in(path: Path) -> NDArray[Any]:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)


def least_dsc(ours: NDArray[Any], theirs: NDArray[Any]) -> Iterator[float]:
    """The DSC of each label that either mask holds."""
    for label in np.union1d(np.unique(ours), np.unique(theirs)):
        own, other = ours == label, theirs == label
        yield float(2 * (own & other).sum() / (own.sum() + other.sum()))


def on_cpu() -> list[str]:
    target = Target("cpu", (16, 16, 16), 1, 1, Path())
    rows = {name: row for name, row in engines.BACKENDS.items() if "cpu" in row.devices}
    return [name for name, row in rows.items() if row.precision == "int8" or check(target, row).ok]


def table(results: Mapping[str, Mapping[str, str]], backends: list[str]) -> Iterator[str]:
    yield "| network | " + " | ".join(f"`{name}`" for name in backends) + " |"
    yield "|---" * (1 + len(backends)) + "|"
    for name, row in results.items():
        yield f"| {name} | " + " | ".join(row[backend] for backend in backends) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(names()))
    parser.add_argument("--backends", default=",".join(on_cpu()))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    backends = options.backends.split(",")
    results: dict[str, dict[str, str]] = {}
    with ProcessPoolExecutor(options.processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        for started in [pool.submit(figures, name, backends) for name in list_of(options.networks)]:
            name, results[name] = started.result()
            print(name, results[name], file=sys.stderr, flush=True)
    print("\n".join(table(results, backends)))


def list_of(listed: str) -> list[str]:
    """Names, of which some hold a comma and a blank behind it."""
    known = names()
    return [name for name in known if name in listed]


if __name__ == "__main__":
    main()
