"""Certificates of localhost and the authorities behind them, made afresh for a test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def certificates(folder: Path, *names: str) -> None:
    """An authority of our own for each name, and with the first one a certificate of localhost."""

    if shutil.which("openssl") is None:
        pytest.skip("no openssl (apt install openssl)")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in names:
        openssl(
            *(
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
            ),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
    openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
        *("-keyout", "server.key", "-out", "server.csr"),
    )
    (folder / "ext").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", f"{names[0]}.pem"),
        *("-CAkey", f"{names[0]}.key", "-CAcreateserial", "-days", "2"),
        *("-extfile", "ext", "-out", "server.pem"),
    )
