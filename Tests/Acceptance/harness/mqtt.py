"""MQTT 3.1.1, packet by packet."""

import struct

from . import rest, tls, websocket

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC = 1, 2, 3, 4, 5
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(data)) + data


def packet(kind, body=b"", flags=0):
    length, head = len(body), bytearray([kind << 4 | flags])
    while True:
        length, digit = divmod(length, 128)
        head.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def connect_packet(client, user=None, password=None, clean=True, keep_alive=60, level=4, name="MQTT", will=None, flags=None):
    bits = (0x02 if clean else 0) | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = b""
    if will is not None:
        bits |= 0x04
        body += text(will[0]) + text(will[1])
    body += (text(user) if user is not None else b"") + (text(password) if password is not None else b"")
    head = text(name) + bytes([level, bits if flags is None else flags]) + struct.pack("!H", keep_alive)
    return packet(CONNECT, head + text(client) + body)


class Packet:
    def __init__(self, kind, flags, body):
        self.kind, self.flags, self.body = kind, flags, body

    def __repr__(self):
        return f"<packet {self.kind} flags {self.flags} {self.body[:200]!r}>"

    @property
    def qos(self):
        return self.flags >> 1 & 3

    @property
    def topic(self):
        return self.body[2:2 + struct.unpack("!H", self.body[:2])[0]].decode()

    @property
    def identifier(self):
        """Of a PUBLISH above QoS 0, and of the acknowledgements."""
        start = 2 + struct.unpack("!H", self.body[:2])[0] if self.kind == PUBLISH else 0
        return struct.unpack("!H", self.body[start:start + 2])[0]

    @property
    def payload(self):
        return self.body[2 + struct.unpack("!H", self.body[:2])[0] + (2 if self.qos else 0):]


class Client:
    """A device's connection, over TLS or a WebSocket."""

    def __init__(self, transport, over_websocket=False):
        self.transport = transport
        self.over_websocket = over_websocket
        self.pending = b""
        self.next_identifier = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @classmethod
    def tcp(cls, address, ca, name="localhost", seconds=20.0, settings=None, opener=None):
        return cls(tls.connect(address, ca, name, seconds, settings, opener))

    @classmethod
    def web(cls, address, ca, name="localhost", target="/$iothub/websocket", protocol="mqtt", seconds=20.0, opener=None):
        connection = rest.Connection(address, ca, name, seconds, opener=opener)
        made = cls(websocket.WebSocket(connection, target, {"Sec-WebSocket-Protocol": protocol}), True)
        assert made.transport.answer.header("Sec-WebSocket-Protocol") == protocol
        return made

    @property
    def socket(self):
        return self.transport.socket if self.over_websocket else self.transport

    def close(self):
        self.transport.close()

    def send(self, data):
        if self.over_websocket:
            self.transport.send(data)
        else:
            self.transport.sendall(data)

    def _take(self, count, seconds):
        while len(self.pending) < count:
            if self.over_websocket:
                got = self.transport.receive(seconds)
                if got.opcode == websocket.CLOSE:
                    raise EOFError("the hub closed the WebSocket")
                if got.opcode == websocket.PING:
                    self.transport.send(got.payload, websocket.PONG)
                    continue
                self.pending += got.payload
            else:
                self.transport.settimeout(seconds)
                piece = self.transport.recv(65536)
                if not piece:
                    raise EOFError("the hub closed the connection")
                self.pending += piece
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def receive(self, seconds=10.0):
        first = self._take(1, seconds)[0]
        length = shift = 0
        while True:
            digit = self._take(1, seconds)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
        return Packet(first >> 4, first & 0x0F, self._take(length, seconds))

    def expect(self, kind, seconds=10.0):
        got = self.receive(seconds)
        assert got.kind == kind, got
        return got

    def connect(self, *arguments, seconds=10.0, **named):
        """Sends CONNECT; the return code and the session-present bit."""
        self.send(connect_packet(*arguments, **named))
        got = self.expect(CONNACK, seconds)
        assert len(got.body) == 2 and got.body[0] in (0, 1), got
        return got.body[1], got.body[0]

    def identifier(self):
        self.next_identifier += 1
        return self.next_identifier

    def subscribe(self, *filters, qos=0):
        """The granted qualities (or 0x80)."""
        number = self.identifier()
        body = struct.pack("!H", number) + b"".join(text(one) + bytes([qos]) for one in filters)
        self.send(packet(SUBSCRIBE, body, 2))
        got = self.expect(SUBACK)
        assert got.identifier == number
        return list(got.body[2:])

    def unsubscribe(self, *filters):
        number = self.identifier()
        self.send(packet(UNSUBSCRIBE, struct.pack("!H", number) + b"".join(map(text, filters)), 2))
        got = self.expect(UNSUBACK)
        assert got.identifier == number and len(got.body) == 2

    def publish(self, topic, payload=b"", qos=0, retain=False):
        number = self.identifier() if qos else None
        body = text(topic) + (struct.pack("!H", number) if qos else b"") + payload
        self.send(packet(PUBLISH, body, qos << 1 | (1 if retain else 0)))
        return number

    def ping(self, seconds=10.0):
        self.send(packet(PINGREQ))
        self.expect(PINGRESP, seconds)

    def ended(self, seconds=10.0):
        """Waits until the hub has closed; packets that come before that are returned."""
        collected = []
        while True:
            try:
                collected.append(self.receive(seconds))
            except (EOFError, ConnectionError):
                return collected
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                return collected
