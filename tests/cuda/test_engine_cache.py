"""The cache of TensorRT engines: whole or not at all, and one for each of what an engine needs."""

import pytest

from app.cuda.engine_cache import EngineCache

KEY = {
    "model_sha256": "ab",
    "onnxruntime": "1.32.0",
    "tensorrt": "10.9.0",
    "device": "Orin",
    "capability": [8, 7],
    "precision": "fp16",
    "input": [1, 3, 320, 320],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path))
    return tmp_path / "engines"


def built(cache, content="engine"):
    with cache.building() as part:
        assert not cache.built
        (part / "x.engine").write_text(content)


def test_what_is_built_is_found_again(folder):
    built(EngineCache("m", KEY))
    again = EngineCache("m", dict(reversed(KEY.items())))
    assert again.built and (again.folder / "x.engine").read_text() == "engine"
    again.forget()
    assert not again.built


@pytest.mark.parametrize("name", KEY)
def test_whatever_an_engine_depends_on_makes_another(folder, name):
    built(EngineCache("m", KEY))
    assert not EngineCache("m", {**KEY, name: "other"}).built


def test_an_interrupted_build_leaves_nothing(folder):
    with pytest.raises(KeyboardInterrupt), EngineCache("m", KEY).building() as part:
        (part / "x.engine").write_text("half")
        raise KeyboardInterrupt
    assert list(folder.iterdir()) == []


def test_of_two_that_build_at_once_the_first_stays(folder, caplog):
    one, two = EngineCache("m", KEY), EngineCache("m", KEY)
    with two.building() as part:
        (part / "x.engine").write_text("second")
        built(one, "first")
    assert (two.folder / "x.engine").read_text() == "first"
    assert [path.name for path in folder.iterdir()] == [one.folder.name]
    assert not caplog.records


def test_a_cache_that_cannot_be_written_costs_only_time(folder, caplog):
    folder.write_text("a file where the folder should be")
    cache = EngineCache("m", KEY)
    built(cache)
    assert "cannot be kept" in caplog.text
    assert cache.built and (cache.folder / "x.engine").is_file()  # for the other slots
    cache.close()
    assert not cache.built and not EngineCache("m", KEY).built
