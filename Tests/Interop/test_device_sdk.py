"""azure-iot-device, as it comes from PyPI: connect, be refused, be displaced, renew."""

import asyncio
import json
import os
import queue
import threading

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, X509
from azure.iot.device import aio, exceptions
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from harness import attestation, sas, waiting
from harness.process import run
from harness.rest import path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGES = int(os.environ.get("IOTSTREAM_MESSAGES", "500"))
WAYS = pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])


def connection_string(hub, device, key=None):
    module = f"ModuleId={device.module};" if device.module else ""
    return f"HostName={hub.name};DeviceId={device.name};{module}SharedAccessKey={key or device.key}"


@pytest.fixture
def dial(hub, trust):
    """Makes clients that end with the test."""
    made = []

    def make(device, key=None, kind=IoTHubDeviceClient, **named):
        # A client that tries again by itself would hide what the hub said.
        named = {"connection_retry": False, "auto_connect": False, **named}
        made.append(kind.create_from_connection_string(connection_string(hub, device, key), server_verification_cert=trust, **named))
        return made[-1]

    yield make
    for client in made:
        client.shutdown()


def state(hub, device):
    segments = ["devices", device.name] + (["modules", device.module] if device.module else [])
    return hub.rest("GET", path(*segments)).json["connectionState"]


def is_state(hub, device, expected):
    waiting.until(lambda: state(hub, device) == expected, 10, f"{device.client} {expected}")


@WAYS
def test_connects_and_disconnects(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets)
    for _ in range(3):
        client.connect()
        assert client.connected
        is_state(hub, device, "Connected")
        client.disconnect()
        assert not client.connected
        is_state(hub, device, "Disconnected")


@WAYS
def test_the_asynchronous_client(hub, trust, websockets):
    device = hub.create()

    async def story():
        client = aio.IoTHubDeviceClient.create_from_connection_string(
            connection_string(hub, device), server_verification_cert=trust, websockets=websockets, connection_retry=False)
        await client.connect()
        assert client.connected
        await asyncio.to_thread(is_state, hub, device, "Connected")
        await client.disconnect()
        assert not client.connected
        await client.shutdown()

    asyncio.run(story())
    is_state(hub, device, "Disconnected")


@WAYS
def test_the_secondary_key_is_as_good(hub, dial, websockets):
    device = hub.create()
    client = dial(device, device.secondary, websockets=websockets)
    client.connect()
    assert client.connected


@WAYS
def test_a_module(hub, dial, websockets):
    hub.create("of-modules-" + ("w" if websockets else "m"))
    module = hub.create("of-modules-" + ("w" if websockets else "m"), "mod1")
    client = dial(module, kind=IoTHubModuleClient, websockets=websockets)
    client.connect()
    assert client.connected
    is_state(hub, module, "Connected")


@WAYS
def test_names_with_odd_characters(hub, dial, websockets):
    for name in ("a.b-c_d", "odd%+(),:@!*?$'", "%41"):
        device = hub.create(name + str(int(websockets)))
        client = dial(device, websockets=websockets)
        client.connect()
        assert client.connected
        is_state(hub, device, "Connected")


@WAYS
def test_the_wrong_key_is_a_credential_error(hub, dial, websockets):
    device, other = hub.create(), hub.create()
    with pytest.raises(exceptions.CredentialError):
        dial(device, other.key, websockets=websockets).connect()
    assert state(hub, device) == "Disconnected"


@WAYS
def test_unknown_and_disabled_devices_are_refused(hub, dial, websockets):
    device = hub.create()
    hub.update(device, status="disabled")
    with pytest.raises(exceptions.CredentialError):
        dial(device, websockets=websockets).connect()
    hub.update(device, status="enabled")
    client = dial(device, websockets=websockets)
    client.connect()
    assert client.connected
    assert hub.rest("DELETE", path("devices", device.name), headers={"If-Match": "*"}).status == 204
    waiting.until(lambda: not client.connected, 10, "the end of a deleted device's connection")
    with pytest.raises(exceptions.CredentialError):
        dial(device, websockets=websockets).connect()


