"""Builders of records for the tests: a run is described by a speedup and a loss for each variant."""

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports.records.record import (
    ABSENT_SKIP,
    AGREEMENT,
    COMPLETE,
    CONFIRMATION,
    INTERLEAVED,
    OK,
    PENDING,
    STAGES,
    Case,
    CheckpointRecord,
    DataRecord,
    EvidenceRecord,
    GpuState,
    HostRecord,
    RunRecord,
    Sample,
    Score,
    Settings,
    StructureRecord,
    StructureScore,
    TaskRecord,
    VariantRecord,
    VariantSettings,
)
from reports.records.store import Run
from reports.summary.summary import Summary

BASELINE = "torch-fp32"
SHARES = {"read": 0.03, "preprocess": 0.02, "roi": 0.0, "forward": 0.85, "stitch": 0.06, "write": 0.03}
BASE_NS = 800_000_000
WHOLE, LESION = "whole pancreas", "lesion"
TASK = TaskRecord(
    structures={
        WHOLE: StructureRecord(labels=(1, 2), nsd_tolerance_mm=5.0, dsc_target=0.91, critical=False),
        LESION: StructureRecord(labels=(2,), nsd_tolerance_mm=2.0, dsc_target=0.31),
    },
    classes=3,
    f1_target=0.70,
)


@dataclass(frozen=True)
class Candidate:
    """A variant to make up.

    Attributes:
        speedup: the same for all samples, but for `jitter`: factors that change from case to case.
        whole, lesion, nsd: what the DSC, and both NSD, of each case change by; a sequence holds a change for each case.
        flips: number of cases whose class changes.
        confirmed_speedup: on the confirmation pass, if it has one.
    """

    speedup: float = 2.0
    jitter: Sequence[float] = (1.0, 1.01, 0.99)
    whole: float | Sequence[float] = 0.0
    lesion: float | Sequence[float] = 0.0
    nsd: float | Sequence[float] = 0.0
    flips: int = 0
    confirmed_speedup: float | None = None
    evidence: EvidenceRecord | None = None


def made_of(name: str, **changes: Any) -> VariantSettings:
    """A variant of that name with the run's settings; ``NAME@4`` has a batch of 4, as on the command line."""
    backend, _, batch = name.partition("#")[0].partition("@")
    return replace(VariantSettings(backend=backend, roi="none", overlap=0.5, batch=int(batch or 1)), **changes)


def variant(name: str, status: str = PENDING, reason: str | None = None, fix: str | None = None, log: str | None = None,
            **changes: Any) -> VariantRecord:  # fmt: skip
    """One that was not measured."""
    return VariantRecord(name=name, settings=made_of(name), status=status, reason=reason, fix=fix, log=log, **changes)


def make_settings(variants: Mapping[str, VariantSettings], **changes: Any) -> Settings:
    settings = Settings(
        variants=variants, device="cpu", protocol="sliding-window", overlap=0.5, roi="none", tile=(64, 64, 64),
        batch=1, rounds=None, budget_s=600.0, threads=2, seed=0, min_reduction_pct=10.0, max_dsc_drop=0.005,
        max_nsd_drop=0.01, max_f1_drop=0.02, required=(), timeout_s=600.0, allocator="system",
    )  # fmt: skip
    return replace(settings, **changes)


def make_cases(count: int, masks: bool = True, subtypes: bool = True) -> tuple[Case, ...]:
    return tuple(
        Case(
            f"quiz_{i % 3}_{i:03d}", f"subtype{i % 3}/quiz_{i % 3}_{i:03d}_0000.nii.gz",
            f"subtype{i % 3}/quiz_{i % 3}_{i:03d}.nii.gz" if masks else None, i % 3 if subtypes else None,
            (112, 96, 72), (0.73, 0.73, 2.0),
        )
        for i in range(count)
    )  # fmt: skip


