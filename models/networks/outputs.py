"""Whatever a network returns, as the pair of logits that engines and pipeline expect."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import some
from models.task import Task

OutputPath = tuple[Any, ...]  # keys and indices that lead from what a network returns to a tensor in it
HALVES = (-0.5, 0.5)  # of one logit, the logits of two classes: their softmax is its sigmoid

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

    halves: Tensor

    def __init__(
        self, network: nn.Module, segmentation: OutputPath, classification: OutputPath | None, convert: bool = False,
        autograd: bool = False, binary: bool = False,
    ) -> None:  # fmt: skip
        """With `convert` the logits are made float32, of a network that returns another type.

        With `autograd` inference mode is left for it, since it computes gradients. With `binary` its classification is
        one logit, of the second of two classes.
        """
        super().__init__()
        self.network = network
        self.segmentation = segmentation
        self.classification = classification
        self.convert = convert
        self.autograd = autograd
        self.binary = binary
        if binary:
            self.register_buffer("halves", torch.tensor(HALVES), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, D, H, W]`` to ``[B, classes, D, H, W]`` and ``[B, subtypes]``.

        Of a network without a classification the second is ``[B, 1]``, one of its logits: taken from the data rather
        than constant or empty, since not every runtime accepts such outputs.
        """
        returned = self._with_autograd(x) if self.autograd else self.network(x)
        segmentation = self._at(returned, self.segmentation)
        if self.classification is None:
            return segmentation, segmentation[:, :1, 0, 0, 0]
        classification = self._at(returned, self.classification)
        return segmentation, classification * self.halves if self.binary else classification

    def _with_autograd(self, x: Tensor) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return self.network(x.clone())

    def _at(self, returned: Any, path: OutputPath) -> Tensor:
        for key in path:
            returned = returned[key] if hasattr(returned, "__getitem__") else getattr(returned, key)
        logits: Tensor = returned
        return logits.float() if self.convert else logits


@dataclass(frozen=True)
class Outputs:
    """Where a network's logits are in what it returns.

    Attributes:
        segmentation, classification: paths; no classification where there is none, or none is used.
        binary: the classification is one logit, of the second of two classes.
        remarks: what is to be said of outputs that could be a classification.
    """

    segmentation: OutputPath
    classification: OutputPath | None
    binary: bool = False
    remarks: tuple[str, ...] = ()

    def logits(self, returned: object) -> list[Tensor]:
        """The segmentation's, and the classification's if there is one, as `Pair` gives them."""
        segmentation = tensor_at(returned, self.segmentation)
        if self.classification is None:
            return [segmentation]
        votes = tensor_at(returned, self.classification)
        return [segmentation, votes * torch.tensor(HALVES, dtype=votes.dtype) if self.binary else votes]


def find_outputs(
    returned: object, tile: tuple[int, int, int], task: Task | None = None, subtypes: int | None = None
) -> Outputs:
    """Find the logits in what a network returned for one tile: by shape, and by name where shapes leave a choice.

    The segmentation is ``[1, classes, *tile]``, so that of the outputs of deep supervision the finest is taken; the
    classification is ``[1, subtypes]``, and may be absent.

    Of several candidates those of as many classes as the task says come first, without a task the segmentations of 2 or
    3 classes: others may be features. So may a ``[1, k]`` be: with a task it has as many as the task has classes
    (`subtypes`, where the caller knows them), or is called a classification; without a task any of at least 2 will do.
    Two classes may have one logit, ``[1, 1]``.

    Raises:
        OutputError: there is no segmentation, or it is not clear which it is.
    """
    leaves = list(_tensors_in(returned))
    floats = [(path, tensor) for path, tensor in leaves if tensor.is_floating_point()]
    full = {path: tensor.shape[1] for path, tensor in floats if tensor.ndim == 5 and tuple(tensor.shape[2:]) == tile}
    expected = (2, 3) if task is None else (len(task.output_labels),)
    segmentations = [path for path, channels in full.items() if channels in expected] or list(full)
    if not segmentations:
        raise _no_segmentation(returned, tile, [tensor for _, tensor in leaves])
    segmentation = _choose(segmentations, _SEGMENTATION, "segmentation")
    flat = {path: tensor.shape[1] for path, tensor in floats if tensor.ndim == 2}
    classifications, binary = _classifications(flat, task, subtypes)
    chosen = _choose(classifications, _CLASSIFICATION, "classification") if classifications else None
    remarks = () if task is None else _remarks(flat, chosen, binary, task)
    return Outputs(segmentation, chosen, binary, remarks)


def _classifications(
    flat: Mapping[OutputPath, int], task: Task | None, subtypes: int | None
) -> tuple[list[OutputPath], bool]:
    """Which of the outputs ``[1, k]`` may be the classification, and whether that is one logit."""
    several = [path for path, count in flat.items() if count > 1]
    wanted = subtypes if task is None or subtypes is not None else len(task.classes)
    fitting = [path for path in several if flat[path] == wanted]
    if fitting or task is None:
        return fitting or several, False
    named = [path for path in several if any(_is_named(path, name) for name in _CLASSIFICATION)]
    single = [path for path, count in flat.items() if count == 1]
    if not named and wanted == 2 and len(single) == 1:
        return single, True
    return named, False


def _remarks(flat: Mapping[OutputPath, int], chosen: OutputPath | None, binary: bool, task: Task) -> tuple[str, ...]:
    """What is said of one logit for two classes, and of outputs that are no classification."""
    remarks = []
    if binary and chosen is not None:
        name = _written(chosen)
        remarks += [
            f"its output {name} [1, 1] is taken for the logit of {task.classes[-1]}: leave out a sigmoid at its end"
        ]
    others = [f"{_written(path)} [1, {count}]" for path, count in flat.items() if path != chosen]
    if others and chosen is None:
        names = some(list(task.classes), 8)
        why = f"a class needs a logit for each of {names}" if task.classes else "the task names no classes"
        plural = len(others) > 1
        remarks += [f"its output{'s' * plural} {some(others)} {'are' if plural else 'is'} left out: {why}"]
    return tuple(remarks)


def _no_segmentation(returned: object, tile: tuple[int, int, int], tensors: Sequence[Tensor]) -> OutputError:
    kinds = [f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors]
    shapes = ", ".join(kinds[:6]) or type(returned).__name__
    problem = f"its forward returns no float [1, classes, {', '.join(map(str, tile))}] tensor but {shapes}"
    labels = [tensor for tensor in tensors if not tensor.is_floating_point() and tuple(tensor.shape[-3:]) == tile]
    return OutputError(problem, "leave the argmax at its end out: logits are needed" if labels else "")


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
        named = [path for path in paths if _is_named(path, name)]
        if len(named) == 1:
            return named[0]
    candidates = ", ".join(map(_written, paths))
    raise OutputError(
        f"its forward returns several tensors that could be the {what} ({candidates}); name one '{names[0]}'"
    )


def _is_named(path: OutputPath, name: str) -> bool:
    return name in (str(key).lower() for key in path)


def _written(path: OutputPath) -> str:
    return ".".join(map(str, path))
