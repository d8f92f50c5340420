"""ONVIF cameras on the network: found by WS-Discovery, asked for the addresses of their streams.

Only what that needs of the ONVIF Core and Media specifications: a probe over UDP, and five SOAP
requests, by the standard library. Whatever a device answers is bounded in size and time, and is
text to be shown, never an instruction: requests go only to the address that was found.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import selectors
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from ..core.credentials import mask_credentials
from ..core.text import printable

MULTICAST = ("239.255.255.250", 3702)
MOST_DEVICES, MOST_PROFILES = 64, 8
MOST_BYTES = 262_144  # of one answer
REPEATS_S = (0.0, 0.3)  # UDP may lose a probe

_LATE = "it did not answer in time: raise --timeout"
_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
_ENVELOPE = (
    '<?xml version="1.0" encoding="utf-8"?><s:Envelope '
    'xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header>{header}</s:Header>'
    "<s:Body>{body}</s:Body></s:Envelope>"
)
_DEVICE = 'xmlns="http://www.onvif.org/ver10/device/wsdl"'
_MEDIA = 'xmlns="http://www.onvif.org/ver10/media/wsdl"'
_STREAM_SETUP = (
    '<StreamSetup xmlns:t="http://www.onvif.org/ver10/schema"><t:Stream>RTP-Unicast</t:Stream>'
    "<t:Transport><t:Protocol>RTSP</t:Protocol></t:Transport></StreamSetup>"
)
_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"


@dataclass(frozen=True, slots=True)
class OnvifLogin:
    """A user of a camera."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class CameraStream:
    """One stream of a camera; ``uri`` has its credentials masked."""

    uri: str
    profile: str
    encoding: str = ""
    wh_px: tuple[int, int] | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A camera that answered. ``fault``: why it has no streams here, with the cure."""

    address: str  # of its device service, an HTTP address
    name: str = ""
    streams: tuple[CameraStream, ...] = ()
    fault: str = ""


class OnvifError(Exception):
    """What a device answered instead; for people."""


def discover(
    *,
    timeout_s: float,
    login: OnvifLogin | None = None,
    hosts: Sequence[str] = (),
    group: tuple[str, int] = MULTICAST,
) -> list[Device]:
    """Devices of the networks of this machine, or those at ``hosts`` (HOST or HOST:PORT) alone.

    Each with its streams. ``timeout_s`` bounds the search, and then again all the questions
    together. Without a ``login`` only devices that ask for none tell their streams.
    """
    if hosts:
        found = {f"http://{host}/onvif/device_service": "" for host in hosts}
    else:
        found = probe(timeout_s=timeout_s, group=group)
    deadline_s = time.monotonic() + timeout_s
    answers = {each: Device(*each, fault=_LATE) for each in sorted(found.items())[:MOST_DEVICES]}

    def ask(each: tuple[str, str]) -> None:
        answers[each] = _ask(*each, login, deadline_s)

    # daemons: one that sends a byte a second must keep neither the answer nor the process waiting
    askers = [threading.Thread(target=ask, args=(each,), daemon=True) for each in answers]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(max(0, deadline_s - time.monotonic()))
    return list(answers.values())


def probe(*, timeout_s: float, group: tuple[str, int] = MULTICAST) -> dict[str, str]:
    """Name by address of the device service of each camera that answers (WS-Discovery 1.0)."""
    message = _ENVELOPE.format(
        header=f'<a:MessageID xmlns:a="{_ADDRESSING}">uuid:{uuid.uuid4()}</a:MessageID>'
        f'<a:To xmlns:a="{_ADDRESSING}">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>'
        f'<a:Action xmlns:a="{_ADDRESSING}">{_DISCOVERY}/Probe</a:Action>',
        body=f'<d:Probe xmlns:d="{_DISCOVERY}"><d:Types xmlns:n="http://www.onvif.org/ver10/'
        'network/wsdl">n:NetworkVideoTransmitter</d:Types></d:Probe>',
    ).encode()
    found: dict[str, str] = {}
    start_s = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for sock in _sockets():
            selector.register(sock, selectors.EVENT_READ)
        waits = [*REPEATS_S[1:], timeout_s]
        try:
            for until_s in waits:
                for key in list(selector.get_map().values()):
                    with suppress(OSError):  # a network without a route to the group
                        _socket(key).sendto(message, group)
                while (left_s := start_s + min(until_s, timeout_s) - time.monotonic()) > 0:
                    for key, _ in selector.select(left_s):
                        with suppress(OSError):
                            data, (host, *_) = _socket(key).recvfrom(65536)
                            if len(found) < MOST_DEVICES:
                                found.update(_matches(data, host))
        finally:
            for key in list(selector.get_map().values()):
                _socket(key).close()
    return found


def _socket(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


def _sockets() -> list[socket.socket]:
    """One for each network of this machine."""
    sockets = []
    for number, _ in socket.if_nameindex():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            request = struct.pack("=4s4si", bytes(4), bytes(4), number)  # struct ip_mreqn
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sock.setblocking(False)
            sockets.append(sock)
        except OSError:  # it has no IPv4
            sock.close()
    return sockets


def _matches(data: bytes, host: str) -> dict[str, str]:
    """Addresses and names in one answer; only an address of the machine that sent it counts."""
    with suppress(OnvifError):
        found = {}
        for match in _all(_parse(data), "ProbeMatch"):
            name = _name(_text(match, "Scopes"))
            for address in _text(match, "XAddrs").split():
                if _is_http(address) and urlsplit(address).hostname == host:
                    found[address] = name
                    break
        return found
    return {}


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and parts.port != 0 and address.isascii()
    except ValueError:
        return False


def _name(scopes: str) -> str:
    found: dict[str, str] = {}
    for scope in scopes.split():
        kind, _, value = scope.removeprefix("onvif://www.onvif.org/").partition("/")
        found.setdefault(kind.lower(), unquote(value))
    words = dict.fromkeys(filter(None, (found.get("name"), found.get("hardware"))))
    return printable(" ".join(words))[:80]


def _ask(address: str, name: str, login: OnvifLogin | None, deadline_s: float) -> Device:
    try:
        service = _CameraServices(address, login, deadline_s)
        return Device(address, name, service.streams())
    except (OnvifError, ValueError) as error:
        return Device(address, name, fault=printable(mask_credentials(str(error)))[:200])


class _CameraServices:
    """The SOAP services of one device, all of them at the host that was found."""

    def __init__(self, address: str, login: OnvifLogin | None, deadline_s: float) -> None:
        self._address, self._login, self._deadline_s = address, login, deadline_s
        self._ahead = timedelta()  # the camera's clock before ours: a login is valid for seconds
        no_proxy = urllib.request.ProxyHandler({})
        handlers: list[urllib.request.BaseHandler] = [no_proxy, _RefuseRedirects()]
        if login is not None:  # some ask for it of HTTP besides
            users = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            users.add_password(None, address, login.user, login.password)
            host = urlunsplit((*urlsplit(address)[:2], "/", "", ""))
            users.add_password(None, host, login.user, login.password)
            handlers.append(urllib.request.HTTPDigestAuthHandler(users))
        self._opener = urllib.request.build_opener(*handlers)

    def streams(self) -> tuple[CameraStream, ...]:
        """One for each profile that has video."""
        with suppress(OnvifError, ValueError):  # a camera without a clock is asked all the same
            self._read_clock()
        body = f"<GetCapabilities {_DEVICE}><Category>Media</Category></GetCapabilities>"
        media = next(iter(_all(self._call(self._address, body), "Media")), None)
        told = urlsplit(_text(media, "XAddr")) if media is not None else None
        if told is None or not told.path:
            raise OnvifError("it has no media service")
        place = urlsplit(self._address)
        address = urlunsplit((place.scheme, place.netloc, told.path, told.query, ""))
        profiles = _all(self._call(address, f"<GetProfiles {_MEDIA}/>"), "Profiles")
        streams = []
        for profile in profiles[:MOST_PROFILES]:
            if not _all(profile, "VideoEncoderConfiguration"):
                continue
            token = escape(profile.get("token", ""))
            answer = self._call(
                address,
                f"<GetStreamUri {_MEDIA}>{_STREAM_SETUP}<ProfileToken>{token}</ProfileToken>"
                "</GetStreamUri>",
            )
            streams.append(_stream(profile, _text(answer, "Uri")))
        if not streams:
            raise OnvifError("it has no profile with video")
        return tuple(streams)

    def _read_clock(self) -> None:
        answer = self._call(self._address, f"<GetSystemDateAndTime {_DEVICE}/>", anonymous=True)
        for utc in _all(answer, "UTCDateTime"):
            names = ("Year", "Month", "Day", "Hour", "Minute", "Second")
            year, month, day, hour, minute, second = (int(_text(utc, name)) for name in names)
            theirs = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
            self._ahead = theirs - datetime.now(timezone.utc)

    def _call(self, address: str, body: str, *, anonymous: bool = False) -> ET.Element:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise OnvifError(_LATE)
        header = "" if anonymous or self._login is None else _security(self._login, self._ahead)
        request = urllib.request.Request(
            address,
            _ENVELOPE.format(header=header, body=body).encode(),
            {"Content-Type": "application/soap+xml; charset=utf-8"},
        )
        try:
            with self._opener.open(request, timeout=left_s) as answer:
                return _parse(self._read(answer))
        except urllib.error.HTTPError as error:
            with error:
                raise self._fault(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise OnvifError(f"it does not answer as an ONVIF camera ({reason})") from None

    def _read(self, answer: Any) -> bytes:
        """All of it, within the deadline and the limit."""
        data = bytearray()
        while chunk := answer.read1(16384):
            data += chunk
            if len(data) > MOST_BYTES or time.monotonic() > self._deadline_s:
                raise OnvifError("its answer is too long or too slow")
        return bytes(data)

    def _fault(self, error: urllib.error.HTTPError) -> OnvifError:
        told = b""
        with suppress(OSError, http.client.HTTPException, OnvifError):
            told = self._read(error)
        if error.code in (401, 403) or b"NotAuthorized" in told or b"FailedAuth" in told:
            if self._login is None:
                return OnvifError("it asks for a login: add --user NAME")
            return OnvifError("it refuses this user name or password")
        with suppress(OnvifError):
            return OnvifError(f"it refuses: {_text(_parse(told), 'Text') or error.code}")
        return OnvifError(f"it answers with HTTP status {error.code}")


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """A login is for the address that was found, and for no other."""


def _security(login: OnvifLogin, ahead: timedelta) -> str:
    """WS-Security's UsernameToken with a digest (UsernameToken Profile 1.0, 3.1)."""
    nonce = os.urandom(16)
    created = (datetime.now(timezone.utc) + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha1(nonce + created.encode() + login.password.encode()).digest()
    kind = f"{_WSSE}username-token-profile-1.0#PasswordDigest"
    return (
        f'<w:Security s:mustUnderstand="1" xmlns:w="{_WSSE}wssecurity-secext-1.0.xsd" '
        f'xmlns:u="{_WSSE}wssecurity-utility-1.0.xsd"><w:UsernameToken>'
        f"<w:Username>{escape(login.user)}</w:Username>"
        f'<w:Password Type="{kind}">{base64.b64encode(digest).decode()}</w:Password>'
        f"<w:Nonce>{base64.b64encode(nonce).decode()}</w:Nonce>"
        f"<u:Created>{created}</u:Created></w:UsernameToken></w:Security>"
    )


def _stream(profile: ET.Element, uri: str) -> CameraStream:
    encoder = _all(profile, "VideoEncoderConfiguration")[0]
    wh_px, fps = None, None
    with suppress(ValueError):
        wh_px = (int(_text(encoder, "Width")), int(_text(encoder, "Height")))
    with suppress(ValueError):
        fps = float(_text(encoder, "FrameRateLimit")) or None
    name, encoding = _text(profile, "Name"), _text(encoder, "Encoding")
    shown = printable(mask_credentials(uri))[:500]
    return CameraStream(shown, printable(name)[:80], printable(encoding)[:20], wh_px, fps)


def _parse(data: bytes) -> ET.Element:
    """The tree of a device's answer. Entities, which SOAP forbids, could grow without a bound."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise OnvifError("its answer is no SOAP")
    try:
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError):  # or an encoding that nobody knows
        raise OnvifError("its answer is no XML") from None


def _all(element: ET.Element, name: str) -> list[ET.Element]:
    """Descendants of that name; cameras differ in their namespaces."""
    return [each for each in element.iter() if each.tag.rpartition("}")[2] == name]


def _text(element: ET.Element, name: str) -> str:
    return next((each.text or "" for each in _all(element, name)), "").strip()
