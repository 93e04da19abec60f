"""An agent that asks a provisioning service where it belongs: the service's moods, moves, and what is kept on disk."""

import base64
import json
import os
import re
import signal

import pytest
from harness import rest, waiting
from harness.process import Process, run
from harness.programs import Forward, Server, echo, receive_exactly
from harness.provisioning import Service

NAME = "press-17"


class Provisioned:
    """An agent's files, and the agent."""

    def __init__(self, iotstream, certificates, keep, tmp_path, service, name=NAME):
        self.binary, self.certificates, self.keep, self.service, self.name = iotstream, certificates, keep, service, name
        self.state, self.key = tmp_path / "state", tmp_path / "device.key"
        self.secret = base64.b64encode(os.urandom(32)).decode()
        self.key.write_text(self.secret + "\n")
        self.key.chmod(0o600)
        service.keys[name] = self.secret

    @property
    def file(self):
        return self.state / "assignment.json"

    def words(self, *options, proof=None):
        proof = proof or ["--key-file", self.key, "--registration-id", self.name]
        return [
            self.binary, "agent", "--provision", self.service.place, "--id-scope", Service.SCOPE, *proof, "--ca", self.certificates.root,
            "--state", self.state, *options,
        ]

    def start(self, *options, **named):
        environment = named.pop("environment", None)
        return self.keep(Process(self.words(*options, **named), environment))

    def admit(self, hub, name=None, authentication=None):
        """The device as a provisioning service leaves it at a hub."""
        keys = {"type": "sas", "symmetricKey": {"primaryKey": self.secret, "secondaryKey": self.secret}}
        return hub.create(name or self.name, body={"authentication": authentication or keys})


@pytest.fixture
def service(certificates, keep):
    return keep(Service(certificates))


@pytest.fixture
def provisioned(iotstream, certificates, keep, tmp_path, service):
    return Provisioned(iotstream, certificates, keep, tmp_path, service)


def ready(process, name=NAME, after=0, seconds=20):
    return process.wait_line(rf"iotstream agent: ready {re.escape(name)} via (\S+)$", seconds, after)[1]


def place(hub):
    return f"localhost:{hub.https}"


def drop(hub, name):
    assert hub.rest("DELETE", rest.path("devices", name), headers={"If-Match": "*"}).status == 204


@pytest.mark.parametrize("transport", ["websocket", "mqtt"])
def test_it_goes_where_it_is_assigned_and_streams_flow(new_hub, keep, service, provisioned, transport):
    hub = new_hub()
    service.hub, device = place(hub), provisioned.admit(hub)
    server = keep(Server(echo))
    options = ["--transport", transport, "--mqtt-port", str(hub.mqtts)] if transport == "mqtt" else []
    agent = provisioned.start("--allow", f"it=127.0.0.1:{server.port}", *options)
    assert ready(agent) == place(hub)
    forward = keep(Forward(hub, device, "0:it"))
    with forward.connect() as local:
        local.sendall(b"hello")
        assert receive_exactly(local, 5) == b"hello"
    kept = json.loads(provisioned.file.read_text())
    assert kept == {
        "endpoint": service.place, "idScope": Service.SCOPE, "registrationId": NAME, "assignedHub": place(hub), "deviceId": NAME}
    assert provisioned.file.stat().st_mode & 0o777 == 0o600
    assert provisioned.secret not in agent.log and provisioned.secret not in provisioned.file.read_text()
    assert [method for method, _ in service.requests] == ["PUT", "GET"]
    assert agent.stop() == 0

    # The next start asks nobody.
    service.stop()
    again = provisioned.start(*options)
    assert ready(again) == place(hub)


def test_a_configuration_file_says_the_same_and_the_device_id_may_differ(new_hub, keep, tmp_path, service, provisioned):
    hub = new_hub()
    service.hub, service.device = "localhost", "other-name"
    provisioned.admit(hub, "other-name")
    file = tmp_path / "agent.conf"
    file.write_text(
        f"provision {service.place}\nid-scope {Service.SCOPE}\nregistration-id {NAME}\nkey-file {provisioned.key}\n"
        f"hub-port {hub.https}\nca {provisioned.certificates.root}\nstate {provisioned.state}\nallow 22\n")
    agent = keep(Process([provisioned.binary, "agent", "--config", file]))
    assert ready(agent, "other-name") == f"localhost:{hub.https}"


def test_the_assignment_of_last_time_serves_while_the_service_is_away(new_hub, certificates, keep, service, provisioned):
    old, new = new_hub(), new_hub()
    service.hub = place(old)
    provisioned.admit(old)
    agent = provisioned.start("--allow", "22")
    ready(agent)
    service.stop()
    lines = len(agent.lines)
    drop(old, NAME)
    agent.wait_line("event=registration-failed", 30)
    assert json.loads(provisioned.file.read_text())["assignedHub"] == place(old)

    # The service is back, and has moved the device meanwhile.
    back = keep(Service(certificates, place(new), service.keys, port=service.port))
    provisioned.admit(new)
    assert ready(agent, after=lines, seconds=40) == place(new)
    assert back.registrations == 1


