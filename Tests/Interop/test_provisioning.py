"""azure-iot-device's ProvisioningDeviceClient, as it comes from PyPI, and the hub's client with what it was told: two hubs and one service
as three processes, and a device that is moved from one hub to the other without a change of its software."""

import os
import pathlib
import tempfile
import types

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, ProvisioningDeviceClient, exceptions
from harness import rest, waiting
from harness.dps import SCOPE, Dps, Within, derived, primary
from harness.hub import Hub
from harness.process import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WAYS = pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])
PORTS = (443, 8883)


@pytest.fixture(scope="module")
def town(machine, iotstream):
    """test-hub.test, prod-hub.test and dps.test, each on its proper ports."""
    with tempfile.TemporaryDirectory(prefix="iotstream-certs.") as directory:
        folder = pathlib.Path(directory)
        run([iotstream, "cert", "gen-root", "--dir", folder], check=0)
        run([iotstream, "cert", "gen-server", "dps.test", "test-hub.test", "prod-hub.test", "one.test", "--dir", folder], check=0)
        certificates = types.SimpleNamespace(
            root=folder / "root.ca.cert.pem", chain=folder / "dps.test.full-chain.cert.pem", key=folder / "dps.test.key.pem")
        hubs = [
            Hub(iotstream, certificates, address="127.0.0.2", ports=PORTS, name="test-hub.test"),
            Hub(iotstream, certificates, address="127.0.0.3", ports=PORTS, name="prod-hub.test"),
        ]
        dps = Dps(iotstream, certificates, hubs, address="127.0.0.4", ports=PORTS, name="dps.test")
        yield types.SimpleNamespace(dps=dps, test=hubs[0], prod=hubs[1], folder=folder, binary=iotstream, certificates=certificates)
        for one in [dps, *hubs]:
            assert one.process.running(), one.process.log
            one.remove()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


class Software:
    """What runs on the device; it knows the service's name, the scope, its id, and its key or certificate. Never changed below."""

    def __init__(self, town, registration, key=None, certificate=None, websockets=False, host="dps.test"):
        self.host = host
        self.town, self.registration, self.key, self.certificate = town, registration, key, certificate
        self.named = {"websockets": websockets, "server_verification_cert": town.dps.ca.read_text()}
        self.client = None

    def provision(self, payload=None):
        first = (self.host, self.registration, SCOPE)
        if self.key:
            client = ProvisioningDeviceClient.create_from_symmetric_key(*first, self.key, **self.named)
        else:
            client = ProvisioningDeviceClient.create_from_x509_certificate(*first, self.certificate, **self.named)
        client.provisioning_payload = payload
        return client.register()

    def connect(self, state):
        named = {"connection_retry": False, "auto_connect": False, **self.named}
        if self.key:
            self.client = IoTHubDeviceClient.create_from_symmetric_key(
                self.key, state.assigned_hub, state.device_id, **named)
        else:
            self.client = IoTHubDeviceClient.create_from_x509_certificate(
                self.certificate, state.assigned_hub, state.device_id, **named)
        self.client.connect()
        return self.client

    def run(self, known=None):
        """Connects with what it knows; registers when it knows nothing, or is refused."""
        for _ in range(2):
            if known is None:
                known = self.provision().registration_state
            try:
                return known, self.connect(known)
            except (exceptions.CredentialError, exceptions.ClientError):
                self.client.shutdown()
                known = None
        raise AssertionError("refused twice")

    def close(self):
        if self.client:
            self.client.shutdown()


@WAYS
@pytest.mark.parametrize("kind", ["symmetric", "group", "leaf", "chain"])
def test_a_device_of_every_kind_is_provisioned_and_let_in(town, websockets, kind, keep):
    name = f"{kind}-{'ws' if websockets else 'mqtt'}"
    options = {"allocationPolicy": "static", "iotHubs": ["test-hub.test"]}
    key = certificate = None
    if kind == "symmetric":
        key = primary(town.dps.enroll(name, **options))
    elif kind == "group":
        key = derived(primary(town.dps.enroll_group("keys", **options)), name)
    else:
        run([town.binary, "cert", "gen-device", name, "--dir", town.folder], check=0)
        certificate = X509(str(town.folder / f"{name}.cert.pem"), str(town.folder / f"{name}.key.pem"))
        if kind == "leaf":
            one = {"certificate": (town.folder / f"{name}.cert.pem").read_text()}
            town.dps.enroll(name, attestation={"type": "x509", "x509": {"clientCertificates": {"primary": one}}}, **options)
        else:
            root = town.dps.ca.read_text()
            town.dps.done("PUT", "certificates", "fleet", body={"properties": {"certificate": root, "isVerified": True}},
                          headers={"If-Match": "*"})
            town.dps.enroll_group("fleet", attestation={"type": "x509", "x509": {"caReferences": {"primary": "fleet"}}}, **options)
    software = keep(Software(town, name, key, certificate, websockets))
    result = software.provision({"model": "x9"})
    assert result.status == "assigned" and str(result) and str(result.registration_state)
    state = result.registration_state
    assert (state.assigned_hub, state.device_id, state.sub_status) == ("test-hub.test", name, "initialAssignment")
    assert software.connect(state).connected
    kind_here = town.test.rest("GET", rest.path("devices", name)).json["authentication"]["type"]
    assert kind_here == ("sas" if key else "selfSigned")


