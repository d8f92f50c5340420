"""The description of the HTTP API, OpenAPI 3.1, at ``/api/v1/openapi.json``.

What settings there are comes from their declarations (``LiveSettings.schema``); the paths are in
one table below. Only what this run answers is described.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ... import __version__

PATH = "/api/v1/openapi.json"
Schema = Mapping[str, Any]


_TEXT, _TRUTH, _NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "number"}
_NO_TEXT = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": _TEXT}
_POINTS = {
    "type": "array",
    "items": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
}


def _object(properties: Schema, *, more: bool = False, needs: str = "") -> Schema:
    told = {"type": "object", "properties": properties, "additionalProperties": more}
    return {**told, "required": needs.split()} if needs else told


_SHAPE = _object({"name": _TEXT, "points": _POINTS}, more=True, needs="name points")
_SHAPES = {"type": "array", "items": _SHAPE}
_FILTER = _object(
    {
        **dict.fromkeys(("class_scores", "classes", "min_box", "max_box"), _TEXT),
        "max_detections": {"type": "integer", "minimum": 1, "maximum": 1000},
        "agnostic_nms": _TRUTH,
    }
)
_EVENT = _object({"id": _TEXT, "type": _TEXT, "time": _TEXT}, more=True, needs="id type time")
_SCHEMAS: dict[str, Schema] = {
    "Any": {"type": "object"},
    "LoggedOut": _object({"name": {"type": "null"}}),
    "Events": _object({"events": {"type": "array", "items": _EVENT}, "next": _NO_TEXT}),
    "Timeline": _object({"step_s": _NUMBER, "counts": {"type": "object"}}),
    "Error": _object({"error": _TEXT}, needs="error"),
    "Faults": _object(
        {
            "error": _TEXT,
            "faults": {
                "type": "array",
                "items": _object({"key": _NO_TEXT, "reason": _TEXT, "cure": _TEXT}),
            },
        },
        needs="error faults",
    ),
    "Session": _object(
        {
            "name": _TEXT,
            "role": {"enum": ["admin", "viewer"]},
            "by": {"enum": ["address", "token", "cookie", "session"]},
        },
        needs="name role by",
    ),
    "Cameras": _object(
        {"cameras": {"type": "array", "items": _object({}, more=True)}, "troubles": _TEXTS},
        needs="cameras",
    ),
    "Labels": _object({"labels": _TEXTS}, needs="labels"),
    "Zones": _object(
        {"zone": _SHAPES, "line": _SHAPES, "file": _NO_TEXT, "fixed": _TRUTH}, needs="zone line"
    ),
    "NewZones": _object({"zone": _SHAPES, "line": _SHAPES, "save": _TRUTH}),
    "Filters": _FILTER,
    "Event": _EVENT,
    "Mark": _object({"seen": _TRUTH}, needs="seen"),
    "Changed": _object({"changed": {"type": "integer"}}, needs="changed"),
    "Discovered": _object(
        {
            "cameras": {
                "type": "array",
                "items": _object(
                    {
                        **dict.fromkeys(("address", "name"), _TEXT),
                        "fault": {**_TEXT, "description": "why it has no streams here"},
                        "streams": {
                            "type": "array",
                            "items": _object({"uri": _TEXT}, more=True, needs="uri"),
                        },
                    },
                    needs="address name fault streams",
                ),
            }
        },
        needs="cameras",
    ),
    "SettingsAnswer": _object(
        {
            "schema": {"type": "object", "description": "JSON Schema of the values"},
            "values": {"$ref": "#/components/schemas/Settings"},
            "in_force": {"type": "object", "description": "the same, of the run as it is now"},
            "file": _NO_TEXT,
            "flags": {**_TEXTS, "description": "given on the command line, over the file"},
            "after_restart": {**_TEXTS, "description": "in the file, and not in force"},
            "restart": {**_TRUTH, "description": "whether there is any such"},
            "fixed": {**_TRUTH, "description": "whether you cannot change them"},
            "changed": _TEXTS,
            "overridden": {**_TEXTS, "description": "changed, but a flag stands over it"},
        },
        needs="schema values in_force file flags after_restart restart fixed",
    ),
}


def _query(name: str, schema: Schema, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, **more}


_MOMENT = {"type": "string", "pattern": r"^(\d{1,13}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$"}
_FLAG = {"type": "string"}  # empty, 0, false and no mean no
_PARAMETERS: dict[str, dict[str, Any]] = {
    "source": _query("source", _TEXT, description="the source with this name; else the first"),
    "camera": _query("source", _TEXT, description="events of this camera"),
    **{name: _query(name, _TEXT) for name in ("label", "zone", "line", "type", "q")},
    "since": _query("since", _MOMENT),
    "until": _query("until", _MOMENT),
    "from": _query("since", _MOMENT, required=True),
    "to": _query("until", _MOMENT, required=True),
    "step_s": _query("step_s", {"type": "number", "minimum": 1, "maximum": 86_400}),
    "seen": _query("seen", _FLAG),
    "objects": _query("objects", _FLAG, description="1: the first event of each object"),
    "limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}),
    "after": _query("after", _TEXT, description="next of the page before"),
    "width": _query("width", {"type": "integer", "minimum": 0, "maximum": 99_999}),
    "object": _query("object", _FLAG, description="1: all events of its object"),
    "download": _query("download", _FLAG),
    "id": {"name": "id", "in": "path", "required": True, "schema": _TEXT},
    "of": {"name": "camera", "in": "path", "required": True, "schema": _TEXT},
    **{name: _query(name, _TEXT) for name in ("node", "file")},
    "own": {
        "name": "X-Kestrel",
        "in": "header",
        "required": True,
        "schema": {"const": "1"},
        "description": "no page of another origin can send it",
    },
    "match": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "schema": {"type": "string", "pattern": r'^(\*|"[0-9a-f]{20}")$'},
        "description": "the ETag of what was read, or *",
    },
}
_FAULTS = {
    "400": "it cannot be read",
    "401": "log in, or send a token",
    "403": "you may only look; or a page of another origin asks",
    "404": "there is no such thing",
    "409": "the file cannot be read or written, or there is none",
    "412": "changed meanwhile: read it again",
    "413": "too much",
    "415": "send application/json",
    "422": "wrong, with keys, reasons and cures; nothing was written",
    "428": "send If-Match",
    "429": "too many requests",
    "503": "busy; try again",
}
_WITH_FAULTS = ("409", "412", "422")  # of settings
_QUERY = "camera label zone line type q seen objects"
# method and path; what it gives; parameters; body; its own faults; what it does
_OPERATIONS = f"""
get /api/v1/openapi.json | Any | | | | This description
get /api/v1/session | Session | | | | Who you are, and what you may do
delete /api/v1/session | LoggedOut | | | | Log out
get /api/v1/cameras | Cameras | | | | All cameras: state, figures, objects, last event
get /api/v1/cameras/labels | Labels | source | | | Classes of the model
get /api/v1/cameras/still.jpg | image/jpeg | source width | | 400 503 | The newest frame, small
get /api/v1/zones | Zones | source | | | Zones and lines of a source
put /api/v1/zones | Zones | source | NewZones | 400 409 413 415 | Others; with save also in the file
get /api/v1/filters | Filters | source | | | Filters of a source
put /api/v1/filters | Filters | source | Filters | 400 413 415 | Others, until the run ends
get /api/v1/settings | SettingsAnswer | | | 409 | Settings of the file, and of the run
patch /api/v1/settings | SettingsAnswer | match | Settings | 400 409 412 413 415 422 428 | Write \
some into the file, null for none, and take up what can be: all or nothing
get /api/v1/discover | Discovered | | | 503 | ONVIF cameras of this network, within seconds
get /api/v1/events | Events | {_QUERY} since until limit after | | 400 503 | Events, newest first
get /api/v1/choices | Any | | | 503 | What to filter events by
get /api/v1/timeline | Timeline | {_QUERY} from to step_s | | 400 503 | Events in each step
get /api/v1/events/{{id}} | Event | id | | 404 503 | One event with its object's
patch /api/v1/events/{{id}} | Changed | id object own | Mark | 400 404 503 | It was seen, or not
delete /api/v1/events/{{id}} | Changed | id object own | | 404 503 | Delete it with its files
get /api/v1/events/{{id}}/snapshot.jpg | image/jpeg | id download | | 404 503 | Its picture
get /api/v1/fleet | Cameras | | | | All cameras of the fleet: state, node, counts, last event
get /api/v1/fleet/{{camera}}/events | Events | of | | | Its last events, newest first
get /api/v1/fleet/{{camera}}/picture.jpg | image/jpeg | of | | 503 | Its newest frame, with boxes
get /api/v1/fleet/{{camera}}/snapshot.jpg | image/jpeg | of node file | | 503 | Of an event
get /api/v1/events/{{id}}/clip.mp4 | video/mp4 | id download | | 404 503 | Its video
"""


class OpenApi:
    """``settings``: JSON Schema of those that can be changed; None: none can."""

    def __init__(self, settings: Schema | None) -> None:
        self._settings = settings

    def add_to(self, app: web.Application) -> None:
        """The one path; last, as it describes those that are there."""
        known = {each.resource.canonical for each in app.router.routes() if each.resource}
        app.router.add_get(PATH, self.get)
        self._told = self._document({*known, PATH})

    async def get(self, request: web.Request) -> web.Response:
        """The description."""
        return web.json_response(self._told)

    def _document(self, known: set[str]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for line in _OPERATIONS.strip().split("\n"):
            place, *told = (part.strip() for part in line.split("|"))
            method, path = place.split()
            there = path in known or f"{path.rpartition('/')[0]}/{{file}}" in known
            if there and (self._settings is not None or "settings" not in path):
                paths.setdefault(path, {})[method] = _operation(method, path, *told)
        schemas = {**_SCHEMAS, "Settings": self._settings or {}}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Kestrel",
                "version": __version__,
                "description": "Fields are only ever added.",
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}, {}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }


def _operation(
    method: str, path: str, gives: str, parameters: str, body: str, faults: str, about: str
) -> dict[str, Any]:
    binary = "/" in gives
    content = {gives: {}} if binary else {"application/json": {"schema": _ref(gives)}}
    good: dict[str, Any] = {"description": about, "content": content}
    if "settings" in path:
        good["headers"] = {"ETag": {"required": True, "schema": _TEXT}}
    answers = {"200": good}
    statuses = [*faults.split(), "401", "403", "429", *["404"] * parameters.startswith("source")]
    for status in sorted(statuses):
        fault = "Faults" if status in _WITH_FAULTS and "settings" in path else "Error"
        content = {"application/json": {"schema": _ref(fault)}}
        answers[status] = {"description": _FAULTS[status], "content": content}
    told: dict[str, Any] = {
        "summary": about,
        "operationId": f"{method}{path.replace('/', '_').replace('.', '_')}",
        "responses": answers,
        "parameters": [_PARAMETERS[name] for name in parameters.split()],
    }
    if body:
        content = {"application/json": {"schema": _ref(body)}}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
