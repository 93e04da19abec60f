"""Blind legs by hand: after the 101 both sides leave TLS, and the socket carries raw bytes (iotstream-protocol(7))."""

import socket
import ssl
import urllib.parse

from . import tls
from .programs import receive_exactly


class Refused(Exception):
    def __init__(self, head):
        super().__init__(head.split(b"\r\n")[0].decode())
        self.head = head
        self.status = int(head.split(b" ")[1])


def address_of(url):
    parts = urllib.parse.urlsplit(url)
    return "127.0.0.1" if parts.hostname == "localhost" else parts.hostname, parts.port or 443


def request(url, token, upgrade="iotstream-blind", more=()):
    parts = urllib.parse.urlsplit(url)
    lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: Upgrade", f"Upgrade: {upgrade}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join([*lines, *more]) + "\r\n\r\n").encode()


def asking(hub, device, authorization, offer="blind, e2e, half-close"):
    """The request for a stream whose connection is to become the service's leg."""
    lines = [
        f"POST /twins/{device.name}/streams/TestStream?api-version=2020-09-30 HTTP/1.1", f"Host: {hub.name}:{hub.https}",
        f"Authorization: {authorization}", "Content-Length: 0", f"iotstream-offer: {offer}", "Connection: Upgrade",
        "Upgrade: iotstream-blind"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_head(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            break
        head += piece
    return head


def leg(hub, url, token, settings=None, seconds=20.0):
    """A blind leg, as a plain socket."""
    connection = tls.connect(address_of(url), hub.ca, hub.name, seconds=seconds, settings=settings)
    try:
        connection.sendall(request(url, token))
        head = read_head(connection)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Refused(head)
        assert b"\r\nUpgrade: iotstream-blind\r\n" in head, head
        return connection.unwrap()
    except BaseException:
        connection.close()
        raise


class Asked:
    """A service's request whose connection is to become its leg, and which leaves TLS before it is answered."""

    def __init__(self, hub, device, raw=b"", leaves=True, offer="blind, e2e, half-close", seconds=20.0):
        self.socket = socket.create_connection(("127.0.0.1", hub.https), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.context(hub.ca).wrap_bio(self._in, self._out, server_hostname=hub.name)
        self._until(self._tls.do_handshake)
        self._tls.write(asking(hub, device, hub.service_token(), offer))
        if leaves:
            self.leave(raw)
        else:
            self.socket.sendall(self._out.read())

    def leave(self, raw=b""):
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.socket.sendall(self._out.read() + raw)

    def _until(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._out.read())
                self._receive()

    def _receive(self):
        """One record, and nothing of what is behind it."""
        record = receive_exactly(self.socket, 5)
        record += receive_exactly(self.socket, int.from_bytes(record[3:], "big"))
        self._in.write(record)

    def head(self):
        """The head of the next answer."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._until(lambda: self._tls.read(1))
        return head.decode()

    def bare(self):
        """The socket, once the hub has left TLS as well."""
        try:
            assert self._until(lambda: self._tls.read(1)) == b""
        except ssl.SSLZeroReturnError:
            pass
        return self.socket

    def close(self):
        self.socket.close()
