"""Shards of runs: one run, judged by the same rules; or a refusal in one line with nothing written."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cli.main import main
from bench.shard import Shard
from reports.records.record import FAILED, INTERRUPTED, SKIPPED, CommandRecord, HostRecord
from reports.records.store import Run, read_run, samples_path, variant_path, write_run
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run, variant
from tests.reports.sharded import shard_of

X = "openvino-fp32"
HOST = HostRecord(processor="Other CPU", cores=8, memory_bytes=2**34, remarks=("the quota is small",))


def whole(**changes: Any) -> Run:
    candidates = {X: Candidate(2.0, (1.0, 1.04, 0.96), confirmed_speedup=1.9), "ort-fp32": Candidate(1.3)}
    return make_run(candidates, asked=2, confirmed=X, **changes)


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [written(shard_of(whole(), Shard(number, 3)), tmp_path / str(number)) for number in (1, 2, 3)]


@pytest.fixture
def merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Call `bench merge`; gives its exit code and what was printed."""

    def call(*folders: Path) -> tuple[int, str]:
        code = main(["merge", *map(str, folders), "--out", str(tmp_path / "out")])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def written(run: Run, folder: Path) -> Path:
    write_run(folder, run)
    for each in run.variants:
        masks = folder / "predictions" / each.name
        masks.mkdir(parents=True)
        for case in run.record.cases:
            (masks / f"{case.name}.nii.gz").write_bytes(f"{each.name} {case.name}".encode())
        (folder / f"variants/{each.name}.log").write_text(run.record.settings.shard)
    return folder


def again(folder: Path, change: Callable[[Run], Run]) -> None:
    """Write a shard anew, changed."""
    write_run(folder, change(read_run(folder)))


