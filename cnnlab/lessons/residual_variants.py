"""Many ways to build a residual block, and why the plain one wins.

Stands on: residual, batch_norm.

The homework of the notes. He, Zhang, Ren & Sun (2016, arXiv:1603.05027) changed one thing at a time in the block
and trained 110 layers on CIFAR-10. First what the shortcut does to x, before f(x) is added:

    identity              $x$
    constant scaling      $x / 2$, and half of $f(x)$
    exclusive gating      $(1 − g(x))·x$, and $g(x)·f(x)$
    shortcut-only gating  $(1 − g(x))·x$
    1×1 convolution       $W·x$
    dropout               half of x set to 0, the rest doubled

g is a 1×1 convolution with a sigmoid, whose bias starts at −6, so that it is nearly closed. Then the order of
the layers, where c is a 3×3 convolution, b batch normalisation and r a ReLU:

    original                 c b r c b, add, r
    BN after addition        c b r c, add, b r
    ReLU before addition     c b r c b r, add
    ReLU-only preactivation  r c b r c b, add
    full preactivation       b r c b r c, add

Whatever stands on the shortcut is met once in every block: halving twenty times leaves a millionth, and of a
million numbers twenty dropouts leave one, a million times as large. In the
last two orders nothing stands there at all, and the gradient of the last block reaches the first unchanged.

Question: Why is a 1×1 convolution on every shortcut worse? It could learn the identity.
Answer: It could, but it starts elsewhere, and 54 of them in a row are a plain network again. More freedom is
not easier to train. (Where the number of channels changes, one is needed, and does no harm.)

Question: Why is "ReLU before addition" worse than the original?
Answer: f(x) can then only add and never subtract: what runs along the shortcut grows from block to block.

On real data: any shortcut with any order, one key each. `inspect` shows which parts each adds.

    cnnlab inspect model=residual_variants model.shortcut=exclusive_gating dataset=cifar10
    cnnlab train dataset=digits model=residual_variants model.order=full_preactivation epochs=3
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.diagrams import draw_networks
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole

# Test error on CIFAR-10 with 110 layers, in per cent, as published (tables 1 and 2); None: did not converge.
SHORTCUTS = {
    "identity": 6.61,
    "constant scaling": 12.35,
    "exclusive gating": 8.70,
    "shortcut-only gating": 6.91,
    "1×1 convolution": 12.22,
    "dropout": None,
}
# Layers before the branch and in it, those after the sum, and the error.
ORDERS = {
    "original":                ("",   "c b r c b",   "r",   6.61),
    "BN after addition":       ("",   "c b r c",     "b r", 8.17),
    "ReLU before addition":    ("",   "c b r c b r", "",    7.84),
    "ReLU-only preactivation": ("r",  "c b r c b",   "",    6.71),
    "full preactivation":      ("b r", "c b r c",    "",    6.37),
}  # fmt: skip


def layers(letters: str, channels: int) -> nn.Sequential:
    kinds = {
        "c": lambda: nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
        "b": lambda: nn.BatchNorm2d(channels),
        "r": lambda: nn.ReLU(),
    }
    return nn.Sequential(*[kinds[letter]() for letter in letters.split()])


class Unit(nn.Module):
    """after(shortcut of x + branch of x): (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, shortcut: str = "identity", order: str = "original"):
        super().__init__()
        before, branch, after, _ = ORDERS[order]
        self.branch = nn.Sequential(*layers(before, channels), *layers(branch, channels))
        self.after = layers(after, channels)
        self.kind = shortcut
        if "gating" in shortcut or "convolution" in shortcut:
            self.one_by_one = nn.Conv2d(channels, channels, kernel_size=1)
            self.one_by_one.bias.data.fill_(-6.0 if "gating" in shortcut else 0.0)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        change = self.branch(x)
        if self.kind == "constant scaling":
            x, change = 0.5 * x, 0.5 * change
        elif "gating" in self.kind:
            gate = self.one_by_one(x).sigmoid()
            x = (1 - gate) * x
            change = gate * change if self.kind == "exclusive gating" else change
        elif self.kind == "1×1 convolution":
            x = self.one_by_one(x)
        elif self.kind == "dropout":
            x = self.dropout(x)
        return self.after(x + change)


def gradient_left(depth: int, seed: int, shortcut: str, order: str) -> float:
    """The gradient's norm at the input of `depth` units, over that at their output.

    The branches are switched off (their last layer gives 0), so that what is left came along the shortcut.
    """
    with seeded(seed):
        units = nn.Sequential(*[Unit(4, shortcut, order) for _ in range(depth)])
        x = torch.randn(8, 4, 6, 6).abs().requires_grad_()
        for unit in units:
            last = [part for part in unit.branch if isinstance(part, (nn.Conv2d, nn.BatchNorm2d))][-1]
            nn.init.zeros_(last.weight)
        y = units(x)
        (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return (gradient.norm() / torch.ones_like(y).norm()).item()


def compute(*, depth: Count = 20, seed: Whole = 0) -> Values:
    shortcuts = {name: gradient_left(depth, seed, name, "original") for name in SHORTCUTS}
    orders = {name: gradient_left(depth, seed, "identity", name) for name in ORDERS}
    with torch.device("meta"):  # shapes without numbers: enough to count
        parameters = {name: sum(p.numel() for p in Unit(16, name).parameters()) for name in SHORTCUTS}
    return {"shortcuts": shortcuts, "orders": orders, "parameters": parameters, "depth": depth}


def show(values: Values) -> Parts:
    depth = values["depth"]
    return [
        f"How much of a gradient the shortcuts of {depth} units in a row let through, the branches switched off; "
        "and the published errors:",
        Table(
            ["shortcut", "let through", "parameters, 16 channels", "published error, %"],
            [
                [name, f"{left:.3g}", values["parameters"][name], published(error)]
                for (name, left), error in zip(values["shortcuts"].items(), SHORTCUTS.values(), strict=True)
            ],
        ),
        Table(
            ["order", "let through", "published error, %"],
            [[name, f"{left:.3g}", published(ORDERS[name][3])] for name, left in values["orders"].items()],
        ),
    ]


def published(error: float | None) -> str:
    return "did not converge" if error is None else f"{error:.2f}"


def draw(values: Values, figure: Figure) -> None:
    networks: dict[str, nn.Module] = {
        "original": Unit(16),
        "full preactivation": Unit(16, order="full preactivation"),
        "exclusive gating": Unit(16, shortcut="exclusive gating"),
    }
    draw_networks(figure, networks, torch.zeros(1, 16, 8, 8))


EXERCISES = [
    Exercise(
        "Constant scaling, ten units: what share of x reaches the end along the shortcuts?",
        lambda: 0.5**10,
        "Halved in each.",
    ),
    Exercise(
        "sigmoid(−6): how far is a gate open at the start?",
        lambda: torch.tensor(-6.0).sigmoid().item(),
        "1 / (1 + e⁶).",
    ),
    Exercise(
        "Full preactivation with 16 channels and the identity: how many parameters has a unit?",
        lambda: sum(p.numel() for p in Unit(16, order="full preactivation").parameters()),
        "Two convolutions without biases, two batch normalisations.",
        slips={4608: "Batch normalisation has a scale and a shift for each channel."},
    ),
]
