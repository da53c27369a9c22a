"""How nnU-Net's plans have images and logits resampled, as matrices along the axes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from bench.pipeline.resampling import AxisMap, Clip, interpolated, resample, sampled, spline, unchanged

What = Literal["data", "probabilities"]
_SPLINES, _TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"


class Resampling:
    """One of nnU-Net's functions with the options that plans give it; what differs from it is the rounding of sums."""

    def __init__(self, configuration: Mapping[str, Any], what: What) -> None:
        """Of a configuration of plans: how it resamples images, or logits."""
        self._function = configuration[f"resampling_fn_{what}"]
        self._options = dict(configuration[f"resampling_fn_{what}_kwargs"])

    @property
    def rounds(self) -> bool:
        """Whether resampled values are rounded to the dtype of the old ones; otherwise they are float32."""
        return bool(self._function != _TORCH)

    @property
    def means(self) -> bool:
        """Whether new voxels are means of neighbours in any case."""
        return self._function != _SPLINES or max(self._order, self._order_between) <= 1

    def images(self, volume: Tensor, shape: Sequence[int], old_mm: Sequence[float], new_mm: Sequence[float]) -> Tensor:
        """Resample ``[C, D, H, W]`` to `shape`; `old_mm` and `new_mm` are its spacings."""
        maps, apart = self.maps(volume.shape[1:], shape, old_mm, new_mm)
        if self._function != _SPLINES or max(self._order, self._order_between) < 2:
            clip: Clip = "none"  # means do not overshoot
        else:
            clip = "channel" if apart is None else "slice"
        first = apart or 0  # slices are clipped one by one along the axis that they lie apart on
        order = [first, *(axis for axis in range(3) if axis != first)]
        turned = volume.permute(0, *(axis + 1 for axis in order))
        resampled = resample(turned, [maps[axis] for axis in order], clip)
        return resampled.permute(0, *(order.index(axis) + 1 for axis in range(3))).contiguous()

    def maps(
        self, old: Sequence[int], new: Sequence[int], old_mm: Sequence[float], new_mm: Sequence[float]
    ) -> tuple[tuple[AxisMap, ...], int | None]:
        """A matrix for each axis, and the axis along which slices are resampled apart from their plane, if any does."""
        if self._function not in (_SPLINES, _TORCH) or tuple(old) == tuple(new):
            return tuple(unchanged(length) for length in old), None
        apart = self._apart(old_mm, new_mm)
        return tuple(self._map(*sides, apart, axis) for axis, sides in enumerate(zip(old, new, strict=True))), apart

    def _map(self, old: int, new: int, apart: int | None, axis: int) -> AxisMap:
        if self._function == _SPLINES:
            return sampled(old, new, self._order_between) if axis == apart else spline(old, new, self._order)
        if apart is None:
            return interpolated(old, new, "linear")  # nnU-Net does not hand its `mode` on
        between = self._options.get("aniso_axis_mode", "nearest-exact")
        return interpolated(old, new, between if axis == apart else self._options.get("mode", "linear"))

    def _apart(self, old_mm: Sequence[float], new_mm: Sequence[float]) -> int | None:
        from nnunetv2.configuration import ANISO_THRESHOLD
        from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis

        threshold = self._options.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD)
        default = False if self._function == _SPLINES else None
        forced = self._options.get("force_separate_z", default)
        apart, axis = determine_do_sep_z_and_axis(forced, list(old_mm), list(new_mm), threshold)
        return int(axis) if apart and axis is not None else None

    @property
    def _order(self) -> int:
        return int(self._options.get("order", 3))

    @property
    def _order_between(self) -> int:
        """Of the spline between slices, where they are resampled apart."""
        return int(self._options.get("order_z", 0))
