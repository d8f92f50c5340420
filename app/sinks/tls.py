"""TLS of the outputs: contexts that verify, and the words for a certificate that is not trusted."""

from __future__ import annotations

import ssl

from ..core.errors import ConfigError


def client_context(ca_file: str | None, table: str) -> ssl.SSLContext:
    """Trusts the system's authorities, or those in ``ca_file`` of the ``[table]``."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(
            f"cannot read ca_file {ca_file} of [{table}]: {error.strerror or error}"
        ) from error


def server_context(cert_file: str | None, key_file: str | None) -> ssl.SSLContext | None:
    """For the page; None without a certificate."""
    if not cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise ConfigError(
            f"cannot read cert_file or key_file of [http]: {error.strerror or error}"
        ) from error
    return context


def untrusted(error: ssl.SSLCertVerificationError, table: str) -> str:
    """What is wrong with the other side's certificate, and the cure."""
    return (
        f"its certificate is not trusted ({error.verify_message}); name its authority as ca_file "
        f"in [{table}]"
    )
