"""A stand-in for Google Cloud Storage, to which TensorFlow's own `gs://` file system talks.

TensorFlow has the service's addresses built in, so it is reached through a proxy: libcurl asks it,
as `https_proxy` says, for a way to `www.googleapis.com`, and gets one to this process, with a
certificate of an authority that only `CURL_CA_BUNDLE` knows. Nothing leaves the machine.

Answered is what TensorFlow 2.21 asks for, as its source has it
(`third_party/xla/xla/tsl/platform/cloud/gcs_file_system.cc`): metadata, ranges, lists, resumable
uploads, markers of directories, copies and deletions. As in the service, an object appears when its
upload is complete, and lists and reads see it at once.

It has to be another process than the one that serves: `tf.io.TFRecordWriter` holds Python's global
lock while it uploads.
"""

import contextlib
import datetime
import http.server
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trustme

HOSTS = ("www.googleapis.com", "storage.googleapis.com")

# So that a list of a few objects has several pages.
PAGE_SIZE = 4


@dataclass(frozen=True)
class StoredObject:
    """An object: what it holds, and which version of it this is."""

    content: bytes
    generation: int
    updated: str

    @property
    def metadata(self) -> dict[str, str]:
        return {
            "size": str(len(self.content)),
            "generation": str(self.generation),
            "updated": self.updated,
        }


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int = 200
    body: bytes | dict = b""
    headers: dict[str, str] = field(default_factory=dict)


class CloudStorage:
    """One bucket and its objects.

    Args:
        bucket: The name of the bucket.
    """

    def __init__(self, bucket: str):
        self.bucket = bucket
        self.objects = {}
        self.requests = []
        self.token = "a token"
        self.faults = []
        self._uploads = {}
        self._generations = 0
        self._lock = threading.Lock()

    def fail(self, status: int, times: int, applies: Callable[[Request], bool]) -> None:
        """Answers the next requests of a kind with an error."""
        self.faults += [(status, applies)] * times

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, as another client would."""
        self._generations += 1
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.objects[name] = StoredObject(content, self._generations, now)

    def answer(self, request: Request) -> Answer:
        """Returns the answer to a request."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault[1](request):
                    self.faults.remove(fault)
                    return Answer(fault[0], {"error": {"code": fault[0], "message": "a fault"}})
            if request.headers.get("authorization") != f"Bearer {self.token}":
                return Answer(401, {"error": {"code": 401, "message": "Anonymous caller"}})
            for method, pattern, answer in ROUTES:
                match = re.fullmatch(pattern, f"{request.host}{request.path}")
                if match and request.method == method:
                    parts = [urllib.parse.unquote(part) for part in match.groups()]
                    if parts[0] != self.bucket:
                        return Answer(404)
                    return answer(self, request, *parts[1:])
        return Answer(501)

    def _metadata_of_bucket(self, request):
        return Answer(body={"name": self.bucket, "location": "EUROPE-WEST1"})

    def _layout(self, request):
        return Answer(body={"hierarchicalNamespace": {"enabled": False}})

    def _metadata(self, request, name):
        return Answer(body=self.objects[name].metadata) if name in self.objects else Answer(404)

    def _read(self, request, name):
        if name not in self.objects:
            return Answer(404)
        content = self.objects[name].content
        bounds = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"]).groups()
        first, last = map(int, bounds)
        if first >= len(content):
            return Answer(416, b"out of range")
        return Answer(206, content[first : last + 1])

    def _list(self, request):
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter")
        names = {name: _cut(name, prefix, delimiter) for name in self.objects}
        found = {cut: cut != name for name, cut in names.items() if name.startswith(prefix)}
        left = [name for name in sorted(found) if name > request.query.get("pageToken", "")]
        page = left[: min(PAGE_SIZE, int(request.query.get("maxResults", PAGE_SIZE)))]
        listed = {
            "items": [{"name": name} for name in page if not found[name]],
            "prefixes": [name for name in page if found[name]],
        }
        more = {"nextPageToken": page[-1]} if len(page) < len(left) else {}
        return Answer(body={**{key: names for key, names in listed.items() if names}, **more})

    def _upload(self, request):
        name = request.query["name"]
        if request.query.get("ifGenerationMatch") == "0" and name in self.objects:
            return Answer(412)
        if request.query["uploadType"] == "media":
            self.write(name, request.body)
            return Answer(body=self.objects[name].metadata)
        session = str(len(self._uploads))
        self._uploads[session] = (name, bytearray())
        address = f"https://{HOSTS[0]}/upload/storage/v1/b/{self.bucket}/o?upload_id={session}"
        return Answer(headers={"Location": address})

    def _continue_upload(self, request):
        name, received = self._uploads[request.query["upload_id"]]
        # Nothing is said of an empty file.
        sizes = request.headers.get("content-range", "bytes 0/0")
        first, size = re.fullmatch(r"bytes (\*|\d+)(?:-\d+)?/(\d+)", sizes).groups()
        if first != "*":
            received[int(first) :] = request.body
        if len(received) < int(size):
            range_ = {"Range": f"bytes=0-{len(received) - 1}"} if received else {}
            return Answer(308, headers=range_)
        self.write(name, bytes(received))
        return Answer(body=self.objects[name].metadata)

    def _copy(self, request, source, target_bucket, target):
        if source not in self.objects or target_bucket != self.bucket:
            return Answer(404)
        self.write(target, self.objects[source].content)
        return Answer(body={"done": True})

    def _delete(self, request, name):
        return Answer(204) if self.objects.pop(name, None) else Answer(404)


