"""Diagrams of networks, drawn from the networks themselves.

torch.fx records what `forward` does with its input; each step becomes a box in the row that follows its
latest input, branches stand side by side, and a shortcut runs around what it skips. The shape beside
an arrow is that of a real tensor sent through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from cnnlab.lessons.pictures import COLORS, Axes
from cnnlab.lessons.view import Figure, shape

ROW, LANE = 0.72, 1.16  # inches from row to row, and from branch to branch
BOX = (0.98, 0.44)  # inches, of a box
TINT = {"conv": "#dbe6f1", "linear": "#f6e0da", "pool": "#e3eedf", "join": "#f5e6c8", "": "#f3f1ec"}


@dataclass(eq=False)
class Step:
    """One box: what it says, which boxes feed it, and where it stands."""

    label: str
    tint: str
    inputs: list[Step]
    sizes: tuple[int, ...]  # of its output, without the batch
    readers: list[Step] = field(default_factory=list)
    row: int = 0
    lane: float = 0.0


def record(network: nn.Module, images: Tensor) -> list[Step]:
    """The steps of `network` in order, with the shapes that `images` get on their way; the first is the input."""
    traced = fx.symbolic_trace(network)
    modules = dict(traced.named_modules())
    values: dict[fx.Node, Any] = {}
    steps: dict[fx.Node, Step] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            values[node] = super().run_node(node)
            return values[node]

    with torch.no_grad():
        Recorder(traced).run(images)
    for node in traced.graph.nodes:
        feeding = [steps[source] for source in node.all_input_nodes if source in steps]
        if node.op == "output" or not isinstance(values.get(node), Tensor):
            continue
        sizes = tuple(values[node].shape[1:])
        if node.op == "placeholder":
            steps[node] = Step("input", "", [], sizes)
            continue
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        label, tint = describe_layer(module) if module else describe_call(node)
        if label:
            steps[node] = Step(label, tint, feeding, sizes)
            for source in feeding:
                source.readers.append(steps[node])
        elif feeding:
            steps[node] = feeding[0]  # bookkeeping that changes nothing
    return list(dict.fromkeys(steps.values()))


def describe_layer(layer: nn.Module) -> tuple[str, str]:
    """What stands in a layer's box, and the tint of its kind."""
    if isinstance(layer, nn.Conv2d):
        groups = "" if layer.groups == 1 else f", {layer.groups} groups"
        stride = "" if layer.stride == (1, 1) else f", /{layer.stride[0]}"
        return f"conv {shape(layer.kernel_size)}\n{layer.out_channels}{groups}{stride}", "conv"
    if isinstance(layer, nn.Linear):
        return f"linear\n{layer.out_features}", "linear"
    if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
        kind = "max" if isinstance(layer, nn.MaxPool2d) else "average"
        size = layer.kernel_size if isinstance(layer.kernel_size, tuple) else (layer.kernel_size,) * 2
        return f"{kind} pool\n{shape(size)}", "pool"
    names = {"BatchNorm2d": "batch norm", "ReLU": "relu", "AdaptiveAvgPool2d": "mean of a map", "Identity": ""}
    name = type(layer).__name__
    return names.get(name, name.lower()), "pool" if "Pool" in name else ""


