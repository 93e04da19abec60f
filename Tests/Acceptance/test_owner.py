"""The hub's owner, with the hub's name, certificate, key and registry, against a service and a device that know each other."""

import os
import socket
import ssl
import threading

import pytest
from harness import owner as owning
from harness import waiting
from harness.owner import Keys, Owner
from harness.process import run
from harness.programs import Agent, Forward, Server, echo, receive_all, receive_exactly

MODES = ["auto", "websocket"]  # the first is blind here
WAYS = {"auto": "blind", "websocket": "e2e"}


@pytest.fixture
def owner(iotstream, certificates, keep):
    return keep(Owner(iotstream, certificates))


class Legs:
    """The agent need not wait for streams to end when the test is over."""

    def __init__(self, owner):
        self.close = owner.cut


class Ground:
    """A device with an echo behind its agent, and a service with a directory of keys."""

    def __init__(self, owner, keep, tmp_path, name="press-17"):
        self.owner, self.keep, self.tmp_path = owner, keep, tmp_path
        self.device = owner.device(name)
        self.server = keep(Server(echo))
        self.identity = tmp_path / f"{name}-service"
        self.list = tmp_path / f"{name}-authorized_services"
        self.agent = None

    def fingerprint(self):
        """Of the service."""
        return run([self.owner.binary, "forward", "--fingerprint", "--identity", self.identity], check=0).stdout.strip()

    def authorize(self, *lines):
        self.list.write_text("".join(line + "\n" for line in lines))

    def run_agent(self, *options, listed=True):
        if listed:
            self.authorize(f"{self.fingerprint()} the service")
            options = ["--authorized-services", self.list, *options]
        self.agent = self.keep(Agent(self.owner, self.device, f"it=127.0.0.1:{self.server.port}", options=options))
        self.keep(Legs(self.owner))
        return self.agent

    def run_forward(self, mode, *options, remote="it"):
        return self.keep(Forward(self.owner, self.device, f"0:{remote}", options=["--identity", self.identity, "--mode", mode, *options]))

    def pin(self, fingerprint=None, name=None):
        """Writes the device's key down, as somebody does who has compared it."""
        fingerprint = fingerprint or run([self.owner.binary, "agent", "--fingerprint", "--state", self.agent.directory / "state"],
                                         check=0).stdout.strip()
        self.identity.mkdir(mode=0o700, exist_ok=True)
        (self.identity / "known_devices").write_text(f"localhost:{self.owner.https} {name or self.device.name} {fingerprint}\n")
        return fingerprint


@pytest.fixture
def ground(owner, keep, tmp_path):
    return Ground(owner, keep, tmp_path)


def through(forward, data, whole=True):
    """What comes back."""
    with forward.connect() as local:
        local.sendall(data)
        return receive_exactly(local, len(data)) if whole else receive_all(local)


def refused(forward, pattern, after=0):
    """A local connection that is closed without a byte, and one line that says why."""
    with forward.connect() as local:
        try:
            local.sendall(b"secret")
            assert receive_all(local) == b""
        except ConnectionError:
            pass
    return forward.process.wait_line(pattern, after=after)


class Middle:
    """A man in the middle of end-to-end sessions, with keys of his own."""

    def __init__(self, owner, keys):
        self.keys, self.seen, self.failures, self.done = keys, bytearray(), [], 0
        owner.plan = self.plan

    def plan(self, opening):
        opening.relay = lambda service, device: self.relay(opening, service, device)

    def relay(self, opening, service, device):
        try:
            near = owning.as_device(service, self.keys, opening.device, opening.name)
            near.settimeout(10)
            far = owning.as_service(device, self.keys, opening.told_device, opening.told_name)
            owning.join(near, far, self.note, self.note)
        except (OSError, ssl.SSLError) as error:
            self.failures.append(error)
            for one in (service, device):
                one.close()
        finally:
            self.done += 1

    def note(self, piece):
        self.seen += piece
        return piece


@pytest.mark.parametrize("mode", MODES)
def test_an_honest_owner_carries_what_he_cannot_read(owner, ground, mode):
    seen = bytearray()

    def tap(piece):
        seen.extend(piece)
        return piece

    def plan(opening):
        opening.relay = lambda service, device: owning.join(service, device, tap, tap)

    owner.plan = plan
    ground.run_agent()
    ground.pin()
    secret = os.urandom(32) * 100
    assert through(ground.run_forward(mode), secret) == secret
    assert owner.openings[-1].answer["$chosen"] == WAYS[mode]
    assert len(seen) > 2 * len(secret) and secret[:32] not in seen
    for key in (ground.agent.directory / "state" / "agent.key", ground.identity / "service.key"):
        public = run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "der"], check=0, binary=True).stdout
        assert public[-64:] not in seen  # not even who they are
    assert ground.agent.process.has_line("event=service-admitted .*service=\"the service\"")


