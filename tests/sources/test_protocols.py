"""What FFmpeg may open for an address, and whom it may trust."""

from __future__ import annotations

import ssl
from pathlib import Path

import av
import pytest
from clip_maker import picture
from stream_servers import RawServer, body, free_port

from app.core.errors import SourceError
from app.sources.base import SourceOptions
from app.sources.protocols import ffmpeg_options, open_network
from tests.certificates import certificates


def opened(where: str, **options):
    limits = {"open_timeout_s": 5.0, "read_timeout_s": 5.0, **options}
    return open_network(where, label="the camera", options=SourceOptions(**limits), more={})


def tls_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


@pytest.fixture(scope="module")
def segment(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("hls") / "s.ts"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(picture(index), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path.read_bytes()


def playlist(*names: str) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2"]
    lines += [f"#EXTINF:2,\n{name}" for name in names]
    return body("\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode(), "application/x-mpegurl")


def test_certificates_are_checked_unless_told_otherwise() -> None:
    for where in ("https://h/", "rtsps://h/", "rtmps://h/", "http://h/"):
        assert ffmpeg_options(where, SourceOptions(ca_file="a.pem"))["tls_verify"] == "1"
        assert ffmpeg_options(where, SourceOptions(ca_file="a.pem"))["ca_file"] == "a.pem"
        assert "tls_verify" not in ffmpeg_options(where, SourceOptions(tls_insecure=True))


def test_a_camera_that_is_not_trusted_gets_no_password(tmp_path: Path) -> None:
    certificates(tmp_path, "right", "wrong")

    def answer(_, send) -> None:
        send(b'RTSP/1.0 401 No\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n')

    with RawServer(answer, context=tls_context(tmp_path)) as server:
        where = f"rtsps://me:S3CRET@localhost:{server.port}/x"
        with pytest.raises(SourceError, match=r"not trusted.*ca_file"):
            opened(where)
        with pytest.raises(SourceError, match=r"not trusted.*ca_file"):
            opened(where, ca_file=str(tmp_path / "wrong.pem"))
        assert not server.requests
        with pytest.raises(av.error.FFmpegError):
            opened(where, ca_file=str(tmp_path / "right.pem"))
        assert server.requests


@pytest.mark.parametrize("name", ["/etc/hostname", "file:///etc/hostname", "concat:/etc/hostname"])
def test_a_playlist_opens_no_file_of_this_machine(name: str) -> None:
    refused = pytest.raises((av.error.FFmpegError, SourceError))
    with RawServer(lambda _, send: send(playlist(name))) as server, refused:
        container = opened(f"http://127.0.0.1:{server.port}/x.m3u8", playlist=True)
        list(container.demux())


def test_each_server_that_a_playlist_names_is_verified(tmp_path: Path, segment: bytes) -> None:
    (tmp_path / "other").mkdir()
    certificates(tmp_path, "right")
    certificates(tmp_path / "other", "other")

    def serve(head: str, send) -> None:
        path = head.split()[1]
        names = {"/own.m3u8": "s.ts", "/plain.m3u8": "http://127.0.0.1:9/s.ts"}
        other = f"https://localhost:{stranger.port}/s.ts"
        send(body(segment, "video/mp2t") if "s.ts" in path else playlist(names.get(path, other)))

    trusted = {"playlist": True, "ca_file": str(tmp_path / "right.pem")}
    contexts = [tls_context(each) for each in (tmp_path, tmp_path / "other")]
    with (
        RawServer(serve, context=contexts[1]) as stranger,
        RawServer(serve, context=contexts[0]) as server,
    ):
        where = f"https://localhost:{server.port}"
        with opened(f"{where}/own.m3u8", **trusted) as container:
            assert sum(1 for _ in container.decode(video=0)) == 20
        for name, why in (("other", "not trusted"), ("plain", "not https")):
            with pytest.raises(SourceError, match=why):
                container = opened(f"{where}/{name}.m3u8", **trusted)
                list(container.demux())
        assert not stranger.requests


def test_a_protocol_that_is_not_built_in_is_told() -> None:
    try:
        opened(f"srt://127.0.0.1:{free_port()}", open_timeout_s=0.5)
    except SourceError as error:
        assert "built without srt" in str(error)
    except av.error.FFmpegError:
        pass
