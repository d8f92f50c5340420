"""OpenCV DNN in the shape of its own sample: capture thread, queue, network thread, main thread.

As samples/dnn/object_detection.py has it, but its queues are bounded and lose no frame. Where the
build can, ``forwardAsync`` is used, else ``forward`` on the network's thread, as the sample does.
"""

from __future__ import annotations

import threading
from queue import Queue
from typing import Any

import cv2

from app.models.manifest import Model
from scripts.bench_peers.contract import Clock, Run
from scripts.bench_peers.plain import PlainParts, frames_of

DEPTH = 4  # frames that may wait in each queue


def run(clip: str, model: Model) -> Run:
    """The three threads hand over ``None`` at the end, or the error that ended them."""
    net = cv2.dnn.readNetFromONNX(str(model.weights))
    parts, clock, boxes = PlainParts(model.spec), Clock(), []
    frames: Queue[Any] = Queue(DEPTH)
    outputs: Queue[Any] = Queue(DEPTH)

    def capture() -> None:
        for frame in frames_of(clip):
            frames.put(frame)

    def infer() -> None:
        while (frame := frames.get()) is not None:
            net.setInput(parts.tensor(frame))
            outputs.put((frame, net.forwardAsync() if asynchronous else net.forward()))

    asynchronous = _is_asynchronous(net, parts.tensor(next(frames_of(clip))))
    for work, out in ((capture, frames), (infer, outputs)):
        threading.Thread(target=_then_end, args=(work, out), daemon=True).start()
    while (item := outputs.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        frame, output = item
        boxes.append(parts.boxes(output.get() if asynchronous else output, frame))
        clock.tick()
    return clock.run(boxes, forward="forwardAsync" if asynchronous else "forward")


def _then_end(work: Any, out: Queue[Any]) -> None:
    try:
        work()
        out.put(None)
    except BaseException as error:
        out.put(error)


def _is_asynchronous(net: Any, tensor: Any) -> bool:
    """Only a build with OpenVINO as its engine has forwardAsync."""
    net.setInput(tensor)
    try:
        net.forwardAsync().get()
    except cv2.error:
        return False
    return True
