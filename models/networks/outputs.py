"""Whatever a network returns, as the pair of logits that engines and pipeline expect."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Way = tuple[Any, ...]  # keys and indices that lead from what a network returns to a tensor in it

# Where several tensors have the shape of a segmentation, or of a classification, the first of these names decides.
_SEGMENTATION = ("segmentation", "seg", "seg_logits", "mask", "masks", "out", "logits", "pred")
_CLASSIFICATION = ("classification", "cls", "cls_logits", "class_logits", "classes", "subtype", "label", "logits")


class OutputError(ValueError):
    """What a network returns is not what the pipeline can use. The message is one line."""


class Pair(nn.Module):
    """A network whose forward returns segmentation and classification logits.

    Its forward names nothing outside itself: TorchDynamo would import the module of such a name, and may find the
    user's in its place (`models.user_code.isolation`).
    """

    def __init__(self, network: nn.Module, segmentation: Way, classification: Way | None) -> None:
        super().__init__()
        self.network = network
        self.segmentation = segmentation
        self.classification = classification

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, 1, D, H, W]`` to ``[B, classes, D, H, W]`` and ``[B, subtypes]``.

        Of a network without a classification the second is ``[B, 1]``, one of its logits: taken from the data rather
        than constant or empty, since not every runtime accepts such outputs.
        """
        found = self.network(x)
        segmentation = found
        for key in self.segmentation:
            segmentation = segmentation[key]
        if self.classification is None:
            return segmentation, segmentation[:, :1, 0, 0, 0]
        classification = found
        for key in self.classification:
            classification = classification[key]
        return segmentation, classification


def find_outputs(found: object, tile: tuple[int, int, int]) -> tuple[Way, Way | None]:
    """Find the logits in what a network returned for one tile: by shape, and by name where shapes leave a choice.

    The segmentation is ``[1, classes, *tile]``, so that of the outputs of deep supervision the finest is taken; the
    classification is ``[1, subtypes]`` of at least 2, and may be absent.

    Of several candidates for a segmentation those of 2 or 3 classes come first: others may be features.

    Raises:
        OutputError: there is no segmentation, or no telling which it is.
    """
    leaves = [(way, tensor) for way, tensor in _leaves(found) if tensor.is_floating_point()]
    full = {way: tensor.shape[1] for way, tensor in leaves if tensor.ndim == 5 and tuple(tensor.shape[2:]) == tile}
    segmentations = [way for way, channels in full.items() if channels in (2, 3)] or list(full)
    classifications = [way for way, tensor in leaves if tensor.ndim == 2 and tensor.shape[1] > 1]
    if not segmentations:
        shapes = ", ".join(str(list(tensor.shape)) for _, tensor in leaves[:6]) or type(found).__name__
        raise OutputError(f"its forward returns no float [1, classes, {', '.join(map(str, tile))}] tensor but {shapes}")
    segmentation = _chosen(segmentations, _SEGMENTATION, "segmentation")
    return segmentation, _chosen(classifications, _CLASSIFICATION, "classification") if classifications else None


def tensor_at(found: Any, way: Way) -> Tensor:
    """Follow `way`."""
    for key in way:
        found = found[key]
    assert isinstance(found, Tensor)
    return found


def _leaves(found: object, way: Way = ()) -> Iterator[tuple[Way, Tensor]]:
    if isinstance(found, Tensor):
        yield way, found
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _leaves(value, (*way, key))
    elif isinstance(found, Sequence) and not isinstance(found, str | bytes):
        for index, value in enumerate(found):
            yield from _leaves(value, (*way, index))


def _chosen(ways: list[Way], names: Sequence[str], what: str) -> Way:
    if len(ways) == 1:
        return ways[0]
    for name in names:
        named = [way for way in ways if name in (str(key).lower() for key in way)]
        if len(named) == 1:
            return named[0]
    told = ", ".join(".".join(map(str, way)) for way in ways)
    raise OutputError(f"its forward returns several tensors that could be the {what} ({told}); name one '{names[0]}'")
