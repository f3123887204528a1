"""Receptive fields: which pixels of the image a value deep in a network depends on.

Along one side of an image, position i of a map depends on the pixels jump·i + first … jump·i + last. A
window of k positions, s apart from the next window, with p positions of padding and dilation d, makes of it

    first − p·jump      last + (d·(k − 1) − p)·jump      jump·s

(Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks", Distill, 2019,
doi:10.23915/distill.00021.) Where branches meet, the first of the firsts and the last of the lasts count.

`ReceptiveFields` follows every operation that torch carries out rather than every layer: so branches,
shortcuts, pooling by function and slices count as they are, whatever the modules look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
POOLINGS = (aten.max_pool2d_with_indices, aten.avg_pool2d)
TURNS = (aten.permute, aten.transpose)


class Span(NamedTuple):
    """Along one side: position i of a map depends on the pixels jump·i + first … jump·i + last."""

    first: int = 0
    last: int = 0
    jump: int = 1

    def through_window(self, kernel: int, stride: int, padding: int, dilation: int) -> Span:
        reach = dilation * (kernel - 1)
        return Span(self.first - padding * self.jump, self.last + (reach - padding) * self.jump, self.jump * stride)

    def through_slice(self, start: int, step: int) -> Span:
        return self.through_window(kernel=1, stride=step, padding=-start, dilation=1)


Field = tuple[Span, Span]  # of rows, of columns


class ReceptiveFields(TorchDispatchMode):
    """Context that knows the receptive field of every tensor computed in it from `images` (N, C, H, W)."""

    def __init__(self, images: Tensor):
        super().__init__()
        # None: no position in the map belongs to a place in the image, as after a flatten or a global pooling.
        self._fields: Any = WeakTensorKeyDictionary()
        self._fields[images] = (Span(), Span())

    def size_of(self, tensor: Tensor) -> tuple[int, int] | None:
        """Height and width in pixels; None for a tensor whose values have no place in the image."""
        field = self._fields.get(tensor)
        if field is None:
            return None
        rows, columns = field
        return rows.last - rows.first + 1, columns.last - columns.first + 1

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        sources = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf in self._fields]
        if sources:
            given = _name_arguments(func, args, kwargs or {})
            fields = [self._fields[source] for source in sources]
            merged = None if None in fields else _merge(fields)
            for made in tree_leaves(output):
                if isinstance(made, Tensor):
                    self._fields[made] = merged and _propagate(func.overloadpacket, given, merged, sources, made)
        return output


def _name_arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by name, defaults included."""
    parameters = func._schema.arguments
    defaults = {p.name: p.default_value for p in parameters if p.has_default_value()}
    return {**defaults, **{p.name: value for p, value in zip(parameters, args, strict=False)}, **kwargs}


def _merge(fields: Sequence[Field]) -> Field:
    rows, columns = zip(*fields, strict=True)
    return _merge_side(rows), _merge_side(columns)


def _merge_side(spans: Sequence[Span]) -> Span:
    firsts, lasts, jumps = zip(*spans, strict=True)
    return Span(min(firsts), max(lasts), max(jumps))


def _propagate(
    operation: Any, given: dict[str, Any], field: Field, sources: list[Tensor], made: Tensor
) -> Field | None:
    """The field of what an operation made of tensors with `field`; None if positions lose their places."""
    image, sides = sources[0], made.shape[-2:]
    if made.dim() < 4 or image.dim() < 4:
        return None
    if operation is aten.convolution:
        if given["transposed"]:
            return None
        kernel = given["weight"].shape[2:]
        return _through_windows(field, kernel, given["stride"], given["padding"], given["dilation"])
    if operation in POOLINGS:
        kernel = given["kernel_size"]
        return _through_windows(field, kernel, given["stride"] or kernel, given["padding"], given.get("dilation", 1))
    if operation is aten.slice and sides != image.shape[-2:]:
        rows, columns = field
        start = (given["start"] or 0) % image.shape[given["dim"]]
        if given["dim"] % image.dim() == image.dim() - 2:
            return rows.through_slice(start, given["step"]), columns
        return rows, columns.through_slice(start, given["step"])
    if operation is aten.constant_pad_nd:
        left, _, top, _ = [*given["pad"], 0, 0, 0, 0][:4]
        return field[0].through_slice(-top, 1), field[1].through_slice(-left, 1)
    if operation in TURNS and made.stride()[-2:] != image.stride()[-2:]:
        return None
    # Anything else either works position by position, and keeps the size of the map, or moves positions.
    return field if all(source.shape[-2:] == sides for source in sources) else None


def _through_windows(field: Field, *parameters: Any) -> Field:
    """`parameters` are those of a window, each one number or one for rows and one for columns."""
    pairs = [_pair(parameter) for parameter in parameters]
    rows, columns = (span.through_window(*side) for span, side in zip(field, zip(*pairs, strict=True), strict=True))
    return rows, columns


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])
