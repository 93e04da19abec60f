"""A provisioning service's device side over HTTPS, as good or as bad as a test wants it."""

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import urllib.parse


class Service:
    """Assigns whoever proves a key, or shows a certificate, to `hub`; `script` may answer first."""

    SCOPE = "0ne00000001"

    def __init__(self, certificates, hub=None, keys=None, authority=None, port=0):
        self.certificates, self.hub, self.keys = certificates, hub, keys or {}
        self.device = None  # nil: the registration id
        self.script = None  # (method, path, service) -> (status, headers, body) or None
        self.requests, self.operations, self.leaves = [], {}, []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(certificates.chain), str(certificates.key))
        if authority:
            context.load_verify_locations(str(authority))
            context.verify_mode = ssl.CERT_OPTIONAL
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                self.request.settimeout(30)
                self.request.do_handshake()
                leaf = self.request.getpeercert(True)
                self.leaf = hashlib.sha256(leaf).hexdigest().upper() if leaf else None
                super().setup()

            def serve(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                status, headers, content = service.answer(self.command, self.path, self.headers, body, self.leaf)
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

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                plain, address = super().get_request()
                return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def place(self):
        return f"localhost:{self.port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

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
