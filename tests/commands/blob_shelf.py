"""A shelf of its own with the blob detector on it, and `models …` on that shelf."""

import argparse

import pytest

from app.commands.models import register
from app.models.store import MIRROR_ENV
from tests.blob_detector import save_blob_detector


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.delenv(MIRROR_ENV, raising=False)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    save_blob_detector(shelf)
    return shelf


@pytest.fixture
def models(shelf):
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers().add_parser("models"), shelf_dir=shelf)

    def run(*words):
        args = parser.parse_args(["models", *map(str, words)])
        return args.func(args)

    return run