@WAYS
def test_disabling_cuts_the_client_off(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets)
    noticed = threading.Event()
    client.on_connection_state_change = lambda: client.connected or noticed.set()
    client.connect()
    hub.admin("device", "disable", device.name)
    assert noticed.wait(5), "the client was not told"


@WAYS
def test_a_second_client_takes_over(hub, dial, websockets):
    device = hub.create()
    first = dial(device, websockets=websockets)
    displaced = threading.Event()
    first.on_connection_state_change = lambda: first.connected or displaced.set()
    first.connect()
    second = dial(device, websockets=not websockets)
    second.connect()
    assert displaced.wait(10), "the first client is still connected"
    assert second.connected
    assert state(hub, device) == "Connected"


@WAYS
def test_a_client_that_may_retry_comes_back_after_a_restart(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets, connection_retry=True, connection_retry_interval=1)
    lost, back = threading.Event(), threading.Event()

    def changed():
        if not client.connected:
            lost.set()
        elif lost.is_set():
            back.set()

    client.on_connection_state_change = changed
    client.connect()
    hub.restart()
    assert lost.wait(10) and back.wait(15)
    is_state(hub, device, "Connected")


@WAYS
def test_the_token_is_renewed(hub, dial, websockets):
    """The client renews 120 s before the end, by a connection of its own: with a life of 123 s that is soon."""
    device = hub.create()
    client = dial(device, websockets=websockets, sastoken_ttl=123, connection_retry=True)
    states = []
    again = threading.Event()

    def changed():
        states.append(client.connected)
        if states.count(True) >= 3:
            again.set()

    client.on_connection_state_change = changed
    client.connect()
    assert again.wait(25), f"the token was not renewed twice: {states}"
    is_state(hub, device, "Connected")
    client.disconnect()


@WAYS
def test_a_token_made_elsewhere(hub, trust, websockets):
    device = hub.create()

    def attempt(token):
        client = IoTHubDeviceClient.create_from_sastoken(
            token, server_verification_cert=trust, websockets=websockets, connection_retry=False)
        try:
            client.connect()
            return client.connected
        finally:
            client.shutdown()

    assert attempt(device.token())
    assert attempt(device.token(order="se sr sig"))
    other = hub.create()
    with pytest.raises(exceptions.CredentialError):
        attempt(sas.token(other.key, device.resource))


@WAYS
def test_a_model_id_and_product_info_are_no_trouble(hub, dial, websockets):
    for info in ("dtmi:com:example:Thermostat;1", "press/1.0 (line 4; über)"):
        device = hub.create()
        client = dial(device, websockets=websockets, product_info=info)
        client.connect()
        assert client.connected


# --- X.509 --------------------------------------------------------------------------------------------------------


class Pair:
    """A self-signed certificate and its thumbprint."""

    def __init__(self, directory, name):
        self.certificate, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             f"/CN={name}", "-keyout", self.key, "-out", self.certificate], check=0)

    def thumbprint(self, algorithm):
        text = run(["openssl", "x509", "-noout", "-fingerprint", f"-{algorithm}", "-in", self.certificate], check=0).stdout
        return text.strip().partition("=")[2].replace(":", "")


@WAYS
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_certificate_known_by_its_thumbprint(hub, trust, tmp_path, websockets, algorithm):
    name = f"x509-{algorithm}-{int(websockets)}"
    good, bad = Pair(tmp_path, name), Pair(tmp_path, name + "-stranger")
    hub.admin("device", "create", name, "--auth", "thumbprint", "--primary-thumbprint", good.thumbprint(algorithm))

    def client(pair):
        return IoTHubDeviceClient.create_from_x509_certificate(
            X509(str(pair.certificate), str(pair.key)), hub.name, name, server_verification_cert=trust, websockets=websockets,
            connection_retry=False)

    known, stranger = client(good), client(bad)
    try:
        with pytest.raises(exceptions.CredentialError):
            stranger.connect()
        known.connect()
        assert known.connected
        # Whoever is refused displaces nobody.
        with pytest.raises(exceptions.CredentialError):
            stranger.connect()
        assert known.connected
    finally:
        known.shutdown()
        stranger.shutdown()


