"""The server on this computer: files in, results out, one after the other; whoever has no business here is refused."""

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import browser
import pytest
from command_line import run as lvdreg
from fake_registration import fake_registration
from PIL import Image

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from lvdreg.base.errors import ScanError
from lvdreg.serve import work as worker
from lvdreg.serve.app import Limits
from lvdreg.serve.jobs import Job, Kind, Store, new_job
from lvdreg.serve.run import server_at
from lvdreg.serve.turn import Turn

MODELS: dict[Kind, list[str]] = {"scan": ["anny+d", "anny"], "hand": ["anny-hand+d"], "photo": ["anny"]}
FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
LIMITS = Limits(max_bytes=1000, max_waiting=3, max_kept=40)
WAIT_S = 30.0


@dataclass
class Served:
    """A server at work in a thread."""

    root: Path
    store: Store = field(init=False)
    address: str = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.store = Store.opened(self.root)
        self.app, self.address = server_at(self.store, self.port, LIMITS, MODELS, Turn(self.store, FAKE))
        self.thread = threading.Thread(target=self.app.run, args=([self.socket],))
        self.thread.start()

    def stop(self) -> None:
        self.app.should_exit = True
        self.thread.join()
        self.socket.close()

    @property
    def own(self) -> dict[str, str]:
        """What the page sends with every request."""
        return {
            "Host": f"127.0.0.1:{self.port}",
            "Origin": f"http://127.0.0.1:{self.port}",
            "Cookie": f"lvdreg={self.store.token}",
            "x-lvdreg-token": self.store.token,
        }

    def ask(
        self, method: str, path: str, body: bytes | None = None, changes: dict[str, str | None] | None = None
    ) -> tuple[int, bytes]:
        """Send a request with headers of our own, but for changes; None takes one away."""
        headers = self.own | ({"Content-Type": "application/octet-stream"} if body is not None else {})
        headers = {"Content-Length": str(len(body or b""))} | headers | (changes or {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def send(self, words: str, name: str = "scan.ply", **options: str) -> Any:
        """Upload a scan; return what the server says of its job."""
        query = urlencode({"kind": "scan", "name": name, **options})
        status, answer = self.ask("POST", f"/jobs?{query}", words.encode())
        assert status == 201, answer
        return json.loads(answer)

    def ended(self, job: Any) -> Job:
        """Wait until a job is done or failed."""
        end = time.monotonic() + WAIT_S
        while self.store.jobs[job["id"]].state in ("waiting", "running"):
            assert time.monotonic() < end
            time.sleep(0.01)
        return self.store.jobs[job["id"]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all tests of this file."""
    found = Served(tmp_path_factory.mktemp("served"))
    yield found
    found.stop()


def test_a_scan_goes_in_and_its_result_comes_out(served: Served) -> None:
    job = served.send("good", "A scan.ply")
    done = served.ended(job)
    assert (done.state, done.verdict, done.reason, done.name) == ("done", "check", "made in auto", "A scan.ply")
    (told,) = [each for each in json.loads(served.ask("GET", "/jobs")[1]) if each["id"] == job["id"]]
    assert told["files"] == ["page", "zip", "glb"] and told["options"] == {
        "model": "anny+d",
        "unit": "auto",
        "up": "auto",
    }
    assert served.ask("GET", f"/jobs/{job['id']}/glb") == (200, b"glTF")
    archive = zipfile.ZipFile(io.BytesIO(served.ask("GET", f"/jobs/{job['id']}/zip")[1]))
    assert archive.namelist() == ["A scan/report.json"]
    status, answer = served.ask("POST", f"/jobs/{job['id']}/again?unit=cm")
    again = json.loads(answer)
    assert status == 201 and again["id"] != job["id"] and served.ended(again).reason == "made in cm"
    assert b"unit cm" in served.ask("GET", f"/jobs/{again['id']}/page")[1]
    assert served.ask("DELETE", f"/jobs/{job['id']}")[0] == 204 and not served.store.folder(job["id"]).exists()
    assert served.ask("GET", f"/jobs/{again['id']}/page")[0] == 200, "the other one has its own file"


def test_a_crash_costs_one_job(served: Served) -> None:
    jobs = [served.send(words) for words in ("crash", "bad", "good")]
    assert [served.ended(job).state for job in jobs] == ["failed", "failed", "done"]
    assert "its process was ended" in served.ended(jobs[0]).reason
    assert served.ended(jobs[1]).reason == "expected points, got none"


def test_a_full_disk_ends_no_turn(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Store._write

    def full(store: Store, job: Job) -> None:
        if job.state != "waiting":
            raise OSError(28, "No space left on device")
        write(store, job)

    monkeypatch.setattr(Store, "_write", full)
    assert [served.ended(served.send("good")).state for _ in range(2)] == ["done", "done"]


def test_so_many_wait_and_no_more(served: Served) -> None:
    slow = served.send("slow")
    waiting = [served.send("good") for _ in range(LIMITS.max_waiting)]
    # The first of them may not have begun.
    extra = [served.ask("POST", "/jobs?kind=scan&name=a.ply", b"good")[0] for _ in range(2)]
    assert 429 in extra and served.store.jobs[slow["id"]].state == "running"
    assert served.ask("DELETE", f"/jobs/{slow['id']}")[0] == 204
    assert [served.ended(job).state for job in waiting] == ["done"] * LIMITS.max_waiting


def test_nothing_finished_is_lost(tmp_path: Path) -> None:
    first = Served(tmp_path / "root")
    done, slow = first.send("good"), first.send("slow")
    assert first.ended(done).state == "done"
    token = first.store.token
    first.stop()  # as if killed: nothing is written at the end
    assert json.loads((first.store.folder(slow["id"]) / "job.json").read_text())["state"] in ("running", "waiting")
    cut_off = first.store.upload(new_job("x.ply", "scan", {}).id, "x.ply")
    cut_off.write_text("half a")
    first.store.input(Job(**{k: slow[k] for k in ("id", "name", "kind", "options", "created")})).write_text("good")
    again = Served(tmp_path / "root")
    assert again.ended(slow).state == "done" and again.ended(done).verdict == "check"
    assert again.ask("GET", f"/jobs/{done['id']}/zip")[0] == 200 and again.store.token == token
    assert not cut_off.exists() and (tmp_path / "root").stat().st_mode & 0o077 == 0
    assert (tmp_path / "root/token").stat().st_mode & 0o077 == 0
    again.stop()


ID = "0123456789abcdef" * 2
LONG = "a" * 300
UPLOAD = "/jobs?kind=scan&name=a.ply"
THUMB = f"/jobs/{ID}/thumbnail"
CHUNKED: dict[str, str | None] = {"Content-Length": None, "Transfer-Encoding": "chunked"}
HOSTILE: dict[str, tuple[int, str, str, bytes | None, dict[str, str | None]]] = {
    "a name that leads here": (421, "GET", "/", None, {"Host": "evil.example"}),
    "another port": (421, "GET", "/", None, {"Host": "127.0.0.1:1"}),
    "no host": (400, "GET", "/", None, {"Host": None}),
    "no cookie": (401, "GET", "/jobs", None, {"Cookie": None}),
    "a wrong cookie": (401, "GET", "/jobs", None, {"Cookie": "lvdreg=x"}),
    "a wrong token": (401, "GET", "/?token=x", None, {"Cookie": None}),
    "a token elsewhere": (401, "GET", "/jobs?token=TOKEN", None, {"Cookie": None}),
    "another page": (403, "POST", UPLOAD, b"good", {"Origin": "http://evil.example"}),
    "a page of nobody": (403, "POST", UPLOAD, b"good", {"Origin": "null"}),
    "a page of another port": (403, "POST", UPLOAD, b"good", {"Origin": "http://127.0.0.1:1"}),
    "no page": (403, "POST", UPLOAD, b"good", {"Origin": None}),
    "a form without the token": (403, "POST", UPLOAD, b"good", {"x-lvdreg-token": None}),
    "a picture in another page": (403, "GET", THUMB, None, {"Origin": None, "Sec-Fetch-Site": "cross-site"}),
    "a path upwards": (404, "GET", "/jobs/../../token", None, {}),
    "a hidden path upwards": (404, "GET", "/jobs/%2e%2e%2f%2e%2e%2ftoken/zip", None, {}),
    "a path below a job": (404, "GET", f"/jobs/{ID}/..%2fjob.json", None, {}),
    "a file of the server": (404, "GET", f"/jobs/{ID}/job.json", None, {}),
    "an absolute path": (404, "GET", "//etc/passwd", None, {}),
    "a name upwards": (400, "POST", "/jobs?kind=scan&name=..%2f..%2fa.ply", b"good", {}),
    "a name of Windows": (400, "POST", "/jobs?kind=scan&name=C%3A%5Ca.ply", b"good", {}),
    "a name with a zero": (400, "POST", "/jobs?kind=scan&name=a%00.ply", b"good", {}),
    "a long name": (400, "POST", f"/jobs?kind=scan&name={LONG}.ply", b"good", {}),
    "an archive": (400, "POST", "/jobs?kind=scan&name=a.zip", b"PK", {}),
    "a program": (400, "POST", "/jobs?kind=photo&name=a.png.sh", b"#!", {}),
    "no name": (400, "POST", "/jobs?kind=scan", b"good", {}),
    "another kind": (400, "POST", "/jobs?kind=cat&name=a.ply", b"good", {}),
    "another unit": (400, "POST", f"{UPLOAD}&unit=parsec", b"good", {}),
    "another option": (400, "POST", f"{UPLOAD}&device=cuda", b"good", {}),
    "an option twice": (400, "POST", f"{UPLOAD}&unit=m&unit=mm", b"good", {}),
    "another model": (400, "POST", f"{UPLOAD}&model=..%2fmine", b"good", {}),
    "a form": (415, "POST", UPLOAD, b"good", {"Content-Type": "multipart/form-data; boundary=x"}),
    "text": (415, "POST", UPLOAD, b"good", {"Content-Type": "text/plain"}),
    "too much": (413, "POST", UPLOAD, b"x" * 1001, {}),
    "very much": (413, "POST", UPLOAD, b"", {"Content-Length": "9" * 15}),
    "without end": (411, "POST", UPLOAD, b"4\r\ngood\r\n0\r\n\r\n", CHUNKED),
    "nothing": (400, "POST", UPLOAD, b"", {}),
    "a body where there is none": (413, "POST", f"/jobs/{ID}/again", b"good", {}),
    "another method": (405, "PUT", "/jobs", None, {}),
    "a long path": (414, "GET", f"/{LONG}", None, {}),
    "a long query": (414, "GET", f"/jobs?a={'b' * 3000}", None, {}),
    "long headers": (431, "GET", "/", None, {"x-more": "a" * 40_000}),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_refused(case: str, served: Served) -> None:
    status, method, path, body, changes = HOSTILE[case]
    before = set(served.store.jobs), _names(served.root)
    path = path.replace("TOKEN", served.store.token)
    found, words = served.ask(method, path, body, changes)
    assert found == status, words
    assert b"Traceback" not in words and served.store.token.encode() not in words and b"root" not in words
    assert (set(served.store.jobs), _names(served.root)) == before


def _names(root: Path) -> set[str]:
    """Everything below a folder; what goes away while we look does no harm."""
    return {name for _, folders, files in os.walk(root) for name in (*folders, *files)}


def test_what_is_cut_off_leaves_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    before = _names(served.root)
    head = {**served.own, "Content-Type": "application/octet-stream", "Content-Length": "900"}
    lines = [f"POST {UPLOAD} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\nhalf of it")
        time.sleep(0.05)
    end = time.monotonic() + WAIT_S
    while _names(served.root) != before:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not [record for record in caplog.records if record.exc_info]


def test_answers_protect_the_browser(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=WAIT_S)
    connection.request("GET", served.address.removeprefix(f"http://127.0.0.1:{served.port}"))
    first = connection.getresponse()
    first.read()
    cookie = first.headers["set-cookie"]
    assert first.status == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie
    connection.request("GET", "/", headers={"Cookie": cookie.split(";")[0]})
    page = connection.getresponse()
    assert b"unsafe-inline" not in page.read() and page.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in page.headers and page.headers["server"] is None
    connection.close()


def test_the_work_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    task = {"kind": "scan", "file": "a.ply", "options": {"unit": "mm"}}
    task |= {"result": str(tmp_path / "result/person"), "archive": str(tmp_path / "result.zip")}

    def register(file: str, progress: Any, unit: str) -> Any:
        progress("fit")
        if unit != "mm":
            raise ScanError("expected points")
        return fake_registration(name="person")

    monkeypatch.setattr(worker, "_register", lambda kind: register)
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))
    done = worker.work(task, said.append)
    assert done["verdict"] == "good" and [each["stage"] for each in said] == ["fit", "write", "page"]
    with zipfile.ZipFile(tmp_path / "result.zip") as archive:
        assert {"person/report.json", "person/registered.ply"} <= set(archive.namelist())
    assert worker.work(task | {"options": {"unit": "m"}}, said.append) == {"reason": "expected points"}
    assert "report it" in worker.work(task | {"options": {"unit": "m", "up": "z"}}, said.append)["reason"]


def test_the_process_ends_with_the_server() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lvdreg.serve.work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.communicate(timeout=WAIT_S) == (b"", None) and process.returncode == 0


def test_wrong_calls(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = lvdreg("serve", "--out", tmp_path / "s", "--port", str(port), "--no-browser")
    assert ran.exit_code == 2 and "is taken by another program" in ran.output


@pytest.mark.skipif(browser.CHROMIUM is None, reason=browser.MISSING)
def test_the_whole_way_in_a_browser(served: Served, tmp_path: Path) -> None:
    scan = tmp_path / "<img src=x onerror=alert(1)>.ply"
    scan.write_text("good")
    card = "document.querySelector('#jobs li')"
    with browser.chromium(tmp_path / "profile") as page:
        page.open(served.address)
        assert page.run("location.search") == ""
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        node = page.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
        before = page.run("document.querySelectorAll('#jobs li').length")
        page.call("DOM.setFileInputFiles", files=[str(scan)], nodeId=node)
        page.until(f"document.querySelectorAll('#jobs li').length === {before + 1}")
        page.until(f"{card}.textContent.includes('made in auto')")
        assert scan.name in page.run(f"{card}.textContent") and not page.run(f"{card}.querySelectorAll('img').length")
        assert page.run("document.getElementById('said').textContent") == "All files are there."
        press = f"[...{card}.querySelectorAll('button')].find((b) => b.textContent === '{{}}').click()"
        page.run(press.format("Show in 3D"))
        assert page.until("document.querySelector('iframe')?.src.endsWith('/page')")
        assert page.run("document.querySelector('iframe').sandbox.value") == "allow-scripts"
        page.run(f"{card}.querySelector('select[data-name=unit]').value = 'cm'")
        page.run(press.format("Run again"))
        page.until(f"{card}.textContent.includes('made in cm')")
        link = f"{card}.querySelector('a[href$=zip]').href"
        assert page.run(f"fetch({link}).then((a) => a.text()).then((text) => text.slice(0, 2))") == "PK"
        page.run(press.format("Remove"))
        page.until(f"document.querySelectorAll('#jobs li').length === {before + 1}")
        own = f"http://127.0.0.1:{served.port}/"
        assert all(url.startswith(own) for url in page.asked()) and page.complaints() == []
