"""A pool whose answers are completed by the network that was pruned."""

import json

import numpy as np
import torch

from scripts.train.checkpoint import load_trained
from scripts.train.data import read_set
from scripts.train.network import cell_centres, normalise
from scripts.train.reteach import main, merged
from tests.train.test_loop import run


def rows(*cells):
    """(1,N,C+4) from (scores, box) of each cell."""
    return np.array([[[*scores, *box] for scores, box in cells]], np.float32)


def test_the_teacher_has_the_word_where_it_knows_and_the_own_network_where_it_does_not():
    teacher = rows(((0.7, -1), (0, 0, 9, 9)), ((0.1, -1), (1, 1, 2, 2)))
    own = rows(((0.2, 0.3), (5, 5, 6, 6)), ((0.9, 0.8), (7, 7, 8, 8)))
    found = merged(teacher, own)
    np.testing.assert_allclose(found[0, 0], [0.7, 0.3, 0, 0, 9, 9], atol=1e-6)
    np.testing.assert_allclose(found[0, 1], [0.1, 0.8, 7, 7, 8, 8], atol=1e-6)


def test_a_pool_gets_the_networks_answers_and_shares_the_rest(square_set, tmp_path):
    run(read_set(square_set, "train"), tmp_path / "out")
    pool, out = tmp_path / "pool", tmp_path / "taught"
    pool.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (5, 3, 64, 64), dtype=np.uint8)
    cells = len(cell_centres((64, 64)))
    silent = np.full((5, cells, 5), -1, np.float16)  # a teacher that does not know squares
    np.save(pool / "pixels.npy", pixels)
    np.save(pool / "taught.npy", silent)
    np.save(pool / "hints.npy", np.zeros((5, cells, 2), np.int8))
    np.savez(pool / "labels.npz", ends=np.zeros(6, int))
    (pool / "about.json").write_text(json.dumps({"labels": ["square"]}))
    main([str(tmp_path / "out" / "last.pt"), "--pool", str(pool), "--out", str(out)])
    taught = np.load(out / "taught.npy")
    assert taught.shape == silent.shape and taught.dtype == np.float16
    network = load_trained(tmp_path / "out" / "last.pt").network.eval()
    with torch.no_grad():
        raw = network(normalise(torch.from_numpy(pixels)))
    np.testing.assert_allclose(taught[..., 0], raw[..., 4].sigmoid().numpy(), atol=1e-3)
    assert (out / "pixels.npy").samefile(pool / "pixels.npy")
    assert np.load(pool / "taught.npy").max() == -1, "the old pool is left as it was"