def _cut(name, prefix, delimiter):
    """Returns the part of a name up to the first delimiter after a prefix."""
    end = name.find(delimiter, len(prefix)) if delimiter else -1
    return name if end < 0 or end + 1 == len(name) == len(prefix) else name[: end + 1]


_BUCKET = rf"{re.escape(HOSTS[0])}/storage/v1/b/([^/]+)"
_UPLOAD = rf"{re.escape(HOSTS[0])}/upload/storage/v1/b/([^/]+)/o"
ROUTES = (
    ("GET", _BUCKET, CloudStorage._metadata_of_bucket),
    ("GET", rf"{_BUCKET}/storageLayout", CloudStorage._layout),
    ("GET", rf"{_BUCKET}/o", CloudStorage._list),
    ("GET", rf"{_BUCKET}/o/([^/]+)", CloudStorage._metadata),
    ("DELETE", rf"{_BUCKET}/o/([^/]+)", CloudStorage._delete),
    ("POST", rf"{_BUCKET}/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)", CloudStorage._copy),
    ("GET", rf"{re.escape(HOSTS[1])}/([^/]+)/([^/]+)", CloudStorage._read),
    ("POST", _UPLOAD, CloudStorage._upload),
    ("PUT", _UPLOAD, CloudStorage._continue_upload),
)


@contextlib.contextmanager
def serve(storage: CloudStorage, ca_file: str) -> Iterator[dict[str, str]]:
    """Serves a bucket, and yields the environment in which TensorFlow finds it.

    Args:
        storage: What is served.
        ca_file: Where the certificate of the authority is written.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS).configure_cert(context)
    handler = type("Handler", (_Handler,), {"storage": storage, "context": context})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "https_proxy": f"http://127.0.0.1:{server.server_port}",
            "no_proxy": "",
            "CURL_CA_BUNDLE": str(ca_file),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": storage.token,
            "NO_GCE_CHECK": "true",
        }
        server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with it each answer takes 40 ms
    host = None

    def do_CONNECT(self):
        self.host = self.path.removesuffix(":443")
        self.send_response(200)
        self.end_headers()
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self):
        super().finish()
        self.connection.close()

    def _answer(self):
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.host, address.path, query, headers, self._body())
        answer = self.storage.answer(request)
        body = json.dumps(answer.body).encode() if isinstance(answer.body, dict) else answer.body
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *arguments):
        pass
