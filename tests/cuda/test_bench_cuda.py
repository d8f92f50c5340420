"""`bench` with the CUDA engine: every stage of the device has its time."""

import json

import pytest

from app.commands.cli import main
from tests.blob_detector import save_blob_detector

pytestmark = pytest.mark.gpu


def test_bench_measures_the_devices_stages(device, tmp_path, capsys):
    model = save_blob_detector(tmp_path)
    out = tmp_path / "bench.json"
    words = [
        "bench",
        "--engine",
        "cuda",
        "--model",
        str(model),
        "--source",
        "pattern:?size=64x64&frames=30",
    ]
    assert main([*words, "--max-frames", "20", "--seconds", "1", "--json", str(out)]) == 0
    stages = json.loads(out.read_text())["throughput"]["stages_ms"]
    assert {"upload", "preprocess", "network", "postprocess", "download"} <= set(stages)
    shown = capsys.readouterr().out
    assert shown.index("upload") < shown.index("network") < shown.index("download")


def test_sweeps_of_slots_and_transfer_are_of_the_device(device, tmp_path):
    out = tmp_path / "sweep.json"
    words = ["bench", "--engine", "cuda", "--model", str(save_blob_detector(tmp_path))]
    words += ["--source", "pattern:?size=64x64&frames=20", "--rounds", "1", "--json", str(out)]
    assert main([*words, "--sweep", "slots=1,3", "--sweep", "transfer=pinned,mapped"]) == 0
    points = json.loads(out.read_text())["points"]
    assert len(points) == 4
    for point in points:
        assert point["refused"] is None and point["fps"] > 0
        assert point["stages_p50_ms"]["network"] is not None


def test_the_processors_ceilings_do_not_judge_a_gpu(device, tmp_path):
    out = tmp_path / "bench.json"
    words = ["bench", "--engine", "cuda", "--model", str(save_blob_detector(tmp_path))]
    words += ["--source", "pattern:?size=64x64&frames=20", "--seconds", "0.5", "--json", str(out)]
    assert main(words) == 0
    report = json.loads(out.read_text())
    alone = report["alone"]["stages_ms"]
    assert alone["upload"] is not None and alone["download"] is not None
    lines = {line["stage"]: line for line in report["roofline"]["stages"]}
    assert lines["network"]["of_ceiling"] is None and lines["read"]["of_ceiling"] is not None
