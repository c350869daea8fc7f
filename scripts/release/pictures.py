"""Take the README's screenshots of docs/example-report: docs/assets/report-light.png and report-dark.png.

    python scripts/release/pictures.py

Requires Chromium or Chrome.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 940)  # window size in pixels: shows the top of the page down to the first plots
SCHEMES = {"dark": 0, "light": 1}  # Chromium's codes for the preferred colour scheme


def main() -> int:
    """Take both screenshots; return the exit status."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"pictures: found no browser; needed one of {', '.join(BROWSERS)}")
        return 1
    for scheme in SCHEMES:
        take(browser, DOCS / "example-report" / "report.html", DOCS / "assets" / f"report-{scheme}.png", scheme)
    return 0


def take(browser: str, page: Path, picture: Path, scheme: str) -> None:
    """Take a screenshot of a page in the given colour scheme and write it to `picture`."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size={SIZE[0]},{SIZE[1]}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
            "--virtual-time-budget=3000", f"--screenshot={picture}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
