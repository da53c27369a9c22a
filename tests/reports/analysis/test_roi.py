"""The ROI section: cost, fallbacks, and cases that lost a lesion voxel."""

from dataclasses import replace

from reports.records.record import Roi
from reports.records.store import Run, read_run, write_run
from reports.render import render
from reports.render.summary_json import summary_json
from reports.summary.summarise import summarise
from tests.reports.factory import LESION, Candidate, make_run, rescored
from tests.reports.factory import WHOLE as PANCREAS

WHOLE, PART = ((0, 128, 0, 112, 0, 54),), ((10, 90, 8, 100, 0, 54),)


def cropped(lost: int = 0) -> Run:
    """A run by `coarse` in which the second case fell back and the third lost pancreas, and maybe lesion."""
    run = make_run({"openvino-int8": Candidate(5.0)}, cases=6, roi="coarse")
    names = [case.name for case in run.record.cases]
    variants = []
    for variant in run.variants:
        samples = tuple(
            replace(s, roi=Roi(WHOLE if s.case == names[1] else PART, s.case == names[1], 2, 4, 0))
            for s in variant.samples
        )
        scores = tuple(
            rescored(
                rescored(s, PANCREAS, outside=7 * (s.case == names[2])), LESION, outside=lost * (s.case == names[2])
            )
            for s in variant.scores
        )
        variants.append(replace(variant, samples=samples, scores=scores))
    return replace(run, variants=tuple(variants))


def test_no_section_without_a_roi():
    summary = summarise(make_run({"openvino-int8": Candidate(5.0)}))
    assert "## ROI" not in render(summary, "markdown")
    assert all(variant["roi_use"] is None for variant in summary_json(summary)["variants"])


def test_each_case_counts_once_however_often_it_was_run():
    run = cropped()
    (result,) = [row.roi for row in summarise(run).rows if row.is_baseline]
    assert (result.cases, result.scored, result.passes, result.tiles) == (6, 6, 12, 24)
    assert result.all_tiles == 6 * 12
    assert result.fallbacks == (run.record.cases[1].name,)
    assert (result.outside, result.lost) == ({PANCREAS: 7, LESION: 0}, ())


def test_the_report_names_fallbacks_and_cases_that_lost_a_lesion_voxel():
    run = cropped(lost=3)
    text = render(summarise(run), "markdown")
    section = text[text.index("## ROI") :].split("\n## ")[0]
    second, third = (run.record.cases[at].name for at in (1, 2))
    assert f"openvino-int8 fails the safety: lesion voxels lost in 1 case: {third}." in section
    assert f"fell back to the full volume in: {second}." in section
    assert "**fails**" in section
    assert "<h3>ROI</h3>" in render(summarise(run), "html")
    reported = {variant["name"]: variant["roi_use"] for variant in summary_json(summarise(run))["variants"]}
    assert reported["openvino-int8"]["lost"] == [third]
    assert reported["openvino-int8"]["outside"]["lesion"] == 3
    kept = render(summarise(cropped()), "markdown")
    assert "fails the safety:" not in kept
    assert "**fails**" not in kept


def test_the_record_survives_its_file(tmp_path):
    run = cropped(lost=1)
    write_run(tmp_path, run)
    assert read_run(tmp_path).variants == run.variants
