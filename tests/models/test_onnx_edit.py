"""A network computed at another input size gives what it should, or that is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core.errors import ModelError
from app.models.manifest import read_manifest
from app.models.onnx_edit import at_input_size
from app.models.onnx_session import open_session
from app.models.store import default_model, locate
from tests.blob_detector import save_blob_detector
from tests.shelf_kit import asset

SIZES = [(256, 256), (320, 192), (192, 320)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))


def answers(weights: Path, size_wh: tuple[int, int], seed: int = 3) -> list[np.ndarray]:
    session = open_session(weights)
    noise = np.random.default_rng(seed).uniform(-1, 1, (1, 3, size_wh[1], size_wh[0]))
    return session.run(None, {session.get_inputs()[0].name: noise.astype(np.float32)})


@pytest.mark.parametrize("size_wh", SIZES)
def test_a_fixed_network_made_for_another_size_gives_what_its_dynamic_twin_gives(
    size_wh: tuple[int, int],
) -> None:
    """The author exported the same weights both ways: an independent answer."""
    spec = locate("yunet_n_320_320").spec
    _, weights = at_input_size(spec, asset("yunet_n_320_320"), size_wh)
    for found, wanted in zip(
        answers(weights, size_wh), answers(asset("yunet_n_dynamic"), size_wh), strict=True
    ):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("size_wh", SIZES)
def test_the_default_model_there_and_back_is_the_same_network(size_wh: tuple[int, int]) -> None:
    """A grid that was not made anew, or made wrongly, would stay wrong on the way back."""
    model = default_model()
    own_wh = model.spec.input.size_wh
    spec, weights = at_input_size(model.spec, model.weights, size_wh)
    cells = sum(size_wh[0] // s * (size_wh[1] // s) for s in (8, 16, 32))
    (there,) = answers(weights, size_wh)
    assert there.shape == (1, 2 * cells, 86) and spec.input.size_wh == size_wh
    _, back = at_input_size(spec, weights, own_wh)
    np.testing.assert_array_equal(answers(back, own_wh)[0], answers(model.weights, own_wh)[0])


@pytest.mark.parametrize("name", ["yolox_nano_416", "light_person_192", "nanodet_m_320"])
def test_public_models_there_and_back_are_the_same_networks(name: str) -> None:
    spec, own = locate(name).spec, asset(name)
    smaller, weights = at_input_size(spec, own, (256, 160))
    assert all(np.isfinite(each).all() for each in answers(weights, (256, 160)))
    _, back = at_input_size(smaller, weights, spec.input.size_wh)
    for found, wanted in zip(
        answers(back, spec.input.size_wh), answers(own, spec.input.size_wh), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_file_that_leaves_its_size_open_runs_as_it_is() -> None:
    weights = asset("yunet_n_dynamic")
    spec, same = at_input_size(locate("yunet_n_dynamic").spec, weights, (320, 192))
    assert same == weights and spec.input.size_wh == (320, 192)


@pytest.mark.parametrize("name", ["fastestdet_352", "ultraface_rfb_320"])
def test_families_whose_boxes_are_shares_of_the_size_they_learned_with_are_refused(
    name: str,
) -> None:
    with pytest.raises(ModelError, match="at its own only"):
        at_input_size(locate(name).spec, asset(name), (256, 192))


def test_a_table_that_is_no_grid_is_refused(tmp_path: Path) -> None:
    model = read_manifest(save_blob_detector(tmp_path).with_suffix(".toml"))
    with pytest.raises(ModelError, match="does not run at an input of 32x32"):
        at_input_size(model.spec, model.weights, (32, 32))


def test_a_size_that_the_network_cannot_take_is_refused() -> None:
    with pytest.raises(ModelError, match="multiples of 32"):
        at_input_size(locate("yunet_n_dynamic").spec, asset("yunet_n_dynamic"), (250, 250))
