"""Bad input of every kind gets one clear refusal, and the hub goes on unharmed."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from harness import tls, waiting
from harness.rest import path as route
from harness.hub import READY, Hub
from harness.process import Process, run
from harness.programs import Agent, Forward, Server, echo, receive_exactly


def refusal(result, status, role, *words):
    """One line `iotstream ROLE: …` on standard error, the right exit status, nothing on standard output."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("iotstream")]
    assert result.returncode == status, (result.returncode, result.stderr)
    assert result.stdout == "" and len(lines) == 1 and lines[0].startswith(f"iotstream {role}: "), result.stderr
    for word in words:
        assert word in lines[0], (word, lines[0])


def hub_words(certificates, state, *more, https="127.0.0.1:0", mqtts="127.0.0.1:0", chain=None, key=None):
    return ["hub", "--config", "/dev/null", "--state", str(state), "--hostname", "localhost", "--https", https, "--mqtts", mqtts, "--tls-cert",
            str(chain or certificates.chain), "--tls-key", str(key or certificates.key), *more]


@pytest.fixture
def healthy(hub):
    """Whatever a test does, the hub answers afterwards and has let go of what the test held."""
    before = hub.process.descriptors()
    yield hub
    assert hub.process.running()
    assert hub.rest("GET", route("statistics", "devices")).status == 200
    waiting.until(lambda: hub.process.descriptors() <= before + 2, 40, "the hub to let go")


# --- strangers at the ports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["https", "mqtts"])
def test_what_is_no_tls(healthy, port):
    address = ("127.0.0.1", getattr(healthy, port))
    for noise in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x10\x10\x00\x04MQTT\x04\x02", b"\x16\x03\x01\xff\xff" + b"\x00" * 600,
                  b"\x80\x2e\x01\x00\x02", os.urandom(3000), b""):
        with socket.create_connection(address, 5) as client:
            client.settimeout(10)
            with contextlib.suppress(OSError):  # the hub may have gone already
                client.sendall(noise)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass


@pytest.mark.parametrize("port", ["https", "mqtts"])
def test_half_a_handshake(healthy, port):
    address = ("127.0.0.1", getattr(healthy, port))
    context = tls.context(healthy.ca)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shake = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        shake.do_handshake()
    hello = outgoing.read()
    clients = []
    for cut in (1, 5, 60, len(hello) - 1, len(hello)):
        client = socket.create_connection(address, 5)
        client.sendall(hello[:cut])
        clients.append(client)
    for client in clients[:3]:
        tls.reset_on_close(client)
        client.close()
    for client in clients[3:]:
        client.settimeout(40)  # the hub gives up a handshake that does not go on
        try:
            while client.recv(4096):
                pass
        except ConnectionResetError:
            pass
        client.close()


def test_slow_loris_is_shown_the_door(healthy):
    """Heads and bodies that trickle do not hold a connection for ever, and others are served meanwhile."""
    slow = [tls.connect(("127.0.0.1", healthy.https), healthy.ca) for _ in range(20)]
    started = time.monotonic()
    open_ones = set(slow)
    for client in slow:
        client.sendall(b"GET /devices?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n")
        client.settimeout(0.01)
    while open_ones and time.monotonic() - started < 45:
        for client in list(open_ones):
            try:
                client.sendall(b"X-A: b\r\n")
                data = client.recv(4096)
                if data == b"" or b" 408 " in data:
                    open_ones.discard(client)
            except (ssl.SSLWantReadError, TimeoutError, socket.timeout):
                pass
            except OSError:
                open_ones.discard(client)
        assert healthy.rest("GET", route("statistics", "devices")).status == 200
        waiting.until(lambda: True, 1)
        time.sleep(0.5)  # the pace of the attack, not a wait for the hub
    assert not open_ones, f"{len(open_ones)} are still held"
    for client in slow:
        client.close()


def test_a_client_that_says_nothing(healthy):
    client = tls.connect(("127.0.0.1", healthy.mqtts), healthy.ca)
    client.settimeout(45)
    assert client.recv(1) == b""
    client.close()


# --- certificates -------------------------------------------------------------------------------------------------


