"""Where a Chromium or Chrome stands on this machine."""

from __future__ import annotations

import shutil

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ON_MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def find_browser() -> str | None:
    """Path of the first Chromium or Chrome found, None where there is none."""
    for name in (*ON_PATH, *ON_MACOS):
        if path := shutil.which(name):
            return path
    return None
