"""Who is at the other end: keys that are pinned, authorities, lists of services; and what the hub gets to see of a stream."""

import json
import os
import socket
import subprocess
import threading

import pytest
from harness import streams, waiting
from harness.process import run
from harness.programs import Agent, Forward, Server, echo, receive_all, receive_exactly
from harness.rest import path
from harness.spying import Capture, memory_has

MODES = ["auto", "websocket"]
SHOWN = {"auto": "blind", "websocket": "websocket"}


class Ground:
    """A device with a server behind its agent, and a service with a directory of keys."""

    def __init__(self, hub, keep, tmp_path, handler=echo):
        self.hub, self.keep, self.binary = hub, keep, hub.binary
        self.device = hub.create()
        self.came = bytearray()
        self.server = keep(Server(handler if handler is not echo else self.listen))
        self.identity = tmp_path / "identity"
        self.state = tmp_path / "state"
        self.list = tmp_path / "authorized_services"
        self.environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string(), "IOTSTREAM_IDENTITY": str(self.identity)}

    def listen(self, connection):
        """Echoes, and keeps what came."""
        while piece := connection.recv(65536):
            self.came += piece
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)

    def agent(self, *options):
        return self.keep(Agent(
            self.hub, self.device, f"it=127.0.0.1:{self.server.port}", options=["--state", self.state, *options]))

    def forward(self, *options, environment=None):
        return self.keep(Forward(self.hub, self.device, "0:it", options=options, environment=environment or self.environment))

    def connect(self, *options, stdin="hello"):
        return run([self.binary, "connect", self.device.name, "it", "--ca", self.hub.ca, *options], self.environment, stdin=stdin)

    def tool(self, *arguments, check=0):
        return run([self.binary, *arguments], self.environment, check=check).stdout.strip()

    @property
    def pins(self):
        return self.identity / "known_devices"


@pytest.fixture
def ground(hub, keep, tmp_path):
    return Ground(hub, keep, tmp_path)


def through(forward, data):
    with forward.connect() as local:
        local.sendall(data)
        return receive_exactly(local, len(data))


def refusal(result, start):
    """A command that was refused: exit 1, one line, nothing on standard output."""
    assert (result.returncode, result.stdout) == (1, ""), result
    lines = [line for line in result.stderr.splitlines() if not line.endswith(", and is remembered from now on")]
    assert len(lines) == 1 and lines[0].startswith(start), result.stderr
    return lines[0]


def closed_at_once(local):
    """The end of a local connection that leads nowhere, in good order or not."""
    try:
        local.sendall(b"secret")
        assert receive_all(local) == b""
    except ConnectionError:
        pass


def listing(hub, device):
    return [one for one in hub.rest("GET", path("streams")).json if one["deviceId"] == device.name]


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_key_is_remembered_at_the_first_stream_and_a_change_refused(hub, ground, mode):
    agent = ground.agent()
    shown = ground.tool("agent", "--fingerprint", "--state", ground.state)
    forward = ground.forward("--mode", mode)
    assert not ground.pins.exists()
    assert through(forward, b"first") == b"first"
    forward.process.wait_line(rf"iotstream forward: the key of {ground.device.name} is {shown.replace('+', '[+]')}, and is remembered")
    assert ground.pins.read_text() == f"localhost:{hub.https} {ground.device.name} {shown}\n"
    assert ground.pins.stat().st_mode & 0o777 == 0o600
    lines = len(forward.process.lines)
    assert through(forward, b"second") == b"second"
    assert len(forward.process.lines) == lines

    agent.stop()
    (ground.state / "agent.key").unlink()
    agent = ground.agent()
    fresh = ground.tool("agent", "--fingerprint", "--state", ground.state)
    assert fresh != shown
    with forward.connect() as local:
        closed_at_once(local)
    forward.process.wait_line("HAS CHANGED")
    line = refusal(ground.connect("--mode", mode), f"iotstream connect: {ground.device.name}:it: THE KEY OF {ground.device.name} HAS CHANGED: ")
    assert shown in line and fresh in line and f"{ground.pins}:1" in line and "iotstream agent --fingerprint" in line
    assert ground.came == b"firstsecond"
    for text in (shown, fresh, "CHANGED"):
        assert text not in hub.process.log

    ground.tool("known-devices", "remove", ground.device.name)
    assert through(forward, b"third") == b"third"
    assert ground.pins.read_text() == f"localhost:{hub.https} {ground.device.name} {fresh}\n"


