"""How near a backend's forward comes to what the device can do at most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from reports.record import BackendRecord, RunRecord, Sample
from reports.statistics import median

_NEGLIGIBLE = 1e-3  # share of the MACs in a precision whose peak may be unknown


@dataclass(frozen=True)
class Limit:
    """The arithmetic of a case against the device's measured peak; NaN where either is unknown.

    The roofline's flat part (Williams, Waterman and Patterson 2009, Roofline): operations over the peak rate of the
    precision they ran in. Memory may set a higher floor.

    Attributes:
        floor_s: seconds that the multiply-accumulates of a case take at the peak, in the median over the samples.
        share: floor over the measured forward, in the median; above 1 where a library beats PyTorch's matrix product.
        flops: operations a second that the forward reached, two for each multiply-accumulate.
    """

    floor_s: float = nan
    share: float = nan
    flops: float = nan


def limit(record: RunRecord, backend: BackendRecord, samples: Sequence[Sample]) -> Limit:
    """Figures of one backend. Tiles that only fill a batch are not counted as work."""
    macs = record.checkpoint.get("macs_per_tile")
    forward = [sample.stages_ns.get("forward", 0) / 1e9 for sample in samples]
    if not macs or not samples or not all(forward):
        return Limit()
    operations = [2 * macs * sample.tiles for sample in samples]
    rate = _rate(record.peak_flops, backend.evidence.get("mac_share") or {})
    floors = [count / rate for count in operations]
    return Limit(
        median(floors),
        median([floor / spent for floor, spent in zip(floors, forward, strict=True)]),
        median([count / spent for count, spent in zip(operations, forward, strict=True)]),
    )


def _rate(peak: Mapping[str, float], share: Mapping[str, float]) -> float:
    """Operations a second at the peak, for this mixture of precisions; NaN where one has no measured peak."""
    counted = {name: part for name, part in share.items() if part > _NEGLIGIBLE}
    if not counted or any(not peak.get(name) for name in counted):
        return nan
    return sum(counted.values()) / sum(part / peak[name] for name, part in counted.items())
