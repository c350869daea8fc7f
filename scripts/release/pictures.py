"""The README's pictures of a report: docs/assets/report-light.png and report-dark.png, of docs/example-report.

    python scripts/release/pictures.py

Needs Chromium, or Chrome.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 940)  # of the window, pixels: the page's top, as far as the first plots
SCHEMES = {"dark": 0, "light": 1}  # Chromium's numbers of what the system prefers


def main() -> int:
    """Take both pictures; return the exit status."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"pictures: found no browser; needed one of {', '.join(BROWSERS)}")
        return 1
    for scheme in SCHEMES:
        take(browser, DOCS / "example-report" / "report.html", DOCS / "assets" / f"report-{scheme}.png", scheme)
    return 0


def take(browser: str, page: Path, picture: Path, scheme: str) -> None:
    """Write a page's picture."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size={SIZE[0]},{SIZE[1]}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
            "--virtual-time-budget=3000", f"--screenshot={picture}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
