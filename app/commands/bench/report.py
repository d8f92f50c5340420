"""Reports of ``bench``: terminal table, HTML page with SVG plots, and the comparison of two."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import ConfigError
from ...ops.power import Energy
from .. import columns, figure
from .charts import Bar, Series, bars, lines, roof
from .measure import QUANTILES, STAGES

Report = Mapping[str, Any]
ABOUT = ("model", "engine", "kestrel", "source", "cpu")
NOISE = 0.05  # a difference below this is not called one: machines are no quieter


class Figure(NamedTuple):
    """One figure of a report; None: not told."""

    value: float | None
    more_is_better: bool = False


def compare(first: Path, second: Path) -> str:
    """The table for people. Raises ConfigError for what is no report of `bench`."""
    (kind, about_a, before), (other, about_b, after) = (_read(path) for path in (first, second))
    if kind != other:
        raise ConfigError(f"{first} is of kind {kind}, {second} of kind {other}")
    lines = []
    for name, a in about_a.items():
        b = about_b[name]
        if a != b:
            lines += [f"{name:10}A: {a}", f"{'':10}B: {b}"]
        elif a is not None:
            lines.append(f"{name:10}{a}")
    rows = []
    for name, (old, more_is_better) in before.items():
        new = after[name].value if name in after else None
        if old is None or new is None:
            continue
        ratio, verdict = new / old if old else None, ""
        if ratio is not None and abs(ratio - 1) > NOISE:
            verdict = "better" if (new > old) == more_is_better else "worse"
        rows.append((name, figure(old), figure(new), figure(ratio), verdict))
    told = f"differences up to {NOISE:.0%} are noise, larger ones may be: measure interleaved"
    table = columns(("", "A", "B", "B / A", ""), rows, numbers=True)
    return "\n".join([*lines, "", *table, "", told])


def _read(path: Path) -> tuple[str, dict[str, Any], dict[str, Figure]]:
    """The kind of a report, what it was made with, and its figures by name."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        kind = report.get("kind", "run")
        places = (report, report.get("throughput", {}), report["device"])
        about = {name: next((p[name] for p in places if p.get(name)), None) for name in ABOUT}
        figures = {
            name: Figure(None if value is None else float(value), more_is_better)
            for name, (value, more_is_better) in _FIGURES[kind](report).items()
        }
    except OSError as fault:
        raise ConfigError(f"cannot read {path}: {fault.strerror}") from fault
    except (LookupError, TypeError, AttributeError, ArithmeticError) as fault:
        raise ConfigError(f"{path} is no report of `bench --json`: {fault!r}") from fault
    except (ValueError, RecursionError) as fault:
        raise ConfigError(f"{path} is no JSON of `bench --json`: {fault}") from fault
    return kind, about, figures


def _run_figures(report: Report) -> dict[str, Figure]:
    run, over = report["throughput"], report["overload"]
    stages, live = run.get("stages_ms", {}), report.get("live", {})
    found = {f"{stage} p50, ms": Figure(ms["p50"]) for stage, ms in stages.items() if ms}
    found |= {
        "throughput, FPS": Figure(run.get("overall_fps"), more_is_better=True),
        "overload, FPS": Figure(over.get("overall_fps"), more_is_better=True),
        "service time, ms": Figure(over.get("service_ms")),
        "work alone, ms": Figure(report.get("alone", {}).get("work_ms")),
        "energy, J a frame": Figure(report.get("energy", {}).get("joules_per_frame")),
        "memory, MB": Figure(report.get("rss_mb")),
    }
    for name, part in (("age live", live), ("age under load", over)):
        for quantile in ("p50", "p99"):
            found[f"{name} {quantile}, ms"] = Figure(part.get("age_ms", {}).get(quantile))
    return found


def _sweep_figures(report: Report) -> dict[str, Figure]:
    return {f"{p['name']}, FPS": Figure(p["fps"], more_is_better=True) for p in report["points"]}


def _startup_figures(report: Report) -> dict[str, Figure]:
    parts = report["parts_ms"] | {"command to first boxes": report["total_ms"]}
    return {
        f"{name.removesuffix('_ms').replace('_', ' ')}, ms": Figure(ms)
        for name, ms in parts.items()
    }


_FIGURES = {"run": _run_figures, "sweep": _sweep_figures, "startup": _startup_figures}


