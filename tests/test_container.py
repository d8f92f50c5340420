"""Recipes of images: their commands have options that exist, and their health check asks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from app.commands.cli import make_parser

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scripts" / "container"
RECIPES = [
    path for path in sorted(FOLDER.glob("Containerfile.*")) if path.suffix != ".dockerignore"
]


def commands() -> Iterator[list[str]]:
    """The arguments of Kestrel in recipes and in the compose file."""
    for recipe in RECIPES:
        found = re.search(r"^CMD (\[.*\])$", recipe.read_text("utf-8"), re.MULTILINE)
        assert found, recipe
        yield json.loads(found[1])
    compose = (ROOT / "docs" / "docker-compose.yml").read_text("utf-8")
    yield from (line.split() for line in re.findall(r"^    command: (.*)$", compose, re.MULTILINE))


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_the_commands_have_options_that_exist_and_serve_the_health_check(words: list[str]) -> None:
    args = make_parser(words[0]).parse_args(words)
    assert args.headless and vars(args)["http.address"].endswith(":8080")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.suffix)
def test_a_recipe_installs_the_package_and_tells_its_health(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    for line in ("EXPOSE 8080", 'ENTRYPOINT ["kestrel"]', "USER kestrel", "VOLUME /cache"):
        assert f"\n{line}\n" in text
    assert "\nHEALTHCHECK " in text and "pip install '/source[outputs" in text
    ignored = recipe.with_name(recipe.name + ".dockerignore").read_text("utf-8")
    for name in re.findall(r"^!(.*)$", ignored, re.MULTILINE):
        assert list(ROOT.glob(name)), f"{name} is not there"


class Health(BaseHTTPRequestHandler):
    """Answers as Kestrel does: 401 without the token, else what ``status`` says."""

    status = 200

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Bearer a-token-of-the-test"
        self.send_response(self.status if known and self.path == "/healthz" else 401)
        self.end_headers()
        self.wfile.write(b'{"status": "told"}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("status", "token", "code", "told"),
    [
        (200, "a-token-of-the-test", 0, "told"),
        (503, "a-token-of-the-test", 1, "told"),
        (200, "another", 1, "KESTREL_HTTP_TOKEN"),
        (None, "", 1, "--http"),
    ],
)
def test_the_health_check_is_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, status: int | None, token: str, code: int, told: str
) -> None:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        monkeypatch.setattr(Health, "status", status)
        url = f"http://127.0.0.1:{server.server_port if status else 1}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, str(FOLDER / "healthcheck")],
            env={"KESTREL_HEALTH_URL": url, "KESTREL_HTTP_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=30,
        )
        server.shutdown()
    assert done.returncode == code and told in done.stdout + done.stderr
