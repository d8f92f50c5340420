"""How is a device's report told to people? One page of Markdown."""

from __future__ import annotations

from typing import Any

REFERENCE = "kestrel cuda fp16"


def table(report: dict[str, Any]) -> str:
    """Latency and throughput by contestant, the kernel, and what was not measured."""
    gpu, machine, kernel = report["gpu"], report["machine"], report["preprocess"]
    lines = [
        f"# {gpu['name']}, {report['date']}",
        "",
        f"`{report['command']}`; model `{report['model']}`, frames of 1920×1080 in host memory to "
        f"boxes in host memory, one at a time; {machine['cpu']}, {machine['cores']} cores; driver "
        f"{gpu.get('driver_version', 'unknown')}. GPU tests: {report['tests'] or 'not run'}. "
        "Of the network's input all compute only what the frames need, but Kestrel's ort-cuda and "
        "ort-tensorrt, which compute all of it.",
        "",
        "| contestant | p50 ms | p99 ms | against Kestrel | boxes |",
        "| --- | --- | --- | --- | --- |",
    ]
    mine = report["latency_ms"].get(REFERENCE, {}).get("p50")
    for name, ms in sorted(report["latency_ms"].items(), key=lambda row: float(row[1]["p50"])):
        ratio = f"{ms['p50'] / mine:.2f}×" if mine else "–"
        lines.append(
            f"| {name} | {ms['p50']:.3f} | {ms['p99']:.3f} | {ratio} | {report['boxes'][name]} |"
        )
    lines += ["", "| engine | FPS, all slots busy | of its slowest part | stages, ms |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, figures in report["throughput"].items():
        stages = ", ".join(f"{k} {v:.3f}" for k, v in report["stages_ms"][name].items())
        share = figures.get("of_slowest_part", "–")
        lines.append(f"| {name} | {figures['fps']} | {share} | {stages} |")
    if report["batches"]:
        lines += ["", "| frames of 16 sources | at once | FPS | of one at a time |"]
        lines += ["| --- | --- | --- | --- |"]
    for size, rows in report["batches"].items():
        lines += [
            f"| {size} | {batch} | {figures['fps']} | {figures['gain']:.2f}× |"
            for batch, figures in rows.items()
        ]
    lines += [
        "",
        f"Preprocessing, 1920×1080 BGR to 640×640 half: {kernel['kernel_us']:.1f} µs, "
        f"{kernel['must_mb']:.1f} MB that it has to touch, {kernel['share_of_copy']:.0%} of the "
        f"measured copy bandwidth of {kernel['copy_gb_s']:.0f} GB/s.",
        "",
    ]
    lines += [f"- {name}: {'; '.join(r)}" for name, r in report["remarks"].items() if r]
    lines += [f"- not measured, {name}: {why}" for name, why in report["not_here"].items()]
    return "\n".join(lines) + "\n"
