"""A stand-in of the Hugging Face hub on this machine, for making, filling and fetching a repository."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0" * 39 + "1"


class Hub(BaseHTTPRequestHandler):
    """Keeps the files of repositories in memory, by repository and path."""

    files: dict[str, dict[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[-1] == "validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif parts[-1] == "create":
            told = json.loads(body)
            name = "/".join(filter(None, (told.get("organization"), told["name"])))
            self.files.setdefault(name, {})
            self._json({"url": f"http://{self.headers['Host']}/{name}"})
        elif "preupload" in parts:
            asked = json.loads(body)["files"]
            self._json({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]})
        elif "commit" in parts:
            name = "/".join(parts[2:4])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[name][value["path"]] = base64.b64decode(value["content"])
            self._json(
                {
                    "success": True,
                    "commitOid": COMMIT,
                    "commitUrl": f"http://{self.headers['Host']}/{name}/commit/{COMMIT}",
                }
            )
        else:
            self._json({}, 404)

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "api":
            name = "/".join(parts[2:4])
            if name not in self.files:
                self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                return
            entries = [{"rfilename": path, "size": len(data)} for path, data in self.files[name].items()]
            tree = [{"type": "file", "path": e["rfilename"], "size": e["size"], "oid": "0"} for e in entries]
            self._json(tree if "tree" in parts else {"id": name, "sha": COMMIT, "siblings": entries, "private": False})
            return
        name, path = "/".join(parts[:2]), "/".join(parts[4:])  # OWNER/NAME/resolve/REVISION/PATH
        self._send(self.files[name][path], {"ETag": f'"{hashlib.sha1(self.files[name][path]).hexdigest()}"'})

    do_HEAD = do_GET

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})}, status)

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def hub() -> Iterator[tuple[str, dict[str, dict[str, bytes]]]]:
    """The address of a new hub, and its files."""
    handler = type("OneHub", (Hub,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.files
    finally:
        server.shutdown()
        server.server_close()
