"""The report's shards: what each machine of a merged run was, and what it alone shows."""

from reports import formatting
from reports.analysis.shards import ShardTimes
from reports.formatting import NOT_MEASURED
from reports.render.commonmark import section, table, text
from reports.summary.summary import Summary


def shards_section(summary: Summary) -> str:
    """A row for each shard; empty of a run that was not merged."""
    if not summary.shards:
        return ""
    head = ["shard", "machine", "cores", "threads", "cases", f"{text(summary.record.baseline)}, case median"]
    name = summary.cases_of
    if name is not None:
        head.append(f"{text(name)}, case time reduction")
    samples = "confirmation" if summary.confirmation else "interleaved"
    note = (
        "Each shard ran its part of the cases by itself, every sample beside the baseline's on the same machine. "
        f"Reductions are by the shard's own {samples} samples, bounds with one-sided 95 % confidence; the figures of "
        "the whole take the shard as a level of its own. Seconds in the other tables are over all shards. The peaks of "
        "the devices, builds, the course in time, drift and times by tiles are of one machine each, and stand in the "
        "shards' own reports."
    )
    body = [_row(own, with_variant=name is not None) for own in summary.shards]
    return section("Shards", table(head, body, (1,)), note)


def _row(own: ShardTimes, *, with_variant: bool) -> list[str]:
    shard, r = own.shard, own.case.reduction
    machine = shard.host.processor
    if shard.device.startswith("cuda") and shard.host.gpu:
        machine = f"{shard.host.gpu}, {machine}"
    cells = [
        str(shard.number), text(machine), str(shard.host.cores or NOT_MEASURED), str(shard.threads),
        str(len(shard.cases)), formatting.seconds(own.baseline_s),
    ]  # fmt: skip
    return [*cells, formatting.bounded(r.estimate, r.low, r.high)] if with_variant else cells
