"""What the network of a run has learned, for its page: kernels, activation maps, feature maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlab.errors import printable
from cnnlab.reports.evidence import Evaluation, Evidence, order_by
from cnnlab.reports.page import encode, encode_exactly, tile
from cnnlab.runs.features import compute_gradcam, feature_maps, find_spatial_layer, spread
from cnnlab.runs.pictures import take_colours
from cnnlab.tasks import Classification

MAX_EXPLAINED = 6  # pictures with an activation map
MAX_LAYERS, MAX_MAPS = 4, 16


def show_network(found: Evidence, evaluation: Evaluation) -> dict[str, Any]:
    """First-layer kernels, activation maps of some mistakes and doubtful hits, feature maps of the first of them."""
    assert found.trained is not None, "asked with a network"
    model, task = found.trained.network.model, found.trained.facts.task
    convolutions = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    if not convolutions or not evaluation.batches.images.holds_pixels:
        return {"kernels": None, "activation_maps": [], "feature_maps": []}
    kernels = draw_kernels(convolutions[0][1].weight.detach().float().cpu())
    if not isinstance(task, Classification):
        return {"kernels": kernels, "activation_maps": [], "feature_maps": []}
    classes = [printable(name) for name in found.trained.facts.classes]
    predicted, certainty = task.predict(evaluation.outputs), task.to_scores(evaluation.outputs).amax(1)
    wrong = predicted != evaluation.labels
    chosen = [*order_by(certainty, wrong, True)[: MAX_EXPLAINED // 2].tolist()]
    chosen += order_by(certainty, ~wrong, False)[: MAX_EXPLAINED - len(chosen)].tolist()
    activation_maps, maps = [], []
    for position in chosen:
        images = take_normalised(evaluation, position)
        layer = find_spatial_layer(model, images)
        colours = take_colours(evaluation.batches, torch.tensor([position]))[0].numpy()
        label, taken = int(evaluation.labels[position]), int(predicted[position])
        (name,) = evaluation.batches.names([position])
        shown = [(encode_colours(colours), classes[label], name)]
        if layer is not None:
            for index in dict.fromkeys([taken, label]):
                cam = overlay(colours, compute_gradcam(model, layer, images, index).numpy())
                shown.append((encode_colours(cam), f"evidence for {classes[index]}", name))
        activation_maps.append(shown)
        if position == chosen[0]:
            maps = draw_feature_maps(feature_maps(model, spread(convolutions, MAX_LAYERS), images))
    return {"kernels": kernels, "activation_maps": activation_maps, "feature_maps": maps}


def take_normalised(evaluation: Evaluation, position: int) -> Tensor:
    """One image as the network is given it: (1, C, H, W)."""
    size = evaluation.batches.batch_size
    images, _ = evaluation.batches.batch(0, position // size)
    return images[position % size : position % size + 1].clone()


def encode_colours(colours: np.ndarray) -> str:
    """float (H, W, C) in 0…1"""
    return encode((255 * colours).round().astype(np.uint8), side=160)


def overlay(colours: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """An image with an activation map over it: yellow where the evidence is, blue where there is none."""
    from matplotlib import colormaps

    size = (colours.shape[1], colours.shape[0])
    smooth = np.asarray(Image.fromarray(cam.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    grey = colours.mean(2, keepdims=True)
    return 0.5 * grey + 0.5 * colormaps["cividis"](smooth)[..., :3]


def draw_kernels(weight: Tensor) -> tuple[str, str, int]:
    """Kernels (out, in, h, w): in colour for three input channels, otherwise a grey picture a channel; grey is zero."""
    out_channels, in_channels, height, width = weight.shape
    scaled = 0.5 + weight / (2 * weight.abs().max().clamp(min=1e-12))
    if in_channels != 3:
        scaled = scaled.flatten(0, 1).unsqueeze(1)
    kernels = (255 * scaled[:256]).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    columns = min(16, len(kernels))
    told = f"{out_channels} kernels of {in_channels}×{height}×{width} of the first convolution (grey is zero)"
    return encode_exactly(tile(kernels, columns)), told, 44 * columns


def draw_feature_maps(maps: dict[str, Tensor]) -> list[tuple[str, str, int]]:
    """Each layer's first maps, each from its least to its largest value, of the first picture above."""
    drawn = []
    for name, layer in maps.items():
        channels, height, width = layer.shape
        low, high = layer.amin((1, 2), keepdim=True), layer.amax((1, 2), keepdim=True)
        scaled = ((layer - low) / (high - low).clamp(min=1e-12))[:MAX_MAPS].float()
        pixels = (255 * scaled).round().to(torch.uint8).unsqueeze(3).numpy()
        told = f"Feature maps of {printable(name)} for the first picture: {len(pixels)} of {channels}, {height}×{width}"
        drawn.append((encode_exactly(tile(pixels, 8)), told, 8 * max(44, width)))
    return drawn
