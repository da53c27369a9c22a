"""How near a variant's forward comes to what the device can do at most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan

from reports.records.record import RunRecord, Sample, VariantRecord
from reports.stats.scores import median

_NEGLIGIBLE = 1e-3  # share of the MACs in a precision whose peak may be unknown
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}  # of an element


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """The work of a case against the device's measured peaks; NaN where either is unknown.

    The roofline (Williams, Waterman and Patterson 2009): a device that computes and moves memory at once needs the
    longer of the two times.

    Attributes:
        floor_s: the longer of `arithmetic_s` and `traffic_s`; the former where the latter is unknown.
        share: floor over the measured forward, in the median; above 1 where a library beats the product that set the
            peak or keeps layers' outputs in the cache.
        flops: operations a second that the forward reached, two for each multiply-accumulate.
        arithmetic_s: seconds that the multiply-accumulates of a case take at the peak, in the median over the samples.
        traffic_s: seconds that moving each layer's input and output once a tile and the weights once a case takes, in
            the narrowest precision that ran.
    """

    floor_s: float = nan
    share: float = nan
    flops: float = nan
    arithmetic_s: float = nan
    traffic_s: float = nan


def roofline(record: RunRecord, variant: VariantRecord, samples: Sequence[Sample]) -> Roofline:
    """Figures of one variant. Tiles that only fill a batch are not counted as work. Of shards there are none: each ran
    on a device of its own.
    """
    if record.shards:
        return Roofline()
    macs = record.checkpoint.macs_per_tile
    forward = [sample.stages_ns.get("forward", 0) / 1e9 for sample in samples]
    if not macs or not samples or not all(forward) or variant.settings.tile is not None:  # whose work is another
        return Roofline()
    operations = [2 * macs * sample.tiles for sample in samples]
    mac_share = variant.evidence.mac_share if variant.evidence else {}
    shares = {name: part for name, part in mac_share.items() if part > _NEGLIGIBLE}
    rate = _peak_rate(record.peak_flops, shares)
    arithmetic = [count / rate for count in operations]
    traffic = [_traffic_s(record, shares, sample.tiles) for sample in samples]
    floors = [max(a, t) if isfinite(t) else a for a, t in zip(arithmetic, traffic, strict=True)]
    return Roofline(
        floor_s=median(floors),
        share=median([floor / spent for floor, spent in zip(floors, forward, strict=True)]),
        flops=median([count / spent for count, spent in zip(operations, forward, strict=True)]),
        arithmetic_s=median(arithmetic),
        traffic_s=median(traffic),
    )


def _peak_rate(peak: Mapping[str, float], share: Mapping[str, float]) -> float:
    """Operations a second at the peak, for this mixture of precisions; NaN where one has no measured peak."""
    if not share or any(not peak.get(name) for name in share):
        return nan
    return sum(share.values()) / sum(part / peak[name] for name, part in share.items())


def _traffic_s(record: RunRecord, share: Mapping[str, float], tiles: int) -> float:
    """Seconds at the measured bandwidth. The narrowest precision, and weights once, keep it from being too long."""
    activations, weights = record.checkpoint.activations_per_tile, record.checkpoint.layer_weights
    if not record.peak_bytes_per_s or not activations or weights is None or not share.keys() <= _BYTES.keys():
        return nan
    size = min((_BYTES[name] for name in share), default=nan)
    return float(size * (activations * tiles + weights) / record.peak_bytes_per_s)
