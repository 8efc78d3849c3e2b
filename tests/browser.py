"""A real browser for tests: Chromium without a window, told what to do over the pipe of its DevTools protocol.

It needs no port and no package. All that a page asks for, says and fails with is kept, to be looked at afterwards.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 60.0

# `--no-sandbox`: tests of CI run as root. Nothing but pages of ours is opened.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--force-color-profile=srgb",
    "--disable-features=IsolateSandboxedIframes",  # a frame without an origin stays in reach of the page's session
    "--remote-debugging-pipe",
)

Event = dict[str, Any]


class PageError(Exception):
    """The page, or the browser, has answered with an error."""


def find_browser() -> str | None:
    """The path of a browser; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page."""

    def __init__(self, program: str, profile: pathlib.Path):
        """Starts the browser; `profile` is an empty folder for it."""
        # The protocol's pipes are the descriptors 3 and 4 of the browser; ours must be none of these.
        (its_input, self._to), (self._from, its_output) = _pipe(), _pipe()
        shell = f'exec "$@" 3<&{its_input} 4>&{its_output} {its_input}<&- {its_output}>&-'
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900", "about:blank"]
        with (profile / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, "bash", *command], pass_fds=(its_input, its_output), stdout=log, stderr=log
            )
        os.close(its_input)
        os.close(its_output)
        self._rest = b""
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.events: list[Event] = []
        self._attach()

    def _attach(self) -> None:
        target = next(t for t in self._pages() if t["type"] == "page")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _pages(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            found = self.call("Target.getTargets")["targetInfos"]
            if any(target["type"] == "page" for target in found):
                return found
            time.sleep(0.05)
        raise PageError("the browser has opened no page")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result; keeps the events that come before it."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(_SECONDS)
            if answer is None:
                raise PageError(f"{method}: no answer in {_SECONDS:g} s")
            if answer.get("id") == number:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']}")
                return answer["result"]

    def _send(self, content: bytes) -> None:
        while content:
            content = content[os.write(self._to, content) :]

    def _receive(self, seconds: float) -> Event | None:
        """The next message; events are kept as well."""
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], seconds)[0]:
                return None
            read = os.read(self._from, 1 << 20)
            if not read:
                raise PageError("the browser has ended")
            self._rest += read
        one, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(one)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: pathlib.Path | str) -> None:
        """Opens a file, and waits until it is loaded. What was kept of the page before is forgotten."""
        url = path if isinstance(path, str) else path.resolve().as_uri()
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise PageError(f"{url}: {answer['errorText']}")
        self.wait_for(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    def reload(self) -> None:
        """Loads the page again, and waits until the new page is there: the old one answers until then."""
        self.evaluate("void (window.loadedBefore = true)")
        self.call("Page.reload")
        self.wait_for("document.readyState === 'complete' && !window.loadedBefore")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it gives."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise PageError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = _SECONDS) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > deadline:
                raise PageError(f"not true after {seconds:g} s: {script}")
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, as a person does: `Tab`, `Enter`, `Space`, `Escape`, or a character."""
        for key in keys:
            fields = _key(key)
            self.call("Input.dispatchKeyEvent", type="keyDown" if "text" in fields else "rawKeyDown", **fields)
            self.call("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in fields.items() if k != "text"})

    def click(self, selector: str) -> None:
        """Clicks with the mouse on the middle of an element."""
        place = json.dumps(selector)
        # Sections that are drawn late move what is below them.
        x, y = self.evaluate(
            f"(async () => {{ const e = document.querySelector({place}); let last = '';"
            " for (let still = 0; still < 3;) {"
            " e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            " const now = `${r.x} ${r.y}`; still = now === last ? still + 1 : 0; last = now;"
            " await new Promise(requestAnimationFrame); }"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, identity: str, value: str) -> None:
        """Gives a field its value, as one who types or chooses it."""
        self.evaluate(
            f"(() => {{ const field = document.getElementById({json.dumps(identity)});"
            f" field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def emulate(self, media: str = "", **features: str) -> None:
        """Sets the medium, such as `print`, and what the user prefers, such as `prefers_color_scheme="dark"`."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=wanted)

    def screenshot(self, path: pathlib.Path, width: int = 1280, height: int = 900) -> None:
        """Writes what is seen of the page, as PNG."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(answer["data"]))

    def requests(self) -> list[str]:
        """The addresses that the page has asked for since it was opened, but for itself and what its own text holds."""
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("file:", "about:", "data:"))]

    def complaints(self) -> list[str]:
        """What the page has failed with, or has written to the console, since it was opened."""
        said: dict[str, Callable[[Event], str]] = {
            "Runtime.exceptionThrown": lambda p: json.dumps(p["exceptionDetails"]),
            "Runtime.consoleAPICalled": lambda p: json.dumps(p["args"]),
            "Log.entryAdded": lambda p: json.dumps(p["entry"]),
            "Page.javascriptDialogOpening": lambda p: p["message"],
        }
        return [said[e["method"]](e["params"]) for e in self.events if e["method"] in said]

    def close(self) -> None:
        """Ends the browser."""
        self._session = None
        with contextlib.suppress(PageError, OSError):
            self.call("Browser.close")
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)


def _pipe() -> tuple[int, int]:
    """The ends of a pipe, reading and writing, with descriptors from 10 on."""
    ends = os.pipe()
    moved = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, 10)
    for end in ends:
        os.close(end)
    return moved


def _key(key: str) -> dict[str, object]:
    named = {"Tab": (9, None), "Enter": (13, "\r"), "Space": (32, " "), "Escape": (27, None)}
    if key not in named:
        return {"key": key, "text": key}
    code, text = named[key]
    fields: dict[str, object] = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
    return {**fields, "text": text} if text else fields


@contextlib.contextmanager
def browsing(program: str, profile: pathlib.Path) -> Iterator[Browser]:
    """A browser that ends with the block."""
    browser = Browser(program, profile)
    try:
        yield browser
    finally:
        browser.close()
