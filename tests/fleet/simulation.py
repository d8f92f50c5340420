"""A fleet in virtual time: the leases' own code, a server and a network that are modelled.

``python -m tests.fleet.simulation`` prints the figures of 200 nodes and 5,000 cameras.
"""

from __future__ import annotations

import heapq
import random
import sys
import time
from collections import Counter
from functools import lru_cache

from app.fleet.assignment import Camera, Node, assign
from app.fleet.connection import LEASES, MEMBERS
from app.fleet.leases import TTL_S, Ask, LeaseKeeper, Look, Write

TICK_S, TIMEOUT_S = 0.1, 1.0
OPEN_S = 0.15  # from wanting a camera to its first frame


@lru_cache(maxsize=4)
def _plan(cameras, nodes):
    return assign(list(cameras), list(nodes))


def planner(cameras, nodes):
    """As ``assign``; nodes of one view share the work."""
    return _plan(tuple(cameras), tuple(nodes))


class SimNode:
    """A node whose clocks, link and process can be meddled with."""

    def __init__(self, world, name, *, capacity, by_wall=False):
        self.world, self.name, self.by_wall = world, name, by_wall
        self.boot_offset = world.random.uniform(0, 1e6)
        self.wall_offset = 1.7e9
        self.is_cut = self.is_stopped = self.is_dead = False
        self.opened, self.life = {}, 0
        self.keeper = LeaseKeeper(
            Node(name, capacity),
            new_session=lambda: f"{name}-{world.random.random()}",
            is_ready=lambda camera: self.opened.get(camera, 1e18) <= world.now,
            is_stopped=lambda camera: camera not in self.opened,
            planner=planner,
        )
        for camera in world.cameras.values():
            self.keeper.set_camera(camera.name, camera)
        self.inbox = []
        world.at(0, self.connect)
        world.at(world.random.uniform(0, TICK_S), self.turn)

    def clock(self):
        return self.world.now + (self.wall_offset if self.by_wall else self.boot_offset)

    @property
    def hears(self):
        return not (self.is_cut or self.is_dead or self.world.is_down)

    def connect(self):
        if not self.hears:
            return
        self.keeper.connected(self.clock())
        for bucket, known in ((MEMBERS, self.keeper.members), (LEASES, self.keeper.claims)):
            for key in [key for key in known if (bucket, key) not in self.world.store]:
                self.keeper.saw(bucket, key, None, 0, self.clock())
        for (bucket, key), (value, revision) in self.world.store.items():
            self.keeper.saw(bucket, key, value, revision, self.clock())

    def hear(self, handle):
        """Now, or when the process goes on."""
        if self.is_stopped:
            self.inbox.append(handle)
        elif not self.is_dead:
            handle()

    def resume(self):
        self.is_stopped = False
        self.work()
        for handle in self.inbox:
            handle()
        self.inbox.clear()

    def turn(self):
        if self.is_dead:
            return
        self.work()
        self.world.at(TICK_S, self.turn)

    def work(self):
        if self.is_stopped or self.is_dead:
            return
        world, now = self.world, self.clock()
        wanted = self.keeper.wanted(now)
        for camera in [each for each in self.opened if each not in wanted]:
            del self.opened[camera]
        for camera in wanted:
            self.opened.setdefault(camera, world.now + OPEN_S)
        for camera, how in wanted.items():
            if how == "run" and self.opened[camera] <= world.now:
                number = self.keeper.lease(camera, now)
                if number is not None:
                    world.frame(camera, self.name, number)
        for operation in self.keeper.tick(now):
            world.send(self, operation)


