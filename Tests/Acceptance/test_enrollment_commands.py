"""enrollment, enrollment-group, linked-hub and provisioning: on the state directory and over REST."""

import base64
import json
import os
import ssl
import subprocess

import pytest

from harness.dps import SCOPE, Dps
from harness.waiting import until

VECTOR = ("8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
          "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6", "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=")


@pytest.fixture(scope="module")
def dps(iotstream, certificates):
    made = Dps(iotstream, certificates)
    yield made
    made.remove()


class Place:
    """Where a command acts: adds the options that say so."""

    def __init__(self, program, *options):
        self.program, self.options = program, [str(option) for option in options]

    def run(self, *words):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("IOTSTREAM_")}
        command = [self.program, words[0], *self.options, *map(str, words[1:])]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL)

    def ok(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words):
        return json.loads(self.ok(*words, "--json"))

    def fails(self, code, *words):
        done = self.run(*words)
        lines = done.stderr.splitlines()
        assert done.returncode == code and len(lines) == 1 and lines[0].startswith(f"iotstream {words[0]}: "), (done.returncode, lines)
        return lines[0]


@pytest.fixture(params=["state", "service"])
def place(request, dps, iotstream, tmp_path):
    state = Place(iotstream, "--state", dps.state)
    if request.param == "state":
        return state
    secret = tmp_path / "connection"
    secret.write_text(state.ok("provisioning", "connection-string", "--hostname", f"{dps.name}:{dps.https}"))
    secret.chmod(0o600)
    return Place(iotstream, "--connection-string-file", secret, "--ca", dps.ca)


