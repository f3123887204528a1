"""An inception block: four kernels at once, and the next layer chooses.

Stands on: bottleneck, pooling, block.

Is 3×3 or 5×5 better here, or pooling? The block tries all of them side by side on the same input and
stacks the results as channels. Training then decides what to listen to. For the stacking to work every
branch must keep rows and columns as they are: hence padding 2 for 5×5, 1 for 3×3, and an average
pooling of stride 1 with padding 1.

    1×1 → 16
    1×1 → 16, 5×5 → 24
    1×1 → 16, 3×3 → 24, 3×3 → 24
    average pooling, 1×1 → 24

16 + 24 + 24 + 24 = 88 channels leave the block, whatever came in.

Question: Why does the network's linear layer have 1408 inputs?
Answer: Because the second block ends with 88 maps of 4×4, and 88·4·4 = 1408. A 28×28 digit becomes
24×24 by a 5×5 layer, 12×12 by pooling, 8×8 by the next 5×5 layer, 4×4 by pooling; blocks change no
sizes.

Question: The notes' branches call `nn.Conv2d`, and Python does not know `nn`.
Answer: They import torch and torch.nn.functional as F; `nn` needs `from torch import nn`. `self.branch1x1 = ...`
outside a class does not run either: these lines belong in `__init__`, and those without `self.` on their left
in `forward`.

On real data: the network of two such blocks, with the shape after every layer of every branch.

    cnnlab inspect model=inception_net dataset=mnist
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.lessons.diagrams import draw_network
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


class InceptionBlock(nn.Module):
    """(N, C, H, W) → (N, 88, H, W)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.one = nn.Conv2d(in_channels, 16, kernel_size=1)
        self.five = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=1),
            nn.Conv2d(16, 24, kernel_size=5, padding=2),
        )
        self.three = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=1),
            nn.Conv2d(16, 24, kernel_size=3, padding=1),
            nn.Conv2d(24, 24, kernel_size=3, padding=1),
        )
        self.pooled = nn.Conv2d(in_channels, 24, kernel_size=1)

    def branches(self, x: Tensor) -> dict[str, Tensor]:
        return {
            "1×1": self.one(x),
            "1×1, 5×5": self.five(x),
            "1×1, 3×3, 3×3": self.three(x),
            "pool, 1×1": self.pooled(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)),
        }

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(list(self.branches(x).values()), dim=1)  # (N, 16 + 24 + 24 + 24, H, W)


def compute(*, in_channels: Count = 10, size: Count = 12) -> Values:
    with seeded(0):
        block = InceptionBlock(in_channels)
        x = torch.randn(1, in_channels, size, size)
    with torch.no_grad():
        shapes = {name: tuple(output.shape) for name, output in block.branches(x).items()}
        output = block(x)
    return {
        "input": tuple(x.shape),
        "branches": shapes,
        "output": tuple(output.shape),
        "parameters": sum(p.numel() for p in block.parameters()),
    }


def show(values: Values) -> Parts:
    rows = [["input", str(values["input"])]]
    rows += [[name, str(shape)] for name, shape in values["branches"].items()]
    rows += [["stacked", str(values["output"])]]
    return [
        Table(["branch", "shape"], rows),
        f"The block has {values['parameters']:,} parameters. There is no activation between two layers of "
        "a branch, so each branch is a linear map; the lesson `stacked_linear` shows what that costs.",
    ]


def draw(values: Values, figure: Figure) -> None:
    _, channels, rows, columns = values["input"]
    draw_network(figure, InceptionBlock(channels), torch.zeros(1, channels, rows, columns))


EXERCISES = [
    Exercise(
        "A block on 88 channels: how many parameters has its first branch, 1×1 to 16?",
        lambda: sum(p.numel() for p in InceptionBlock(88).one.parameters()),
        "88·16 weights and 16 biases.",
    ),
    Exercise(
        "Two blocks in a row: how many channels leave the second?",
        lambda: InceptionBlock(88)(InceptionBlock(10)(torch.zeros(1, 10, 4, 4))).shape[1],
        "Whatever comes in.",
        slips={176: "The second block stacks its own branches only."},
    ),
    Exercise(
        "A further branch with a 7×7 kernel: which padding does it need?",
        lambda: (7 - 1) // 2,
        "Rows and columns must stay.",
    ),
]
