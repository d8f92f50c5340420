"""Each URI means the right source, and credentials stay hidden."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

import app.sources.uri as uri_module
from app.core.credentials import mask_credentials
from app.core.errors import ConfigError, SourceError
from app.sources.base import Paced, SourceOptions, stable_name
from app.sources.camera import CameraSource
from app.sources.ffmpeg import FfmpegSource
from app.sources.http_pictures import HttpSource
from app.sources.images import FolderSource
from app.sources.pattern import PatternSource
from app.sources.reconnect import Endurance, ReconnectingSource
from app.sources.subprocess_source import IsolatedSource
from app.sources.uri import is_recording, make_source, network_address


def make(uri, *, realtime=False, isolate=None):
    return make_source(str(uri), realtime=realtime, isolate=isolate)


@pytest.mark.parametrize("uri", ["camera:0", "/dev/video0", "camera:/dev/v4l/by-id/usb-x"])
@pytest.mark.parametrize("realtime", [False, True])
def test_camera_uris(uri, realtime):
    assert isinstance(make(uri, realtime=realtime), CameraSource)


@pytest.mark.parametrize(
    "scheme",
    [
        "rtsp",
        "rtsps",
        "http",
        "https",
        "RTSP",
        "Hls",
        "hls+http",
        "rtmp",
        "rtmps",
        "srt",
        "udp",
        "RTP",
    ],
)
def test_stream_uris_are_isolated_unless_told_otherwise(scheme):
    uri = f"{scheme}://127.0.0.1:9/x"
    assert isinstance(make(uri), IsolatedSource)
    kind = HttpSource if scheme.lower()[:3] in ("htt", "hls") else FfmpegSource
    assert isinstance(make(uri, isolate=False), kind)
    paced = make(uri, realtime=True)
    assert isinstance(paced, Paced) and isinstance(paced.inner, IsolatedSource)


@pytest.mark.parametrize(
    ("uri", "where", "options"),
    [
        ("RTSP://Me:pw@Cam/X", "rtsp://Me:pw@Cam/X", {}),
        ("hls://h/x.m3u8", "https://h/x.m3u8", {"playlist": True}),
        ("hls+http://h/x?a=1", "http://h/x?a=1", {"playlist": True}),
        ("https://h/x?tls_insecure=1&a=1", "https://h/x?a=1", {"tls_insecure": True}),
        ("rtsps://h/x?a=1&ca_file=%2Fa%20b.pem", "rtsps://h/x?a=1", {"ca_file": "/a b.pem"}),
        ("http://h/s.jpg?poll_s=0.5", "http://h/s.jpg", {"poll_s": 0.5}),
        ("udp://@239.0.0.1:5000?fifo_size=9", "udp://@239.0.0.1:5000?fifo_size=9", {}),
    ],
)
def test_an_address_is_sent_without_what_was_said_to_kestrel(uri, where, options):
    sent, told = network_address(uri, SourceOptions())
    assert sent == where
    assert {name: getattr(told, name) for name in options} == options


@pytest.mark.parametrize(
    ("uri", "cure"),
    [
        ("rtsp://me:S3CRET#b@h/x", "%23"),
        ("rtsp://me:S3CRET?b@h/x", "%3F"),
        ("rtsp://me:S3CRET/b@h/x", "%2F"),
        ("http://me:S3CRET%b@h/x", "%25"),
        ("http://h:99999/", "port"),
        ("http:///x", "host"),
        ("udp://239.0.0.1", "udp://ADDRESS:PORT"),
        ("srt://h", "srt://HOST:PORT"),
        ("http://h/\udcff", "UTF-8"),
        ("http://h/a\r\nX: b", "percent-encode"),
        ("http://h/?poll_s=60", "read_timeout_s"),
        ("https://h/?tls_insecure=yes", "0 or 1"),
        ("https://h/?ca_file=/no/such.pem", "ca_file"),
    ],
)
def test_an_address_that_cannot_be_meant_is_explained(uri, cure):
    with pytest.raises(ConfigError) as caught:
        make(uri)
    assert cure in str(caught.value) and "S3CRET" not in str(caught.value)


def test_files_are_not_isolated_unless_told_so(clip):
    assert isinstance(make(clip), FfmpegSource)
    assert isinstance(make(clip, isolate=True), IsolatedSource)
    assert isinstance(make(clip.as_uri()), FfmpegSource)
    assert isinstance(make(f"file://localhost{clip}"), FfmpegSource)


def test_recordings_are_paced_when_realtime(clip):
    assert isinstance(make(clip, realtime=True), Paced)
    assert isinstance(make(clip.parent, realtime=True), Paced)


def test_file_uri_with_escapes_and_names_with_colons(clip, tmp_path, read_all, monkeypatch):
    for name in ("with space.mp4", "a:b.mp4", "füß.mp4", "100%25.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
        assert read_all(make((tmp_path / name).as_uri()), limit=1)
    monkeypatch.chdir(tmp_path)
    assert read_all(make("a:b.mp4"), limit=1)
    assert read_all(make("a:b.mp4", isolate=True), limit=1)


def test_folder_and_single_picture_are_pictures(tmp_path):
    (tmp_path / "x.PNG").touch()
    assert isinstance(make(tmp_path), FolderSource)
    assert isinstance(make(tmp_path / "x.PNG"), FolderSource)


def test_pattern_uri_with_options():
    source = make("pattern:?size=320x240&fps=12.5&boxes=2&frames=7&seed=3")
    info = source.open()
    assert isinstance(source, PatternSource)
    assert (info.wh_px, info.fps, info.frame_count) == ((320, 240), 12.5, 7)
    assert len(source.pattern_boxes(0)) == 2


def test_pattern_is_live_only_when_realtime():
    assert make("pattern:", realtime=True).open().live
    assert not make("pattern:").open().live


@pytest.mark.parametrize(
    "uri",
    [
        "pattern:?size=0x0",
        "pattern:?size=8x8",
        "pattern:?size=big",
        "pattern:?fps=0",
        "pattern:?fps=nan",
        "pattern:?boxes=-1",
        "pattern:?boxes=9999",
        "pattern:?frames=0",
        "pattern:?colour=red",
        "pattern:?size",
        "camera:",
        "camera:x",
        "camera:0?format=MJPEG",
        "camera:0?fps=x",
        "csi:x",
        "ftp://host/x",
        "rtsp:host",
        "nonsense:1",
        "file://otherhost/x.mp4",
        "",
        "  ",
    ],
)
def test_wrong_uri_is_a_configuration_error(uri):
    with pytest.raises(ConfigError) as caught:
        make(uri)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_unknown_scheme_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"camera:0.*rtsp://.*pattern:.*sample:"):
        make("gopher://host:1")


@pytest.mark.parametrize("uri", ["no/such.mp4", "/no/such/folder/", "file:///no/such.mp4"])
def test_missing_file_is_a_source_error(uri):
    with pytest.raises(SourceError, match=r"there is no file or folder .*no/such") as caught:
        make(uri)
    assert caught.value.exit_code == 3


def test_bare_number_is_told_about_camera_uris():
    with pytest.raises(SourceError, match="camera:7"):
        make("7")


def test_sample_means_the_bundled_clip(clip, tmp_path, monkeypatch, read_all):
    monkeypatch.setattr(uri_module, "SAMPLE_PATH", clip)
    source = make("sample:")
    assert source.open().uri == "sample:"
    source.close()
    monkeypatch.setattr(uri_module, "SAMPLE_PATH", tmp_path / "gone.mp4")
    with pytest.raises(SourceError, match="bundled clip"):
        make("sample:")


@pytest.mark.parametrize(
    ("uri", "masked"),
    [
        ("rtsp://user:secret@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://user@host/x", "rtsp://***@host/x"),
        ("rtsp://u:p@ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa/ss@host/x", "rtsp://***@host/x"),
        (
            "http://host/live?user=me&password=hush&w=3",
            "http://host/live?user=***&password=***&w=3",
        ),
        ("http://host:8080/x", "http://host:8080/x"),
        ("/home/a@b/clip.mp4", "/home/a@b/clip.mp4"),
        ("file:///home/a@b/clip.mp4", "file:///home/a@b/clip.mp4"),
        ("camera:0", "camera:0"),
        ("chaos:7:rtsp://u:p@host/x", "chaos:7:rtsp://***@host/x"),
        (
            "gst:rtspsrc location=rtsp://u:p@host/x user-pw=hush ! decodebin",
            "gst:rtspsrc location=rtsp://***@host/x user-pw=*** ! decodebin",
        ),
    ],
)
def test_masking(uri, masked):
    assert mask_credentials(uri) == masked
    assert mask_credentials(masked) == masked


@given(
    scheme=st.sampled_from(["rtsp", "rtsps", "http", "https", "HTTP"]),
    before=st.text(max_size=8),
    after=st.text(max_size=8),
    path=st.text(st.characters(exclude_characters="@"), max_size=8),
)
def test_no_password_survives_masking(scheme, before, after, path):
    uri = f"{scheme}://{before}:SECRET{after}@host/{path}"
    assert "SECRET" not in mask_credentials(uri)
    assert mask_credentials(uri).startswith(f"{scheme}://***@host/")


def test_password_is_in_no_message():
    for isolate in (False, True):
        source = make("rtsp://user:hush@127.0.0.1:1/x", isolate=isolate)
        with pytest.raises(SourceError) as caught:
            source.open()
        assert "hush" not in str(caught.value) and "***@127.0.0.1" in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"open_timeout_s": 0}, {"read_timeout_s": float("nan")}, {"decode_threads": 0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SourceOptions(**options)


def test_decoder_threads_leave_a_core_free():
    assert SourceOptions(decode_threads=3).threads() == 3
    assert 1 <= SourceOptions().threads() <= 4


@pytest.mark.parametrize(
    ("uri", "known"),
    [
        ("pattern:?decode=auto", "boxes"),
        ("pattern:?deinterlace=1&size=64x64", "boxes"),
        ("camera:0?decode=cpu", "format"),
        ("/dev/video0?decode=cpu", "format"),
        ("csi:0?decode=auto", "flip"),
        ("gst:videotestsrc ?decode=auto", "pipeline"),
        ("sample:?decode=auto", "sample:"),
        ("rtsp://h/x?poll_s=2", "rtsp_transport"),
        ("rtsp://h/x?tls_insecure=1", "decode"),
        ("http://h/x?rtsp_transport=udp", "poll_s"),
        ("udp://127.0.0.1:5000?ca_file=x", "deinterlace"),
        ("chaos:7:pattern:?decode=auto", "boxes"),
        ("CLIP?size=64x64", "decode"),
        ("CLIP?loop=1&fps=3", "deinterlace"),
        ("FOLDER?fps=3", "loop"),
        ("FOLDER?decode=auto", "loop"),
        ("FOLDER/x.png?deinterlace=1&loop=1", "loop"),
    ],
)
def test_an_option_that_does_nothing_is_refused_and_the_known_are_named(uri, known, clip, tmp_path):
    (tmp_path / "x.png").touch()
    uri = uri.replace("CLIP", str(clip)).replace("FOLDER", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        make(uri, realtime=True)
    assert known in str(caught.value)


def test_a_name_with_a_question_mark_is_a_name(clip, tmp_path, read_all):
    place = tmp_path / "a?decode=auto.mp4"
    place.write_bytes(clip.read_bytes())
    assert read_all(make(place), limit=1)
    assert read_all(make(f"{clip}?decode=cpu&loop=1"), limit=1)
    assert read_all(make(f"{clip.parent}?decode=cpu"), limit=1)


@pytest.mark.parametrize("uri", ["sample:foo", "sample:?fps=3", "sample://"])
def test_sample_takes_nothing_more(uri):
    with pytest.raises(ConfigError, match="is no source: the bundled clip is sample:"):
        make_source(uri, realtime=False)


def test_transport_is_taken_out_of_an_rtsp_address_and_all_else_stays():
    given = {
        "rtsp://h/x?rtsp_transport=udp": ("rtsp://h/x", "udp"),
        "rtsp://h/x?a=1&rtsp_transport=tcp&b=2": ("rtsp://h/x?a=1&b=2", "tcp"),
        "rtsp://h/x?a=1": ("rtsp://h/x?a=1", "auto"),
    }
    for uri, (where, transport) in given.items():
        source = make(uri, isolate=True)
        assert (source._uri, source._options.rtsp_transport) == (where, transport)
    with pytest.raises(ConfigError, match="auto, tcp or udp"):
        make("rtsp://h/x?rtsp_transport=quic")


def test_only_what_is_live_comes_back(clip):
    uris = {"camera:97": True, "rtsp://h/x": True, "http://h/x": True, str(clip): False}
    for uri, lasts in {**uris, "pattern:": False, "sample:": False}.items():
        source = make_source(uri, realtime=True, endurance=Endurance())
        assert isinstance(source, ReconnectingSource) == lasts
        assert not isinstance(make_source(uri, realtime=True), ReconnectingSource)


def test_camera_is_followed_by_the_name_that_it_keeps(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    (tmp_path / "video3").touch()
    (tmp_path / "v4l/by-id").mkdir(parents=True)
    link = tmp_path / "v4l/by-id/usb-Cam-index0"
    link.symlink_to("../../video3")
    monkeypatch.setattr(uri_module, "stable_name", lambda n: stable_name(n, tmp_path))
    assert stable_name(0, tmp_path) is None
    assert uri_module._follow("camera:3?fps=30") == f"camera:{link}?fps=30"
    assert uri_module._follow("camera:0") == "camera:0"
    assert "followed by its name" in caplog.text


@pytest.mark.parametrize(
    ("uri", "ends"),
    [
        ("sample:", True),
        ("/some/clip.mp4", True),
        ("pattern:?frames=5", True),
        ("pattern:", False),
        ("camera:0", False),
        ("rtsp://host/x", False),
        ("chaos:7:camera:0", False),
        ("chaos:7:sample:", False),  # it comes back
    ],
)
def test_what_has_an_end_of_its_own(uri: str, ends: bool) -> None:
    assert is_recording(uri) is ends