@pytest.mark.parametrize("mode", MODES)
def test_without_pins_and_lists_a_man_in_the_middle_reads_everything(owner, ground, mode):
    """What the others are worth: the same attack, where nobody knows anybody."""
    middle = Middle(owner, Keys("press-17"))
    ground.run_agent(listed=False)
    secret = os.urandom(32)
    assert through(ground.run_forward(mode), secret) == secret
    assert secret in middle.seen


@pytest.mark.parametrize("mode", MODES)
def test_a_pinned_key_keeps_the_man_in_the_middle_out(owner, ground, mode):
    middle = Middle(owner, Keys("press-17"))
    ground.run_agent(listed=False)
    pinned = ground.pin()
    line = refused(ground.run_forward(mode), r"iotstream forward: press-17:it: THE KEY OF press-17 HAS CHANGED: .*")[0]
    assert pinned in line and f"{ground.identity}/known_devices:1" in line
    assert b"secret" not in middle.seen
    assert ground.pin() in (ground.identity / "known_devices").read_text()


@pytest.mark.parametrize("mode", MODES)
def test_an_authority_keeps_the_man_in_the_middle_out(owner, ground, iotstream, mode, tmp_path):
    certs = tmp_path / "certs"
    for words in (["gen-root"], ["gen-device", "press-17"]):
        run([iotstream, "cert", *words, "--dir", certs], check=0)
    ground.run_agent("--cert", certs / "press-17.full-chain.cert.pem", "--key", certs / "press-17.key.pem", listed=False)
    options = ["--device-ca", certs / "root.ca.cert.pem"]
    secret = os.urandom(32)
    assert through(ground.run_forward(mode, *options), secret) == secret
    middle = Middle(owner, Keys("press-17"))
    refused(ground.run_forward(mode, *options), r"press-17:it: its certificate does not lead to one in \S+/root.ca.cert.pem: ")
    assert b"secret" not in middle.seen


@pytest.mark.parametrize("mode", MODES)
def test_a_list_of_services_keeps_the_man_in_the_middle_out(owner, ground, mode):
    """The service is careless, the device is not."""
    middle = Middle(owner, Keys("service"))
    ground.run_agent()
    with ground.run_forward(mode).connect() as local:
        try:
            local.sendall(b"secret")
            receive_all(local)
        except ConnectionError:
            pass
    ground.agent.process.wait_line(r"event=stream-failed .*reason=\"the service's key SHA256:\S+ is not in ")
    assert ground.server.accepted == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chosen", [None, "", "half-close"])
def test_a_stripped_offer_is_noticed_by_the_service(owner, ground, mode, chosen):
    """The device, which takes everybody, is told of a plain stream, and the service that it must be one."""

    def plan(opening):
        opening.told_offer = ["half-close"] if chosen else []
        opening.chosen = chosen

    owner.plan = plan
    ground.run_agent(listed=False)
    ground.pin()
    refused(ground.run_forward(mode), r"press-17:it: the stream would not be encrypted as far as the device, but its key is in ")


@pytest.mark.parametrize("mode", MODES)
def test_a_stripped_offer_is_noticed_by_the_device(owner, ground, mode):
    def plan(opening):
        opening.told_offer = ["half-close"]

    owner.plan = plan
    ground.run_agent()
    ground.pin()
    refused(ground.run_forward(mode), r"press-17:it: rejected: .*end to end")
    assert ground.server.accepted == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pretended", ["half-close", "", "unknown"])
