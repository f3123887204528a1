from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.muon import COEFFICIENTS, orthogonalize
from tests.conftest import choose

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(8, 8), (4, 30), (30, 4), (10, 1)])
@pytest.mark.parametrize("num_iterations", [3, 5])
def test_orthogonalizing_maps_the_singular_values_and_leaves_the_vectors(shape, num_iterations):
    """Beside the slow way: the polynomial applied to the singular values themselves."""
    matrix = torch.randn(shape, generator=GENERATOR)
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    a, b, c = COEFFICIENTS
    for _ in range(num_iterations):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(
        orthogonalize(matrix[None], num_iterations)[0].double(), u * s @ vh, rtol=1e-4, atol=1e-5
    )
    assert s.max() < 1.3 and (s.min() > 0.6 or num_iterations < 5)


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def test_what_is_no_matrix_takes_torchs_adamw_steps():
    models = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        _, *others = model.parameters()
        if ours:
            optimizer = build_optimizer(choose(OPTIMIZERS, "muon", lr=0.01, weight_decay=0.2), model, 8)
        else:
            optimizer = torch.optim.AdamW(others, lr=0.01, weight_decay=0.2)
        take_steps(model, optimizer)
        models.append(model)
    for ours, torchs in zip(*(list(model.parameters())[1:] for model in models), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_step_of_a_kernel_is_as_the_papers_write_it(nesterov):
    kernel = nn.Conv2d(3, 8, 2, bias=False)
    start = kernel.weight.detach().flatten(1).clone()  # (8, 12)
    first, second = (torch.randn(8, 3, 2, 2, generator=GENERATOR) for _ in range(2))
    muon = choose(OPTIMIZERS, "muon", lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.5)
    optimizer = build_optimizer(muon, kernel, 8)
    for grad in (first, second):
        kernel.weight.grad = grad.clone()
        optimizer.step()
    expected, momentum = start, torch.zeros(8, 12)
    for grad in (first.flatten(1), second.flatten(1)):
        momentum = 0.9 * momentum + 0.1 * grad
        update = orthogonalize((0.9 * momentum + 0.1 * grad if nesterov else momentum)[None], 5)[0]
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 0.2 * math.sqrt(12) * update
    torch.testing.assert_close(kernel.weight.detach().flatten(1), expected)


def test_torchs_own_where_it_has_one():
    """On matrices alone; torch iterates in bfloat16, which has three digits."""
    if not hasattr(torch.optim, "Muon"):
        return
    weights = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(20, 12, bias=False)
        settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}
        if ours:
            optimizer = build_optimizer(choose(OPTIMIZERS, "muon", **settings), model, 8)
        else:
            optimizer = torch.optim.Muon(model.parameters(), **settings, adjust_lr_fn="match_rms_adamw")
        start = model.weight.detach().clone()
        take_steps(model, optimizer)
        weights.append(model.weight.detach() - start)
    ours, torchs = weights
    assert (ours - torchs).norm() < 0.02 * torchs.norm()


def test_normalized_kernels_keep_their_norm_and_turn_by_the_rate():
    """As the script of the 94 % in 2.59 s has it: the kernel at norm √out, then one orthogonal step of length lr."""
    kernel = nn.Conv2d(3, 8, 2, bias=False)
    start = kernel.weight.detach().flatten(1).clone()  # (8, 12)
    gradient = torch.randn(8, 3, 2, 2, generator=GENERATOR)
    muon = choose(OPTIMIZERS, "muon", lr=0.24, momentum=0.6, weight_decay=0.0, normalize=True)
    optimizer = build_optimizer(muon, kernel, 8)
    kernel.weight.grad = gradient.clone()
    optimizer.step()
    expected = start * math.sqrt(8) / start.norm() - 0.24 * orthogonalize(gradient.flatten(1)[None], 5)[0]
    torch.testing.assert_close(kernel.weight.detach().flatten(1), expected)


def test_normalizing_leaves_linear_layers_as_they_are():
    weights = []
    for normalize in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(20, 12)
        optimizer = build_optimizer(choose(OPTIMIZERS, "muon", lr=0.1, normalize=normalize), model, 8)
        take_steps(model, optimizer)
        weights.append(model.weight.detach())
    assert torch.equal(*weights)


def test_a_checkpoint_that_names_fewer_settings_is_gone_on_with():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(4, 4))
    optimizer = build_optimizer(choose(OPTIMIZERS, "muon", lr=0.1), model, 8)
    take_steps(model, optimizer)
    stored = copy.deepcopy(optimizer.state_dict())
    for group in stored["param_groups"]:
        del group["normalize"], group["num_iterations"]
    again = build_optimizer(choose(OPTIMIZERS, "muon", lr=0.1), model, 8)
    again.load_state_dict(stored)
    weights = [p.detach().clone() for p in model.parameters()]
    ends = []
    for each in (optimizer, again):
        with torch.no_grad():
            for p, weight in zip(model.parameters(), weights, strict=True):
                p.copy_(weight)
        take_steps(model, each)
        ends.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    assert torch.equal(*ends)
