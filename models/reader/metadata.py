"""What a checkpoint says beside its weights: epoch, metrics, settings; the rest is named."""

from dataclasses import dataclass, field

from torch import Tensor

from models.reader.torch_pickle.placeholders import Placeholder, represented

# Where training scripts keep the options they were started with.
_SETTINGS = ("hyper_parameters", "hparams", "args", "opt", "config", "cfg")
_DEEPEST = 4  # dicts inside dicts; a pickle can hold a dict that holds itself
_MOST = 200  # values of one group of settings
_LONGEST = 1000  # characters of a recorded text


@dataclass
class Metadata:
    """What lies beside the weights, sorted.

    Attributes:
        epoch: of the training, or None.
        metrics: real numbers, nested ones under dotted names; as written, units unknown.
        values: other plain ones of the top level, and of settings under dotted names.
        ignored: keys left alone, with the class of what lies there where that says something.
    """

    epoch: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    values: dict[str, int | float | str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def metadata_of(beside: dict[str, object]) -> Metadata:
    """Sort what lies beside the weights."""
    metadata = Metadata()
    for name, held in beside.items():
        value = represented(held)
        if name in ("epoch", "current_epoch") and isinstance(value, int):
            metadata.epoch = value
        elif name == "metrics" and isinstance(value, dict):
            metadata.metrics |= _real_numbers(value)
        elif isinstance(value, dict) and (name in _SETTINGS or value is not held):
            _add_settings(metadata, name, value)
        elif (number := _real_number(value)) is not None and not isinstance(value, int):
            metadata.metrics[name] = number
        elif isinstance(value, int) or (isinstance(value, str) and len(value) <= _LONGEST):
            metadata.values[name] = value
        else:
            if name == "callbacks" and isinstance(value, dict):
                metadata.metrics |= _monitored(value)
            metadata.ignored.append(_with_class(name, value))
    return metadata


def _add_settings(metadata: Metadata, name: str, values: dict[object, object], depth: int = 1) -> None:
    for key, held in list(dict.items(values))[:_MOST]:
        value, path = represented(held), f"{name}.{key}"
        if isinstance(value, dict) and depth < _DEEPEST and len(metadata.values) < _MOST:
            _add_settings(metadata, path, value, depth + 1)
        elif isinstance(value, int | float | str):
            metadata.values[path] = value[:_LONGEST] if isinstance(value, str) else value
        elif value is not None:
            metadata.ignored.append(_with_class(path, value))
    if len(values) > _MOST:
        metadata.ignored.append(f"{len(values) - _MOST} more of {name}")


def _monitored(callbacks: dict[object, object]) -> dict[str, float]:
    """The score by which Lightning's ModelCheckpoint judged these weights, under the name of what it monitored."""
    numbers: dict[str, float] = {}
    for state in dict.values(callbacks):
        if isinstance(state, dict) and isinstance(monitor := dict.get(state, "monitor"), str):
            number = _real_number(dict.get(state, "current_score"))
            numbers |= {} if number is None else {monitor: number}
    return numbers


def _real_numbers(values: dict[object, object]) -> dict[str, float]:
    """Take the numbers out of a dict and out of the dicts right inside it."""
    numbers: dict[str, float] = {}
    for name, value in dict.items(values):
        inner = dict.items(value) if isinstance(value, dict) else []
        pairs = [(str(name), value), *((f"{name}.{key}", leaf) for key, leaf in inner)]
        numbers |= {key: number for key, leaf in pairs if (number := _real_number(leaf)) is not None}
    return numbers


def _real_number(value: object) -> float | None:
    if isinstance(value, Tensor) and value.ndim == 0 and value.device.type == "cpu" and value.is_floating_point():
        return float(value.item())
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53):
        return float(value)
    return None


def _with_class(name: str, value: object) -> str:
    return f"{name} ({value.kind})" if isinstance(value, Placeholder) and value.kind else name
