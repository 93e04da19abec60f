"""A provisioning service's device side over HTTPS, as good or as bad as a test wants it."""

import base64
import hashlib
import hmac
import json
import urllib.parse

from .https import SecureHandler, SecureServer


class Handler(SecureHandler):
    def setup(self):
        super().setup()
        leaf = self.request.getpeercert(True)
        self.leaf = hashlib.sha256(leaf).hexdigest().upper() if leaf else None

    def serve(self):
        status, headers, content = self.owner.answer(self.command, self.path, self.headers, self.body(), self.leaf)
        if status is None:
            self.close_connection = True
            self.wfile.write(content)
            return
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = serve


class Service:
    """Assigns whoever proves a key, or shows a certificate, to `hub`; `script` may answer first."""

    SCOPE = "0ne00000001"

    def __init__(self, certificates, hub=None, keys=None, authority=None, port=0):
        self.certificates, self.hub, self.keys = certificates, hub, keys or {}
        self.device = None  # nil: the registration id
        self.script = None  # (method, path, service) -> (status, headers, body) or None
        self.requests, self.operations, self.leaves = [], {}, []
        self.server = SecureServer(self, Handler, certificates, authority, port)
        self.port = self.server.port

    @property
    def place(self):
        return f"localhost:{self.port}"

    def stop(self):
        self.server.stop()

    def answer(self, method, path, headers, body, leaf):
        self.requests.append((method, path))
        if self.script and (said := self.script(method, path, self)):
            return said
        parts = [urllib.parse.unquote(part) for part in path.partition("?")[0].split("/")[1:]]
        if parts[0] != self.SCOPE or parts[1] != "registrations" or "api-version=" not in path:
            return self.document(401, {"errorCode": 401002, "message": "Unauthorized"})
        name = parts[2]
        if leaf:
            self.leaves.append(leaf)
        elif not self.is_proved(name, headers.get("Authorization", "")):
            return self.document(401, {"errorCode": 401002, "message": "Unauthorized"})
        if method == "PUT" and parts[3:] == ["register"]:
            assert json.loads(body)["registrationId"] == name
            operation = f"4.{len(self.operations):016x}.of {name}"
            self.operations[operation] = name
            return self.document(202, {"operationId": operation, "status": "assigning"}, {"Retry-After": "1"})
        if method == "GET" and parts[3] == "operations" and self.operations.get(parts[4]) == name:
            state = {"registrationId": name, "status": "assigned", "assignedHub": self.hub, "deviceId": self.device or name,
                     "substatus": "initialAssignment"}
            return self.document(200, {"operationId": parts[4], "status": "assigned", "registrationState": state})
        return self.document(404, {"errorCode": 404202, "message": "Operation not found"})

    def is_proved(self, name, token):
        kind, _, rest = token.partition(" ")
        fields = dict(part.split("=", 1) for part in rest.split("&") if "=" in part)
        if kind != "SharedAccessSignature" or fields.get("skn") != "registration" or name not in self.keys:
            return False
        if urllib.parse.unquote(fields["sr"]) != f"{self.SCOPE}/registrations/{name}":
            return False
        message = f"{fields['sr']}\n{fields['se']}".encode()
        wanted = hmac.new(base64.b64decode(self.keys[name]), message, hashlib.sha256).digest()
        return base64.b64decode(urllib.parse.unquote(fields["sig"])) == wanted

    @staticmethod
    def document(status, body, headers=None):
        return status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, json.dumps(body).encode()

    @property
    def registrations(self):
        """How often somebody began to register."""
        return sum(method == "PUT" for method, _ in self.requests)
