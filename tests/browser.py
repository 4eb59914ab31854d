"""A real headless Chromium, spoken to by its own protocol over two pipes: no driver, no package."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "there is no Chromium here (apt-get install chromium)"
FLAGS = (
    "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--use-angle=swiftshader", "--disable-extensions",
    "--enable-unsafe-swiftshader", "--no-first-run", "--disable-component-update", "--disable-background-networking",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=700,600",
)  # fmt: skip
WAIT_S = 30.0


class Page:
    """A window of the browser; remembers what was asked of the network and what the console said."""

    def __init__(self, send: Callable[..., dict[str, Any]], session: str, events: list[dict[str, Any]]) -> None:
        self.send, self.session, self.events = send, session, events
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        return self.send(method, self.session, **params)

    def open(self, url: str) -> None:
        """Go somewhere, and wait until it is there."""
        self.events.clear()
        assert "errorText" not in (went := self.call("Page.navigate", url=url)), went
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, code: str) -> Any:
        """Evaluate JavaScript; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, code: str) -> Any:
        """Wait until JavaScript says something true; return it."""
        end = time.monotonic() + WAIT_S
        while not (found := self.run(code)):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.02)
        return found

    def press(self, key: str, text: str = "", shift: bool = False) -> None:
        """Press a key where the focus is."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
        about = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0])), "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def asked(self) -> list[str]:
        """Return all addresses that were asked for, but for data that stands in the page."""
        urls = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """Return what the console said, and errors."""
        said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"])[:400] for event in self.events if event["method"] in said]


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start a browser and give a window of it."""
    assert CHROMIUM is not None
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()

    def wire() -> None:
        # Chromium reads from 3 and writes to 4; these numbers may be taken by the pipes themselves.
        into, out = os.dup(read_in), os.dup(write_out)
        os.dup2(into, 3)
        os.dup2(out, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_in)
    os.close(write_out)
    events: list[dict[str, Any]] = []
    number, rest = 0, b""

    def send(method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        nonlocal number, rest
        number += 1
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(write_in, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in rest:
                rest += os.read(read_out, 1 << 20) or b'{"id":-1,"error":"the browser has ended"}\0'
            one, rest = rest.split(b"\0", 1)
            answer = json.loads(one)
            if "method" in answer:
                events.append(answer)
            elif answer["id"] in (number, -1):
                assert "error" not in answer, answer
                return dict(answer["result"])

    try:
        target = send("Target.createTarget", url="about:blank")["targetId"]
        session = send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        yield Page(send, session, events)
    finally:
        process.kill()
        process.wait()
        os.close(write_in)
        os.close(read_out)
