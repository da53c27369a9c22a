"""Accuracy of a network on the demo's made-up cases."""

import numpy as np
import torch
from demo_tiles import TILE, Volume, crop
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score
from torch import Tensor, nn

from bench.accuracy import dsc
from models.networks.unet import SUBTYPES


def mean_dice(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Dice of pancreas, lesion and whole pancreas."""
    return dsc(labels == 1, truth == 1), dsc(labels == 2, truth == 2), dsc(labels > 0, truth > 0)


def summarise(scores: list[tuple[float, float, float]], truth: list[int], named: list[int]) -> dict[str, np.float64]:
    """Means over cases under the checkpoint's names."""
    pancreas, lesion, whole = np.mean(scores, axis=0)
    f1 = np.float64(f1_score(truth, named, average="macro", labels=range(SUBTYPES)))
    return {"pancreas_dice": pancreas, "lesion_dice": lesion, "whole_dice": whole, "cls_f1": f1}


@torch.inference_mode()
def crop_metrics(network: nn.Module, volumes: list[Volume], seed: int) -> dict[str, np.float64]:
    """Accuracy on one random tile of each case, and a line about it on the screen."""
    rng = np.random.default_rng(seed)
    scores, named = [], []
    for volume in volumes:
        image, labels = crop(volume, rng.integers(0, volume.labels.shape), rng)
        masks, logits = network(image[None, None])
        scores.append(mean_dice(masks[0].argmax(0).numpy().astype(np.uint8), labels.numpy().astype(np.uint8)))
        named.append(int(logits.argmax()))
    metrics = summarise(scores, [volume.subtype for volume in volumes], named)
    print("random crops:", {name: round(float(value), 3) for name, value in metrics.items()}, flush=True)
    return metrics


@torch.inference_mode()
def evaluate(network: nn.Module, volumes: list[Volume]) -> None:
    """Print the accuracy on whole volumes: tiles that overlap by half, Gaussian weights.

    A case's subtype is that of its tiles' logits, weighted by the pancreas that each tile predicts.
    """
    network.eval()
    scores, named = [], []
    for volume in volumes:
        votes = torch.zeros(SUBTYPES)

        def predict(tiles: Tensor, votes: Tensor = votes) -> Tensor:
            masks: Tensor
            masks, logits = network(tiles)
            votes += (logits * masks.softmax(1)[:, 1:].sum((1, 2, 3, 4))[:, None]).sum(0)
            return masks

        image = torch.from_numpy(volume.image).float()[None, None]
        masks = sliding_window_inference(image, (TILE,) * 3, 4, predict, 0.5, "gaussian")
        assert isinstance(masks, Tensor)
        scores.append(mean_dice(masks[0].argmax(0).numpy().astype(np.uint8), volume.labels))
        named.append(int(votes.argmax()))
    truth = [volume.subtype for volume in volumes]
    metrics = summarise(scores, truth, named)
    print("whole volumes:", {name: round(float(value), 4) for name, value in metrics.items()})
    print("lowest whole and lesion Dice:", *np.min(scores, axis=0)[[2, 1]].round(3))
    print("subtypes, true by row:", confusion_matrix(truth, named, labels=range(SUBTYPES)).tolist(), flush=True)