def test_words_that_do_not_fit_open_nothing(owner, ground, mode, pretended):
    """The device has chosen one thing, the service is told another."""

    def plan(opening):
        opening.chosen = pretended

    owner.plan = plan
    ground.run_agent()
    ground.pin()
    forward = ground.run_forward(mode)
    with forward.connect() as local:
        try:
            local.sendall(b"secret")
            assert receive_all(local) == b""
        except ConnectionError:
            pass
    forward.process.wait_line(r"iotstream forward: press-17:it: ")
    assert ground.server.accepted == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_cannot_be_led_to_another_port(owner, ground, keep, tmp_path, mode):
    other = keep(Server(echo))

    def plan(opening):
        opening.told_name = "other"

    owner.plan = plan
    ground.run_agent("--allow", f"other=127.0.0.1:{other.port}")
    ground.pin()
    refused(ground.run_forward(mode), r"press-17:it: the hub has joined this stream with another one")
    assert ground.server.accepted == 0 and other.accepted == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_cannot_be_led_to_another_device(owner, ground, keep, tmp_path, mode):
    other = Ground(owner, keep, tmp_path, "drill-3")

    def plan(opening):
        opening.told_device = "drill-3"

    owner.plan = plan
    ground.run_agent()
    ground.pin()
    other.run_agent()
    refused(ground.run_forward(mode), r"press-17:it: the hub has joined this stream with another one")
    assert ground.server.accepted == 0 and other.server.accepted == 0


@pytest.mark.parametrize("certificate", ["own", "copied name", "none"])
@pytest.mark.parametrize("way", ["blind", "e2e"])
def test_the_owner_opens_no_stream(owner, ground, way, certificate):
    """Straight to the agent, with every word of the protocol right."""
    ground.run_agent()
    keys = {"own": Keys("owner"), "copied name": Keys("service"), "none": None}[certificate]
    number, status, fields = owner.ask("press-17", "it", [way])
    assert (status, fields["$chosen"]) == (200, way)
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        session = owning.as_service(owner.leg(number, "device"), keys, "press-17", "it")
        session.settimeout(10)
        session.sendall(b"hello")
        if session.recv(1) == b"":
            raise EOFError
    ground.agent.process.wait_line(rf"event=stream-failed stream={number} ")
    assert ground.server.accepted == 0


@pytest.mark.parametrize("offer", [[], ["half-close"], ["BLIND"], ["tls"]])
def test_the_owner_opens_no_plain_stream(owner, ground, offer):
    ground.run_agent()
    _, status, fields = owner.ask("press-17", "it", offer)
    assert status == 400 and "end to end" in fields["$reason"]
    assert ground.server.accepted == 0


@pytest.mark.parametrize("mode", MODES)
def test_what_was_recorded_cannot_be_played_again(owner, ground, mode):
    recorded = bytearray()

    def tap(piece):
        recorded.extend(piece)
        return piece

    def plan(opening):
        opening.relay = lambda service, device: owning.join(service, device, to_device=tap)

    owner.plan = plan
    ground.run_agent()
    ground.pin()
    assert through(ground.run_forward(mode), b"rm -rf /") == b"rm -rf /"
    waiting.until(lambda: ground.server.open == 0, 10, "the end of the stream")
    assert ground.server.accepted == 1
    number, status, _ = owner.ask("press-17", "it", [WAYS[mode]])
    assert status == 200
    leg = owner.leg(number, "device")
    leg.settimeout(10)
    try:
        leg.sendall(recorded)
        while leg.recv(65536):
            pass
    except ConnectionError:
        pass
    ground.agent.process.wait_line(rf"event=stream-failed stream={number} ")
    assert ground.server.accepted == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("harm", ["a bit", "a copy", "a hole", "an end"])
def test_what_is_changed_on_the_way_breaks_the_stream(owner, ground, mode, harm):
    """A bit turned over, bytes twice, bytes left out, and an end that the device has not said."""
    armed, done = threading.Event(), threading.Event()

    def tap(piece):
        if not armed.is_set() or done.is_set():
            return piece
        done.set()
        return {"a bit": piece[:-1] + bytes([piece[-1] ^ 1]), "a copy": piece + piece, "a hole": b""}[harm]

    def plan(opening):
        opening.relay = relay

    def relay(service, device):
        relay.service = service
        owning.join(service, device, to_service=tap)

    owner.plan = plan
    ground.run_agent()
    ground.pin()
    with ground.run_forward(mode).connect() as local:
        local.sendall(b"first")
        assert receive_exactly(local, 5) == b"first"
        if harm == "an end":
            relay.service.shutdown(socket.SHUT_WR)
        else:
            armed.set()
            local.sendall(b"second")
            assert done.wait(10)
        if harm == "a hole":
            local.sendall(b"third")
        collected = b""
        with pytest.raises(ConnectionResetError):  # never an end that looks like a good one
            while piece := local.recv(100):
                collected += piece
        assert collected == (b"second" if harm == "a copy" else b"")