class World:
    """Server, network and time. ``faults``: what must never be, in words."""

    def __init__(self, cameras, *, seed=1, delay_s=0.003):
        self.random, self.now = random.Random(seed), 0.0
        self.cameras = {camera.name: camera for camera in cameras}
        self.delay_s, self.is_down = delay_s, False
        self.store, self.revision = {}, {MEMBERS: 0, LEASES: 0}
        self.nodes, self.events, self.count = {}, [], 0
        self.operations, self.handed = Counter(), 0
        self.last, self.faults = {}, []

    def add(self, name, *, capacity=40.0, by_wall=False):
        self.nodes[name] = SimNode(self, name, capacity=capacity, by_wall=by_wall)
        return self.nodes[name]

    def at(self, after_s, do):
        self.count += 1
        heapq.heappush(self.events, (self.now + after_s, self.count, do))

    def run(self, seconds):
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, do = heapq.heappop(self.events)
            do()
        self.now = end

    def delay(self):
        return self.delay_s * self.random.uniform(0.5, 2)

    def frame(self, camera, node, number):
        """A node delivers a frame."""
        before = self.last.get(camera)
        if before is not None:
            _, who, lease = before
            if who != node and lease == number:
                self.faults.append(f"{self.now:.2f}: {camera} lease {number} of {who} and {node}")
            if number < lease:
                self.faults.append(f"{self.now:.2f}: {camera} of {node} under {number} < {lease}")
            self.handed += who != node
        self.last[camera] = self.now, node, number

    def live(self):
        """Cameras that gave a frame just now."""
        return [name for name, (at, _, _) in self.last.items() if self.now - at < 2.5 * TICK_S]

    def holders(self):
        return {name: who for name, (_, who, _) in self.last.items()}

    def expire(self, key, revision):
        value = self.store.get((MEMBERS, key))
        if value is not None and value[1] == revision:
            del self.store[MEMBERS, key]

    def send(self, node, operation):
        if not node.hears:
            failed = lambda: node.hear(lambda: node.keeper.failed(operation))  # noqa: E731
            self.at(TIMEOUT_S, failed)
            return
        if isinstance(operation, Ask):
            self.at(2 * self.delay(), lambda: self.ask(node.name, operation))
        else:
            self.at(self.delay(), lambda: self.serve(node, operation))

    def ask(self, asker, ask):
        owner = self.nodes[ask.node]
        if owner.hears:
            what = ask.camera, ask.revision, asker, ask.session
            owner.hear(lambda: (owner.keeper.asked(*what, owner.clock()), owner.work()))

    def serve(self, node, operation):
        if self.is_down:
            self.at(TIMEOUT_S, lambda: node.hear(lambda: node.keeper.failed(operation)))
            return
        self.operations[int(self.now)] += 1
        place = operation.bucket, operation.key
        value, revision = self.store.get(place, (None, 0))
        if isinstance(operation, Write) and operation.last == revision:
            bucket, key = place
            self.revision[bucket] += 1
            made, written = self.revision[bucket], operation.value
            self.store[place] = written, made
            if bucket == MEMBERS:
                self.at(TTL_S + self.random.uniform(0, 0.3), lambda: self.expire(key, made))
            self.at(self.delay(), lambda: self.tell(bucket, key, written, made))
            self.answer(node, lambda: node.keeper.done(operation, made, node.clock()))
        elif isinstance(operation, Write):
            self.send(node, Look(*place))
        else:
            look = operation
            self.answer(node, lambda: node.keeper.looked(look, value, revision, node.clock()))

    def answer(self, node, do):
        def arrive():
            if node.hears:
                node.hear(lambda: (do(), node.work()))

        self.at(self.delay(), arrive)

    def tell(self, bucket, key, value, revision):
        to = value.get("node") if bucket == LEASES and value else None
        for node in self.nodes.values():
            if node.hears:
                node.hear(
                    lambda node=node: node.keeper.saw(bucket, key, value, revision, node.clock())
                )
                if node.name == to:
                    node.hear(node.work)

    def cut(self, name, is_cut):
        self.nodes[name].is_cut = is_cut
        if not is_cut:
            self.at(0.3, self.nodes[name].connect)

    def take_down(self, is_down):
        self.is_down = is_down
        if not is_down:
            for key in [key for bucket, key in self.store if bucket == MEMBERS]:
                revision = self.store[MEMBERS, key][1]
                self.at(TTL_S, lambda key=key, revision=revision: self.expire(key, revision))
            for node in self.nodes.values():
                self.at(self.random.uniform(0.1, 0.5), node.connect)

    def until(self, holds, limit_s):
        """Run until this holds; the seconds that it took, or None."""
        began = self.now
        while self.now - began < limit_s:
            self.run(TICK_S)
            if holds():
                return self.now - began
        return None


def settled(world):
    """Whether each camera is live where the plan has it."""
    nodes = [node.keeper.node for node in world.nodes.values() if node.hears]
    plan = planner(list(world.cameras.values()), sorted(nodes, key=lambda node: node.name))
    return len(world.live()) == len(world.cameras) and world.holders() == plan


def measure(nodes=200, cameras=5000):
    """One line for each of start, death, joining and rest."""
    world = World([Camera(f"cam{i:04}") for i in range(cameras)])
    for i in range(nodes):
        world.add(f"node{i:03}")
    began = time.monotonic()

    def row(what, fault, limit_s=60.0):
        start, world.handed = int(world.now), 0
        fault()
        live_s = world.until(lambda: len(world.live()) == cameras, limit_s)
        done_s = world.until(lambda: settled(world), limit_s)
        total = None if live_s is None or done_s is None else live_s + done_s
        busiest = max(world.operations[s] for s in range(start, int(world.now) + 1))
        text = f"{what:14} all live {live_s:.1f} s, settled {total:.1f} s, moved {world.handed}, "
        print(f"{text}busiest second {busiest} operations", flush=True)

    row("start", lambda: None)
    held = Counter(world.holders().values())

    def kill():
        world.nodes["node007"].is_dead = True

    print(f"node007 has {held['node007']}")
    world.run(1)
    row("a node dies", lambda: (kill(), world.run(0.5)))
    world.run(3)
    row("a node joins", lambda: (world.add("new"), world.run(0.5)))
    print(f"new has {Counter(world.holders().values())['new']}")
    world.run(8)  # until the lock of the moves is forgotten
    rest = int(world.now) + 1
    world.run(4)
    print(f"at rest {sum(world.operations[rest + i] for i in range(3)) / 3:.0f} operations/s")
    print(f"faults: {world.faults[:3]}; {time.monotonic() - began:.0f} s of real time")


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:]))
