"""What a program answers to noise, and whether another network gives the same answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import one_line, refusal, sides
from models.model import Model, Program
from models.networks.channels import run_on_noise
from models.networks.outputs import OutputError, find_outputs
from models.reader.checkpoint import Checkpoint
from models.task import Task

LOGITS = "export a network that returns logits, those of the segmentation of the size of its tile"
TOLERANCE = 1e-4  # of the norm of the difference, against the norm of the answers: what rounding in float32 may do


@dataclass(frozen=True)
class Answers:
    """What a program returned.

    Attributes:
        tiles: of noise, ``[B, C, D, H, W]``.
        segmentation, classification: its logits for these tiles; no classification where it only segments.
    """

    tiles: Tensor
    segmentation: Tensor
    classification: Tensor | None


def answers_to_noise(
    checkpoint: Checkpoint, program: Program, tile: tuple[int, int, int], task: Task | None,
    subtypes: int | None = None,
) -> Answers:  # fmt: skip
    """Run a program twice on tiles of noise. `subtypes` are those of the network of its weights, where that is known.

    Raises:
        CheckpointError: it does not run on that tile, or answers otherwise the second time; its outputs cannot be used,
            or are NaN or infinity.
    """
    try:
        with torch.inference_mode():
            x, (first, again) = run_on_noise(
                lambda noise: (program(noise), program(noise)), program, (program.batch or 1, *tile), task
            )
        outputs = find_outputs(first, tile, task, subtypes)
        pairs = list(zip(outputs.logits(first), outputs.logits(again), strict=True))
    except OutputError as error:
        raise refusal(checkpoint.path, str(error), error.remedy or LOGITS) from None
    except Exception as error:  # of code that is not ours anything can come
        problem = f"does not run on a tile of {sides(tile)} ({one_line(error)})"
        remedy = "name the tile it was made for with --tile X,Y,Z"
        if task is None and program.takes[1] is None:
            remedy += ", or its channels with --task FILE.toml"
        raise refusal(checkpoint.path, problem, remedy) from None
    if not all(bool(answer.isfinite().all()) for answer, _ in pairs):
        problem = f"gives NaN or infinity on a tile of noise of {sides(tile)}"
        raise refusal(checkpoint.path, problem, "export it again")
    if not all(torch.equal(answer, second) for answer, second in pairs):
        problem = "gives another answer each time: it was exported in training mode, dropout and all"
        raise refusal(checkpoint.path, problem, "export it after network.eval()")
    (segmentation, _), *others = pairs
    return Answers(x, segmentation, others[0][0] if others else None)


def relative_error(model: Model, answers: Answers) -> float:
    """The larger of the relative errors of a model's two outputs; infinite where the program has not both.

    NaN where the model's answers are.
    """
    if answers.classification is None or answers.tiles.shape[1] != model.channels:
        return float("inf")
    with torch.inference_mode():
        outputs = model.module(answers.tiles)
    errors = []
    for output, answer in zip(outputs, (answers.segmentation, answers.classification), strict=True):
        true = answer.double()
        if output.shape != true.shape:
            return float("inf")
        errors.append(float((output.double() - true).norm() / true.norm().clamp_min(1e-30)))
    return float(torch.tensor(errors).max())  # unlike Python's, NaN where one of them is