@WAYS
def test_a_wrong_key_is_told(town, websockets, keep):
    town.dps.enroll("wrong")
    software = keep(Software(town, "wrong", derived("AAAA" * 8, "x"), websockets=websockets))
    with pytest.raises(exceptions.ClientError) as raised:
        software.provision()
    assert "401" in str(raised.value.__cause__ or raised.value) or isinstance(raised.value, exceptions.CredentialError)


@WAYS
def test_a_hub_that_is_its_own_service(town, websockets, keep):
    """Both on the same ports, under the same name."""
    file = town.folder / "dps.conf"
    file.write_text(f"id-scope {SCOPE}\nhub-ca {town.dps.ca}\n")
    hub = keep(Hub(town.binary, town.certificates, address="127.0.0.5", ports=PORTS, name="one.test",
                   options=["--with-dps", "--dps-config", file]))
    service = Within(hub, "one.test")
    service.link(hub)
    software = keep(Software(town, "alone", primary(service.enroll("alone")), websockets=websockets, host="one.test"))
    state, client = software.run()
    assert state.assigned_hub == "one.test" and client.connected


def enroll(town, name, hub, policy):
    return town.dps.enroll(
        name, allocationPolicy="static", iotHubs=[hub], initialTwin={"tags": {"stage": "test"}, "properties": {"desired": {"interval": 5}}},
        reprovisionPolicy={"updateHubAssignment": policy != "never", "migrateDeviceData": policy != "reset"})


@pytest.mark.parametrize("policy", ["migrate", "reset", "never", "migrate-gone"])
def test_from_test_to_production(town, policy, keep):
    """Section 16 of the specification, message by message."""
    name = f"press-{policy}"
    enrollment = enroll(town, name, "test-hub.test", policy)
    software = keep(Software(town, name, primary(enrollment)))
    state, client = software.run()
    assert state.assigned_hub == "test-hub.test" and client.connected
    assert client.get_twin()["desired"]["interval"] == 5
    client.patch_twin_reported_properties({"firmware": "2"})
    town.test.rest("PATCH", rest.path("twins", name), {"properties": {"desired": {"interval": 9}}})
    # The operator moves it, and takes it from the test hub unless the service is to do that.
    enroll(town, name, "prod-hub.test", policy)
    if policy in ("migrate-gone", "never"):
        assert town.test.rest("DELETE", rest.path("devices", name), headers={"If-Match": "*"}).status == 204
        waiting.until(lambda: not client.connected, 20, "the end of the connection")
        client.shutdown()
        state, client = software.run(known=state)  # the old hub refuses it: it asks the service again
    else:
        client.shutdown()
        state, client = software.run()  # a restart of the device
        assert town.test.rest("GET", rest.path("devices", name)).status == 404
    assert client.connected
    twin = client.get_twin()
    if policy == "never":
        assert state.assigned_hub == "test-hub.test" and town.prod.rest("GET", rest.path("devices", name)).status == 404
        town.dps.done("DELETE", "registrations", name)
        client.shutdown()
        state, client = software.run()
        assert (state.assigned_hub, state.sub_status) == ("prod-hub.test", "initialAssignment")
        return
    assert state.assigned_hub == "prod-hub.test"
    assert state.sub_status == ("deviceDataMigrated" if policy == "migrate" else "deviceDataReset")
    assert twin["desired"]["interval"] == (9 if policy == "migrate" else 5)
    assert twin["reported"].get("firmware") == ("2" if policy == "migrate" else None)
    # The old hub does not know it any more.
    old = keep(Software(town, name, primary(enrollment)))
    with pytest.raises((exceptions.CredentialError, exceptions.ClientError)):
        old.connect(type("State", (), {"assigned_hub": "test-hub.test", "device_id": name}))
