"""Make the screenshot of the operator page in the README: ``python -m tests.support.screenshot FILE``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.operator_page import ANNA, serve
from tests.support.redis_server import RedisServer


def main(path: str) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as redis,
        serve(redis.url, EMAIL_USER="info@acme.example") as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1100, "height": 520}, locale="en-GB")
        cookie = {"name": "cleo-session", "value": site.session, "url": site.url, "sameSite": "Strict"}
        context.add_cookies([cookie])  # type: ignore[list-item]
        page = context.new_page()
        page.goto(site.url)
        page.get_by_text(ANNA).wait_for()
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
