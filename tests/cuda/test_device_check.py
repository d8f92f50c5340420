"""The device's check as a whole: what it measures on a GPU it measures here, however slowly."""

import json
import sys

from scripts.device import __main__ as check
from scripts.device import batches
from scripts.device.kernels import FRAME_BYTES, OUT_BYTES, read_bytes
from tests.blob_detector import save_blob_detector


def test_report_and_table(device, monkeypatch, tmp_path, capsys):
    measured = {"kernel_us": 8.0, "must_mb": 6.6, "copy_gb_s": 2000.0, "share_of_copy": 0.6}
    monkeypatch.setattr(check, "measure_preprocess", lambda: measured)
    monkeypatch.setattr(batches, "SIZES_WH", ((64, 64),))
    model = save_blob_detector(tmp_path, frames="frames")
    words = ["--model", str(model), "--results", str(tmp_path), "--tests", "7 passed"]
    words += ["--rounds", "1", "--frames", "2"]
    monkeypatch.setattr(sys, "argv", ["device", *words])
    assert check.main() == 0
    (path,) = tmp_path.glob("device_Simulated_CUDA_device_*.json")
    report = json.loads(path.read_text())
    ours = {"kestrel cuda fp16", "kestrel cuda fp32", "kestrel cpu fp32"}
    assert ours <= set(report["latency_ms"])
    boxes = {report["boxes"][name] for name in ours}
    assert len(boxes) == 1
    assert report["throughput"]["kestrel cuda fp16"]["fps"] > 0
    assert set(report["stages_ms"]["kestrel cuda fp16"]) >= {"upload", "network", "download"}
    assert set(report["batches"]["64x64"]) == {"1", "4", "16"}
    assert all(row["fps"] > 0 for row in report["batches"]["64x64"].values())
    # what is not here is told, each with its reason
    assert "kestrel ort-cuda fp32" in report["not_here"]
    assert set(report["not_here"]) & set(report["latency_ms"]) == set()
    shown = capsys.readouterr().out
    assert "| 64x64 | 16 |" in shown
    assert "| kestrel cuda fp16 |" in shown and "7 passed" in shown
    assert "not measured, kestrel ort-cuda fp32: " in shown


def test_a_third_of_the_rows_is_never_needed():
    """Three to one: of three rows two are read; all columns share sectors with needed ones."""
    assert read_bytes() == FRAME_BYTES * 2 // 3
    assert OUT_BYTES == 640 * 640 * 6