def test_removing_the_file_and_a_hangup_ask_again(new_hub, service, provisioned):
    one, two = new_hub(), new_hub()
    service.hub = place(one)
    provisioned.admit(one)
    provisioned.admit(two)
    agent = provisioned.start("--allow", "22")
    ready(agent)
    service.hub, lines = place(two), len(agent.lines)
    provisioned.file.unlink()
    agent.signal(signal.SIGHUP)
    assert ready(agent, after=lines) == place(two)


BAD = {
    "no JSON": (lambda: (202, {}, b"{nonsense"), "cannot be understood"),
    "deep JSON": (lambda: (200, {}, b"[" * 60000), "cannot be understood"),
    "no operation": (lambda: Service.document(202, {"status": "assigning"}), "no name for the operation"),
    "long operation": (lambda: Service.document(202, {"status": "assigning", "operationId": "x" * 5000}), "no name for the operation"),
    "huge body": (lambda: (200, {}, b"x" * (4 << 20)), "does not answer as a hub"),
    "no HTTP": (lambda: (None, {}, b"\0\1\2rubbish\r\n\r\n"), "does not answer as a hub"),
    "hangs up": (lambda: (None, {}, b""), "cut without"),
    "garbage host": (lambda: Service.document(200, {"status": "assigned", "registrationState": {
        "assignedHub": "not a host/", "deviceId": "d"}}), "no host name"),
    "host of no kind": (lambda: Service.document(200, {"status": "assigned", "registrationState": {
        "assignedHub": {"a": 1}, "deviceId": "d"}}), "no host name"),
    "garbage device": (lambda: Service.document(200, {"status": "assigned", "registrationState": {
        "assignedHub": "h", "deviceId": "a/b c"}}), "no device id"),
    "assigned nowhere": (lambda: Service.document(200, {"status": "assigned"}), "no host name"),
    "disabled": (lambda: Service.document(200, {"status": "disabled"}), "has disabled this device"),
    "failed": (lambda: Service.document(200, {"status": "failed", "registrationState": {
        "status": "failed", "errorCode": 400207, "errorMessage": "no\nhub"}}), r"no.*hub \(400207\)"),
    "unauthorised": (lambda: Service.document(401, {"errorCode": 401002, "message": "Unauthorized"}), "credentials"),
    "not found": (lambda: (404, {}, b""), "404 Not Found"),
    "redirected": (lambda: (302, {"Location": "https://elsewhere.example/"}, b""), "302 Found"),
    "broken": (lambda: (500, {}, b"oops"), "500 Internal"),
}


@pytest.mark.parametrize("mood", BAD)
def test_a_service_out_of_its_mind_is_survived(new_hub, service, provisioned, mood):
    answer, words = BAD[mood]
    service.script = lambda *_: answer()
    agent = provisioned.start("--allow", "22")
    agent.wait_line(rf"event=registration-(refused|failed) .*{words}")
    assert agent.running() and not provisioned.file.exists()
    agent.signal(signal.SIGTERM)
    assert agent.wait(5) == 0


def test_a_service_that_works_for_ever_is_asked_at_its_pace_and_left_at_once(service, provisioned):
    service.script = lambda method, path, _: Service.document(202, {"operationId": "op", "status": "assigning"}, {"Retry-After": "2"})
    agent = provisioned.start("--allow", "22")
    waiting.until(lambda: len(service.requests) >= 3, what="a second poll")
    assert {path.partition("?")[0].split("/")[-1] for method, path in service.requests if method == "GET"} == {"op"}
    agent.signal(signal.SIGTERM)
    assert agent.wait(5) == 0


def test_retry_after_is_honoured(service, provisioned):
    service.script = lambda *_: (429, {"Retry-After": "600"}, b"")
    agent = provisioned.start("--allow", "22")
    line = agent.wait_line(r"event=registration-failed .*429 Too Many Requests.* retry-milliseconds=(\d+)")
    assert 600_000 <= int(line[1]) <= 750_000
    assert service.registrations == 1


def test_a_throttled_start_succeeds_later(new_hub, service, provisioned):
    hub = new_hub()
    service.hub = place(hub)
    provisioned.admit(hub)
    service.script = lambda method, path, it: (429, {"Retry-After": "1"}, b"") if len(it.requests) == 1 else None
    assert ready(provisioned.start("--allow", "22")) == place(hub)


def test_an_operation_that_was_forgotten_is_begun_anew(new_hub, service, provisioned):
    hub = new_hub()
    service.hub = place(hub)
    provisioned.admit(hub)

    def crash(method, path, it):
        if method == "GET" and it.registrations == 1:
            it.operations.clear()

    service.script = crash
    assert ready(provisioned.start("--allow", "22")) == place(hub)
    assert service.registrations == 2


