"""What does `bench` tell people in a terminal?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.tools.bench.measure import QUANTILES, STAGES
from app.tools.bench.roofline import Line

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
