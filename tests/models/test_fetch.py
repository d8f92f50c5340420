"""Weights come by HTTP or from a mirror, whole and verified, or not at all."""

import contextlib
import hashlib
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.core.errors import ModelError
from app.models import store as fetch
from app.models.manifest import read_manifest
from app.models.store import MIRROR_ENV, fetch_weights, weights_fault, weights_state
from tests.shelf_kit import put_on_shelf, rows, save_graph

CONTENT = bytes(range(256)) * 1000


class Server:
    """Serves CONTENT at any path. The fields choose how it misbehaves."""

    def __init__(self):
        self.ranges = True  # honours Range
        self.cut_after = []  # bytes after which to hang up, one entry a request
        self.shift = 0  # answers a Range from elsewhere
        self.lengths = True
        self.content = CONTENT
        self.seen = []  # the Range header of each request
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/a.onnx"

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.seen.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start + (self.shift if start else 0) :]
        handler.send_response(206 if start else 200)
        if self.lengths:
            handler.send_header("Content-Length", str(len(body)))
        if start:
            first, last = start + self.shift, len(self.content) - 1
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(body[: self.cut_after.pop(0)] if self.cut_after else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(MIRROR_ENV, raising=False)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def model(tmp_path, server):
    return read_manifest(put_on_shelf(tmp_path, "a", CONTENT, url=server.url))


@pytest.fixture
def part(model):
    return model.weights.with_name("a.onnx.part")


def assert_here(model, part):
    assert model.weights.read_bytes() == CONTENT
    assert not part.exists()


def test_downloads_whole_file(server, model, part):
    fetch_weights(model)
    assert_here(model, part)
    assert server.seen == [None]


def test_right_weights_are_not_fetched_again(server, model):
    model.weights.write_bytes(CONTENT)
    fetch_weights(model)
    assert server.seen == []


def test_wrong_weights_are_replaced(model, part):
    model.weights.write_bytes(b"something else")
    fetch_weights(model)
    assert_here(model, part)


def test_cut_twice_on_the_way_resumes_by_itself(server, model, part):
    server.cut_after = [100_000, 50_000]
    fetch_weights(model)
    assert_here(model, part)
    assert server.seen == [None, "bytes=100000-", "bytes=150000-"]


def test_cut_without_progress_keeps_the_part_for_the_next_call(server, model, part):
    server.cut_after = [1000, 0]
    with pytest.raises(ModelError, match=r"broke off after 1000 bytes.*models fetch"):
        fetch_weights(model)
    assert part.stat().st_size == 1000
    fetch_weights(model)
    assert_here(model, part)
    assert server.seen[-1] == "bytes=1000-"


def test_server_that_ignores_range_restarts_from_zero(server, model, part):
    server.ranges = False
    part.write_bytes(CONTENT[:1000])
    fetch_weights(model)
    assert_here(model, part)


def test_server_that_answers_another_range_restarts_from_zero(server, model, part):
    server.shift = 7
    part.write_bytes(CONTENT[:1000])
    fetch_weights(model)
    assert_here(model, part)
    assert server.seen == ["bytes=1000-", None]


def test_server_that_tells_no_length_is_read_to_its_end(server, model, part):
    server.lengths = False
    fetch_weights(model)
    assert_here(model, part)


def test_complete_part_is_only_renamed(server, model, part):
    part.write_bytes(CONTENT)
    fetch_weights(model)
    assert_here(model, part)
    assert server.seen == []


@pytest.mark.parametrize("left", [b"wrong start", CONTENT + b"too long"])
def test_part_of_another_file_is_thrown_away(server, model, part, left):
    part.write_bytes(left)
    fetch_weights(model)
    assert_here(model, part)


def test_wrong_content_is_removed_and_both_hashes_told(server, model, part):
    server.content = b"<html>please log in</html>"
    with pytest.raises(ModelError, match=r"sha256 is [0-9a-f]{64}, not [0-9a-f]{64}"):
        fetch_weights(model)
    assert not part.exists()
    assert not model.weights.exists()


def test_404_names_url_and_cure(server, model):
    server.answer = lambda handler: handler.send_error(404)
    with pytest.raises(ModelError, match=r"404.*models fetch.*KESTREL_MODEL_MIRROR") as fault:
        fetch_weights(model)
    assert server.url in str(fault.value)


def test_refused_connection_names_cure(tmp_path, server):
    url = server.url.replace(str(server.http.server_port), "9")
    model = read_manifest(put_on_shelf(tmp_path, "b", CONTENT, url=url))
    with pytest.raises(ModelError, match=r"refused.*models fetch.*KESTREL_MODEL_MIRROR"):
        fetch_weights(model)


def test_silent_server_times_out(server, model, monkeypatch):
    monkeypatch.setattr(fetch, "_TIMEOUT_S", 0.1)
    done = threading.Event()
    server.answer = lambda handler: done.wait(10)
    with pytest.raises(ModelError, match="timed out"):
        fetch_weights(model)
    done.set()


@pytest.mark.parametrize(("url", "told"), [("", "no `url`"), ("file:///etc/passwd", "only http")])
def test_url_that_cannot_be_fetched_is_told(tmp_path, server, url, told):
    with pytest.raises(ModelError, match=told):
        fetch_weights(read_manifest(put_on_shelf(tmp_path, "b", CONTENT, url=url)))


def test_git_blob_id_verifies(tmp_path, server):
    """The id as `git hash-object` gives it."""
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    manifest = put_on_shelf(tmp_path, "a", url=server.url, git_blob=blob)
    fetch_weights(read_manifest(manifest))
    assert (tmp_path / "a.onnx").read_bytes() == CONTENT
    server.content = b"another"
    (tmp_path / "a.onnx").unlink()
    with pytest.raises(ModelError, match=r"git_blob is [0-9a-f]{40}, not [0-9a-f]{40}.*`git_blob`"):
        fetch_weights(read_manifest(manifest))


@pytest.fixture
def detector(tmp_path):
    """Bytes of a file whose outputs are those of the manifests here."""
    return save_graph(tmp_path / "any.onnx", {"o": rows(84, 1, box=0.5)[None]}).read_bytes()


def test_without_a_checksum_the_first_that_proves_itself_is_trusted(
    tmp_path, server, part, detector, caplog
):
    part.write_bytes(b"x" * 1000)  # nothing tells whether this is its start
    model = read_manifest(put_on_shelf(tmp_path, "a", url=server.url))
    server.content = detector
    fetch_weights(model)
    assert model.weights.read_bytes() == detector and not part.exists()
    assert weights_state(model, verify=True) == "ready"
    assert "trusted" in caplog.text
    model.weights.write_bytes(detector + b"\0")
    assert weights_state(model, verify=True) == "damaged"
    server.content = detector + b"\0"
    with pytest.raises(ModelError, match=r"a\.onnx\.sha256 \(remove it\)"):
        fetch_weights(model)
    server.content = detector
    fetch_weights(model)
    assert weights_fault(model) is None


@pytest.mark.parametrize("content", [b"<html>please log in</html>", "probabilities of 5"])
def test_without_a_checksum_what_is_no_such_detector_is_refused(tmp_path, server, content):
    if isinstance(content, str):
        graph = {"o": rows(84, 1, box=0.5, score=5)[None]}
        content = save_graph(tmp_path / "any.onnx", graph).read_bytes()
    server.content = content
    model = read_manifest(put_on_shelf(tmp_path, "a", url=server.url))
    with pytest.raises(ModelError, match="is not what the manifest of a describes"):
        fetch_weights(model)
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.toml"]


def test_a_git_lfs_pointer_is_told_as_that(tmp_path, server):
    server.content = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"
    model = read_manifest(put_on_shelf(tmp_path, "a", CONTENT, url=server.url))
    with pytest.raises(ModelError, match="Git LFS pointer"):
        fetch_weights(model)


def test_unwritable_folder_names_cure(server, model, part):
    part.mkdir()  # not even root can open a folder for writing
    with pytest.raises(ModelError, match=r"cannot write .*a\.onnx\.part.*room"):
        fetch_weights(model)


def test_mirror_is_used_instead_of_the_network(server, model, part, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv(MIRROR_ENV, str(mirror))
    with pytest.raises(ModelError, match=r"mirror/a\.onnx is not there.*unset"):
        fetch_weights(model)
    (mirror / "a.onnx").write_bytes(b"wrong")
    with pytest.raises(ModelError, match=r"mirror/a\.onnx is not what"):
        fetch_weights(model)
    (mirror / "a.onnx").write_bytes(CONTENT)
    fetch_weights(model)
    assert_here(model, part)
    assert server.seen == []


def test_two_at_once_download_once(server, model, part, caplog):
    caplog.set_level(logging.INFO)
    threads = [threading.Thread(target=fetch_weights, args=(model,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_here(model, part)
    assert server.seen == [None]


def test_progress_is_shown_on_a_terminal_only(server, model, capsys, monkeypatch):
    fetch_weights(model)
    assert capsys.readouterr().err == ""
    model.weights.unlink()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch_weights(model)
    assert "a.onnx: " in capsys.readouterr().err
