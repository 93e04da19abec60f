"""Devices and services that prove themselves by certificates: agent and forward with --cert and --key."""

import os
import re
import signal
import subprocess

import pytest
from harness.middlebox import Tunnel
from harness.process import Process, run
from harness.programs import Forward, Server, echo, receive_exactly

REFUSED = "event=refused .*the hub does not accept this device's credentials"


class Papers:
    """A root, an intermediate and what they issue."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        self.tool("gen-root", "--name", "papers")
        self.tool("gen-intermediate", "factory")
        self.root = directory / "root.ca.cert.pem"

    def tool(self, *words):
        return run([self.binary, "cert", *words, "--dir", self.directory], check=0).stdout

    def chain(self, name):
        return self.directory / f"{name}.full-chain.cert.pem"

    def key(self, name):
        return self.directory / f"{name}.key.pem"

    def options(self, name):
        return ["--cert", self.chain(name), "--key", self.key(name)]

    def device(self, name):
        """A new pair for this name; returns the thumbprint of its leaf."""
        self.tool("gen-device", name, "--force")
        return run([self.binary, "cert", "thumbprint", self.chain(name)], check=0).stdout.strip()


@pytest.fixture
def papers(iotstream, tmp_path):
    return Papers(iotstream, tmp_path / "papers")


def pinned(*texts):
    first, second = (*texts, None)[:2]
    return {"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": first, "secondaryThumbprint": second}}}


class Ground:
    """A hub's device with a certificate, and its agent."""

    def __init__(self, hub, papers, keep, tmp_path, name="press-17"):
        self.hub, self.papers, self.keep, self.tmp_path, self.name = hub, papers, keep, tmp_path, name
        self.thumbprint = papers.device(name)
        self.device = hub.create(name, body=pinned(self.thumbprint))
        self.secret = tmp_path / "connection-string"
        self.secret.write_text(f"HostName=localhost:{hub.https};DeviceId={name};x509=true\n")
        self.secret.chmod(0o600)
        self.server = keep(Server(echo))

    def words(self, *options):
        return [
            self.hub.binary, "agent", "--connection-string-file", self.secret, "--ca", self.hub.ca, "--state", self.tmp_path / "state",
            "--allow", f"it=127.0.0.1:{self.server.port}", *self.papers.options(self.name), *options,
        ]

    def agent(self, *options):
        return self.keep(Process(self.words(*options)))

    def ready(self, process, after=0, seconds=60):
        process.wait_line(rf"iotstream agent: ready {re.escape(self.name)} via ", seconds, after)
        return len(process.lines)

    def echo(self, *options):
        forward = self.keep(Forward(self.hub, self.name, "0:it", options=options))
        with forward.connect() as local:
            local.sendall(b"hello")
            assert receive_exactly(local, 5) == b"hello"
        return forward


@pytest.fixture
def ground(new_hub, papers, keep, tmp_path):
    return Ground(new_hub(), papers, keep, tmp_path)


@pytest.mark.parametrize("way", ["direct", "proxy"])
@pytest.mark.parametrize("transport", ["websocket", "mqtt"])
def test_a_device_with_a_certificate_offers_its_ports(ground, papers, keep, transport, way):
    options = ["--transport", transport, *(["--mqtt-port", str(ground.hub.mqtts)] if transport == "mqtt" else [])]
    proxy = keep(Tunnel()) if way == "proxy" else None
    agent = ground.agent(*options, *(proxy.options if proxy else []))
    ground.ready(agent)
    ground.echo("--device-ca", papers.root, *(proxy.options if proxy else []))
    if proxy:
        wanted = {f"localhost:{ground.hub.https}"} | ({f"localhost:{ground.hub.mqtts}"} if transport == "mqtt" else set())
        assert set(proxy.asked) == wanted
    assert "PRIVATE" not in agent.log


def test_a_renewed_pair_is_used_without_a_restart(ground, papers):
    agent = ground.agent()
    lines = ground.ready(agent)
    second = papers.device(ground.name)
    assert second != ground.thumbprint
    ground.hub.update(ground.device, **pinned(second))
    ground.hub.restart()
    lines = ground.ready(agent, lines)
    ground.echo("--device-ca", papers.root)
    assert not agent.has_line("event=refused") and not agent.has_line("event=certificate")


def test_half_a_renewal_keeps_the_old_pair(ground, papers):
    agent = ground.agent()
    lines = ground.ready(agent)
    old = papers.chain(ground.name).read_bytes(), papers.key(ground.name).read_bytes()
    second = papers.device(ground.name)
    new = papers.key(ground.name).read_bytes()
    papers.key(ground.name).write_bytes(old[1])  # the certificate is there before its key
    ground.hub.restart()
    lines = ground.ready(agent, lines)
    agent.wait_line("event=certificate .*does not belong to the certificate.*the certificate of before stays in use")
    papers.chain(ground.name).write_bytes(papers.chain(ground.name).read_bytes()[:400])
    ground.hub.restart()
    lines = ground.ready(agent, lines)
    papers.device(ground.name)
    assert papers.key(ground.name).read_bytes() != new and second


