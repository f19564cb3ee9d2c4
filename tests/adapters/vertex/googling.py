"""Vertex AI, Cloud Monitoring, Logging and Storage, as far as an adapter asks them: a process, on this machine only.

Each request and each answer is judged by Google's own discovery documents (discovering.py); what these leave to prose
is checked by the rules in cloud.py and cloud_endpoints.py, each with its negative control in test_google_rules.py.
Cloud Storage is spoken in two ways: its XML interface, which obstore uses and no document describes, and storage.v1,
which Google's own client uses.

Shown: that requests are well formed and in an order that Google's rules allow; what we do about refusals, lost answers,
operations that fail, and changes by hand. Not shown: permissions, quotas, time, routing, that the container starts.

``POST /_orders`` changes what happens next (see Cloud.order); ``GET /_state`` shows all there is.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cloud import Cloud, RefusalError
from discovering import Documents

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # an answer is one packet: two would wait for each other
    disable_nagle_algorithm = True
    documents: Documents
    cloud: Cloud
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        with self.lock:
            path = unquote(parts.path)
            if path == "/_state":
                return self.answer(200, self.cloud.state())
            if path == "/_orders":
                self.cloud.order(json.loads(data))
                return self.answer(200, {})
            if path.startswith("/download/storage/"):  # the media of what storage.v1 says there is
                parts = parts._replace(path=parts.path.removeprefix("/download"))
                path = path.removeprefix("/download")
            if path.startswith("/ui/"):  # google-api-core asks for operations under this name too
                parts = parts._replace(path=parts.path.replace("/ui/", "/v1/", 1))
                path = path.replace("/ui/", "/v1/", 1)
            if not path.startswith(("/v1/", "/v2/", "/v3/", "/storage/")):
                return self.store(path, query, data)
            try:
                status, body = self.judge(parts.path, query, data)
            except RefusalError as error:
                status, body = error.status, {"error": error.body(_STATUS.get(error.status, "INVALID_ARGUMENT"))}
            if body is None:  # the answer is lost
                self.close_connection = True
                self.connection.close()
                return None
        return self.answer(status, body)

    def judge(self, raw: str, query: dict[str, str], data: bytes) -> tuple[int, Any]:
        method = self.documents.find(self.command, raw)
        if method is None:
            raise RefusalError(404, f"{self.command} {raw} is no method of Google's")
        body = json.loads(data) if data else None
        faults = method.faults(query, body, lax="$alt" in query)
        if faults:
            raise RefusalError(400, f"{method.id}: {'; '.join(faults)}")
        self.cloud.calls.append(method.id)
        names = [unquote(one) for one in method.pattern.fullmatch(raw).groups()]  # type: ignore[union-attr]
        answer = self.cloud.call(method.id, names, query, body or {})
        if isinstance(answer, bytes):
            return 200, answer
        if answer is not None:
            wrong = method.answer_faults(answer)
            if wrong:
                raise RefusalError(500, f"the answer of this server to {method.id} is wrong: {wrong}")
        return 200, answer

    def store(self, path: str, query: dict[str, str], data: bytes) -> None:
        """The XML interface, of one bucket."""
        _, bucket, *rest = path.split("/", 2)
        key = rest[0] if rest else ""
        objects = self.cloud.objects
        act = {"PUT": "create", "POST": "create", "DELETE": "delete"}.get(self.command, "get" if key else "list")
        if not self.cloud.may(f"storage.objects.{act}"):
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
        if self.command == "GET" and not key:
            prefix = query.get("prefix", "")
            found = [(name, value) for name, value in sorted(objects.items()) if name.startswith(prefix)]
            listed = "".join(
                f"<Contents><Key>{name}</Key><LastModified>2026-11-22T00:00:00.000Z</LastModified><ETag>e</ETag>"
                f"<Size>{len(value)}</Size></Contents>"
                for name, value in found
            )
            text = f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
            return self.answer(200, text.encode(), "application/xml")
        if self.command == "PUT":
            objects[key] = data
            return self.answer(200, b"")
        if key not in objects:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if self.command == "DELETE":
            del objects[key]
            return self.answer(204, b"")
        return self.answer(200, objects[key])

    def answer(self, status: int, body: Any, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any  # noqa: N815  (the library's names)


def main() -> None:
    Handler.documents, Handler.cloud = Documents(), Cloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
