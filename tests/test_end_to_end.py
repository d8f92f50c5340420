"""The main job on a real clip with a real network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.commands.cli import main

SLACK = 6  # frames at the ends of a presence, where somebody is half in the picture


@pytest.mark.slow
@pytest.mark.timeout(600)  # all work of the processor, so its load stretches it
def test_people_come_and_go_when_the_clip_says(
    assets: Path, asset_manifest: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    clip = assets / "clips" / "intel_one_by_one.mp4"
    weights = assets / "models" / "yolox_nano_416.onnx"
    manifest = Path(__file__).parents[1] / "models" / "yolox_nano_416.toml"
    model = tmp_path / manifest.name
    text = manifest.read_text()
    model.write_text(text)
    (tmp_path / "coco80.txt").write_bytes(manifest.with_name("coco80.txt").read_bytes())
    (tmp_path / weights.name).symlink_to(weights)
    # a third of the clip: two people, and the empty room before, between and after them
    words = ["--model", str(model), "--json", str(out), "--max-frames", "480"]
    assert main(["replay", str(clip), *words]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    seen = {
        line["frame"]
        for line in lines
        if any(found["label"] == "person" for found in line["detections"])
    }
    facts = next(c for c in asset_manifest["clips"] if c["name"] == "intel_one_by_one")
    spans = facts["facts"]["person_present_frames_yolox_every_frame"]
    spans = [span for span in spans if span[1] < len(lines)]
    surely = {i for a, b in spans for i in range(a + SLACK, b + 1 - SLACK)}
    perhaps = {i for a, b in spans for i in range(a - SLACK, b + 1 + SLACK)}
    assert len(lines) == 480
    assert not surely - seen, f"nobody found in {sorted(surely - seen)}"
    assert not seen - perhaps, f"somebody found in {sorted(seen - perhaps)}"