def make_run(
    candidates: Mapping[str, Candidate | VariantRecord],
    *,
    cases: int = 16,
    rounds: int = 2,
    masks: bool = True,
    subtypes: bool = True,
    baseline: VariantRecord | None = None,
    status: str = COMPLETE,
    confirmed: str | None = None,
    asked: int | None = None,
    **settings: Any,
) -> Run:
    """A run of `BASELINE` and `candidates`; ready-made records are taken as they are.

    `rounds` were made; `asked` is what was asked for, None for as many as needed.
    """
    result = make_cases(cases, masks, subtypes)
    variants = [baseline or _variant(BASELINE, Candidate(1.0, (1.0,), confirmed_speedup=1.0), result, rounds)]
    for name, candidate in candidates.items():
        made = candidate if isinstance(candidate, VariantRecord) else _variant(name, candidate, result, rounds)
        variants.append(made)
    record = RunRecord(
        id="20260102-030405", created="2026-01-02T03:04:05+00:00", command="bench run --backends all --rounds 2",
        settings=make_settings({b.name: b.settings for b in variants}, rounds=asked, **settings),
        checkpoint=_checkpoint(), data=_data(), task=TASK,
        cases=result, host=HostRecord(processor="Example CPU", cores=2, memory_bytes=8 * 2**30),
        versions={"torch": "2.13.0", "openvino": "2026.1.0"},
        controlled_settings={
            "protocol": "sliding-window", "TF32 in the baseline": "off", "test-time augmentation": "off",
        },
        baseline=BASELINE, status=status, confirmed=confirmed,
    )  # fmt: skip
    return Run(record, tuple(variants))


def _variant(name: str, candidate: Candidate, cases: Sequence[Case], rounds: int) -> VariantRecord:
    samples = [sample(INTERLEAVED, r, i, case, candidate, candidate.speedup) for r in range(rounds) for i, case in
               enumerate(cases)]  # fmt: skip
    if candidate.confirmed_speedup is not None:
        samples += [
            sample(CONFIRMATION, r, i, case, candidate, candidate.confirmed_speedup)
            for r in range(rounds)
            for i, case in enumerate(cases)
        ]
    evidence = candidate.evidence or EvidenceRecord("CPU", {"fp32": 1.0})
    noise = {"voxels": 6_193_152, "differing_voxels": 0, "class_flips": 0} if name == BASELINE else {}
    return VariantRecord(
        name=name, settings=made_of(name), status=OK, log=f"variants/{name}.log",
        build_s=1.5 * candidate.speedup, build_cached=candidate.speedup > 5,
        peak_memory_bytes=700 * 2**20, evidence=evidence, samples=tuple(samples),
        scores=tuple(_score(i, case, candidate) for i, case in enumerate(cases)), noise=noise,
    )  # fmt: skip


def sample(phase: str, round_: int, index: int, case: Case, candidate: Candidate, speedup: float) -> Sample:
    factor = candidate.jitter[(_shuffled(index, len(candidate.jitter)) + round_) % len(candidate.jitter)]
    base = int(BASE_NS * (1 + 0.1 * index))
    case_ns = int(base / (speedup * factor))
    fixed = {s: int(base * SHARES[s]) for s in STAGES if s != "forward"}
    shrink = min(1.0, case_ns / (2 * sum(fixed.values())))
    stages = {s: int(ns * shrink) for s, ns in fixed.items()}
    stages["forward"] = int(0.99 * (case_ns - sum(stages.values())))
    within = zlib.crc32(f"{candidate.speedup} {phase} {round_} {index}".encode()) / 2**32  # who came first, by lot
    started = 1_767_323_045.0 + 1000 * round_ + 10 * index + within
    launch = index % 2 * (phase == INTERLEAVED)  # two launches without a case in common, which count as one
    return Sample(phase, round_, case.name, case_ns, stages, None, 12, index % 3, started, 2 * case_ns, launch=launch)