def test_what_is_wrong_with_a_pair_is_one_line(ground, papers, tmp_path):
    def refuses(code, words, *options):
        result = run(ground.words(*options), check=code)
        lines = result.stderr.splitlines()
        assert result.stdout == "" and len(lines) == 1 and lines[0].startswith("iotstream agent: "), result.stderr
        assert re.search(words, lines[0]), lines[0]

    key = papers.key(ground.name)
    refuses(66, "no such file", "--cert", tmp_path / "missing")
    papers.device("other")
    refuses(65, "the private key does not belong to the certificate in ", "--key", papers.key("other"))
    secret = key.read_bytes()
    for mode in (0o640, 0o604, 0o660):
        key.chmod(mode)
        if mode == 0o640 and os.geteuid() != 0:
            continue
        refuses(77, "others may read this key: run chmod 600 ", )
    key.chmod(0o600)
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", tmp_path / "locked", "-passout", "pass:x"], check=True)
    (tmp_path / "locked").chmod(0o600)
    refuses(65, "protected by a password: take it off with openssl pkey", "--key", tmp_path / "locked")
    key.write_text("rubbish")
    refuses(65, "no private key in it", )
    key.write_bytes(secret)
    ground.secret.write_text(f"HostName=localhost:{ground.hub.https};DeviceId={ground.name}\n")
    result = run([word for word in ground.words() if word not in ("--cert", "--key", papers.chain(ground.name), key)], check=65)
    assert "name the device's certificate with --cert and --key" in result.stderr


def test_an_expired_certificate_is_said_to_be_so(ground, papers, tmp_path):
    key, chain = papers.key(ground.name), papers.chain(ground.name)
    request = tmp_path / "request.pem"
    for words in (["req", "-new", "-key", key, "-subj", f"/CN={ground.name}", "-out", request],
                  ["x509", "-req", "-in", request, "-signkey", key, "-days", "-1", "-out", chain]):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    text = run([ground.hub.binary, "cert", "thumbprint", chain], check=0).stdout.strip()
    ground.hub.update(ground.device, **pinned(text))
    agent = ground.agent()
    agent.wait_line(r"event=certificate .*the certificate expired on \d{4}-")
    agent.wait_line(REFUSED + r".*the certificate expired on \d{4}-")


def test_another_devices_certificate_is_refused_and_mended_by_its_own(ground, papers):
    files = [papers.chain(ground.name), papers.key(ground.name)]
    own = [file.read_bytes() for file in files]
    papers.device("other")
    for file, source in zip(files, (papers.chain("other"), papers.key("other"))):
        file.write_bytes(source.read_bytes())
    agent = ground.agent()
    agent.wait_line(REFUSED)
    for file, text in zip(files, own):
        file.write_bytes(text)
    agent.signal(signal.SIGHUP)  # at once, not after its pause
    ground.ready(agent)


@pytest.mark.parametrize("kind", ["rsa2048", "p384", "SEC1", "CRLF", "leading text"])
def test_pairs_of_every_make_are_understood(ground, papers, kind):
    key, chain = papers.key(ground.name), papers.chain(ground.name)
    if kind in ("rsa2048", "p384"):
        papers.tool("gen-device", ground.name, "--force", "--algorithm", kind)
        if kind == "rsa2048":
            subprocess.run(["openssl", "rsa", "-in", key, "-out", key, "-traditional"], check=True, capture_output=True)
            assert "BEGIN RSA PRIVATE KEY" in key.read_text()
        ground.hub.update(ground.device, **pinned(run([ground.hub.binary, "cert", "thumbprint", chain], check=0).stdout.strip()))
    elif kind == "SEC1":
        subprocess.run(["openssl", "ec", "-in", key, "-out", key], check=True, capture_output=True)
        assert "BEGIN EC PRIVATE KEY" in key.read_text()
    else:
        for file in (key, chain):
            text = file.read_bytes()
            file.write_bytes(text.replace(b"\n", b"\r\n") if kind == "CRLF" else b"Bag Attributes\n    friendlyName: x\n" + text)
    ground.ready(ground.agent())


# --- services -----------------------------------------------------------------------------------------------------


def test_a_service_shows_its_renewed_certificate_without_a_restart(ground, papers, keep, tmp_path):
    listed = tmp_path / "authorized_services"
    listed.write_text(f"cert-authority {papers.root} anna\n")
    ground.ready(ground.agent("--authorized-services", listed))
    papers.device("anna")
    forward = ground.echo("--device-ca", papers.root, *papers.options("anna"))

    def passes():
        with forward.connect() as local:
            local.sendall(b"again")
            return receive_exactly(local, 5) == b"again"

    # A pair of another authority in its place: the device turns the next stream away.
    other = Papers(ground.hub.binary, tmp_path / "other")
    other.device("anna")
    kept = {file: file.read_bytes() for file in (papers.chain("anna"), papers.key("anna"))}
    papers.chain("anna").write_bytes(other.chain("anna").read_bytes())
    papers.key("anna").write_bytes(other.key("anna").read_bytes())
    with pytest.raises((EOFError, ConnectionError, AssertionError)):
        passes()
    forward.process.wait_line("iotstream forward: .*:it: the device does not accept this service's")
    for file, text in kept.items():
        file.write_bytes(text)
    assert passes()
    papers.device("anna")
    assert passes()


def test_what_is_wrong_with_a_services_pair_is_one_line(ground, papers):
    papers.device("anna")
    words = [ground.hub.binary, "connect", ground.name, "it", "--ca", ground.hub.ca, *papers.options("anna")]
    environment = {"IOTSTREAM_CONNECTION_STRING": ground.hub.connection_string()}
    papers.key("anna").chmod(0o644)
    result = run(words, environment, check=77)
    assert result.stderr.count("\n") == 1 and "others may read this key" in result.stderr
    papers.key("anna").chmod(0o600)
    papers.device("bert")
    papers.key("anna").write_bytes(papers.key("bert").read_bytes())
    result = run(words, environment, check=65)
    assert result.stderr.count("\n") == 1 and "does not belong to the certificate" in result.stderr