def with_record(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: replace(run, record=replace(run.record, **changes))


def with_setting(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: with_record(settings=replace(run.record.settings, **changes))(run)


def test_the_merged_run_has_all_cases_once_and_its_verdict(shards, merge, tmp_path) -> None:
    code, printed = merge(*reversed(shards))
    assert code == 0
    assert printed.startswith(f"CONFIRMED: {X} reduces the case time by 47.")
    assert f"Report: {tmp_path / 'out/report.md'}" in printed
    run, one_call = read_run(tmp_path / "out"), whole()
    assert run.record.cases == one_call.record.cases
    assert (run.record.settings, run.record.listed_cases) == (one_call.record.settings, ())
    assert [(s.number, s.confirmed, len(s.cases)) for s in run.record.shards] == [(1, X, 6), (2, X, 5), (3, X, 5)]
    for own, other in zip(run.variants, one_call.variants, strict=True):
        assert own.scores == other.scores
        assert sorted((replace(s, shard=0) for s in own.samples), key=str) == sorted(other.samples, key=str)
        assert (own.build_s, own.peak_memory_bytes, own.status) == (None, other.peak_memory_bytes, "ok")
    assert run.variant(BASELINE).noise == {name: 3 * n for name, n in one_call.variant(BASELINE).noise.items()}
    there, here = summarise(one_call), summarise(run)
    assert here.row(X).accuracy.metrics == there.row(X).accuracy.metrics
    assert here.confirmation.speedup.estimate == pytest.approx(there.confirmation.speedup.estimate, abs=0.01)


def test_masks_logs_and_documents_go_along(shards, merge, tmp_path) -> None:
    merge(*shards)
    out = tmp_path / "out"
    for case in whole().record.cases:
        assert (out / f"predictions/{X}/{case.name}.nii.gz").read_text() == f"{X} {case.name}"
    assert (out / f"variants/{X}.shard-2.log").read_text() == "2/3"
    assert "## Shards" in (out / "report.md").read_text()
    assert (out / "cases.csv").read_text().startswith("shard,variant,phase,case,")
    assert len((out / f"predictions/{X}/subtype_results.csv").read_text().splitlines()) == 17
    for command in (["check"], ["compare", str(out)], ["report", "--format", "html", "--no-images"]):
        assert main([*command, str(out)]) in (0, 3)


def test_machines_may_differ_and_the_record_says_what_each_was(shards, merge, tmp_path) -> None:
    again(shards[1], with_record(host=HOST, created="2025-12-31T00:00:00+00:00"))
    again(shards[1], with_setting(threads=8))
    assert merge(*shards)[0] == 0
    record = read_run(tmp_path / "out").record
    assert [(s.host.processor, s.threads) for s in record.shards] == [
        ("Example CPU", 2), ("Other CPU", 8), ("Example CPU", 2),
    ]  # fmt: skip
    assert (record.host.processor, record.host.cores) == ("Example CPU; Other CPU", None)
    assert record.host.remarks == ("on shard 2: the quota is small",)
    assert (record.settings.threads, record.threads, record.created) == (0, "2 to 8", "2025-12-31T00:00:00+00:00")
    report = (tmp_path / "out/report.md").read_text()
    assert "2 shards on Example CPU, 2 cores, 8.00 GiB; 1 shard on Other CPU, 8 cores, 16.00 GiB" in report
    assert "the shards ran on 2 unlike machines (Example CPU, 2 cores; Other CPU, 8 cores)" in report


def test_what_failed_on_a_shard_has_failed_in_the_whole(shards, merge, tmp_path) -> None:
    for status, folder in ((SKIPPED, shards[0]), (FAILED, shards[2])):
        lost = variant("ort-fp32", status, "no such library", "pip install it", "variants/ort-fp32.log")
        again(folder, lambda run, lost=lost: replace(run, variants=(*run.variants[:2], lost)))
    merge(*shards)
    own = read_run(tmp_path / "out").variant("ort-fp32")
    assert (own.status, own.reason, own.fix) == (FAILED, "on shard 3: no such library", "pip install it")
    assert (tmp_path / "out" / own.log).read_text() == "3/3"


def test_shards_that_confirmed_unlike_variants_leave_it_open(shards, merge) -> None:
    again(shards[1], with_record(confirmed="ort-fp32"))
    code, printed = merge(*shards)
    assert code == 3
    assert (
        f"INCONCLUSIVE: {X}: the shards did not all confirm one variant on fresh samples ({X} on shard 1, 3; ort-fp32 "
        f"on shard 2): run them again with `--backends {X}` alone, and merge those"
    ) in printed


def versions(**changes: str) -> Callable[[Run], Run]:
    return lambda run: with_record(versions={**run.record.versions, **changes})(run)


def network(run: Run) -> Run:
    return with_record(checkpoint=replace(run.record.checkpoint, weights_sha256="99" * 32))(run)


def data(run: Run) -> Run:
    return with_record(data=replace(run.record.data, sha256="99" * 32))(run)


def calibrated(run: Run) -> Run:
    others = ("other", *run.record.data.calibration_cases[1:])
    return with_record(data=replace(run.record.data, calibration_cases=others))(run)


def recipe(run: Run) -> Run:
    own = {**run.record.settings.variants, X: replace(run.record.settings.variants[X], batch=4)}
    return with_setting(variants=own)(run)


def command(files: dict[str, str] | None) -> Callable[[Run], Run]:
    """Make an own command of a variant, whose files these are."""
    made = CommandRecord(line="python p.py {image} {mask}", mode="case", files=files)

    def change(run: Run) -> Run:
        variants = run.record.settings.variants
        return with_setting(variants={**variants, X: replace(variants[X], backend="command", command=made)})(run)

    return change


def test_scripts_of_an_own_command_are_alike_on_all_shards(shards, merge) -> None:
    """What one shard does not have is most likely what the command writes."""
    for shard in shards:
        again(shard, command({"p.py": "12" * 32}))
    again(shards[1], command({"p.py": "34" * 32, "p.log": "56" * 32}))
    code, printed = merge(*shards)
    assert (code, f"{X}: p.py is {'34' * 6}, there {'12' * 6};" in printed) == (2, True), printed
    again(shards[1], command({"p.py": "12" * 32, "p.log": "56" * 32}))
    again(shards[2], command(None))
    assert merge(*shards)[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (network, f"network: weights_sha256 is {'99' * 6}, there {'cd' * 6};"),
        (data, f"data: sha256 is {'99' * 6}, there {'ef' * 6};"),
        (calibrated, 'data: calibration_cases is ["other", "quiz_0_001", "quiz_0_002", "q... (sha256 '),
        (recipe, f"{X}: batch is 4, there 1"),
        (versions(torch="2.12.0"), "version of torch is 2.12.0, there 2.13.0"),
        (versions(onnx="1.0"), "version of onnx is 1.0, there absent"),
        (with_setting(rounds=3), "setting rounds is 3, there 2"),
        (with_setting(plan_sha256="12" * 32), "plan is 1212"),
        (with_setting(device="cuda:0"), "device is cuda, there cpu"),
        (with_record(baseline=X), f"baseline is {X}, there {BASELINE}"),
        (with_record(controlled_settings={}), "controlled setting protocol is absent, there sliding-window"),
    ],
)
def test_what_is_unlike_is_refused_by_name(change, said, shards, merge, tmp_path) -> None:
    again(shards[1], change)
    code, printed = merge(*shards)
    assert (code, said in printed) == (2, True), printed
    assert printed.startswith(f"bench: {shards[1]}: not a shard of the same as {shards[0]}: ")
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: [s[0], s[2]], "shard 2 of 3 missing; name the folder of each"),
        (lambda s: [*s, s[1]], "2: is named twice; name each shard once"),
        (lambda s: [*s, Path(shutil.copytree(s[1], s[1].with_name("copy")))], "copy: shard 2/3, as is "),
        (lambda s: [*s[:2], written(whole(), s[0].with_name("all"))], "all: a run of all cases, and no shard"),
        (
            lambda s: [*s[:2], written(shard_of(whole(), Shard(3, 4)), s[0].with_name("4"))],
            "4: shard 3/4, while",
        ),
        (lambda s: [*s, s[0].parent], "holds neither run.json nor predictions.jsonl"),
    ],
)
def test_what_is_no_whole_set_of_shards_is_refused(make, said, shards, merge, tmp_path) -> None:
    code, printed = merge(*make(shards))
    assert (code, said in printed, len(printed.splitlines())) == (2, True, 1), printed
    assert not (tmp_path / "out").exists()