def test_a_certificate_for_another_host(iotstream, certificates, keep, tmp_path):
    run([iotstream, "cert", "gen-server", "other.test", "--dir", certificates.directory, "--force"], check=0)

    class Other:
        root, key = certificates.root, certificates.directory / "other.test.key.pem"
        chain = certificates.directory / "other.test.full-chain.cert.pem"

    hub = keep(Hub(iotstream, Other))
    string = hub.admin("device", "create", "dev1").stdout.strip()

    class Identity:
        name = client = "dev1"
        module = None

    agent = keep(Agent(hub, Identity, 22, connection_string=string, wait=False))
    agent.process.wait_line("(?i)host ?name mismatch", 15)
    assert agent.process.running()
    service = tmp_path / "service"
    service.write_text(hub.connection_string())
    service.chmod(0o600)
    result = run([iotstream, "device", "list", "--connection-string-file", service, "--ca", certificates.root])
    refusal(result, 69, "device", "ismatch")


def test_an_authority_that_nobody_knows(hub, iotstream, tmp_path):
    run([iotstream, "cert", "gen-root", "--dir", tmp_path / "strange"], check=0)
    service = tmp_path / "service"
    service.write_text(hub.connection_string())
    service.chmod(0o600)
    result = run([iotstream, "device", "list", "--connection-string-file", service, "--ca", tmp_path / "strange" / "root.ca.cert.pem"])
    refusal(result, 69, "device", "certificate")


@pytest.mark.parametrize("what", ["no chain", "no key", "foreign key", "garbage"])
def test_certificate_files_that_will_not_do(iotstream, certificates, tmp_path, what):
    chain, key = certificates.chain, certificates.key
    if what == "no chain":
        chain = tmp_path / "absent.pem"
    elif what == "no key":
        key = tmp_path / "absent.pem"
    elif what == "foreign key":
        key = certificates.directory / "root.ca.key.pem"
    else:
        chain = tmp_path / "garbage.pem"
        chain.write_text("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n")
    result = run([iotstream, *hub_words(certificates, tmp_path / "state", chain=chain, key=key)])
    refusal(result, 78, "hub", str(chain if what in ("no chain", "garbage") else key))


# --- the machine --------------------------------------------------------------------------------------------------


def test_an_address_in_use(hub, iotstream, certificates, tmp_path):
    for named in ({"https": f"127.0.0.1:{hub.https}"}, {"mqtts": f"127.0.0.1:{hub.mqtts}"}):
        result = run([iotstream, *hub_words(certificates, tmp_path / "state", **named)])
        refusal(result, 73, "hub", "in use")


def test_a_second_hub_on_the_same_state(hub, iotstream, certificates):
    result = run([iotstream, *hub_words(certificates, hub.state)])
    refusal(result, 75, "hub", "another hub")


