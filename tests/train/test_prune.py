"""Pruning: what is cut off is what mattered least, and what was dead is not missed."""

import pytest
import torch

from scripts.train.checkpoint import load_network, write
from scripts.train.data import read_pictures
from scripts.train.export import write_onnx
from scripts.train.loop import Batches, Plan
from scripts.train.network import Network
from scripts.train.prune import choose, convolutions, cut, groups_of, main, measure

LABELS = ("person", "dog")
PIXELS = torch.full((1, 3, 64, 64), 90.0)


def fresh():
    torch.manual_seed(0)
    return Network(2).eval()


def products_of(square_set, network, groups):
    pictures = read_pictures(square_set, LABELS, taught={})
    batches = Batches(pictures, Plan(8, 4, side=64))
    return measure(network, fresh(), groups, batches, 2)


def outputs(network):
    with torch.no_grad():
        return torch.cat([rows.flatten() for rows in network(PIXELS)])


def test_channels_that_are_always_nought_are_not_missed(square_set, tmp_path):
    network = fresh()
    groups = groups_of(network)
    layers = convolutions(network)
    with torch.no_grad():
        for group in groups:
            for name in group.makers:
                layers[name].weight[:8] = 0
                layers[name].bias[:8] = 0
    products = products_of(square_set, network, groups)
    assert all(group.matter[:8].sum() == 0 for group in groups)
    before = outputs(network)
    cut(network, groups, [torch.arange(8, group.width) for group in groups], products)
    assert all(layer.out_channels < 256 for layer in convolutions(network).values())
    torch.testing.assert_close(outputs(network), before, atol=1e-3, rtol=1e-3)
    write(tmp_path / "cut.pt", {"average": network.state_dict()})
    again = load_network(tmp_path / "cut.pt")
    torch.testing.assert_close(outputs(again), outputs(network))
    write_onnx(again, tmp_path / "cut.onnx")  # raises where ONNX Runtime sees another network


def test_what_another_channel_tells_is_put_in_its_place(square_set):
    network = fresh()
    layers = convolutions(network)
    reads, users = layers["lateral_4.0"], ("top_down_3.deep.0", "top_down_3.plain.0")
    with torch.no_grad():  # the second eight say what the first say
        reads.weight[8:16], reads.bias[8:16] = reads.weight[:8], reads.bias[:8]
    groups = groups_of(network)
    products = products_of(square_set, network, groups)
    before = outputs(network)
    (twin,) = (i for i, group in enumerate(groups) if "lateral_4.0" in group.makers)
    assert {name for name, _ in groups[twin].users} >= set(users)
    kept = [torch.arange(group.width) for group in groups]
    kept[twin] = kept[twin][8:]
    cut(network, groups, kept, products)
    torch.testing.assert_close(outputs(network), before, atol=2e-3, rtol=2e-2)


def test_the_least_for_the_time_goes_until_enough_is_saved():
    network = fresh()
    groups = groups_of(network)
    for group in groups:
        group.matter = torch.ones(group.width)
    dull = groups[40]
    dull.matter[:] = 1e-6
    dull.matter[3] = 5.0
    kept = choose(network, groups, save=0.1, side=64)
    mine = kept[40]
    assert 3 in mine
    assert len(mine) == dull.width // 4  # never less than a quarter
    assert all(len(indices) % 8 == 0 for indices in kept)
    assert len(choose(network, groups, save=0.001, side=64)[0]) == groups[0].width
    with pytest.raises(ValueError, match="smaller --save"):
        choose(network, groups, save=0.99, side=64)


def test_a_share_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="between 0 and 1"):
        main(["x.pt", "--data", str(tmp_path), "--out", "y.pt", "--save", "1.5"])
