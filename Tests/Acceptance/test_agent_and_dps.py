"""Our agent and our provisioning service: a device that knows nothing but the service is tested, moved, cut off and let back."""

import json
import re
import signal

import pytest
from harness import rest
from harness.dps import SCOPE, Dps, Within, derived, primary
from harness.hub import Hub
from harness.middlebox import Tunnel
from harness.process import Process, run
from harness.programs import Forward, Server, echo, receive_exactly


class World:
    """Two hubs, localhost and hub.test, a service that is linked with both, and a proxy by which a device reaches them, the second at port 443."""

    def __init__(self, iotstream, certificates, keep):
        self.binary, self.certificates, self.keep = iotstream, certificates, keep
        self.test = keep(Hub(iotstream, certificates, name="localhost"))
        self.production = keep(Hub(iotstream, certificates, name="hub.test", options=["--hostname", "127.0.0.1"]))
        self.dps = keep(Dps(iotstream, certificates))
        self.dps.link(self.test)
        self.dps.link(self.production, "127.0.0.1")
        self.proxy = keep(Tunnel({f"localhost:{self.test.https}": self.test.https, "hub.test:443": self.production.https}))
        self.server = keep(Server(echo))

    def agent(self, directory, name, proof):
        words = [
            self.binary, "agent", "--provision", f"localhost:{self.dps.https}", "--id-scope", SCOPE, "--registration-id", name, "--ca",
            self.certificates.root, "--state", directory / "state", "--allow", f"it=127.0.0.1:{self.server.port}", *self.proxy.options,
        ]
        return self.keep(Process([*words, *proof]))

    def echo(self, hub, name):
        """A stream through the hub where the device is said to be."""
        options = ["--proxy", f"http://127.0.0.1:{self.keep(Tunnel({f'{hub.name}:{hub.https}': hub.https})).port}"]
        forward = self.keep(Forward(hub, name, "0:it", options=options))
        with forward.connect() as local:
            local.sendall(b"hello")
            assert receive_exactly(local, 5) == b"hello"


@pytest.fixture
def world(iotstream, certificates, keep):
    return World(iotstream, certificates, keep)


def secret(path, key):
    path.write_text(key + "\n")
    path.chmod(0o600)
    return ["--key-file", path]


def ready(process, name, after=0, seconds=60):
    return process.wait_line(rf"iotstream agent: ready {re.escape(name)} via ([^\s:]+)(?::\d+)?$", seconds, after)[1]


def test_from_test_to_production(world, tmp_path):
    """The walk of the provisioning page, with an agent in the device's place."""
    enrollment = world.dps.enroll(
        "press-07", allocationPolicy="static", iotHubs=["localhost"],
        initialTwin={"tags": {"stage": "test"}, "properties": {"desired": {"interval": 5}}})
    agent = world.agent(tmp_path, "press-07", secret(tmp_path / "key", primary(enrollment)))
    assert ready(agent, "press-07") == "localhost"
    world.echo(world.test, "press-07")
    assert world.test.rest("GET", rest.path("twins", "press-07")).json["tags"] == {"stage": "test"}

    # Moved by the operator; the running agent notices when the test hub drops it.
    enrollment = world.dps.done("GET", "enrollments", "press-07")
    enrollment["iotHubs"] = ["hub.test"]
    world.dps.done("PUT", "enrollments", "press-07", body=enrollment, headers={"If-Match": "*"})
    lines = len(agent.lines)
    assert world.test.rest("DELETE", rest.path("devices", "press-07"), headers={"If-Match": "*"}).status == 204
    assert ready(agent, "press-07", lines) == "hub.test"
    world.echo(world.production, "press-07")
    assert json.loads((tmp_path / "state" / "assignment.json").read_text())["assignedHub"] == "hub.test"

    # Cut off: first in the service, then at the hub. Let back in the same order.
    enrollment["provisioningStatus"] = "disabled"
    world.dps.done("PUT", "enrollments", "press-07", body=enrollment, headers={"If-Match": "*"})
    lines = len(agent.lines)
    document = world.production.rest("GET", rest.path("devices", "press-07")).json
    world.production.rest("PUT", rest.path("devices", "press-07"), {**document, "status": "disabled"}, {"If-Match": "*"})
    agent.wait_line("event=refused hub=hub.test", 30, lines)
    agent.wait_line("event=registration-refused .*credentials, or the device is disabled", 30, lines)
    world.production.rest("PUT", rest.path("devices", "press-07"), {**document, "status": "enabled"}, {"If-Match": "*"})
    agent.signal(signal.SIGHUP)  # at once, not after its pause
    assert ready(agent, "press-07", lines) == "hub.test"


def test_a_group_of_keys_and_a_service_that_dies_in_the_middle(world, tmp_path):
    group = world.dps.enroll_group("line-a", iotHubs=["localhost"])
    key = run([world.binary, "enrollment-group", "derive-key", "line-a", "sensor-1", "--state", world.dps.state], check=0).stdout.strip()
    assert key == derived(primary(group), "sensor-1")
    world.dps.process.signal(signal.SIGSTOP)
    agent = world.agent(tmp_path, "sensor-1", secret(tmp_path / "key", key))
    agent.wait_line("event=registering")
    world.dps.restart()
    assert ready(agent, "sensor-1") == "localhost"
    world.echo(world.test, "sensor-1")
    assert world.dps.done("GET", "registrations", "sensor-1")["status"] == "assigned"


