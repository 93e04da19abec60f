"""Someone who owns the hub: its certificate and key, its registry, its name. Plays a hub that does with streams whatever it likes."""

import collections
import hashlib
import itertools
import re
import select
import socket
import ssl
import struct
import tempfile
import threading
import urllib.parse

from . import mqtt, websocket
from .process import run

OFFER = ("blind", "e2e", "half-close")


class Named:
    """A device as the harness's Agent wants it."""

    def __init__(self, owner, name):
        self.name = self.client = name
        self.connection_string = f"HostName=localhost:{owner.https};DeviceId={name};SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Opening:
    """A service's wish for a stream. What is changed here is what the device is told."""

    def __init__(self, device, name, offer):
        self.device, self.name = device, name
        self.offer = list(offer)
        self.told_device, self.told_name = device, name
        self.told_offer = [word for word in self.offer if word in OFFER]
        self.chosen = None  # what the service is told; what the device said, unless it is set
        self.relay = join


def pump(source, target, tap):
    try:
        while True:
            piece = source.recv(65536)
            if not piece:
                break
            piece = tap(piece)
            if piece:
                target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def join(service, device, to_device=lambda piece: piece, to_service=lambda piece: piece):
    """Relays bytes between two sockets until both directions have ended."""
    if isinstance(service, ssl.SSLSocket):
        return take_turns(service, device, to_device, to_service)
    other = threading.Thread(target=pump, args=(device, service, to_service), daemon=True)
    other.start()
    pump(service, device, to_device)
    other.join()
    service.close()
    device.close()


def take_turns(service, device, to_device, to_service):
    """The same in one thread, until either side ends: a TLS socket is not for two."""
    ways = {service: (device, to_device), device: (service, to_service)}
    try:
        while True:
            ready = [one for one in ways if one.pending()] or select.select(list(ways), [], [], 20)[0]
            for source in ready:
                target, tap = ways[source]
                source.settimeout(0)
                try:
                    piece = source.recv(65536)
                except ssl.SSLWantReadError:  # a ticket, or a part of a record
                    continue
                if not piece:
                    return
                target.settimeout(20)
                target.sendall(tap(piece))
            if not ready:
                return
    finally:
        service.close()
        device.close()


class FramedLeg:
    """A leg in a WebSocket as a plain socket: an empty message is the end of a direction."""

    def __init__(self, connection):
        self.connection = connection
        self.socket, self._inner = socket.socketpair()
        threading.Thread(target=self._in, daemon=True).start()
        threading.Thread(target=self._out, daemon=True).start()

    def _in(self):
        try:
            while True:
                opcode, payload = self.connection.frame()
                if opcode == websocket.CLOSE:
                    break
                if opcode in (websocket.PING, websocket.PONG):
                    continue
                if payload:
                    self._inner.sendall(payload)
                else:
                    self._inner.shutdown(socket.SHUT_WR)
        except (OSError, EOFError):
            pass
        for step in (lambda: self._inner.shutdown(socket.SHUT_RDWR), self.connection.close):
            try:
                step()
            except OSError:
                pass

    def _out(self):
        try:
            while True:
                piece = self._inner.recv(65536)
                self.connection.tls.sendall(websocket.frame(piece, masked=False))
                if not piece:
                    return
        except OSError:
            self.connection.close()