def test_a_key_written_down_beforehand_counts_at_the_first_stream(hub, ground):
    ground.agent()
    shown = ground.tool("agent", "--fingerprint", "--state", ground.state)
    elsewhere = ground.tool("agent", "--fingerprint", "--state", ground.identity)
    ground.pins.write_text(f"# by hand\nLOCALHOST:{hub.https} {ground.device.name} {elsewhere} the old one\n")
    refusal(ground.connect(), f"iotstream connect: {ground.device.name}:it: THE KEY OF ")
    with ground.pins.open("a") as file:
        file.write(f"LOCALHOST:{hub.https} {ground.device.name} {shown} the new one\n")
    result = ground.connect()
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello", "")


def test_the_list_of_known_devices_is_shown_and_cut(hub, ground):
    ground.agent()
    assert ground.connect().returncode == 0
    with ground.pins.open("a") as file:
        file.write("nonsense\n")
    result = run([ground.binary, "known-devices", "list", "--json"], ground.environment, check=0)
    assert result.stderr == f"iotstream known-devices: warning: {ground.pins}:2: the second word is no device's id\n"
    entry, = json.loads(result.stdout)
    assert (entry["hub"], entry["device"], entry["line"]) == (f"localhost:{hub.https}", ground.device.name, 1)
    assert entry["fingerprint"] in ground.tool("known-devices", "list")
    refusal(run([ground.binary, "known-devices", "remove", "nobody"], ground.environment), "iotstream known-devices: nobody is not in ")
    ground.tool("known-devices", "remove", "--hub", "elsewhere", ground.device.name, check=1)
    ground.tool("known-devices", "remove", "--hub", f"localhost:{hub.https}", ground.device.name)
    assert ground.pins.read_text() == "nonsense\n"


def test_fingerprints_need_no_hub(iotstream, tmp_path):
    for role in ("agent", "forward", "connect"):
        place = ["--state" if role == "agent" else "--identity", tmp_path / role / "deep"]
        made = run([iotstream, role, "--fingerprint", *place], check=0).stdout
        again = json.loads(run([iotstream, role, "--fingerprint", "--json", *place], check=0).stdout)
        assert made == again["fingerprint"] + "\n" and made.startswith("SHA256:") and len(made) == 51
        file, = (tmp_path / role / "deep").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        by_hand = subprocess.run(
            f"openssl pkey -in {file} -pubout -outform der | openssl dgst -sha256 -binary | base64", shell=True, capture_output=True, text=True)
        assert made.strip() == "SHA256:" + by_hand.stdout.strip().rstrip("=")
        for mode, status in ((0o644, 77), (0o600, 0)):
            file.chmod(mode)
            assert run([iotstream, role, "--fingerprint", *place]).returncode == status
        kept = file.read_text()
        file.write_text("damaged")
        assert run([iotstream, role, "--fingerprint", *place]).returncode == 65
        assert file.read_text() == "damaged"
        file.write_text(kept)
        assert run([iotstream, role, "--fingerprint", *place]).stdout == made


def test_many_at_once_make_one_key(iotstream, tmp_path):
    words = [iotstream, "forward", "--fingerprint", "--identity", str(tmp_path / "new")]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(12)]
    assert len({one.communicate(timeout=30)[0] for one in running}) == 1
    assert os.listdir(tmp_path / "new") == ["service.key"]


def test_a_service_without_a_home_can_do_without(hub, ground):
    ground.agent()
    environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string(), "HOME": "/nonexistent", "IOTSTREAM_IDENTITY": ""}
    forward = ground.forward(environment=environment)
    assert through(forward, b"hello") == b"hello"
    forward.process.wait_line("iotstream forward: warning: no home directory: this service has a new key each time")
    forward.process.wait_line(f"iotstream forward: warning: the key of {ground.device.name} is SHA256:.*cannot be written down")
    assert not os.path.exists("/nonexistent")


