"""A blind leg whose every TCP segment the test decides: TLS in memory, records read one by one, bytes sent as a style says."""

import socket
import ssl
import time

from . import blind, tls

#: How bytes go out: all at once, one by one, cut anywhere, or held back for a moment.
STYLES = ["whole", "bytes", "cuts", "late"]


class Leg:
    """The client's end of a blind leg, step by step. What comes is taken off the socket record by record until TLS is over."""

    def __init__(self, address, name, settings, random, style="whole", session=None, seconds=30.0):
        self.socket = socket.create_connection(address, timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.random, self.style = random, style
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = settings.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)
        while self._wants(self.tls.do_handshake):
            self._receive()

    def _wants(self, step):
        """Takes a step of OpenSSL's; whether it needs another record."""
        try:
            step()
            return False
        except ssl.SSLWantReadError:
            return True
        finally:
            self.say(self.outgoing.read(), "whole")

    def _receive(self):
        """Takes exactly one record."""
        head = self._exactly(5)
        self.incoming.write(head + self._exactly(int.from_bytes(head[3:], "big")))

    def _exactly(self, count):
        taken = b""
        while len(taken) < count:
            piece = self.socket.recv(count - len(taken))
            if not piece:
                raise ConnectionAbortedError(f"ended after {len(taken)} of {count} bytes")
            taken += piece
        return taken

    def say(self, data, style=None):
        style = style or self.style
        if style == "bytes":
            for index in range(len(data)):
                self.socket.sendall(data[index:index + 1])
        elif style == "cuts":
            while data:
                cut = self.random.randrange(1, len(data) + 1)
                self.socket.sendall(data[:cut])
                data = data[cut:]
        elif data:
            if style == "late":
                time.sleep(self.random.random() * 0.003)
            self.socket.sendall(data)

    def records(self, *plain, farewell=False):
        """The records of these texts, and of close_notify."""
        for text in plain:
            self.tls.write(text)
        if farewell:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
        return self.outgoing.read()

    def answer(self):
        """The head of the next answer, an interim one too."""
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            try:
                answer += self.tls.read(1)
            except ssl.SSLWantReadError:
                self._receive()
        return answer

    def head(self):
        """The answer to the upgrade, behind any that says that it will come."""
        while (answer := self.answer()).startswith(b"HTTP/1.1 102 "):
            pass
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise blind.Refused(answer)
        return answer

    def leave(self):
        """Reads up to the hub's close_notify; what comes behind it is raw."""
        while True:
            try:
                if not self.tls.read(65536):
                    break
                raise AssertionError("data before close_notify")
            except ssl.SSLWantReadError:
                self._receive()
            except ssl.SSLZeroReturnError:
                break
        assert self.incoming.pending == 0

    def ask(self, request, first=b"", farewell_first=False):
        """The request. With `farewell_first` it, close_notify and the raw bytes of `first` are one piece, said before any answer."""
        if farewell_first:
            self.say(self.records(request, farewell=True) + first)
        else:
            self.say(self.records(request))

    def finish(self, first=b"", farewell_first=False):
        """From the answer to raw bytes both ways, unless `ask` has said them, `first` right behind our close_notify."""
        self.head()
        if not farewell_first:
            self.say(self.records(farewell=True) + first)
        self.leave()
        return self.socket

    def switch(self, url, token, first=b"", farewell_first=False):
        self.ask(blind.request(url, token), first, farewell_first)
        return self.finish(first, farewell_first)

    def reset(self):
        tls.reset_on_close(self.socket)
        self.socket.close()


def asked(hub, device, first=b"", leaves=True):
    """A leg over which a service has asked for its stream; unless `leaves` is false it has left TLS, and said `first`, behind that."""
    leg = Leg(("127.0.0.1", hub.https), hub.name, tls.context(hub.ca), None, seconds=20.0)
    leg.ask(blind.asking(hub, device, hub.service_token()), first, leaves)
    return leg
