"""Several networks as one session: the mean of the logits of real engines, and what they say of themselves."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engines
from bench.worker.ensemble import EnsembleSession, open_all
from engines.base import Calibration, Evidence, Target, class_check_of, has_own_threads
from models.model import Model, weights_sha256
from models.networks.unet import MultiTaskUNet, Shape

TILE = (32, 32, 32)


def member(seed: int) -> Model:
    torch.manual_seed(seed)
    network = MultiTaskUNet(shape=Shape(2, poolings=2)).eval().requires_grad_(False)
    return Model(
        module=network, architecture="multitask-unet", width=2, tile=TILE, window=(-1000.0, 1000.0),
        sha256=weights_sha256(network),
    )  # fmt: skip


@pytest.fixture(scope="module")
def members() -> list[Model]:
    return [member(seed) for seed in (1, 2, 3)]


def noise(batch: int) -> Tensor:
    return torch.rand(batch, 1, *TILE, generator=torch.Generator().manual_seed(0))


def target(folder: Path, batch: int) -> Target:
    # No layer goes back to float, whatever INT8 does to the masks: which layers do is asked elsewhere.
    return Target("cpu", TILE, batch, 1, folder, Calibration(lambda: noise(4), "noise"), int8_dice=0.0)


@pytest.mark.parametrize(
    ("name", "batch", "tolerance"),
    [("torch-fp32", 1, 1e-6), ("torchscript", 2, 1e-4), ("ort-fp32", 1, 1e-4),
     ("openvino-int8", 1, 0.3)],
)  # fmt: skip
def test_any_engine_gives_the_mean_of_the_networks(name, batch, tolerance, members, tmp_path):
    engine = engines.load(name)
    wanted = target(tmp_path, batch)
    if not engine.probe(wanted).ok:
        pytest.skip(engine.probe(wanted).reason)
    x = noise(batch)
    with torch.inference_mode():
        pairs = [each.module(x) for each in members]
        expected = [torch.stack(logits).mean(0) for logits in zip(*pairs, strict=True)]
    with open_all(engine, engines.BACKENDS[name], members, wanted) as session:
        averaged = [logits.clone() for logits in session.infer(x)]
        session.sync()
        evidence, check = session.evidence(), class_check_of(session)
        assert has_own_threads(session) == (not name.startswith("torch"))
        if name == "openvino-int8":
            assert (check.infer(x) - expected[1]).abs().max() < 1e-4, "the exact mean"
        else:
            assert check is None
    for ours, logits in zip(averaged, expected, strict=True):
        assert (ours - logits).abs().max() <= tolerance * logits.abs().max()
    assert evidence.details["networks"] == 3
    assert sum(evidence.mac_share.values()) == pytest.approx(1)
    if name == "openvino-int8":
        assert evidence.mac_share["int8"] > 0.5
        assert len(list(tmp_path.glob("openvino-int8-*"))) == 3, "each network is calibrated"
        assert evidence.details["class_check_below"] > 0


def test_a_single_network_is_opened_as_it_is(members, tmp_path):
    with open_all(engines.load("torch-fp32"), engines.BACKENDS["torch-fp32"], members[:1], target(tmp_path, 1)) as only:
        assert not isinstance(only, EnsembleSession)


class Spoiling:
    """Writes into its input, and into outputs that all sessions share."""

    outputs = torch.zeros(1, 2), torch.zeros(1, 1)

    def __init__(self, factor: float, precision: str) -> None:
        self._factor, self._precision = factor, precision

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for output in self.outputs:
            output.copy_(self._factor * x[:, : output.shape[1]])
        x.zero_()
        return self.outputs

    def sync(self) -> None:
        pass

    def evidence(self) -> Evidence:
        return Evidence(f"torch {self._precision}", {self._precision: 1.0}, {"cached": self._factor > 1})


def test_sessions_do_not_spoil_each_other_and_none_hides_what_it_ran():
    session = EnsembleSession([Spoiling(1, "fp32"), Spoiling(2, "fp32"), Spoiling(6, "bf16")])
    segmentation, classification = session.infer(torch.ones(1, 2))
    assert (segmentation.tolist(), classification.tolist()) == ([[3.0, 3.0]], [[3.0]])
    evidence = session.evidence()
    assert evidence.mac_share == {"fp32": pytest.approx(2 / 3), "bf16": pytest.approx(1 / 3)}
    assert (evidence.provider, evidence.details["cached"]) == ("torch fp32 + torch bf16", False)


def test_rewritten_members_are_members_too(members, tmp_path):
    """They are networks of their own weights, so that no cache takes the one for the other."""
    from engines.rewrites import REWRITES, rewritten

    changed = [rewritten(each, list(REWRITES)) for each in members]
    with (
        open_all(engines.load("torch-fp32"), engines.BACKENDS["torch-fp32"], changed, target(tmp_path, 1)) as session,
        open_all(engines.load("torch-fp32"), engines.BACKENDS["torch-fp32"], members, target(tmp_path, 1)) as plain,
    ):
        torch.testing.assert_close(session.infer(noise(1))[0], plain.infer(noise(1))[0], rtol=1e-4, atol=1e-4)
    assert len({each.sha256 for each in changed}) == 3
    assert replace(changed[0], module=members[0].module).code != members[0].code
