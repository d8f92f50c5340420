"""``bench --glass``: from a change on the screen to the picture of it in the window, and where that
time goes.

The window shows the pictures of a camera that watches the screen, on which a time code runs. Of
each code the first picture of it that the window has painted counts: from the moment at which the
code was painted to the moment at which that picture was. Where no camera is named, the X display is
grabbed in its place: then neither the screen's own delay nor a camera's exposure is in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...core.credentials import mask_credentials
from ...core.detections import Result
from ...core.errors import ConfigError
from ...core.frame import bgr_pixels
from ...core.stats import PERCENTILES, percentiles
from ...runtime.outputs import without_outputs
from ...runtime.run import prepare_engine
from ...runtime.window import CLOSE_S, WindowController, WindowSource
from ...sources.screen import watch_screen
from .. import Destination, columns, figure, header

CODES, PERIOD_MS = 1000, 100  # the same code comes again after 100 s
GRAB_WH_PX, GRAB_FPS = (640, 360), 60.0
WIDEST_PX = 640  # of the pictures that are kept until the codes in them are read
WARM_UP = 10  # codes
LEAST = 5
PARTS = ("capture", "wait", "inference", "paint")
BUILD_S = 600.0  # until the first result: an engine may have to be built


@dataclass(frozen=True, slots=True)
class Painted:
    """A result as the window painted it first; moments in ns, ``gray`` (h, w) uint8."""

    captured_ns: int
    ready_ns: int
    computed_ns: int  # sum of its stages
    painted_ns: int
    gray: NDArray[np.uint8]

    @classmethod
    def of(cls, result: Result, painted_ns: int) -> Painted:
        """Small, since many are kept."""
        import cv2

        gray = cv2.cvtColor(bgr_pixels(result.frame), cv2.COLOR_BGR2GRAY)
        scale = min(1.0, WIDEST_PX / gray.shape[1])
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        captured_ns = result.frame.captured_ns
        computed_ns = sum(result.stages_ns.values())
        ready_ns = captured_ns + result.age_ns
        return cls(captured_ns, ready_ns, computed_ns, painted_ns, np.asarray(small, np.uint8))

    def parts_ms(self, code_ns: int) -> tuple[float, ...]:
        """In the order of PARTS, since a code was painted."""
        wait_ns = self.ready_ns - self.captured_ns - self.computed_ns
        parts_ns = (self.captured_ns - code_ns, wait_ns, self.computed_ns)
        return tuple(each / 1e6 for each in (*parts_ns, self.painted_ns - self.ready_ns))


def run_glass_bench(config: Config, destination: Destination, *, seconds: float) -> int:
    """Measure in a window, print the table, write the JSON."""
    from ...gui.window import prepare_qt

    if not 1 <= seconds <= 60:
        raise ConfigError(f"--seconds is {seconds:g}; with --glass it must lie between 1 and 60")
    codes, detect = _codes()
    prepare_qt()
    display = os.environ.get("DISPLAY", "")
    if config.source is None and not display:
        raise ConfigError(
            "no X display to be watched in place of a camera; name a camera that looks at the "
            "screen with --source"
        )
    shown_ns: list[tuple[int, int]] = []
    painted: list[Painted] = []
    until_s = monotonic() + BUILD_S

    def on_result(result: Result, painted_ns: int) -> None:
        nonlocal until_s
        if not painted:
            until_s = monotonic() + seconds
        painted.append(Painted.of(result, painted_ns))

    source = config.source or f"screen {display}"
    grab = partial(watch_screen, display, GRAB_WH_PX, GRAB_FPS)
    watching = WindowSource(source, make=None if config.source else grab)
    controller = WindowController(without_outputs(config), [watching], prepare=prepare_engine)
    session = controller.session
    session.start(source)
    try:
        from ...gui.glass import run_glass

        run_glass(
            controller.views[0],
            codes,
            period_ms=PERIOD_MS,
            code_painted=lambda number, at_ns: shown_ns.append((number, at_ns)),
            result_painted=on_result,
            interrupted=lambda: monotonic() > until_s or session.error is not None,
        )
        engine = session.state().engine_text
    finally:
        session.stop()
        session.join(CLOSE_S)
    if session.error is not None:
        raise session.error
    rows = first_paintings(shown_ns, [(each, detect(each.gray)) for each in painted])
    if len(rows) < LEAST:
        raise ConfigError(
            f"{mask_credentials(source)} saw {len(rows)} time codes in {len(painted)} pictures: "
            "let the camera see the code in the upper left corner of the screen, sharp and whole"
        )
    report = {
        **header("glass"),
        "engine": engine,
        "source": mask_credentials(source),
        "seconds": seconds,
        "codes": {"shown": len(shown_ns), "seen": len(rows), "period_ms": PERIOD_MS},
        "pictures": len(painted),
        "glass_ms": _quantiles([sum(row) for row in rows]),
        "parts_ms": {
            name: _quantiles(values)
            for name, values in zip(PARTS, zip(*rows, strict=True), strict=True)
        },
    }
    return destination.give(report, _table(report))


def first_paintings(
    shown_ns: Sequence[tuple[int, int]], pictures: Sequence[tuple[Painted, Sequence[int]]]
) -> list[tuple[float, ...]]:
    """The parts (ms) of the first picture of each code, those of the start left out.

    ``shown_ns``: (number, when it was painted first); ``pictures``: in the order of painting, each
    with the codes in it, which are numbers modulo CODES: of several, as where the camera sees the
    window, too, the newest is the one on the screen.
    """
    moments: dict[int, int] = {}
    for number, at_ns in shown_ns:
        moments.setdefault(number, at_ns)
    first: dict[int, tuple[float, ...]] = {}
    for picture, codes in pictures:
        numbers = (
            number
            for code in codes
            for number in range(code, max(moments, default=-1) + 1, CODES)
            if moments.get(number, picture.captured_ns) < picture.captured_ns
        )
        number = max(numbers, default=-1)
        if number >= WARM_UP:
            first.setdefault(number, picture.parts_ms(moments[number]))
    return list(first.values())


def _codes() -> tuple[NDArray[np.uint8], Any]:
    """(CODES, S, S) pictures of ArUco markers, and what finds one in a picture."""
    import cv2

    if not hasattr(cv2, "aruco"):
        raise ConfigError("--glass needs OpenCV 4.7 or newer, with its ArUco markers")
    markers = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_1000)
    detector = cv2.aruco.ArucoDetector(markers)

    def detect(gray: NDArray[np.uint8]) -> list[int]:
        _, ids, _ = detector.detectMarkers(gray)
        return [] if ids is None else [int(each) for each in ids.ravel()]

    drawn = [cv2.aruco.generateImageMarker(markers, number, 60) for number in range(CODES)]
    return np.stack(drawn).astype(np.uint8), detect


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    told = percentiles(values, *PERCENTILES)
    return {f"p{p}": round(value, 2) for p, value in zip(PERCENTILES, told, strict=True)}


_SAID = {
    "capture": "code painted → frame captured",
    "wait": "captured → inference begins",
    "inference": "preprocess, network, postprocess",
    "paint": "boxes ready → picture painted",
}


def _table(report: dict[str, Any]) -> str:
    rows = {"glass to glass": report["glass_ms"], **report["parts_ms"]}
    cells = [
        (f"{name}  {_SAID.get(name, '')}".rstrip(), *(figure(v, ".1f") for v in each.values()))
        for name, each in rows.items()
    ]
    codes = report["codes"]
    first = (
        f"{report['source']}, {report['engine']}: {codes['seen']} of {codes['shown']} time codes "
        f"in {report['pictures']} pictures"
    )
    head = ("ms", *(f"p{p}" for p in PERCENTILES))
    return "\n".join([first, "", *columns(head, cells, numbers=True)])
