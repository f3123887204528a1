"""Diagrams show what a network does: its steps, their shapes, and which of them feed which."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from cnnlab.lessons.diagrams import draw_network, place, record
from cnnlab.lessons.inception import InceptionBlock
from cnnlab.lessons.lenet import build_lenet, compute
from cnnlab.lessons.residual import ResidualBlock
from cnnlab.lessons.residual_variants import Unit


def test_lenet_is_a_column_with_the_lesson_s_shapes():
    steps = record(build_lenet(), torch.zeros(1, 1, 28, 28))
    place(steps)
    assert [step.sizes for step in steps] == [shape[1:] for _, shape, _ in compute()["rows"]]
    assert [step.row for step in steps] == list(range(len(steps))) and {step.lane for step in steps} == {0}
    assert [step.label for step in steps][:4] == ["input", "conv 5×5\n6", "sigmoid", "average pool\n2×2"]


def test_a_residual_block_adds_its_input():
    steps = record(ResidualBlock(16), torch.zeros(1, 16, 8, 8))
    assert [step.label for step in steps] == ["input", "conv 3×3\n16", "relu", "conv 3×3\n16", "+", "relu"]
    assert [source.label for source in steps[4].inputs] == ["input", "conv 3×3\n16"]


def test_inception_s_branches_have_lanes_of_their_own_and_meet():
    steps = record(InceptionBlock(10), torch.zeros(1, 10, 12, 12))
    place(steps)
    assert [step.lane for step in steps if step.row == 1] == [-1.5, -0.5, 0.5, 1.5]
    stacked = steps[-1]
    assert stacked.label == "stack\nchannels" and stacked.sizes == (88, 12, 12)
    assert (stacked.lane, stacked.row, len(stacked.inputs)) == (0, 4, 4)


def test_no_two_boxes_stand_on_one_another():
    networks = [
        ResidualBlock(4),
        InceptionBlock(4),
        *(Unit(4, kind) for kind in ("exclusive gating", "constant scaling")),
    ]
    for network in networks:
        steps = record(network, torch.zeros(1, 4, 8, 8))
        place(steps)
        for i, one in enumerate(steps):
            for other in steps[i + 1 :]:
                assert one.row != other.row or abs(one.lane - other.lane) >= 1


def test_a_picture_grows_with_its_network():
    short, long = Figure(figsize=(7, 3)), Figure(figsize=(7, 3))
    draw_network(short, ResidualBlock(4), torch.zeros(1, 4, 8, 8))
    draw_network(long, build_lenet(), torch.zeros(1, 1, 28, 28))
    assert long.get_figheight() > short.get_figheight() > 3