PEAKS = {  # of a precision: what people call it, its ceiling
    "fp32": ("float32", "fp32_gops"),
    "bf16": ("bfloat16", "bf16_gops"),
    "int8": ("8 bits", "int8_gops"),
}
NAMES = {"read": "read (decode)", "upload": "upload (H2D)", "download": "download (D2H)"}
LOADS = {
    "process_cpu_percent": "{:.0f} % of the cores",
    "process_cpu_ms_per_frame": "{:.2f} ms of processor time a frame",
    "machine_cpu_percent": "{:.0f} % with all else that runs",
    "gpu_percent": "GPU {:.0f} %",
    "gpu_memory_mb": "GPU memory {:.0f} MB",
}
ROOFLINE = ("", "operations", "bytes", "bound, ms", "alone, ms", "limit", "of ceiling")
SWEEP = (
    *("", "FPS", "times", "lowest", "highest"),
    *("network, ms", "age p50, ms", "CPU, ms", "J a frame"),
)


def table(report: Report) -> str:
    """The table of any kind of report of `bench`."""
    device = report["device"]
    body = {"run": _run_text, "sweep": _sweep_text, "startup": _startup_text}[report["kind"]]
    return f"{device['cpu']}, {device['cores']} cores; {body(report)}"


def _run_text(report: Report) -> str:
    stages, alone = report["throughput"]["stages_ms"], report["alone"]["stages_ms"]
    rows = [
        (NAMES.get(stage, stage), *(figure(ms[q]) for q in QUANTILES), figure(alone[stage]))
        for stage in STAGES
        if (ms := stages[stage]) is not None
    ]
    roofline = report["roofline"]
    return "\n".join(
        [
            *(report["engine"], ""),
            *columns(("stage (ms)", *QUANTILES, "alone"), rows, numbers=True),
            *(*report["remarks"], ""),
            *(f"{name:14}{told}" for name, told in _run_facts(report)),
            *("", f"roofline of one core: {_ceilings(roofline['ceilings'])}"),
            *columns(ROOFLINE, _roofline_rows(roofline), numbers=True),
            roofline["bottleneck"],
        ]
    )


def _run_facts(report: Report) -> list[tuple[str, str]]:
    """What terminal and page say in words: (subject, figures)."""
    run, live, over, alone = (report[k] for k in ("throughput", "live", "overload", "alone"))
    load = [LOADS[name].format(v) for name, v in run["load"].items() if v is not None]
    dropped = [f"{sum(r['dropped'].values())} of {r['captured']} dropped" for r in (live, over)]
    age = over["age_ms"]
    return [
        (
            "throughput",
            f"{run['overall_fps']:.1f} FPS over {run['processed']} frames of {run['source']}, none "
            f"lost; {alone['reached']:.0%} of the {alone['bound_fps']:.1f} FPS that "
            f"{alone['work_ms']:.2f} ms of work a frame allow",
        ),
        ("load", ", ".join(load) or "not told"),
        ("energy", Energy(**report["energy"]).line()),
        (
            "live",
            f"{live['overall_fps']:.1f} FPS offered and {dropped[0]}; age p50 "
            f"{live['age_ms']['p50']:.1f} ms, {live['age_p50_over_service']:.2f} times the service "
            f"time; p99 {live['age_ms']['p99']:.1f} ms",
        ),
        (
            "overload",
            f"{over['overall_fps']:.1f} FPS, {over['offered_times']:.1f} times as many offered; "
            f"{dropped[1]}; age p50 {age['p50']:.1f} ms, p95 {age['p95']:.1f}, "
            f"p99 {age['p99']:.1f} ms, {over['age_p99_over_service']:.2f} times the service time "
            f"of {over['service_ms']:.2f} ms; p99 of the first quarter "
            f"{over['age_first_quarter_p99_ms']:.1f}, of the last "
            f"{over['age_last_quarter_p99_ms']:.1f} ms",
        ),
        ("memory", f"{report['rss_mb']:.0f} MB resident, {report['rss_peak_mb']:.0f} MB at most"),
    ]


def _ceilings(peak: Report) -> str:
    parts = [
        f"{peak[key]:.0f} G operations/s in {name}"
        for name, key in PEAKS.values()
        if peak[key] is not None
    ]
    return ", ".join([*parts, f"{peak['copy_gb_s']:.1f} GB/s copying"])


