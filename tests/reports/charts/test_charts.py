"""The charts: what they show is what the summary holds, in shape as in colour, and in words."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from reports.analysis.ranking import Ranking
from reports.charts import figure
from reports.charts.accuracy import accuracy_chart
from reports.charts.case_times import case_times_chart
from reports.charts.course import course_chart
from reports.charts.marks import MARKS, plain
from reports.charts.ranking import ranking_chart
from reports.charts.stability import stability_chart
from reports.charts.stages import stages_chart
from reports.charts.trade_off import trade_off_chart
from reports.charts.tuning import tuning_chart
from reports.decision.tuning import MEASURED, Trial
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED
from reports.formatting import bounded, change
from reports.records.record import (
    ALL_CASES,
    FAILED,
    CommandRecord,
    StructureRecord,
    SystemLoad,
)
from reports.records.store import Run, read_run
from reports.summary.summarise import summarise
from reports.summary.summary import Summary
from tests.reports.factory import (
    BASELINE,
    WHOLE,
    Candidate,
    by_agreement,
    made_of,
    make_run,
    of_structures,
    on_gpu,
    segmenting,
    variant,
)

RESULTS = Path(__file__).parents[3] / "docs/results"
CHARTS = (
    ranking_chart, trade_off_chart, stages_chart, case_times_chart, accuracy_chart, stability_chart, course_chart,
)  # fmt: skip
HOSTILE = '<b>&"\x1b[0m$x$ #0072b2\ud800 --> ' + "long" * 20
SVG = "{http://www.w3.org/2000/svg}"


def mixed() -> Run:
    """A variant of each verdict, and a confirmation."""
    candidates = {
        "fast": Candidate(4.0, lesion=(0.002, -0.001), confirmed_speedup=4.0), "lossy": Candidate(5.0, lesion=-0.05),
        "unsure": Candidate(2.0, lesion=(-0.02, 0.012, 0.003, -0.004)), "slow": Candidate(0.2),
    }  # fmt: skip
    return make_run(candidates, confirmed="fast")


def agreeing() -> Run:
    return by_agreement(make_run({"fast": Candidate(4.0, lesion=(-0.001, 0.0)), "other": Candidate(2.0)}, cases=36))


def many() -> Run:
    structures = {f"part {n:03d}": StructureRecord(labels=(n,), nsd_tolerance_mm=2.0) for n in range(1, 106)}
    return of_structures(make_run({"fast": Candidate(4.0), "b": Candidate(3.0)}), structures, {"part 042": -0.02})


def hostile() -> Run:
    """Names of variants and cases that are marks of other languages."""
    run = make_run({HOSTILE: Candidate(4.0), "b": Candidate(3.0)})
    names = {case.name: f"{HOSTILE} {case.name}" for case in run.record.cases}
    variants = tuple(
        replace(
            v,
            samples=tuple(replace(s, case=names[s.case]) for s in v.samples),
            scores=tuple(replace(s, case=names[s.case]) for s in v.scores),
        )
        for v in run.variants
    )
    cases = tuple(replace(case, name=names[case.name]) for case in run.record.cases)
    return replace(run, variants=variants, record=replace(run.record, cases=cases))


RUNS: dict[str, Callable[[], Run]] = {
    "mixed": mixed, "agreeing": agreeing, "many": many, "hostile": hostile,
    "gpu": lambda: on_gpu(make_run({"fast": Candidate(9.0), "b": Candidate(2.0)}, device="cuda")),
    "segmenting": lambda: segmenting(make_run({"fast": Candidate(3.0), "b": Candidate(2.0)})),
    "committed": lambda: read_run(RESULTS / "peers-width32-vnni"),
}  # fmt: skip


def words(svg: str) -> list[str]:
    """Everything that is written in a picture."""
    return [text for each in ET.fromstring(svg).iter(f"{SVG}text") if (text := "".join(each.itertext()).strip())]


@pytest.fixture(scope="module")
def summaries() -> dict[str, Summary]:
    return {name: summarise(make()) for name, make in RUNS.items()}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("draw", CHARTS)
def test_each_is_one_well_formed_picture_with_words(draw, name, summaries) -> None:
    chart = draw(summaries[name])
    root = ET.fromstring(chart.svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == chart.title
    assert root.findtext(f"{SVG}desc") == chart.text
    assert len(chart.text) > 80
    assert re.search(r"\d", chart.text)
    assert "nan" not in (chart.text + "".join(words(chart.svg))).lower()
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith(f"{chart.name}-") for each in ids)
    assert not re.search(r'href="(?!#)', chart.svg), "nothing from elsewhere"
    assert chart.svg == draw(summarise(RUNS[name]())).svg, "the same run gives the same bytes"
    assert len(chart.svg) < 60_000
    ET.fromstring(chart.file)


def test_the_ranking_has_every_figure_and_the_claims_line(summaries) -> None:
    summary = summaries["mixed"]
    written = words(ranking_chart(summary).svg)
    for row in summary.measured:
        r = row.case.reduction
        figures = "the baseline" if row.is_baseline else f"{bounded(r.estimate, r.low, r.high)} · {row.verdict}"
        assert written.count(figures) == 1, row.name
    assert "required: 10 %" in written
    again = summary.confirmation.reduction
    assert f"{bounded(again.estimate, again.low, again.high)} · the verdict" in written
    assert [name for name in written if name in summary.run.record.settings.variants] == [
        "lossy", "fast", "unsure", BASELINE, "slow",
    ], "the fastest first"  # fmt: skip


def test_a_slow_variant_does_not_squeeze_the_others(summaries) -> None:
    ticks = [
        float(w.replace("\N{MINUS SIGN}", "-"))
        for w in words(ranking_chart(summaries["mixed"]).svg)
        if re.fullmatch("[\N{MINUS SIGN}\\d]+", w)
    ]
    assert min(ticks) >= -100, "it takes five times as long, and an arrow stands for that"
    assert "slow -399.9 %" in ranking_chart(summaries["mixed"]).text


def test_no_state_is_shown_by_colour_alone() -> None:
    for one, other in combinations(MARKS.values(), 2):
        assert one.colour == other.colour or (one.shape, one.filled) != (other.shape, other.filled)
    assert len({MARKS[verdict].shape for verdict in (CONFIRMED, REFUTED, INCONCLUSIVE)}) == 3


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out_from_the_page(dark) -> None:
    shown = {colour: figure.DARK[colour] if dark else colour for colour in figure.VARIABLES}

    def contrast(colour: str) -> float:
        light, deep = sorted((luminance(shown[colour]), luminance(shown[figure.PAPER])), reverse=True)
        return (light + 0.05) / (deep + 0.05)

    for colour in (figure.INK, figure.MUTED, figure.WINNER, figure.KEPT, figure.LOST, figure.UNDECIDED):
        assert contrast(colour) >= 4.5, "text"
    assert contrast(figure.BASELINE) >= 3, "a mark"


def test_of_many_structures_the_nearest_to_a_loss_are_drawn_and_it_says_so(summaries) -> None:
    chart = accuracy_chart(summaries["many"])
    written = words(chart.svg)
    assert "part-042 DSC" in written
    assert "-0.0200 [-0.0200] · margin 0.005 · lost" in written
    assert sum(" · margin " in each for each in written) == 9
    assert "Shown are 9 of 211: of structures those nearest to a loss." in chart.text


def test_by_agreement_it_shows_the_agreement_and_what_is_required(summaries) -> None:
    chart = accuracy_chart(summaries["agreeing"])
    assert chart.title == "Agreement of fast with the baseline"
    assert "0.9995 [0.9993] · 0.995 required · kept" in words(chart.svg)
    assert "Nothing here is of a truth" in chart.text
    difference = summaries["mixed"].row("fast").accuracy.metrics
    assert f"{change(next(iter(difference.values())).delta.estimate)} [" in "".join(
        words(accuracy_chart(summaries["mixed"]).svg)
    )


def test_a_case_far_from_the_others_is_named() -> None:
    run = make_run({"fast": Candidate(4.0)}, rounds=1)
    slow = tuple(replace(s, case_ns=3 * s.case_ns) if s.case == "quiz_2_005" else s for s in run.variants[1].samples)
    run = replace(run, variants=(run.variants[0], replace(run.variants[1], samples=slow)))
    chart = case_times_chart(summarise(run))
    assert [w for w in words(chart.svg) if w.startswith("quiz")] == ["quiz_2_005"]
    assert "Far from the others, and named: quiz_2_005 1.20 s and 9" in chart.text
    assert "are saved, as in 16 of them" in chart.text
    assert "No case lies far from the others" in case_times_chart(summarise(make_run({"fast": Candidate(4.0)}))).text


@pytest.mark.parametrize(("least", "most"), [(1.1, 1.7), (0.9, 1.05), (0.06, 0.08), (3.6, 18.6), (0.02, 90.0)])
def test_a_logarithmic_axis_has_numbers_however_near_its_ends(least, most) -> None:
    with figure.canvas(3.0) as (drawn, axes):
        axes.set_xscale("log")
        axes.set_xlim(least, most)
        figure.logarithmic_ticks(axes.xaxis)
        drawn.canvas.draw()
        within = [tick for tick in axes.xaxis.get_majorticklocs() if least <= tick <= most]
    assert 2 <= len(within) <= 12


def test_the_two_lines_of_the_cases_are_named_apart() -> None:
    svg = case_times_chart(summarise(make_run({"fast": Candidate(40.0)}))).svg
    upper, lower = (
        float(re.search(rf'y="([\d.]+)"[^>]*>\s*{name}</text>', svg)[1]) for name in ("as long", "10 % less")
    )
    assert lower - upper > 8, "points, of letters that are 8 high"


def test_the_score_nearest_to_a_loss_may_be_a_surface_distance() -> None:
    run = make_run({"fast": Candidate(4.0, lesion=-0.001, nsd=-0.02), "b": Candidate(3.0)})
    chart = trade_off_chart(summarise(run))
    assert f"1 fast 4.00x, {WHOLE.replace(' ', '-')} NSD -2 margins" in chart.text


def test_a_rank_that_was_ever_had_is_in_the_range(monkeypatch) -> None:
    shares = ((0.9996, 0.0004, 0.0), (0.0004, 0.9996, 0.0), (0.0, 0.0, 1.0))
    made = Ranking(names=("a", "b", "c"), shares=shares, cases=5, left_out=())
    monkeypatch.setattr("reports.charts.stability.rank", lambda run: made)
    text = stability_chart(summarise(make_run({"a": Candidate()}))).text
    assert "a rank 1 in 99.9 % (1 to 2); b rank 2 in 99.9 % (1 to 2); c rank 3 in 100 % (no other)." in text


def test_thousands_of_samples_are_thinned_and_what_interfered_stays() -> None:
    run = make_run({"fast": Candidate(4.0)}, rounds=6)
    busy = tuple(
        replace(s, system_load=SystemLoad(others=2.0)) if s.case == "quiz_0_003" else s for s in run.variants[1].samples
    )
    run = replace(run, variants=(run.variants[0], replace(run.variants[1], samples=busy)))
    chart = course_chart(summarise(run), most=40)
    assert chart.text.startswith("288 samples over ")
    assert "crosses samples beside which something interfered (6). Of these 42 are drawn." in chart.text


def test_a_long_pause_is_cut_short() -> None:
    run = make_run({"fast": Candidate(4.0)})  # whose rounds begin 1,000 s apart
    chart = course_chart(summarise(run))
    assert "1 long pause without samples (dotted) cut short" in chart.text
    ticks = [float(w) for w in words(chart.svg) if re.fullmatch(r"[\d.]+", w)]
    assert max(ticks) < 7


def test_a_call_over_all_cases_has_no_chart_of_cases() -> None:
    run = make_run({"fast": Candidate(4.0), "b": Candidate(3.0)})
    names = [case.name for case in run.record.cases]
    settings = replace(run.variants[1].settings, command=CommandRecord(line="x", mode="folder"))
    calls = tuple(
        replace(
            run.variants[1].samples[0], case=ALL_CASES, case_ns=2_000_000_000 + r, round=r, classes=dict.fromkeys(names)
        )
        for r in range(2)
    )
    called = replace(run.variants[1], settings=settings, samples=calls)
    whole = tuple(replace(s, launch=0) for s in run.variants[0].samples)
    run = replace(run, variants=(replace(run.variants[0], samples=whole), called))
    summary = summarise(run)
    assert case_times_chart(summary) is None
    assert stability_chart(summary) is None
    assert "a whole call" in ranking_chart(summary).svg


@pytest.mark.parametrize("draw", CHARTS)
def test_nothing_is_drawn_of_nothing(draw) -> None:
    assert draw(summarise(make_run({}, baseline=variant(BASELINE, FAILED, "out of memory"), cases=0))) is None


def test_a_baseline_alone_has_its_stages_and_its_course() -> None:
    summary = summarise(make_run({}))
    drawn = [draw for draw in CHARTS if draw(summary) is not None]
    assert drawn == [stages_chart, course_chart]


def test_names_are_one_short_line() -> None:
    assert plain("a\n b\x1b\ud800") == "a b"
    assert plain("x" * 80, 11) == "xxxxxx…xxxx"


def test_the_caption_says_what_the_axes_do_and_what_the_front_leaves_out() -> None:
    whole = trade_off_chart(summarise(mixed()))
    assert "Both axes are logarithmic" in whole.text
    assert "Nothing is at least as fast" in whole.text
    assert "stands there" not in whole.text
    run = mixed()
    cut = tuple(
        replace(v, samples=tuple(s for s in v.samples if s.case in {c.name for c in run.record.cases[:5]}))
        if v.name == "lossy"
        else v
        for v in run.variants
    )
    record = replace(run.record, settings=replace(run.record.settings, max_dsc_drop=0.00001))
    few = trade_off_chart(summarise(replace(run, record=record, variants=cut)))
    assert "What lost more than 1000 margins stands there." in few.text
    assert "Nothing of what was timed on all cases is at least as fast" in few.text


def test_the_caption_of_a_search_says_which_losses_are_cut() -> None:
    def trial(number: int, used: float) -> Trial:
        return Trial(
            number=number, settings=made_of("torch-fp32"), state=MEASURED, speedup=1.0 + number, accuracy="lost",
            margin_used=used,
        )  # fmt: skip

    first, near, far = trial(0, 0.1), trial(1, 2.0), trial(2, 500.0)
    assert "Losses of more than 100 margins stand there." in tuning_chart([first, far], [first], first, "x").text
    near_only = tuning_chart([first, near], [first], first, "x").text
    assert "logarithmic beyond one margin" in near_only
    assert "stand there" not in near_only
