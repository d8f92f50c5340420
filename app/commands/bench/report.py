"""Reports of ``bench``: terminal table, HTML page with SVG plots, and the comparison of two."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import ConfigError
from .measure import QUANTILES, STAGES
from .roofline import Line

NOISE = 0.05  # a difference below this is not called one: machines are no quieter


class Row(NamedTuple):
    """One figure of both reports; ``better``: whether less of it is ("less") or more."""

    name: str
    a: float
    b: float
    better: str

    @property
    def verdict(self) -> str:
        """In one word; empty where the two do not differ by more than noise."""
        if not self.a or abs(self.b / self.a - 1) <= NOISE:
            return ""
        return "better" if (self.b < self.a) == (self.better == "less") else "worse"


def run_compare(first: Path, second: Path) -> int:
    """Print the table."""
    print(compare(first, second))
    return 0


def compare(first: Path, second: Path) -> str:
    """The table for people. Raises ConfigError for what is no report of `bench`."""
    a, b = (_read(path) for path in (first, second))
    try:
        return _table(first, second, a, b)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as fault:
        raise ConfigError(
            f"{first} and {second} are not two reports of `bench --json`: {fault!r}"
        ) from fault


def _table(first: Path, second: Path, a: dict[str, Any], b: dict[str, Any]) -> str:
    kinds = [report.get("kind", "run") for report in (a, b)]
    if kinds[0] != kinds[1]:
        raise ConfigError(f"{first} is of kind {kinds[0]}, {second} of kind {kinds[1]}")
    lines = []
    for key in ("model", "engine", "kestrel"):
        if key in a or key in b:
            lines.append(_both(key, a.get(key), b.get(key)))
    lines.append(_both("source", *(_source(report) for report in (a, b))))
    lines.append(_both("cpu", a["device"].get("cpu"), b["device"].get("cpu")))
    rows = list(_ROWS[kinds[0]](a, b))
    width = max(24, *(len(row.name) + 1 for row in rows)) if rows else 24
    lines += ["", f"{'':{width}}{'A':>10}{'B':>10}{'B / A':>9}"]
    for row in rows:
        ratio = f"{row.b / row.a:9.2f}" if row.a else f"{'–':>9}"
        lines.append(f"{row.name:{width}}{row.a:10.2f}{row.b:10.2f}{ratio}  {row.verdict}".rstrip())
    lines += [
        "",
        f"differences up to {NOISE:.0%} are noise, larger ones may be: measure interleaved",
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(f"cannot read {path}: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise ConfigError(f"{path} is no JSON: {fault}") from fault
    parts: dict[str, Any] = report if isinstance(report, dict) else {}
    wanted = _PARTS.get(parts.get("kind", "run"), {"kind": dict})
    if not all(isinstance(parts.get(k), kind) for k, kind in wanted.items()):
        raise ConfigError(f"{path} is no report of `bench --json`")
    return parts


def _both(name: str, a: Any, b: Any) -> str:
    return f"{name:10}{a}" if a == b else f"{name:10}A: {a}\n{'':10}B: {b}"


def _source(report: dict[str, Any]) -> Any:
    return report.get("source") or report.get("throughput", {}).get("source")


def _run_rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    """The figures that both have."""
    stages = (report["throughput"].get("stages_ms", {}) for report in (a, b))
    yield from _pairs(
        *({f"{stage} p50, ms": ms and ms["p50"] for stage, ms in each.items()} for each in stages)
    )
    for part, key, name, better in (
        ("throughput", "overall_fps", "throughput, FPS", "more"),
        ("overload", "overall_fps", "overload, FPS", "more"),
        ("overload", "service_ms", "service time, ms", "less"),
        ("alone", "work_ms", "work alone, ms", "less"),
        ("energy", "joules_per_frame", "energy, J a frame", "less"),
    ):
        yield from _pairs(*({name: r.get(part, {}).get(key)} for r in (a, b)), better=better)
    for part, name in (("live", "age live"), ("overload", "age under load")):
        ages = (r.get(part, {}).get("age_ms", {}) for r in (a, b))
        yield from _pairs(
            *({f"{name} {q}, ms": each.get(q) for q in ("p50", "p99")} for each in ages)
        )
    yield from _pairs(*({"memory, MB": r.get("rss_mb")} for r in (a, b)))


def _sweep_rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    """Configurations that ran in both."""
    points = ({f"{p['name']}, FPS": p["fps"] for p in r["points"]} for r in (a, b))
    yield from _pairs(*points, better="more")


def _startup_rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    parts = (
        {name.removesuffix("_ms").replace("_", " ") + ", ms": ms for name, ms in each.items()}
        for each in (r["parts_ms"] | {"command to first boxes": r["total_ms"]} for r in (a, b))
    )
    yield from _pairs(*parts)


def _pairs(
    a: Mapping[str, float | None], b: Mapping[str, float | None], *, better: str = "less"
) -> Iterator[Row]:
    """What both know."""
    for name, before in a.items():
        after = b.get(name)
        if before is not None and after is not None:
            yield Row(name, before, after, better)


_ROWS = {"run": _run_rows, "sweep": _sweep_rows, "startup": _startup_rows}
_PARTS: Mapping[str, Mapping[str, type]] = {
    "run": {"throughput": dict, "overload": dict, "device": dict},
    "sweep": {"points": list, "device": dict},
    "startup": {"parts_ms": dict, "device": dict},
}


WIDTH = 720
ROW = 26
GAP = 10  # between a label and what it labels
LETTER = 7.0  # px, on average, of the page's 12 px


@dataclass(frozen=True, slots=True)
class Bar:
    """A row: from ``start`` to ``value``, with a whisker between two values, and ticks."""

    label: str
    value: float
    text: str
    start: float = 0.0
    whisker: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A line over evenly spaced points."""

    label: str
    values: Sequence[float]
    thin: bool = False


