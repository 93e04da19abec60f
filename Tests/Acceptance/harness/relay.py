"""A plain TCP relay before the hub: it counts connections and bytes, and sees of TLS what anybody on the path sees."""

import socket
import struct
import threading

from .programs import Server

PRE_SHARED_KEY = 41


class Passage:
    """One connection through the relay."""

    def __init__(self, number):
        self.number = number
        self.up = self.down = 0
        self.client_hello, self.server_hello = bytearray(), bytearray()
        self.ended = False

    @property
    def resumed(self):
        """Whether the server took the client's ticket."""
        return PRE_SHARED_KEY in extensions(bytes(self.server_hello))


def extensions(flight):
    """The extensions of the hello at the beginning of one side's first bytes (RFC 8446 section 4.1)."""
    if len(flight) < 44 or flight[0] != 22:
        return []
    body = flight[9:9 + int.from_bytes(flight[6:9], "big")]
    at = 34 + 1 + body[34]
    if flight[5] == 1:
        at += 2 + struct.unpack_from(">H", body, at)[0]
        at += 1 + body[at]
    else:
        at += 3
    end = at + 2 + struct.unpack_from(">H", body, at)[0]
    found, at = [], at + 2
    while at + 4 <= min(end, len(body)):
        kind, length = struct.unpack_from(">HH", body, at)
        found.append(kind)
        at += 4 + length
    return found


class Relay(Server):
    """Stands on a port of its own for the hub's HTTPS port, under the hub's name."""

    def __init__(self, hub):
        self.hub = hub
        self.passages = []
        super().__init__(self.carry)

    def string(self, text):
        """A connection string that leads here."""
        return text.replace(f"HostName={self.hub.name}:{self.hub.https}", f"HostName={self.hub.name}:{self.port}")

    @property
    def alive(self):
        return [one for one in self.passages if not one.ended]

    def carry(self, near):
        passage = Passage(len(self.passages))
        self.passages.append(passage)
        try:
            far = socket.create_connection((self.hub.address, self.hub.https), timeout=20)
        except OSError:
            passage.ended = True
            return
        far.settimeout(None)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other = threading.Thread(target=self.copy, args=(passage, far, near, False), daemon=True)
        other.start()
        self.copy(passage, near, far, True)
        other.join()
        passage.ended = True
        far.close()

    @staticmethod
    def copy(passage, source, target, is_up):
        try:
            while data := source.recv(65536):
                hello = passage.client_hello if is_up else passage.server_hello
                if len(hello) < 2048:
                    hello += data[:2048]
                if is_up:
                    passage.up += len(data)
                else:
                    passage.down += len(data)
                target.sendall(data)
        except OSError:
            pass
        for one in (target, source):
            try:
                one.shutdown(socket.SHUT_WR)
            except OSError:
                pass
