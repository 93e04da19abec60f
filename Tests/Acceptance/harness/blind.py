"""Blind legs by hand: after the 101 both sides leave TLS, and the socket carries raw bytes (iotstream-protocol(7))."""

import urllib.parse

from . import tls


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
