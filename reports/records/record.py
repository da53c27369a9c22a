"""The documents of a run: raw values with their units, never statistics. This file imports nothing of the project.

A run directory holds one `RunRecord` (``run.json``), and of each variant a `VariantRecord` (``variants/NAME.json``)
whose samples lie beside it (``samples/NAME.jsonl``), a `Sample` a line. All are frozen: a change is a new record.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

SCHEMA = 2

STAGES = ("read", "preprocess", "roi", "forward", "stitch", "write")

WARMUP, INTERLEAVED, CONFIRMATION = "warmup", "interleaved", "confirmation"  # phases of a run
PENDING, OK, SKIPPED, FAILED = "pending", "ok", "skipped", "failed"  # status of a variant
RUNNING, INTERRUPTED, COMPLETE = "running", "interrupted", "complete"  # status of a run
ALL_CASES = "*"  # in the place of a case's name: the sample is a call over all of them
CASE, SERVER, FOLDER = COMMAND_MODES = ("case", "server", "folder")  # how an own command is called
ABSENT_SKIP, ABSENT_ONE = "skip", "one"  # what a structure counts that neither the truth nor a prediction holds
TRUTH, AGREEMENT = "truth", "agreement"  # what predictions are scored against: ground truth, or the baseline's


@dataclass(frozen=True)
class Case:
    """An evaluated case; `subtype` and `mask` are None where the data hold no truth for it.

    `image`: of the first channel, or of all in one file; `further_channels`: files of the others, in their order.
    `mask_labels`: of the task, that the mask holds; None without a mask, and where it was not recorded.
    """

    name: str
    image: str
    mask: str | None
    subtype: int | None
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    further_channels: tuple[str, ...] = ()
    mask_labels: tuple[int, ...] | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """The files of all channels."""
        return (self.image, *self.further_channels)


@dataclass(frozen=True)
class GpuState:
    """A GPU right after a case, by NVML; None is what NVML would not tell.

    Attributes:
        sm_mhz, memory_mhz: clocks. temperature_c: at that moment.
        power_w: of the whole board, from Ampere on as the mean over the second before.
        energy_j: used by the whole board during the case.
        throttled_by: why the clocks were lower than the GPU could have them.
        process_memory_bytes: device memory of this variant's process.
        processes: computing on the device, this one and the run's idle workers included.
    """

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    energy_j: float | None = None
    throttled_by: tuple[str, ...] = ()
    process_memory_bytes: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class SystemLoad:
    """What else the machine did during a case; None is what it would not tell.

    Attributes:
        others: processor cores that other processes used, as a mean over the case.
        stolen: cores that the hypervisor gave to other machines, likewise.
        throttled: cores that had to wait for the CPU quota of the run's control group, likewise; None without a quota.
        mhz: frequency of the processor right after the case, as a mean over its cores.
    """

    others: float | None = None
    stolen: float | None = None
    mhz: float | None = None
    throttled: float | None = None


@dataclass(frozen=True)
class Usage:
    """What a case took beside time; None is what could not be read.

    Attributes:
        memory_byte_s: resident memory of the worker, integrated over the case by the trapezoidal rule.
        flare_memory_mb_s, flare_cpu_pct_s: FLARE's AUC of memory and of CPU use: samples x 0.1 s, whatever lay between.
        cpu_energy_j: of the processor's packages during the case, by RAPL.
    """

    memory_byte_s: float | None = None
    flare_memory_mb_s: float | None = None
    flare_cpu_pct_s: float | None = None
    cpu_energy_j: float | None = None


@dataclass(frozen=True)
class Roi:
    """The part of a volume that a ROI strategy chose.

    Attributes:
        boxes: first voxel along each axis and the one after the last, ``(x0, x1, y0, y1, z0, z1)``; what lies outside
            all of them was given out as background.
        fallback: the strategy found nothing or was unsure, and took the full volume.
        passes, tiles: forward passes, and tiles in them, that it took to choose; they are in the sample's ``tiles`` and
            ``forward``. `reused` of these tiles were also tiles of the region.
    """

    boxes: tuple[tuple[int, ...], ...]
    fallback: bool
    passes: int
    tiles: int
    reused: int


@dataclass(frozen=True)
class Sample:
    """One timed case. Times are nanoseconds of one monotonic clock, the device synchronised on both sides.

    Attributes:
        round: from 0; all variants of a round see the same case one after the other, in random order.
        case: its name; `ALL_CASES` of a call that ran all cases, none of which has a time of its own.
        case_ns: file on disk to mask and class on disk; the stages lie within it.
        stages_ns: nanoseconds in each of `STAGES`; ``forward`` is the engine alone on resident tiles.
        device_ns: the forward by the GPU's events, as its stage is too in our own pipeline; None on a CPU.
        tiles: forward tiles in the case; a mirrored pass over one is one more, and an ensemble's networks share it.
        subtype: predicted class; None where the network has no classification.
        started_unix_s: when it started.
        cpu_ns: processor time the worker spent, all threads, and what it started.
        gpu: None on a CPU, and where there is no NVML.
        workers: workers of the run that were alive, this one included.
        launch: of the worker processes: from 0, counted up each time they are started anew.
        system_load, usage: None where they were not taken.
        roi: None with the strategy ``none``.
        classes: of a call over all cases, the predicted class of each, None without; None of a single case.
        class_checked: whether a lower precision left the class uncertain, and it was computed again in FP32.
        shard: of a run that was merged of shards, the number of its own; 0 in others. Rounds and launches are the
            shard's.

    Raises:
        ValueError: the case took no time, or something less than none.
    """

    phase: str
    round: int
    case: str
    case_ns: int
    stages_ns: Mapping[str, int]
    device_ns: int | None
    tiles: int
    subtype: int | None
    started_unix_s: float
    cpu_ns: int
    gpu: GpuState | None = None
    workers: int | None = None
    launch: int = 0
    system_load: SystemLoad | None = None
    usage: Usage | None = None
    roi: Roi | None = None
    classes: Mapping[str, int | None] | None = None
    class_checked: bool = False
    shard: int = 0

    @property
    def subtypes(self) -> Mapping[str, int | None]:
        """Predicted classes, by the names of the cases that it ran."""
        return {self.case: self.subtype} if self.classes is None else self.classes

    def __post_init__(self) -> None:
        if self.case_ns <= 0:
            raise ValueError(f"a case of {self.case_ns} ns")
        least = min([*self.stages_ns.values(), self.device_ns or 0, self.cpu_ns])
        if least < 0:
            raise ValueError(f"a time of {least} ns")


@dataclass(frozen=True, kw_only=True)
class StructureRecord:
    """A named set of labels that is scored.

    Attributes:
        labels: of it in masks; empty for every label above 0.
        nsd_tolerance_mm: of its surface distance; None where that is not scored.
        predicted: whether the network can find it.
        max_dsc_drop, max_nsd_drop: its own margins; None for those of the run.
        dsc_target, nsd_target: what is asked of the network; None without.
        critical: a ROI must not lose a voxel of it.
    """

    labels: tuple[int, ...] = ()
    nsd_tolerance_mm: float | None = None
    predicted: bool = True
    max_dsc_drop: float | None = None
    max_nsd_drop: float | None = None
    dsc_target: float | None = None
    nsd_target: float | None = None
    critical: bool = True


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What the network is for, as `models.task.Task` says.

    Attributes:
        structures: that are scored, by name.
        classes: of a case, 0 without a classification; `class_names` where they have any.
        name, channels, labels, ignore, f1_target: as of the task; empty in runs made before they were recorded.
        sources: where each part came from, in words.
    """

    structures: Mapping[str, StructureRecord]
    classes: int
    class_names: tuple[str, ...] = ()
    name: str = ""
    channels: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    ignore: int | None = None
    f1_target: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StructureScore:
    """One structure of one predicted case; None without a mask, and where the network cannot find it.

    The mask is that of the truth; in a run that is judged by agreement it is the baseline's.

    Attributes:
        dsc: Dice similarity with the mask.
        nsd: normalised surface distance.
        outside: voxels of the truth outside the boxes of the sample's `Roi`; None without one.
        absent: neither the mask nor the prediction holds a voxel of it; then both scores are 1.

    Raises:
        ValueError: a score is not between 0 and 1, NaN among them.
    """

    dsc: float | None = None
    nsd: float | None = None
    outside: int | None = None
    absent: bool = False

    def __post_init__(self) -> None:
        for name, value in (("dsc", self.dsc), ("nsd", self.nsd)):
            if value is not None and not 0 <= value <= 1:  # NaN is not either
                raise ValueError(f"a {name} of {value}, where a score lies between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Score:
    """The accuracy of one predicted case, or its agreement with the baseline's, from the files on disk.

    Attributes:
        structures: by their names in the run's task.
        subtype: predicted class, or None; `baseline_subtype`: what the baseline predicted.
        voxels: voxels compared; `differing_voxels`: those labelled otherwise than by the baseline.
    """

    case: str
    structures: Mapping[str, StructureScore]
    subtype: int | None
    baseline_subtype: int | None
    voxels: int
    differing_voxels: int


@dataclass(frozen=True)
class EvidenceRecord:
    """What ran, as the runtime reports it.

    Attributes:
        provider: the runtime and its device, e.g. ``CPUExecutionProvider``.
        mac_share: share of the multiply-accumulates in each precision.
        details: the rest, by name.
    """

    provider: str
    mac_share: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CommandRecord:
    """A command of the user's that predicts cases.

    Attributes:
        line: as the user wrote it, with its placeholders.
        mode: one of `COMMAND_MODES`: a process for each case, one that is started once, or a call over all cases.
        classes: the table that it writes, from which the classes of cases are read; empty without.
        folder: in which it runs.
        files: SHA-256 of each file that the line names, by that name, as it was when the run began; empty of one that
            may be run but not read. None in runs of older versions.
    """

    line: str
    mode: str
    classes: str = ""
    folder: str = ""
    files: Mapping[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.line} (mode {self.mode}{f', classes from {self.classes}' if self.classes else ''})"


@dataclass(frozen=True, kw_only=True)
class VariantSettings:
    """What a variant is made of.

    Attributes:
        backend: or reference pipeline, by its name in their table; ``command`` for an own command, of which `roi`,
            `overlap` and `batch` say nothing.
        batch: tiles in every forward pass.
        tta: test-time augmentation: ``none``, or ``mirror:x,y`` with the axes of the network's input.
        rewrites: exact ones of the network, by name.
        tile: sides in voxels; None for the run's, as for what follows.
        margin_mm: around what the ROI finds.
        streams: tiles that OpenVINO runs side by side.
        threads: of the CPU pool.
        int8_dice: Dice with FP32's masks of the calibration tiles below which OpenVINO puts layers back to float.
        repeat: 1, and 2 for the second variant of the same backend and batch.
        recipe: whether the user named it in a TOML file.
        command: of the user's, which then is all that it is made of.
    """

    backend: str
    roi: str
    overlap: float
    batch: int
    tta: str = "none"
    rewrites: tuple[str, ...] = ()
    tile: tuple[int, int, int] | None = None
    margin_mm: float | None = None
    streams: int | None = None
    threads: int | None = None
    int8_dice: float | None = None
    repeat: int = 1
    recipe: bool = False
    command: CommandRecord | None = None

    @property
    def one_call(self) -> bool:
        """Whether a single call runs all cases, so that none has a time of its own."""
        return self.command is not None and self.command.mode == FOLDER

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of the files that an own command names; of all else, and where it is not recorded, there are none."""
        return (self.command.files if self.command is not None else None) or {}

    @property
    def without_files(self) -> "VariantSettings":
        """The same, as if it were not recorded what the files of a command held."""
        return self if self.command is None else replace(self, command=replace(self.command, files=None))

    def __str__(self) -> str:
        if self.command is not None:
            return str(self.command)
        return ", ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        margin = "" if self.margin_mm is None else f" with {self.margin_mm:g} mm"
        yield f"{self.backend}, ROI {self.roi}{margin}, overlap {self.overlap:g}, batch {self.batch}"
        if self.tile is not None:
            yield f"tile {' x '.join(map(str, self.tile))}"
        if self.tta != "none":
            yield f"test-time augmentation {self.tta}"
        if self.rewrites:
            yield f"rewritten: {' and '.join(self.rewrites)}"
        counts = {"streams": self.streams, "threads": self.threads}
        yield from (f"{count} {what}" for what, count in counts.items() if count is not None)
        if self.int8_dice is not None:
            yield f"INT8 to a Dice of {self.int8_dice:g}"


@dataclass(frozen=True, kw_only=True)
class VariantRecord:
    """Everything one variant did in a run.

    Attributes:
        settings: what it is made of.
        status: `PENDING` until its last sample, then `OK`; or `SKIPPED`, `FAILED`.
        reason, fix: why it was skipped or failed, and the command or step that would mend it.
        left: why it left the rounds before their end, since nothing more of it would have changed the run's answer;
            empty where it did not.
        log: the worker's log, relative to the run directory.
        build_s: seconds to build the engine (or load it from the cache) and warm it up.
        build_cached: the artefacts came from the cache.
        built_beside: how many others were being built at the same time at most, which makes `build_s` longer.
        peak_memory_bytes: largest resident set of the worker (CPU), or device memory (CUDA): of its process by NVML,
            else what the device's use grew by while it was built, else what PyTorch alone took.
        evidence: what ran; None where it was not built.
        noise: for the baseline, how often it disagrees with itself: ``voxels``, ``differing_voxels`` and, with a
            classification, ``class_flips``.
        warmup: ``passes`` and ``seconds`` over a random tile after the build, and ``stable``, 1 where its times had
            settled; those of a later start carry its number, as in ``passes_1``.
    """

    name: str
    settings: VariantSettings
    status: str = PENDING
    reason: str | None = None
    fix: str | None = None
    left: str = ""
    log: str | None = None
    build_s: float | None = None
    build_cached: bool = False
    built_beside: int = 0
    peak_memory_bytes: int | None = None
    evidence: EvidenceRecord | None = None
    samples: tuple[Sample, ...] = ()
    scores: tuple[Score, ...] = ()
    noise: Mapping[str, int] = field(default_factory=dict)
    warmup: Mapping[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it was neither skipped nor failed; else what it gave before counts nothing."""
        return self.status not in (SKIPPED, FAILED)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user chose, held equal for every variant of the run but its recipes.

    Attributes:
        variants: everything that is timed, by name, the baseline first.
        rounds: number of rounds, or None for as many as the claim needs within `budget_s`.
        threads: size of each worker's CPU thread pool; 0 in a run merged of shards that had unlike ones.
        min_reduction_pct, max_dsc_drop, max_nsd_drop, max_f1_drop: the claim and its margins.
        timeout_s: seconds one step of a worker may take.
        allocator: ``keep`` where the workers kept the memory that they freed, ``system`` where it went back.
        absent: of a case where neither the truth nor both predictions of a pair hold a structure, its scores count
            nothing (`ABSENT_SKIP`) or 1 (`ABSENT_ONE`, as in runs made before it could be chosen).
        preprocessing: ``nnunet`` where a network of nnU-Net was to have its own functions around it.
        plan_sha256: of the plan that the run was held to; empty without.
        accuracy: what the predictions are scored against, `TRUTH` or `AGREEMENT`; the margins above are of the truth.
        min_agreement_dsc, min_agreement_nsd: required of the mean of each structure's score to the baseline's mask.
        min_worst_dsc: required of the DSC of each case. max_class_changes: share of cases that may have another class.
        tta: as of a variant.
        race: whether variants leave the rounds once nothing more of them would change the answer.
        shard: ``3/8`` of the third of eight shards of a run; empty of a whole one, and of one that was merged.
    """

    variants: Mapping[str, VariantSettings]
    device: str
    protocol: str
    overlap: float
    roi: str
    tile: tuple[int, int, int]
    batch: int
    rounds: int | None
    budget_s: float
    threads: int
    seed: int
    min_reduction_pct: float
    max_dsc_drop: float
    max_f1_drop: float
    required: tuple[str, ...]
    timeout_s: float
    max_nsd_drop: float
    allocator: str
    absent: str = ABSENT_ONE
    preprocessing: str = "auto"
    plan_sha256: str = ""
    accuracy: str = TRUTH
    min_agreement_dsc: float = 0.995
    min_agreement_nsd: float = 0.99
    min_worst_dsc: float = 0.95
    max_class_changes: float = 0.10
    tta: str = "none"
    race: bool = False
    shard: str = ""

    @property
    def recipes(self) -> dict[str, VariantSettings]:
        """The variants that the user named in a TOML file."""
        return {name: variant for name, variant in self.variants.items() if variant.recipe}

    @property
    def commands(self) -> dict[str, VariantSettings]:
        """The variants that are own commands."""
        return {name: variant for name, variant in self.variants.items() if variant.command}


@dataclass(frozen=True, kw_only=True)
class OptionsRecord:
    """What the user said about the network: factory, tile, window, file that may run code, file with its task."""

    arch: str | None = None
    tile: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None
    trust: str | None = None
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """A trained network, and what was read of it.

    Attributes:
        sha256: of the file; `weights_sha256`: of the weights as they are run.
        members: the same of the weights of an ensemble's further networks, which lie at `further_paths`.
        demo: it is the bundled one; `widened_to`: channels of its first level, None for as many as it has.
        width: channels of the first level; `parameters`: their number.
        labels: of a mask, by class; `subtypes`: classes of a case, 0 without a classification.
        code: hash of the code of the user's that was run to build it; empty without any.
        macs_per_tile, activations_per_tile: multiply-accumulates, and elements of the layers' inputs and outputs;
            `layer_weights`: elements of all weights; of an ensemble the sums over its networks, and `parameters` those
            of one. None where they were not counted.
        training_metrics: what the file says of its own accuracy, by its own names.
    """

    path: str
    sha256: str
    weights_sha256: str
    members: tuple[str, ...] = ()
    further_paths: tuple[str, ...] = ()
    demo: bool
    widened_to: int | None = None
    options: OptionsRecord = field(default_factory=OptionsRecord)
    architecture: str
    width: int
    parameters: int
    labels: tuple[int, ...]
    subtypes: int
    code: str = ""
    remarks: tuple[str, ...] = ()
    macs_per_tile: int | None = None
    activations_per_tile: int | None = None
    layer_weights: int | None = None
    container: str
    wrappers: tuple[str, ...] = ()
    training_metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The cases' folder, and `sha256` over their files; `calibration_cases`: those that INT8 ranges were taken from.

    `calibration_sha256`: of the tiles that INT8 variants take these ranges from; empty without, and in runs made before
    it was recorded. Of a shard all of this is of the whole run. `mask_values`: pairs of a value in the masks and the
    label of the task that it stands for; empty where the masks hold the task's own labels. `remarks`: what their files
    say that a reader of the report should know, one line each.
    """

    root: str
    layout: str
    split: str
    sha256: str
    demo: bool
    calibration_cases: tuple[str, ...] = ()
    mask_values: tuple[tuple[int, int], ...] = ()
    remarks: tuple[str, ...] = ()
    calibration_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class HostRecord:
    """A machine; what is None is not there, was not recorded, or is unlike on the machines of a merged run.

    Attributes:
        processor: of a merged run each that its machines have.
        cpu_features: instruction sets that networks use.
        cores: logical ones that the run could use; `physical_cores`: on which they lie. `machine_cores`: of the machine
            where it has more.
        cpu_quota: processor time that the run could have, in CPUs, where a control group allowed less than `cores`.
        memory_bytes: of the machine; `memory_limit_bytes`: that a control group allowed, where that is less.
        remarks: what a reader of the report should know of it, one line each.
    """

    processor: str
    cpu_features: str | None = None
    cores: int | None
    physical_cores: int | None = None
    machine_cores: int | None = None
    cpu_quota: float | None = None
    memory_bytes: int | None
    memory_limit_bytes: int | None = None
    system: str | None = None
    python: str | None = None
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    power_limit_w: float | None = None
    cuda: str | None = None
    remarks: tuple[str, ...] = ()

    def known(self) -> dict[str, Any]:
        """The facts that are known; the remarks on them are no facts."""
        return {name: value for name, value in vars(self).items() if value is not None and name != "remarks"}


@dataclass(frozen=True, kw_only=True)
class ConfirmationRecord:
    """How much the confirmation measures, fixed before it begins.

    Attributes:
        cases: names of those that are timed.
        launches: of the pair of processes.
        rounds: over these cases, spread over the launches.
        repeated: how many of `cases`, its first ones, every launch times; each of the others is timed in one launch
            alone. None in runs of older versions, whose launches had all.
    """

    cases: tuple[str, ...]
    launches: int
    rounds: int
    repeated: int | None = None

    @property
    def of_every_launch(self) -> tuple[str, ...]:
        """Names of the cases that every launch times."""
        return self.cases[: self.repeated]

    def of_launch(self, number: int) -> tuple[str, ...]:
        """Names of the cases that launch `number` times, counted from 0."""
        alone = self.cases[len(self.of_every_launch) :]
        return self.of_every_launch + alone[number :: self.launches]


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A run of some of the cases that was merged into another, with what was its own.

    Attributes:
        number: from 1. id, created, command: as of its run.
        cases: names of those that it ran.
        threads: of each worker. device: where the network ran.
        evidence: what ran, by variant, without the details.
        confirmed: the variant that it confirmed; None where all that it ran were refuted. confirmation: how much that
            pass measured.
    """

    number: int
    id: str
    created: str
    command: str
    cases: tuple[str, ...]
    host: HostRecord
    threads: int
    device: str
    evidence: Mapping[str, EvidenceRecord] = field(default_factory=dict)
    confirmed: str | None = None
    confirmation: ConfirmationRecord | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What was run, on what, and with which settings.

    Attributes:
        command: the command line, as typed.
        versions: of every runtime.
        controlled_settings: what is held equal between the variants, name to value.
        peak_flops: operations a second of a large matrix product on the device, by precision; measured with the run.
        peak_libraries: whose product that was, by precision.
        groups: variants that were open together, the baseline in each.
        peak_bytes_per_s: that a large copy on the device reads and writes a second; None where it was not measured.
        baseline: name of the variant that all others are held against; `baseline_chosen`: the user named it, so that it
            is another than usual.
        confirmed: name of the variant that was chosen for the confirmation pass; None before it.
        confirmation: how much that pass measures; None before it, and in runs of older versions, which took all cases.
        peers: variants that are what is run elsewhere, there to be compared with; they make no claim.
        declared: when the plan that the run was held to was declared; empty without.
        listed_cases: names of the cases of all shards, where the run is a shard; empty elsewhere.
        shards: that it was merged of, where it was. Then `confirmed` is what all of them confirmed, None where that is
            unlike, and what is of one machine or one time line is empty: the peaks, the groups, the confirmation, and
            the build of each variant.
    """

    id: str
    created: str
    command: str
    settings: Settings
    checkpoint: CheckpointRecord
    data: DataRecord
    task: TaskRecord
    cases: tuple[Case, ...]
    host: HostRecord
    versions: Mapping[str, str]
    controlled_settings: Mapping[str, str]
    baseline: str
    status: str = RUNNING
    confirmed: str | None = None
    peak_flops: Mapping[str, float] = field(default_factory=dict)
    peak_bytes_per_s: float | None = None
    schema: int = SCHEMA
    groups: tuple[tuple[str, ...], ...] = ()
    peers: tuple[str, ...] = ()
    peak_libraries: Mapping[str, str] = field(default_factory=dict)
    declared: str = ""
    baseline_chosen: bool = False
    confirmation: ConfirmationRecord | None = None
    listed_cases: tuple[str, ...] = ()
    shards: tuple[ShardRecord, ...] = ()

    @property
    def threads(self) -> str:
        """The size of each worker's CPU thread pool, in figures; of shards with unlike ones the least and the most."""
        own = sorted({shard.threads for shard in self.shards} or {self.settings.threads})
        return str(own[0]) if len(own) == 1 else f"{own[0]} to {own[-1]}"

    @property
    def classifies(self) -> bool:
        """Whether the network gives a case a class."""
        return self.task.classes > 0
