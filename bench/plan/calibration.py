"""Tiles of training cases, from which INT8 engines take their ranges."""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.data.cases import find_cases, refuse_other_channels, sha256_of
from bench.data.layouts import CaseFiles
from bench.data.remarks import listed
from bench.data.volume import MaskValues, read_space, refuse_elsewhere
from bench.errors import InputError
from bench.pipeline.preparation import preparation_of
from bench.pipeline.roi import choose_region
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import triple
from bench.plan.variants.variants import row_of
from engines.base import Calibration
from reports.records.record import Settings

Calibrations = Mapping[tuple[int, int, int], Calibration | None]
"""By the size of tiles; None, or none of a size, where there are no training cases for it."""

CASES = 16  # spread evenly over the training split; two tiles of each


def calibrate(
    settings: Settings, root: Path, evaluated: list[CaseFiles], inference: InferenceSettings, values: MaskValues
) -> tuple[Calibrations, list[str]]:
    """Of each size of tile that an INT8 variant has, and the names of the cases that they are from.

    Raises:
        InputError: one of these is among the `evaluated` cases.
    """
    sizes = {own.tile or settings.tile for own in settings.variants.values() if row_of(own.backend).precision == "int8"}
    calibrations, cases = dict[tuple[int, int, int], Calibration | None](), list[str]()
    for tile in sorted(sizes):
        of_tile = replace(inference, tile=tile)
        calibrations[tile], cases = from_training_cases(root, evaluated, of_tile, values)
    return calibrations, cases


def calibration_sha256(tiles: Calibrations) -> str:
    """Of the calibration of every size of tile; empty without any."""
    hashes = [own.sha256 for _, own in sorted(tiles.items()) if own is not None]
    if len(hashes) < 2:
        return "".join(hashes)
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def from_training_cases(
    root: Path, evaluated: list[CaseFiles], settings: InferenceSettings, values: MaskValues
) -> tuple[Calibration | None, list[str]]:
    """Choose calibration cases in the split ``train``, and name them; None where all that there are is evaluated.

    Cases of that split that are evaluated themselves are left out.

    Raises:
        InputError: an evaluated image is also another file of the training split, under whatever name; a case has other
            channels, or its mask lies elsewhere.
    """
    try:
        _, training = find_cases(root, "train", names=None)
    except InputError:
        return None, []
    itself = {case.image_paths for case in evaluated}
    training = [case for case in training if case.image_paths not in itself]
    if not training:
        return None, []
    at = np.unique(np.linspace(0, len(training) - 1, min(CASES, len(training))).round().astype(int))
    chosen = [training[i] for i in at]
    _refuse_leak(training, evaluated)
    # The tiles are those of the cases as they lie, also for a run that mirrors them, and the same for every network.
    digest = hashlib.sha256(repr(replace(settings, mirror_axes=(), networks=1)).encode())
    for case in chosen:
        refuse_other_channels(case, settings.channels)
        if case.mask_path is not None:
            refuse_elsewhere(case.mask_path, read_space(case.image_path))
        files = [*case.image_paths, *([case.mask_path] if case.mask_path else [])]
        digest.update("".join(map(sha256_of, files)).encode() + (b"" if case.mask_path else b"-"))
    tiles = functools.partial(_tiles, tuple(chosen), settings, values)
    return Calibration(tiles, digest.hexdigest()), [case.name for case in chosen]


def remark_on_names(root: Path, evaluated: list[CaseFiles]) -> Iterator[str]:
    """A line about cases that have the name of a training case; `from_training_cases` has let them pass."""
    names = {case.name for case in find_cases(root, "train", names=None)[1]}
    same = [case.name for case in evaluated if case.name in names]
    if same:
        yield (
            f"{len(same)} of {len(evaluated)} cases have the name of a training case and another image "
            f"({listed(same)}): they count as other patients"
        )


def _refuse_leak(training: list[CaseFiles], evaluated: list[CaseFiles]) -> None:
    """By content alone: data sets number the cases of each split from 1, so equal names are not equal patients."""
    sizes = {_size(case) for case in evaluated}  # files of other sizes need not be read
    content = {sha256_of(case.image_path): case for case in training if _size(case) in sizes}
    for case in evaluated if content else ():
        twin = content.get(sha256_of(case.image_path))
        if twin is not None:
            raise InputError(
                f"{case.image_path}: also a training case ({twin.image_path}); "
                "calibration must not see evaluated cases: remove one"
            )


def _size(case: CaseFiles) -> int:
    """Bytes of the file of its first channel; 0 where it is missing, which is refused where it is read."""
    return case.image_path.stat().st_size if case.image_path.is_file() else 0


def _tiles(cases: tuple[CaseFiles, ...], settings: InferenceSettings, values: MaskValues) -> Tensor:
    """Two tiles of each case, ``[N, C, D, H, W]``: the one with most foreground and one anywhere."""
    rng = np.random.default_rng(0)
    preprocessor, tiling = preparation_of(settings, torch.device("cpu"))
    chosen = []
    for case in cases:
        volume = preprocessor.read(case.image_paths)
        box = choose_region(volume, settings).box
        labels = None
        if case.mask_path is not None:
            labels = preprocessor.read_mask(case.mask_path, volume, values)[box]
        prepared, mask = preprocessor.prepare(volume.cropped(box), labels)
        grid = tiling.grid(triple(prepared.shape[1:]))
        boxes = [grid.boxes[int(rng.integers(len(grid.boxes)))]]
        if mask is not None:
            foreground = grid.pad(mask)
            boxes.append(max(grid.boxes, key=lambda tile: int((foreground[tile] > 0).sum())))
        padded = grid.pad(prepared)
        chosen += [padded[(slice(None), *tile)].clone() for tile in boxes]
    return torch.stack(chosen)
