"""A network as files that hold no code: weights as safetensors, and beside them the plain values that say what it is.

They are read again like any checkpoint (`models.load`).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from models.model import Model
from models.monai.bundle import read_config
from models.monai.searched import files_of_codes
from models.options import ModelOptions
from models.programs.onnx_checks import read_checked
from models.programs.onnx_graph import Graph
from models.reader.checkpoint import Checkpoint
from models.reader.source import CONFIGURATIONS, METADATA, config_file

_WEIGHTS = "weights.safetensors"


class MadeByCodeError(Exception):
    """A network that plain values do not describe; a graph of it does."""


def write_portable(
    checkpoint: Checkpoint, model: Model, options: ModelOptions, folder: Path, *, widened: bool = False
) -> Path:
    """Write the network that `model` was built of into the empty `folder`; return what is to be read of it.

    Raises:
        MadeByCodeError: nothing but code makes it: of the user's, of a file, or of a bundle that the user trusts.
    """
    if isinstance(model.program, Graph):
        return _write_graph(model.program, folder / "network.onnx")
    if model.program is not None or options.arch is not None or options.trust is not None:
        raise MadeByCodeError
    # Of a widened network those that it was given; else with the prefixes that the reader has taken off.
    prefix = "".join(wrapper for wrapper in checkpoint.wrappers if wrapper.endswith("."))
    named = {f"{prefix}{name}": weight for name, weight in checkpoint.state.items()}
    state = model.module.state_dict() if widened else named
    place = folder
    if model.plans is not None:
        (folder / "plans.json").write_text(json.dumps(model.plans.plans))
        (folder / "dataset.json").write_text(json.dumps(model.plans.dataset))
    elif checkpoint.source.bundle is not None:
        _copy_configuration(checkpoint.source.bundle, model, folder)
        place = folder / "models"
        place.mkdir(exist_ok=True)
    save_file(_tensors(model, state), place / _WEIGHTS)
    return place / _WEIGHTS


def portable_options(checkpoint: Checkpoint, model: Model, options: ModelOptions) -> ModelOptions:
    """What must be said of the files of `write_portable` so that they give this `model` again.

    Plans and bundles say it themselves, but for what the user said otherwise.
    """
    own = options.task or (model.task if checkpoint.task else None)
    if model.plans is not None:
        return ModelOptions(task=own)
    if checkpoint.source.bundle is not None:
        return ModelOptions(tile=options.tile, window=options.window, task=own)
    return ModelOptions(tile=model.tile, window=model.window, task=own)


def _write_graph(graph: Graph, path: Path) -> Path:
    """In one file, also where its weights lie in another."""
    import onnx

    onnx.save(read_checked(graph.path), path)
    return path


def _copy_configuration(bundle: Path, model: Model, folder: Path) -> None:
    """Copy what `models.monai` reads of a bundle beside its weights; it is data, and nothing there runs it."""
    files = [config_file(bundle, *names) for names in (CONFIGURATIONS, (METADATA,))]
    files += files_of_codes(read_config(bundle)) if model.architecture == "MONAI DiNTS" else []
    for file in files:
        if file is not None:
            place = folder / file.relative_to(bundle)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    if config_file(bundle, METADATA) is None:  # by which alone a file of weights is known to lie in a bundle
        (folder / "configs" / f"{METADATA}.json").write_text("{}")


def _tensors(model: Model, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, none of them in the memory of another, which safetensors does not write.

    nnU-Net lists its encoder twice, and the second names are filled in again when it is read.
    """
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    again = {name: tensor for name, tensor in state.items() if first[id(tensor)] != name}
    copies = {} if model.plans is not None else {name: tensor.clone() for name, tensor in again.items()}
    return {name: tensor for name, tensor in state.items() if name not in again} | copies
