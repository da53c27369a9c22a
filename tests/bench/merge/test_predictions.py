"""Shards of predictions: joined into what one call leaves, or refused in one line with nothing written."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.exit_codes import BAD_INPUT, DONE
from bench.cli.main import main
from bench.predict.header import ShardHeader, identity_of_shard
from bench.predict.journal import NAME, Journal
from bench.predict.tables import write_tables
from bench.schedule.run_directory import locked
from bench.shard import Shard
from bench.worker.lines import FAILED, OK, ImageFile, Line, append
from bench.worker.messages import BatchCase

IDENTITY = {"network": "unet", "weights_sha256": "ab" * 32}
CLASSES = ("benign", "malignant")
CASES = [f"case{number}" for number in range(10)]


def image(name: str) -> ImageFile:
    return ImageFile(f"/data/{name}.nii.gz", 10, 5)


def line(folder: Path, name: str) -> Line:
    mask = f"mask of {name}".encode()
    (folder / f"{name}.nii.gz").write_bytes(mask)
    return Line(
        case=name, images=(image(name),), status=OK, mask=f"{name}.nii.gz",
        mask_sha256=hashlib.sha256(mask).hexdigest(),
        number=1, class_name="malignant", probabilities=(0.25, 0.75), seconds={"case": 1.5}, written_unix_s=7.0,
    )  # fmt: skip


def write(folder: Path, names: list[str], shard: Shard | None = None, **identity: str) -> Path:
    """What `bench predict` leaves of these cases, of a shard or of all."""
    own, header, of_shard = names, None, {}
    if shard is not None:
        own, of_shard = shard.names(names), identity_of_shard(shard, names)
        header = ShardHeader(shard.number, shard.count, tuple(own), f"bench predict --shard {shard}")
    journal = Journal(folder, IDENTITY | of_shard | identity, CLASSES, header)
    with journal.opened():
        for name in own:
            append(folder / NAME, line(folder, name).encoded())
        journal.follow()
        write_tables(folder, journal.lines.values(), CLASSES)
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / str(number), CASES, Shard(number, 3)) for number in (1, 2, 3)]


@pytest.fixture
def merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Call `bench merge`; gives its exit code and the lines that it printed."""

    def call(*folders: Path, out: str = "out") -> tuple[int, str]:
        code = main(["merge", *map(str, folders), "--out", str(tmp_path / out)])
        printed = capsys.readouterr()
        return code, printed.out if code == DONE else printed.out + printed.err

    return call


def test_the_merged_folder_is_that_of_one_call(shards, merge, tmp_path) -> None:
    whole = write(tmp_path / "whole", CASES)
    code, printed = merge(*reversed(shards))
    assert (code, printed.splitlines()[0]) == (DONE, "3 shards: 10 cases predicted; 0 failed")
    ours, theirs = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tmp_path / "out", whole))
    assert ours == theirs


def test_a_later_call_goes_on_from_it(shards, merge, tmp_path) -> None:
    merge(*shards)
    journal = Journal(tmp_path / "out", IDENTITY, CLASSES)
    cases = [BatchCase(name, (image(name),), f"{name}.nii.gz") for name in [*CASES, "new"]]
    with journal.opened():
        left = journal.sort(cases)
    assert ([done.case for done in left.done], [case.name for case in left.fresh]) == (CASES, ["new"])


def test_failed_cases_go_along_as_rows(shards, merge, tmp_path) -> None:
    failed = Line(case="case4", images=(image("case4"),), status=FAILED, reason="damaged")
    append(shards[1] / NAME, failed.encoded())
    code, printed = merge(*shards)
    assert (code, "9 cases predicted; 1 failed" in printed) == (BAD_INPUT, True)
    assert not (tmp_path / "out/case4.nii.gz").exists(), "of an earlier line"
    assert "case4,,,,,,,failed,damaged" in (tmp_path / "out/predictions.csv").read_text()


