"""Filters over HTTP: who may change them, what is refused, and that lines say what is hidden."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.sinks.http.kit import BOX, Site, ask, filters, site
from tests.sinks.kit import found, result, textured
from tests.sinks.mqtt.broker import until

PATH = "/api/v1/filters"
JSON = {"Content-Type": "application/json"}


def put(made: Site, body: object, path: str = PATH, **headers: str) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, told, _ = made.get(path, "PUT", data, **{**JSON, **headers})
    return status, json.loads(told)


def test_filters_are_read_and_changed_key_by_key() -> None:
    run = filters(classes=("person",), max_detections=20)
    with site(filters=run) as made:
        status, told, _ = made.get(PATH)
        before = json.loads(told)
        assert status == 200 and before["classes"] == "person" and before["max_detections"] == 20
        changed = {"min_box": "2%x5%", "class_scores": "person=0.6"}
        assert put(made, changed) == (200, {**before, **changed})
        assert put(made, {"classes": []}) == (200, {**before, **changed, "classes": ""})
    assert run.read()["min_box"] == "2%x5%"


@pytest.mark.parametrize(
    ("body", "cure"),
    [
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        ([], "one object"),
        ({"clases": "person"}, "did you mean 'classes'"),
        ({"classes": "persn"}, "person"),
        ({"class_scores": "person=2"}, "0.001 to 1"),
        ({"class_scores": {"person": 0.5}}, "class_scores"),
        ({"min_box": "big"}, "24x48"),
        ({"max_detections": 1e9}, "1 to 1000"),
        ({"agnostic_nms": 1}, "true or false"),
        ({"score": 0.5}, "class_scores"),
    ],
)
def test_what_is_wrong_changes_nothing(body: object, cure: str) -> None:
    run = filters(classes=("person",))
    with site(filters=run) as made:
        status, told = put(made, body)
        assert status == 400 and cure in told["error"]
    assert run.read() == filters(classes=("person",)).read()


def test_only_the_page_of_this_server_may_change_them() -> None:
    with site(filters=filters()) as made:
        assert put(made, {"classes": "person"}, Origin="http://evil.example")[0] == 403
        host = f"127.0.0.1:{made.port}"
        assert put(made, {"classes": "person"}, Origin=f"http://{host}", Host=host)[0] == 200
        assert put(made, {}, **{"Content-Type": "text/plain"})[0] == 415
        assert put(made, {}, f"{PATH}?source=other")[0] == 404
        assert put(made, b" " * 300_000)[0] == 413
        assert made.get(PATH, "POST", b"{}", **JSON)[0] == 405


def test_a_token_is_needed_where_there_is_one() -> None:
    with site(token="secret-token", filters=filters()) as made:
        assert made.get(PATH)[0] == 401
        assert made.get(PATH, "PUT", b"{}", **JSON)[0] == 401


def test_the_lines_of_the_page_say_what_is_hidden() -> None:
    hidden = {"classes": 2, "min_box": 1}
    with site(filters=filters()) as made, made.connect(ask("/detections")) as client:
        until(lambda: made.service.feed().viewers["detections"] == 1)
        picture = result(0, found(BOX), textured(0), live=True)
        made.service.feed().emit(replace(picture, hidden=hidden))
        made.service.feed().emit(picture)
        text = b""
        while text.count(b'"frame"') < 2:
            text += client.recv(65536)
        lines = [json.loads(x) for x in re.findall(r"^data: (.*\"frame\".*)$", text.decode(), re.M)]
        assert lines[0]["hidden"] == hidden and len(lines[0]["detections"]) == 1
        assert "hidden" not in lines[1]
        page = made.get("/")[1].decode()
        assert all(f'"{reason}"' in page for reason in hidden), "the badge has words for them"
