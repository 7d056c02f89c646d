"""A real browser, and the console as a person uses it."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from werkzeug.serving import make_server


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[object]:
    """Headless Chromium that reaches nothing but this machine."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = " and ".join(n for n, found in (("chromium", chromium), ("chromedriver", driver)) if found is None)
        if os.environ.get("GLASSHOUSE_REQUIRE_ALL") == "1":
            pytest.fail(f"{missing} is not installed, and GLASSHOUSE_REQUIRE_ALL=1 asks for every test")
        pytest.skip(f"{missing} is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,1400",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


class Page:
    """The console as a person uses it."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def open(self, fragment=""):
        self.browser.get("about:blank")
        self.browser.get_log("browser")
        self.browser.get(f"{self.address}/{fragment}")
        return self.until(lambda: self.text("#models-note") != "Loading the models …")

    def until(self, condition, seconds=20):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(lambda _: condition())
        return self

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def text(self, selector):
        return self.one(selector).text

    def pick(self, position):
        self.all("#models button")[position].click()

    def choose(self, selector, wording):
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_visible_text(wording)

    def press(self):
        self.one("#go").click()
        return self.until(lambda: self.one("#go").is_enabled() and self.text("#status") == "")

    def facts(self, selector):
        names = [element.text for element in self.all(f"{selector} dt")]
        values = [element.text.splitlines() for element in self.all(f"{selector} dd")]
        return dict(zip(names, values, strict=True))

    def complaints(self):
        """What the browser's console complains about, a refused request apart."""
        return [
            line["message"]
            for line in self.browser.get_log("browser")
            if "the server responded with" not in line["message"]
        ]


@pytest.fixture
def serve(browser) -> Iterator[Callable[[Flask], Page]]:
    """Serves applications on free ports until the test ends."""
    running = []

    def start(application):
        server = make_server("127.0.0.1", 0, application, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return Page(browser, f"http://127.0.0.1:{server.server_port}")

    yield start
    browser.get("about:blank")
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()
