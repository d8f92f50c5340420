"""Which node runs which camera: a pure function of who is there, the same on every node.

Weighted rendezvous hashing (Thaler and Ravishankar 1998; the weights of Schindelhauer and Schomaker
2005): every pair of node and camera has a score, −capacity / ln(u) with u from the hashes of both
names, and a camera goes to the node with its highest score. A node that comes or goes moves the
cameras that it gets or had, and no others. A full node keeps the cameras that score highest with it
and the rest go to their next best (a stable matching, so that the order of arrival plays no part).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Node:
    """A node that may be given cameras. ``capacity``: how many cameras it runs well, above 0.

    ``labels``: what it has, such as ``gpu`` or ``site=north``. ``drained``: it keeps nothing.
    """

    name: str
    capacity: float = 8.0
    labels: frozenset[str] = frozenset()
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera as far as its place is concerned.

    ``labels``: those that its node must have, all of them. ``node``: runs it whenever it is there.
    ``only``: no other node ever runs it, as with a camera on a node's own USB port. ``readers``:
    how many may read it at a time; with 1 a move stops it before it starts elsewhere.
    """

    name: str
    labels: frozenset[str] = frozenset()
    node: str = ""
    only: str = ""
    readers: int = 2

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> Camera:
        """From its table in the bucket; what is missing has its default."""
        return cls(
            name,
            frozenset(map(str, table.get("labels", ()))),
            str(table.get("node", "")),
            str(table.get("only", "")),
            int(table.get("readers", 2)),
        )


def assign(cameras: Sequence[Camera], nodes: Sequence[Node]) -> dict[str, str]:
    """Camera to node. A camera that no node may run has no entry.

    A node holds at most its capacity as long as another one that may run the camera has room; where
    none has, the least loaded one takes it, as a slow picture is better than none.
    """
    if not cameras or not nodes:
        return {}
    names = tuple(sorted(node.name for node in nodes))
    at = {name: i for i, name in enumerate(names)}
    ordered = sorted(nodes, key=lambda node: node.name)
    capacity = np.array([node.capacity for node in ordered])
    score = capacity / _distance(tuple(camera.name for camera in cameras), names)
    stays = np.array([not node.drained for node in ordered])
    room = [max(1, int(node.capacity)) for node in ordered]
    held: list[list[tuple[float, int]]] = [[] for _ in ordered]  # heaps, the lowest score first
    orders: list[list[int]] = [[] for _ in cameras]
    alike: dict[tuple[frozenset[str], str], list[int]] = {}
    for i, camera in enumerate(cameras):
        alike.setdefault((camera.labels, camera.only), []).append(i)
    for (labels, only), rows in alike.items():
        fit = [labels <= node.labels and only in ("", node.name) for node in ordered]
        may = (stays & np.array(fit)).nonzero()[0]
        for i in rows:
            if (chosen := at.get(cameras[i].node)) is not None and chosen in may:
                score[i, chosen] = np.inf
        best = np.argsort(-score[np.ix_(rows, may)], axis=1, kind="stable")
        for i, order in zip(rows, may[best].tolist(), strict=True):
            orders[i] = order
    left: list[int] = []
    nexts = [0] * len(cameras)
    waiting = list(range(len(cameras)))
    while waiting:
        i = waiting.pop()
        if nexts[i] == len(orders[i]):
            left.append(i)
            continue
        n = orders[i][nexts[i]]
        nexts[i] += 1
        heapq.heappush(held[n], (float(score[i, n]), i))
        if len(held[n]) > room[n]:
            waiting.append(heapq.heappop(held[n])[1])
    plan = {cameras[i].name: names[n] for n, heap in enumerate(held) for _, i in heap}
    load = [float(len(heap)) for heap in held]
    for i in sorted(left, key=lambda i: cameras[i].name):
        if orders[i]:
            n = min(orders[i], key=lambda n: ((load[n] + 1) / capacity[n], -score[i, n]))
            load[n] += 1
            plan[cameras[i].name] = names[n]
    return plan


@lru_cache(maxsize=8)
def _distance(cameras: tuple[str, ...], nodes: tuple[str, ...]) -> NDArray[np.float64]:
    """−ln(u) of each pair, u uniform in (0, 1): the finaliser of MurmurHash3 over both hashes."""
    mixed = _hashes(cameras)[:, None] ^ _hashes(nodes)[None, :]
    with np.errstate(over="ignore"):
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(33)
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    return np.asarray(-np.log(uniform))


def _hashes(names: tuple[str, ...]) -> NDArray[np.uint64]:
    return np.array(
        [int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") for name in names],
        np.uint64,
    )