@dataclass(frozen=True, slots=True)
class Roof:
    """Arithmetic and memory ceilings (G operations/s, GB/s), and points (name, intensity, G/s)."""

    gops: float
    gb_s: float
    points: Sequence[tuple[str, float, float]] = field(default_factory=tuple)


def bars(rows: Sequence[Bar], *, unit: str) -> str:
    """Horizontal bars on a common axis from 0."""
    left = min(420.0, max(len(row.label) for row in rows) * LETTER + GAP)
    right = max(len(row.text) for row in rows) * LETTER + 2 * GAP
    most = max(max(row.value, *(row.whisker or ()), *row.ticks, 0.0) for row in rows) or 1.0
    scale = (WIDTH - left - right) / most
    height = len(rows) * ROW + 30
    out = []
    for tick in _ticks(most):
        x = left + tick * scale
        out.append(f'<path class="grid" d="M{x:.1f} 0V{height - 30}"/>')
        out.append(_text(x, height - 14, f"{tick:g}", "middle", "axis"))
    out.append(_text(left, height - 1, unit, "start", "axis"))
    for i, row in enumerate(rows):
        y = i * ROW + 4
        middle = y + ROW / 2 - 4
        x, wide = left + row.start * scale, max(1.0, (row.value - row.start) * scale)
        out.append(_text(left - GAP, middle + 4, row.label, "end"))
        out.append(
            f'<rect class="bar" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 8}" rx="2"/>'
        )
        end = row.value
        if row.whisker is not None:
            low, high = row.whisker
            end = max(end, high)
            a, b = left + low * scale, left + high * scale
            out.append(f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}"/>')
            out.append(
                f'<path class="whisker" d="M{a:.1f} {middle - 4}v8M{b:.1f} {middle - 4}v8"/>'
            )
        for tick in row.ticks:
            at = left + tick * scale
            out.append(f'<path class="tick" d="M{at:.1f} {y - 2}v{ROW - 4}"/>')
            end = max(end, tick)
        out.append(_text(left + end * scale + GAP, middle + 4, row.text, "start", "value"))
    return _svg(height, out)


