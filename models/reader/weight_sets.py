"""Where in what `torch.save` wrote the weights lie: the dicts in it that hold some, and which of them is taken."""

import re
from collections.abc import Iterator
from itertools import islice

from torch import Tensor

# Where training scripts put the weights; of several in one file the first of this list is taken.
WRAPPERS = (
    "model_state_dict", "state_dict", "model", "network_weights", "net", "network",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema",
)  # fmt: skip
_STATE_OF_TRAINING = re.compile("optim", re.IGNORECASE)  # keys under which tensors are no weights
_DEEPEST = 8  # a pickle can hold a dict that holds itself
_MOST = 16  # sets of weights; of a hostile file there could be any number

Keys = tuple[str, ...]  # from the top of the file to a dict


def usual_place(held: object) -> Keys:
    """The keys of `WRAPPERS` that lead inwards, as far as there are any."""
    keys: list[str] = []
    while isinstance(held, dict) and len(keys) < _DEEPEST:
        inner = {name: dict.get(held, name) for name in WRAPPERS}
        key = next((name for name in WRAPPERS if isinstance(inner[name], dict)), None)
        if key is None:
            break
        keys.append(key)
        held = inner[key]
    return tuple(keys)


def weight_sets(held: object) -> list[Keys]:
    """The places of dicts with matrices or kernels among their values, in the order of the file."""
    return list(islice(_sets(held, ()), _MOST))


def _sets(held: object, keys: Keys) -> Iterator[Keys]:
    if not isinstance(held, dict) or len(keys) > _DEEPEST:
        return
    # A pickle may hang attributes on an OrderedDict that hide its methods, so they are not looked up on it.
    items = list(dict.items(held))
    if any(isinstance(value, Tensor) and value.ndim > 1 for _, value in items):
        yield keys
    for name, value in items:
        if isinstance(name, str) and not _STATE_OF_TRAINING.search(name):
            yield from _sets(value, (*keys, name))