@pytest.fixture
def certs(iotstream, tmp_path):
    """A root and what it signs, in a directory."""

    def make(*words):
        done = subprocess.run([iotstream, "cert", words[0], "--dir", tmp_path / "certs", *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return tmp_path / "certs"

    make("gen-root")
    return make


@pytest.mark.parametrize("role", ["enrollment", "enrollment-group"])
def test_the_way_of_an_enrollment(place, role):
    group = role == "enrollment-group"
    key = place.ok(role, "create", "Press-17").strip()
    assert len(base64.b64decode(key)) == 64
    assert "exists" in place.fails(1, role, "create", "press-17")
    shown = place.ok(role, "show", "press-17")
    assert key not in shown and "Press-17" in shown
    first, second = place.ok(role, "keys", "press-17").split()
    assert first == key and second != key
    assert place.json(role, "keys", "press-17") == {"primaryKey": first, "secondaryKey": second}
    place.ok(role, "update", "press-17", "--hub", "b.example", "--allocation", "static", "--reprovision", "reset", "--edge",
             "--twin", '{"tags":{"stage":"test"},"properties":{"desired":{"interval":5}}}')
    document = place.json(role, "show", "press-17")
    assert document["iotHubs"] == ["b.example"] and document["allocationPolicy"] == "static"
    assert document["capabilities"] == {"iotEdge": True} and document["provisioningStatus"] == "enabled"
    assert document["reprovisionPolicy"] == {"updateHubAssignment": True, "migrateDeviceData": False}
    assert document["initialTwin"]["tags"] == {"stage": "test"}
    assert document["attestation"] == {"type": "symmetricKey", "symmetricKey": {}}
    assert place.ok(role, "keys", "press-17").split() == [first, second]
    assert place.ok(role, "keys", "press-17", "--swap").split() == [second, first]
    fresh = place.ok(role, "keys", "press-17", "--secondary").split()
    assert fresh[0] == second and fresh[1] not in (first, second)
    place.ok(role, "update", "press-17", "--disabled")
    rows = [line.split() for line in place.ok(role, "list").splitlines()]
    assert rows[0] == ["ID", "STATUS", "ATTESTATION", "ALLOCATION", "HUBS"]
    assert ["Press-17", "disabled", "symmetricKey", "static", "b.example"] in rows
    found = place.json(role, "list", "--where", "provisioningStatus = 'disabled'")
    assert [one["enrollmentGroupId" if group else "registrationId"] for one in found] == ["Press-17"]
    assert place.json(role, "list", "--where", "provisioningStatus = 'enabled'") == []
    place.fails(75, role, "update", "press-17", "--enabled", "--etag", "other")
    place.fails(75, role, "delete", "press-17", "--etag", "other")
    place.fails(64, role, "update", "press-17")
    place.fails(65, role, "create", "bad.")
    place.fails(65, role, "create", "other", "--allocation", "sometimes")
    place.ok(role, "delete", "press-17")
    for word in ("show", "delete", "keys"):
        place.fails(1, role, word, "press-17")


def test_keys_that_are_given(place, tmp_path):
    secret = tmp_path / "key"
    secret.write_text(VECTOR[0] + "\n")
    assert place.ok("enrollment-group", "create", "line", "--primary-key", f"@{secret}").strip() == VECTOR[0]
    assert place.ok("enrollment-group", "derive-key", "line", VECTOR[1]).strip() == VECTOR[2]
    assert place.ok("enrollment-group", "derive-key", "line", VECTOR[1], "--secondary").strip() != VECTOR[2]
    place.fails(65, "enrollment-group", "derive-key", "line", "a b")
    place.fails(65, "enrollment", "create", "x", "--primary-key", "AAAA")
    place.ok("enrollment-group", "delete", "line")


def test_certificates(place, certs):
    directory = certs("gen-device", "press-07")
    leaf, root = directory / "press-07.cert.pem", directory / "root.ca.cert.pem"
    assert place.ok("enrollment", "create", "press-07", "--cert", leaf) == ""
    document = place.json("enrollment", "show", "press-07")
    slot = document["attestation"]["x509"]["clientCertificates"]["primary"]
    assert slot["certificate"] is None and "press-07" in slot["info"]["subjectName"]
    place.ok("enrollment", "update", "press-07", "--secondary-cert", leaf, "--disabled")
    slots = place.json("enrollment", "show", "press-07")["attestation"]["x509"]["clientCertificates"]
    assert slots["primary"]["info"] == slots["secondary"]["info"] == slot["info"]
    place.ok("enrollment", "update", "press-07", "--signer", root)
    assert list(place.json("enrollment", "show", "press-07")["attestation"]["x509"]) == ["signingCertificates"]
    place.fails(1, "enrollment", "keys", "press-07")
    place.ok("enrollment", "delete", "press-07")
    place.fails(64, "enrollment", "create", "x", "--cert", leaf, "--signer", root)
    place.fails(65, "enrollment-group", "create", "x", "--signer", leaf)
    place.fails(65, "enrollment-group", "create", "x", "--authority", "nobody")
    place.fails(66, "enrollment", "create", "x", "--cert", directory / "none")


def test_the_proof_of_a_certificate_authority(place, certs):
    directory = certs("gen-device", "d")
    root = directory / "root.ca.cert.pem"
    place.ok("provisioning", "authority", "add", "factory", root)
    assert ["factory", "no"] in [line.split()[:2] for line in place.ok("provisioning", "authority", "list").splitlines()]
    place.fails(65, "provisioning", "authority", "verify", "factory", directory / "d.cert.pem")
    code = place.ok("provisioning", "authority", "code", "factory").strip()
    assert len(code) == 48
    before = set(directory.iterdir())
    certs("gen-verification", code)
    proof = next(path for path in set(directory.iterdir()) - before if path.name.endswith(".cert.pem") and "full-chain" not in path.name)
    place.ok("provisioning", "authority", "verify", "factory", proof)
    assert ["factory", "yes"] in [line.split()[:2] for line in place.ok("provisioning", "authority", "list").splitlines()]
    place.ok("enrollment-group", "create", "line", "--authority", "factory")
    assert "line" in place.fails(1, "provisioning", "authority", "delete", "factory")
    place.ok("enrollment-group", "delete", "line")
    place.ok("provisioning", "authority", "delete", "factory")
    place.fails(65, "provisioning", "authority", "add", "leaf", directory / "d.cert.pem")
    der = directory / "root.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(root.read_text()))
    place.ok("provisioning", "authority", "add", "factory", der)
    place.fails(65, "provisioning", "authority", "add", "noise", __file__)


def test_linked_hubs(place, tmp_path):
    text = f"HostName=127.0.0.1:8443;SharedAccessKeyName=dps;SharedAccessKey={VECTOR[0]}"
    secret = tmp_path / "hub"
    secret.write_text(text)
    secret.chmod(0o600)
    place.ok("linked-hub", "add", f"@{secret}", "--name", "one.example", "--weight", "3")
    place.ok("linked-hub", "update", "one.example", "--latency", "12", "--named-only")
    rows = [line.split() for line in place.ok("linked-hub", "list").splitlines()]
    assert rows[1][:6] == ["one.example", "3", "12", "ms", "named", "127.0.0.1:8443"]
    listed = place.json("linked-hub", "list")
    assert VECTOR[0] not in json.dumps(listed)
    assert listed[0]["allocationWeight"] == 3 and listed[0]["latencyMilliseconds"] == 12 and not listed[0]["applyAllocationPolicy"]
    place.fails(65, "linked-hub", "add", "HostName=x")
    place.fails(65, "linked-hub", "add", f"HostName=x;DeviceId=d;SharedAccessKey={VECTOR[0]}")
    place.fails(64, "linked-hub", "update", "one.example", "--weight", "0")
    place.ok("linked-hub", "delete", "one.example")
    place.fails(1, "linked-hub", "delete", "one.example")


def test_the_service_itself(place, dps):
    assert place.json("provisioning", "show") == {"idScope": SCOPE, "allocationPolicy": "hashed"}
    place.ok("provisioning", "set", "--allocation", "static")
    assert "static" in place.ok("provisioning", "show")
    place.ok("provisioning", "set", "--allocation", "hashed")
    place.fails(65, "provisioning", "set", "--allocation", "custom")
    place.ok("provisioning", "policy", "create", "reader", "--rights", "EnrollmentRead")
    assert "reader" in place.ok("provisioning", "policy", "list")
    place.fails(65, "provisioning", "policy", "create", "x", "--rights", "Everything")
    text = place.ok("provisioning", "connection-string", "reader", "--hostname", f"{dps.name}:{dps.https}").strip()
    reader = Place(place.program, "--connection-string", text, "--ca", dps.ca)
    assert reader.json("enrollment", "list") == []
    reader.fails(77, "enrollment", "create", "x")
    reader.fails(77, "provisioning", "show")
    place.ok("provisioning", "policy", "create", "reader", "--rights", "EnrollmentRead RegistrationStatusRead")
    assert reader.json("enrollment", "list") == []
    place.ok("provisioning", "policy", "rotate-key", "reader", "--secondary")
    assert reader.json("enrollment", "list") == []
    place.ok("provisioning", "policy", "rotate-key", "reader")
    reader.fails(77, "enrollment", "list")
    place.ok("provisioning", "policy", "delete", "reader")
    reader.fails(77, "enrollment", "list")
    place.fails(1, "provisioning", "policy", "delete", "provisioningserviceowner")


def test_registrations(place, dps, hub, iotstream, tmp_path):
    secret = tmp_path / "hub"
    secret.write_text(f"HostName={hub.name}:{hub.https};SharedAccessKeyName=iothubowner;SharedAccessKey={hub.policy_key()}")
    secret.chmod(0o600)
    place.ok("linked-hub", "add", f"@{secret}")
    place.ok("enrollment-group", "create", "line")
    try:
        key = place.ok("enrollment-group", "derive-key", "line", "dev-1").strip()
        with dps.device("dev-1", key) as device:
            state = device.assigned()
        assert state["assignedHub"] == hub.name
        assert place.json("enrollment", "registration", "show", "dev-1")["etag"] == state["etag"]
        rows = [line.split()[:4] for line in place.ok("enrollment-group", "registration", "list", "line").splitlines()]
        assert rows[1] == ["dev-1", hub.name, "dev-1", "initialAssignment"]
        # Disabled at once, in whatever way that was said.
        place.ok("enrollment", "create", "dev-1", "--disabled")
        with dps.device("dev-1", key) as device:
            assert device.register().status == 401
        place.ok("enrollment", "delete", "dev-1")
        place.ok("enrollment", "registration", "delete", "dev-1")
        place.fails(1, "enrollment", "registration", "show", "dev-1")
        with dps.device("dev-1", key) as device:
            assert device.assigned()["substatus"] == "initialAssignment"
    finally:
        place.run("enrollment-group", "delete", "line")
        place.run("enrollment", "registration", "delete", "dev-1")
        place.run("linked-hub", "delete", hub.name)
        hub.rest("DELETE", "devices", "dev-1", headers={"If-Match": "*"})


def test_where_there_is_nothing(iotstream, tmp_path):
    place = Place(iotstream, "--state", tmp_path)
    assert "dps" in place.fails(66, "enrollment", "list")
    assert not list(tmp_path.iterdir())
    place.fails(64, "enrollment", "list", "--connection-string", "HostName=x")


def test_the_audit_log_tells_who_changed_what(place, dps):
    place.ok("enrollment", "create", "audited")
    place.fails(65, "enrollment", "update", "audited", "--device-id", "a/b")
    place.ok("enrollment", "delete", "audited")
    actor = f"user:{os.geteuid()}" if place.options[0] == "--state" else "policy:provisioningserviceowner"

    def told():
        lines = Place(place.program, "--state", dps.state).ok("audit", "--event", "enrollment", "--json").splitlines()
        events = [one for one in map(json.loads, lines) if one.get("subject") == "enrollment:audited" and one["actor"] == actor]
        return [(one["action"], one["outcome"]) for one in events]

    wanted = [("enrollment-written", "ok"), ("enrollment-written", "failed"), ("enrollment-deleted", "ok")]
    until(lambda: told() == wanted)