# --- authorities --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(iotstream, tmp_path_factory):
    """Makes certificates, of the right authority and of a wrong one."""
    directory = tmp_path_factory.mktemp("authority")
    for place in ("right", "wrong"):
        run([iotstream, "cert", "gen-root", "--name", place, "--dir", directory / place], check=0)

    def make(name, place="right"):
        if not (directory / place / f"{name}.key.pem").exists():
            run([iotstream, "cert", "gen-device", name, "--dir", directory / place], check=0)
        return ["--cert", directory / place / f"{name}.full-chain.cert.pem", "--key", directory / place / f"{name}.key.pem"]

    make.root = directory / "right" / "root.ca.cert.pem"
    return make


@pytest.mark.parametrize("mode", MODES)
def test_a_device_with_a_certificate_is_told_by_its_authority(ground, authority, mode):
    ground.agent(*authority(ground.device.name))
    result = ground.connect("--device-ca", authority.root, "--mode", mode)
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello", "")
    assert not ground.pins.exists()
    assert ground.tool("agent", "--fingerprint", *authority(ground.device.name)).startswith("SHA256:")


def test_configuration_files_say_it_all_as_well(hub, ground, authority, tmp_path):
    """Keys of agent.conf and forward.conf, by the options' names."""
    certificate, key = authority(ground.device.name)[1::2]
    agent = tmp_path / "agent.conf"
    agent.write_text(f"cert {certificate}\nkey {key}\nauthorized-services {ground.list}\n")
    forward = tmp_path / "forward.conf"
    forward.write_text(f"identity {tmp_path}/of-the-file\ndevice-ca {authority.root}\n")
    ground.environment["IOTSTREAM_IDENTITY"] = ""
    own = ground.tool("forward", "--fingerprint", "--config", forward)
    assert own == ground.tool("connect", "--fingerprint", "--identity", tmp_path / "of-the-file")
    assert ground.tool("agent", "--fingerprint", "--config", agent) == ground.tool("agent", "--fingerprint", "--cert", certificate, "--key", key)
    ground.list.write_text(f"{own}\n")
    ground.agent("--config", agent)
    result = ground.connect("--config", forward)
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello", "")
    forward.write_text(f"identity {tmp_path}/of-the-file\ndevice-ca {certificate}.missing\n")
    result = ground.connect("--config", forward)
    assert (result.returncode, len(result.stderr.splitlines())) == (66, 1), result


@pytest.mark.parametrize("case", ["wrong authority", "another name", "no certificate"])
def test_a_wrong_certificate_is_refused(hub, ground, authority, case):
    name = ground.device.name
    options, words = {
        "wrong authority": (authority(name, "wrong"), "its certificate does not lead to one in "),
        "another name": (authority(name.upper()), f"the device's certificate is {name.upper()}'s, not {name}'s"),
        "no certificate": ([], "its certificate does not lead to one in "),
    }[case]
    ground.agent(*options)
    refusal(ground.connect("--device-ca", authority.root), f"iotstream connect: {name}:it: {words}")
    assert ground.came == b"" and "certificate" not in hub.process.log


