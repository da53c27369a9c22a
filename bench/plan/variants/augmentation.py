"""Test-time augmentation: which axes of a tile are mirrored, as users write it and as the network allows it."""

import re
from typing import TYPE_CHECKING

from engines.base import Availability
from engines.probe import unavailable

if TYPE_CHECKING:
    from models.model import Model

OFF, MIRROR = "none", "mirror"
FORMS = "none, mirror, or mirror with axes, as in mirror:x,y"
_AXES = "xyz"  # of the network's input, in its order
_FORM = re.compile(r"none|mirror(:[xyz](,[xyz])*)?")


def read_tta(text: str) -> str | None:
    """`text` with its axes in order; None where it is no test-time augmentation."""
    kind, colon, named = text.partition(":")
    axes = sorted(named.split(","))
    if not _FORM.fullmatch(text) or len(set(axes)) < len(axes):
        return None
    return f"{kind}{colon}{','.join(axes)}" if colon else kind


def mirror_axes(tta: str) -> tuple[int, ...]:
    """The axes that it names, by number."""
    return tuple(_AXES.index(axis) for axis in tta.partition(":")[2].split(",") if axis)


def resolved_tta(tta: str, model: "Model") -> str:
    """With the axes that ``mirror`` stands for: those that nnU-Net allows, of any other network all three.

    Left as it is where the network is not mirrored so.
    """
    if tta != MIRROR or tta_absent(tta, model) is not None:
        return tta
    axes = range(3) if model.mirror_axes is None else sorted(model.mirror_axes)
    return f"{MIRROR}:{','.join(_AXES[axis] for axis in axes)}"


def tta_absent(tta: str, model: "Model") -> Availability | None:
    """Why tiles of this network are not mirrored so; None where they are."""
    allowed = model.mirror_axes
    if tta == OFF:
        return None
    if allowed is None:
        if tta != MIRROR or model.plans is None:
            return None
        return unavailable(
            "the checkpoint does not say which axes nnU-Net mirrors (inference_allowed_mirroring_axes)",
            "name them, as in mirror:x,y,z",
        )
    if not allowed:
        return unavailable("the checkpoint allows none (its inference_allowed_mirroring_axes is empty)", "use none")
    if set(mirror_axes(tta)) <= set(allowed):
        return None
    names = ", ".join(_AXES[axis] for axis in sorted(allowed))
    return unavailable(f"the checkpoint allows {names} only (inference_allowed_mirroring_axes)", "use mirror")
