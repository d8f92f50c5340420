"""The model shelf: manifests, weights, and how they are found, fetched and added."""

from app.shelf.default import make_default
from app.shelf.draft import draft_spec, install
from app.shelf.fetch import fetch_weights
from app.shelf.lookup import default_model, find_model, list_models, locate
from app.shelf.manifest import SHELF_DIR, Model, format_manifest, read_manifest

__all__ = [
    "SHELF_DIR",
    "Model",
    "default_model",
    "draft_spec",
    "fetch_weights",
    "find_model",
    "format_manifest",
    "install",
    "list_models",
    "locate",
    "make_default",
    "read_manifest",
]
