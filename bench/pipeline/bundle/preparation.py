"""A case's way to the network of a MONAI bundle and back, by MONAI's own transforms, and its sliding window.

What resamples between straight grids is replaced by the same in less time (`bench.pipeline.bundle.resampling`).

Images are read here and not by the bundle's LoadImaged: into the same array and affine, from any format and any number
of files.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.volume import MaskValues, Volume, read_image, read_mask
from bench.errors import InputError
from bench.pipeline import tiles
from bench.pipeline.bundle.resampling import axis_by_axis
from bench.pipeline.bundle.transforms import IMAGE, LABEL, PREDICTION, built, labels_of, monai_module
from bench.pipeline.merge import Merger, Receiver
from bench.pipeline.region import Geometry
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Grid, Shape
from models.errors import one_line
from models.model import Transforms

_MOST_VOXELS = 2**31  # after resampling: larger than any CT, and perhaps too large for this machine


class BundlePreprocessor:
    """Prepares cases, and makes merged logits masks on their images' grids, as a bundle's transforms say.

    Its volumes are always whole.
    """

    def __init__(self, bundle: Transforms, settings: InferenceSettings) -> None:
        self._bundle = bundle
        self._settings = settings
        self._before = built(bundle.preprocessing, (IMAGE,))
        self._after = built(bundle.postprocessing, (PREDICTION,), self._before)
        self._used = Lock()  # a transform that is being undone does not note what it does to the next case

    def read(self, image_paths: Sequence[Path]) -> Volume:
        return read_image(image_paths)

    def read_mask(self, mask_path: Path, volume: Volume, values: MaskValues) -> NDArray[np.uint8]:
        return read_mask(mask_path, volume.space, values)

    def prepare(self, volume: Volume, labels: NDArray[Any] | None = None) -> tuple[Tensor, Tensor | None]:
        """Run the transforms before the network; those of geometry on the labels too, by nearest neighbours."""
        self._refuse_huge(volume)
        case, transforms = {IMAGE: _placed(np.asarray(volume.intensities), volume)}, self._before
        if labels is not None:
            case[LABEL] = _placed(labels[None].astype(np.float32), volume)
            transforms = built(self._bundle.preprocessing, (IMAGE, LABEL))
        try:
            with self._used, axis_by_axis():
                case = transforms(case)
        except Exception as error:  # whatever a library raises of a volume that it cannot prepare
            reason = one_line(error.__cause__ or error)
            problem = f"the transforms of the network's bundle cannot prepare it ({reason})"
            raise InputError(f"{volume.nifti.get_filename()}: {problem}; check the image") from None
        image: Any = case[IMAGE]
        if min(image.shape) == 0:
            raise InputError(f"{volume.nifti.get_filename()}: its bundle's transforms leave nothing; check the image")
        volume.properties[IMAGE] = monai_module("data").MetaTensor(torch.empty(0)).copy_meta_from(image)
        prepared: Tensor = image.as_tensor().to(torch.float32)
        return prepared, None if labels is None else case[LABEL].as_tensor()[0].to(torch.uint8)

    def forecast(self, shape: Shape, spacing_mm: Sequence[float]) -> None:  # noqa: ARG002
        return None

    def receiver(self, geometry: Geometry, grid: Grid) -> Receiver | None:  # noqa: ARG002
        return None

    @torch.inference_mode()
    def restore(self, geometry: Geometry, merger: Merger) -> NDArray[np.uint8]:
        """Run the transforms after the network on the merged logits."""
        case = {IMAGE: geometry.properties[IMAGE], PREDICTION: monai_module("data").MetaTensor(merger.finalize())}
        with self._used, axis_by_axis():
            prediction: Tensor = self._after(case)[PREDICTION].as_tensor()
        labels = labels_of(prediction, self._settings)
        return np.asfortranarray(labels.cpu().numpy())  # as it will be written

    def _refuse_huge(self, volume: Volume) -> None:
        for name, arguments in self._bundle.preprocessing:
            if name != "Spacingd":
                continue
            wanted = np.broadcast_to(np.asarray(arguments["pixdim"], float), 3)
            # Of axes in whatever order: MONAI takes them after it has turned them. Only the volume counts.
            after = np.prod([mm for mm in wanted if mm > 0] or [1.0])
            before = np.prod([own for own, mm in zip(volume.spacing_mm, wanted, strict=True) if mm > 0] or [1.0])
            voxels = np.prod(volume.intensities.shape[1:]) * before / after
            if voxels > _MOST_VOXELS:
                raise InputError(
                    f"{volume.nifti.get_filename()}: {voxels:.1e} voxels at the bundle's spacing of "
                    f"{' x '.join(f'{mm:g}' for mm in wanted)} mm; check the spacing in its header"
                )


class BundleTiling:
    """The tiles of MONAI's sliding window, and its weights, as a bundle's inferer says."""

    def __init__(self, bundle: Transforms, settings: InferenceSettings, device: torch.device) -> None:
        self._bundle = bundle
        self._settings = settings
        self._weights: Tensor = monai_module("data.utils").compute_importance_map(
            settings.tile, mode=bundle.mode, sigma_scale=bundle.sigma_scale, device=device
        )
        self.precision = self._weights.dtype

    def grid(self, shape: Shape) -> Grid:
        grid = tiles.sliding_window(shape, self._settings.tile, self._settings.overlap)
        return replace(grid, padding=self._bundle.padding_mode, value=self._bundle.cval)

    def merger(self, grid: Grid, receiver: Receiver | None = None) -> Merger:
        return _BundleMerger(grid, self._weights, self._settings, receiver)


class _BundleMerger(Merger):
    """Rounds as MONAI does, so that classes near a tie come out alike."""

    def _add_tile(self, total: Tensor, logits: Tensor, weights: Tensor) -> None:
        total += logits * weights


def _placed(channels: NDArray[Any], volume: Volume) -> Any:
    """Images ``[C, X, Y, Z]`` as MONAI's LoadImaged and EnsureChannelFirstd give them."""
    affine = torch.from_numpy(np.asarray(volume.nifti.affine, np.float64))
    return monai_module("data").MetaTensor(torch.from_numpy(channels), affine=affine, meta={"space": "RAS"})
