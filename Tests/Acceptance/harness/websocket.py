"""A WebSocket client that can do what a good one never would."""

import base64
import hashlib
import os
import struct

from . import rest

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def accept_value(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def mask_bytes(payload, key):
    if not payload:
        return b""
    pad = (key * (len(payload) // 4 + 1))[:len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


def frame(payload=b"", opcode=BINARY, fin=True, masked=True, reserved=0):
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask_bytes(payload, key)


def close_frame(code=None, reason=b""):
    return frame(b"" if code is None else struct.pack("!H", code) + reason, CLOSE)


class Frame:
    def __init__(self, fin, opcode, payload):
        self.fin, self.opcode, self.payload = fin, opcode, payload

    def __repr__(self):
        return f"<frame fin={self.fin} opcode={self.opcode} {len(self.payload)} bytes {self.payload[:60]!r}>"

    @property
    def code(self):
        """Of a Close; None when it has none."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None

    @property
    def reason(self):
        return self.payload[2:].decode()


class Upgrade:
    """The request for an upgrade and its answer."""

    def __init__(self, connection, target, headers=None, key=None):
        self.key = key or base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {target} HTTP/1.1", f"Host: {connection.name}:{connection.address[1]}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self.key}", "Sec-WebSocket-Version: 13",
        ]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        connection.send("\r\n".join(lines) + "\r\n\r\n")
        self.answer = connection.response()


class WebSocket:
    """An upgraded connection."""

    def __init__(self, connection, target, headers=None, key=None):
        self.connection = connection
        upgrade = Upgrade(connection, target, headers, key)
        self.answer = upgrade.answer
        assert self.answer.status == 101, self.answer
        assert self.answer.header("Upgrade").lower() == "websocket"
        assert self.answer.header("Connection").lower() == "upgrade"
        assert self.answer.header("Sec-WebSocket-Accept") == accept_value(upgrade.key)
        assert self.answer.header("Sec-WebSocket-Extensions") is None

    @property
    def socket(self):
        return self.connection.socket

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, payload=b"", opcode=BINARY, fin=True, masked=True):
        self.socket.sendall(frame(payload, opcode, fin, masked))

    def receive(self, seconds=10.0):
        """The next frame; EOFError when the hub closed."""
        self.socket.settimeout(seconds)
        first, second = self.connection.take(2)
        assert second & 0x80 == 0, "the hub masked a frame"
        assert first & 0x70 == 0, "reserved bits"
        length = second & 0x7F
        if length == 126:
            length = struct.unpack("!H", self.connection.take(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self.connection.take(8))[0]
        return Frame(bool(first & 0x80), first & 0x0F, self.connection.take(length))

    def message(self, seconds=10.0):
        """The next data message, whole: its opcode and bytes."""
        got = self.receive(seconds)
        opcode, collected, fin = got.opcode, bytearray(got.payload), got.fin
        assert opcode in (TEXT, BINARY), got
        while not fin:
            got = self.receive(seconds)
            assert got.opcode == CONTINUATION, got
            collected += got.payload
            fin = got.fin
        return opcode, bytes(collected)

    def bytes(self, count, seconds=20.0):
        """The next `count` bytes of data, whatever the messages."""
        collected = bytearray()
        while len(collected) < count:
            got = self.receive(seconds)
            assert got.opcode in (CONTINUATION, TEXT, BINARY), got
            collected += got.payload
        return bytes(collected)

    def receive_close(self, seconds=10.0):
        """The Close that is expected next."""
        got = self.receive(seconds)
        assert got.opcode == CLOSE, got
        return got

    def ended(self, seconds=10.0):
        """Waits for the end of the connection, and returns what came before it."""
        return self.connection.ended(seconds)

    def close(self):
        self.connection.close()

    def shut(self, code=1000):
        """A good end: Close, its reply, and the hub's end of the connection."""
        self.send_raw(close_frame(code))
        while self.receive().opcode != CLOSE:
            pass
        self.close()


def open_url(url, headers, ca, name=None, seconds=20.0, opener=None, port=None, host=None):
    """Connects to a `wss:` URL."""
    assert url.startswith("wss://"), url
    authority, slash, target = url[6:].partition("/")
    named, _, number = authority.rpartition(":")
    address = (host or ("127.0.0.1" if named == "localhost" else named), port or int(number))
    connection = rest.Connection(address, ca, name or named, seconds, opener=opener)
    return connection, slash + target, headers
