"""Recorded metrics go to the structures whose names they bear."""

from dataclasses import replace

from reports.analysis.training_metrics import training_metrics
from reports.records.record import StructureRecord
from tests.reports.factory import Candidate, make_run, of_structures


def test_a_metric_goes_by_the_structures_name_or_by_its_first_word_where_that_is_its_own() -> None:
    names = ("left kidney", "left lung", "Whole Tumour", "edema", "spleen", "Spleen")
    run = of_structures(make_run({"x": Candidate()}), {name: StructureRecord() for name in names}, {})
    recorded = ("val/left_kidney_dice", "left_dice", "whole_dsc", "best.edema_dice", "spleen_dice", "cls_f1", "loss")
    checkpoint = replace(run.record.checkpoint, training_metrics=dict.fromkeys(recorded, 0.5))
    metrics = training_metrics(replace(run.record, checkpoint=checkpoint))
    assert [metric.name for metric in metrics] == list(recorded)
    assert [metric.metric and (metric.metric.structure, metric.metric.kind) for metric in metrics] == [
        ("left kidney", "dsc"), None, ("Whole Tumour", "dsc"), ("edema", "dsc"), None, (None, "macro_f1"), None,
    ]  # fmt: skip
