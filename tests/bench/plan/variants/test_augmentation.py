"""Which axes are mirrored: what users write, and what a checkpoint allows."""

from dataclasses import replace

import pytest

from bench.cli.options import parser
from bench.plan.variants.augmentation import mirror_axes, read_tta, resolved_tta, tta_absent
from models.model import Model, Plans
from models.networks.unet import MultiTaskUNet

PLAIN = Model(
    module=MultiTaskUNet(2), architecture="", width=2, tile=(32, 32, 32), window=(0.0, 1.0), sha256=""
)  # fmt: skip
PLANNED = replace(PLAIN, plans=Plans({}, {}, "3d_fullres"))


@pytest.mark.parametrize(
    ("text", "read", "axes"),
    [
        ("none", "none", ()),
        ("mirror:y,x", "mirror:x,y", (0, 1)),
        ("mirror:z", "mirror:z", (2,)),
        ("mirror:x,y,z", "mirror:x,y,z", (0, 1, 2)),
    ],
)
def test_what_users_write(text, read, axes):
    assert read_tta(text) == read
    assert mirror_axes(read) == axes


@pytest.mark.parametrize("text", ["", "mirror:", "mirror:x,x", "mirror:w", "flip", "none:x", "mirror:x,"])
def test_what_is_none(text, capsys):
    assert read_tta(text) is None
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["run", "--tta", text])
    assert caught.value.code == 2
    assert "is not none, mirror, or mirror with axes, as in mirror:x,y" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "asked", "resolved", "reason"),
    [
        (PLAIN, "mirror", "mirror:x,y,z", None),
        (PLAIN, "mirror:y", "mirror:y", None),
        (replace(PLANNED, mirror_axes=(1, 0)), "mirror", "mirror:x,y", None),
        (replace(PLANNED, mirror_axes=(0, 1)), "mirror:y", "mirror:y", None),
        (replace(PLANNED, mirror_axes=(0, 1)), "mirror:y,z", None, "allows x, y only"),
        (replace(PLANNED, mirror_axes=()), "mirror", None, "allows none"),
        (replace(PLANNED, mirror_axes=()), "mirror:x", None, "allows none"),
        (PLANNED, "mirror", None, "does not say which axes nnU-Net mirrors"),
        (PLANNED, "mirror:x", "mirror:x", None),
        (replace(PLANNED, mirror_axes=()), "none", "none", None),
    ],
)
def test_what_a_checkpoint_allows(model, asked, resolved, reason):
    absent = tta_absent(asked, model)
    assert (absent is None) == (reason is None)
    assert resolved_tta(asked, model) == (resolved or asked)
    if reason:
        assert reason in absent.reason
        assert absent.fix
