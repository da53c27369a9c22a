"""The network as an ONNX file, which several runtimes start from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import EngineError, Target
from engines.cache import Artefact, artefact, key_of
from engines.layers import INPUT, OUTPUTS
from engines.placement import placed
from models.suppress import suppress_output

if TYPE_CHECKING:
    from torch import Tensor

    from models.model import Model

OPSET = 20
PACKAGES = ("onnx", "onnxscript")  # what the exporter needs beside PyTorch
_FILE, _FINITE = "model.onnx", "finite.json"


def onnx_file(model: "Model", target: Target, half: bool = False) -> tuple[Path, Artefact]:
    """Export `model` for one shape, in float32 or as a whole in float16, or take it from the cache.

    Of a model that is an ONNX graph it is that graph, in float32.

    Returns:
        The file, with input ``image`` ``[B, C, D, H, W]`` and the outputs ``segmentation`` and
        ``classification``, and its artefact.
    """
    precision = "fp16" if half else "fp32"
    key = key_of(model, target, ("torch", *PACKAGES), precision=precision, opset=OPSET)
    built = artefact(target, f"onnx-{precision}", key, lambda folder: _export(model, target, half, folder / _FILE))
    return built.folder / _FILE, built


def write_graph(model: "Model", target: Target, path: Path) -> None:
    """Write a network that is PyTorch code as an ONNX file in float32, for one tile and any batch.

    For the target's batch alone where the network has a fixed one in its code.
    """
    import onnx
    import torch

    free = replace(target, batch=max(target.batch, 2))  # an axis of length 1 is always fixed
    try:
        _export_code(model, free, False, path, ({0: torch.export.Dim("batch")},))
        (image,) = onnx.load(str(path)).graph.input
        is_free = image.type.tensor_type.shape.dim[0].HasField("dim_param")
    except Exception:  # whatever the exporter raises of code that it cannot follow so
        is_free = False
    if not is_free:
        shutil.copyfile(onnx_file(model, target)[0], path)


def _export(model: "Model", target: Target, half: bool, path: Path) -> None:
    import onnx

    from models.programs.onnx_graph import Graph, with_fixed_shapes

    if isinstance(model.program, Graph):
        assert not half, "a graph is not halved: the table of backends says which can start from one"
        onnx.save(with_fixed_shapes(model, target.input_shape, INPUT, OUTPUTS), path)
        return
    _export_code(model, target, half, path)


def _export_code(model: "Model", target: Target, half: bool, path: Path, open_axes: Any = None) -> None:
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    dtype = torch.float16 if half else None
    x = torch.zeros(target.input_shape, dtype=dtype)
    with placed(model.module, "cpu", dtype) as network, suppress_output(), torch.no_grad():
        program = torch.onnx.export(
            network, (x,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
            input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes=open_axes,
        )  # fmt: skip
        assert program is not None, "the exporter returns a program where it is given no file"
        ClearMetadataAndDocStringPass()(program.model)  # lines of code with their paths on this machine
        program.save(str(path), external_data=False)  # its weights are those of the network as it is placed


def calibration_batches(model: "Model", target: Target) -> "list[Tensor]":
    """Cut the calibration tiles into whole batches ``[B, C, D, H, W]``, repeating the first ones to fill the last.

    Raises:
        EngineError: the network gives NaN or infinity on some of them; quantizers take ranges from these all the same.
    """
    import torch

    assert target.calibration is not None, "an INT8 engine was opened without asking its probe"
    tiles = target.calibration.tiles().float()
    short = -len(tiles) % target.batch
    fill = [tiles[i % len(tiles)] for i in range(short)]
    whole = torch.cat([tiles, torch.stack(fill)] if fill else [tiles]).contiguous()
    batches = list(whole.split(target.batch))  # type: ignore[no-untyped-call]
    finite = _finite_tiles(model, target, batches)[: len(tiles)]
    if not all(finite):
        raise EngineError(
            f"{finite.count(False)} of {len(tiles)} calibration tiles give logits that are not finite, and INT8 "
            "takes its ranges from them; use another precision, or take these training cases out"
        )
    return batches


def _finite_tiles(model: "Model", target: Target, batches: "list[Tensor]") -> list[bool]:
    """Whether the network's logits are finite, of each tile; kept in the cache, for every backend in INT8 asks."""
    assert target.calibration is not None
    key = key_of(model, target, ("torch",), calibration=target.calibration.sha256)

    def build(folder: Path) -> None:
        flags = [flag for batch in batches for flag in _is_finite(model, batch).tolist()]
        (folder / _FINITE).write_text(json.dumps(flags))

    built = artefact(target, "finite", key, build)
    flags: list[bool] = json.loads((built.folder / _FINITE).read_text())
    return flags


def _is_finite(model: "Model", batch: "Tensor") -> "Tensor":
    """Whether the network's logits are, of each tile ``[B]``."""
    import torch

    with torch.inference_mode():
        segmentation, classification = model.module(batch)
    finite: Tensor = segmentation.flatten(1).isfinite().all(1)
    return finite & classification.flatten(1).isfinite().all(1) if model.subtypes else finite