def test_a_wrong_clock_follows_the_services(service, provisioned, tmp_path):
    service.script = lambda method, path, it: (401, {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, b"") if len(it.requests) < 2 else None
    agent = provisioned.start("--allow", "22")
    agent.wait_line("event=clock-wrong")
    waiting.until(lambda: len(service.requests) >= 2)


@pytest.mark.parametrize("damage", ['{"endpoint": 5}', "\0" * 100000], ids=range(2))
def test_a_damaged_assignment_is_no_assignment(new_hub, service, provisioned, damage):
    hub = new_hub()
    service.hub = place(hub)
    provisioned.admit(hub)
    provisioned.state.mkdir(mode=0o700)
    provisioned.file.write_text(damage)
    assert ready(provisioned.start("--allow", "22")) == place(hub)
    assert json.loads(provisioned.file.read_text())["assignedHub"] == place(hub)


def test_an_assignment_that_cannot_be_kept_serves_all_the_same(new_hub, service, provisioned):
    hub = new_hub()
    service.hub = place(hub)
    provisioned.admit(hub)
    provisioned.file.mkdir(parents=True)
    agent = provisioned.start("--allow", "22")
    agent.wait_line("event=assignment-not-kept file=.*assignment.json reason=")
    assert ready(agent) == place(hub)
    assert list(provisioned.state.glob("*.new")) == []


def test_mistakes_are_one_line(iotstream, certificates, tmp_path, provisioned, service):
    def refuses(code, *words):
        result = run(words, check=code)
        lines = result.stderr.splitlines()
        assert result.stdout == "" and len(lines) == 1 and lines[0].startswith("iotstream agent: "), result.stderr
        assert provisioned.secret not in result.stderr
        return lines[0]

    base = [iotstream, "agent", "--provision", service.place, "--state", provisioned.state]
    assert "no id scope" in refuses(64, *base)
    assert "nothing proves" in refuses(64, *base, "--id-scope", "0ne1", "--registration-id", "d")
    assert "no registration id" in refuses(64, *base, "--id-scope", "0ne1", "--key-file", provisioned.key)
    assert "letters and digits" in refuses(64, *base, "--id-scope", "a/b", "--key-file", provisioned.key)
    assert "exclude each other" in refuses(64, *base, "--id-scope", "0ne1", "--connection-string-file", provisioned.key)
    assert "registration-id" in refuses(64, *base, "--id-scope", "0ne1", "--registration-id", "a b", "--key-file", provisioned.key)
    assert "not a host" in refuses(64, iotstream, "agent", "--provision", "https://x/", "--id-scope", "0ne1")
    proof = [*base, "--id-scope", "0ne1", "--registration-id", "d", "--key-file"]
    assert "no such file" in refuses(66, *proof, tmp_path / "missing")
    short = tmp_path / "short"
    short.write_text("c2hvcnQ=\n")
    short.chmod(0o600)
    assert "not a device key" in refuses(65, *proof, short)
    provisioned.key.chmod(0o644)
    assert "others may read this key: run chmod 600" in refuses(77, *proof, provisioned.key)


# --- certificates -------------------------------------------------------------------------------------------------


@pytest.fixture
def papers(iotstream, tmp_path):
    """Makes certificates of devices; the same name again replaces the pair."""
    folder = tmp_path / "papers"
    run([iotstream, "cert", "gen-root", "--name", "devices", "--dir", folder], check=0)

    def make(name):
        run([iotstream, "cert", "gen-device", name, "--dir", folder, "--force"], check=0)
        text = run([iotstream, "cert", "thumbprint", folder / f"{name}.cert.pem"], check=0).stdout.strip()
        return folder / f"{name}.full-chain.cert.pem", folder / f"{name}.key.pem", text

    make.root = folder / "root.ca.cert.pem"
    return make


def thumbprint(text):
    return {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": text, "secondaryThumbprint": None}}


def test_a_certificate_proves_it_and_a_renewed_one_registers_again(new_hub, iotstream, certificates, keep, tmp_path, papers):
    hub = new_hub()
    service = keep(Service(certificates, place(hub), authority=papers.root))
    provisioned = Provisioned(iotstream, certificates, keep, tmp_path, service)
    chain, key, first = papers(NAME)
    device = provisioned.admit(hub, authentication=thumbprint(first))
    proof = ["--cert", chain, "--key", key]  # the common name is the registration id
    agent = provisioned.start("--allow", "22", proof=proof)
    assert ready(agent) == place(hub)
    assert set(service.leaves) == {first} and json.loads(provisioned.file.read_text())["thumbprint"] == first

    # The leaf is renewed; the service tells the hub so when the device registers with it.
    second = papers(NAME)[2]
    assert second != first

    def registered(method, path, it):
        if method == "GET":
            hub.update(device, authentication=thumbprint(second))

    service.script, lines = registered, len(agent.lines)
    hub.restart()
    assert ready(agent, after=lines, seconds=60) == place(hub)
    assert service.leaves[-1] == second and json.loads(provisioned.file.read_text())["thumbprint"] == second