def test_a_certificate_of_a_group_is_renewed_and_registers_again(world, tmp_path):
    folder = tmp_path / "papers"

    def cert(*words):
        return run([world.binary, "cert", *words, "--dir", folder], check=0)

    cert("gen-root", "--name", "fleet")
    cert("gen-intermediate", "factory")
    cert("gen-device", "press-09")
    world.dps.done("PUT", "certificates", "fleet", body={
        "properties": {"certificate": (folder / "root.ca.cert.pem").read_text(), "isVerified": True}})
    world.dps.done("PUT", "enrollmentGroups", "fleet", body={
        "enrollmentGroupId": "fleet", "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "fleet"}}},
        "iotHubs": ["localhost"]})
    agent = world.agent(
        tmp_path, "press-09", ["--cert", folder / "press-09.full-chain.cert.pem", "--key", folder / "press-09.key.pem"])
    assert ready(agent, "press-09") == "localhost"
    world.echo(world.test, "press-09")

    def pinned():
        return world.test.rest("GET", rest.path("devices", "press-09")).json["authentication"]["x509Thumbprint"]["primaryThumbprint"]

    before, lines = pinned(), len(agent.lines)
    run([world.binary, "cert", "renew", folder / "press-09.cert.pem", "--roll-key"], check=0)
    world.test.restart()
    assert ready(agent, "press-09", lines) == "localhost"
    assert pinned() != before and not agent.has_line("event=certificate")
    world.echo(world.test, "press-09")


def test_a_ca_device_shows_its_intermediate(world, papers_of_a_hub, tmp_path):
    """At the hub itself, where the root alone is known."""
    hub, folder = world.test, papers_of_a_hub
    hub.create("press-10", body={"authentication": {"type": "certificateAuthority"}})
    file = tmp_path / "connection-string"
    file.write_text(f"HostName=localhost:{hub.https};DeviceId=press-10;x509=true\n")
    file.chmod(0o600)
    for transport in (["websocket"], ["mqtt", "--mqtt-port", str(hub.mqtts)]):
        agent = world.keep(Process([
            world.binary, "agent", "--connection-string-file", file, "--cert", folder / "press-10.full-chain.cert.pem", "--key",
            folder / "press-10.key.pem", "--ca", hub.ca, "--state", tmp_path / "state", "--allow", "22", "--transport", *transport]))
        assert ready(agent, "press-10").startswith("localhost")
        agent.stop()
    leaf_alone = world.keep(Process([
        world.binary, "agent", "--connection-string-file", file, "--cert", folder / "press-10.cert.pem", "--key", folder / "press-10.key.pem",
        "--ca", hub.ca, "--state", tmp_path / "state", "--allow", "22"]))
    leaf_alone.wait_line("event=refused .*does not accept this device's credentials")


@pytest.fixture
def papers_of_a_hub(world, tmp_path):
    folder = tmp_path / "fleet"
    for words in (["gen-root", "--name", "of a hub"], ["gen-intermediate", "factory"], ["gen-device", "press-10"]):
        run([world.binary, "cert", *words, "--dir", folder], check=0)
    world.test.admin("authority", "add", "fleet", folder / "root.ca.cert.pem", "--verified")
    return folder


def test_one_machine_is_hub_and_service(iotstream, certificates, keep, tmp_path):
    file = tmp_path / "dps.conf"
    file.write_text(f"id-scope {SCOPE}\nhub-ca {certificates.root}\nhostname 127.0.0.1\n")
    hub = keep(Hub(iotstream, certificates, options=["--with-dps", "--dps-config", file]))
    dps = Within(hub, "127.0.0.1")
    dps.link(hub)
    proof = secret(tmp_path / "key", primary(dps.enroll("press-11")))
    agent = keep(Process([
        iotstream, "agent", "--provision", f"localhost:{hub.https}", "--hub-port", str(hub.https), "--id-scope", SCOPE, "--registration-id",
        "press-11", "--ca", certificates.root, "--state", tmp_path / "state", "--allow", "22", *proof]))
    assert ready(agent, "press-11") == "localhost"


def test_a_hub_with_a_port_of_its_own_is_found_without_a_proxy(iotstream, certificates, keep, tmp_path):
    hub, dps = keep(Hub(iotstream, certificates, name="localhost")), keep(Dps(iotstream, certificates))
    dps.link(hub)
    proof = secret(tmp_path / "key", primary(dps.enroll("press-08")))
    agent = keep(Process([
        iotstream, "agent", "--provision", f"localhost:{dps.https}", "--id-scope", SCOPE, "--registration-id", "press-08", "--ca",
        certificates.root, "--state", tmp_path / "state", "--allow", "22", *proof]))
    assert ready(agent, "press-08") == "localhost"
    document = dps.rest("GET", "registrations", "press-08").json
    assert document["assignedHub"] == "localhost", "other devices are told a name without a port"
