"""Where the rows of an archive are worked on: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import pickle
import re
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from .. import __version__
from ..config import Config
from ..core.credentials import mask_text
from ..core.errors import ConfigError, DeviceError, KestrelError
from ..core.package import FOLDER, INSTALLED, pip_install
from .clips import Row
from .worker import Answerer, Outcome, warm, work

log = logging.getLogger(__name__)

Answers = Iterator[tuple[Row, Outcome]]
Pool = Callable[[Iterable[Row]], Answers]  # answers come as they are ready, each part once

TRIES = 3  # of a row whose worker dies
DIED = f"its worker died {TRIES} times while at it (memory, or a decoder that crashes)"
MOST_DEAD = 5  # rows that cost their workers, without one that did not: then it is no clip's fault
LOOK_S = 0.2


def local_pool(config: Config, processes: int, stopped: Callable[[], bool]) -> Pool:
    """``processes`` of this machine, each with a worker of its own."""

    def run(rows: Iterable[Row]) -> Answers:
        rest = iter(rows)
        again: deque[tuple[Row, int]] = deque()  # and how often their worker has died
        died = 0  # rows, one after the other
        while not stopped():
            # once one has died, those that were under way go one by one: so it is known which it is
            alone = bool(again)
            dead = yield from _until_broken(
                _pool(config, 1 if alone else processes),
                again if alone else ((row, 0) for row in rest),
                1 if alone else 2 * processes,
                stopped,
            )
            if dead is None and not alone:
                return
            for row, tries in dead or ():
                if not alone or tries + 1 < TRIES:
                    again.append((row, tries + alone))
                    continue
                died += 1
                if died >= MOST_DEAD:
                    raise DeviceError(
                        "workers die whatever clip they are at: run replay with one of the clips "
                        "to see why"
                    )
                yield row, Outcome(DIED)
            if dead is None:
                died = 0

    return run


def _pool(config: Config, processes: int) -> ProcessPoolExecutor:
    level = logging.getLogger().level
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, initializer=warm, initargs=(config, level))


def _until_broken(
    pool: ProcessPoolExecutor,
    rows: Iterable[tuple[Row, int]],
    ahead: int,
    stopped: Callable[[], bool],
) -> Any:
    """Yields answers; returns the rows that were under way when a process died, else None."""
    running: dict[Future[Outcome | KestrelError], tuple[Row, int]] = {}
    more = _drained(rows)
    try:
        while True:
            while len(running) < ahead and (row := next(more, None)) is not None:
                try:
                    running[pool.submit(work, row[0])] = row
                except BrokenProcessPool:
                    running[Future()] = row
                    raise
            if not running or stopped():
                return None
            done, _ = wait(running, LOOK_S, FIRST_COMPLETED)
            for future in done:
                part, _ = running[future]
                outcome = _outcome(future.result())
                del running[future]
                yield part, outcome
    except BrokenProcessPool:
        for future, row in list(running.items()):  # some may have been done before
            if future.done() and not future.exception():
                del running[future]
                yield row[0], _outcome(future.result())
        return list(running.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()


def _drained(rows: Iterable[tuple[Row, int]]) -> Iterator[tuple[Row, int]]:
    """A deque gives its rows away, so that what comes back to it is what is left."""
    if isinstance(rows, deque):
        while rows:
            yield rows.popleft()
    else:
        yield from rows


def _outcome(answer: Outcome | KestrelError) -> Outcome:
    if isinstance(answer, KestrelError):
        raise answer
    return answer


class RayWorker:
    """The actor: rows in and out of the columns of Ray Data."""

    def __init__(self, config: Config, version: str) -> None:
        self._work = Answerer(config, version)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Each column has one value a row."""
        import numpy as np

        answers = [pickle.dumps(self._work(pickle.loads(row))) for row in batch["row"]]
        column = np.empty(len(answers), object)
        column[:] = answers
        return {"number": batch["number"], "outcome": column}