@WAYS
def test_certificates_under_an_authority(hub, trust, tmp_path, websockets):
    """From proof of possession to telemetry, methods for a module and the loss of the device."""
    forge, number = attestation.Forge(tmp_path), int(websockets)
    root, registry = forge.root("Interop root"), IoTHubRegistryManager(hub.connection_string())
    target = path("certificates", f"interop-{number}")
    assert hub.rest("PUT", target, {"properties": {"certificate": root.pem}}).status == 200
    answer = hub.rest("POST", path("certificates", f"interop-{number}", "generateVerificationCode"), None, {"If-Match": "*"})
    proof = forge.make(answer.json["properties"]["verificationCode"], root)
    answer = hub.rest("POST", path("certificates", f"interop-{number}", "verify"), {"certificate": proof.pem}, {"If-Match": "*"})
    assert answer.json["properties"]["isVerified"] is True
    name = f"Under-{number}"
    registry.create_device_with_certificate_authority(name, "enabled")
    registry.create_module_with_certificate_authority(name, "pump", "")
    middle = forge.make("Interop intermediate", root, attestation.CA)

    def client(made, kind=IoTHubDeviceClient, **named):
        return kind.create_from_x509_certificate(
            X509(str(made.chain), str(made.key)), hub.name, name, server_verification_cert=trust, websockets=websockets,
            connection_retry=False, **named)

    good, wrong = client(forge.make(name, middle)), client(forge.make(name.lower(), middle))
    short = client(forge.make(name, middle, show=[]))
    module = client(forge.make(f"{name}/pump", middle), IoTHubModuleClient, module_id="pump")
    lost = threading.Event()
    good.on_connection_state_change = lambda: None if good.connected else lost.set()
    try:
        for bad in (wrong, short):
            with pytest.raises(exceptions.CredentialError):
                bad.connect()
        for each in (good, module):
            each.connect()
            each.send_message(Message("x"))
        module.on_method_request_received = lambda request: module.send_method_response(
            MethodResponse.create_from_method_request(request, 200, {"by": "pump"}))
        waiting.until(lambda: hub.rest("POST", path("twins", name, "modules", "pump", "methods"),
                                       {"methodName": "m", "responseTimeoutInSeconds": 5}).status == 200, 10)
        assert good.connected
        registry.update_device_with_certificate_authority(name, registry.get_device(name).etag, "disabled")
        assert lost.wait(5)
        with pytest.raises(exceptions.CredentialError):
            good.connect()
        registry.update_device_with_certificate_authority(name, registry.get_device(name).etag, "enabled")
        good.connect()
        assert good.connected
    finally:
        for each in (good, wrong, short, module):
            each.shutdown()
        hub.rest("DELETE", target, None, {"If-Match": "*"})


