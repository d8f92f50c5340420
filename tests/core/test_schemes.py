"""What the scheme of a source's URI implies."""

from __future__ import annotations

import pytest

from app.core.schemes import KINDS, SCHEMES, is_network, scheme_of


@pytest.mark.parametrize(
    ("uri", "live", "lasting", "network"),
    [
        ("camera:0", True, True, False),
        ("CSI:0", True, True, False),
        ("gst:v4l2src ! appsink", True, True, False),
        ("rtsp://h/x", True, True, True),
        ("HTTPS://h/clip.mp4", False, True, True),
        ("udp://239.0.0.1:5000", True, True, True),
        ("hls+https://h/x", False, True, True),
        ("pattern:?frames=3", False, False, False),
        ("sample:", False, False, False),
    ],
)
def test_a_scheme_tells_how_its_source_behaves(
    uri: str, live: bool, lasting: bool, network: bool
) -> None:
    scheme = scheme_of(uri)
    assert scheme is not None
    assert (scheme.live, scheme.lasting, scheme.network) == (live, lasting, network)
    assert is_network(uri) is network


@pytest.mark.parametrize("path", ["", "clip.mp4", "/a/b:c.mp4", "rtsp:h/x", "a:b", "gopher://h/"])
def test_other_texts_have_no_scheme(path: str) -> None:
    assert scheme_of(path) is None and not is_network(path)


def test_messages_name_every_kind() -> None:
    assert all(f"{name}:" in KINDS for name in SCHEMES)


def test_nothing_from_the_network_opens_files_of_this_machine() -> None:
    for scheme in SCHEMES.values():
        protocols = set(scheme.protocols.split(","))
        assert not protocols & {"file", "concat", "subfile", "pipe", "fd", "concatf", "cache"}
        assert not (scheme.tls and "http" in protocols), "what came over TLS stays on TLS"
