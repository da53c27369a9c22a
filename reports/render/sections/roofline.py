"""The report's roofline: the forward beside the device's measured peaks."""

from reports import formatting
from reports.render.commonmark import section, table, text
from reports.summary.summary import Summary


def roofline_section(summary: Summary) -> str:
    peak, bandwidth = summary.record.peak_flops, summary.record.peak_bytes_per_s
    if not peak:
        return ""
    head = ["variant", "arithmetic", "memory traffic", "forward, median", "share of the peak", "reached"]
    rows = [
        [
            text(row.label), formatting.seconds(row.roofline.arithmetic_s), formatting.seconds(row.roofline.traffic_s),
            formatting.seconds(row.forward_latency.median),
            formatting.percent(100 * row.roofline.share), formatting.rate(row.roofline.flops),
        ]
        for row in summary.measured if row.case.cases
    ]  # fmt: skip
    whose = summary.record.peak_libraries
    measured = ", ".join(
        f"{name} {formatting.rate(rate)} ({whose.get(name, 'PyTorch')})" for name, rate in peak.items()
    )
    note = (
        "*Arithmetic* is the time that the multiply-accumulates of a case take at the device's peak in the precisions "
        f"they ran in, that of the fastest large matrix product, measured before the rounds: {measured}. *Memory "
        "traffic* is the time to move each layer's input and output once a tile, and the weights once, in the "
        "narrowest precision that ran, at the bandwidth of a large copy: "
        f"{formatting.bandwidth(bandwidth)}. The longer "
        "of the two is the floor of the case, and the share is that floor over the forward. A library with better "
        "kernels than that product's, or one that keeps layers' outputs in the cache, may pass 100 %."
    )
    return section("Roofline", table(head, rows), note) if rows else ""
