"""Whatever a network returns, as the pair of logits that engines and pipeline expect."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.task import Task

OutputPath = tuple[Any, ...]  # keys and indices that lead from what a network returns to a tensor in it

# Where several tensors have the shape of a segmentation, or of a classification, the first of these names decides.
_SEGMENTATION = ("segmentation", "seg", "seg_logits", "mask", "masks", "out", "logits", "pred")
_CLASSIFICATION = ("classification", "cls", "cls_logits", "class_logits", "classes", "subtype", "label", "logits")


class OutputError(ValueError):
    """A network takes or returns what the pipeline cannot use. The message is one line.

    Attributes:
        remedy: what to do about it; empty where that depends on where the network comes from.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy


class Pair(nn.Module):
    """A network whose forward returns segmentation and classification logits.

    Its forward names nothing outside itself: TorchDynamo would import the module of such a name, and may find the
    user's in its place (`models.user_code.isolation`).
    """

    def __init__(
        self, network: nn.Module, segmentation: OutputPath, classification: OutputPath | None, convert: bool = False,
        autograd: bool = False,
    ) -> None:  # fmt: skip
        """With `convert` the logits are made float32, of a network that returns another type.

        With `autograd` inference mode is left for it, since it computes gradients.
        """
        super().__init__()
        self.network = network
        self.segmentation = segmentation
        self.classification = classification
        self.convert = convert
        self.autograd = autograd

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, D, H, W]`` to ``[B, classes, D, H, W]`` and ``[B, subtypes]``.

        Of a network without a classification the second is ``[B, 1]``, one of its logits: taken from the data rather
        than constant or empty, since not every runtime accepts such outputs.
        """
        returned = self._with_autograd(x) if self.autograd else self.network(x)
        segmentation = self._at(returned, self.segmentation)
        if self.classification is None:
            return segmentation, segmentation[:, :1, 0, 0, 0]
        return segmentation, self._at(returned, self.classification)

    def _with_autograd(self, x: Tensor) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return self.network(x.clone())

    def _at(self, returned: Any, path: OutputPath) -> Tensor:
        for key in path:
            returned = returned[key] if hasattr(returned, "__getitem__") else getattr(returned, key)
        logits: Tensor = returned
        return logits.float() if self.convert else logits


def find_outputs(
    returned: object, tile: tuple[int, int, int], task: Task | None = None
) -> tuple[OutputPath, OutputPath | None]:
    """Find the logits in what a network returned for one tile: by shape, and by name where shapes leave a choice.

    The segmentation is ``[1, classes, *tile]``, so that of the outputs of deep supervision the finest is taken; the
    classification is ``[1, subtypes]`` of at least 2, and may be absent.

    Of several candidates those of as many classes as the task says come first, without a task the segmentations of 2 or
    3 classes: others may be features.

    Raises:
        OutputError: there is no segmentation, or it is not clear which it is.
    """
    leaves = [(path, tensor) for path, tensor in _tensors_in(returned) if tensor.is_floating_point()]
    full = {path: tensor.shape[1] for path, tensor in leaves if tensor.ndim == 5 and tuple(tensor.shape[2:]) == tile}
    expected = (2, 3) if task is None else (len(task.output_labels),)
    segmentations = [path for path, channels in full.items() if channels in expected] or list(full)
    flat = {path: tensor.shape[1] for path, tensor in leaves if tensor.ndim == 2 and tensor.shape[1] > 1}
    named = [path for path, classes in flat.items() if task is not None and classes == len(task.classes)]
    classifications = named or list(flat)
    if not segmentations:
        shapes = ", ".join(str(list(tensor.shape)) for _, tensor in leaves[:6]) or type(returned).__name__
        raise OutputError(f"its forward returns no float [1, classes, {', '.join(map(str, tile))}] tensor but {shapes}")
    segmentation = _choose(segmentations, _SEGMENTATION, "segmentation")
    return segmentation, _choose(classifications, _CLASSIFICATION, "classification") if classifications else None


def tensor_at(returned: Any, path: OutputPath) -> Tensor:
    """The tensor to which `path` leads."""
    for key in path:
        returned = getattr(returned, key) if is_dataclass(returned) else returned[key]
    assert isinstance(returned, Tensor)
    return returned


def _tensors_in(returned: object, path: OutputPath = ()) -> Iterator[tuple[OutputPath, Tensor]]:
    if isinstance(returned, Tensor):
        yield path, returned
    elif isinstance(returned, Mapping):
        for key, value in returned.items():
            yield from _tensors_in(value, (*path, key))
    elif is_dataclass(returned) and not isinstance(returned, type):
        for field in fields(returned):
            yield from _tensors_in(getattr(returned, field.name), (*path, field.name))
    elif isinstance(returned, Sequence) and not isinstance(returned, str | bytes):
        for index, value in enumerate(returned):
            yield from _tensors_in(value, (*path, index))


def _choose(paths: list[OutputPath], names: Sequence[str], what: str) -> OutputPath:
    if len(paths) == 1:
        return paths[0]
    for name in names:
        named = [path for path in paths if name in (str(key).lower() for key in path)]
        if len(named) == 1:
            return named[0]
    candidates = ", ".join(".".join(map(str, path)) for path in paths)
    raise OutputError(
        f"its forward returns several tensors that could be the {what} ({candidates}); name one '{names[0]}'"
    )
