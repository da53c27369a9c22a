"""The intensities that are mapped to 0 and 1 before a network that brings no preprocessing of its own."""

from models.errors import some
from models.model import REFERENCE_WINDOW
from models.options import ModelOptions
from models.task import PANCREAS, Task, intensity_unit

Window = tuple[float, float]
UNNAMED = "no window is named"  # how the remark begins that whoever runs the network says too


def window_of(options: ModelOptions, task: Task | None, in_file: Window | None = None) -> tuple[Window, list[str]]:
    """The window that the user names, else the file, else the reference network's; and what is to be said of it.

    That last one is of CT, in HU; of other images it may clip nearly every voxel.
    """
    named = options.window or in_file
    if named is not None:
        return named, []
    channels = (PANCREAS if task is None else task).channels
    if intensity_unit(channels):
        return REFERENCE_WINDOW, []
    low, high = REFERENCE_WINDOW
    which = f"the channel {channels[0]} is" if len(channels) == 1 else f"the channels {some(list(channels), 8)} are"
    return REFERENCE_WINDOW, [
        f"{UNNAMED}, and {which} not CT: intensities are clipped to {low:g} to {high:g}; give --window=LOW,HIGH"
    ]