# --- services -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_only_listed_services_come_in(hub, ground, mode):
    own = ground.tool("forward", "--fingerprint")
    ground.list.write_text("# nobody yet\n")
    agent = ground.agent("--authorized-services", ground.list)
    line = refusal(ground.connect("--mode", mode), f"iotstream connect: {ground.device.name}:it: ")
    assert line.endswith(f"the device does not accept this service's key {own}"), line
    agent.process.wait_line(rf"event=stream-failed .*reason=\"the service's key {own.replace('+', '[+]')} is not in {ground.list}\"")
    assert ground.server.accepted == 0
    assert own not in hub.process.log
    ground.list.write_text(f"{own} anna's laptop\n")  # no signal, no restart
    result = ground.connect("--mode", mode)
    assert (result.returncode, result.stdout) == (0, "hello"), result
    agent.process.wait_line("event=service-admitted .*service=\"anna's laptop\"")
    assert ground.server.accepted == 1
    ground.list.write_text(f"{own} anna's laptop\nrubbish\n")
    refusal(ground.connect("--mode", mode), f"iotstream connect: {ground.device.name}:it: ")
    agent.process.wait_line(rf"{ground.list}:2: a line is SHA256:")
    assert ground.server.accepted == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_session_that_is_resumed_is_judged_anew(ground, mode):
    """forward keeps tickets of the device's; what has been struck off a list is struck off."""
    own = ground.tool("forward", "--fingerprint")
    ground.list.write_text(f"{own}\n")
    agent = ground.agent("--authorized-services", ground.list)
    forward = ground.forward("--mode", mode)
    for number in range(3):
        assert through(forward, b"%d" % number) == b"%d" % number
    ground.list.write_text("# nobody any more\n")
    with forward.connect() as local:
        closed_at_once(local)
    forward.process.wait_line("the device does not accept this service's key")
    agent.process.wait_line("event=stream-failed .*is not in")
    assert ground.server.accepted == 3
    ground.list.write_text(f"{own}\n")
    assert through(forward, b"again") == b"again"
    ground.pins.write_text(ground.pins.read_text().replace(ground.pins.read_text().split()[2], own))
    with forward.connect() as local:
        closed_at_once(local)
    forward.process.wait_line("HAS CHANGED")


def test_services_may_come_by_certificate(ground, authority):
    ground.list.write_text(f"cert-authority {authority.root} anna\n")
    ground.agent("--authorized-services", ground.list)
    assert ground.connect(*authority("anna")).stdout == "hello"
    for wrong in (authority("bert"), authority("anna", "wrong"), []):
        refusal(ground.connect(*wrong), f"iotstream connect: {ground.device.name}:it: ")
    ground.list.write_text(f"cert-authority {authority.root}\n")
    assert ground.connect(*authority("bert")).stdout == "hello"
    assert ground.server.accepted == 2


def test_the_measuring_service_is_for_listed_services_too(ground):
    ground.list.write_text("")
    ground.keep(Agent(ground.hub, ground.device, "bench", options=["--authorized-services", ground.list]))
    result = run([ground.binary, "bench", ground.device.name, "--ca", ground.hub.ca], ground.environment)
    refusal(result, f"iotstream bench: {ground.device.name}:bench: the device does not accept this service's key SHA256:")


def test_a_list_in_the_state_directory_counts_from_the_moment_it_is_there(ground):
    ground.agent()
    assert ground.connect().stdout == "hello"
    (ground.state / "authorized_services").write_text("")
    refusal(ground.connect(), f"iotstream connect: {ground.device.name}:it: ")
    assert ground.server.accepted == 1


def test_a_listing_agent_takes_no_plain_stream(hub, ground):
    ground.list.write_text("")
    ground.agent("--authorized-services", ground.list)
    for offer in (None, "half-close", "BLIND", "tls"):
        opening = streams.Opening(hub, ground.device.name, "it", fields=streams.headers(offer=offer))
        answer = opening.answer()
        opening.close()
        assert answer.header("iothub-streaming-is-accepted") == "False" and "end to end" in answer.header("iotstream-reason")
    assert ground.server.accepted == 0


def test_a_service_that_knows_the_device_takes_no_plain_stream(hub, ground):
    """An old agent, or somebody in its place."""
    known = ground.tool("agent", "--fingerprint", "--state", ground.state)
    with ground.device.listen() as client:
        def answer():
            for _ in range(2):
                request = streams.Request(client.receive())
                streams.reply(client, request)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        forward = ground.forward()
        with forward.connect() as local:
            forward.process.wait_line(f"warning: streams to {ground.device.name} are not encrypted end to end")
            local.shutdown(socket.SHUT_WR)
        ground.pins.write_text(f"localhost:{hub.https} {ground.device.name} {known}\n")
        with forward.connect() as local:
            closed_at_once(local)
        forward.process.wait_line(f"{ground.device.name}:it: the stream would not be encrypted as far as the device, but its key is in")