def lines(series: Sequence[Series], *, unit: str, across: str) -> str:
    """Lines over a common time; the legend is above."""
    left, top, bottom = 50.0, 24.0, 210.0
    most = max((max(each.values) for each in series if len(each.values)), default=1.0) or 1.0
    out = []
    for tick in _ticks(most):
        y = bottom - tick / most * (bottom - top)
        out.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH}"/>')
        out.append(_text(left - GAP, y + 4, f"{tick:g}", "end", "axis"))
    x = left
    for i, each in enumerate(series):
        step = (WIDTH - left) / max(1, len(each.values) - 1)
        points = " ".join(
            f"{left + j * step:.1f},{bottom - v / most * (bottom - top):.1f}"
            for j, v in enumerate(each.values)
        )
        out.append(f'<polyline class="line c{i}{" thin" * each.thin}" points="{points}"/>')
        out.append(f'<path class="line c{i}{" thin" * each.thin}" d="M{x:.0f} 10h16"/>')
        out.append(_text(x + 22, 14, each.label))
        x += 22 + len(each.label) * LETTER + 3 * GAP
    out.append(_text(0, 14, unit, "start", "axis"))
    out.append(_text(WIDTH, bottom + 18, across, "end", "axis"))
    return _svg(int(bottom) + 24, out)


def roof(plot: Roof) -> str:
    """Operations a second over operations a byte, both logarithmic, under the two ceilings."""
    left, top, bottom = 70.0, 14.0, 270.0
    intensities = [x for _, x, _ in plot.points] + [plot.gops / plot.gb_s]
    speeds = [y for _, _, y in plot.points] + [plot.gops]
    x_low, x_high = _decades(min(intensities) / 3, max(intensities) * 3)
    y_low, y_high = _decades(min(speeds) / 2, max(speeds) * 1.5)

    def at(intensity: float, gops: float) -> tuple[float, float]:
        across = (math.log10(intensity) - x_low) / (x_high - x_low)
        up = (math.log10(gops) - y_low) / (y_high - y_low)
        return left + across * (WIDTH - 2 * GAP - left), bottom - up * (bottom - top)

    out = []
    for decade in range(x_low, x_high + 1):
        x, _ = at(10.0**decade, plot.gops)
        out.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
        out.append(_text(x, bottom + 16, f"{10.0**decade:g}", "middle", "axis"))
    for decade in range(y_low, y_high + 1):
        _, y = at(1.0, 10.0**decade)
        out.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH}"/>')
        out.append(_text(left - GAP, y + 4, f"{10.0**decade:g}", "end", "axis"))
    start = max(10.0**x_low, 10.0**y_low / plot.gb_s)
    corners = [
        (start, start * plot.gb_s),
        (plot.gops / plot.gb_s, plot.gops),
        (10.0**x_high, plot.gops),
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*corner) for corner in corners))
    out.append(f'<polyline class="line c0" points="{path}"/>')
    for name, intensity, gops in plot.points:
        x, y = at(intensity, gops)
        out.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        beyond = x > WIDTH - 120
        side, anchor = (-GAP, "end") if beyond else (GAP, "start")
        out.append(_text(x + side, y + 4, name, anchor, "value"))
    out.append(_text(WIDTH, bottom + 32, "operations a byte", "end", "axis"))
    out.append(_text(left, bottom + 32, "G operations a second, upwards", "start", "axis"))
    return _svg(int(bottom) + 38, out)


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "label") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _ticks(most: float) -> list[float]:
    """Four to ten round values from 0 to ``most``."""
    step = 10.0 ** math.floor(math.log10(most / 4))
    step = next(step * k for k in (1, 2, 5, 10) if most / (step * k) <= 8)
    return [round(i * step, 10) for i in range(int(most / step) + 1)]


def _decades(low: float, high: float) -> tuple[int, int]:
    return math.floor(math.log10(low)), math.ceil(math.log10(high))


PEAKS = {  # of a precision: what people call it, its ceiling
    "fp32": ("float32", "fp32_gops"),
    "bf16": ("bfloat16", "bf16_gops"),
    "int8": ("8 bits", "int8_gops"),
}
NAMES = {"read": "read (decode)", "upload": "upload (H2D)", "download": "download (D2H)"}