def _roofline_rows(roofline: Report) -> list[tuple[str, ...]]:
    return [
        (
            NAMES.get(line["stage"], line["stage"]),
            "–" if line["operations"] is None else f"{line['operations'] / 1e6:.1f} M",
            "–" if line["bytes"] is None else f"{line['bytes'] / 1e6:.2f} MB",
            figure(line["bound_ms"], ".3f"),
            figure(line["measured_ms"], ".3f"),
            line["limited_by"] or "–",
            figure(line["of_ceiling"], ".0%"),
        )
        for line in roofline["stages"]
        if line["measured_ms"] is not None
    ]


def _sweep_text(report: Report) -> str:
    return "\n".join(
        [
            f"medians of {report['rounds']} interleaved rounds of the {report['measures']}",
            *("", *columns(SWEEP, _sweep_rows(report), numbers=True)),
            *(f"{name}: refused: {why}" for name, why in _refusals(report)),
        ]
    )


def _sweep_rows(report: Report) -> list[tuple[str, ...]]:
    """Those that ran; the first of them is what the others are compared with."""
    ran = [p for p in report["points"] if p["fps"] is not None]
    return [
        (
            *(p["name"], f"{p['fps']:.1f}", f"{p['fps'] / ran[0]['fps']:.2f}"),
            *(f"{min(p['rounds_fps']):.1f}", f"{max(p['rounds_fps']):.1f}"),
            *(figure(p["stages_p50_ms"]["network"]), figure(p["age_p50_ms"])),
            *(figure(p["process_cpu_ms_per_frame"]), figure(p["joules_per_frame"])),
        )
        for p in ran
    ]


def _refusals(report: Report) -> list[tuple[str, str]]:
    return [(p["name"], p["refused"]) for p in report["points"] if p["refused"] is not None]


def _startup_text(report: Report) -> str:
    remarks = ("", "beside", "with its engine's import", "until the boxes are out")
    rows = [
        (name, f"{end - start:.0f} ms", remark)
        for (name, start, end), remark in zip(_startup_spans(report), remarks, strict=True)
    ]
    verdict = "within" if report["total_ms"] <= report["target_ms"] else "beyond"
    told = f"at most {report['highest_ms']:.0f}; {verdict} {report['target_ms']:.0f} ms"
    rows.append(("command to first boxes", f"{report['total_ms']:.0f} ms", told))
    imports = ", ".join(f"{k} {v:.0f}" for k, v in report["slowest_imports_ms"].items())
    if not report["bytecode"]:
        imports += "; PYTHONDONTWRITEBYTECODE is set, so each start may compile the sources anew"
    return "\n".join(
        [
            f"engine {report['engine']}, {report['model']}, {report['source']}; median of "
            f"{report['rounds']} fresh processes",
            *columns(("",) * 3, rows),
            *("", f"imports by package, ms: {imports}"),
        ]
    )


