"""Files that are refused: each with one line that names the file, what is in it, and what to do."""

import os
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from models.errors import CheckpointError
from models.networks.unet import MultiTaskUNet
from models.reader.source import refuse_old_torch
from tests.loading import load

Hold = Callable[..., Path]
Save = Callable[..., Path]


def refused(path: Path, *said: str) -> str:
    """Read a file that must be refused; check the form of the refusal."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert "; " in message
    for words in said:
        assert words in message, message
    return message


def test_code_beside_real_weights(network: MultiTaskUNet, saved: Save, marker: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {marker}",)

    held = {"model_state_dict": network.state_dict(), "extra": Trap()}
    refused(saved(held), "posix.system")
    refused(saved(held, pickle_protocol=4), "posix.system")
    refused(saved(held, _use_new_zipfile_serialization=False), "posix.system")
    marker.with_name("bare.pkl").write_bytes(pickle.dumps(Trap(), protocol=4))
    refused(marker.with_name("bare.pkl"), "a pickle that torch.save did not write", "posix.system")


def test_whole_modules_and_their_like_are_named(network: MultiTaskUNet, saved: Save) -> None:
    refused(saved(network), "models.networks.unet.MultiTaskUNet", "network.state_dict()")
    refused(saved({"state_dict": network.state_dict(), "share": Fraction(1, 3)}), "it wants fractions.Fraction")
    legacy = saved({"criterion": torch.nn.MSELoss()}, _use_new_zipfile_serialization=False)
    refused(legacy, "NEWOBJ on something other than a name", "network.state_dict()")


def test_globals_that_other_libraries_allowed_stay_closed(saved: Save) -> None:
    with torch.serialization.safe_globals([Fraction]):
        before = set(torch.serialization.get_safe_globals())
        refused(saved({"state_dict": {"x": torch.ones(1)}, "share": Fraction(1, 3)}), "it wants fractions.Fraction")
        assert set(torch.serialization.get_safe_globals()) == before


def test_what_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pth", "there is no such file")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is not a regular file")


def test_other_formats_are_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    for name in ("image.nii", "image.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / name)  # type: ignore[no-untyped-call]
        refused((tmp_path / name).rename(path), "is a NIfTI image")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    refused(tmp_path / "arrays.npz", "without the data.pkl")


def test_a_file_without_weights(saved: Save) -> None:
    refused(saved(torch.ones(3)), "holds a Tensor where a dict of tensors is expected")
    refused(saved([1, 2]), "holds a list")
    refused(saved({}), "holds no tensors among its keys (none)")
    refused(saved({"epoch": 3, "weights": {"a": torch.ones(1)}}), "among its keys (epoch, weights)", "model_state_dict")
    refused(saved({"state_dict": {"a": 1}}), "holds no tensors under state_dict")


def test_old_torch_is_refused() -> None:
    for version in ("2.5.1", "2.9.1+cu128"):
        with pytest.raises(CheckpointError, match="CVE-2026-24747"):
            refuse_old_torch(Path("model.pth"), version)
    for version in ("2.10.0", "2.13.0+cpu", "3.0.0a0+git1"):
        refuse_old_torch(Path("model.pth"), version)