def test_a_registry_that_was_cut_short(new_hub, iotstream):
    hub = new_hub()
    for _ in range(40):
        hub.create()
    hub.process.stop()
    data = os.path.join(hub.state, "registry", "data.mdb")
    whole = open(data, "rb").read()
    for length in (1, 4096, 5000, len(whole) // 2):
        with open(data, "r+b") as file:
            file.truncate(length)
        result = run([iotstream, *hub_words(hub.certificates, hub.state)], seconds=20)
        assert result.returncode in (65, 74, 78), (length, result.returncode, result.stderr)
        refusal(result, result.returncode, "hub", "data.mdb")
        listing = hub.admin("device", "list", check=None)
        assert listing.returncode != 0 and listing.stderr.startswith("iotstream device: "), listing.stderr
        assert os.path.getsize(data) == length, "the damaged file was touched"
        with open(data, "wb") as file:
            file.write(whole)
    hub.start()
    assert hub.rest("GET", route("statistics", "devices")).json["totalDeviceCount"] == 40


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def test_a_full_disk(iotstream, certificates, tmp_path):
    """Writes are refused, reads go on, and what was acknowledged is there when there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk))
    hub = None
    try:
        hub = Hub(iotstream, certificates, start=False)
        shutil.rmtree(hub.state)
        hub.state = str(disk / "state")
        hub.start()
        kept = [hub.create().name for _ in range(5)]
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"x" * 4096)
            except OSError:
                pass
        refused = 0
        for number in range(2000):
            answer = hub.rest("PUT", route("devices", f"full{number}"), {"deviceId": f"full{number}"})
            if answer.status != 200:
                assert answer.status in (500, 503), answer.status
                refused += 1
                break
            kept.append(f"full{number}")
        assert refused, "the disk was never full"
        assert hub.rest("GET", route("devices", kept[0])).status == 200
        assert hub.process.running()
        os.unlink(disk / "ballast")
        waiting.until(lambda: hub.rest("PUT", route("devices", "after"), {"deviceId": "after"}).status in (200, 409), 10)
        for name in kept:
            assert hub.rest("GET", route("devices", name)).status == 200, name
    finally:
        if hub:
            hub.process.stop()
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_read_only_disk(iotstream, certificates, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk))
    try:
        hub = Hub(iotstream, certificates, start=False)
        shutil.rmtree(hub.state)
        hub.state = str(disk / "state")
        hub.start()
        hub.create("kept")
        hub.process.stop()
        mount("-o", "remount,ro", str(disk))
        result = run([iotstream, *hub_words(certificates, disk / "state")])
        assert result.returncode in (73, 74, 77), (result.returncode, result.stderr)
        refusal(result, result.returncode, "hub", "ead-only")
        result = run([iotstream, "device", "create", "more"], {"IOTSTREAM_STATE": str(disk / "state")})
        assert result.returncode != 0 and result.stderr.startswith("iotstream device: "), result.stderr
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


# --- configuration and secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, words", [
    ("htps 127.0.0.1:0\n", ["hub.conf:1", "htps"]), ("# fine\n\nworkers many\n", ["hub.conf:3", "workers"]),
    ("[nowhere]\n", ["hub.conf:1"]), ("drain-seconds\n", ["hub.conf:1"]), ("https [::1\n", ["hub.conf:1"]),
])
def test_a_configuration_that_is_wrong(iotstream, certificates, tmp_path, text, words):
    path = tmp_path / "hub.conf"
    path.write_text(text)
    result = run([iotstream, "hub", "--config", path, "--state", tmp_path / "state", "--tls-cert", certificates.chain, "--tls-key",
                  certificates.key, "--check"])
    refusal(result, 78, "hub", *words)


@pytest.mark.parametrize("text, status", [
    ("", 65), ("nonsense", 65), ("HostName=localhost;DeviceId=d", 65), ("HostName=localhost;DeviceId=d;SharedAccessKey=%%%", 65),
    ("HostName=localhost;DeviceId=d;SharedAccessKey=QUJDREVGR0hJSktMTU5PUA==;Colour=red", 65), (None, 66),
])
def test_connection_strings_that_will_not_do(iotstream, certificates, tmp_path, text, status):
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    result = run([iotstream, "agent", "--config", "/dev/null", "--connection-string-file", path, "--ca", certificates.root, "--allow", "22"],
                 seconds=15)
    refusal(result, status, "agent")
    assert "QUJDREVG" not in result.stderr and "%%%" not in result.stderr


def test_a_secret_never_shows(hub, keep, iotstream):
    """Neither in the process list nor in a log, and not in an error."""
    server = keep(Server(echo))
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it"))
    client = forward.connect()
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"hello"
    client.close()
    secrets = [device.key, device.secondary, hub.policy_key()]
    for process in (agent.process, forward.process, hub.process):
        shown = open(f"/proc/{process.pid}/cmdline").read() + process.log
        for secret in secrets:
            assert secret not in shown and secret[:16] not in shown
        assert "sig=" not in shown


def test_reload_of_a_broken_configuration_keeps_the_old(iotstream, certificates, tmp_path, keep):
    path = tmp_path / "hub.conf"
    good = (f"hostname localhost\nhttps 127.0.0.1:0\nmqtts 127.0.0.1:0\ntls-cert {certificates.chain}\ntls-key {certificates.key}\n")
    path.write_text(good)
    process = keep(Process([iotstream, "hub", "--config", path, "--state", tmp_path / "state"]))
    ready = process.wait_line(READY)
    path.write_text(good + "colour red\n")
    process.signal(1)
    process.wait_line("event=reload-failed.*colour")
    with tls.connect(("127.0.0.1", int(ready[2])), certificates.root) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 404"
    path.write_text(good)
    process.signal(1)
    process.wait_line("event=reloaded")
