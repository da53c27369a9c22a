"""Codes of a searched architecture, in a file that is read as data."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import CheckpointError
from tests.bundles import BUNDLES, SEARCHED, write
from tests.loading import load
from tests.models.monai.test_bundle import TOUCH


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dints") / "root", *BUNDLES["pancreas_ct_dints"]())


def test_the_codes_are_those_of_the_file(bundle: Path) -> None:
    module: Any = load(bundle)[0].module
    assert module.network.dints_space.arch_code_c.argmax(-1).tolist() == SEARCHED["arch_code_c"].tolist()
    assert module.network.node_a == SEARCHED["node_a"].tolist()


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch MARKER",)


CODES = "its dints_space::arch_code"
CHANGES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "a program": ({}, {**SEARCHED, "node_a": Trap()}, "search_code_18590.pt: holds code or objects, not only"),
    "no array": ({}, {**SEARCHED, "node_a": [1]}, "has no array of at most 10000 numbers under node_a"),
    "huge": ({}, {**SEARCHED, "node_a": np.zeros(20_000)}, "has no array of at most 10000 numbers under node_a"),
    "objects": ({}, {**SEARCHED, "node_a": np.array([None, "x"], object)}, "no array of at most 10000 numbers"),
    "another file": ({"arch_ckpt_path": "/etc/passwd"}, SEARCHED, "its arch_ckpt_path is /etc/passwd, which is not"),
    "a way out": ({"arch_ckpt_path": "$@bundle_root + '/../x.pt'"}, SEARCHED, "/../x.pt, which is not in the bundle"),
    "nothing": ({"arch_ckpt_path": "$@bundle_root + '/models/x.pt'"}, SEARCHED, "root: has no models/x.pt; download"),
    "another function": ({"arch_ckpt": TOUCH}, SEARCHED, "its arch_ckpt is an expression"),
    "another space": ({"dints_space": {"_target_": "os.system"}}, SEARCHED, "dints_space is no TopologyInstance"),
    "a cell of its own": ({"dints_space": {"_target_": "TopologyInstance", "arch_code": TOUCH}}, SEARCHED, CODES),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_other_codes_are_refused(name: str, tmp_path: Path, marker: Path) -> None:
    changed, held, said = CHANGES[name]
    config, described = BUNDLES["pancreas_ct_dints"]()
    root = write(tmp_path / "root", config, described, changed)
    torch.save(held, root / "models" / "search_code_18590.pt")
    with pytest.raises(CheckpointError) as caught:
        load(root)
    assert said in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