def test_a_client_that_does_not_trust_the_root_sends_nothing(hub, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    device = hub.create()
    client = IoTHubDeviceClient.create_from_connection_string(connection_string(hub, device), connection_retry=False)
    try:
        with pytest.raises(exceptions.ClientError, match="TLS"):
            client.connect()
    finally:
        client.shutdown()
    assert state(hub, device) == "Disconnected"


@WAYS
def test_a_direct_method_from_the_service_package(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets)
    asked = []

    def answer(request):
        asked.append((request.name, request.payload))
        client.send_method_response(MethodResponse.create_from_method_request(request, 202, {"seen": request.payload}))

    client.connect()
    client.on_method_request_received = answer
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    got = registry.invoke_device_method(
        device.name, CloudToDeviceMethod(method_name="do it", payload={"a": [1]}, connect_timeout_in_seconds=20))
    assert (got.status, got.payload) == (202, {"seen": {"a": [1]}})
    assert asked == [("do it", {"a": [1]})]
    # The package subscribes once; a new connection of the same client must still be asked.
    client.disconnect()
    client.connect()
    got = registry.invoke_device_method(device.name, CloudToDeviceMethod(method_name="again", connect_timeout_in_seconds=20))
    assert got.status == 202 and asked[-1][0] == "again"


def test_a_method_of_a_module(hub, dial):
    hub.create("of-methods")
    module = hub.create("of-methods", "mod1")
    client = dial(module, kind=IoTHubModuleClient)
    client.connect()
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 200, None))
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    got = registry.invoke_device_module_method("of-methods", "mod1", CloudToDeviceMethod(method_name="m", connect_timeout_in_seconds=20))
    assert (got.status, got.payload) == (200, None)


@WAYS
def test_the_twin(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets)
    patches = queue.Queue()
    client.connect()
    assert client.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    client.patch_twin_reported_properties({"temperature": 21.5, "nested": {"a": [1, "ü"]}})
    client.on_twin_desired_properties_patch_received = patches.put
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    twin = registry.update_twin(device.name, Twin(properties=TwinProperties(desired={"speed": 7, "never": None})), None)
    assert twin.properties.reported["nested"] == {"a": [1, "ü"]}
    assert patches.get(timeout=10) == {"speed": 7, "never": None, "$version": 2}
    # What changed while it was away comes to it after it is back: the package reads the twin again by itself.
    client.disconnect()
    registry.update_twin(device.name, Twin(properties=TwinProperties(desired={"speed": 8})), None)
    client.connect()
    assert patches.get(timeout=10)["speed"] == 8
    assert client.get_twin()["desired"] == {"speed": 8, "$version": 3}
    with pytest.raises(exceptions.ClientError):
        client.patch_twin_reported_properties({"a b": 1})


@WAYS
def test_messages_from_the_cloud(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets)
    got = queue.Queue()
    client.connect()
    client.on_message_received = got.put
    hub.admin("message", "send", device.name, "{}", "-p", "a=x/y", "--message-id", "m1", "--content-type", "application/json", "--ack", "full")
    message = got.get(timeout=10)
    assert (message.data, message.custom_properties, message.message_id, message.content_type, message.ack) == (
        b"{}", {"a": "x/y"}, "m1", "application/json", "full")
    client.disconnect()
    hub.admin("message", "send", device.name, "while away")
    client.connect()
    assert got.get(timeout=10).data == b"while away"
    waiting.until(
        lambda: hub.rest("GET", path("devices", device.name)).json["cloudToDeviceMessageCount"] == 0, 10, "an empty queue")


@WAYS
def test_telemetry_comes_in_order_with_all_its_properties(hub, dial, websockets):
    device = hub.create()
    client = dial(device, websockets=websockets)
    client.connect()
    for number in range(MESSAGES):
        message = Message(json.dumps({"n": number}), message_id=f"id {number}", content_encoding="utf-8", content_type="application/json")
        message.correlation_id, message.user_id = "c/1", "ü"
        message.custom_properties.update({"number": str(number), "a b": "x&y=z", "é": ""})
        client.send_message(message)
    got = [json.loads(line) for line in hub.admin("monitor", device.name, "--from", "beginning", "--json").stdout.splitlines()]
    assert [json.loads(one["body"])["n"] for one in got] == list(range(MESSAGES))
    for number, one in enumerate(got):
        assert one["properties"] == {"number": str(number), "a b": "x&y=z", "é": ""}
        system = one["systemProperties"]
        assert (system["message-id"], system["correlation-id"], system["user-id"], system["content-type"], system["content-encoding"]) == (
            f"id {number}", "c/1", "ü", "application/json", "utf-8")
