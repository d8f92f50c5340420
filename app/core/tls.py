"""TLS: whom to trust, and the words where somebody is not trusted."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from .errors import ConfigError
from .text import foreign

# Where systems keep their authorities in one file, for libraries that do not know by themselves.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)


def client_context(
    ca_file: str | None, table: str = "", *, insecure: bool = False
) -> ssl.SSLContext:
    """Trusts the system's authorities, or those in ``ca_file`` of the ``[table]``.

    ``insecure``: any certificate will do. Raises ConfigError for a file that cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        where = f" of [{table}]" if table else ""
        raise ConfigError(
            f"cannot read ca_file {ca_file}{where}: {error.strerror or error}"
        ) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def untrusted(error: ssl.SSLCertVerificationError, table: str = "") -> str:
    """What is wrong with the other side's certificate, and the cure."""
    where = f" in [{table}]" if table else ""
    return (
        f"its certificate is not trusted ({foreign(error.verify_message)}); name its authority as "
        f"ca_file{where}"
    )


def authorities_file() -> str | None:
    """The system's authorities in one PEM file, which FFmpeg wants named; None: not found."""
    paths = ssl.get_default_verify_paths()
    named = (os.environ.get("SSL_CERT_FILE"), paths.cafile, *_BUNDLES)
    return next((each for each in named if each and Path(each).is_file()), None)
