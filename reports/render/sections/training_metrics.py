"""The report's recorded accuracy: what the training says, beside what was measured, and never mixed with it."""

from collections.abc import Sequence

from reports import formatting
from reports.analysis.training_metrics import TrainingMetric, recorded_names, training_metrics
from reports.decision.accuracy import Metric
from reports.formatting import SHOWN
from reports.records.record import AGREEMENT, RunRecord
from reports.render.commonmark import section, table, text
from reports.summary.summary import Summary

_REFERENCE = "multitask-unet"
_PROTOCOLS = {"sliding-window": "whole volume by sliding window", "center-patch": "one centre patch a case"}
_UNSTATED = "that of its training script, which the file does not state"
_CROP = "one random 64^3 crop a case, as the reference training script takes it"
_PSEUDO = (  # nnunetv2: nnUNetTrainer.on_validation_epoch_end, and nnUNetLogger.log for the moving average
    "nnU-Net's pseudo Dice, over random patches of its validation fold with all voxels of an epoch pooled, as a mean "
    "over the foreground classes (ema: moving average over epochs, 0.9 to 0.1)"
)


def training_metrics_section(summary: Summary) -> str:
    """The recorded metrics and the measured baseline, each under its protocol."""
    metrics = training_metrics(summary.record)
    if not metrics:
        return section("Recorded accuracy", "The checkpoint records no accuracy of its own.")
    by_agreement = summary.record.settings.accuracy == AGREEMENT  # whose scores are not of the truth
    baseline = None if by_agreement else summary.row(summary.record.baseline)
    rows = []
    keys = recorded_names(summary.record.task)
    for key in keys:
        label, same = text(key.label), [m for m in metrics if m.metric == key]
        measured = _measured_score(baseline.accuracy.metric(key) if baseline else Metric())
        for m in same:
            name = label if len(same) == 1 else f"{label} ({text(m.name)})"
            rows.append([name, formatting.score(m.value), measured])
        if not same and len(keys) <= SHOWN:
            rows.append([label, "not recorded", measured])
    others = (m for m in metrics if m.metric is None)
    rows += [[text(m.name), formatting.score(m.value), formatting.NOT_MEASURED] for m in others]
    head = ["", "recorded in the checkpoint", f"measured here, {text(summary.record.baseline)}"]
    return section("Recorded accuracy", table(head, rows), _protocols(summary.record, metrics, summary.cases))


def _measured_score(metric: Metric) -> str:
    return formatting.score(metric.value) if metric.applicable else formatting.NOT_APPLICABLE


def _protocols(record: RunRecord, metrics: Sequence[TrainingMetric], cases: int) -> str:
    settings = record.settings
    recorded = f"Protocol of the recorded figures: {_training_protocol(record, metrics)}."
    if settings.accuracy == AGREEMENT:
        return f"{recorded} Nothing was scored against a ground truth here; no verdict uses the recorded figures."
    protocol = _PROTOCOLS.get(settings.protocol, settings.protocol)
    if settings.protocol == "sliding-window":
        protocol += f", overlap {settings.overlap:g}"
    return (
        f"{recorded} Protocol of the measured ones: {protocol}, {formatting.count(cases, 'case')}. The two answer "
        "different questions; no verdict uses the recorded ones."
    )


def _training_protocol(record: RunRecord, metrics: Sequence[TrainingMetric]) -> str:
    """The protocol of each recorded metric, as far as its name or the network says."""
    script = _CROP if record.checkpoint.architecture == _REFERENCE else _UNSTATED
    nnunet = [m.name for m in metrics if m.is_nnunet]
    if not nnunet:
        return script
    others = f"; for the others: {script}" if len(nnunet) < len(metrics) else ""
    return f"for {', '.join(map(text, nnunet))}: {_PSEUDO}{others}"
