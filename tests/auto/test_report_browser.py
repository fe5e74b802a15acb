"""The report as a browser shows it: headless Chromium, spoken to over a pipe."""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time

import numpy as np
import pytest
from PIL import Image
from test_fit_report import everywhere, example, supervised_only

from cotrain.auto.findings import headline
from cotrain.auto.report import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab, by the DevTools protocol: JSON texts with a zero byte between them, in on file 3 and out on file 4."""

    def __init__(self, profile):
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        def as_3_and_4():
            high = os.dup(to_write), os.dup(to_read)
            os.dup2(high[1], 3)
            os.dup2(high[0], 4)

        flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --hide-scrollbars"
        flags += " --disable-dev-shm-usage --remote-debugging-pipe --force-color-profile=srgb"
        self._process = subprocess.Popen(
            [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._heard, self._number, self._session = b"", 0, None
        self.events = []
        tab = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        own = self._number
        return self._until(lambda said: said.get("id") == own)["result"]

    def _until(self, wanted, seconds=60):
        end = time.monotonic() + seconds
        while True:
            while b"\0" in self._heard:
                text, _, self._heard = self._heard.partition(b"\0")
                said = json.loads(text)
                if "method" in said:
                    self.events.append(said)
                if wanted(said):
                    assert "error" not in said, said
                    return said
            assert select.select([self._in], [], [], max(0, end - time.monotonic()))[0], "the browser does not answer"
            self._heard += os.read(self._in, 1 << 20)

    def open(self, file, width, dark=False, media="screen"):
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.events.clear()
        self("Page.navigate", url=file.as_uri())
        self._until(lambda said: said.get("method") == "Page.loadEventFired")

    def value(self, expression):
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def complaints(self):
        """Whatever the page put on the console, and errors that nobody caught."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event["method"] in kinds]

    def asked_for(self):
        """The addresses that the page loaded."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def shoot(self, file):
        picture = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(picture))

    def close(self):
        self._session = None
        self("Browser.close")
        os.close(self._out)
        os.close(self._in)
        self._process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here; install the package chromium")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


LONG = "an-unbroken-name-of-a-column-or-class-" * 8
PAGES = {
    "helped": example(),
    "no help": supervised_only(),
    "no unlabelled rows": supervised_only(rows={"labelled": 60, "unlabelled": 0, "test": 0}),
    "twelve classes": example(
        classes=[f"class number {n}" for n in range(12)],
        confusion=(40 * np.eye(12, dtype=int) + 1).tolist(),
        prior={"shares": {f"class number {n}": 1 / 12 for n in range(12)}},
    ),
    "long names": everywhere(example(), LONG) | {"classes": [LONG + "a", LONG + "b", LONG + "c"]},
}
WIDTHS = {"phone": 360, "desktop": 1280}
SIGHTS = [*((name, "phone") for name in PAGES), ("long names", "desktop")]
SIGHTS += [pytest.param(name, "desktop", marks=pytest.mark.slow) for name in PAGES if name != "long names"]


@pytest.mark.parametrize(("name", "device"), SIGHTS)
def test_a_browser_shows_the_page(name, device, browser, tmp_path):
    values, width = PAGES[name], WIDTHS[device]
    file = tmp_path / "report.html"
    file.write_text(render(values), encoding="utf-8")
    for dark in (False, True):
        browser.open(file, width, dark)
        assert browser.complaints() == []
        assert browser.asked_for() == [file.as_uri()]
        assert browser.value("document.documentElement.scrollWidth") == width
        assert browser.value("document.title").endswith("cotrain report")
        shown = browser.value("document.body.innerText").replace("\u00a0", " ")
        for part in headline(values):
            assert "".join(part[:3]).replace("\u00a0", " ").strip() in shown
        assert browser.value("document.querySelectorAll('.candidates .row').length") == 1 + len(values["candidates"])
        browser.shoot(tmp_path / f"{device}-{'dark' if dark else 'light'}.png")
        with Image.open(tmp_path / f"{device}-{'dark' if dark else 'light'}.png") as picture:
            assert picture.width == width
            assert picture.height > 3000
            bright = np.asarray(picture.convert("L")).mean()
        assert (bright < 90) if dark else (bright > 200)


def test_marks_are_seen_where_the_scores_are(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render(example()), encoding="utf-8")
    browser.open(file, 1280)
    # The axis runs from 40 % to 100 %; each mark's middle, and the ends of the track that it stands on.
    marks = browser.value(
        """[...document.querySelectorAll('.candidates svg.track')].map(svg => {
            const track = svg.getBoundingClientRect(), mark = svg.querySelector('circle').getBoundingClientRect();
            return (mark.left + mark.width / 2 - track.left) / track.width;
        })"""
    )
    assert np.allclose(marks, [0.75, 0.6833, 0.25, 0.4833], atol=0.005)  # 85, 81, 55 and 69 %


def test_what_does_not_fit_a_phone_scrolls_inside(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render(PAGES["twelve classes"]), encoding="utf-8")
    browser.open(file, 360)
    assert browser.value("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.matrix').parentElement)")


def test_letters_stand_out_from_the_page(browser, tmp_path):
    """Contrast of text with what is behind it, by the formula of WCAG 2.1: at least 4.5."""
    file = tmp_path / "report.html"
    file.write_text(render(example()), encoding="utf-8")
    for dark in (False, True):
        browser.open(file, 1280, dark)
        pairs = browser.value(
            """[...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(
                n => n.nodeType === 3 && n.data.trim())).map(e => {
                let behind = e;
                const clear = x => getComputedStyle(x).backgroundColor === 'rgba(0, 0, 0, 0)';
                while (clear(behind) && behind.parentElement) behind = behind.parentElement;
                const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
                return [svg ? style.fill : style.color, getComputedStyle(behind).backgroundColor, e.textContent];
            })"""
        )
        assert len(pairs) > 200
        for front, back, text in pairs:
            assert contrast(luminance(front), luminance(back)) >= 4.5, (front, back, text)


def luminance(colour):
    numbers = np.array([float(n) for n in re.findall(r"[\d.]+", colour.replace("srgb", ""))[:3]])
    shares = numbers if colour.startswith("color(") else numbers / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_it_prints_on_paper_with_all_rows(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render(example()), encoding="utf-8")
    browser.open(file, 800, dark=True, media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("document.querySelector('nav').offsetHeight") == 0
    closed = browser.value("document.querySelector('#next details li').getBoundingClientRect().height")
    assert closed > 20  # what is folded on the screen is open on paper
    paper = base64.b64decode(browser("Page.printToPDF")["data"])
    assert paper.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", paper)) <= 12
