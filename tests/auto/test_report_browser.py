"""The report as a browser shows it: headless Chromium, spoken to over a pipe."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

import pytest

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
        target = next(t for t in self("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
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

    def shoot(self, file):
        picture = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(picture))

    def close(self):
        self._session = None
        self("Browser.close")
        os.close(self._out)
        os.close(self._in)
        self._process.wait(30)
