"""Google Cloud Storage for tests: gcp-storage-emulator keeps the objects; here is the XML API, which it lacks.

obstore speaks Google's XML API (cloud.google.com/storage/docs/xml-api), the emulator the JSON one. Of the XML API this
serves what obstore asks for: put, also if there is no such object yet (x-goog-if-generation-match: 0), get, head,
delete, and list by prefix in pages. Multipart uploads are refused: files of a test stay below one part.

Run as: python gcs_server.py PORT BUCKET
"""

from __future__ import annotations

import sys
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.objects import _checksums, _delete, _make_object_resource
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

PAGE = 10
_lock = Lock()


class XmlHandler(RequestHandler):
    """The XML API over the emulator's storage."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # noqa: N802  (http.server's name)
        """Get an object, or list the bucket."""
        bucket, key, query = self._asked()
        if not key:
            self._list(bucket, query)
            return
        try:
            content, found = self.storage.get_file(bucket, key), self.storage.get_file_obj(bucket, key)
        except NotFound:
            self._answer(HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        self._answer(HTTPStatus.OK, content, found)

    do_HEAD = do_GET  # noqa: N815  (http.server's name)

    def do_PUT(self) -> None:  # noqa: N802  (http.server's name)
        """Put an object; with x-goog-if-generation-match: 0 only where there is none."""
        bucket, key, query = self._asked()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if query:
            self._answer(HTTPStatus.NOT_IMPLEMENTED)
            return
        made = _make_object_resource("http://gcs", bucket, key, "application/octet-stream", str(len(content)))
        with _lock:
            if self.headers.get("x-goog-if-generation-match") == "0" and self._there(bucket, key):
                self._answer(HTTPStatus.PRECONDITION_FAILED, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            try:
                self.storage.create_file(bucket, key, content, _checksums(content, made))
            except NotFound:
                self._answer(HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchBucket</Code></Error>")
                return
        self._answer(HTTPStatus.OK, b"", made)

    def do_DELETE(self) -> None:  # noqa: N802  (http.server's name)
        """Delete an object."""
        bucket, key, _ = self._asked()
        self._answer(HTTPStatus.NO_CONTENT if _delete(self.storage, bucket, key) else HTTPStatus.NOT_FOUND)

    def _asked(self) -> tuple[str, str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        return bucket, key, parse_qs(parts.query, keep_blank_values=True)

    def _there(self, bucket: str, key: str) -> bool:
        try:
            self.storage.get_file_obj(bucket, key)
        except NotFound:
            return False
        return True

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        """A page of the bucket's objects, in the order of their keys."""
        after = query.get("continuation-token", [""])[0]
        try:
            files, _ = self.storage.get_file_list(bucket, query.get("prefix", [""])[0] or None, None)
        except NotFound:
            self._answer(HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchBucket</Code></Error>")
            return
        files = sorted((one for one in files if one["name"] > after), key=lambda one: one["name"])
        page = files[:PAGE]
        rows = "".join(
            f"<Contents><Key>{escape(one['name'])}</Key><Generation>{one['generation']}</Generation>"
            f"<Size>{one['size']}</Size><LastModified>{one['updated']}</LastModified>"
            f'<ETag>"{one["etag"]}"</ETag></Contents>'
            for one in page
        )
        more = f"<NextContinuationToken>{escape(page[-1]['name'])}</NextContinuationToken>" if len(files) > PAGE else ""
        text = f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{rows}</ListBucketResult>"
        self._answer(HTTPStatus.OK, text.encode())

    def _answer(self, status: HTTPStatus, content: bytes = b"", found: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if found is not None:
            self.send_header("ETag", f'"{found["etag"]}"')
            self.send_header("x-goog-generation", found["generation"])
            self.send_header("Last-Modified", formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def main(port: int, bucket: str) -> None:
    """Serve one bucket, in memory, on 127.0.0.1, until killed."""
    storage = Storage(use_memory_fs=True)
    storage.create_bucket(bucket, {"name": bucket})
    ThreadingHTTPServer(("127.0.0.1", port), partial(XmlHandler, storage)).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