def _startup_spans(report: Report) -> list[tuple[str, float, float]]:
    """(part, its begin, its end) in ms after the command; source and model side by side."""
    parts, total = report["parts_ms"], report["total_ms"]
    imports = parts["imports_ms"]
    return [
        ("imports, settings", 0.0, imports),
        ("source opens", imports, imports + parts["source_open_ms"]),
        ("model loads", imports, imports + parts["model_load_ms"]),
        ("first inference", total - parts["first_inference_ms"], total),
    ]


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
.mark{stroke:var(--fg);fill:none;stroke-width:1.5}.dot{fill:var(--c1)}
.line{fill:none;stroke-width:2}.c0{stroke:var(--bar)}.c1{stroke:var(--bar)}
.c2{stroke:var(--c1)}.c3{stroke:var(--c1)}.thin{stroke-width:1;opacity:.65}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--grid);font-weight:400}
th{color:var(--soft)}td:first-child,th:first-child,.facts td{text-align:left}
"""


def page(report: Report) -> str:
    """HTML of any kind of report of `bench`."""
    device = report["device"]
    body = {"run": _run_page, "sweep": _sweep_page, "startup": _startup_page}[report["kind"]]
    versions = ", ".join(
        f"{k} {device[k]}" for k in ("python", "numpy", "opencv-python", "onnxruntime") if device[k]
    )
    title = escape(f"Kestrel bench: {report['model']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="soft">{escape(device["cpu"])}, {device["cores"]} cores · '
        f"{escape(report['time'])} · Kestrel {escape(report['kestrel'])}, {escape(versions)}<br>"
        f"{escape(device['system'])}</p>{body(report)}</body></html>\n"
    )


def _run_page(report: Report) -> str:
    rows = [
        Bar(
            NAMES.get(stage, stage),
            ms["p50"],
            " · ".join(figure(ms[q]) for q in QUANTILES),
            marks=(ms["p95"], ms["p99"]),
        )
        for stage, ms in report["throughput"]["stages_ms"].items()
        if ms is not None
    ]
    ages = []
    for name in ("live", "overload"):
        course = report[name]["age_course_ms"]
        ages.append(Series(f"{name}: median", [p for p, _ in course]))
        ages.append(Series(f"{name}: highest", [high for _, high in course], thin=True))
    return (
        f"<p>{escape(report['engine'])}</p>"
        f'<p class="say">{escape(report["roofline"]["bottleneck"])}</p>'
        f"{_html_table(('', 'measured'), _run_facts(report), kind='facts')}"
        "<h2>Stages at full throughput</h2>"
        '<p class="soft">Bar: median; marks: 95th and 99th percentile.</p>'
        f"{bars(rows, unit='ms')}<h2>Age of results</h2>"
        '<p class="soft">At half of the rate that is sustained, and at three times it.</p>'
        f"{lines(ages, unit='ms', across='time →')}{_roofline_section(report['roofline'])}"
    )


def _roofline_section(roofline: Report) -> str:
    peak = roofline["ceilings"]
    called, key = PEAKS.get(roofline["network"]["precision"], PEAKS["fp32"])
    gops = peak[key]
    points = [
        (each["stage"], each["operations"] / each["bytes"], each["operations"] / ms / 1e6)
        for each in roofline["stages"]
        if each["operations"] and (ms := each["measured_ms"])
    ]
    return (
        '<h2>Roofline of one core</h2><p class="soft">What a stage must compute, read and write, '
        f"against this machine's measured {gops or 0:.0f} G operations/s "
        f"({called}) and {peak['copy_gb_s']:.1f} GB/s, {escape(peak['date'])}.</p>"
        f"{roof(gops, peak['copy_gb_s'], points) if gops and points else ''}"
        f"{_html_table(ROOFLINE, _roofline_rows(roofline))}"
    )


def _sweep_page(report: Report) -> str:
    rows = [
        Bar(
            *(p["name"], p["fps"], f"{p['fps']:.1f}"),
            marks=(min(p["rounds_fps"]), max(p["rounds_fps"])),
        )
        for p in report["points"]
        if p["fps"] is not None
    ]
    refused = "".join(f"<li>{escape(f'{name}: {why}')}</li>" for name, why in _refusals(report))
    return (
        f"<p>{escape(report['source'])} · medians of {report['rounds']} interleaved rounds of the "
        f"{escape(report['measures'])}; marks: lowest and highest round</p>"
        f"<h2>Frames a second</h2>{bars(rows, unit='FPS')}"
        f"<h2>Figures</h2>{_html_table(SWEEP, _sweep_rows(report))}"
        + (f"<h2>Refused</h2><ul>{refused}</ul>" if refused else "")
    )


def _startup_page(report: Report) -> str:
    rows = [
        Bar(name, end, f"{end - start:.0f}", start=start)
        for name, start, end in _startup_spans(report)
    ]
    packages = [Bar(k, v, f"{v:.0f}") for k, v in report["slowest_imports_ms"].items()]
    return (
        f'<p class="say">{report["total_ms"]:.0f} ms from the command to the first boxes, at most '
        f"{report['highest_ms']:.0f} ms; the target is {report['target_ms']:.0f} ms.</p>"
        f"<p>{escape(report['source'])}, engine {escape(report['engine'])} · median of "
        f"{report['rounds']} fresh processes</p><h2>What takes the time</h2>"
        f"{bars(rows, unit='ms after the command')}"
        f"<h2>Imports by package</h2>{bars(packages, unit='ms') if packages else ''}"
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<table class="{kind}"><tr>{top}</tr>{body}</table>'