def warnings_of(summary: Summary) -> list[str]:
    """Without that each case was timed in a single launch of the processes, as in all runs that are made here."""
    return [line for line in summary.warnings if "in a single launch" not in line]


def _shuffled(index: int, length: int) -> int:
    """Each of `length` numbers once in each block of as many indices, in an order that does not repeat."""
    block, place = divmod(index, length)
    return random.Random(500 + block).sample(range(length), length)[place]


def _score(index: int, case: Case, candidate: Candidate) -> Score:
    def change(by: float | Sequence[float]) -> float:
        return by if isinstance(by, (int, float)) else by[index % len(by)]

    truth = index % 3
    baseline = truth if index % 5 else (truth + 1) % 3  # wrong on each fifth case
    subtype = (truth + 2) % 3 if index < candidate.flips else baseline
    whole = 0.95 + 0.001 * index + change(candidate.whole) if case.mask else None
    lesion = 0.78 + 0.004 * index + change(candidate.lesion) if case.mask else None
    differing = 150 if candidate.whole or candidate.lesion or candidate.flips else 0
    nsd = (0.98 + change(candidate.nsd), 0.85 + change(candidate.nsd)) if case.mask else (None, None)
    return Score(
        case=case.name,
        structures={WHOLE: StructureScore(dsc=whole, nsd=nsd[0]), LESION: StructureScore(dsc=lesion, nsd=nsd[1])},
        subtype=subtype,
        baseline_subtype=baseline,
        voxels=774_144,
        differing_voxels=differing,
    )


def _checkpoint() -> CheckpointRecord:
    return CheckpointRecord(
        path="best_model.pth", sha256="ab" * 32, weights_sha256="cd" * 32, demo=False, architecture="multitask-unet",
        width=8, parameters=1_609_934, labels=(0, 1, 2), subtypes=3, container="PyTorch zip",
        training_metrics={
            "metrics.pancreas_dice": 0.71, "metrics.lesion_dice": 0.460, "metrics.whole_dice": 0.744, "cls_f1": 0.514,
        },
    )  # fmt: skip


def _data() -> DataRecord:
    return DataRecord(
        root="data/quiz", layout="quiz", split="validation", sha256="ef" * 32, demo=False,
        calibration_cases=tuple(f"quiz_0_{i:03d}" for i in range(20)),
    )  # fmt: skip


def on_gpu(run: Run, device_share: float = 0.99, processes: int = 2, throttled_by: tuple[str, ...] = ()) -> Run:
    """The same run as a GPU would have given it: device events, readings after each case, and a measured peak."""
    state = GpuState(1980, 2619, 45, 400.0, 35.0, throttled_by, 2 * 2**30, processes)
    variants = tuple(
        replace(
            variant,
            samples=tuple(
                replace(item, device_ns=int(device_share * item.stages_ns["forward"]), gpu=state, workers=2)
                for item in variant.samples
            ),
        )
        for variant in run.variants
    )
    record = replace(
        run.record,
        checkpoint=replace(
            run.record.checkpoint, macs_per_tile=59_450_000_000, activations_per_tile=80_000_000,
            layer_weights=1_600_000,
        ),
        host=replace(run.record.host, gpu="Example GPU", driver="580.95.05 (CUDA up to 13.0)"),
        peak_flops={"fp32": 50e12, "tf32": 400e12, "fp16": 800e12},
        peak_bytes_per_s=3e12,
    )  # fmt: skip
    return replace(run, record=record, variants=variants)


