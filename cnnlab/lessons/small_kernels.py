"""Two 3×3 in place of one 5×5, three in place of one 7×7.

Stands on: conv, activations.

A second 3×3 layer looks at outputs of the first, each of which has looked at 3×3 pixels: together they see
5×5. A third makes it 7×7. With C channels in and out the weights are

    one 5×5   $25 · C²$        two 3×3     $18 · C²$
    one 7×7   $49 · C²$        three 3×3   $27 · C²$

so the small ones need 72 % and 55 % of the large one's weights and multiplications, and have one or two
activations more between them. VGG is built of nothing else (Simonyan & Zisserman 2014, arXiv:1409.1556).

The receptive field is measured here, not argued: one output in the middle is differentiated with respect to
the image, and the pixels with a gradient are counted.

Question: Are two 3×3 as good as any 5×5?
Answer: No. Without an activation between, two 3×3 kernels of one channel make a special 5×5 kernel: their own
convolution, 18 numbers in place of 25. Most 5×5 kernels are none of these; what makes up for it is the
activation, and that a network has many layers.

Question: The notes' ResNet-18 says: "three 3×3 in place of the 7×7", and has one. Which is right?
Answer: Its code: for 32×32 images one 3×3 layer of stride 1 takes the place of the 7×7 layer of stride 2 and
the pooling, which would leave only 8×8 of the image. Three 3×3 in place of the 7×7 are another variant, for
ImageNet's 224×224.

On real data: the column `receptive field` grows by 2 with each 3×3 layer, and faster after each pooling.

    cnnlab inspect model=vgg11 dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def stack(kernel_size: int, layers: int, channels: int) -> nn.Sequential:
    """Convolutions in a row that keep the image's size, with a ReLU after each."""
    convolutions = [
        nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False) for _ in range(layers)
    ]
    return nn.Sequential(*[part for convolution in convolutions for part in (convolution, nn.ReLU())])


def receptive_field(net: nn.Sequential, channels: int) -> Tensor:
    """Which pixels of a 9×9 image the output in the middle depends on: 1 where its gradient is not 0."""
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)  # positive, so that no ReLU hides a pixel
    image = torch.ones(1, channels, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(image)[0, :, 4, 4].sum(), image)
    return (gradient[0, 0] != 0).float()


def merge(first: Tensor, second: Tensor) -> Tensor:
    """The one kernel that does what two in a row do, without an activation between: (3, 3), (3, 3) → (5, 5)."""
    return F.conv2d(first[None, None], second.flip(0, 1)[None, None], padding=2)[0, 0]


def compute(*, channels: Count = 64, seed: Whole = 0) -> Values:
    rows, fields = [], {}
    for name, kernel_size, layers in (("5×5", 5, 1), ("3×3, 3×3", 3, 2), ("7×7", 7, 1), ("3×3, 3×3, 3×3", 3, 3)):
        with seeded(seed):
            net = stack(kernel_size, layers, channels)
        fields[name] = receptive_field(net, channels)
        side = int(fields[name].sum().sqrt())
        rows.append([name, sum(p.numel() for p in net.parameters()), f"{side}×{side}", layers])
    with seeded(seed):
        image, first, second = torch.randn(1, 1, 9, 9), torch.randn(3, 3), torch.randn(3, 3)
    one_after_the_other = F.conv2d(F.conv2d(image, first[None, None]), second[None, None])
    at_once = F.conv2d(image, merge(first, second)[None, None])
    return {
        "rows": rows,
        "fields": fields,
        "merged": merge(first, second),
        "difference": (one_after_the_other - at_once).abs().max().item(),
        "channels": channels,
    }


def show(values: Values) -> Parts:
    (_, five, *_), (_, two, *_), (_, seven, *_), (_, three, *_) = values["rows"]
    return [
        f"{values['channels']} channels in and out, no biases:",
        Table(["kernels", "weights", "sees", "activations"], values["rows"]),
        f"Two 3×3 have {two / five:.0%} of the weights of a 5×5, three have {three / seven:.0%} of a 7×7's.",
        {"two random 3×3 kernels as one of 5×5": values["merged"]},
        f"Applied to an image, the two and the one differ by at most {values['difference']:.0e}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    for axes, (name, field) in zip(panels(figure, 4, in_a_row=4, narrow=2), values["fields"].items(), strict=True):
        draw_matrix(axes, field, name)
        for text in axes.texts:
            text.set_visible(False)
    figure.suptitle("which pixels of 9×9 the middle output sees", fontsize=9)


EXERCISES = [
    Exercise(
        "Four 3×3 layers in a row: how many pixels a side do they see?",
        lambda: int(receptive_field(stack(3, 4, 1), 1).sum().sqrt()),
        "3, 5, 7: each layer adds 2.",
    ),
    Exercise(
        "They take the place of one kernel of that size. What share of its weights do they have, in per cent?",
        lambda: 100 * 4 * 9 / 9**2,
        "4·9 of 81.",
    ),
    Exercise(
        "Two 1×1 layers in a row: how many pixels a side do they see?",
        lambda: int(receptive_field(stack(1, 2, 1), 1).sum().sqrt()),
        "Each adds k − 1.",
    ),
]
