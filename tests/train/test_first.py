"""Smaller first filters: they know what the larger ones knew."""

import pytest
import torch

from scripts.train.data import read_pictures
from scripts.train.first import narrow, teach_first
from scripts.train.loop import Batches, Plan
from scripts.train.network import Network

PLAN = Plan(200, 4, rate=3e-3, side=64)


@pytest.fixture
def batches(square_set):
    return Batches(read_pictures(square_set, ("person", "dog"), taught={}), PLAN)


def fresh():
    torch.manual_seed(0)
    return Network(2).eval()


def apart(network, parent, batches):
    pixels, _ = batches.at(99)
    with torch.no_grad():
        return float((network.early(pixels) - parent.early(pixels)).square().mean())


def test_filters_with_nothing_at_the_edge_answer_as_before(batches):
    network, parent = fresh(), fresh()
    for each in (network, parent):
        with torch.no_grad():
            each.stem[0].weight[:, :, 5] = 0
            each.stem[0].weight[:, :, :, 5] = 0
    narrow(network, batches, 2)
    assert network.stem[0].weight.shape == (16, 3, 5, 5)
    assert apart(network, parent, batches) < 1e-8


def test_the_first_layers_learn_to_answer_as_before(batches):
    network, parent = fresh(), fresh()
    with torch.no_grad():
        network.stem[0].weight.mul_(0.8)
    before = apart(network, parent, batches)
    taught = teach_first(network, parent, batches, PLAN)
    assert apart(taught, parent, batches) < before / 2
    for name, value in taught.state_dict().items():
        if not name.startswith(("stem.", "stage_2.")):
            assert torch.equal(value, parent.state_dict()[name])


def test_filters_of_another_size_are_refused(batches):
    network = fresh()
    narrow(network, batches, 1)
    with pytest.raises(ValueError, match="5×5"):
        narrow(network, batches, 1)