def run_table(report: Mapping[str, Any], *, energy: str, lines: Sequence[Line]) -> str:
    """One configuration."""
    run, live, over = report["throughput"], report["live"], report["overload"]
    alone, device = report["alone"], report["device"]
    rows = [
        f"{device['cpu']}, {device['cores']} cores; {report['engine']}",
        "",
        f"{'stage (ms)':16}{'p50':>9}{'p95':>9}{'p99':>9}{'alone':>9}",
    ]
    for stage in STAGES:
        ms = run["stages_ms"][stage]
        if ms is not None:
            by_itself = alone["stages_ms"][stage]
            column = f"{'–':>9}" if by_itself is None else f"{by_itself:9.2f}"
            rows.append(f"{NAMES.get(stage, stage):16}{_row(ms)}{column}")
    rows += [
        *report["remarks"],
        "",
        f"throughput    {run['overall_fps']:.1f} FPS over {run['processed']} frames of "
        f"{run['source']}, none lost; {alone['reached']:.0%} of the {alone['bound_fps']:.1f} FPS "
        f"that {alone['work_ms']:.2f} ms of work a frame allow",
        f"load          {_load(run['load'])}",
        f"energy        {energy}",
        f"live          {live['overall_fps']:.1f} FPS offered and {_dropped(live)}; age p50 "
        f"{live['age_ms']['p50']:.1f} ms, {live['age_p50_over_service']:.2f} times the service "
        f"time; p99 {live['age_ms']['p99']:.1f} ms",
        f"overload      {over['overall_fps']:.1f} FPS, {over['offered_times']:.1f} times as many "
        f"offered; {_dropped(over)}",
        f"{'age (ms)':16}" + _row(over["age_ms"]),
        f"              p99 is {over['age_p99_over_service']:.2f} times the service time of "
        f"{over['service_ms']:.2f} ms; first quarter {over['age_first_quarter_p99_ms']:.1f}, "
        f"last {over['age_last_quarter_p99_ms']:.1f} ms",
        f"memory        {report['rss_mb']:.0f} MB resident, {report['rss_peak_mb']:.0f} MB at most",
        "",
        f"roofline of one core: {_ceilings(report['roofline']['ceilings'])}",
        *(line.text() for line in lines if line.measured_ms is not None),
        report["roofline"]["bottleneck"],
    ]
    return "\n".join(rows)


def _row(ms: Mapping[str, float]) -> str:
    return "".join(f"{ms[p]:9.2f}" for p in QUANTILES)


def _dropped(run: Mapping[str, Any]) -> str:
    return f"{sum(run['dropped'].values())} of {run['captured']} dropped"


def _ceilings(peak: Mapping[str, Any]) -> str:
    parts = [
        f"{peak[key]:.0f} G operations/s in {name}"
        for name, key in PEAKS.values()
        if peak[key] is not None
    ]
    return ", ".join([*parts, f"{peak['copy_gb_s']:.1f} GB/s copying"])


def _load(load: Mapping[str, float | None]) -> str:
    """What is told, in one line."""
    words = {
        "process_cpu_percent": "{:.0f} % of the cores",
        "process_cpu_ms_per_frame": "{:.2f} ms of processor time a frame",
        "machine_cpu_percent": "{:.0f} % with all else that runs",
        "gpu_percent": "GPU {:.0f} %",
        "gpu_memory_mb": "GPU memory {:.0f} MB",
    }
    told = [words[name].format(value) for name, value in load.items() if value is not None]
    return ", ".join(told) or "not told"


Report = Mapping[str, Any]
STYLE = """
:root{--fg:#1c2430;--soft:#667080;--bg:#fff;--grid:#e3e7ec;--bar:#2f7d95;--c1:#c4572d;--c2:#7a5ea8}
@media(prefers-color-scheme:dark){:root{--fg:#e3e8ee;--soft:#93a0ae;--bg:#14181d;--grid:#2a323b;
--bar:#4fb0cc;--c1:#ec8a5e;--c2:#b198dd}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:760px;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}
p{margin:.3rem 0 .8rem}.soft{color:var(--soft)}
.say{border-left:4px solid var(--bar);padding:.3rem .9rem;font-size:1.05rem}
svg{width:100%;height:auto;font:12px system-ui,sans-serif;display:block}
svg text{fill:var(--fg)}svg text.axis{fill:var(--soft);font-size:11px}
.grid{stroke:var(--grid);fill:none}.bar{fill:var(--bar)}
.whisker,.tick{stroke:var(--fg);fill:none;stroke-width:1.5}.dot{fill:var(--c1)}
.line{fill:none;stroke-width:2}.c0{stroke:var(--bar)}.c1{stroke:var(--bar)}
.c2{stroke:var(--c1)}.c3{stroke:var(--c1)}.thin{stroke-width:1;opacity:.65}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--grid);font-weight:400}
th{color:var(--soft)}td:first-child,th:first-child{text-align:left}
"""


