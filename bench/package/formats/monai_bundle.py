"""A MONAI bundle that does what the run did: its own transforms, inferer and evaluator around the network.

A network that came as a bundle goes as that bundle, with its class and configuration; any other as TorchScript.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import InputError
from bench.package.formats import torchscript
from bench.package.formats.bundle_config import (
    EVALUATED,
    NEEDED,
    PROGRAM,
    WEIGHTS,
    filled,
    inference_of,
    load_program,
    metadata_of,
)
from bench.package.formats.description import (
    Subject,
    TensorInfo,
    Written,
    other_precision,
    other_runtime,
    refuse_without,
)
from engines.layers import INPUT, OUTPUTS
from models.model import Model
from models.monai.bundle import read_config
from models.monai.config import Config
from models.monai.inferer import window_of
from models.monai.searched import files_of_codes
from models.networks.outputs import Pair
from models.options import ModelOptions
from models.reader.source import find_bundle

_TORCHSCRIPT = "torchscript"  # the backend that runs what can be traced
_KEPT = ("LICENSE", "LICENSE.txt", "docs/data_license.txt", "docs/README.md")  # of a bundle
_REFERENCE = re.compile(r"[@%](\w+)")
_SAVED = '"output_dir": "@output_dir"'  # of SaveImaged
_RUNS_EXPRESSIONS = (
    "its configuration is the bundle's own, whose expressions MONAI runs: load it only where you trust it"
)
_NO_LICENSE = (
    "The license of this network is not known to voxbench, which only wrote its weights in this form.\n"
    "Whoever made the weights decides under which conditions they may be used: put their license here.\n"
)


def refuse(subject: Subject) -> None:
    """Refuse what MONAI's own components cannot do in the same way.

    Raises:
        InputError: the variant, or its network, is such.
    """
    settings = subject.opening.settings
    problems = {
        f"it averages {settings.networks} networks, and MONAI's evaluator runs one": settings.networks > 1,
        "it mirrors tiles, and MONAI's inferers do not": bool(settings.mirror_axes),
        f"it runs on a region of interest ({settings.roi}), which MONAI's inferers do not find": settings.roi != "none",
        f"its protocol is {settings.protocol}, and MONAI's inferers run whole volumes": settings.protocol
        != "sliding-window",
        "nnU-Net's plans prepare its cases, and MONAI has no transforms that do the same": settings.plans is not None,
    }
    problem = next((problem for problem, is_so in problems.items() if is_so), None)
    if problem is not None:
        raise InputError(f"--format {subject.format}: {subject.name}: {problem}; use --format package")
    if _class_of(subject) is None:
        refuse_without(subject, _TORCHSCRIPT)
        if subject.models[0].program is not None and subject.models[0].program.batch not in (None, 1):
            problem = "its program takes batches of one size, and MONAI's inferer sends what is left"
            raise InputError(f"--format {subject.format}: {subject.name}: {problem}; use --format package")


def write(subject: Subject, folder: Path) -> Written:
    """Write the bundle into `folder`."""
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    config = _class_of(subject)
    written = _write_program(subject, folder) if config is None else _write_class(subject, config, folder)
    own = {} if config is None else dict(config.values["_meta_"])
    settings, (model,) = subject.opening.settings, subject.models
    metadata = metadata_of(model, settings, f"{model.task.name} ({subject.name})", _said(subject))
    _write_json(folder / "configs" / "metadata.json", filled(own, metadata))
    _write_texts(folder, None if config is None else config.root, _readme(subject, written))
    return written


def _class_of(subject: Subject) -> Config | None:
    """The configuration of a network that is one of MONAI's classes and nothing else; None for any other."""
    opening, (model, *_) = subject.opening, subject.models
    options, pair = opening.model_options, model.module
    bundle = find_bundle(opening.checkpoint)
    changed = opening.rewrites or opening.widen_to is not None or model.program is not None
    if bundle is None or changed or options.arch is not None or options.trust is not None:
        return None
    if not isinstance(pair, Pair) or pair.segmentation != () or pair.convert:  # what MONAI's inferer would merge
        return None
    return read_config(bundle)


