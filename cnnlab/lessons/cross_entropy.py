"""Cross-entropy: from logits to one number, with class weights and for every pixel.

Stands on: losses.

A classifier's K raw outputs are its logits z. Softmax makes them probabilities, and the loss is the
negative logarithm of the probability that the true class y got:

    $log softmax(z)[k] = z[k] − log Σ e^z[j]$       cross-entropy $= −log softmax(z)[y]$

The second half alone, −(log-probabilities)[y], is called NLL (negative log-likelihood). With weights,
one for each class, rare classes can be made to count for more: the result is the weighted mean. With
logits for every pixel, (N, K, h, w), the same formula gives the loss of a segmentation.

The gradient is as simple as can be: softmax(z) minus 1 at the true class.

Question: The notes print `loss.backward()` after having called it, get an error, and mend it with
`retain_graph=True`. Is that right?
Answer: It silences the error and doubles every gradient: a second backward pass adds the same gradient
once more, as the numbers show. `backward()` returns None; there is nothing to print.

On real data: the value to compare with is $log 10 = 2.303$, what guessing among ten classes costs. A first
epoch that ends there has learned nothing.

    cnnlab train dataset=digits
    cnnlab train dataset=digits loss.class_weights=auto
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.errors import ConfigError
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Whole


def log_softmax(logits: Tensor) -> Tensor:
    """Over dimension 1. The largest logit is taken out first, so that no exponential overflows."""
    shifted = logits - logits.max(dim=1, keepdim=True).values
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def nll(log_probabilities: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """(N, K, ...), (N, ...) → the mean over all targets, weighted by each target's class."""
    costs = -log_probabilities.gather(1, target.unsqueeze(1)).squeeze(1)
    if weight is None:
        return costs.mean()
    return (weight[target] * costs).sum() / weight[target].sum()


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return nll(log_softmax(logits), target, weight)


def compute(
    *,
    logits: tuple[float, ...] = (2.0, 1.0, 0.1),
    target: Whole = 0,
    weight: tuple[float, ...] = (1.0, 1.0, 5.0),
) -> Values:
    if not 0 <= target < len(logits):
        raise ConfigError(f"target: {target} was given; expected at most {len(logits) - 1}, the last class")
    if len(weight) != len(logits):
        raise ConfigError(
            f"weight: {len(weight)} numbers were given; expected one for each of the {len(logits)} logits"
        )
    z = torch.tensor([logits], dtype=torch.float32).requires_grad_()
    y = torch.tensor([target])
    loss = cross_entropy(z, y)
    loss.backward(retain_graph=True)
    once = z.grad.clone()
    loss.backward()

    batch = z.detach().expand(2, -1)  # the same logits; one true class that they favour, one that they do not
    targets = torch.tensor([target, len(logits) - 1])
    pixels = batch[:, :, None, None].expand(2, len(logits), 4, 4)
    return {
        "logits": z.detach(),
        "probabilities": log_softmax(z.detach()).exp(),
        "loss": loss.item(),
        "gradient": once,
        "gradient_twice": z.grad,
        "batch": cross_entropy(batch, targets).item(),
        "weighted": cross_entropy(batch, targets, torch.tensor(weight, dtype=torch.float32)).item(),
        "per_pixel": cross_entropy(pixels, targets[:, None, None].expand(2, 4, 4)).item(),
        "guess": cross_entropy(torch.zeros(1, 10), torch.tensor([3])).item(),
    }


def show(values: Values) -> Parts:
    return [
        {"logits": values["logits"], "softmax": values["probabilities"]},
        f"Cross-entropy: {values['loss']:.4f}.",
        {"gradient": values["gradient"], "after a second backward": values["gradient_twice"]},
        Table(
            ["two examples", "loss"],
            [
                ["mean", values["batch"]],
                ["with class weights", values["weighted"]],
                ["each as an image of 4×4 equal pixels", values["per_pixel"]],
                ["ten equal logits: a guess", values["guess"]],
            ],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    """The loss while one logit moves and the others stay."""
    axes = figure.subplots()
    moved = torch.linspace(-4, 6, 101)
    others = values["logits"][0, 1:].expand(len(moved), -1)
    logits = torch.cat([moved[:, None], others], dim=1)
    for target, label in ((0, "it is that of the true class"), (1, "it is that of another class")):
        losses = -log_softmax(logits)[:, target]
        axes.plot(moved.numpy(), losses.numpy(), label=label)
    axes.set(xlabel="one logit, the others fixed", ylabel="cross-entropy")
    axes.legend()


EXERCISES = [
    Exercise(
        "What does guessing among 120 breeds cost?",
        lambda: cross_entropy(torch.zeros(1, 120), torch.tensor([7])).item(),
        "Equal logits give each 1/120.",
    ),
    Exercise(
        "Softmax gives the true class 0.7. What is the gradient with respect to its logit?",
        lambda: 0.7 - 1,
        "softmax minus 1 at the true class.",
        slips={0.3: "Mind the sign: this logit should grow."},
    ),
    Exercise(
        "The gradients with respect to all logits of an image: their sum?",
        lambda: 0,
        "The probabilities sum to 1, and 1 is taken off once.",
    ),
]
