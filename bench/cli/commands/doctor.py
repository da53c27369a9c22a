"""Which backends can run here. Asked in a worker, since a broken installation can take its process along."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import engines
from bench.cli import stability
from bench.cli.exit_codes import DONE
from bench.errors import InputError
from bench.machine import host
from bench.plan.cache import cache_folder, prepare_cache
from bench.worker.process import CallError, WorkerError, WorkerLostError, WorkerProcess
from bench.worker.questions import find_device, find_faults, probe, try_import
from engines.base import Availability, Backend, Calibration, Target
from reports.formatting import count

if TYPE_CHECKING:
    from torch import Tensor

_TIMEOUT_S = 120.0
T = TypeVar("T")


@dataclass(frozen=True)
class Findings:
    """What `bench doctor` shows.

    Attributes:
        device: the backends were asked about this one.
        gpu: the CUDA device; why there is none, where there is none.
        versions: of the packages that are installed.
        remarks: limits of this process, and known faults of what is installed, one line each.
    """

    machine: dict[str, Any]
    device: str
    gpu: dict[str, Any] | Availability
    versions: dict[str, str]
    backends: dict[str, Availability]
    remarks: tuple[str, ...] = ()


def execute(options: Namespace) -> int:
    """`bench doctor`."""
    as_json = options.format == "json"
    if options.stability:
        try:
            measured = stability.measure(options.device)
        except WorkerError as error:
            raise InputError(str(error)) from None
        print(json.dumps(stability.document(measured), indent=2) if as_json else stability.text(measured))
        return DONE
    prepare_cache(lambda line: print(line, file=sys.stderr))
    findings = examine(options.device)
    print(json.dumps(document(findings), indent=2) if as_json else text(findings))
    return DONE


def examine(wanted: str) -> Findings:
    """Ask every backend whether it can run on `wanted`, and import the packages of those that say so."""
    record, versions = host.describe("cpu"), host.versions()
    machine, limits = record.known(), host.limits_of(record)
    with closing(_Patient()) as patient:
        choice = patient.call(find_device, wanted)
        if isinstance(choice, str):
            broken = Availability(False, f"PyTorch does not work here: {choice}", _reinstall("torch"))
            device = "cpu" if wanted == "auto" else wanted
            return Findings(machine, device, broken, versions, dict.fromkeys(engines.BACKENDS, broken), limits)
        # Whether a data folder has training cases is not the machine's matter: assume them.
        calibration = Calibration(tiles=_no_tiles, sha256="")
        target = Target(choice.device, (64, 64, 64), 1, host.physical_threads(), cache_folder(), calibration)
        backends = {name: patient.examine(name, backend, target) for name, backend in engines.BACKENDS.items()}
        faults = patient.call(find_faults, choice.device)
    remarks = (*limits, *((faults,) if isinstance(faults, str) else faults))
    return Findings(machine, choice.device, choice.absent or choice.gpu, versions, backends, remarks)


class _Patient:
    """A worker that is replaced when a question was its last."""

    def __init__(self) -> None:
        self._worker = self._new()
        self._broken: dict[str, str | None] = {}  # by package

    def call(self, function: Callable[..., T], *arguments: Any) -> T | str:
        """What `function` returns; a text that says what broke, where something did."""
        try:
            return self._worker.call(function, *arguments, timeout_s=_TIMEOUT_S)
        except CallError as error:
            return str(error)
        except WorkerLostError as lost:
            self.close()
            self._worker = self._new()
            return str(lost)

    def examine(self, name: str, backend: Backend, target: Target) -> Availability:
        answer = self.call(probe, name, backend, target)
        if isinstance(answer, str):
            return Availability(False, f"it broke when asked: {answer}", "reinstall its packages")
        for package in answer.packages:
            if package not in self._broken:
                self._broken[package] = self.call(try_import, package)
            broke = self._broken[package]
            if broke is not None:
                return Availability(False, f"importing {package} fails: {broke}", _reinstall(package))
        return answer

    def close(self) -> None:
        self._worker.stop()

    def _new(self) -> WorkerProcess:
        return WorkerProcess(host.physical_threads())


def _reinstall(package: str) -> str:
    distributions = metadata.packages_distributions().get(package) or [package]
    return f"pip install --force-reinstall --no-deps {distributions[0]}"


def text(findings: Findings) -> str:
    """For the terminal."""
    machine, gpu = findings.machine, findings.gpu
    lines = [
        f"{machine['processor']} ({machine['cpu_features']}), {count(machine['cores'], 'core')}, "
        f"{_gibibytes(machine['memory_bytes'])}; {machine['system']}, Python {machine['python']}"
    ]
    if isinstance(gpu, Availability):
        lines += [f"no CUDA device: {gpu.reason}", f"  -> {gpu.fix}"]
    else:
        limit = f", limited to {gpu['power_limit_w']:.0f} W" if gpu["power_limit_w"] else ""
        capability = f"compute capability {gpu['compute_capability']}"
        lines.append(
            f"{gpu['gpu']}, {_gibibytes(gpu['gpu_memory_bytes'])}, {capability}{limit}, driver {gpu['driver']}"
        )
    lines += [", ".join(f"{name} {version}" for name, version in findings.versions.items())]
    lines += [*(f"note: {remark}" for remark in findings.remarks), ""]
    width, fixes = max(map(len, findings.backends)), set[str | None]()
    for name, row in findings.backends.items():
        lines.append(f"{name:<{width}}  {'ok' if row.ok else f'no: {row.reason}'}")
        if row.fix and row.fix not in fixes:
            lines.append(f"{'':<{width}}  -> {row.fix}")
        fixes.add(row.fix)
    ready = sum(row.ok for row in findings.backends.values())
    lines += ["", f"{ready} of {len(findings.backends)} backends can run on {findings.device}"]
    return "\n".join(lines)


def _gibibytes(value: int) -> str:
    return f"{value / 2**30:.1f} GiB"


def document(findings: Findings) -> dict[str, Any]:
    """For JSON."""
    fields = asdict(findings)
    gpu = fields.pop("gpu")
    absent = isinstance(findings.gpu, Availability)
    return {"schema": 1, **fields, "gpu": None if absent else gpu, "no_gpu": gpu if absent else None}


def _no_tiles() -> "Tensor":
    raise AssertionError("a probe reads no tiles")
