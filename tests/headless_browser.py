"""A headless Chromium, driven over two pipes by the DevTools protocol."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
# Commands come in at descriptor 3 and answers go out at 4.
_START = (
    "import os, sys; os.dup2({0}, 3); os.dup2({1}, 4); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_SECONDS = 60.0


class Browser:
    """One page of a Chromium that knows no network."""

    def __init__(self, folder: Path):
        """Starts it; its profile lies in `folder`."""
        ours, theirs = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], theirs[1])]
        flags = [
            "--headless",
            "--no-sandbox",  # tests may run as root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-extensions",
            "--proxy-server=127.0.0.1:9",  # where nobody listens
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _START.format(*ends), PROGRAM, *flags],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*ends, ours[0], theirs[1]):
            os.close(end)
        self._commands, self._answers = ours[1], os.fdopen(theirs[0], "rb")
        self._number, self._rest, self._session = 0, b"", None
        self.events = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._commands)  # which ends it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def send(self, method, **parameters):
        """The result of a command; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def _next(self):
        while b"\0" not in self._rest:
            part = os.read(self._answers.fileno(), 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, path, width=1280, height=900, dark=False, script=True):
        """Shows a file; what is wrong with it comes among the events."""
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        deadline = time.monotonic() + _SECONDS
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            assert time.monotonic() < deadline
            self.events.append(self._next())

    def evaluate(self, expression):
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def point(self, x, y):
        """Moves the pointer there."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def complaints(self):
        """Errors and warnings of the console, exceptions, violations of the policy."""
        bad = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [e["params"] for e in self.events if e.get("method") in bad]

    def requests(self):
        """The addresses that the page asked for."""
        sent = "Network.requestWillBeSent"
        return [
            e["params"]["request"]["url"]
            for e in self.events
            if e.get("method") == sent
        ]

    def picture(self, path):
        """Writes what the whole page looks like, as a PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        found = self.send(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=True,
            clip=size | {"scale": 1},
        )
        Path(path).write_bytes(base64.b64decode(found["data"]))