def test_a_shard_without_cases_is_merged_too(merge, tmp_path) -> None:
    folders = [write(tmp_path / str(number), CASES[:2], Shard(number, 3)) for number in (1, 2, 3)]
    assert merge(*folders)[0] == DONE


def lost(shards: list[Path]) -> list[Path]:
    (shards[2] / "case5.nii.gz").unlink()
    return shards


def cut_off(shards: list[Path]) -> list[Path]:
    journal = shards[2] / NAME
    journal.write_bytes(journal.read_bytes()[:-20])
    return shards


def changed(shards: list[Path]) -> list[Path]:
    (shards[2] / "case5.nii.gz").write_bytes(b"another mask")
    return shards


def emptied(shards: list[Path]) -> list[Path]:
    (shards[1] / NAME).write_text("")
    return shards


def other(shards: list[Path], names: list[str] = CASES, shard: Shard | None = None, **identity: str) -> list[Path]:
    return [*shards[:2], write(shards[0].with_name("other"), names, shard, **identity)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s[:1], "bench: shards 2, 3 of 3 missing; name the folder of each"),
        (lambda s: [*s, s[0]], "1: is named twice; name each shard once"),
        (lambda s: other(s, shard=Shard(2, 3)), "other: shard 2/3, as is "),
        (lambda s: other(s, shard=Shard(3, 4)), "other: shard 3/4, while"),
        (lambda s: other(s), "other: predictions of all cases, and no shard; name folders of"),
        (lambda s: other(s, CASES[1:], Shard(3, 3)), "the list of cases is"),
        (lambda s: other(s, shard=Shard(3, 3), network="vnet"), "network is vnet, there unet; run it again"),
        (lambda s: [*s, s[0].with_name("nowhere")], "nowhere: no such folder; name the folders"),
        (lambda s: [*s, s[0].parent], "holds neither run.json nor predictions.jsonl; name the folders"),
        (lost, "3: shard 3/3 is not finished, 1 of its 3 cases are missing; to go on: bench predict --shard 3/3"),
        (cut_off, "3: shard 3/3 is not finished, 1 of its 3 cases are missing"),
        (changed, "case5.nii.gz: not the mask that was predicted, its sha256 is"),
        (emptied, "its first line does not say what predicted; name the folders of shards"),
    ],
)
def test_what_is_no_whole_set_of_shards_is_refused(make, said, shards, merge, tmp_path) -> None:
    folders = make(shards)
    before = sorted(tmp_path.iterdir())
    code, printed = merge(*folders)
    (refusal,) = [line for line in printed.splitlines() if line.startswith("bench: ")]
    assert (code, said in refusal) == (BAD_INPUT, True), printed
    assert sorted(tmp_path.iterdir()) == before, "nothing is left"


def test_a_folder_in_which_a_process_works_is_refused(shards, merge) -> None:
    with locked(shards[1], "not now"):
        assert "another process predicts into this folder" in merge(*shards)[1]


def test_a_folder_that_holds_something_is_not_written_to(shards, merge, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert "out: exists and is not empty; choose another --out" in merge(*shards)[1]


def test_a_mask_leads_to_no_other_folder(shards, merge, tmp_path) -> None:
    (tmp_path / "secret.nii.gz").write_bytes(b"mask of case5")
    with (shards[2] / NAME).open() as file:
        last = Line.decoded([each for each in file.read().encode().splitlines() if b'"case5"' in each][-1])
    assert last is not None
    append(shards[2] / NAME, replace(last, mask="../secret.nii.gz").encoded())
    code, printed = merge(*shards)
    assert (code, "shard 3/3 is not finished" in printed) == (BAD_INPUT, True)


def test_the_first_line_names_the_shard(shards) -> None:
    header = json.loads((shards[1] / NAME).read_text().splitlines()[0])
    assert header["shard"] == {
        "number": 2, "count": 3, "cases": ["case1", "case4", "case7"], "command": "bench predict --shard 2/3",
    }  # fmt: skip
    assert header["identity"]["shard"] == "2/3"
