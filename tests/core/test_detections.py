"""Detections keep every field through selection and concatenation."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.detections import Detections

NAMES = [each.name for each in fields(Detections) if each.name != "point_names"]
K = 5


def whole(count: int, seed: int = 0) -> Detections:
    """Detections with all fields; a row is recognised by its ``class_ids`` in each of them."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(count).astype(np.int32) + 1000 * seed
    tag = ids.astype(np.float32)
    made = Detections(
        xyxy=np.repeat(tag[:, None], 4, 1),
        scores=np.sort(rng.integers(0, 9, count).astype(np.float32) / 10)[::-1],
        class_ids=ids,
        keypoints=np.repeat(tag, K * 2).reshape(count, K, 2),
        track_ids=ids.astype(np.int64),
        masks=ids.astype(object),  # what they hold is nothing to Detections
        keypoint_scores=np.repeat(tag, K).reshape(count, K),
        polygons=np.repeat(tag, 8).reshape(count, 4, 2),
        point_names=tuple("abcde"),
    )
    absent = [name for name in NAMES if getattr(made, name) is None]
    assert not absent, f"give the further fields here, too: {absent}"
    return made


def rows(found: Detections) -> dict[str, list]:
    return {name: getattr(found, name).tolist() for name in NAMES}


def check_together(found: Detections) -> None:
    """All fields of a row came from the same row."""
    for name in NAMES:
        if name != "scores":
            values = getattr(found, name)
            ids = found.class_ids.reshape(-1, *[1] * (values.ndim - 1))
            assert (values == ids).all(), name


@given(st.lists(st.booleans(), max_size=20))
def test_a_mask_indices_and_a_slice_select_whole_rows(chosen: list[bool]) -> None:
    found, mask = whole(len(chosen)), np.array(chosen, bool)
    by_mask, by_index = found[mask], found[np.flatnonzero(mask)]
    assert rows(by_mask) == rows(by_index)
    check_together(by_mask)
    assert len(by_mask) == sum(chosen)
    assert by_mask.point_names == found.point_names
    assert (
        rows(found[: len(chosen) // 2])["class_ids"] == found.class_ids.tolist()[: len(chosen) // 2]
    )


def test_indices_out_of_order_are_refused() -> None:
    found = replace(whole(3), scores=np.array([0.9, 0.5, 0.1], np.float32))
    with pytest.raises(ValueError, match="falling"):
        found[np.array([2, 0])]


@given(st.lists(st.integers(0, 6), max_size=5))
def test_concatenation_keeps_all_rows_by_falling_score(counts: list[int]) -> None:
    parts = [whole(count, seed) for seed, count in enumerate(counts)]
    joined = Detections.concat(parts)
    assert len(joined) == sum(counts)
    if len(joined):  # else it has no optional fields
        check_together(joined)
        assert joined.point_names == tuple("abcde")
        sorted_ids = sorted(i for part in parts for i in part.class_ids.tolist())
        assert sorted(joined.class_ids.tolist()) == sorted_ids
    for part in parts:  # rows of equal score stay in their order
        ours = [i for i in joined.class_ids.tolist() if i in set(part.class_ids.tolist())]
        assert ours == part.class_ids.tolist()


@pytest.mark.parametrize("name", [n for n in NAMES if getattr(Detections.empty(), n) is None])
def test_a_field_that_only_some_have_is_no_silent_loss(name: str) -> None:
    of_points = {"keypoint_scores": None, "point_names": ()} if name == "keypoints" else {}
    bare = replace(whole(2), **{name: None, **of_points})
    with pytest.raises(ValueError, match=name):
        Detections.concat([whole(2), bare])
    assert getattr(bare[:1], name) is None
    assert getattr(Detections.concat([bare, bare]), name) is None
    with pytest.raises(ValueError, match=name):
        replace(whole(3), **{name: getattr(whole(2), name)})
