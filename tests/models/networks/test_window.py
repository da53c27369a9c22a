"""The window of intensities, and what is said where nobody named one."""

from dataclasses import replace

import pytest

from models.networks.window import window_of
from models.options import ModelOptions
from models.task import PANCREAS, Task

CLIPPED = "are clipped to -1000 to 1000; give --window=LOW,HIGH"


@pytest.mark.parametrize("task", [None, PANCREAS, replace(PANCREAS, channels=("ct", "CT arterial"))])
def test_ct_has_a_window_of_its_own(task: Task | None) -> None:
    assert window_of(ModelOptions(), task) == ((-1000.0, 1000.0), [])


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (("MR",), f"no window is named, and the channel MR is not CT: intensities {CLIPPED}"),
        (("CT", "PET"), f"no window is named, and the channels CT, PET are not CT: intensities {CLIPPED}"),
    ],
)
def test_other_images_have_none(channels: tuple[str, ...], said: str) -> None:
    task = replace(PANCREAS, channels=channels)
    assert window_of(ModelOptions(), task) == ((-1000.0, 1000.0), [said])
    assert window_of(ModelOptions(window=(0.0, 9.0)), task, (0.0, 5.0)) == ((0.0, 9.0), [])
    assert window_of(ModelOptions(), task, (0.0, 5.0)) == ((0.0, 5.0), [])
