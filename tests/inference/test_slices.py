"""Sliced inference: parts cover a frame, boxes come out whole, once, and where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from app.commands.cli import main
from app.config import Config
from app.core.detections import Detections
from app.core.errors import ConfigError
from app.core.filters import overlap
from app.core.frame import BT601, Frame, bgr_pixels, cropped
from app.core.interfaces import Answer
from app.core.masks import ObjectMask
from app.inference.slices import MARGIN, SlicedBackend, SliceGrid, merged_pieces, moved
from app.models.manifest import InputSpec, ModelSpec
from app.models.store import default_model
from app.pipeline.handoff import Policy
from app.runtime.engines import backend_factory
from tests.colours import YUV_FORMATS, yuv_frame
from tests.fakes import FakeBackend
from tests.inference.test_cpu_batch import some_frames

SIDE = 320
SPEC = ModelSpec("made", "a.onnx", InputSpec((SIDE, SIDE)), "rows", ("a", "b"))
Boxes = list[tuple[int, int, int, int, int]]  # corners and class

counts = st.integers(1, 4)
shares = st.sampled_from([0.0, 0.1, 0.2, 0.35, 0.5])
sides = st.integers(1, 700)


@given(wh=st.tuples(sides, sides), columns=counts, rows=counts, share=shares)
def test_parts_cover_a_frame_and_lie_in_it(wh, columns, rows, share) -> None:
    tiles = SliceGrid(columns, rows, share).tiles(wh, (SIDE, SIDE))
    assert len(tiles) <= columns * rows
    if not tiles:
        assert columns * rows == 1 or min(wh) < 64
        return
    covered = np.zeros((wh[1], wh[0]), bool)
    for x0, y0, x1, y1 in tiles:
        assert 0 <= x0 < x1 <= wh[0] and 0 <= y0 < y1 <= wh[1]
        covered[y0:y1, x0:x1] = True
        assert all(v % 2 == 0 for v in (x0, y0, x1, y1)) or any(side % 2 for side in wh)
    assert covered.all() and len(set(tiles)) == len(tiles)


@pytest.mark.parametrize(
    ("wh", "count"), [((640, 480), 0), ((1150, 640), 2), ((1920, 1080), 8), ((9000, 9000), 16)]
)
def test_auto_goes_by_the_size_of_the_frame_beside_the_networks_input(wh, count) -> None:
    grid = SliceGrid.parse("auto", 0.2)
    assert grid is not None
    tiles = grid.tiles(wh, (SIDE, SIDE))
    assert len(tiles) == count
    assert grid.pieces > count


@pytest.mark.parametrize("text", ["", "2", "0x2", "9x1", "2x2x2", "many", "-1x2"])
def test_what_is_no_grid_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="2x2"):
        SliceGrid.parse(text, 0.2)
    assert SliceGrid.parse("1x1", 0.2) is None


@pytest.mark.parametrize("pixel_format", YUV_FORMATS)
def test_a_part_of_a_frame_has_its_colours(pixel_format) -> None:
    frame = yuv_frame(pixel_format, BT601, (64, 48))
    part = cropped(frame, 8, 4, 40, 30)
    assert part.wh_px == (32, 26) and part.pixels.flags.c_contiguous
    assert np.array_equal(bgr_pixels(part), bgr_pixels(frame)[4:30, 8:40])


def located(width: int, height: int) -> Frame:
    """Each pixel says where it is."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x % 256, y % 256, x // 256 * 16 + y // 256], -1)
    return Frame(pixels.astype(np.uint8), 0, 0)


