"""Artefacts on disk: whole, keyed by all they depend on, and rebuilt when they are not whole."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engines
from engines import probe
from engines.base import Calibration, EngineError, Target
from engines.cache import artefact, asked, key_of, place_of
from engines.probe import check
from models.model import Model
from tests.full_disk import most_bytes_in_a_file

ON_DISK = ("torchscript", "ort-int8", "openvino-int8")


def _target(cache: Path, prebuilt: Path | None = None) -> Target:
    return Target("cpu", (8, 8, 8), 1, 1, cache, prebuilt=prebuilt)


def _write(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "weights.bin").write_bytes(b"w" * 1000)
    (folder / "graph").write_text("graph")


@pytest.mark.parametrize("name", ON_DISK)
def test_engines_come_back_from_disk(
    name: str, target: Callable[..., Target], model: Model, tiles: Callable[[int, int], Tensor], tmp_path: Path
) -> None:
    """The second time is a hit with the same outputs; a truncated file is built again."""
    here = replace(target(cache=tmp_path), int8_dice=0.0)  # all layers stay in INT8, whatever that does
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
    with (
        most_bytes_in_a_file(500),
        pytest.raises(EngineError, match=r"the cache has no room .*; make room, or set VOXBENCH_CACHE to another"),
    ):
        artefact(_target(tmp_path), "thing", {"a": 1}, _write)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_artefact_is_not_built_again(tmp_path: Path) -> None:
    first = artefact(_target(tmp_path), "thing", {"a": 1}, _write)
    again = artefact(_target(tmp_path), "thing", {"a": 1}, lambda _: pytest.fail("built again"))
    assert (first.cached, again.cached) == (False, True)
    assert (again.folder / "graph").read_text() == "graph"
    assert artefact(_target(tmp_path), "thing", {"a": 2}, _write).folder != first.folder


@pytest.mark.parametrize("harm", ["truncate", "change", "remove", "no manifest", "manifest of another kind"])
def test_a_corrupt_artefact_is_built_again(harm: str, tmp_path: Path) -> None:
    folder = artefact(_target(tmp_path), "thing", {"a": 1}, _write).folder
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
    again = artefact(_target(tmp_path), "thing", {"a": 1}, _write)
    assert not again.cached
    assert (again.folder / "part" / "weights.bin").read_bytes() == b"w" * 1000
    assert artefact(_target(tmp_path), "thing", {"a": 1}, _write).cached


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        _write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artefact(_target(tmp_path), "thing", {"a": 1}, broken)
    assert list(tmp_path.iterdir()) == []
    assert not artefact(_target(tmp_path), "thing", {"a": 1}, _write).cached


def test_the_first_of_two_builders_wins(tmp_path: Path) -> None:
    def overtaken(folder: Path) -> None:  # by another machine with the same cache, which no lock holds back
        other = artefact(_target(tmp_path / "other"), "thing", {"a": 1}, _write)
        other.folder.rename(tmp_path / other.folder.name)
        (tmp_path / "other").rmdir()
        _write(folder)

    built = artefact(_target(tmp_path), "thing", {"a": 1}, overtaken)
    assert [path.name for path in tmp_path.iterdir()] == [built.folder.name]


def test_what_two_processes_need_is_built_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(2), context.Queue()
    builders = [context.Process(target=_build_slowly, args=(tmp_path, ready, found)) for _ in range(2)]
    for each in builders:
        each.start()
    assert sorted(found.get(timeout=60) for _ in builders) == [False, True]
    for each in builders:
        each.join(60)


def _build_slowly(
    cache: Path, ready: "multiprocessing.synchronize.Barrier", found: "multiprocessing.Queue[bool]"
) -> None:
    def build(folder: Path) -> None:
        time.sleep(1)
        _write(folder)

    ready.wait(60)
    found.put(artefact(_target(cache), "thing", {"a": 1}, build).cached)


def test_the_key_holds_all_that_matters(target: Callable[..., Target], model: Model, tmp_path: Path) -> None:
    here = target(cache=tmp_path)

    def key(model: Model, target: Target) -> str:
        assert target.calibration is not None
        return str(key_of(model, target, ("torch",), precision="int8", calibration=target.calibration.sha256))

    other = Calibration(lambda: torch.zeros(1), "calibration-2")
    keys = {
        key(model, here),
        key(replace(model, sha256="0" * 64), here),
        key(replace(model, packages=("numpy",)), here),
        key(model, replace(here, calibration=other)),
        key(model, replace(here, batch=2)),
        key(model, replace(here, tile=(16, 32, 32))),
        str(key_of(model, here, ("torch", "pytest"), precision="int8", calibration="calibration-1")),
        str(key_of(model, here, ("torch",), precision="fp32", calibration="calibration-1")),
    }
    assert len(keys) == 8
    assert key(model, here) == key(model, replace(here, cache=tmp_path / "elsewhere"))


KEY = {"weights": "a", "device": "here", "versions": {"torch": "1"}}


def _packed(folder: Path, kind: str, key: dict[str, object]) -> Path:
    """The folder of a package with one artefact of a machine elsewhere."""
    artefact(_target(folder), kind, key, _write)
    return folder


def test_what_a_package_holds_is_not_built(tmp_path: Path) -> None:
    key = KEY | {"calibration": "tiles", "hint": "bf16"}
    packed = _packed(tmp_path / "package", "openvino-int8", key | {"device": "there", "versions": {}})
    here = _target(tmp_path / "cache", packed)
    built = artefact(here, "openvino-int8", key | {"hint": "f32"}, lambda _: pytest.fail("built"))
    assert built.cached
    assert built.folder.parent == packed
    assert not here.cache.exists()
    assert asked()[-1] == built.folder


@pytest.mark.parametrize("key", [KEY | {"device": "there"}, KEY | {"versions": {"torch": "2"}}])
def test_machine_code_of_another_machine_is_built_anew(key: dict[str, object], tmp_path: Path) -> None:
    here = _target(tmp_path / "cache", _packed(tmp_path / "package", "tensorrt-fp16", key))
    built = artefact(here, "tensorrt-fp16", KEY, _write)
    assert (built.cached, built.folder) == (False, place_of(here.cache, "tensorrt-fp16", KEY))


def test_int8_of_another_processor_is_refused(tmp_path: Path) -> None:
    key = KEY | {"calibration": "tiles", "weight_bits": 8}
    here = _target(tmp_path / "cache", _packed(tmp_path / "package", "openvino-int8", key))
    problem = r"openvino-int8 for another machine or setting \(weight_bits 8\).*; export it on a machine like this one"
    with pytest.raises(EngineError, match=problem):
        artefact(here, "openvino-int8", key | {"weight_bits": 7}, lambda _: pytest.fail("built"))


def test_a_damaged_artefact_of_a_package_is_not_taken_and_not_touched(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "package", "onnx-fp32", KEY)
    (folder,) = packed.iterdir()
    (folder / "graph").write_text("another")
    built = artefact(_target(tmp_path / "cache", packed), "onnx-fp32", KEY, _write)
    assert (built.cached, built.folder.parent) == (False, tmp_path / "cache")
    assert (folder / "graph").read_text() == "another"


def test_what_a_build_takes_itself_was_not_asked_for(tmp_path: Path) -> None:
    here = _target(tmp_path)

    def build(folder: Path) -> None:
        artefact(here, "inner", KEY, _write)
        _write(folder)

    outer = artefact(here, "outer", KEY, build)
    assert asked()[-1] == outer.folder
    assert place_of(tmp_path, "inner", KEY) not in asked()


def test_what_came_built_needs_no_packages_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, absent = probe.find_spec, ("nncf", "onnx", "onnxscript")
    monkeypatch.setattr(probe, "find_spec", lambda name: None if name in absent else there(name))
    row = engines.BACKENDS["openvino-int8"]
    calibrated = {"calibration": Calibration(lambda: torch.zeros(1), "tiles")}
    assert check(replace(_target(tmp_path), **calibrated), row).reason == "the package onnx is not installed"
    assert check(replace(_target(tmp_path, tmp_path), **calibrated), row).ok


def test_what_must_be_built_anew_says_which_package_it_needs(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        import a_package_that_is_not_there  # noqa: F401

    with pytest.raises(EngineError, match=r"no onnx-fp32 for this machine .* needs a_package_that_is_not_there"):
        artefact(_target(tmp_path / "cache", tmp_path / "package"), "onnx-fp32", KEY, build)
