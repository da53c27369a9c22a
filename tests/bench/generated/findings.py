"""Runs what was generated through `bench run`, and lists what is not as it must be."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
import torch
from sklearn.metrics import f1_score

from tests.bench.generated import bands
from tests.bench.generated.data_sets import Case, DataSet, folders, write_data_set
from tests.bench.generated.faults import FAULTS, spoil
from tests.bench.generated.independent import Forward, dsc, nsd, on_grid_of, predict
from tests.bench.generated.networks import FILE_FAULTS, write_network
from tests.bench.generated.nifti import Array, File, spacing_of
from tests.bench.generated.short_runs import Ended, bench, small_runs

PROGRESS = ("checking cases", "building backends")
CODES = {0, 1, 2, 3, 4, 130}
RAN = {0, 1, 3}  # a verdict, whatever it is
TILE = (16, 16, 16)
STRUCTURES: dict[str, tuple[tuple[int, ...], float]] = {"whole pancreas": ((1, 2), 5.0), "lesion": ((2,), 2.0)}
# Factories of `bands`, with the classes that their networks tell apart.
FACTORIES = {"both": 3, "two_classes": 2, "lesions": 0, "organ": 0}


@dataclass
class Result:
    """What became of a generated input: `outcome` for the table, and what is not as it must be."""

    outcome: str
    kind: str
    findings: list[str] = field(default_factory=list)
    cases: int = 0


def try_data_set(draw: Random, folder: Path, fault: str | None, fork: bool = True) -> Result:
    """Generate a data set in `folder`, with this fault of FAULTS or any, "" for none, and run it.

    The folder goes if nothing is amiss.
    """
    factory, data = _generate(draw, folder / draw.choice(("data", "data set", "dätä", "100%")), fault)
    tile, overlap = draw.choice((TILE, TILE, (12, 16, 20))), draw.choice((0.5, 0.5, 0.25, 0.0))
    roi = draw.choice(("none", "none", "none", "none", "body", "coarse", "foreground"))
    network = bands_checkpoint(folder.parent, factory)
    variants = draw.choice(("torch-fp32", "torch-fp32", "torch-fp32@2", "torch-fp32,torch-fp32"))
    with small_runs(fork):
        ended = bench(
            "run", "--checkpoint", str(network), "--arch", f"{network.parent / 'bands.py'}:{factory}", "--data",
            str(data.root), "--split", data.split, "--tile", ",".join(map(str, tile)), f"--overlap={overlap}",
            f"--window={data.window[0]:g},{data.window[1]:g}", "--roi", roi, "--backends", variants, *_options(folder),
        )  # fmt: skip
    result = Result("accepted" if ended.code in RAN else "refused", data.kind)
    result.findings += _manners(ended, folder / "run")
    if data.refused is True and ended.code != 2:
        result.findings.append(f"accepted, although it is unusable: exit {ended.code}: {_last(ended.printed)}")
    elif data.refused is False and ended.code not in RAN:
        result.findings.append(f"not run, although it is in order: exit {ended.code}: {_last(ended.err)}")
    elif ended.code in RAN:
        result.cases = len(data.cases)
        result.findings += _must_name(data, ended, folder / "run")
        forward = forward_of(factory) if roi == "none" else None
        result.findings += check_run(folder / "run", data, forward, tile, overlap)
    elif not any(_plain(name) in _plain(ended.err) for name in data.names):
        result.findings.append(f"names none of {data.names}: {_last(ended.err)}")
    return _clear(result, folder)


def try_network(draw: Random, folder: Path, data: tuple[DataSet, DataSet]) -> Result:
    """Generate a network in `folder` and run it on one of `data`; some tiles of the second have no spread."""
    network = write_network(draw, folder)
    on_air = network.standardised and draw.random() < 0.5
    used = data[on_air]
    variants = draw.choice(("torch-fp32", "torch-fp32,torchscript", "torch-fp32,torch-fp32", "torch-fp32@2"))
    arch, tile = f"{network.file}:{network.factory}", ",".join(map(str, TILE))
    arguments = ("--checkpoint", str(network.checkpoint), "--arch", arch, "--tile", tile)
    with small_runs():
        inspected = bench("inspect", *arguments[1:])
        ended = bench(
            "run", *arguments, "--data", str(used.root), "--split", used.split, "--backends", variants,
            f"--window={used.window[0]:g},{used.window[1]:g}", *_options(folder),
        )  # fmt: skip
    result = Result("accepted" if ended.code in RAN else f"exit {ended.code}", network.fault or "in order")
    about = " + ".join(network.parts)
    result.findings += _manners(inspected, folder / "none") + _manners(ended, folder / "run")
    names = (network.file, network.checkpoint, network.file.name, "torch-fp32")
    if network.fault in FILE_FAULTS:
        names = (network.checkpoint,)
    if network.fault == "always NaN" and ended.code not in (2, 4):
        result.findings.append(f"NaN went through: exit {ended.code}: {_last(ended.printed)}")
    elif on_air and not network.fault:
        if ended.code != 4 or "tile" not in ended.err or not any(case.name in ended.err for case in used.cases):
            result.findings.append(f"NaN on air: exit {ended.code}, without case and tiles: {_last(ended.printed)}")
    elif network.fault and ended.code not in (2, 4):
        result.findings.append(f"accepted, although it is unusable ({network.fault}): {_last(ended.printed)}")
    elif not network.fault and ended.code not in RAN:
        result.findings.append(f"not run: exit {ended.code}: {_last(ended.err)}")
    if ended.code not in RAN and not any(str(name) in ended.err for name in names):
        result.findings.append(f"names none of {list(map(str, names))}: {_last(ended.err)}")
    if ended.code in RAN and network.reference is not None:
        result.cases = 2
        reference = None if network.random else network.reference
        result.findings += check_run(folder / "run", used, reference, TILE, 0.5)
    result.findings = [f"{finding} [{about}]" for finding in result.findings]
    return _clear(result, folder)


def _generate(draw: Random, folder: Path, fault: str | None) -> tuple[str, DataSet]:
    """The factory of a network and a data set for it; again and again until the fault can be put into one."""
    while True:
        factory, classes = draw.choice(list(FACTORIES.items()))
        data = write_data_set(draw, folder, classes)
        able = [name for name, (suits, _) in FAULTS.items() if suits(data) and fault in (None, name)]
        if able and fault != "":
            spoil(draw, data, draw.choice(able))
        if able or fault == "":
            return factory, data
        shutil.rmtree(folder)


def network_data(folder: Path) -> tuple[DataSet, DataSet]:
    """Two cases of noise, and two that are half air; made once, in `folder`."""
    sets = []
    for name in ("noise", "air"):
        data = DataSet(folder / name, "quiz", "validation", (-1000.0, 1000.0), 3)
        for number in range(2):
            images, _ = folders(data, number)
            random = np.random.default_rng(number)
            voxels = random.normal(0, 300, (36 if name == "air" else 20, 17, 16)).astype(np.int16)
            voxels[18:] = voxels[18:] if name == "noise" else -1000
            truth = (voxels > 100).astype(np.uint8)
            truth[8:12, 4:8, 4:8] = 2
            affine = np.diag([-0.8, -0.8, 2.0, 1.0])
            image, mask = File(voxels, affine), File(truth, affine)
            case = Case(
                f"c{number}", image, images / f"c{number}_0000.nii", mask, images / f"c{number}.nii", truth, number
            )
            data.cases.append(case)
            if not case.mask_path.exists():
                images.mkdir(parents=True, exist_ok=True)
                image.write(case.image_path)
                mask.write(case.mask_path)
        sets.append(data)
    return sets[0], sets[1]


def _options(folder: Path) -> tuple[str, ...]:
    return ("--rounds", "1", "--threads", "1", "--device", "cpu", "--timeout", "120", "--min-reduction", "99",
            "--out", str(folder / "run"))  # fmt: skip


def bands_checkpoint(folder: Path, factory: str) -> Path:
    """The checkpoint of a network of `bands`, beside a copy of its code."""
    path = folder / f"{factory}.pth"
    if not path.exists():
        shutil.copy(bands.__file__, folder / "bands.py")
        torch.save(getattr(bands, factory)().state_dict(), path)
    return path


def forward_of(factory: str) -> Forward:
    network = getattr(bands, factory)()

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        returned = network(x)
        return (
            (returned["segmentation"], returned["classification"]) if isinstance(returned, dict) else (returned, None)
        )

    return forward


def _manners(ended: Ended, run: Path) -> list[str]:
    """What holds for every command, however it ends."""
    findings = []
    if "Traceback" in ended.printed:
        findings.append(f"a traceback: {_last(ended.err)}")
    if ended.code not in CODES:
        findings.append(f"exit code {ended.code}: {_last(ended.err)}")
    lines = [line for line in ended.err.splitlines() if line.startswith("bench: ")]
    if ended.code == 2:
        rest = [line for line in ended.err.splitlines() if line not in lines and not line.startswith(PROGRESS)]
        if len(lines) != 1 or rest or not ended.err.endswith(f"{lines[-1]}\n"):
            findings.append(f"a refusal of other than one line: {ended.err[-400:]!r}")
        if (run / "run.json").exists():
            findings.append("refused, but a run was begun")
    return findings


def _must_name(data: DataSet, ended: Ended, run: Path) -> Iterator[str]:
    """What may be accepted as long as it is said, and what a report must hold."""
    said = _plain(ended.printed + "\n".join(json.loads(bench("report", str(run), "--format", "json").out)["warnings"]))
    if data.refused is None and data.said and not any(_plain(name) in said for name in data.names):
        yield f"accepted, and nothing is said of {data.names}"
    for note in data.notes:
        if note not in said:
            yield f"no note of its {note}"


def check_run(
    run: Path, data: DataSet, forward: Forward | None, tile: tuple[int, int, int], overlap: float
) -> Iterator[str]:
    """Hold masks, classes and scores of a run against their independent computation.

    Without a `forward`, only the scores of the masks.
    """
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    cases, by_name = data.cases, {case.name: case for case in data.cases}
    by_agreement = record["settings"]["accuracy"] == "agreement"
    for case in record["cases"]:
        known = by_name.get(case["name"])
        if known is not None and case["subtype"] != known.subtype:
            yield f"{case['name']}: its class is {known.subtype}, not {case['subtype']}"
    if by_name.keys() - {case["name"] for case in record["cases"]} and by_name.keys():
        yield f"cases are {sorted(by_name)}, not {[case['name'] for case in record['cases']]}"
    predictions = {}
    if forward is not None:
        predictions = {case.name: predict(forward, case.intensities, data.window, tile, overlap) for case in cases}
    for path in sorted((run / "variants").glob("*.json")):
        variant = json.loads(path.read_text(encoding="utf-8"))
        if variant["status"] != "ok":
            yield from () if variant["reason"] else (f"{variant['name']}: no reason is given",)
            continue
        for score in variant["scores"]:
            known = by_name.get(score["case"])
            if known is None:
                continue
            labels = _read(run / "predictions" / variant["name"] / f"{score['case']}.nii.gz", known)
            where = f"{variant['name']}, {score['case']}"
            expected = predictions.get(score["case"])
            if expected is not None and variant["settings"]["backend"] == "torch-fp32":
                if wrong := expected.differs(labels):
                    yield f"{where}: {wrong} of {labels.size} voxels are not as MONAI's window has them"
                if expected.differs_in_class(score["subtype"]):
                    yield f"{where}: class {score['subtype']}, not as {expected.classification}"
            reference = None
            if by_agreement:
                reference = _read(run / "predictions" / record["baseline"] / f"{score['case']}.nii.gz", known)
            scores = _check_scores(known, labels, score, record, data.numbers, reference)
            yield from (f"{where}: {finding}" for finding in scores)
    if not by_agreement:
        yield from _check_f1(run, by_name)


def _read(path: Path, case: Case) -> Array:
    """A predicted mask, whose grid must be its image's."""
    mask: Any = nib.load(path)
    labels = np.asarray(mask.dataobj)
    assert labels.size == case.intensities.size, (labels.shape, case.intensities.shape)
    assert np.allclose(mask.affine, case.image.affine, atol=1e-3, rtol=1e-5), (mask.affine, case.image.affine)
    return labels.reshape(case.intensities.shape)


