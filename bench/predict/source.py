"""What predicts: a run's variant, a package, or a checkpoint with a backend."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import InputError
from bench.package.document import is_package
from bench.package.opening import open_package
from bench.plan.opening import Opening, of_checkpoint, of_run
from bench.plan.request import Request
from bench.progress import Progress
from reports.records.store import RUN_FILE


@dataclass(frozen=True)
class Source:
    """What the user named, and how a checkpoint is to be run.

    Attributes:
        variant: of a run; None for its winner. backend: of a checkpoint; None for what a baseline would be.
        request: the options of a checkpoint, which is the source itself.
        chosen: the options that were given and belong to a checkpoint alone, as typed.
    """

    path: Path
    variant: str | None
    backend: str | None
    request: Request
    chosen: tuple[str, ...] = ()

    def open(self, progress: Progress) -> Opening:
        """Check it.

        Raises:
            InputError and its like: it cannot be used, or options do not fit what it is.
        """
        if (self.path / RUN_FILE).is_file():
            self._refuse_chosen("a run says itself how its variants run", self.chosen)
            return of_run(self.path, self.variant, progress, self.request.threads)
        named = () if self.variant is None else ("--variant",)
        if is_package(self.path):
            self._refuse_chosen("a package says itself how it is run", (*named, *self._but_of_package()))
            trust = self.request.model_options.trust
            return open_package(self.path, self.request.device, self.request.threads, trust)
        self._refuse_chosen(f"chooses among the variants of a run, and there is no {RUN_FILE} here", named)
        return of_checkpoint(self.request, self.backend, progress)

    @property
    def is_package(self) -> bool:
        """Whether all that predicts lies in one folder, which can be sent."""
        return is_package(self.path)

    def sent(self) -> "Source":
        """The same for another machine: with whole paths, and without the command line, which may name cases."""
        return replace(
            self,
            path=self.path.absolute(),
            request=replace(self.request.whole_paths(), command=Request.command),
        )

    def on(self, device: str, threads: int) -> "Source":
        """The same on this device and so many threads."""
        return replace(self, request=replace(self.request, device=device, threads=threads))

    def moved(self, folder: Path) -> "Source":
        """The same package in another folder, where it is trusted as it was."""
        options = self.request.model_options
        trust = folder if options.trusts(self.path) else options.trust
        return replace(self, path=folder, request=replace(self.request, model_options=replace(options, trust=trust)))

    def _but_of_package(self) -> tuple[str, ...]:
        return tuple(option for option in self.chosen if option not in ("--device", "--trust"))

    def _refuse_chosen(self, why: str, options: tuple[str, ...]) -> None:
        if options:
            raise InputError(f"{self.path}: {options[0]}: {why}; leave the option out")
