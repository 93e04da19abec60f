"""A hub's HTTPS port at another address, where every request can be watched, held or lost."""

import http.server
import ssl
import threading

from . import rest


class GoBetween:
    """Passes requests on to `hub`. `watch(phase, method, path)` is asked before and after each: with false the requester hears nothing."""

    def __init__(self, hub, certificates):
        self.hub, self.watch = hub, lambda phase, method, path: True
        self.requests = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(certificates.chain), str(certificates.key))
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                self.request.settimeout(20)
                self.request.do_handshake()
                super().setup()

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.split("?")[0]
                between.requests.append((self.command, path))
                self.close_connection = True
                if not between.watch("before", self.command, path):
                    return
                with between.hub.connect() as connection:
                    fields = {name: value for name, value in self.headers.items() if name.lower() in ("if-match", "authorization")}
                    answer = connection.exchange(self.command, self.path, fields, body or None)
                if not between.watch("after", self.command, path):
                    return
                self.close_connection = False
                self.send_response_only(answer.status)
                for name, value in answer.fields:
                    if name.lower() not in ("content-length", "connection"):
                        self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = serve

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
