"""The page's section of cases, of packs that are only bytes."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import reports.render
from reports.render.cases.images import CaseImages, MissingCase, PackedCase
from reports.render.cases.page_section import cases_section
from reports.render.html_page import render
from reports.summary.summarise import summarise
from tests.reports.factory import Candidate, make_run

ASSETS = Path(reports.render.__file__).parent / "assets"
NIIVUE = 2_300_000  # bytes, roughly


@pytest.fixture(scope="module")
def summary():
    return summarise(make_run({"fast": Candidate(lesion=-0.01)}, rounds=1))


def pack(change, channels=1, size=50_000):
    return PackedCase(
        case=change.case, channels={f"<c{i}>": bytes(size) for i in range(channels)},
        masks={"truth": b"t", "baseline": b"b", "variant": b"v", "difference": b"d"}, focus_mm=(1.0, 2.0, 3.0), note="",
    )  # fmt: skip


def images(packs, max_bytes=2**30):
    return CaseImages(packs=packs, labels={1: "</script><b>"}, max_bytes=max_bytes)


def blocks(html):
    return [
        json.loads(found) for found in re.findall(r'<script type="application/json" id="case-\d+">(.*?)</script>', html)
    ]


def test_the_first_channels_of_all_cases_come_before_the_second_of_any(summary):
    packs = [pack(change, channels=2) for change in summary.worst_cases]
    per_channel = 4 * 50_000 / 3
    room = len(render(summary)) + NIIVUE + 120_000 + int(18.5 * per_channel)
    page = render(summary, images(packs, room))
    channels = [len(block["channels"]) for block in blocks(page)]
    assert len(channels) == len(packs)
    assert channels == sorted(channels, reverse=True)
    assert channels[0] == 2
    assert channels[-1] == 1
    assert len(page.encode()) <= room


@pytest.mark.parametrize("room", [2_500_000, 2_700_000, 3_000_000, 3_300_000])
def test_the_page_is_never_larger_than_asked_and_no_more_is_read_than_fits(summary, room):
    asked = []

    def packs():
        for change in summary.worst_cases:
            asked.append(change.case)
            yield pack(change)

    page = render(summary, images(packs(), room))
    shown = [block["case"] for block in blocks(page)]
    assert len(page.encode()) <= room
    assert shown == [change.case for change in summary.worst_cases][: len(shown)], "the worst"
    assert len(asked) <= len(shown) + 1
    assert f"Images of {len(shown)} of 16 cases" in page


def test_a_class_that_became_right_is_no_loss(summary):
    classes = {"truth": 1, "baseline_class": 2, "variant_class": 1}
    lost, *rest = summary.worst_cases
    became_right = replace(rest[0], **classes)
    lost = replace(lost, **classes | {"baseline_class": 1, "variant_class": 2})
    html = cases_section(replace(summary, worst_cases=(lost, became_right)), None, 0).html
    assert '<td class="lost">1 → 2 (truth 1)</td>' in html
    assert "<td>2 → 1 (truth 1)</td>" in html


def test_a_baseline_without_a_class_is_not_said_to_have_the_variants(summary):
    alone = replace(summary.worst_cases[0], baseline_class=None, variant_class=2)
    assert "<td>2, by the baseline none</td>" in cases_section(replace(summary, worst_cases=(alone,)), None, 0).html


def test_names_of_others_end_no_element(summary):
    section = cases_section(summary, images([pack(summary.worst_cases[0])]), 0)
    assert "<b>" not in section.html + section.end
    assert section.end.count("</script") == len(re.findall(r"^<script[ >]", section.end, re.MULTILINE)) == 4


def test_reasons_that_differ_stand_in_the_rows(summary):
    first, second, *_ = summary.worst_cases
    packs = [MissingCase(case=first.case, reason="<gone>"), MissingCase(case=second.case, reason="damaged")]
    section = cases_section(summary, images(packs), 0)
    assert "Images of 0 of 16 cases; the rows of the others say why" in section.html
    assert '<td class="images">&lt;gone&gt;</td>' in section.html
    assert section.end == ""


def test_a_run_without_scores_has_no_section(summary):
    section = cases_section(replace(summary, worst_cases=()), images([]), 0)
    assert (section.html, section.end) == ("", "")


def test_the_viewer_is_the_published_file_and_takes_its_licences_along(summary):
    program, licences = ((ASSETS / name).read_text() for name in ("niivue.umd.js", "niivue-licenses.txt"))
    assert hashlib.sha256(program.encode()).hexdigest() in licences
    page = render(summary, images([pack(summary.worst_cases[0])]))
    assert page.count("Redistribution and use in source and binary forms") == licences.count("Redistribution and use")
    assert page.count(program[1000:2000]) == 1