class RayFeed:
    """Runs rows through Ray Data on a thread of its own; ``take`` gives what is ready.

    In the driver, or, as Ray Data does not run in a client (ray://), in an actor at the cluster's
    head.
    """

    def __init__(self, rows: list[bytes], config: Config, version: str, **how: Any) -> None:
        self._came: SimpleQueue[tuple[int, bytes] | str | None] = SimpleQueue()
        Thread(target=self._run, args=(rows, config, version), kwargs=how, daemon=True).start()

    def take(self) -> tuple[int, bytes] | str | None:
        """(number of the row, pickled answer), or None at the end, or the words of a failure; ""
        where nothing came for a while."""
        try:
            return self._came.get(timeout=LOOK_S)
        except Empty:
            return ""

    def _run(
        self, rows: list[bytes], config: Config, version: str, *, most: int, cpus: int, gpus: float
    ) -> None:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is told here
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a row that kills its actor costs that row
        items = [{"number": i, "row": row} for i, row in enumerate(rows)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its newer versions would name these otherwise
                answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                    RayWorker,
                    fn_constructor_args=(config, version),
                    batch_size=1,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                    num_cpus=cpus,
                    num_gpus=gpus,
                    max_restarts=-1,
                    max_task_retries=TRIES - 1,
                )
            for answer in answers.iter_rows():
                self._came.put((int(answer["number"]), answer["outcome"]))
            self._came.put(None)
        except Exception as error:
            self._came.put(f"{type(error).__name__}: {error}")


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ray://HOST:PORT or HOST:PORT; raises ConfigError."""
    match = re.fullmatch(r"(?:ray://)?([\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", address)
    if match is None or int(match[2]) > 65_535:
        raise ConfigError(
            f"--cluster {mask_text(address)} is no address; write local, ray://HOST:10001 or "
            "HOST:6379"
        )
    return match[1].strip("[]"), int(match[2])


def ray_pool(
    config: Config, address: str, *, cpus: int, gpus: float, stopped: Callable[[], bool]
) -> Pool:
    """Actors of a cluster, each with a worker of its own, ``cpus`` and a share ``gpus`` of a GPU.

    A row whose actor or machine is lost is computed anew, by another one. Raises ConfigError where
    Ray is missing or the cluster does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"--cluster needs Ray, which is missing; {pip_install('archive')}")
    client, (host, port) = address.startswith("ray://"), split_address(address)
    # a checkout is not on the path of what runs at the head; its folder must be shared
    python_path = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": python_path}} if client and not INSTALLED else None
    try:
        # Ray itself would knock for minutes
        socket.create_connection((host, port), config.open_timeout_s).close()
        import ray

        how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        ray.init(address, runtime_env=environment, **how)
        resources: Callable[[], dict[str, float]] = ray.cluster_resources
        there = resources()
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {mask_text(address)} ({mask_text(str(error))}); start one "
            "(ray start --head), or use --cluster local"
        ) from error
    most = int(there.get("CPU", 0) // cpus)
    if gpus:
        most = min(most, int(there.get("GPU", 0) / gpus))
    if not most:
        raise ConfigError(
            f"the cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, a "
            f"worker needs {cpus} and {gpus:g}: lower --threads or --gpu-share"
        )

    def run(rows: Iterable[Row]) -> Answers:
        todo = list(rows)
        if not todo:
            return
        what = ([pickle.dumps(row) for row in todo], config, __version__)
        shares: dict[str, Any] = {"most": most, "cpus": cpus, "gpus": gpus}
        take: Callable[[], Any]
        if client:
            at_head = ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001})
            actor: Any = at_head(RayFeed)
            feed = actor.remote(*what, **shares)
            take = lambda: ray.get(feed.take.remote())  # noqa: E731
        else:
            take = RayFeed(*what, **shares).take
        left = set(range(len(todo)))
        while not stopped():
            try:
                came = take()
            except ray.exceptions.RayError as error:
                came = f"{type(error).__name__}: {error}"
            if came is None:
                break
            if isinstance(came, str):
                if came:
                    raise DeviceError(f"the Ray cluster failed: {mask_text(came)}")
                continue
            number, answer = came
            left.discard(number)
            yield todo[number], _outcome(pickle.loads(answer))
        for number in [] if stopped() else sorted(left):
            yield todo[number], Outcome(DIED)

    return run


def make_pool(
    config: Config,
    cluster: str,
    *,
    processes: int,
    gpus: float,
    stopped: Callable[[], bool],
) -> Pool:
    """``cluster``: "local", or the address of a Ray cluster."""
    if cluster == "local":
        return local_pool(config, processes, stopped)
    return partial(ray_pool, config, cluster)(cpus=config.threads or 1, gpus=gpus, stopped=stopped)
