"""The report as a page: one file, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.tools.bench import svg
from app.tools.bench.measure import STAGES
from app.tools.bench.table import NAMES, PEAKS

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
            rows.append(svg.Bar(NAMES.get(stage, stage), ms["p50"], text, ticks=ticks))
    ages = []
    for name, part in (("live", live), ("overload", over)):
        course = part["age_course_ms"]
        ages.append(svg.Series(f"{name}: median", [p for p, _ in course]))
        ages.append(svg.Series(f"{name}: highest", [high for _, high in course], thin=True))
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
        f"{_table(('', 'measured'), told)}"
        "<h2>Stages at full throughput</h2>"
        '<p class="soft">Bar: median; ticks: 95th and 99th percentile.</p>'
        f"{svg.bars(rows, unit='ms')}"
        "<h2>Age of results</h2>"
        f'<p class="soft">At half of the rate that is sustained, and at three times it: '
        f"p50 {live['age_ms']['p50']:.1f} and {over['age_ms']['p50']:.1f} ms, "
        f"p99 {live['age_ms']['p99']:.1f} and {over['age_ms']['p99']:.1f} ms.</p>"
        f"{svg.lines(ages, unit='ms', across='time →')}"
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
    plot = svg.roof(svg.Roof(gops, peak["copy_gb_s"], points)) if gops and points else ""
    head = ("stage", "operations", "bytes", "bound, ms", "alone, ms", "limit", "of ceiling")
    return (
        '<h2>Roofline of one core</h2><p class="soft">What a stage must compute, read and write, '
        f"against this machine's measured {gops or 0:.0f} G operations/s "
        f"({called}) and {peak['copy_gb_s']:.1f} GB/s, "
        f"{escape(peak['date'])}.</p>{plot}{_table(head, rows)}"
    )


def _sweep(report: Report) -> str:
    ran = [p for p in report["points"] if p["fps"] is not None]
    rows = [
        svg.Bar(
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
        f"<h2>Frames a second</h2>{svg.bars(rows, unit='FPS')}"
        f"<h2>Figures</h2>{_table(head, cells)}"
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
    rows = [svg.Bar(name, end, f"{end - start:.0f}", start=start) for name, start, end in spans]
    packages = [svg.Bar(k, v, f"{v:.0f}") for k, v in report["slowest_imports_ms"].items()]
    return (
        f'<p class="say">{total:.0f} ms from the command to the first boxes, at most '
        f"{report['highest_ms']:.0f} ms; the target is {report['target_ms']:.0f} ms.</p>"
        f"<p>{escape(report['source'])}, engine {escape(report['engine'])} · median of "
        f"{report['rounds']} fresh processes</p><h2>What takes the time</h2>"
        f"{svg.bars(rows, unit='ms after the command')}"
        f"<h2>Imports by package</h2>{svg.bars(packages, unit='ms') if packages else ''}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _or_dash(value: float | None, unit: str = "") -> str:
    """Unavailable is a dash, never 0."""
    return "–" if value is None else f"{value:.2f} {unit}".rstrip()
