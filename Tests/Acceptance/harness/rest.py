"""HTTP/1.1 over raw TLS: requests that a library would refuse to send, and answers byte by byte."""

import json
import urllib.parse

from . import tls

VERSION = "2021-04-12"


class Response:
    def __init__(self, status, reason, fields, body, raw):
        self.status, self.reason, self.fields, self.body, self.raw = status, reason, fields, body, raw

    def __repr__(self):
        return f"<{self.status} {self.reason} {self.fields} {self.body[:400]!r}>"

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The name of the error that the header tells."""
        return self.header("iothub-errorcode")

    @property
    def code(self):
        """The number of a structured error, else the name in a classic one."""
        message = self.json["Message"]
        if message.startswith("{"):
            return json.loads(message)["errorCode"]
        return message.split("ErrorCode:")[1].split(";")[0]


class Connection:
    """One connection to the hub's HTTPS port, for any number of exchanges."""

    def __init__(self, address, ca, name="localhost", seconds=20.0, settings=None, opener=None):
        self.address, self.name = address, name
        self.socket = tls.connect(address, ca, name, seconds, settings, opener)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def request(self, method, target, headers=None, body=None, token=None):
        """Sends a request with content-length; a body that is no bytes goes as JSON."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.name}:{self.address[1]}"]
        if token:
            lines.append(f"Authorization: {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            lines.append("Content-Type: application/json; charset=utf-8")
        if body is not None or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body or b'')}")
        for key, value in (headers.items() if isinstance(headers, dict) else headers or []):
            lines.append(f"{key}: {value}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def _more(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError(f"the connection ended after {self.pending!r}")
        self.pending += piece

    def take(self, count):
        while len(self.pending) < count:
            self._more()
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def response(self, head=False, seconds=None):
        if seconds:
            self.socket.settimeout(seconds)
        while b"\r\n\r\n" not in self.pending:
            self._more()
        raw, self.pending = self.pending.split(b"\r\n\r\n", 1)
        lines = raw.decode("latin-1").split("\r\n")
        version, status, reason = (lines[0].split(" ", 2) + [""])[:3]
        assert version == "HTTP/1.1", lines[0]
        fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        answer = Response(int(status), reason, fields, b"", raw)
        if head or answer.status in (101, 204, 304):
            return answer
        if (answer.header("Transfer-Encoding") or "").lower() == "chunked":
            body = b""
            while True:
                while b"\r\n" not in self.pending:
                    self._more()
                size, self.pending = self.pending.split(b"\r\n", 1)
                length = int(size.split(b";")[0], 16)
                body += self.take(length)
                assert self.take(2) == b"\r\n"
                if not length:
                    break
            answer.body = body
        else:
            answer.body = self.take(int(answer.header("Content-Length") or 0))
        return answer

    def exchange(self, *arguments, seconds=None, **named):
        self.request(*arguments, **named)
        return self.response(head=arguments[0] == "HEAD", seconds=seconds)

    def ended(self, seconds=10.0):
        """Waits for the hub to close, and returns what it still said."""
        said, self.pending = self.pending + tls.read_to_end(self.socket, seconds), b""
        return said


def path(*segments, **query):
    """An encoded path with the api-version that a call needs."""
    text = "/" + "/".join(urllib.parse.quote(segment, safe="") for segment in segments)
    query = {"api-version": VERSION, **{key: value for key, value in query.items()}}
    return text + "?" + urllib.parse.urlencode({key: value for key, value in query.items() if value is not None})
