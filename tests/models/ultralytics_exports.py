"""Run by an interpreter that has Ultralytics: python ultralytics_exports.py FOLDER PICTURE NAME.

Exports a network with random weights as a user does, and says in FOLDER/boxes.json what
Ultralytics' own postprocessing finds in the picture with it. "torch" is exported by PyTorch itself,
into two files; its boxes are those of "v8".
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
SIZE = 320
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "v5": ("yolov5n.yaml", {}),
    "v8": ("yolov8n.yaml", {}),
    "torch": ("yolov8n.yaml", {}),
    "v8_dynamic": ("yolov8n.yaml", {"dynamic": True}),
    "v8_batch": ("yolov8n.yaml", {"batch": 4}),
    "v8_half": ("yolov8n.yaml", {"half": True}),
    "v8_nms": ("yolov8n.yaml", {"nms": True, "conf": 0.001}),
    "v10": ("yolov10n.yaml", {}),
    "v11": ("yolo11n.yaml", {}),
    "v11_segment": ("yolo11n-seg.yaml", {}),
    "v11_pose": ("yolo11n-pose.yaml", {}),
    "v11_obb": ("yolo11n-obb.yaml", {}),
    "v11_classify": ("yolo11n-cls.yaml", {}),
    "v26": ("yolo26n.yaml", {}),
    "rtdetr": ("rtdetr-l.yaml", {}),
}


def warm(network: Any, picture: Any) -> None:
    """Give batch norms the statistics of pictures, and classes scores that differ."""
    import cv2
    import numpy as np
    import torch

    chance, (h, w) = np.random.default_rng(0), picture.shape[:2]
    network.train()
    with torch.no_grad():
        for _ in range(4):
            corners = [(chance.integers(h - h // 3), chance.integers(w - w // 3)) for _ in "abcd"]
            crops = [picture[y : y + h // 3, x : x + w // 3] for y, x in corners]
            batch = np.array([cv2.resize(crop, (SIZE, SIZE))[:, :, ::-1] for crop in crops])
            network(torch.tensor(batch.transpose(0, 3, 1, 2) / 255, dtype=torch.float32))
    network.eval()
    for name in ("cv3", "one2one_cv3"):
        for branch in getattr(network.model[-1], name, None) or ():
            branch[-1].weight.data *= 6
            branch[-1].bias.data += 6


def main(folder: Path, picture_file: str, name: str) -> None:
    import cv2
    import torch
    from ultralytics import RTDETR, YOLO

    picture = cv2.imread(picture_file)
    image = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "picture.png"), image)
    yaml, options = CASES[name]
    torch.manual_seed(0)
    kind, file = RTDETR if "rtdetr" in yaml else YOLO, folder / f"{name}.onnx"
    model = kind(yaml)
    if name not in ("rtdetr", "v11_classify"):
        warm(model.model, picture)
    told = model.export(format="onnx", imgsz=SIZE, simplify=False, device="cpu", **options)
    shutil.move(told, file)
    batch = options.get("batch", 1)
    exported = RTDETR(file) if kind is RTDETR else YOLO(file, task=model.task)
    found = exported.predict(
        [image] * batch if batch > 1 else image,
        conf=0.001, iou=0.45, imgsz=SIZE, max_det=2000, verbose=False, device="cpu",
    )[0]  # fmt: skip
    boxes: dict[str, Any] = {}
    if found.boxes is not None:
        boxes["xyxy"] = found.boxes.xyxy.tolist()
        boxes["scores"] = found.boxes.conf.tolist()
        boxes["classes"] = found.boxes.cls.int().tolist()
    if found.keypoints is not None:
        boxes["points"] = found.keypoints.xy.tolist()
    (folder / "boxes.json").write_text(json.dumps(boxes))
    if name == "torch":
        model.model.model[-1].export = True
        torch.onnx.export(model.model, (torch.zeros(1, 3, SIZE, SIZE),), file, dynamo=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