def test_a_shard_that_is_not_finished_is_refused_with_what_finishes_it(shards, merge) -> None:
    again(shards[2], with_record(status=INTERRUPTED))
    assert (
        f"3: shard 3/3 is not finished (interrupted); to finish it: bench run --resume --out {shards[2]}"
        in merge(*shards)[1]
    )


def test_a_merged_run_is_no_shard(shards, merge, tmp_path, capsys) -> None:
    merge(*shards)
    assert main(["merge", str(tmp_path / "out"), "--out", str(tmp_path / "twice")]) == 2
    assert "out: was merged already; name folders of `bench run --shard I/N`" in capsys.readouterr().err


def test_both_kinds_are_not_merged(shards, merge, tmp_path) -> None:
    folder = tmp_path / "predicted"
    folder.mkdir()
    (folder / "predictions.jsonl").touch()
    assert "predicted: a shard of predictions, while" in merge(*shards, folder)[1]


def test_the_records_hold_no_field_of_another_machine(shards, merge, tmp_path) -> None:
    again(shards[0], with_record(peak_flops={"fp32": 1e12}, peak_bytes_per_s=1e9, groups=((BASELINE, X),)))
    merge(*shards)
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert (run["peak_flops"], run["peak_bytes_per_s"], run["groups"], run["confirmation"]) == ({}, None, [], None)
    assert json.loads(variant_path(tmp_path / "out", X).read_text())["build_s"] is None
    assert {json.loads(line)["shard"] for line in samples_path(tmp_path / "out", X).open()} == {1, 2, 3}
