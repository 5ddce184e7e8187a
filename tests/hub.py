"""A stand-in for the Hugging Face hub: the part of its API that huggingface_hub's client asks for, in this process."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants as constants
import pytest

TOKEN = "hf_of_a_user"


class Hub:
    """Repositories: commits by their id, newest last, each with all files; and names of commits."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.names: dict[str, dict[str, str]] = {}
        self.private: dict[str, bool] = {}
        self.url = ""

    def files(self, repo: str, revision: str = "main") -> tuple[str, dict[str, bytes]]:
        commit = self.names[repo].get(revision, revision)
        return commit, self.commits[repo][commit]

    def made(self, repo: str, private: bool) -> None:
        if repo not in self.commits:
            first = hashlib.sha1(repo.encode()).hexdigest()
            self.commits[repo], self.names[repo] = {first: {}}, {"main": first}
            self.private[repo] = private

    def commit(self, repo: str, branch: str, lines: list[dict[str, Any]]) -> str:
        files = dict(self.files(repo, branch)[1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                files.pop(value["path"])
        commit = hashlib.sha1(repr((len(self.commits[repo]), sorted(files))).encode()).hexdigest()
        self.commits[repo][commit] = files
        self.names[repo][branch] = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid credentials"}, X_Error_Message="Invalid username or password.")
            return
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            asked = json.loads(content)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.hub.made(repo, bool(asked.get("private")) or asked.get("visibility") == "private")
            self.answer(200, {"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})
            return
        if path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
            return
        _, _, _, user, name, what, revision = unquote(path).split("/", 6)
        repo = f"{user}/{name}"
        if what == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            self.answer(200, {"files": files})
        else:
            lines = [json.loads(line) for line in content.splitlines()]
            commit = self.hub.commit(repo, revision, lines)
            url = f"{self.hub.url}/{repo}/commit/{commit}"
            self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        try:
            if parts[:2] == ["api", "models"]:
                repo, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
                commit, files = self.hub.files(repo, revision)
                if len(parts) > 4 and parts[4] == "tree":
                    self.answer(200, [self.entry(path, content) for path, content in files.items()])
                    return
                found = {"id": repo, "modelId": repo, "sha": commit, "private": self.hub.private[repo]}
                self.answer(200, {**found, "siblings": [{"rfilename": path} for path in files], "tags": []})
                return
            repo, revision, path = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            commit, files = self.hub.files(repo, revision)
            if path not in files:
                self.missing("EntryNotFound")
                return
            content = files[path]
            etag = hashlib.sha1(content).hexdigest()
            self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=commit, Accept_Ranges="bytes")
        except (KeyError, IndexError):
            self.missing("RevisionNotFound" if "/".join(parts[:2]) in self.hub.commits else "RepoNotFound")

    def missing(self, what: str) -> None:
        self.answer(404, {"error": "not found"}, X_Error_Code=what, X_Error_Message="not found")

    def do_HEAD(self) -> None:
        self.do_GET()

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def standing_in(patch: pytest.MonkeyPatch, cache: Any) -> Iterator[Hub]:
    """A hub that huggingface_hub's own client talks to, with an empty cache."""
    hub = Hub()
    handler = type("Own", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    patch.setenv("HF_TOKEN", TOKEN)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
