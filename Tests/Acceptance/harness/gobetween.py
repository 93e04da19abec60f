"""A hub's HTTPS port at another address, where every request can be watched, held or lost."""

from .https import SecureHandler, SecureServer


class Handler(SecureHandler):
    def serve(self):
        between, body, path = self.owner, self.body(), self.path.split("?")[0]
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


class GoBetween:
    """Passes requests on to `hub`. `watch(phase, method, path)` is asked before and after each: with false the requester hears nothing."""

    def __init__(self, hub, certificates):
        self.hub, self.watch = hub, lambda phase, method, path: True
        self.requests = []
        self.server = SecureServer(self, Handler, certificates)
        self.port = self.server.port

    def close(self):
        self.server.stop()
