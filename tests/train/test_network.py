"""The network's shape, and networks of other widths in the same code."""

import pytest
import torch

from scripts.train.network import (
    MEAN,
    Detector,
    Shape,
    cell_centres,
    fold,
    is_folded,
    normalise,
    take_shapes,
)

SMALL = Shape((8, 16, 16, 24, 32), (1, 1, 1, 1), 16)


def test_one_row_of_distances_and_logits_for_every_cell():
    network = Detector(3, SMALL).eval()
    out = network(torch.zeros(2, 3, 96, 64))
    assert out.shape == (2, len(cell_centres((64, 96))), 4 + 3)


def test_an_untrained_network_claims_nothing():
    out = Detector(2, SMALL).eval()(torch.zeros(1, 3, 64, 64))
    assert out[..., 4:].sigmoid().max() < 0.05


@torch.no_grad()
def test_rows_lie_where_the_cells_are():
    """A bright spot changes most the rows of the cells around it."""
    torch.manual_seed(0)
    network = Detector(1, SMALL).eval()
    for coarse in network.neck.lateral[1:]:  # they see everything
        coarse[0].weight.zero_()
    fine = cell_centres((128, 64))[: 16 * 8]
    x = torch.zeros(1, 3, 64, 128)
    before = network(x)
    for cx, cy in ((108, 20), (20, 52)):
        spot = x.clone()
        spot[..., cy - 4 : cy + 4, cx - 4 : cx + 4] = 3.0
        change = (network(spot) - before).abs().sum(2)[0, : len(fine)]
        nearest = fine[int(change.argmax()), :2]
        assert (nearest - torch.tensor([cx, cy])).abs().max() <= 12


def test_the_letterboxs_gray_becomes_zero():
    gray = torch.full((1, 3, 32, 32), int(MEAN), dtype=torch.uint8)
    assert normalise(gray).abs().max() == 0


def test_a_narrower_state_gives_a_narrower_network():
    state = Detector(2, Shape((8, 8, 16, 16, 16), (1, 1, 1, 1), 16)).eval().state_dict()
    network = Detector(2, SMALL)
    take_shapes(network, state)
    again = Detector(2, Shape((8, 8, 16, 16, 16), (1, 1, 1, 1), 16))
    again.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(network.eval()(x), again.eval()(x))


def test_a_state_of_another_network_is_refused():
    state = Detector(2, SMALL).state_dict()
    del state["out.0.bias"]
    with pytest.raises(RuntimeError):
        take_shapes(Detector(2, SMALL), state)


def test_folding_batch_norm_changes_no_output():
    torch.manual_seed(0)
    network = Detector(2, SMALL)
    for _ in range(5):
        network(torch.randn(4, 3, 64, 64))
    x = torch.randn(2, 3, 64, 64)
    before = network.eval()(x)
    fold(network)
    assert is_folded(network.state_dict())
    assert torch.allclose(network(x), before, atol=1e-4)
    again = Detector(2, SMALL)
    take_shapes(again, network.state_dict())
    assert torch.equal(again.eval()(x), network(x))