def segmenting(run: Run, lesions: bool = True) -> Run:
    """The same run as a network without a classification would have given it, or also without a lesion class."""

    def only(variant: VariantRecord) -> VariantRecord:
        scores = [replace(item, subtype=None, baseline_subtype=None) for item in variant.scores]
        return replace(
            variant,
            samples=tuple(replace(item, subtype=None) for item in variant.samples),
            scores=tuple(item if lesions else rescored(item, LESION, dsc=None, nsd=None) for item in scores),
            noise={name: value for name, value in variant.noise.items() if name != "class_flips"},
        )

    labels = (0, 1, 2) if lesions else (0, 1)
    network = replace(run.record.checkpoint, architecture="net.py:make", labels=labels, subtypes=0)
    task = run.record.task
    structures = {**task.structures, LESION: replace(task.structures[LESION], predicted=lesions)}
    record = replace(run.record, checkpoint=network, task=replace(task, structures=structures, classes=0))
    return replace(run, record=record, variants=tuple(map(only, run.variants)))


def of_structures(
    run: Run, structures: Mapping[str, StructureRecord], changes: Mapping[str, float | Sequence[float]]
) -> Run:
    """The same run of a task with other structures; `changes`, by their names, are those of every candidate's scores.

    A structure's change is one of all its cases, or holds one for each.
    """

    def score(index: int, name: str, candidate: bool) -> StructureScore:
        by = changes.get(name, 0.0) if candidate else 0.0
        value = 0.8 + 0.002 * index + (by if isinstance(by, (int, float)) else by[index % len(by)])
        return StructureScore(dsc=value, nsd=None if structures[name].nsd_tolerance_mm is None else value)

    def only(variant: VariantRecord) -> VariantRecord:
        candidate = variant.name != run.record.baseline
        scores = (
            replace(own, structures={name: score(index, name, candidate) for name in structures})
            for index, own in enumerate(variant.scores)
        )
        return replace(variant, scores=tuple(scores))

    record = replace(run.record, task=replace(run.record.task, structures=structures))
    return replace(run, record=record, variants=tuple(map(only, run.variants)))


def by_agreement(run: Run, masks: bool = False) -> Run:
    """The same run judged by agreement: what a candidate's scores differ by is what its masks lack to equal ones."""
    reference = {score.case: score.structures for score in run.variant(run.record.baseline).scores}

    def to_baseline(name: str, own: StructureScore, other: StructureScore) -> StructureScore:
        dsc, nsd = (1 - abs(a - b) if a is not None and b is not None else None
                    for a, b in ((own.dsc, other.dsc), (own.nsd, other.nsd)))  # fmt: skip
        return StructureScore(dsc=dsc, nsd=nsd, absent=own.absent)

    def only(variant: VariantRecord) -> VariantRecord:
        scores = (
            replace(score, structures={name: to_baseline(name, own, reference[score.case][name])
                                       for name, own in score.structures.items()})
            for score in variant.scores
        )  # fmt: skip
        return replace(variant, scores=tuple(scores))

    cases = tuple(case if masks else replace(case, mask=None, subtype=None) for case in run.record.cases)
    record = replace(run.record, cases=cases, settings=replace(run.record.settings, accuracy=AGREEMENT))
    return replace(run, record=record, variants=tuple(map(only, run.variants)))


def rescored(score: Score, structure: str, **changes: Any) -> Score:
    """The score with another one of a structure."""
    own = replace(score.structures[structure], **changes)
    return replace(score, structures={**score.structures, structure: own})


def with_lesions(run: Run, cases: int) -> Run:
    """The same run, the first `cases` of which alone hold a lesion."""
    variants = tuple(
        replace(
            variant,
            scores=(
                *variant.scores[:cases],
                *(rescored(own, LESION, dsc=1.0, nsd=1.0, absent=True) for own in variant.scores[cases:]),
            ),
        )
        for variant in run.variants
    )
    settings = replace(run.record.settings, absent=ABSENT_SKIP)
    return replace(run, record=replace(run.record, settings=settings), variants=variants)


def without_nsd(run: Run) -> Run:
    """The same run of a task without surface distances."""
    structures = {name: replace(own, nsd_tolerance_mm=None) for name, own in run.record.task.structures.items()}
    record = replace(run.record, task=replace(run.record.task, structures=structures))
    return replace(run, record=record)