def test_ssh_passes_everything_on(iotstream, hub, ground, authority, tmp_path):
    """With a stand-in for ssh that runs its ProxyCommand."""
    stand_in = tmp_path / "bin" / "ssh"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nexec sh -c "${2#ProxyCommand=}"\n')
    stand_in.chmod(0o755)
    ground.list.write_text(f"cert-authority {authority.root} anna\n")
    ground.agent("--authorized-services", ground.list, *authority(ground.device.name))
    environment = {**ground.environment, "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    result = run([iotstream, "ssh", "--ca", hub.ca, "--device-ca", authority.root, *authority("anna"), "--remote-port", "it", ground.device.name],
                 environment, stdin="hello")
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello", "")


# --- what the hub sees --------------------------------------------------------------------------------------------


class Stalled:
    """A server that says something and then reads nothing, until it is let go."""

    def __init__(self, said):
        self.said, self.go, self.came = said, threading.Event(), bytearray()

    def __call__(self, connection):
        connection.sendall(self.said)
        self.go.wait(60)
        while piece := connection.recv(1 << 16):
            self.came += piece
        connection.shutdown(socket.SHUT_WR)


def fill(local, marker, limit=512 << 20):
    """Sends until the path is full; how many times the marker went out, whole or in part."""
    local.settimeout(0.5)
    sent, block = 0, marker * (65536 // len(marker))
    try:
        while sent < limit:
            sent += local.send(block[sent % len(block):] if sent % len(block) else block)
    except TimeoutError:
        pass
    local.settimeout(20)
    return sent


@pytest.mark.parametrize("mode", MODES)
def test_a_marker_is_in_neither_the_wire_nor_the_hub(new_hub, keep, tmp_path, mode):
    hub = new_hub()
    there, back = os.urandom(32), os.urandom(32)
    server = Stalled(back * 2048)
    ground = Ground(hub, keep, tmp_path, server)
    capture = Capture(hub.https, ground.server.port)
    ground.agent()
    forward = ground.forward("--mode", mode)
    with forward.connect() as local:
        sent = fill(local, there)
        assert 1 << 16 < sent < 512 << 20
        stream, = listing(hub, ground.device)
        assert (stream["mode"], stream["endToEnd"]) == (SHOWN[mode], True)
        # The path is full: whatever the hub holds of the stream, it holds now.
        for marker in (there, back):
            assert memory_has(hub.process.pid, marker) == 0
        assert memory_has(forward.process.pid, there) > 0  # the scan finds what is there
        server.go.set()
        assert receive_exactly(local, len(server.said)) == server.said
        local.shutdown(socket.SHUT_WR)
        assert receive_all(local) == b""
    assert server.came == (there * (sent // 32 + 1))[:sent]
    capture.stop()
    wire = capture.bytes(hub.https)
    assert len(wire) > 1 << 20  # where the machine is busy some segments are lost to us
    for marker in (there, back):
        assert marker not in wire
        assert memory_has(hub.process.pid, marker) == 0
    # The same capture has the marker where nobody encrypts: between the agent and what stands on the device.
    beyond = capture.bytes(ground.server.port)
    assert there in beyond and back in beyond


def test_the_same_scan_finds_the_marker_of_a_plain_stream(new_hub):
    """Third-party clients at both ends: the hub has the bytes in its hands, and the scan sees them."""
    hub = new_hub()
    marker = os.urandom(32)
    device = hub.create()
    with device.listen() as client:
        service, far = streams.pair(hub, device, client)
        stream, = listing(hub, device)
        assert (stream["mode"], stream["endToEnd"]) == ("websocket", False)
        capture = Capture(hub.https)
        service.socket.settimeout(0.5)
        try:
            for _ in range(256):
                service.send(marker * 1024)
        except TimeoutError:
            pass  # nobody reads at the other end
        assert memory_has(hub.process.pid, marker) > 0
        wire = capture.stop().bytes(hub.https)
        assert len(wire) > 1 << 16 and marker not in wire  # TLS on each leg
        service.close()
        far.close()