def page(report: Report) -> str:
    """HTML of any kind of report of `bench`."""
    device = report["device"]
    body = {"run": _run, "sweep": _sweep, "startup": _startup}[report["kind"]](report)
    versions = ", ".join(
        f"{k} {device[k]}" for k in ("python", "numpy", "opencv-python", "onnxruntime") if device[k]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Kestrel bench: {escape(str(report['model']))}</title><style>{STYLE}</style></head>"
        f"<body><h1>Kestrel bench: {escape(str(report['model']))}</h1>"
        f'<p class="soft">{escape(device["cpu"])}, {device["cores"]} cores · '
        f"{escape(report['time'])} · Kestrel {escape(report['kestrel'])}, {escape(versions)}<br>"
        f"{escape(device['system'])}</p>{body}</body></html>\n"
    )


def _run(report: Report) -> str:
    run, live, over, alone = (report[k] for k in ("throughput", "live", "overload", "alone"))
    load, energy = run["load"], report["energy"]
    rows = []
    for stage in STAGES:
        ms = run["stages_ms"][stage]
        if ms is not None:
            text = f"{ms['p50']:.2f} · {ms['p95']:.2f} · {ms['p99']:.2f}"
            ticks = (ms["p95"], ms["p99"])
            rows.append(Bar(NAMES.get(stage, stage), ms["p50"], text, ticks=ticks))
    ages = []
    for name, part in (("live", live), ("overload", over)):
        course = part["age_course_ms"]
        ages.append(Series(f"{name}: median", [p for p, _ in course]))
        ages.append(Series(f"{name}: highest", [high for _, high in course], thin=True))
    told = [
        ("throughput", f"{run['overall_fps']:.1f} FPS, {alone['reached']:.0%} of the bound"),
        ("work of a frame, alone on one thread", f"{alone['work_ms']:.2f} ms"),
        ("bound set by that work", f"{alone['bound_fps']:.1f} FPS"),
        ("cores used", _or_dash(load["process_cpu_percent"], "%")),
        ("processor time a frame", _or_dash(load["process_cpu_ms_per_frame"], "ms")),
        ("machine, all that runs", _or_dash(load["machine_cpu_percent"], "%")),
        ("GPU", _or_dash(load["gpu_percent"], "%")),
        ("power", _or_dash(energy["watts"], "W")),
        ("energy a frame", _or_dash(energy["joules_per_frame"], "J")),
        ("memory, resident", f"{report['rss_mb']:.0f} MB"),
        ("dropped at threefold overload", f"{sum(over['dropped'].values())} of {over['captured']}"),
        ("age live, p50 over service time", f"{live['age_p50_over_service']:.2f}"),
    ]
    return (
        f"<p>{escape(report['engine'])} · {escape(run['source'])}</p>"
        f'<p class="say">{escape(report["roofline"]["bottleneck"])}</p>'
        f"{_html_table(('', 'measured'), told)}"
        "<h2>Stages at full throughput</h2>"
        '<p class="soft">Bar: median; ticks: 95th and 99th percentile.</p>'
        f"{bars(rows, unit='ms')}"
        "<h2>Age of results</h2>"
        f'<p class="soft">At half of the rate that is sustained, and at three times it: '
        f"p50 {live['age_ms']['p50']:.1f} and {over['age_ms']['p50']:.1f} ms, "
        f"p99 {live['age_ms']['p99']:.1f} and {over['age_ms']['p99']:.1f} ms.</p>"
        f"{lines(ages, unit='ms', across='time →')}"
        f"{_roofline(report['roofline'])}"
    )


