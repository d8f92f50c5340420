"""No way to write credentials into an address or a text survives masking, and none takes long."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from app.core.credentials import mask_credentials, mask_text

ADDRESSES = [
    "rtsp://admin:S3CRET@cam:554/x",
    "rtsp://admin:a@S3CRET/b@cam/x",
    "rtsp:/admin:S3CRET@cam/x",
    "hls:https://admin:S3CRET@cam/x.m3u8",
    "srt://cam:9000?passphrase=S3CRET",
    "admin:S3CRET@cam/live",
    "door=rtsp://admin:S3CRET@cam/x",
    "http://cam/video?auth=S3CRET",
    "http://cam/video?access_token=S3CRET&channel=1",
    "http://cam/video?session=S3CRET",
    "http://cam/video?anything=S3CRET",
    "http://cam/video?S3CRET",
    "http://cam/video#token=S3CRET",
    "https://store/clip.mp4?X-Amz-Signature=S3CRET&sig=S3CRET",
    "rtsp://cam/user=admin&password=S3CRET&channel=1&stream=0.sdp?",
    "rtsp://cam/user=S3CRET_password=S3CRET_channel=1_stream=0.sdp",
    "rtsp://cam/live;psw=S3CRET;pwd=S3CRET",
    "chaos:7:rtsp://admin:S3CRET@cam/x",
    'gst:rtspsrc location=rtsp://a:S3CRET@cam/x user-id=S3CRET user-pw="my S3CRET" ! decodebin',
]
HARMLESS = [
    "rtsp://cam:554/live?channel=3&subtype=1",
    "rtsp://cam/x?rtsp_transport=tcp",
    "https://cam/x?tls_insecure=1&poll_s=0.5&ca_file=/etc/ca.pem",
    "udp://@239.0.0.1:5000",
    "camera:0?size=1280x720&format=MJPG",
    "pattern:?size=1280x720&fps=30",
    "/home/a:b@c/clip.mp4",
    "file:///home/a@b/clip.mp4",
    "clips/a@b.mp4",
    "sample:",
    "the camera at 12:30 is back, see http://docs/ (KEY=A,B)",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_masked_alone_and_within_a_text(address: str) -> None:
    masked = mask_credentials(address)
    assert "S3CRET" not in masked and mask_credentials(masked) == masked
    for text in (address, f"cannot open {address!r}: gone", f"--webhok {address} --headless"):
        told = mask_text(text)
        assert "S3CRET" not in told and mask_text(told) == told


@pytest.mark.parametrize("address", HARMLESS)
def test_what_holds_no_secret_stays(address: str) -> None:
    assert mask_credentials(address) == address
    assert mask_text(f"cannot open {address}") == f"cannot open {address}"


def test_what_tells_cameras_apart_stays() -> None:
    assert (
        mask_credentials("rtsp://nvr/user=me_password=S3CRET_channel=2_stream=0.sdp")
        == "rtsp://nvr/user=***_password=***_channel=2_stream=0.sdp"
    )
    assert (
        mask_text("'http://u:p@cam/a?b=c&channel=2', then")
        == "'http://***@cam/a?b=***&channel=2', then"
    )


no_space = st.text(st.characters(exclude_categories=["Z", "C"]), max_size=8)


@given(login=no_space, before=no_space, after=no_space, around=st.text(max_size=8))
def test_no_login_survives_in_any_text(login: str, before: str, after: str, around: str) -> None:
    address = f"rtsp://{login}:{before}S3CRET{after}@cam/x"
    assert "S3CRET" not in mask_text(f"{around} {address} {around}")
    assert "S3CRET" not in mask_credentials(address)


@given(
    st.sampled_from(["token", "access_token", "Password", "psw", "auth", "signature", "X-Key"]),
    st.sampled_from(["?", "&", ";", "?a=1&"]),
    st.text(st.characters(categories=["L", "N"], include_characters="-._~%/+:="), max_size=8),
)
def test_no_named_value_survives(name: str, separator: str, before: str) -> None:
    assert "S3CRET" not in mask_text(f"see http://cam/x{separator}{name}={before}S3CRET, please")


@given(st.text(max_size=60))
def test_masking_takes_any_text(text: str) -> None:
    assert isinstance(mask_text(text), str) and isinstance(mask_credentials(text), str)


@pytest.mark.parametrize("mask", [mask_text, mask_credentials])
@pytest.mark.parametrize(
    "piece",
    [
        *("a", "@", "?", "=", "-", ":", "/", " ", "a-", "://", "a://", ":/@", "?a=&", "=?", "%"),
        *("key='", 'token="', "_password=", "password=", "chaos:7:", "a:b@c ", "file://", " !"),
    ],
)
def test_long_texts_take_linear_time(mask: Callable[[str], str], piece: str) -> None:
    """Quadratic work on so many characters takes from minutes to hours."""
    for head in ("", "gst:", "rtsp://"):
        began_s = time.perf_counter()
        mask(head + piece * (200_000 // len(piece)))
        assert time.perf_counter() - began_s < 20


def test_a_megabyte_of_log_is_masked() -> None:
    line = "cannot open 'rtsp://u:S3CRET@cam/x?a=1&token=S3CRET' (user=S3CRET): gone; "
    told = mask_text(line * (1_000_000 // len(line)))
    assert "S3CRET" not in told and told.startswith("cannot open 'rtsp://***@cam/x?a=1&token=***'")
