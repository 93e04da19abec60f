"""Streams whose records the kernel seals; for a machine whose kernel has TLS, where test_kernel_tls.py runs this."""

import hashlib
import json
import os
import pathlib
import random
import select
import socket
import ssl
import subprocess
import threading

import pytest
import websocket as client_library
from harness import rest, tls, waiting, websocket
from harness.programs import Agent, Forward, Server, receive_all
from harness.streams import open_stream
from harness.websocket import BINARY, WebSocket

#: Bytes each way.
BYTES = int(float(os.environ.get("IOTSTREAM_KERNEL_TLS_MIB", 6)) * (1 << 20))
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
DATA = random.Random(1).randbytes(1 << 20)
SIZES = [1, 125, 126, 16383, 16384, 16385, 65535, 65536, 70001, 300_000]


def count(name):
    """A number of /proc/net/tls_stat."""
    for line in pathlib.Path("/proc/net/tls_stat").read_text().splitlines():
        if line.split()[0] == name:
            return int(line.split()[1])
    raise KeyError(name)


def taken_over(function, *arguments):
    """How many sockets' records the kernel has come to seal during a call, and what that has returned."""
    before = count("TlsTxSw")
    value = function(*arguments)
    return count("TlsTxSw") - before, value


def leg(hub, url, token, version=None, window=None, ciphers=None):
    settings = tls.context(hub.ca, minimum=version, maximum=version)
    if ciphers:
        settings.set_ciphers(ciphers)
    connection = rest.Connection((hub.address, hub.https), hub.ca, hub.name, settings=settings)
    if window:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    return WebSocket(connection, "/" + url.split("/", 3)[3], {"Authorization": f"Bearer {token}"})


@pytest.fixture
def far(hub):
    device = hub.create()
    client = device.listen()
    yield device, client
    client.close()


def pair(hub, far, version=None, window=None, ciphers=None):
    accepted = open_stream(hub, *far)
    first = leg(hub, accepted.request.url, accepted.request.token, version, ciphers=ciphers)
    return first, leg(hub, accepted.url, accepted.token, version, window, ciphers)


def send_all(one, digest, total=BYTES, close=None):
    """Messages of odd sizes, and a Close."""
    sizes, sent = random.Random(total), 0
    while sent < total:
        piece = DATA[:min(sizes.choice(SIZES), total - sent)]
        digest.update(piece)
        one.send(piece)
        sent += len(piece)
    if close:
        one.send_raw(websocket.close_frame(close))


def receive(one, digest, total=BYTES):
    got = 0
    while got < total:
        frame = one.receive(60)
        assert frame.opcode in (BINARY, websocket.CONTINUATION), frame
        digest.update(frame.payload)
        got += len(frame.payload)
    assert got == total


class Busy:
    """A leg that sends and receives at once: one thread for both, because OpenSSL takes no two."""

    def __init__(self, one):
        self.socket, self.buffer, self.rest = one.socket, bytearray(one.connection.pending), memoryview(b"")
        self.sizes, self.left, self.got, self.remaining = random.Random(id(one)), BYTES, 0, 0
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.socket.setblocking(False)

    def send(self):
        if not self.rest and self.left:
            piece = DATA[:min(self.sizes.choice(SIZES), self.left)]
            self.left -= len(piece)
            self.sent.update(piece)
            self.rest = memoryview(websocket.frame(piece))
        while self.rest:
            self.rest = self.rest[self.socket.send(self.rest):]

    def receive(self):
        while True:
            piece = self.socket.recv(1 << 18)
            assert piece, f"the end after {self.got} bytes"
            self.buffer += piece
            self.parse()

    def parse(self):
        while self.buffer:
            if not self.remaining:
                short = self.buffer[1] if len(self.buffer) > 1 else 127
                head = 2 + {126: 2, 127: 8}.get(short, 0)
                if len(self.buffer) < head:
                    return
                assert self.buffer[0] & 15 in (BINARY, websocket.CONTINUATION), self.buffer[:2]
                self.remaining = short if head == 2 else int.from_bytes(self.buffer[2:head], "big")
                del self.buffer[:head]
            piece = self.buffer[:self.remaining]
            self.received.update(piece)
            self.got += len(piece)
            self.remaining -= len(piece)
            del self.buffer[:len(piece)]

    @property
    def is_sending(self):
        return bool(self.left or self.rest)


