"""Pictures of what a run's network has learned: the kernels of its first convolution, and feature maps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cnnlab.data import ImageSet
from cnnlab.data.batches import Batches
from cnnlab.data.normalise import Normalise
from cnnlab.data.pictures import PictureDecoder
from cnnlab.data.resize import crop_square
from cnnlab.errors import ConfigError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.output import announce
from cnnlab.runs.plots import legible, new_figure, save_figure
from cnnlab.runs.trained import Trained, load_trained

MAX_LAYERS = 6  # of which feature maps are drawn, spread evenly over the depth
MAX_MAPS = 16  # of each layer
MAX_KERNELS = 256
COLUMNS = 16  # of kernels


def draw_features(arguments: list[str], image: str | None = None) -> list[Path]:
    """plots/kernels.png and plots/feature_maps.png of a run, drawn with its best weights.

    `image` is a picture file; without one it is the first test image, or the first validation or training image where
    there are no others. Returns the files. Raises ConfigError where there is nothing to
    draw, DataError for a picture that cannot be decoded.
    """
    if len(arguments) != 1 or "=" in arguments[0]:
        raise ConfigError(
            f"--plot: {' '.join(arguments)!r} was given; expected a run, to draw what it has learned: cnnlab inspect "
            "RUN --plot; or keys alone, to draw a learning rate (schedule=NAME) or images (dataset=NAME augment=NAME)"
        )
    run = RunDirectory.open(arguments[0])
    trained = load_trained(run)
    model = trained.network.model
    convolutions = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise ConfigError(f"{run}: its network, {trained.config.model.name}, has no convolution: nothing to draw")
    draw_kernels(run, convolutions[0][1].weight.detach().cpu())
    pixels, images = choose_image(trained, image)
    draw_feature_maps(run, pixels, feature_maps(model, spread(convolutions, MAX_LAYERS), images))
    return [run.kernels, run.feature_maps]


def choose_image(trained: Trained, path: str | None) -> tuple[Tensor, Tensor]:
    """One image as it lies, uint8 (H, W, C), and as the network is given it, (1, C, H, W)."""
    facts, device = trained.facts, trained.network.device
    if path is None:
        parts = trained.read_parts()
        part = next(parts[name] for name in ("test", "valid", "train") if name in parts)
        pixels = part.pixels(torch.tensor([0]))
    else:
        decoder = PictureDecoder(facts.image_size, facts.resize, grey=facts.channels == 1)
        square = crop_square(decoder.decode(Path(path)), facts.image_size, facts.resize)
        pixels = torch.from_numpy(square).unsqueeze(0)
    one = ImageSet.of(pixels.to(device), torch.zeros(1, dtype=torch.long, device=device))
    images, _ = Batches(one, torch.arange(1), 1, Normalise(facts.mean, facts.std)).batch(0, 0)
    return pixels[0].cpu(), images


def feature_maps(network: nn.Module, layers: list[tuple[str, nn.Conv2d]], images: Tensor) -> dict[str, Tensor]:
    """The outputs of some convolutions for one image, each (channels, height, width), by name."""
    maps: dict[str, Tensor] = {}

    def remember(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            maps[name] = output[0].detach().clone().cpu()  # what follows may work in place

        return hook

    handles = [layer.register_forward_hook(remember(name)) for name, layer in layers]
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    return maps


def find_spatial_layer(network: nn.Module, images: Tensor) -> nn.Conv2d | None:
    """The last convolution whose maps have more than one place for one image; None without."""
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    maps = feature_maps(network, layers, images)
    found = [layer for name, layer in layers if name in maps and maps[name][0].numel() > 1]
    return found[-1] if found else None


def compute_gradcam(network: nn.Module, layer: nn.Module, images: Tensor, index: int) -> Tensor:
    """Where the evidence for a class lies in one image (1, C, H, W): (h, w) of the layer's maps, at most 1.

    Selvaraju et al. 2017, Grad-CAM, arXiv:1610.02391: the maps of a convolution, weighted by the mean gradient of the
    class's logit, summed, and what is negative left out. Of one logit alone, class 0 is its negative.
    """
    kept: list[Tensor] = []

    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # what follows may work in place

    handle = layer.register_forward_hook(hook)
    try:
        with torch.enable_grad():
            logits = network.eval()(images.detach().requires_grad_())  # even where no weight learns
            score = logits[0, index] if logits.shape[1] > 1 else logits[0, 0] * (1 if index else -1)
            (gradients,) = torch.autograd.grad(score, kept[0])
    finally:
        handle.remove()
    cam = (gradients.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0].relu().detach().float().cpu()
    return cam / cam.max().clamp(min=1e-12)


def spread(items: list, number: int) -> list:
    """At most `number` of the items, from the first to the last, at even distances."""
    if len(items) <= number:
        return items
    return [items[round(place * (len(items) - 1) / (number - 1))] for place in range(number)]


# --- Drawing ----------------------------------------------------------------------------------------


def draw_kernels(run: RunDirectory, weight: Tensor) -> None:
    """Kernels (out, in, h, w): in colour for three input channels, otherwise one grey picture a channel.

    Grey is zero; the largest weight of all, or its negative, is white or black.
    """
    scaled = (0.5 + weight / (2 * weight.abs().max().clamp(min=1e-12))).float()
    if weight.shape[1] != 3:
        scaled = scaled.flatten(0, 1).unsqueeze(1)
    kernels = scaled.permute(0, 2, 3, 1)[:MAX_KERNELS]
    columns = min(len(kernels), COLUMNS)
    rows = -(-len(kernels) // columns)
    figure = new_figure(0.6 * columns + 1, 0.6 * rows + 0.4)
    for axes, kernel in zip(figure.subplots(rows, columns, squeeze=False).flat, kernels, strict=False):
        axes.imshow(kernel.numpy(), cmap="gray", vmin=0, vmax=1)
    for axes in figure.axes:
        axes.set_axis_off()
    out_channels, in_channels, height, width = weight.shape
    figure.suptitle(f"{out_channels} kernels of {in_channels}×{height}×{width}", fontsize=9)
    announce(run.kernels)
    save_figure(figure, run.kernels)


def draw_feature_maps(run: RunDirectory, pixels: Tensor, maps: dict[str, Tensor]) -> None:
    """The image, and below it a row of feature maps for each layer, each map from its least to its largest value."""
    columns = min(MAX_MAPS, max(len(layer_maps) for layer_maps in maps.values()))
    figure = new_figure(0.9 * columns, 1.15 * (len(maps) + 1))
    grid = figure.subplots(len(maps) + 1, columns, squeeze=False)
    for axes in figure.axes:
        axes.set_axis_off()
    grid[0, 0].imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=255)
    grid[0, 0].set_title("image", fontsize=8, loc="left")
    for row, (name, layer_maps) in zip(grid[1:], maps.items(), strict=True):
        channels, height, width = layer_maps.shape
        shown = f"{columns} of {channels}" if columns < channels else str(channels)
        row[0].set_title(f"{legible(name)}: {shown} maps of {height}×{width}", fontsize=8, loc="left")
        for axes, one in zip(row, layer_maps, strict=False):
            axes.imshow(one.numpy(), cmap="gray")
    announce(run.feature_maps)
    save_figure(figure, run.feature_maps)
