"""Leases in virtual time: never two holders, and every camera live again within TTL + 1 s."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("nats", reason="no nats-py (pip install -r requirements-fleet.txt)")

from app.fleet.assignment import Camera
from app.fleet.leases import TTL_S
from tests.fleet.simulation import World, settled

LIMIT_S = TTL_S + 1


def fleet(nodes=5, cameras=40, *, seed=1, **more):
    world = World([Camera(f"cam{i:02}", **more) for i in range(cameras)], seed=seed)
    for i in range(nodes):
        world.add(f"n{i}", by_wall=False)
    assert world.until(lambda: settled(world), 10) is not None
    return world


def all_live(world):
    return len(world.live()) == len(world.cameras)


def victim(world):
    return world.nodes[Counter(world.holders().values()).most_common(1)[0][0]]


def come_back_s(world):
    """From the fault that has just happened to all cameras live."""
    world.run(0.5)
    seconds = world.until(lambda: all_live(world), 20)
    assert not world.faults
    return seconds + 0.5


def test_cameras_of_a_dead_node_are_taken_over():
    world = fleet()
    victim(world).is_dead = True
    assert come_back_s(world) <= LIMIT_S


def test_a_node_that_is_cut_off_stops_before_others_take_its_cameras():
    world = fleet()
    node = victim(world)
    world.cut(node.name, True)
    assert come_back_s(world) <= LIMIT_S
    world.cut(node.name, False)
    assert world.until(lambda: settled(world), 40) is not None
    assert not world.faults


def test_a_node_that_was_stopped_delivers_nothing_when_it_goes_on():
    world = fleet()
    node = victim(world)
    node.is_stopped = True
    assert come_back_s(world) <= LIMIT_S
    node.resume()
    assert world.until(lambda: settled(world), 40) is not None
    assert not world.faults


@pytest.mark.parametrize("seconds", [1.5, 10])
def test_a_broker_that_was_away_finds_every_camera_where_it_was(seconds):
    world = fleet()
    before = world.holders()
    world.take_down(True)
    world.run(seconds)
    world.take_down(False)
    assert come_back_s(world) <= LIMIT_S
    assert world.holders() == before


def test_a_camera_of_one_node_alone_goes_on_without_the_broker():
    world = fleet(nodes=2, cameras=1, only="n0")
    world.take_down(True)
    world.run(20)
    assert world.live() == ["cam00"]
    world.take_down(False)
    world.run(5)
    assert world.live() == ["cam00"]
    assert not world.faults


@pytest.mark.parametrize("by_wall", [False, True])
def test_the_wall_clock_has_no_say(by_wall):
    """A node whose leases went by the wall clock would go on after others took its cameras."""
    world = World([Camera(f"cam{i:02}") for i in range(20)])
    for i in range(4):
        world.add(f"n{i}", by_wall=by_wall)
    assert world.until(lambda: settled(world), 10) is not None
    node = victim(world)
    node.wall_offset -= 3600
    world.cut(node.name, True)
    world.run(6)
    assert bool(world.faults) is by_wall


def test_a_drain_moves_cameras_one_after_the_other_and_none_is_dark():
    world = fleet()
    node = victim(world)
    for each in world.nodes.values():
        each.keeper.set_drained(node.name, True)
    dark = 0
    for _ in range(300):
        world.run(0.1)
        dark = max(dark, len(world.cameras) - len(world.live()))
        if node.name not in world.holders().values():
            break
    assert node.name not in world.holders().values()
    assert dark <= 1
    assert not world.faults


def test_a_node_that_leaves_is_followed_at_once():
    world = fleet()
    node = victim(world)
    node.keeper.leave()
    assert come_back_s(world) <= 2
    assert node.keeper.has_left


def test_a_join_moves_its_share_and_little_more():
    world = fleet(nodes=8, cameras=80)
    world.handed = 0
    world.add("new")
    world.run(1)
    assert world.until(lambda: settled(world), 30) is not None
    share = Counter(world.holders().values())["new"]
    assert 0 < world.handed <= 1.2 * share
    assert not world.faults


@pytest.mark.parametrize("seed", range(4))
def test_faults_at_random(seed):
    world = fleet(seed=seed)
    for _ in range(12):
        node = world.nodes[world.random.choice(sorted(world.nodes))]
        fault = world.random.choice(["cut", "stop", "slow", "down", "wall"])
        seconds = world.random.uniform(0.3, 8)
        if fault == "cut":
            world.cut(node.name, True)
            world.at(seconds, lambda name=node.name: world.cut(name, False))
        elif fault == "stop":
            node.is_stopped = True
            world.at(seconds, node.resume)
        elif fault == "slow":
            world.delay_s = 0.15
            world.at(seconds, lambda: setattr(world, "delay_s", 0.003))
        elif fault == "down" and not world.is_down:
            world.take_down(True)
            world.at(seconds, lambda: world.take_down(False))
        else:
            node.wall_offset += world.random.choice([-3600, 3600])
        world.run(world.random.uniform(1, 10))
    world.run(9)
    assert world.until(lambda: all_live(world), LIMIT_S) is not None
    assert not world.faults
