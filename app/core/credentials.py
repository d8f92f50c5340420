"""Masking of credentials in addresses and in any text that may quote one.

Two rules. Whatever may be a user name and password, in an address with or without a scheme, becomes
``***@``. Whatever may be a secret value, ``password=…`` anywhere or any value in the query of a
network address, becomes ``***``. Rather a part of the path too much is hidden than a part of a
password: raw "@", "/" or ":" in passwords are common.

The time is linear in the length of the text: it is cut into words, each word at fixed separators,
and the one regular expression that runs over the whole begins with literal words and never looks
back over what it has read. Servers and libraries decide how long a message is.
"""

from __future__ import annotations

import re

HIDDEN = "***"

# An address whose authority may hold credentials; file:/// has none.
_AUTHORITY = re.compile(r"(?<!file)://|(?<=file)://(?!/)", re.IGNORECASE)
# In front of user:password@host: quotes, a flag or property, a scheme with one slash missing.
_OPENING = re.compile(r"[\"'(\[<]*(?:[\w-]+=)?(?:[A-Za-z][A-Za-z0-9+.-]*:/+)?")
_CLOSING = "'\")]}>,.;:!"  # behind an address in a sentence
_CHAOS = re.compile(r"(?i)chaos:[^:]*:")

# XMeye and its relatives write user=NAME_password=WORD_channel=1 into the path: there, "_" before
# one of their own words ends a value.
_NAMED = re.compile(
    r"(?i)((?:(?<![a-z])(?:user(?:name|-?id|-?pw)?|pw|sid|sig|jwt|login)|pass(?:word|wd|phrase)?|pwd|"
    r"psw|token|secret|(?<=[?&;/_-])key|api_?key|auth|signature|session|credentials?)=)"
    r"(?:\\?\"[^\"]*\"?|\\?'[^']*'?|(?:(?!_(?:password|channel|stream)=)[^&;#\s\"'<>])*)"
)
# Values in a query that tell cameras apart and are too short to protect anything, and the options
# that Kestrel itself reads there.
_PLAIN = re.compile(r"[0-9]{0,4}(?:x[0-9]{1,4})?")
_PLAIN_NAMES = ("rtsp_transport", "tls_insecure", "ca_file", "poll_s")


def mask_credentials(uri: str) -> str:
    """A source's URI without user names, passwords and secret values.

    The whole of it is taken as one address, so that spaces in a password do no harm; a pipeline
    (``gst:``) as addresses between its " ! ". Local paths are left as they are.
    """
    chaos = _CHAOS.match(uri)
    script, uri = (chaos[0], uri[chaos.end() :]) if chaos else ("", uri)
    if uri[:8].lower() == "file:///" or (uri[:1] == "/" and uri[:2] != "//"):
        return script + uri
    parts = re.split(r"(\s!)", uri) if uri[:4].lower() == "gst:" else [uri]
    return script + _NAMED.sub(rf"\1{HIDDEN}", "".join(map(_mask_address, parts)))


def mask_text(text: str) -> str:
    """Any text, such as a library's message, with every address in it masked."""
    if "@" in text or "?" in text:
        text = "".join(map(_mask_word, re.split(r"(\s+)", text)))
    return _NAMED.sub(rf"\1{HIDDEN}", text) if "=" in text else text


def _mask_word(word: str) -> str:
    """As ``_mask_address``; the times in front of a chaos source (``freeze@0+1``) are no login."""
    chaos = _CHAOS.match(word)
    return (
        word[: chaos.end()] + _mask_address(word[chaos.end() :]) if chaos else _mask_address(word)
    )


def _mask_address(word: str) -> str:
    """``word`` with credentials and query masked, if it holds an address."""
    authority = _AUTHORITY.search(word)
    opening = authority or _OPENING.match(word)
    start = opening.end() if opening else 0
    login, at_sign, rest = word[start:].rpartition("@")
    if not at_sign and not authority:
        return word
    if not authority and (":" not in login or login[0] in "/."):
        return word
    path, mark, query = rest.partition("?")
    hidden = HIDDEN if login else ""  # udp://@239.0.0.1 has an empty one
    return word[:start] + hidden + at_sign + path + mark + _mask_query(query)


def _mask_query(query: str) -> str:
    body = query.rstrip(_CLOSING)
    parts = re.split(r"([&;#])", body)  # the odd ones are separators
    parts[::2] = map(_mask_value, parts[::2])
    return "".join(parts) + query[len(body) :]


def _mask_value(part: str) -> str:
    name, equals, value = part.partition("=") if "=" in part else ("", "", part)
    if name.lower() in _PLAIN_NAMES or _PLAIN.fullmatch(value):
        return part
    return f"{name}{equals}{HIDDEN}"
