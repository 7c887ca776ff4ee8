"""A small Hugging Face hub on this machine: one repository, served as the real one answers, with faults on demand."""

import dataclasses
import hashlib
import http.server
import json
import threading
import urllib.parse

COMMIT = "c0ffee" + "0" * 34
LARGE = 1000  # bytes from which a file is kept as the hub keeps large ones, by its SHA-256


@dataclasses.dataclass
class Hub:
    """What is served and what goes wrong.

    Attributes:
        repo: owner/name.
        files: contents by name.
        commit: what the branch main is at.
        status: answered to everything instead, with the hub's code for the error.
        cut: after so many bytes the next download breaks off.
        altered: names whose contents are not what is told of them.
        requests: what was asked, in order.
    """

    repo: str
    files: dict[str, bytes]
    commit: str = COMMIT
    status: tuple[int, str] | None = None
    cut: int = 0
    altered: set[str] = dataclasses.field(default_factory=set)
    requests: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)

    def about(self):
        """Returns what the API tells of the repository."""
        told = {"id": self.repo, "modelId": self.repo, "sha": self.commit, "tags": [], "private": False, "downloads": 0}
        return {**told, "siblings": [self.sibling(n) for n in self.files]}

    def sibling(self, name):
        content = self.files[name]
        told = {"rfilename": name, "size": len(content), "blobId": git_checksum(content)}
        if len(content) >= LARGE:
            told["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return told


def git_checksum(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub: Hub = self.server.hub
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if hub.status:
            return self.fail(*hub.status)
        api, files = f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/"
        if path in (api, *(f"{api}/revision/{r}" for r in ("main", hub.commit))):
            return self.send(200, json.dumps(hub.about()).encode(), {"Content-Type": "application/json"})
        if path.startswith(f"{api}/revision/"):
            return self.fail(404, "RevisionNotFound")
        if not path.startswith(files):
            return self.fail(404, "RepoNotFound")
        name = path.removeprefix(files).partition("/")[2]
        return self.send_file(hub, name) if name in hub.files else self.fail(404, "EntryNotFound")

    def send_file(self, hub, name):
        content, told = hub.files[name], hub.sibling(name)
        etag = told["lfs"]["sha256"] if "lfs" in told else told["blobId"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        if name in hub.altered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if self.headers.get("Range"):
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206 if self.headers.get("Range") else 200, content[start:], headers, hub)

    def send(self, status, content, headers, hub=None):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub is not None and 0 < hub.cut < len(content):
            self.wfile.write(content[: hub.cut])
            hub.cut = 0
            self.close_connection = True
            return
        self.wfile.write(content)

    def fail(self, status, code):
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})


class Server:
    """Serves a hub while the block runs."""

    def __init__(self, hub):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.hub = hub
        self.endpoint = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
