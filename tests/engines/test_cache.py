"""Artefacts on disk: whole, keyed by all they depend on, and rebuilt when they are not whole."""

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engines
from engines.base import Calibration, EngineError, Target
from engines.cache import artefact, key_of
from models.model import Model

ON_DISK = ("torchscript", "ort-int8", "openvino-int8")


def _write(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "weights.bin").write_bytes(b"w" * 1000)
    (folder / "graph").write_text("graph")


@pytest.mark.parametrize("name", ON_DISK)
def test_engines_come_back_from_disk(
    name: str, target: Callable[..., Target], model: Model, tiles: Callable[[int, int], Tensor], tmp_path: Path
) -> None:
    """The second time is a hit with the same outputs; a truncated file is built again."""
    here = target(cache=tmp_path)
    engine = engines.load(name)
    available = engine.probe(here)
    if not available.ok:
        pytest.skip(str(available.reason))
    x = tiles(1, 3)

    def run() -> tuple[bool, Tensor]:
        with engine.open(model, here) as session:
            return session.evidence().details["cached"], session.infer(x)[0].clone()

    cached, first = run()
    assert not cached
    cached, second = run()
    assert cached
    torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)
    for folder in tmp_path.iterdir():
        largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-100])
    cached, rebuilt = run()
    assert not cached
    torch.testing.assert_close(rebuilt, first, rtol=1e-4, atol=1e-5)
    cached, _ = run()
    assert cached


def test_a_full_cache_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))  # a write stops midway, as on a full disk
    try:
        with pytest.raises(EngineError, match=r"the cache has no room .*; make room, or set VOXBENCH_CACHE to another"):
            artefact(tmp_path, "thing", {"a": 1}, _write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_artefact_is_not_built_again(tmp_path: Path) -> None:
    first = artefact(tmp_path, "thing", {"a": 1}, _write)
    again = artefact(tmp_path, "thing", {"a": 1}, lambda _: pytest.fail("built again"))
    assert (first.cached, again.cached) == (False, True)
    assert (again.folder / "graph").read_text() == "graph"
    assert artefact(tmp_path, "thing", {"a": 2}, _write).folder != first.folder


@pytest.mark.parametrize("harm", ["truncate", "change", "remove", "no manifest", "manifest of another kind"])
def test_a_corrupt_artefact_is_built_again(harm: str, tmp_path: Path) -> None:
    folder = artefact(tmp_path, "thing", {"a": 1}, _write).folder
    weights = folder / "part" / "weights.bin"
    match harm:
        case "truncate":
            weights.write_bytes(b"w" * 999)
        case "change":
            weights.write_bytes(b"v" * 1000)
        case "remove":
            weights.unlink()
        case "no manifest":
            (folder / "manifest.json").unlink()
        case _:
            (folder / "manifest.json").write_text("[]")
    again = artefact(tmp_path, "thing", {"a": 1}, _write)
    assert not again.cached
    assert (again.folder / "part" / "weights.bin").read_bytes() == b"w" * 1000
    assert artefact(tmp_path, "thing", {"a": 1}, _write).cached


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        _write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artefact(tmp_path, "thing", {"a": 1}, broken)
    assert list(tmp_path.iterdir()) == []
    assert not artefact(tmp_path, "thing", {"a": 1}, _write).cached


def test_the_first_of_two_builders_wins(tmp_path: Path) -> None:
    def overtaken(folder: Path) -> None:
        artefact(tmp_path, "thing", {"a": 1}, _write)
        _write(folder)

    built = artefact(tmp_path, "thing", {"a": 1}, overtaken)
    assert [path.name for path in tmp_path.iterdir()] == [built.folder.name]


def test_the_key_holds_all_that_matters(target: Callable[..., Target], model: Model, tmp_path: Path) -> None:
    here = target(cache=tmp_path)

    def key(model: Model, target: Target) -> str:
        assert target.calibration is not None
        return str(key_of(model, target, ("torch",), precision="int8", calibration=target.calibration.sha256))

    other = Calibration(lambda: torch.zeros(1), "calibration-2")
    keys = {
        key(model, here),
        key(replace(model, sha256="0" * 64), here),
        key(model, replace(here, calibration=other)),
        key(model, replace(here, batch=2)),
        key(model, replace(here, tile=(16, 32, 32))),
        str(key_of(model, here, ("torch", "numpy"), precision="int8", calibration="calibration-1")),
        str(key_of(model, here, ("torch",), precision="fp32", calibration="calibration-1")),
    }
    assert len(keys) == 7
    assert key(model, here) == key(model, replace(here, cache=tmp_path / "elsewhere"))
