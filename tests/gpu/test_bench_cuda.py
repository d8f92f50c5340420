"""`bench` with the CUDA engine: every stage of the device has its time."""

import json

import pytest

from app.cli import main
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
