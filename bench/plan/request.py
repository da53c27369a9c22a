"""What the user asks of a run; the defaults of its options stand here alone."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from bench.shard import Shard
from models.options import ModelOptions
from models.task_file import read_task
from reports.records.record import Settings, VariantSettings


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for; None where an option was left out and the default depends on something else.

    `variants`: timed beside those that the options name, such as that of a package. `cases`: names of those that are
    taken of the split, all without. `tuning`: they are searched on and prove nothing, so that INT8 may be calibrated on
    some of them. `folder`: where own commands run, and what their paths begin at; None for the current one.
    """

    checkpoint: Path | None = None
    further_checkpoints: tuple[Path, ...] = ()
    folds: str | None = None
    model_options: ModelOptions = field(default_factory=ModelOptions)
    task: Path | None = None
    data: Path | None = None
    demo: str = "pancreas"
    demo_width: int | None = None
    split: str = "validation"
    backends: str | None = None
    recipes: str | None = None
    baseline: str | None = None
    commands: Sequence[str] = ()
    variants: Mapping[str, VariantSettings] = field(default_factory=dict)
    device: str = "auto"
    protocol: str = "sliding-window"
    overlap: float | None = None
    roi: str = "none"
    preprocessing: str = "auto"
    tta: str = "none"
    batch: int = 1
    rounds: int | None = None
    budget_s: float | None = None
    race: str | None = None
    shard: Shard | None = None
    max_cases: int | None = None
    cases: tuple[str, ...] = ()
    tuning: bool = False
    threads: int | None = None
    allocator: str | None = None
    seed: int = 0
    min_reduction_pct: float = 10.0
    max_dsc_drop: float = 0.005
    max_nsd_drop: float = 0.01
    max_f1_drop: float = 0.02
    accuracy: str = "auto"
    min_agreement_dsc: float = Settings.min_agreement_dsc
    min_agreement_nsd: float = Settings.min_agreement_nsd
    min_worst_dsc: float = Settings.min_worst_dsc
    max_class_changes: float = Settings.max_class_changes
    absent: str = "skip"
    required: str = ""
    timeout_s: float = 1800.0
    folder: Path | None = None
    command: str = field(default="bench run", compare=False)

    @classmethod
    def of(cls, options: Namespace) -> "Request":
        """What the command line says: `options` are named like the fields; what a command lacks has its default.

        Raises:
            models.task.TaskError: the file of ``--task`` cannot be used.
        """
        values = {each.name: getattr(options, each.name) for each in fields(cls) if hasattr(options, each.name)}
        if values["checkpoint"] is not None:  # several are an ensemble
            values["checkpoint"], *further = values["checkpoint"]
            values["further_checkpoints"] = tuple(further)
        return cls(**values | {"model_options": model_options(options), "command": options.typed})

    def whole_paths(self) -> "Request":
        """The same for another folder, or another machine that has the files where they are here."""
        options = self.model_options
        file, _, factory = (options.arch or "").rpartition(":")
        built_in = self.recipes in (None, "builtin")
        return replace(
            self,
            checkpoint=_whole(self.checkpoint),
            further_checkpoints=tuple(path.absolute() for path in self.further_checkpoints),
            task=_whole(self.task),
            data=_whole(self.data),
            folder=(self.folder or Path()).absolute(),
            recipes=self.recipes if built_in else str(Path(str(self.recipes)).absolute()),
            model_options=replace(
                options,
                arch=None if options.arch is None else f"{Path(file).absolute()}:{factory}",
                trust=_whole(options.trust),
            ),
        )


def _whole(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def model_options(options: Namespace) -> ModelOptions:
    """What the command line says of the network.

    Raises:
        models.task.TaskError: the file of ``--task`` cannot be used.
    """
    task = None if options.task is None else read_task(options.task)
    return ModelOptions(options.arch, options.tile, options.window, options.trust, task)