class Connection:
    """A client's connection to the owner's port."""

    def __init__(self, tls):
        self.tls = tls
        self.pending = b""

    def close(self):
        try:
            self.tls.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.tls.close()

    def take(self, count):
        while len(self.pending) < count:
            piece = self.tls.recv(65536)
            if not piece:
                raise EOFError
            self.pending += piece
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def head(self):
        """The next request: method, target, fields by lower-case name."""
        while b"\r\n\r\n" not in self.pending:
            piece = self.tls.recv(65536)
            if not piece:
                return None
            self.pending += piece
        raw, self.pending = self.pending.split(b"\r\n\r\n", 1)
        lines = raw.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
        self.take(int(fields.get("content-length", 0)))
        return method, target, fields

    def answer(self, status, fields=(), upgrade=False):
        lines = [f"HTTP/1.1 {status} X"] + [f"{key}: {value}" for key, value in fields]
        if not upgrade:
            lines.append("Content-Length: 0")
        self.tls.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def accept_websocket(self, fields, protocol=None):
        more = [("Sec-WebSocket-Protocol", protocol)] if protocol else []
        self.answer(101, [
            ("Upgrade", "websocket"), ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", websocket.accept_value(fields["sec-websocket-key"])), *more], upgrade=True)

    def frame(self):
        """The next frame of a client: opcode and payload. Ours are never fragmented in a way that matters."""
        first, second = self.take(2)
        length = second & 0x7F
        if length == 126:
            length = struct.unpack("!H", self.take(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self.take(8))[0]
        key = self.take(4) if second & 0x80 else bytes(4)
        return first & 0x0F, websocket.mask_bytes(self.take(length), key)


class Owner:
    """A hub of the owner's making, honest until `plan` is set: a function that changes an Opening."""

    def __init__(self, binary, certificates):
        self.binary, self.certificates, self.ca, self.name = binary, certificates, certificates.root, "localhost"
        self.plan = lambda opening: None
        self.openings = []
        self._agents = {}
        self._arrival = threading.Condition()
        self._answers = {}
        self._legs = collections.defaultdict(dict)
        self._framed = []
        self._numbers = itertools.count()
        self._settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._settings.load_cert_chain(certificates.chain, certificates.key)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.https = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def connection_string(self):
        return f"HostName=localhost:{self.https};SharedAccessKeyName=service;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

    def device(self, name):
        return Named(self, name)

    def stop(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for agent in list(self._agents.values()):
            agent.close()

    def _listen(self):
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self._settings.wrap_socket(plain, server_side=True))
            while True:
                request = connection.head()
                if request is None:
                    return connection.close()
                method, target, fields = request
                if target.startswith("/$iothub/websocket"):
                    connection.accept_websocket(fields, "mqtt")
                    return self._talk(connection)
                if target.startswith("/bridges/"):
                    return self._take_leg(connection, target, fields)
                self._post(connection, target, fields)
        except (OSError, EOFError):
            return

    # The device's side

    def _talk(self, connection):
        buffered = b""
        device = None
        while True:
            while len(buffered) < 2 or not (whole := _packet_length(buffered)) or len(buffered) < whole:
                opcode, payload = connection.frame()
                if opcode == websocket.CLOSE:
                    return connection.close()
                buffered += payload
            packet, buffered = buffered[:whole], buffered[whole:]
            kind, body = packet[0] >> 4, packet[1 + _length_bytes(packet):]
            if kind == mqtt.CONNECT:
                length = struct.unpack("!H", body[10:12])[0]
                device = body[12:12 + length].decode()
                self._say(connection, mqtt.packet(mqtt.CONNACK, b"\0\0"))
            elif kind == mqtt.SUBSCRIBE:
                filters, rest = 0, body[2:]
                while rest:
                    rest = rest[2 + struct.unpack("!H", rest[:2])[0] + 1:]
                    filters += 1
                self._say(connection, mqtt.packet(mqtt.SUBACK, body[:2] + bytes(filters)))
                with self._arrival:
                    self._agents[device] = connection
                    self._arrival.notify_all()
            elif kind == mqtt.PINGREQ:
                self._say(connection, mqtt.packet(mqtt.PINGRESP))
            elif kind == mqtt.PUBLISH:
                topic = body[2:2 + struct.unpack("!H", body[:2])[0]].decode()
                match = re.fullmatch(r"\$iothub/streams/res/(\d+)/\?(.*)", topic)
                if match:
                    named = dict(urllib.parse.parse_qsl(match[2]))
                    with self._arrival:
                        self._answers[named.pop("$rid")] = (int(match[1]), named)
                        self._arrival.notify_all()

    def _say(self, connection, packet):
        connection.tls.sendall(websocket.frame(packet, masked=False))

    def ask(self, device, name, offer=OFFER, seconds=20.0):
        """Asks an agent for a stream as a hub does; the stream's number, the status and the fields of the answer."""
        number = f"s{next(self._numbers)}"
        url = urllib.parse.quote(f"wss://localhost:{self.https}/bridges/{number}-device", safe="")
        topic = f"$iothub/streams/POST/{urllib.parse.quote(name, safe='')}/?$rid={number}&$url={url}&$auth={number}"
        if offer:
            topic += "&$offer=" + urllib.parse.quote(", ".join(offer), safe="")
        with self._arrival:
            assert self._arrival.wait_for(lambda: device in self._agents, seconds), f"{device} has not come"
            connection = self._agents[device]
        self._say(connection, mqtt.packet(mqtt.PUBLISH, mqtt.text(topic)))
        with self._arrival:
            assert self._arrival.wait_for(lambda: number in self._answers, seconds), f"{device} does not answer"
            status, fields = self._answers[number]
        return number, status, fields

    # Legs

    def _take_leg(self, connection, target, fields):
        number, _, side = target.removeprefix("/bridges/").partition("-")
        if fields["upgrade"].lower() == "websocket":
            connection.accept_websocket(fields)
            self._framed.append(connection.tls)
            leg = FramedLeg(connection).socket
        else:
            assert fields["upgrade"] == "iotstream-blind" and not connection.pending
            connection.answer(101, [("Upgrade", "iotstream-blind"), ("Connection", "Upgrade")], upgrade=True)
            leg = connection.tls.unwrap()
        with self._arrival:
            self._legs[number][side] = leg
            self._arrival.notify_all()

    def leg(self, number, side, seconds=20.0):
        with self._arrival:
            assert self._arrival.wait_for(lambda: side in self._legs[number], seconds), f"no leg of the {side}"
            return self._legs[number][side]

    def cut(self):
        """Ends every leg."""
        with self._arrival:
            legs = [leg for legs in self._legs.values() for leg in legs.values()] + self._framed
        for leg in legs:
            try:
                leg.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            leg.close()

    # The service's side

    def _post(self, connection, target, fields):
        match = re.fullmatch(r"/twins/([^/]+)/streams/([^/?]+)\?.*", target)
        offer = [word.strip() for word in fields.get("iotstream-offer", "").split(",") if word.strip()]
        opening = Opening(urllib.parse.unquote(match[1]), urllib.parse.unquote(match[2]), offer)
        self.plan(opening)
        self.openings.append(opening)
        opening.number, status, answer = self.ask(opening.told_device, opening.told_name, opening.told_offer)
        opening.answer = answer
        if status != 200:
            return connection.answer(200, [
                ("iothub-streaming-is-accepted", "False"), ("iotstream-reason", answer.get("$reason", ""))])
        chosen = answer.get("$chosen") if opening.chosen is None else opening.chosen
        connection.answer(200, [
            ("iothub-streaming-is-accepted", "True"), ("iothub-streaming-url", f"wss://localhost:{self.https}/bridges/{opening.number}-service"),
            ("iothub-streaming-auth-token", opening.number), *([("iotstream-chosen", chosen)] if chosen else [])])
        threading.Thread(target=self._relay, args=(opening,), daemon=True).start()

    def _relay(self, opening):
        try:
            opening.relay(self.leg(opening.number, "service"), self.leg(opening.number, "device"))
        except (OSError, AssertionError) as error:
            opening.error = error


def _length_bytes(packet):
    count = 1
    while packet[count] & 0x80:
        count += 1
    return count


def _packet_length(data):
    """Of the packet at the start; 0 when that cannot be told yet."""
    length = 0
    for index in range(1, 5):
        if index >= len(data):
            return 0
        length |= (data[index] & 0x7F) << 7 * (index - 1)
        if not data[index] & 0x80:
            return 1 + index + length
    raise ValueError("no MQTT")


# End-to-end sessions of the owner's own


class Keys:
    """A key that anybody can make, with a certificate that says what they like."""

    def __init__(self, common_name):
        self.directory = tempfile.TemporaryDirectory(prefix="iotstream-owner.")
        self.certificate, self.key = f"{self.directory.name}/cert.pem", f"{self.directory.name}/key.pem"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out",
             self.certificate, "-subj", f"/CN={common_name}", "-days", "30"], check=0)


def protocol_name(device, name):
    """The name by which an end-to-end session is known to be for this stream."""
    return "iotstream/" + hashlib.sha256(f"{device}\0{name}".encode()).hexdigest()[:32]


def as_device(plain, keys, device, name):
    """Plays the device to a service."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings.minimum_version = ssl.TLSVersion.TLSv1_3
    settings.load_cert_chain(keys.certificate, keys.key)
    settings.set_alpn_protocols([protocol_name(device, name)])
    return settings.wrap_socket(plain, server_side=True)


def as_service(plain, keys, device, name):
    """Plays a service to a device; `keys` may be None."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname, settings.verify_mode = False, ssl.CERT_NONE
    settings.minimum_version = ssl.TLSVersion.TLSv1_3
    if keys:
        settings.load_cert_chain(keys.certificate, keys.key)
    settings.set_alpn_protocols([protocol_name(device, name)])
    return settings.wrap_socket(plain)
