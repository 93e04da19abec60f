"""iotstream under test: the hub alone between raw legs, and the whole chain of forward, hub and agent."""

import os
import pathlib
import ssl
import tempfile
import urllib.parse

from harness import mqtt, streams, tls
from harness.hub import Hub
from harness.programs import Agent, Forward, free_ports

from .processes import Program, bound, family
from .subjects import Missing, Subject


class OwnHub(Hub):
    """A hub with descriptors for thousands of streams."""

    def __init__(self, place):
        super().__init__(place.binary, place.certificates, limits=bound)
        self.settings = tls.context(self.ca)
        self.settings.minimum_version = ssl.TLSVersion.TLSv1_3

    def connect(self, **named):
        named.setdefault("settings", self.settings)
        return super().connect(**named)


class HubAlone(Subject):
    """Only the hub is weighed; service and device are doubles that hand their legs to the load tool."""

    offer = None

    def start(self):
        self.hub = OwnHub(self.place)
        self.device = self.hub.create()
        self.client = self.device.listen(keep_alive=0)
        # A stream lives on the core of the connection that asked for it; several services' connections lie on all of them.
        self.services = [self.hub.connect(seconds=60) for _ in range(os.cpu_count() or 1)]
        self.opened = 0

    def pids(self):
        return family(self.hub.process.pid)

    def stop(self):
        if hasattr(self, "hub"):
            self.hub.remove()
        super().stop()

    def open(self):
        """A stream that both sides agreed on: the service's and the device's URL and token."""
        target = f"/twins/{self.device.name}/streams/bench?api-version=2020-09-30"
        fields = streams.headers(response=20, offer=self.offer)
        service = self.services[self.opened % len(self.services)]
        self.opened += 1
        service.request("POST", target, fields, token=self.hub.service_token())
        while True:
            packet = self.client.receive(30)
            if packet.kind == mqtt.PUBLISH:
                break
        request = streams.Request(packet)
        streams.reply(self.client, request, extra=f"&$chosen={self.offer}" if self.offer else "")
        answer = service.response(seconds=30)
        if self.offer and answer.header("iotstream-chosen") != self.offer:
            raise Missing(f"the hub did not agree to {self.offer}")
        accepted = streams.Accepted(answer, request)
        return (accepted.url, accepted.token), (request.url, request.token)


class Blind(HubAlone):
    """Legs that have left TLS, and are plain sockets to the load tool."""

    name = "iotstream hub"
    offer = "blind"

    def leg(self, url, token):
        parts = urllib.parse.urlsplit(url)
        made = tls.connect((self.hub.address, parts.port), None, "localhost", 20, self.hub.settings)
        made.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: iotstream-blind\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = made.recv(4096)
            if not piece:
                raise RuntimeError(f"a blind leg got {answer!r}")
            answer += piece
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"a blind leg got {answer!r}")
        raw = made.unwrap()
        raw.setblocking(True)
        return raw

    def ends(self, streams):
        near, far = [], []
        for _ in range(streams):
            service, device = self.open()
            near.append(self.leg(*service))
            far.append(self.leg(*device))
        numbers = [[one.fileno() for one in side] for side in (near, far)]
        arguments = ["--near-fds", ",".join(map(str, numbers[0])), "--far-fds", ",".join(map(str, numbers[1]))]
        return arguments, numbers[0] + numbers[1], near + far


class WebSockets(HubAlone):
    """WebSocket legs, which the load tool opens for itself: a TLS session cannot be handed over."""

    name = "iotstream hub"

    def ends(self, streams):
        files = [tempfile.NamedTemporaryFile("w", suffix=".legs") for _ in range(2)]
        for _ in range(streams):
            for file, (url, token) in zip(files, self.open()):
                parts = urllib.parse.urlsplit(url)
                file.write(f"{parts.port} {parts.netloc} {parts.path} {token}\n")
        for file in files:
            file.flush()
        return ["--near-legs", files[0].name, "--far-legs", files[1].name], [], files


class Chain(Subject):
    """forward, hub and agent, as a user starts them; all three are weighed."""

    name = "iotstream"
    mode = "auto"
    options = agent_options = ()

    def start(self):
        target = self.listen()
        self.hub = OwnHub(self.place)
        self.device = self.hub.create()
        self.agent = Agent(self.hub, self.device, f"sink=127.0.0.1:{target}", options=self.agent_options)
        self.forward = None
        self.identity = tempfile.mkdtemp(prefix="identity.", dir=self.place.directory)
        self.again()

    def again(self, *options):
        """A fresh forward."""
        if self.forward is not None:
            self.forward.stop()
        through = self.place.between(self, self.hub.https)
        text = self.hub.connection_string().replace(f":{self.hub.https};", f":{through};", 1)
        mode = ["--mode", self.mode] if self.mode else []
        # Its key and the device's pin are made once, and not by the stream that is measured.
        environment = {"IOTSTREAM_IDENTITY": str(self.identity)}
        self.forward = Forward(
            self.hub, self.device, "0:sink", options=(*mode, *self.options, *options), connection_string=text, environment=environment)
        self.port = self.forward.first

    def pids(self):
        return family(*(one.process.pid for one in (self.hub, self.agent, self.forward)))

    def stop(self):
        for name in ("forward", "agent"):
            if getattr(self, name, None) is not None:
                getattr(self, name).stop()
        if hasattr(self, "hub"):
            self.hub.remove()
        super().stop()


class WebSocketChain(Chain):
    name = "iotstream over WebSocket"
    mode = "websocket"


class WarmChain(Chain):
    name = "iotstream warm"
    options = agent_options = ("--warm", "8")


class Delays:
    """Relays that add time to every byte."""

    def __init__(self, place, milliseconds):
        self.place, self.milliseconds = place, milliseconds
        self.held = []

    def between(self, subject, port):
        del subject
        start = free_ports()
        log = pathlib.Path(self.place.directory) / "delay.log"
        program = Program([self.place.tools.path("delay"), start, port, self.milliseconds], log)
        self.held.append(program)
        program.wait_listening(start)
        return start

    def stop(self):
        for one in self.held:
            one.stop()
        self.held = []