class Oracle:
    """A slot that sees of known boxes what lies in a piece, and nothing that is small in it."""

    def __init__(self, boxes: Boxes, least_px: float, capacity: int = 99) -> None:
        self._boxes, self._least, self.capacity = boxes, least_px, capacity
        self._frames: Sequence[Frame] = ()
        self.pieces = 0

    def enqueue(self, frames: Sequence[Frame]) -> None:
        assert not self._frames and 0 < len(frames) <= self.capacity
        self._frames, self.pieces = frames, self.pieces + len(frames)

    def ready(self) -> bool:
        return True

    def collect(self) -> Sequence[Answer]:
        frames, self._frames = self._frames, ()
        return [(self._seen(frame), {"network": 1000}) for frame in frames]

    def _seen(self, frame: Frame) -> Detections:
        low, high, both = (int(v) for v in frame.pixels[0, 0])
        left, top = low + both // 16 * 256, high + both % 16 * 256
        width, height = frame.wh_px
        scale = min(SIDE / width, SIDE / height)
        rows = []
        for x0, y0, x1, y1, kind in self._boxes:
            a, b = max(x0 - left, 0), max(y0 - top, 0)
            c, d = min(x1 - left, width), min(y1 - top, height)
            if c <= a or d <= b or min(c - a, d - b) * scale < self._least:
                continue
            seen = (c - a) * (d - b) / ((x1 - x0) * (y1 - y0))
            rows.append((a, b, c, d, 0.4 + 0.5 * seen, kind))
        rows.sort(key=lambda row: -row[4])
        table = np.array(rows, np.float32).reshape(-1, 6)
        return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def sliced(oracle, frame: Frame, grid: SliceGrid) -> Detections:
    inner = FakeBackend(lambda: None)
    inner.slots = [oracle]
    backend = SlicedBackend(lambda wake: inner, grid, SPEC, wake=lambda: None, iou=0.5)
    with backend:
        slot = backend.slots[0]
        slot.enqueue([frame])
        while not slot.ready():
            pass
        ((found, stages),) = slot.collect()
    assert stages["network"] == 1000 * oracle.pieces
    return found