def _check_scores(
    case: Case,
    labels: Array,
    score: dict[str, Any],
    record: dict[str, Any],
    numbers: tuple[int, ...],
    reference: Array | None,
) -> Iterator[str]:
    """Scores against the truth, or where the run was judged by agreement against `reference`, the baseline's labels."""
    if reference is not None:
        truth = reference
    elif case.truth is None or case.mask is None:
        yield "scored against the truth without a mask"
        return
    else:
        stored = np.rint(case.mask.values).reshape(case.mask.stored.shape[:3])
        truth = np.array(numbers)[on_grid_of(labels.shape, case.image.affine, stored, case.mask.affine)]
        assert (truth == case.truth).all(), "the generator and SimpleITK disagree"
    spacing = spacing_of(case.image.affine)
    for name, (of_structure, tolerance) in STRUCTURES.items():
        got = score["structures"][name]
        if not record["task"]["structures"][name]["predicted"]:
            if got["dsc"] is not None:
                yield f"{name} is scored, which the network cannot find"
            continue
        predicted, true = np.isin(labels, of_structure), np.isin(truth, of_structure)
        if got["dsc"] is None or abs(got["dsc"] - dsc(predicted, true)) > 1e-6:
            yield f"DSC of {name} is {dsc(predicted, true)}, not {got['dsc']}"
        bounds = [nsd(predicted, true, spacing, tolerance * (1 + by)) for by in (-1e-5, 1e-5)]
        if got["nsd"] is None or not bounds[0] - 1e-6 <= got["nsd"] <= bounds[1] + 1e-6:
            yield f"NSD of {name} is {bounds}, not {got['nsd']} (spacing {spacing})"


def _check_f1(run: Path, cases: dict[str, Case]) -> Iterator[str]:
    """The macro-F1 that the report shows, by scikit-learn."""
    report = json.loads(bench("report", str(run), "--format", "json").out)
    for row in report["variants"]:
        scores = json.loads((run / "variants" / f"{row['name']}.json").read_text(encoding="utf-8"))["scores"]
        pairs = [(cases[s["case"]].subtype, s["subtype"]) for s in scores if s["case"] in cases]
        pairs = [pair for pair in pairs if None not in pair]
        if row["status"] != "ok" or not pairs:
            continue
        true, predicted = zip(*pairs, strict=True)
        expected, value = (
            f1_score(true, predicted, average="macro", zero_division=0),
            row["accuracy"]["macro_f1"]["value"],
        )
        if value is None or abs(value - expected) > 1e-6:
            yield f"{row['name']}: macro-F1 is {expected}, not {value}"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def _clear(result: Result, folder: Path) -> Result:
    if not result.findings:
        shutil.rmtree(folder, ignore_errors=True)
    return result
