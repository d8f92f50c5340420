#!/usr/bin/env python3
"""Makes the README's picture of the live page: a real browser on a real run of the bundled clip.

Needs Chromium (Debian: chromium). The picture is taken once three people are in the clip's view.

    python scripts/make_page_screenshot.py [OUT.png]
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "scripts" / "results" / "page.png"
CLIP_MS = 8000  # three people, by construction (app/sources/sample.README.md)


async def take(url: str, out: Path) -> list[str]:
    """Wait for the moment; returns what the page complained of."""
    sys.path.insert(0, str(ROOT))
    from tests.sinks.http.chromium import open_page

    async with open_page(url, width=1360, height=830) as page:
        await page.until(f"shown && lines.get(shown.frame)?.media_ms > {CLIP_MS}")
        await page.screenshot(out)
        return page.errors


def main() -> int:
    """Application, browser, picture; all of them ended again."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = ["--source", "sample:", "--http", str(port), "--record", f"{folder}/"]
        app = subprocess.Popen([sys.executable, "-m", "app", "run", "--headless", *words], cwd=ROOT)
        try:
            errors = asyncio.run(asyncio.wait_for(take(f"http://127.0.0.1:{port}/", out), 60))
        finally:
            app.terminate()
            app.wait(20)
    for error in errors:
        print(f"the page complains: {error}", file=sys.stderr)
    return len(errors) > 0


if __name__ == "__main__":
    sys.exit(main())
