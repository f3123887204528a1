"""The 1×1 convolution's saving: first fewer channels, then the large kernel.

Stands on: one_by_one.

A 1×1 kernel sees a single pixel, but all of its channels: it mixes channels and leaves the image alone.
Put in front of a large kernel it saves most of the work, because a layer's multiplications grow with
the product of its channels:

    $multiplications = rows · columns · k² · C_in · C_out$

A 5×5 layer from 192 to 32 channels pays $25 · 192 · 32$ for every pixel. Through 16 channels it pays
$192 · 16$ for the 1×1 layer and $25 · 16 · 32$ for the 5×5 one.

Question: Is the result the same?
Answer: No. All that the 5×5 layer gets to see must fit through 16 numbers a pixel: the two layers
together are one 5×5 layer of rank 16, a small part of what the direct one could be. That this part is
enough is a matter of experience, not a theorem; it came with Network in Network (Lin, Chen & Yan 2013,
arXiv:1312.4400) and made GoogLeNet affordable (Szegedy et al. 2014, arXiv:1409.4842).

On real data: two branches of an inception block put such a layer before their large kernels; see the column
multiply-adds.

    cnnlab inspect model=inception_net dataset=mnist
"""

from __future__ import annotations

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


def count_multiplications(in_channels: int, out_channels: int, kernel_size: int, size: int) -> int:
    """Multiplications of one convolution that keeps a size×size image's size."""
    return size * size * kernel_size**2 * in_channels * out_channels


def compute(
    *,
    in_channels: Count = 192,
    middle: Count = 16,
    out_channels: Count = 32,
    kernel_size: Count = 5,
    size: Count = 28,
) -> Values:
    direct = count_multiplications(in_channels, out_channels, kernel_size, size)
    reduce = count_multiplications(in_channels, middle, 1, size)
    expand = count_multiplications(middle, out_channels, kernel_size, size)
    return {"direct": direct, "reduce": reduce, "expand": expand, "through": reduce + expand}


def show(values: Values) -> Parts:
    return [
        Table(
            ["layers", "multiplications"],
            [
                ["direct", values["direct"]],
                ["1×1 to few channels", values["reduce"]],
                ["large kernel on few channels", values["expand"]],
                ["both", values["through"]],
            ],
        ),
        f"The detour takes {values['through'] / values['direct']:.1%} of the work.",
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = figure.subplots()
    axes.barh(["through 1×1", "direct"], [values["reduce"], values["direct"]], label="first layer")
    axes.barh(["through 1×1"], [values["expand"]], left=[values["reduce"]], label="second layer")
    axes.set_xlabel("multiplications")
    axes.legend()


EXERCISES = [
    Exercise(
        "3×3 from 256 to 256 channels directly: how many multiplications for one pixel?",
        lambda: count_multiplications(256, 256, 3, 1),
        "9·256·256.",
    ),
    Exercise(
        "ResNet-50's way: 1×1 to 64, 3×3 from 64 to 64, 1×1 back to 256. How many?",
        lambda: (
            count_multiplications(256, 64, 1, 1)
            + count_multiplications(64, 64, 3, 1)
            + count_multiplications(64, 256, 1, 1)
        ),
        "Three layers: add them.",
    ),
    Exercise(
        "In this lesson with middle=32: what is left of the direct work, in per cent?",
        lambda: 100 * compute(middle=32)["through"] / compute()["direct"],
        "Run it: cnnlab lesson bottleneck middle=32.",
    ),
]
