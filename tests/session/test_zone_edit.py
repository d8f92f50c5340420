"""Drawing, dragging and taking back, without a window."""

from __future__ import annotations

from hypothesis import example, given, strategies as st

from app.analytics.analytics import AnalyticsOptions
from app.session.zone_edit import Grip, ZoneEdit

REACH = (0.02, 0.02)
DOOR = {"name": "door", "points": [[0.1, 0.1], [0.4, 0.1], [0.4, 0.5]], "dwell_s": [3.0]}
TABLES = {"zone": [DOOR], "line": [{"name": "gate", "points": [[0.5, 0.9], [0.5, 0.1]]}]}


def editor() -> ZoneEdit:
    return ZoneEdit(TABLES, (640, 480))


def test_what_is_not_touched_stays_as_it_was() -> None:
    assert editor().tables() == TABLES


def test_a_polygon_closes_on_its_first_point_and_is_named() -> None:
    edit = editor()
    edit.begin("zone")
    for point in ((0.6, 0.6), (0.9, 0.6), (0.9, 0.9)):
        assert not edit.put(point, REACH)
    assert edit.put((0.61, 0.6), REACH)
    (_, made) = edit.tables()["zone"]
    assert made["name"] == "zone 1" and len(made["points"]) == 3 and made["colour"][0] == "#"
    assert edit.shape is not None and edit.shape.name == "zone 1"


def test_a_line_ends_with_its_second_point_and_a_zone_of_two_does_not() -> None:
    edit = editor()
    edit.begin("line")
    assert not edit.put((0.2, 0.2), REACH) and edit.put((0.8, 0.2), REACH)
    edit.begin("zone")
    edit.put((0.2, 0.2), REACH), edit.put((0.8, 0.2), REACH)
    assert not edit.finish() and edit.draft is not None
    assert edit.cancel() and not edit.cancel()


def test_a_drag_moves_one_point_and_is_one_step_back() -> None:
    edit = editor()
    grip = edit.find((0.405, 0.105), REACH)
    assert grip == Grip(0, 1)
    edit.grab(grip)
    for x in (0.5, 0.6, 1.4):
        edit.drag((x, 0.2))
    assert edit.drop()
    (door,) = edit.tables()["zone"]
    assert door["points"][1] == [1.0, 0.2] and door["dwell_s"] == [3.0], "and stays in the frame"
    assert edit.undo() and edit.tables() == TABLES and not edit.undo()
    assert edit.redo() and edit.tables()["zone"] == [door]


def test_a_press_without_a_move_is_no_step() -> None:
    edit = editor()
    edit.grab(Grip(0, 0))
    assert not edit.drop() and not edit.can_undo


def test_points_are_added_at_an_edge_and_removed_down_to_three() -> None:
    edit = editor()
    edit.select(0)
    grip = edit.find((0.25, 0.1), REACH)
    assert grip == Grip(0, 0, is_edge=True)
    edit.grab(grip)
    edit.drag((0.25, 0.05))
    assert (
        edit.drop() and len(edit.shapes[0].points) == 4 and edit.shapes[0].points[1] == (0.25, 0.05)
    )
    assert edit.remove_point(Grip(0, 1)) and not edit.remove_point(Grip(0, 1))
    assert not edit.remove_point(Grip(1, 0)), "a line has two"


def test_names_are_unique_among_their_kind() -> None:
    edit = ZoneEdit({"zone": [DOOR, {**DOOR, "name": "hall"}]}, (640, 480))
    edit.select(0)
    assert not edit.rename("hall") and not edit.rename("  ") and edit.rename("entry")
    edit.recolour("#112233")
    assert [row["name"] for row in edit.tables()["zone"]] == ["entry", "hall"]
    assert edit.tables()["zone"][0]["colour"] == "#112233"
    assert edit.delete() and [row["name"] for row in edit.tables()["zone"]] == ["hall"]
    assert not edit.delete()


def test_a_line_turns_round() -> None:
    edit = editor()
    edit.select(1)
    edit.turn()
    assert edit.tables()["line"][0]["points"] == [[0.5, 0.1], [0.5, 0.9]]


def test_pixels_stay_pixels_until_they_are_moved() -> None:
    row = {"name": "a", "units": "pixels", "points": [[64, 48], [320, 48], [320, 240]]}
    row["min_size"] = [64, 48]
    edit = ZoneEdit({"zone": [row]}, (640, 480))
    assert edit.shapes[0].points[0] == (0.1, 0.1) and edit.tables()["zone"] == [row]
    edit.grab(Grip(0, 0))
    edit.drag((0.2, 0.2))
    edit.drop()
    (moved,) = edit.tables()["zone"]
    assert moved == {
        "name": "a",
        "points": [[0.2, 0.2], [0.5, 0.1], [0.5, 0.5]],
        "min_size": [0.1, 0.1],
    }


PLACES = st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
STEPS = st.lists(st.tuples(st.sampled_from("zlpgdrukfx"), PLACES), max_size=40)


@given(STEPS)
@example([("g", (0.0, 0.0)), ("d", (0.0, 0.0)), ("g", (0.0, 0.0))])
def test_whatever_is_clicked_the_rows_can_be_read_and_undone(steps) -> None:
    edit = editor()
    for what, at in steps:
        grip = edit.find(at, (0.3, 0.3))
        if what == "z":
            edit.begin("zone")
        elif what == "l":
            edit.begin("line")
        elif what == "p":
            edit.put(at, REACH)
        elif what == "g" and grip and not edit.draft:
            edit.grab(grip)
        elif what == "d":
            edit.drag(at)
        elif what == "r":
            edit.drop()
        elif what == "u":
            edit.cancel()
            edit.undo()
        elif what == "k":
            edit.cancel()
            edit.redo()
        elif what == "f":
            edit.finish()
        elif what == "x":
            edit.cancel()
            edit.delete()
        AnalyticsOptions.from_tables(edit.tables())
        assert all(0 <= v <= 1 for shape in edit.shapes for point in shape.points for v in point)
    edit.cancel()
    while edit.undo():
        pass
    assert edit.tables() == TABLES
