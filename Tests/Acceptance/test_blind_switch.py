"""Many switches from TLS to raw bytes, with segments cut in every way and resets at every step: no byte lost, doubled or misread."""

import multiprocessing
import os
import random
import ssl
import time
import traceback

import pytest
from harness import blind, tls, waiting
from harness.segments import STYLES, Leg
from harness.rest import path
from harness.streams import Opening, Request, headers, reply

#: Switches in all, two to a stream; 100000 is the long run.
SWITCHES = int(os.environ.get("IOTSTREAM_SWITCHES", 600))
PLAYERS = 2


class Player:
    """One process: a device and a service that open stream after stream."""

    def __init__(self, hub, device, seed):
        self.hub, self.device, self.random = hub, device, random.Random(seed)
        self.settings = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3):
            self.settings.append(tls.context(hub.ca, minimum=version, maximum=version))
        self.sessions = {}
        self.token = hub.service_token()
        self.made = time.monotonic()

    def connect(self):
        self.client = self.device.listen()
        self.service = self.hub.connect(seconds=60)

    def authorization(self):
        if time.monotonic() - self.made > 600:
            self.token, self.made = self.hub.service_token(), time.monotonic()
        return self.token

    def accept(self):
        """A stream both sides of which agreed on blind legs: (url, token) of service and device."""
        target = path("twins", self.device.name, "streams", "switch")
        self.service.request("POST", target, headers(response=20, offer="blind"), token=self.authorization())
        request = Request(self.client.receive(30))
        reply(self.client, request, extra="&$chosen=blind")
        answer = self.service.response(seconds=30)
        assert answer.header("iotstream-chosen") == "blind", answer
        return (answer.header("iothub-streaming-url"), answer.header("iothub-streaming-auth-token")), (request.url, request.token)

    def leg(self, url):
        number = self.random.randrange(len(self.settings))
        session = self.sessions.get(number) if self.random.random() < 0.8 else None
        leg = Leg(blind.address_of(url), self.hub.name, self.settings[number], self.random, self.random.choice(STYLES), session)
        self.sessions[number] = leg.tls.session
        return leg

    def words(self):
        """Raw bytes of any length; some look like records of TLS."""
        size = self.random.choice([0, 1, 5, 100, 1000, 5000])
        return self.random.choice([b"", b"\x15\x03\x03\x00\x02\x01\x00", b"\x17\x03\x03"]) + self.random.randbytes(size)

    def whole(self):
        """A stream that is switched on both sides and carries everything."""
        service, device = self.accept()
        sides = [service, device]
        self.random.shuffle(sides)
        said, sockets = [], []
        for url, token in sides:
            leg = self.leg(url)
            first = self.words()
            sockets.append(leg.switch(url, token, first, farewell_first=self.random.random() < 0.3))
            said.append(first + self.add_words(leg))
        self.compare(sockets, said)

    def add_words(self, leg):
        more = self.words()
        leg.say(more)
        return more

    def compare(self, sockets, said):
        """Whether each side hears what the other has said."""
        for one in sockets:
            one.shutdown(1)
        for one, expected in zip(sockets, reversed(said)):
            heard = b""
            while piece := one.recv(65536):
                heard += piece
            assert heard == expected, f"{len(heard)} bytes of {len(expected)}, equal: {heard == expected[:len(heard)]}"
            one.close()

    def ask(self, first, farewell_first):
        """The service asks for a stream over what is to become its leg."""
        leg = self.leg(f"https://localhost:{self.hub.https}")
        leg.ask(blind.asking(self.hub, self.device, self.authorization(), "blind"), first, farewell_first)
        return leg

    def joined(self):
        """The same, where the service's leg is the connection by which it has asked; the device's may come before its answer."""
        first, other_first, farewell_first = self.words(), self.words(), self.random.random() < 0.7
        leg, other = self.ask(first, farewell_first), None
        request = Request(self.client.receive(30))

        def far():
            made = self.leg(request.url)
            made.switch(request.url, request.token, other_first, farewell_first=self.random.random() < 0.3)
            return made

        if self.random.random() < 0.5:
            other = far()
        reply(self.client, request, extra="&$chosen=blind")
        if other is None and self.random.random() < 0.5:
            other = far()
        service = leg.finish(first, farewell_first)
        other = other or far()
        said = [first + self.add_words(leg), other_first + self.add_words(other)]
        self.compare([service, other.socket], said)

    def given_up(self):
        """A service that goes away with its request on the way, asked, or accepted."""
        step = self.random.randrange(4)
        if step < 2:
            leg = self.leg(f"https://localhost:{self.hub.https}")
            request = leg.records(blind.asking(self.hub, self.device, self.authorization(), "blind"), farewell=True)
            leg.say(request[: self.random.randrange(step, len(request) // 2 * step + 1)])
        else:
            leg = self.ask(self.words(), True)
            request = Request(self.client.receive(30))
            if step == 3:
                reply(self.client, request, extra="&$chosen=blind")
                leg.head()
        if self.random.random() < 0.5:
            leg.reset()
        else:
            leg.socket.close()
        if step >= 2:
            identifier = request.url.split("/sid/")[1].split("/")[0]
            assert self.hub.rest("DELETE", path("streams", identifier)).status in (204, 404)

    def broken(self):
        """A stream one of whose legs is reset somewhere on its way."""
        service, device = self.accept()
        (url, token), (other_url, other_token) = self.random.sample([service, device], 2)
        other = None
        if self.random.random() < 0.5:
            other = self.leg(other_url)
            other.switch(other_url, other_token, self.words())
        leg = self.leg(url)
        step = self.random.randrange(6)
        if step >= 1:
            request = leg.records(blind.request(url, token))
            leg.say(request[: self.random.randrange(1, len(request))] if step == 1 else request)
        if step >= 3:
            leg.head()
        if step >= 4:
            farewell = leg.records(farewell=True)
            leg.say(farewell[: self.random.randrange(1, len(farewell))] if step == 4 else farewell)
        if step >= 5:
            leg.leave()
            leg.say(self.words())
        if self.random.random() < 0.5:
            leg.reset()
        else:
            leg.socket.close()
        if other:
            other.reset()
        elif step not in (3, 4):
            # The hub may not have heard of a leg, or has one that has ended its direction: it waits a minute for what is missing.
            identifier = url.split("/sid/")[1].split("/")[0]
            assert self.hub.rest("DELETE", path("streams", identifier)).status in (204, 404)

    def play(self, streams):
        self.connect()
        for _ in range(streams):
            kinds = [self.whole, self.joined, self.broken, self.given_up]
            self.random.choices(kinds, [45, 40, 10, 5])[0]()
        self.client.close()
        self.service.close()


def play(player, streams, outcome):
    try:
        player.play(streams)
        outcome.put(None)
    except BaseException:
        outcome.put(traceback.format_exc())


def storm(hub, players, streams):
    outcome = multiprocessing.Queue()
    children = [multiprocessing.Process(target=play, args=(player, streams, outcome)) for player in players]
    for child in children:
        child.start()
    failures = [one for one in (outcome.get(timeout=3600) for _ in children) if one]
    for child in children:
        child.join(30)
    assert not failures, "\n".join(failures)


def test_no_byte_is_lost_at_any_switch(new_hub):
    hub = new_hub()
    devices = [hub.create(f"switch{number}") for number in range(PLAYERS)]

    def idle():
        return hub.rest("GET", path("streams")).json == []

    # Once for what is allocated once.
    storm(hub, [Player(hub, device, seed) for seed, device in enumerate(devices)], 40)
    waiting.until(idle, 90, "the end of every stream")
    descriptors, memory = waiting.until(hub.process.descriptors), hub.process.anonymous()
    storm(hub, [Player(hub, device, 100 + seed) for seed, device in enumerate(devices)], SWITCHES // 2 // PLAYERS)
    waiting.until(idle, 90, "the end of every stream")
    waiting.until(lambda: hub.process.descriptors() <= descriptors, 30, f"{descriptors} descriptors or fewer")
    assert hub.process.anonymous() - memory < 6 << 20, (memory, hub.process.anonymous())


@pytest.mark.parametrize(
    "bytes_before",
    [b"data, no goodbye", b"\x00" * 5, b"\x15\x03\x03\x00\x02\x01\x00"],
    ids=["plain text", "zeros", "an alert nobody signed"],
)
def test_raw_bytes_without_a_goodbye_end_the_leg(hub, bytes_before):
    device = hub.create()
    player = Player(hub, device, 1)
    player.connect()
    (url, token), _ = player.accept()
    leg = player.leg(url)
    leg.style = "whole"
    leg.say(leg.records(blind.request(url, token)))
    leg.head()
    leg.say(bytes_before)
    assert tls.read_to_end(leg.socket) is not None
    waiting.until(lambda: hub.rest("GET", path("streams")).json == [], 30, "the end of the stream")
    leg.socket.close()
    player.client.close()


def test_data_of_tls_where_a_goodbye_belongs_ends_the_leg(hub):
    device = hub.create()
    player = Player(hub, device, 2)
    player.connect()
    (url, token), _ = player.accept()
    leg = player.leg(url)
    leg.say(leg.records(blind.request(url, token)), "whole")
    leg.head()
    leg.say(leg.records(b"one word more", farewell=True) + b"raw", "whole")
    tls.read_to_end(leg.socket)
    waiting.until(lambda: hub.rest("GET", path("streams")).json == [], 30, "the end of the stream")
    leg.socket.close()
    player.client.close()
