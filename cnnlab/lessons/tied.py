"""Tied layers: one tensor in two places, and its gradients add.

Put the same layer object into a network twice and both places share one weight: not two equal tensors
but one. Change it here and it has changed there. In the backward pass each place contributes its
gradient, and they add up, because the derivative with respect to a quantity that is used twice is the
sum over its uses:

    L(w, w)      dL/dw = ∂L/∂w₁ + ∂L/∂w₂

To see it, we run a second network whose two layers start equal and are *not* tied: the tied gradient is
the sum of its two.

Question: Is a convolution a tied layer?
Answer: Yes, the best-known one. One kernel stands at every position of the image, and its gradient is
the sum over all positions. Sharing is why a 5×5 layer has 25 weights and not millions.

On real data: 61,706 parameters are all that LeNet needs, thanks to sharing.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Values
from cnnlab.signature import Count


def compute(*, features: Count = 3) -> Values:
    with seeded(0):
        shared = nn.Linear(features, features, bias=False)
        x = torch.randn(4, features)
    tied = nn.Sequential(shared, nn.Tanh(), shared)
    apart = nn.Sequential(copy.deepcopy(shared), nn.Tanh(), copy.deepcopy(shared))
    for net in (tied, apart):
        net(x).square().sum().backward()

    gradients = {
        "tied": shared.weight.grad.clone(),
        "first": apart[0].weight.grad.clone(),
        "second": apart[2].weight.grad.clone(),
    }
    with torch.no_grad():
        tied[0].weight[0, 0] = 100
    return {
        **gradients,
        "same_tensor": tied[0].weight is tied[2].weight,
        "seen_in_the_other": tied[2].weight[0, 0].item(),
        "count_tied": sum(p.numel() for p in tied.parameters()),
        "count_apart": sum(p.numel() for p in apart.parameters()),
    }


def show(values: Values) -> Parts:
    return [
        {name: values[name] for name in ("first", "second")},
        {"gradient of the tied weight": values["tied"], "sum of the two": values["first"] + values["second"]},
        f"Parameters: {values['count_tied']} tied, {values['count_apart']} apart. The first layer's corner "
        f"set to 100 reads {values['seen_in_the_other']:g} in the second.",
    ]
