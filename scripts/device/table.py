"""A device's report for people: one page of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

REFERENCE = "kestrel cuda fp16"
SLOWEST = 12  # launches shown of a network
REASON = 160  # letters of why something was not measured


def table(report: dict[str, Any]) -> str:
    """Every stage's end, then what each has found."""
    stages: dict[str, Any] = report["stages"]
    about = stages.get("import", {}).get("figures", {})
    gpu, machine = about.get("gpu", {}), about.get("machine", {})
    lines = [
        f"# {report['gpu']}, {report['date']}",
        "",
        f"`{report['command']}`; model `{about.get('model', 'unknown')}`, frames of 1920×1080 in "
        "host memory to boxes in host memory, one at a time; "
        f"{machine.get('cpu', 'unknown')}, {machine.get('cores', '?')} cores; driver "
        f"{gpu.get('driver_version', 'unknown')}. Of the network's input all compute only what the "
        "frames need, but Kestrel's ort-cuda and ort-tensorrt, which compute all of it.",
        "",
        *rows("stage", "ended", "seconds", "found"),
    ]
    for name, stage in stages.items():
        lines.append(_row(name, stage["status"], stage.get("seconds", "–"), _found(stage)))
    for name, stage in stages.items():
        for figure, content in stage["figures"].items():
            if show := SHOWN.get(figure):
                lines += ["", f"{name}:", "", *show(content, stage["figures"])]
    lines.append("")
    for stage in stages.values():
        remarks = stage["figures"].get("remarks", {})
        lines += [f"- {name}: {'; '.join(r)}" for name, r in remarks.items() if r]
        not_here = stage["figures"].get("not_here", {})
        lines += [f"- not measured, {name}: {why[:REASON]}" for name, why in not_here.items()]
    return "\n".join(lines) + "\n"


def rows(*titles: str) -> list[str]:
    """The head of a table."""
    return [_row(*titles), _row(*["---"] * len(titles))]


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _found(stage: dict[str, Any]) -> str:
    figures = stage["figures"]
    said = [f"{count} {how}" for how, count in figures.get("tests", {}).items()]
    said += [f"{figures['errors']} errors"] if "errors" in figures else []
    return "; ".join(
        [*said, *figures.get("failing", []), *filter(None, [stage.get("why", "")[:REASON]])]
    )


def _latency(content: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    yield from rows("contestant", "p50 ms", "p99 ms", "against Kestrel", "boxes")
    mine = content.get(REFERENCE, {}).get("p50")
    for name, ms in sorted(content.items(), key=lambda row: float(row[1]["p50"])):
        ratio = f"{ms['p50'] / mine:.2f}×" if mine else "–"
        yield _row(name, f"{ms['p50']:.3f}", f"{ms['p99']:.3f}", ratio, figures["boxes"][name])


def _throughput(content: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    yield from rows("engine", "FPS, all slots busy", "of its slowest part", "stages, ms")
    for name, found in content.items():
        stages = ", ".join(f"{k} {v:.3f}" for k, v in figures["stages_ms"][name].items())
        yield _row(name, found["fps"], found.get("of_slowest_part", "–"), stages)


def _batches(content: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    yield from rows("frames of 16 sources", "at once", "FPS", "of one at a time")
    for size, by_batch in content.items():
        for batch, found in by_batch.items():
            yield _row(size, batch, found["fps"], f"{found['gain']:.2f}×")


def _preprocess(kernel: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    yield (
        f"Preprocessing, 1920×1080 BGR to 640×640 half: {kernel['kernel_us']:.1f} µs, "
        f"{kernel['must_mb']:.1f} MB that it has to touch, {kernel['share_of_copy']:.0%} of the "
        f"measured copy bandwidth of {kernel['copy_gb_s']:.0f} GB/s."
    )


def _layers(content: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    yield from rows("network", "launch", "µs")
    for name, found in content.items():
        launches = found["launches"]
        total = sum(launch["us"] for launch in launches)
        said = f"all {len(launches)} ({total:.1f} one by one)"
        yield _row(name, said, found["whole_us"])
        for launch in sorted(launches, key=lambda row: -float(row["us"]))[:SLOWEST]:
            yield _row(name, launch["layer"], launch["us"])


def _kernels(content: list[dict[str, Any]], figures: dict[str, Any]) -> Iterator[str]:
    yield from rows("kernel", "µs", "SM %", "DRAM %")
    for row in content:
        percents = (row.get(name, "–") for name in ("sm_percent", "dram_percent"))
        yield _row(row["kernel"], round(row.get("ns", 0) / 1e3, 2), *percents)


SHOWN: dict[str, Callable[[Any, dict[str, Any]], Iterator[str]]] = {
    "latency_ms": _latency,
    "throughput": _throughput,
    "batches": _batches,
    "preprocess": _preprocess,
    "layers": _layers,
    "kernels": _kernels,
}