@st.composite
def scenes(draw) -> tuple[tuple[int, int], Boxes]:
    width, height = draw(st.integers(200, 1600)), draw(st.integers(200, 1200))
    boxes: Boxes = []
    for _ in range(draw(st.integers(0, 12))):
        w, h = draw(st.integers(8, width // 2)), draw(st.integers(8, height // 2))
        x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
        box = (x, y, x + w, y + h, draw(st.integers(0, 1)))
        if not any(_touch(box, other) for other in boxes):
            boxes.append(box)
    return (width, height), boxes


def _touch(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@settings(deadline=None, max_examples=60)
@given(scene=scenes(), grid=st.sampled_from([(2, 2), (3, 2), (1, 3), (0, 0)]), share=shares)
def test_boxes_come_out_whole_once_and_in_their_place(scene, grid, share) -> None:
    (width, height), boxes = scene
    assume(boxes)
    slices, least_px = SliceGrid(*grid, share), 10.0
    found = sliced(Oracle(boxes, least_px), located(width, height), slices)
    got = [(*map(int, b), int(c)) for b, c in zip(found.xyxy, found.class_ids, strict=True)]
    assert len(set(got)) == len(got), "nothing twice"
    assert set(got) <= set(boxes), "nothing cut, nothing shifted"
    tiles = slices.tiles((width, height), (SIDE, SIDE))
    for x0, y0, x1, y1, kind in boxes:
        for left, top, right, bottom in [(0, 0, width, height), *tiles]:
            scale = min(SIDE / (right - left), SIDE / (bottom - top))
            room = MARGIN / scale + 1
            inside = (
                (left == 0 or x0 - left >= room)
                and (top == 0 or y0 - top >= room)
                and (right == width or right - x1 >= room)
                and (bottom == height or bottom - y1 >= room)
                and left <= x0 and x1 <= right and top <= y0 and y1 <= bottom
            )  # fmt: skip
            if inside and min(x1 - x0, y1 - y0) * scale >= least_px:
                assert (x0, y0, x1, y1, kind) in got


def test_a_box_that_a_seam_cuts_is_that_of_the_whole_frame() -> None:
    wide = (100, 200, 1100, 900, 0)
    found = sliced(Oracle([wide], 10.0), located(1200, 1000), SliceGrid(2, 2, 0.2))
    assert found.xyxy.tolist() == [list(map(float, wide[:4]))]


def test_lots_of_a_slot_that_takes_few_give_the_same() -> None:
    boxes: Boxes = [(30, 40, 60, 90, 0), (600, 300, 640, 360, 1), (100, 500, 400, 700, 0)]
    frame, grid = located(1200, 800), SliceGrid(3, 2, 0.2)
    at_once = sliced(Oracle(boxes, 10.0), frame, grid)
    assert len(at_once) == 3
    for capacity in (1, 2, 4):
        some = sliced(Oracle(boxes, 10.0, capacity), frame, grid)
        assert np.array_equal(some.xyxy, at_once.xyxy)
        assert np.array_equal(some.class_ids, at_once.class_ids)


def test_the_known_picture_of_the_self_test_is_not_sliced() -> None:
    oracle = Oracle([(10, 10, 200, 200, 0)], 10.0)
    sliced(oracle, replace(located(800, 600), index=-1), SliceGrid(2, 2, 0.2))
    assert oracle.pieces == 1


def test_classes_stay_apart_and_keypoints_come_along() -> None:
    def one(kind: int, score: float) -> Detections:
        box, points = np.array([[10, 10, 50, 50]], np.float32), np.ones((1, 2, 2), np.float32)
        return Detections(box, np.float32([score]), np.array([kind], np.int32), points * score)

    found = merged_pieces([one(0, 0.5), one(0, 0.9), one(1, 0.7)], 0.5)
    assert found.class_ids.tolist() == [0, 1]
    assert found.keypoints is not None and found.keypoints[0, 0, 0] == np.float32(0.9)


def test_masks_and_turned_boxes_of_a_part_are_moved_to_its_place() -> None:
    mask = ObjectMask(2, 3, 4, 4, np.ones((4, 4), np.float32), (1.0, 0.0, 1.0, 0.0))
    masks = np.empty(1, object)
    masks[0] = mask
    corners = np.float32([[[2, 3], [6, 3], [6, 7], [2, 7]]])
    found = Detections(
        *(np.float32([[2, 3, 6, 7]]), np.float32([0.9]), np.zeros(1, np.int32)),
        masks=masks,
        polygons=corners,
    )
    there = moved(found, 100, 50)
    assert there.polygons is not None and there.masks is not None
    assert np.array_equal(there.polygons, corners + np.float32((100, 50)))
    (before,), (after,) = mask.outlines, there.masks[0].outlines
    assert (after == before + np.float32((100, 50))).all()
    assert (there.xyxy == np.float32([[102, 53, 106, 57]])).all() and masks[0] is mask


def run(config: Config, frames: Sequence[Frame]) -> list[Detections]:
    found = []
    with backend_factory(config, default_model(), Policy.LOSSLESS)(lambda: None) as backend:
        for frame in frames:
            backend.slots[0].enqueue([frame])
            found.append(backend.slots[0].collect()[0][0])
    return found


def test_a_real_network_finds_the_same_one_after_the_other_and_as_a_batch() -> None:
    frames = some_frames()[:3]
    config = Config(engine="cpu", workers=1, slices="2x2")
    alone = run(config, frames)
    for batch in (2, 5):
        for a, b in zip(alone, run(replace(config, batch=batch), frames), strict=True):
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=0.05)
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)
    whole = run(replace(config, slices=None), frames)
    for found, plain in zip(alone, whole, strict=True):
        for box, kind in zip(plain.xyxy, plain.class_ids, strict=True):
            same = found.xyxy[found.class_ids == kind]
            assert len(same) and overlap(box, same).max() > 0.5, "what the frame shows stays"


def test_replays_and_runs_of_several_sources_are_sliced_alike(tmp_path: Path) -> None:
    def lines(name: str, *words: str) -> list[dict]:
        out = tmp_path / name
        more = ["--slices", "2x1", "--max-frames", "12", "--json", str(out)]
        assert main([*words, *more]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    first, second = (lines(name, "replay", "sample:") for name in ("a", "b"))
    assert [x["detections"] for x in first] == [x["detections"] for x in second]
    boxes = {x["frame"]: x["detections"] for x in first}
    live = lines("c", "run", "--headless", "--source", "a=sample:", "--source", "b=sample:")
    assert {x["name"] for x in live} == {"a", "b"} and any(x["detections"] for x in live)
    for line in live:
        if line["frame"] in boxes:
            labels = [d["label"] for d in line["detections"]]
            assert labels == [d["label"] for d in boxes[line["frame"]]]


def test_what_is_no_grid_is_refused_before_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "sample:", "--slices", "many"]) == 2
    assert "2x2" in capsys.readouterr().err
    assert main(["replay", "sample:", "--slices", "2x2", "--slice-overlap", "0.9"]) == 2
