"""A webhook for custom allocation, over HTTPS."""

import json

from .https import SecureHandler, SecureServer


class Handler(SecureHandler):
    def do_POST(self):
        question = json.loads(self.body())
        self.owner.questions.append((self.path, question))
        answer = self.owner.answer(question)
        if answer is None:
            self.close_connection = True
            return
        status, body = answer
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Webhook:
    """Answers with what `answer` makes of the question: (status, body), or None for silence."""

    def __init__(self, certificates, answer):
        self.questions, self.answer = [], answer
        self.server = SecureServer(self, Handler, certificates)
        self.url = f"https://localhost:{self.server.port}/allocate?code=x"

    def close(self):
        self.server.stop()