def exchange(*legs):
    """As many bytes both ways at once; all of them arrive as they were sent."""
    ends = [Busy(one) for one in legs]
    while any(end.got < BYTES or end.is_sending for end in ends):
        ready = select.select([end.socket for end in ends], [end.socket for end in ends if end.is_sending], [], 60)
        assert any(ready), [end.got for end in ends]
        for end in ends:
            for step in (end.send, end.receive):
                try:
                    step()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
    for end, other in (ends, ends[::-1]):
        assert end.got == BYTES and end.received.digest() == other.sent.digest()
        end.socket.settimeout(20)


def status(hub):
    return json.loads(pathlib.Path(hub.state, "run/hub.status").read_text())


def test_the_hub_says_that_it_is_used(hub):
    hub.process.wait_line("event=kernel-tls used=yes$")
    assert status(hub)["kernelTLS"] is True


@pytest.mark.parametrize("version, ciphers", [
    (ssl.TLSVersion.TLSv1_3, None), (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM:!AES256"), (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM:!AES128"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE+CHACHA20"),
], ids=["1.3", "1.2 AES-128", "1.2 AES-256", "1.2 ChaCha20"])
def test_both_ways_at_once_in_messages_of_any_size(hub, far, version, ciphers):
    first, second = pair(hub, far, version, ciphers=ciphers)
    assert taken_over(exchange, first, second)[0] == 2
    first.shut(4001)
    assert second.receive_close().code == 4001
    second.close()
    waiting.until(lambda: count("TlsCurrTxSw") == 0, what="the end of both sockets")


def test_small_messages_stay_with_the_program(hub, far):
    first, second = pair(hub, far)

    def talk():
        for size in (1, 100, 16000):
            first.send(DATA[:size])
            assert second.message() == (BINARY, DATA[:size])

    assert taken_over(talk)[0] == 0
    first.shut()
    second.close()


@VERSIONS
def test_a_slow_reader_gets_all_that_was_sent_before_the_end(hub, far, version):
    """Even what the kernel has sealed and holds, when the hub is done with the connection: no FIN may come before it."""
    first, second = pair(hub, far, version, window=1 << 17)
    sent, got, total = hashlib.sha256(), hashlib.sha256(), BYTES * 3
    sender = threading.Thread(target=send_all, args=(first, sent, total, 1000))
    sender.start()
    sender.join(3)  # no byte is read before the hub holds all that it will
    receive(second, got, total)
    sender.join()
    assert got.digest() == sent.digest()
    assert second.receive_close(30).code == 1000
    second.send_raw(websocket.close_frame(1000))
    assert second.ended() == b""  # and the hub says close_notify
    assert first.receive_close().code == 1000
    for one in (first, second):
        one.close()


def test_a_reset_in_the_middle_ends_the_other_leg_and_nothing_else(hub, far):
    first, second = pair(hub, far)
    send_all(first, hashlib.sha256(), 1 << 20)
    send_all(second, hashlib.sha256(), 1 << 20)
    tls.reset_on_close(first.socket)
    first.close()
    receive(second, hashlib.sha256(), 1 << 20)
    assert second.receive_close().code == 1011
    second.close()
    waiting.until(lambda: count("TlsCurrTxSw") == 0, what="the end of both sockets")


@VERSIONS
def test_a_client_library(hub, far, version):
    accepted = open_stream(hub, *far)
    near = client_library.create_connection(
        accepted.url, header=[f"Authorization: Bearer {accepted.token}"], timeout=60,
        sslopt={"context": tls.context(hub.ca, minimum=version, maximum=version)})
    second = leg(hub, accepted.request.url, accepted.request.token, version)

    def talk():
        for size in (65536, 1, 200_001, 1 << 20):
            near.send_binary(DATA[:size])
            assert second.message(60)[1] == DATA[:size]
            second.send(DATA[:size])
            assert near.recv() == DATA[:size]

    assert taken_over(talk)[0] == 2
    near.close(4002)
    assert second.receive_close().code == 4002
    second.close()


class Tool(rest.Connection):
    """A connection of `openssl s_client`, which can change its keys."""

    def __init__(self, hub):
        self.address, self.name, self.pending = (hub.address, hub.https), hub.name, b""
        self.socket = self
        arguments = ["openssl", "s_client", "-connect", f"127.0.0.1:{hub.https}", "-servername", hub.name, "-CAfile", hub.ca, "-tls1_3", "-brief"]
        self.child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.wait("CONNECTION ESTABLISHED")

    def wait(self, text):
        while text not in (line := self.child.stderr.readline().decode()):
            assert line, "s_client has ended"

    def change_keys(self):
        """Changes its own key, and wants the hub to change the other one."""
        self.sendall(b"K\n")
        self.wait("KEYUPDATE")

    def settimeout(self, seconds):
        self.seconds = seconds

    def sendall(self, data):
        self.child.stdin.write(data)

    def recv(self, size):
        assert select.select([self.child.stdout], [], [], 60)[0], "nothing came"
        return os.read(self.child.stdout.fileno(), size)

    def close(self):
        self.child.kill()
        self.child.communicate()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_that_wants_other_keys(hub, far, when):
    """The kernel of Debian 12 cannot change a key: it gets none that has been changed, and goes on with the one that it has."""
    accepted = open_stream(hub, *far)
    second = leg(hub, accepted.request.url, accepted.request.token)
    tool = Tool(hub)
    if when == "before":
        tool.change_keys()
    first = WebSocket(tool, "/" + accepted.url.split("/", 3)[3], {"Authorization": f"Bearer {accepted.token}"})

    def talk():
        for _ in range(3):
            second.send(DATA)
            assert first.message(60)[1] == DATA
            tool.change_keys()
            first.send(DATA[:100])
            assert second.message()[1] == DATA[:100]

    assert taken_over(talk)[0] == (0 if when == "before" else 1)
    second.shut()
    first.close()


@pytest.mark.parametrize("mode", ["websocket", "auto"])
def test_our_own_ends(hub, keep, mode):
    """Legs of WebSockets are taken over; blind ones are not TLS to the hub, and never are."""
    def answer(connection):
        data = receive_all(connection)
        connection.sendall(hashlib.sha256(data).digest() + data)

    server = keep(Server(answer))
    device = hub.create()
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it", options=["--mode", mode, "-v"]))

    def talk():
        with forward.connect(seconds=120) as connection:
            data = DATA * max(1, BYTES >> 21)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert receive_all(connection) == hashlib.sha256(data).digest() + data
        forward.process.wait_line("event=stream-closed .*reason=done", 30)

    assert taken_over(talk)[0] == (4 if mode == "websocket" else 0)


def test_everything_else_on_the_port_stays_with_the_program(hub):
    def talk():
        device = hub.create()
        with device.login(web=True) as client:
            client.ping()
        assert hub.rest("GET", rest.path("devices", device.name)).status == 200

    assert taken_over(talk)[0] == 0


def test_it_can_be_switched_off(iotstream, certificates, new_hub, tmp_path):
    configuration = tmp_path / "hub.conf"
    configuration.write_text("kernel-tls no\n")
    hub = new_hub(options=["--config", configuration])
    hub.process.wait_line("event=kernel-tls used=no$")
    device = hub.create()
    with device.listen() as client:
        first, second = pair(hub, (device, client))
        configuration.write_text("kernel-tls auto\n")
        hub.process.signal(1)
        hub.process.wait_line("event=reloaded")
        newer = pair(hub, (device, client))
        for legs, expected in (((first, second), 0), (newer, 2)):
            def talk():
                for one, other in (legs, legs[::-1]):
                    one.send(DATA)
                    assert other.message(60)[1] == DATA

            assert taken_over(talk)[0] == expected
            for one in legs:
                one.close()