def describe_call(node: fx.Node) -> tuple[str, str]:
    """The same for a function or method that `forward` calls."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if name in ("add", "iadd") and len(node.all_input_nodes) > 1:
        return "+", "join"
    if name == "mul":
        return "×" if len(node.all_input_nodes) > 1 else f"× {node.args[1]}", "join"
    if name == "rsub" or (name == "sub" and len(node.all_input_nodes) == 1):
        return f"{node.args[0]} − x" if not isinstance(node.args[0], fx.Node) else "1 − x", ""
    if name == "avg_pool2d":
        return "average pool\n{0}×{0}".format(node.kwargs.get("kernel_size", "")), "pool"
    names = {
        "cat": "stack\nchannels",
        "flatten": "flatten",
        "relu": "relu",
        "sigmoid": "sigmoid",
        "max_pool2d": "max pool",
    }
    return names.get(str(name), ""), "join" if name == "cat" else ""


def place(steps: list[Step]) -> None:
    """Rows by the longest way from the input; a branch keeps the lane that it was given where it parted."""
    for step in steps:
        step.row = 1 + max((source.row for source in step.inputs), default=-1)
        if len(step.inputs) > 1:
            source = common_source(step)
            met = {id(other) for joined in step.inputs for other in ancestors(joined)}
            all_meet = all(id(branch) in met for branch in branches_of(source))
            step.lane = source.lane if all_meet else max(step.inputs, key=lambda joined: joined.row).lane
        elif step.inputs:
            (source,) = step.inputs
            branches = branches_of(source)
            middle = (len(branches) - 1) / 2
            step.lane = source.lane + (branches.index(step) - middle if len(branches) > 1 else 0)


def branches_of(step: Step) -> list[Step]:
    """The ways that part at a step; a reader that joins others is no way of its own."""
    return [reader for reader in step.readers if len(reader.inputs) == 1]


def ancestors(step: Step) -> list[Step]:
    """A step and all that it comes from."""
    return [step] + [other for source in step.inputs for other in ancestors(source)]


def common_source(step: Step) -> Step:
    """The nearest step that all inputs of `step` come from."""
    shared = ancestors(step.inputs[0])
    for source in step.inputs[1:]:
        known = set(map(id, ancestors(source)))
        shared = [other for other in shared if id(other) in known]
    return max(shared, key=lambda other: other.row)


def draw_network(figure: Figure, network: nn.Module, images: Tensor) -> None:
    """One network as boxes and arrows, from top to bottom."""
    draw_networks(figure, {"": network}, images)


def draw_networks(figure: Figure, networks: dict[str, nn.Module], images: Tensor) -> None:
    """Networks side by side under their names; in a narrow figure two beside one another."""
    recorded = {name: record(network, images) for name, network in networks.items()}
    for steps in recorded.values():
        place(steps)
    widths = {name: max(s.lane for s in steps) - min(s.lane for s in steps) for name, steps in recorded.items()}
    widest = (max(widths.values()) + 1.5) * LANE
    columns = max(1, min(len(networks), int(figure.get_figwidth() / (widest * 0.7))))
    rows = -(-len(networks) // columns)
    tallest = (max(s.row for steps in recorded.values() for s in steps) + 1.1) * ROW
    scale = min(1.0, figure.get_figwidth() / (columns * widest))
    figure.set_figheight(rows * tallest * scale + 0.3 * rows)
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, (name, steps) in zip(all_axes, recorded.items(), strict=False):
        axes.set_title(name)
        draw_steps(axes, steps, font=max(6.0, 8.0 * scale))
        middle = (max(s.lane for s in steps) + min(s.lane for s in steps)) / 2 * LANE
        axes.set_aspect("equal")
        axes.set(xlim=(middle - widest / 2, middle + widest / 2), ylim=(tallest - 0.45 * ROW, -0.45 * ROW))


def draw_steps(axes: Axes, steps: list[Step], font: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    width, height = BOX
    for step in steps:
        x, y = step.lane * LANE, step.row * ROW
        outline = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=TINT[step.tint], edgecolor="#555555", linewidth=0.8,
        )  # fmt: skip
        axes.add_patch(outline)
        axes.text(x, y, step.label, ha="center", va="center", fontsize=font)
        axes.text(x + 0.05, y + ROW / 2 + 0.01, shape(step.sizes), fontsize=font - 1.2, color="#777777", va="center")
        for source in step.inputs:
            draw_arrow(axes, source, step, steps)


def draw_arrow(axes: Axes, source: Step, step: Step, steps: list[Step]) -> None:
    """Straight where the way is free; where boxes stand in it, along their right side."""
    half_width, half_height = BOX[0] / 2, BOX[1] / 2
    x, y = source.lane * LANE, source.row * ROW
    end_x, end_y = step.lane * LANE, step.row * ROW
    style: Any = {"arrowstyle": "-|>", "color": "#555555", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    in_the_way = [s for s in steps if source.row < s.row < step.row and s.lane == source.lane]
    if in_the_way and source.lane == step.lane:  # a shortcut
        style["color"] = COLORS[1]
        side = x + half_width + 0.16
        axes.plot([x + half_width, side, side], [y, y, end_y], color=COLORS[1], linewidth=0.9)
        axes.annotate("", (end_x + half_width, end_y), (side, end_y), arrowprops=style)
        return
    start = (x, y + half_height)
    low = end_y - ROW + half_height
    if in_the_way:
        side = x + half_width + 0.07
        axes.plot([x + half_width, side, side], [y, y, low], color="#555555", linewidth=0.9)
        start = (side, low)
    elif source.lane != step.lane and step.row - source.row > 1:  # down in its own lane first
        axes.plot([x, x], [start[1], low], color="#555555", linewidth=0.9)
        start = (x, low)
    axes.annotate("", (end_x, end_y - half_height), start, arrowprops=style)
