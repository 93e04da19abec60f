"""An HTTPS server of a test's own, on a thread of its own; subclasses say what it answers."""

import http.server
import ssl
import threading


class SecureHandler(http.server.BaseHTTPRequestHandler):
    """One connection. A subclass has `do_GET` and the like, and `owner`: whose server it is."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        self.request.settimeout(30)
        self.request.do_handshake()
        super().setup()

    @property
    def owner(self):
        return self.server.owner

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, *_):
        pass


class SecureServer(http.server.ThreadingHTTPServer):
    """Listens from the start. `certificates` are the hub's; a client may show one that `authority` issued."""

    daemon_threads = True

    def __init__(self, owner, handler, certificates, authority=None, port=0):
        self.owner = owner
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(str(certificates.chain), str(certificates.key))
        if authority:
            self._context.load_verify_locations(str(authority))
            self._context.verify_mode = ssl.CERT_OPTIONAL
        super().__init__(("127.0.0.1", port), handler)
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def get_request(self):
        plain, address = super().get_request()
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_):
        pass

    def stop(self):
        self.shutdown()
        self.server_close()
        self._thread.join(5)