def _write_class(subject: Subject, config: Config, folder: Path) -> Written:
    """The weights as ``model.pt``, and the bundle's own configuration as far as it says what the run did."""
    settings, (model,) = subject.opening.settings, subject.models
    own = {name: value for name, value in config.values.items() if name != "_meta_"} | {"bundle_root": "."}
    network = own.get("network_def", own.get("network"))
    usual, remarks = inference_of(settings, network, settings.batch, weights=True), []
    is_own = _says_it_all(model, config)
    if is_own:
        remarks.append(_RUNS_EXPRESSIONS)
        values = usual | own | _around(own, usual)
        values |= {"inferer": usual["inferer"]} if _other_window(subject, config) else {}
        values |= {"load_pretrain": True} if "load_pretrain" in own else {}
        if own["evaluator"].get("amp"):
            remarks.append("the bundle's evaluator has amp: on CUDA it runs in FP16, which the run did not")
    else:
        values = _referred(own, network) | usual
    _write_json(folder / "configs" / "inference.json", values)
    for file in files_of_codes(config) if model.architecture == "MONAI DiNTS" else []:
        place = folder / file.relative_to(config.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    pair: Any = model.module
    torch.save(pair.network.state_dict(), folder / WEIGHTS)
    return _written(subject, folder / WEIGHTS, settings.batch, tuple(remarks), code=is_own)


def _around(own: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """What stands around the bundle's own steps: its images, its masks and its weights lie in its own folder."""
    imports = own.get("imports", [])
    imports = imports if isinstance(imports, list) else [imports]
    return {
        "imports": [*imports, *(each for each in usual["imports"] if each not in imports)],
        **{name: usual[name] for name in ("dataset_dir", "datalist", "output_dir")},
        "dataset": _with(own["dataset"], usual["dataset"], "data"),
        "dataloader": _with(own.get("dataloader"), usual["dataloader"], "dataset"),
        "evaluator": _with(own["evaluator"], usual["evaluator"], "val_data_loader"),
        "checkpointloader": usual["checkpointloader"] | _loaded(own),
    }


def _with(own: Any, usual: dict[str, Any], name: str) -> dict[str, Any]:
    """A component of the bundle, but for the argument `name`; the usual one where it has none that can be changed."""
    return {**own, name: usual[name]} if isinstance(own, dict) else usual


def _referred(own: dict[str, Any], value: Any) -> dict[str, Any]:
    """What `value` refers to at the top of a configuration, and what that refers to."""
    needed, waiting = dict[str, Any](), [value]
    while waiting:
        for name in _REFERENCE.findall(json.dumps(waiting.pop())):
            if name in own and name not in needed:
                needed[name] = own[name]
                waiting.append(own[name])
    return needed


def _loaded(own: dict[str, Any]) -> dict[str, Any]:
    """What the bundle's own loader fills with the weights."""
    loader = own.get("checkpointloader")
    return {"load_dict": loader["load_dict"]} if isinstance(loader, dict) and "load_dict" in loader else {}


def _says_it_all(model: Model, config: Config) -> bool:
    """Whether the bundle's own evaluator gives the run's masks: its way is run, and its classes are the labels."""
    values = config.values
    if model.bundle is None or config.file.stem != "inference" or not set(EVALUATED) <= values.keys():
        return False
    if not isinstance(values["evaluator"], dict) or _SAVED not in json.dumps(values["postprocessing"]):
        return False
    if model.painting is not None:
        return "Lambda" in json.dumps(values["postprocessing"])
    return model.labels == tuple(range(len(model.labels)))


def _other_window(subject: Subject, config: Config) -> bool:
    """Whether the run had another tile or overlap than the bundle's inferer."""
    settings, own = subject.opening.settings, window_of(config, ModelOptions())
    return (own.tile, own.overlap) != (settings.tile, settings.overlap)


def _write_program(subject: Subject, folder: Path) -> Written:
    """The network as TorchScript, which an expression of the configuration loads."""
    settings, (model,) = subject.opening.settings, subject.models
    shape = (1, *subject.opening.target.input_shape[1:])  # MONAI's last batch may be smaller, so that each is of one
    torchscript.write_trace(subject, _Segmentation(model.module).eval(), shape, folder / PROGRAM)
    _write_json(folder / "configs" / "inference.json", inference_of(settings, load_program(), 1, weights=False))
    return _written(subject, folder / PROGRAM, 1, (torchscript.IS_CODE,), code=True)


class _Segmentation(nn.Module):
    """The first of a pair of logits, which is all that MONAI's inferer merges."""

    def __init__(self, pair: nn.Module) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, x: Tensor) -> Tensor:
        segmentation: Tensor = self.pair(x)[0]
        return segmentation


def _written(subject: Subject, path: Path, batch: int, remarks: tuple[str, ...], *, code: bool) -> Written:
    settings = subject.opening.settings
    if settings.subtypes:
        remarks = (*remarks, "the class of a case is left out: MONAI's evaluator merges the segmentation only")
    sides = subject.opening.target.input_shape[1:]
    return Written(
        networks=(path,),
        inputs=(TensorInfo(INPUT, "float32", (batch, *sides)),),
        outputs=(TensorInfo(OUTPUTS[0], "float32", (batch, len(settings.labels), *sides[1:])),),
        precision="fp32",
        code=code,
        remarks=(*remarks, *other_precision(subject, "fp32"), *other_runtime(subject, "torch")),
    )


def _said(subject: Subject) -> str:
    proof = subject.proof
    return f"{subject.name} of the run {proof.run} of voxbench, whose accuracy there was {proof.accuracy}"


def _write_texts(folder: Path, bundle: Path | None, readme: str) -> None:
    """The license and documents of the `bundle` that it came as; of any other that its license is not known."""
    kept = [] if bundle is None else [(bundle / name, folder / name) for name in _KEPT]
    for source, place in kept:
        if source.is_file():
            shutil.copyfile(source, place)
    if not any((folder / name).exists() for name in _KEPT[:2]):
        (folder / "LICENSE").write_text(_NO_LICENSE)
    own = folder / "docs" / "README.md"
    (own.with_name("voxbench.md") if own.exists() else own).write_text(readme, encoding="utf-8")


def _readme(subject: Subject, written: Written) -> str:
    """How it is used, as the specification asks for in ``docs``."""
    channels = subject.models[0].task.channels
    numbered = ", ".join(f"`NAME_{number:04}` ({name})" for number, name in enumerate(channels))
    images = "image files" if len(channels) == 1 else f"for each case image files named {numbered}"
    lines = [
        f"# {subject.models[0].task.name}",
        "",
        f"{_said(subject)}: {subject.proof.headline}.",
        "",
        *(f"- {remark}" for remark in written.remarks),
        "",
        f"Put {images}, `.nii` or `.nii.gz`, into `images/`; masks go to `eval/`. The command needs",
        f"`pip install monai {' '.join(NEEDED)}`:",
        "",
        "```",
        "python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json",
        "```",
        "",
        "`model.json` says the rest: labels, tiles, versions, and the SHA-256 of every file.",
    ]
    return "\n".join(lines) + "\n"


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
