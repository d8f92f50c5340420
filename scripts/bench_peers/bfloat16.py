"""Can peers be compared in bfloat16 here? Left to itself OpenVINO uses it where there is any."""

from __future__ import annotations

from app.core.errors import ConfigError
from app.inference.openvino import prove_bf16
from scripts.bench_peers.contract import NotHere


def need_bf16() -> None:
    """Raises NotHere where OpenVINO is missing or the processor does not compute so, or wrongly."""
    try:
        prove_bf16()
    except ConfigError as fault:
        raise NotHere(str(fault)) from fault
