"""A browser that notes whatever no page of ours may do: ask another host, log an error, or keep a reader out."""

import re
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
"""Debian's; Playwright's own browsers are not downloaded."""
ARGUMENTS = (
    "--no-sandbox",  # root may not use one
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
LOOKS = ((1280, "light"), (390, "dark"))
"""The widths at which a page is looked at, and the colours that the system asks for."""
_PATIENCE = 60_000
"""milliseconds after which an action gives up"""


class Browser:
    """A page of Chromium, and what was found wrong with what it showed."""

    def __init__(self, context):
        from axe_playwright_python.sync_playwright import Axe

        self.page = context.new_page()
        self.complaints = []
        self._axe = Axe()
        self.page.set_default_timeout(_PATIENCE)
        context.on("request", self._note_request)
        context.on("console", lambda message: message.type == "error" and self._complain("console", message.text))
        context.on("weberror", lambda error: self._complain("script", str(error.error)))

    def _note_request(self, request):
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
            self._complain("request", request.url)

    def _complain(self, kind, what):
        self.complaints.append(f"{kind} at {self.page.url}: {what}")

    def open(self, address):
        """Opens a page and looks at it."""
        self.page.goto(address)
        self.look()

    def look(self):
        """Looks at the page as it is: at both widths, in light and dark, with axe-core's eyes."""
        for width, colours in LOOKS:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.emulate_media(color_scheme=colours)
            self.page.wait_for_load_state()  # a page that follows a training loads itself anew
            if (found := self.page.evaluate("document.documentElement.scrollWidth")) > width:
                self._complain("layout", f"{found} pixels are needed, and there are {width}")
            for violation in self._axe.run(self.page).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    nodes = [node["html"] for node in violation["nodes"]]
                    self._complain("axe-core", f"{violation['id']} ({width}, {colours}): {nodes[:3]}")

    def click(self, name):
        """Presses the button of a name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def table(self, key):
        """The cells of a table, row by row, without its head."""
        rows = self.page.locator(f"#{key} tbody tr").all()
        return [row.locator("th, td").all_inner_texts() for row in rows]


@contextmanager
def browse(folder):
    """A browser without history. At the end, nothing may be wrong.

    Args:
        folder: an empty folder for what a browser writes.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, headless=True, args=ARGUMENTS, locale="en"
        )
        try:
            browser = Browser(context)
            yield browser
            if browser.complaints:
                pytest.fail("\n".join(browser.complaints))
        finally:
            context.close()


def percent(text):
    """The share that a page shows."""
    return float(re.fullmatch(r"([\d.]+)%", text.strip())[1]) / 100
