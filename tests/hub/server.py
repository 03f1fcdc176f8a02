"""
A Hub on loopback: the part of the Hub's HTTP interface that pushing, and loading what was pushed, use.

Large files (by their ending) go the way of LFS, all others into the commit. Nothing is stored on disk.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .store import Files, Repo, Store


TOKEN = "hf_of_the_tests"
OWNER = "tester"
LARGE = (".safetensors", ".parquet", ".png")
_REPO = r"(?P<id>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<type>models|datasets)/{_REPO}"


class NotFoundError(Exception):
    """No such repository, revision or file: answered by 404 and the Hub's code for it."""


class Handler(BaseHTTPRequestHandler):
    """One method per kind of request; [`ROUTES`] says which."""

    protocol_version = "HTTP/1.1"
    store: Store
    data: bytes  # the request's body

    # Pushing

    def who(self, match):
        self.reply({"name": OWNER, "type": "user", "orgs": []} if self.is_owner else {}, 200 if self.is_owner else 401)

    def create_repo(self, match):
        asked = self.json()
        repo_id = f"{asked.get('organization') or OWNER}/{asked['name'].rpartition('/')[2]}"
        kind = f"{asked.get('type') or 'model'}s"
        url = f"http://{self.headers['Host']}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        exists = (kind, repo_id) in self.store.repos
        if not exists:
            self.store.repos[kind, repo_id] = Repo(asked.get("visibility") == "private")
        self.reply({"url": url, "name": repo_id}, 409 if exists else 200)

    def validate_card(self, match):
        self.reply({"errors": [], "warnings": []})

    def create_branch(self, match):
        repo, branch = self.repo(match), match["rev"]
        exists = branch in repo.branches
        if not exists:
            start = repo.find(self.json().get("startingPoint", "main"))
            repo.branches[branch] = [start]
        self.reply({}, 409 if exists else 200)

    def preupload(self, match):
        self.commit_of(match)
        files = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
            for file in self.json()["files"]
        ]
        self.reply({"files": [file | {"shouldIgnore": False} for file in files]})

    def large_files(self, match):
        def answer(asked: dict) -> dict:
            href = f"http://{self.headers['Host']}/upload/{asked['oid']}"
            return asked | ({} if asked["oid"] in self.store.large else {"actions": {"upload": {"href": href}}})

        self.reply({"transfer": "basic", "objects": [answer(asked) for asked in self.json()["objects"]]})

    def upload(self, match):
        data = self.data
        is_whole = hashlib.sha256(data).hexdigest() == match["oid"]
        if is_whole:
            self.store.large[match["oid"]] = data
        self.reply({}, 200 if is_whole else 400)

    def commit(self, match):
        lines = [json.loads(line) for line in self.data.splitlines()]
        if self.store.refuses(match["id"]):
            self.send(b"{}", 403, {"X-Error-Message": "Storage quota exceeded."})
            return
        repo, branch = self.repo(match), match["rev"]
        if branch not in repo.branches:
            raise NotFoundError("RevisionNotFound")
        header = next(line["value"] for line in lines if line["key"] == "header")
        with self.store.lock:
            added, deleted = self.changes(lines)
            oid = repo.commit(branch, added, deleted, header["summary"])
        url = f"http://{self.headers['Host']}/{match['id']}/commit/{oid}"
        self.reply({"success": True, "commitOid": oid, "commitUrl": url})

    def changes(self, lines: list[dict]) -> tuple[Files, set[str]]:
        """Files that a commit adds, and paths that it deletes."""
        added, deleted = {}, set()
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                added[value["path"]] = self.store.large[value["oid"]]
            elif line["key"] == "deletedFile":
                deleted.add(value["path"])
        return added, deleted

    # Loading

    def repo_info(self, match):
        oid, repo = self.commit_of(match), self.repo(match)
        siblings = [{"rfilename": path} for path in repo.commits[oid]]
        self.reply({"id": match["id"], "sha": oid, "private": repo.is_private, "siblings": siblings, "tags": []})

    def tree(self, match):
        files = self.repo(match).commits[self.commit_of(match)]
        folder = match["path"] + "/" if match["path"] else ""
        self.reply([_entry(path, data) for path, data in files.items() if path.startswith(folder)])

    def paths_info(self, match):
        files = self.repo(match).commits[self.commit_of(match)]
        self.reply([_entry(path, files[path]) for path in self.json()["paths"] if path in files])

    def resolve(self, match):
        oid = self.commit_of(match)
        files = self.repo(match).commits[oid]
        if match["path"] not in files:
            raise NotFoundError("EntryNotFound")
        data = files[match["path"]]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data = data[first : last + 1]
        self.send(data, 206 if asked else 200, headers)

    # Plumbing

    @property
    def is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, match) -> Repo:
        kind = match.groupdict().get("type") or "models"
        repo = self.store.repos.get((kind.rstrip("/"), match["id"]))
        if repo is None or (repo.is_private and not self.is_owner):
            raise NotFoundError("RepoNotFound")
        return repo

    def commit_of(self, match) -> str:
        oid = self.repo(match).find(match["rev"] or "main")
        if oid is None:
            raise NotFoundError("RevisionNotFound")
        return oid

    def body(self) -> bytes:
        """Read once: what is left of it would be taken for the next request."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def json(self) -> dict:
        return json.loads(self.data or b"{}")

    def reply(self, answer: dict | list, status: int = 200) -> None:
        self.send(json.dumps(answer).encode(), status, {"Content-Type": "application/json"})

    def send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.data = self.body()
        try:
            for method, pattern, answer in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in (method, "HEAD" if method == "GET" else method):
                    return answer(self, match)
            raise NotFoundError("EntryNotFound")
        except NotFoundError as error:
            self.send(b"{}", 404, {"X-Error-Code": str(error), "X-Error-Message": f"{error}: {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *args):
        """Tests look at what the server holds, not at its log."""


ROUTES = (
    ("GET", "/api/whoami-v2", Handler.who),
    ("POST", "/api/repos/create", Handler.create_repo),
    ("POST", "/api/validate-yaml", Handler.validate_card),
    ("POST", rf"{_API}/branch/(?P<rev>.+)", Handler.create_branch),
    ("POST", rf"{_API}/preupload/(?P<rev>.+)", Handler.preupload),
    ("POST", rf"/(?P<type>datasets/)?{_REPO}\.git/info/lfs/objects/batch", Handler.large_files),
    ("PUT", r"/upload/(?P<oid>\w+)", Handler.upload),
    ("POST", rf"{_API}/commit/(?P<rev>.+)", Handler.commit),
    ("GET", rf"{_API}(?:/revision/(?P<rev>.+))?", Handler.repo_info),
    ("GET", rf"{_API}/tree/(?P<rev>[^/]+)/?(?P<path>.*)", Handler.tree),
    ("POST", rf"{_API}/paths-info/(?P<rev>.+)", Handler.paths_info),
    ("GET", rf"/(?P<type>datasets/)?{_REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", Handler.resolve),
)


def _entry(path: str, data: bytes) -> dict:
    oid = hashlib.sha256(data).hexdigest()
    entry = {"type": "file", "path": path, "size": len(data), "oid": oid[:40]}
    return entry | ({"lfs": {"oid": oid, "size": len(data), "pointerSize": 134}} if path.endswith(LARGE) else {})


@contextmanager
def running_hub() -> Iterator[tuple[Store, str]]:
    """A Hub while the block runs: what it holds, and its address."""
    store = Store()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"store": store}))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield store, f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def hub_environment(url: str, cache: Path) -> dict[str, str]:
    """Environment of a process that uses a Hub: logged in, with a cache of its own."""
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    return environment