def _roofline(part: Report) -> str:
    peak, rows, points = part["ceilings"], [], []
    called, key = PEAKS.get(part["network"]["precision"], PEAKS["fp32"])
    for line in part["stages"]:
        if line["bound_ms"] is None or line["of_ceiling"] is None:
            continue
        operations, ms = line["operations"], line["measured_ms"]
        rows.append(
            (
                NAMES.get(line["stage"], line["stage"]),
                "–" if operations is None else f"{operations / 1e6:.1f} M",
                f"{line['bytes'] / 1e6:.2f} MB",
                f"{line['bound_ms']:.3f}",
                f"{ms:.3f}",
                line["limited_by"],
                f"{line['of_ceiling']:.0%}",
            )
        )
        if operations:
            points.append((line["stage"], operations / line["bytes"], operations / ms / 1e6))
    if not rows:
        return ""
    gops = peak[key]
    plot = roof(Roof(gops, peak["copy_gb_s"], points)) if gops and points else ""
    head = ("stage", "operations", "bytes", "bound, ms", "alone, ms", "limit", "of ceiling")
    return (
        '<h2>Roofline of one core</h2><p class="soft">What a stage must compute, read and write, '
        f"against this machine's measured {gops or 0:.0f} G operations/s "
        f"({called}) and {peak['copy_gb_s']:.1f} GB/s, "
        f"{escape(peak['date'])}.</p>{plot}{_html_table(head, rows)}"
    )


def _sweep(report: Report) -> str:
    ran = [p for p in report["points"] if p["fps"] is not None]
    rows = [
        Bar(
            p["name"],
            p["fps"],
            f"{p['fps']:.1f}",
            whisker=(min(p["rounds_fps"]), max(p["rounds_fps"])),
        )
        for p in ran
    ]
    cells = [
        (
            p["name"],
            f"{p['fps']:.1f}",
            f"{p['fps'] / ran[0]['fps']:.2f}",
            _or_dash(p["stages_p50_ms"]["network"]),
            _or_dash(p["age_p50_ms"]),
            _or_dash(p["process_cpu_ms_per_frame"]),
            _or_dash(p["joules_per_frame"]),
        )
        for p in ran
    ]
    refused = "".join(
        f"<li>{escape(p['name'])}: {escape(p['refused'])}</li>"
        for p in report["points"]
        if p["refused"] is not None
    )
    head = ("", "FPS", "times", "network, ms", "age p50, ms", "CPU, ms", "J a frame")
    return (
        f"<p>{escape(report['source'])} · medians of {report['rounds']} interleaved rounds of the "
        f"{escape(report['measures'])}; whiskers: lowest and highest round</p>"
        f"<h2>Frames a second</h2>{bars(rows, unit='FPS')}"
        f"<h2>Figures</h2>{_html_table(head, cells)}"
        + (f"<h2>Refused</h2><ul>{refused}</ul>" if refused else "")
    )


def _startup(report: Report) -> str:
    parts, total = report["parts_ms"], report["total_ms"]
    imports = parts["imports_ms"]
    spans = [
        ("imports, settings", 0.0, imports),
        ("source opens", imports, imports + parts["source_open_ms"]),
        ("model loads", imports, imports + parts["model_load_ms"]),
        ("first inference", total - parts["first_inference_ms"], total),
    ]
    rows = [Bar(name, end, f"{end - start:.0f}", start=start) for name, start, end in spans]
    packages = [Bar(k, v, f"{v:.0f}") for k, v in report["slowest_imports_ms"].items()]
    return (
        f'<p class="say">{total:.0f} ms from the command to the first boxes, at most '
        f"{report['highest_ms']:.0f} ms; the target is {report['target_ms']:.0f} ms.</p>"
        f"<p>{escape(report['source'])}, engine {escape(report['engine'])} · median of "
        f"{report['rounds']} fresh processes</p><h2>What takes the time</h2>"
        f"{bars(rows, unit='ms after the command')}"
        f"<h2>Imports by package</h2>{bars(packages, unit='ms') if packages else ''}"
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _or_dash(value: float | None, unit: str = "") -> str:
    """Unavailable is a dash, never 0."""
    return "–" if value is None else f"{value:.2f} {unit}".rstrip()
