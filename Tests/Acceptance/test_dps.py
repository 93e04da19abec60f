"""The provisioning service's device side, line by line of its checklist: MQTT, MQTT in WebSockets, HTTPS."""

import base64
import json
import pathlib
import signal
import tempfile
import time
import urllib.parse

import pytest
from harness import mqtt, rest, sas, tls
from harness.dps import ANSWERS, SCOPE, Dps, Registrant, derived, primary, secondary
from harness.hub import Device, Hub
from harness.process import run
from harness.webhook import Webhook

VECTOR = {
    "primaryKey": "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
    "secondaryKey": "c2Vjb25kYXJ5IGtleSBvZiB0aGUgdmVjdG9yJ3MgZ3JvdXA=",
}


@pytest.fixture(scope="module")
def hubs(iotstream, certificates):
    """The one that is called localhost, and the one that is called hub.test and is reached by its address."""
    made = [
        Hub(iotstream, certificates, name="localhost"),
        Hub(iotstream, certificates, name="hub.test", options=["--hostname", "127.0.0.1"]),
    ]
    yield made
    for hub in made:
        assert hub.process.running(), hub.process.log
        hub.remove()


@pytest.fixture(scope="module")
def dps(iotstream, certificates, hubs):
    made = Dps(iotstream, certificates)
    made.link(hubs[0])
    made.link(hubs[1], "127.0.0.1")
    yield made
    assert made.process.running(), made.process.log
    made.remove()


@pytest.fixture(scope="module")
def authority(iotstream):
    """A root, a CA below it, and one of somebody else: makes (chain file, key file) of a device."""
    with tempfile.TemporaryDirectory(prefix="iotstream-devices.") as directory:
        folder = pathlib.Path(directory)

        class Authority:
            root, below = folder / "root.ca.cert.pem", folder / "line.cert.pem"

            def device(self, name, issuer="line", shown=("leaf", "line")):
                run([iotstream, "cert", "gen-device", name, "--ca", issuer, "--dir", folder, "--force"], check=0)
                parts = {"leaf": folder / f"{name}.cert.pem", "line": self.below, "root": self.root}
                chain = folder / f"{name}.shown.pem"
                chain.write_text("".join(parts[part].read_text() for part in shown))
                return chain, folder / f"{name}.key.pem"

        run([iotstream, "cert", "gen-root", "--dir", folder], check=0)
        run([iotstream, "cert", "gen-intermediate", "line", "--dir", folder], check=0)
        run([iotstream, "cert", "gen-intermediate", "other", "--dir", folder], check=0)
        yield Authority()


def verify(dps, authority):
    """Uploads the root; its owner vouches for it."""
    properties = {"certificate": base64.b64encode(authority.root.read_bytes()).decode(), "isVerified": True}
    dps.done("PUT", "certificates", "root", body={"properties": properties}, headers={"If-Match": "*"})


def on_hub(hub, device):
    answer = hub.rest("GET", rest.path("devices", device))
    return answer.json if answer.status == 200 else None


def twin(hub, device):
    return hub.rest("GET", rest.path("twins", device)).json


def bare(section):
    return {key: value for key, value in section.items() if not key.startswith("$")}


# --- MQTT ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("web", [False, True], ids=["mqtt", "websocket"])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("clean", [True, False])
def test_assigns_a_device_that_its_hub_then_lets_in(dps, hubs, web, qos, clean):
    name = f"press-{web:d}{qos}{clean:d}"
    enrollment = dps.enroll(name, allocationPolicy="static", iotHubs=["localhost"])
    with dps.device(name, primary(enrollment), web=web, qos=qos, clean=clean) as device:
        assert device.session == 0 and device.granted == [qos]
        state = device.assigned()
        device.mqtt.unsubscribe(ANSWERS)
    assert state["assignedHub"] == "localhost" and state["deviceId"] == name and state["substatus"] == "initialAssignment"
    assert state["registrationId"] == name and state["symmetricKey"] == {}
    assert len(state["createdDateTimeUtc"]) == 28 and base64.b64decode(state["etag"])[:1] == b'"'
    Device(hubs[0], name, None, on_hub(hubs[0], name)).login().close()
    assert dps.done("GET", "registrations", name)["deviceId"] == name


@pytest.mark.parametrize("target, protocol", [("/", "mqtt"), ("/", "MQTT"), ("/$iothub/websocket?iothub-no-client-cert=true", "MQTT")])
def test_websockets_of_every_library_are_taken(dps, target, protocol):
    enrollment = dps.enroll("ws-1")
    with dps.device("ws-1", primary(enrollment), web=True, target=target, protocol=protocol) as device:
        assert device.assigned()["status"] == "assigned"


@pytest.mark.parametrize("rid", ["5f0c9a63-6111-4a6b-8d0e-6f4f2d6f2b11", "1", "a%20b=c;d", "x" * 300])
def test_the_request_id_comes_back_byte_for_byte(dps, rid):
    enrollment = dps.enroll("rid-1")
    with dps.device("rid-1", primary(enrollment)) as device:
        answer = device.register(rid=rid)
        assert answer.status == 202 and answer.rid == rid
        assert device.finish(answer.json["operationId"]).status == 200
        # Its members may come in another order, too.
        fields = f"operationId={answer.json['operationId']}&$rid=RID"
        assert device.ask(f"$dps/registrations/GET/iotdps-get-operationstatus/?{fields}").status == 200


@pytest.mark.parametrize("body", [
    b"", b" ", b"{}", b'{"payload": null, "registrationId": "body-1"}', b'{"registrationId":"BODY-1","payload":[1,"x"]}',
    b'{"payload":"x"}',
])
def test_register_bodies_of_every_library_are_taken(dps, body):
    enrollment = dps.enroll("body-1")
    with dps.device("body-1", primary(enrollment)) as device:
        assert device.register(body).status == 202


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"registrationId":"other"}', b'{"csr":"AAAA"}', b'{"registrationId":7}'])
def test_a_bad_body_is_a_400_and_the_connection_stays(dps, body):
    enrollment = dps.enroll("bad-body")
    with dps.device("bad-body", primary(enrollment)) as device:
        answer = device.register(body)
        assert answer.status == 400 and answer.json["errorCode"] // 1000 == 400 and answer.json["trackingId"]
        assert device.register().status == 202


def test_what_a_token_may_look_like(dps):
    enrollment = dps.enroll("Token-1")
    key = primary(enrollment)
    resource = f"{SCOPE}/registrations/Token-1"
    for token in [
        sas.token(key, resource), sas.token(key, resource, "registration"), sas.token(key, resource, "Registration"),
        sas.token(key, resource.lower()), sas.token(secondary(enrollment), resource), sas.token(key, resource, order="se sig skn sr"),
        sas.token(key, sas.lower_hex(sas.encode(resource)), encoded=False), sas.token(key, resource, ttl=-200),
    ]:
        with dps.device("Token-1", token=token) as device:
            assert device.register().status == 202, token
    for token in [
        sas.token(derived(key, "x"), resource), sas.token(key, resource, ttl=-1000), sas.token(key, f"{SCOPE}/registrations/Token-2"),
        sas.token(key, resource, "other"), sas.token(key, f"0ne00000099/registrations/Token-1"),
    ]:
        with dps.device("Token-1", token=token) as device:
            answer = device.register()
            assert answer.status == 401 and answer.json["errorCode"] == 401002, token
            assert device.poll("4.0").status == 401
            device.mqtt.ping()
    with dps.device("Token-1", token=dps.token("Token-1", key, "0ne00000099"), scope="0ne00000099") as device:
        assert device.register().status == 401
    with dps.device("nobody", key) as device:
        assert device.register().status == 401


@pytest.mark.parametrize("change, code", [
    ({"client": "a/b"}, 2), ({"client": ""}, 2), ({"client": "x" * 129}, 2), ({"client": "b."}, 2), ({"client": "other"}, 4),
    ({"user": f"{SCOPE}/registrations/conn-1"}, 4), ({"user": f"{SCOPE}/registrations/conn-1/api-version=soon"}, 4),
    ({"user": "x"}, 4), ({"user": f"{SCOPE}/devices/conn-1/api-version=2019-03-31"}, 4), ({"token": "no token"}, 5), ({"token": ""}, 5),
])
def test_a_connect_of_another_form_is_refused_at_once(dps, change, code):
    dps.enroll("conn-1")
    device = dps.device("conn-1", **{"token": dps.token("conn-1", "AAAA" * 8), **change})
    assert device.code == code and device.mqtt.ended() == []


def test_names_are_compared_without_case(dps):
    enrollment = dps.enroll("Case-1")
    key = primary(enrollment)
    user = f"{SCOPE.upper()}/registrations/case-1/ClientVersion=a/b%20%zz (x; y)&api-version=2021-06-01&x"
    token = sas.token(key, f"{SCOPE.upper()}/registrations/case-1")
    with dps.device("case-1", token=token, client="CASE-1", user=user) as device:
        answer = device.register()
        assert answer.status == 202
        state = device.finish(answer.json["operationId"]).json["registrationState"]
    assert state["deviceId"] == "Case-1"


def test_what_breaks_the_protocol_ends_the_connection(dps):
    enrollment = dps.enroll("proto-1")

    def connected():
        return dps.device("proto-1", primary(enrollment))

    topic = "$dps/registrations/PUT/iotdps-register/?$rid=1"
    for send in [
        lambda device: device.mqtt.publish(topic, retain=True), lambda device: device.mqtt.publish(topic, qos=2),
        lambda device: device.mqtt.publish("$dps/registrations/PUT/other/?$rid=1"), lambda device: device.mqtt.publish("a/b"),
        lambda device: device.mqtt.send(mqtt.connect_packet("proto-1", "x", "y")), lambda device: device.mqtt.send(b"\xf0\x00"),
    ]:
        with connected() as device:
            send(device)
            assert device.mqtt.ended() == []
    with connected() as device:
        assert device.mqtt.subscribe("$dps/registrations/res/+", "#", ANSWERS, qos=2) == [0x80, 0x80, 1]
        device.mqtt.publish("$dps/registrations/PUT/iotdps-register/?x=1")  # nobody to answer to
        device.mqtt.ping()
    client = mqtt.Client.tcp((dps.address, dps.mqtts), dps.ca)
    assert client.connect("proto-1", "x", "y", level=5) == (1, 0)


def test_the_newer_connection_takes_the_place_of_the_older(dps):
    enrollment = dps.enroll("twice-1")
    with dps.device("twice-1", primary(enrollment)) as first, dps.device("TWICE-1", primary(enrollment)) as second:
        assert first.mqtt.ended() == []
        assert second.register().status == 202


def test_an_operation_is_known_to_its_device_alone_and_outlives_connections(dps):
    one, two = dps.enroll("op-1"), dps.enroll("op-2")
    with dps.device("op-1", primary(one)) as device:
        operation = device.register().json["operationId"]
    with dps.device("op-1", primary(one)) as device:
        assert device.finish(operation).json["status"] == "assigned"
        missing = device.poll("4.0000000000000000.nothing")
        assert missing.status == 404 and missing.json["errorCode"] == 404202
    with dps.device("op-2", primary(two)) as device:
        assert device.poll(operation).status == 404


# --- Who decides --------------------------------------------------------------------------------------------------


def test_the_published_vector_of_a_derived_key(dps):
    dps.enroll_group("vector", attestation={"type": "symmetricKey", "symmetricKey": VECTOR})
    name = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6"
    key = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
    assert derived(VECTOR["primaryKey"], name) == key
    for good in [key, derived(VECTOR["secondaryKey"], name)]:
        with dps.device(name, good) as device:
            state = device.assigned()
            assert state["symmetricKey"] == {"enrollmentGroupId": "vector"} and state["deviceId"] == name
    with dps.device(name, VECTOR["primaryKey"]) as device:
        assert device.register().status == 401


def test_a_disabled_individual_blocks_a_member_of_a_group(dps):
    group = dps.enroll_group("line-a")
    key = derived(primary(group), "member-1")
    with dps.device("member-1", key) as device:
        assert device.assigned()["status"] == "assigned"
    dps.enroll("member-1", provisioningStatus="disabled")
    with dps.device("member-1", key) as device:
        answer = device.register()
        assert answer.status == 401 and "disabled" in answer.json["message"]
    dps.done("DELETE", "enrollments", "member-1")
    with dps.device("member-1", key) as device:
        assert device.register().status == 202
    dps.enroll_group("line-a", provisioningStatus="disabled")
    with dps.device("member-1", key) as device:
        assert device.register().status == 401


@pytest.mark.parametrize("shown", [("leaf",), ("leaf", "line"), ("leaf", "line", "root")])
def test_a_chain_is_good_however_much_of_it_is_shown(dps, hubs, authority, shown):
    verify(dps, authority)
    dps.enroll_group("x-line", attestation={"type": "x509", "x509": {"signingCertificates": {
        "primary": {"certificate": authority.below.read_text()}}}}, allocationPolicy="static", iotHubs=["localhost"])
    name = f"x-{len(shown)}"
    chain, key = authority.device(name, shown=shown)
    with Registrant(dps, name, settings=tls.context(dps.ca, chain, key)) as device:
        state = device.assigned()
    assert state["x509"]["enrollmentGroupId"] == "x-line" and state["x509"]["certificateInfo"]["subjectName"]
    document = on_hub(hubs[0], name)["authentication"]
    printed = run(["openssl", "x509", "-in", chain, "-noout", "-fingerprint", "-sha256"], check=0).stdout
    leaf = printed.split("=")[1].strip().replace(":", "")
    assert document["type"] == "selfSigned" and document["x509Thumbprint"]["primaryThumbprint"] == leaf
    # A new leaf is known to the hub once the device has registered again.
    chain, key = authority.device(name, shown=shown)
    with Registrant(dps, name, settings=tls.context(dps.ca, chain, key)) as device:
        device.assigned()
    assert on_hub(hubs[0], name)["authentication"]["x509Thumbprint"]["primaryThumbprint"] != leaf


def test_certificates_that_nobody_vouches_for(dps, authority):
    chain, key = authority.device("x-other", issuer="other", shown=("leaf",))
    with Registrant(dps, "x-other", settings=tls.context(dps.ca, chain, key)) as device:
        assert device.code == 0 and device.register().status == 401
    chain, key = authority.device("x-name")
    with Registrant(dps, "x-another-name", settings=tls.context(dps.ca, chain, key)) as device:
        assert device.register().status == 401


def test_an_enrolled_leaf(dps, authority, hubs):
    chain, key = authority.device("leaf-1", shown=("leaf",))
    dps.enroll("leaf-1", attestation={"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": chain.read_text()}}}})
    with Registrant(dps, "leaf-1", settings=tls.context(dps.ca, chain, key), web=False) as device:
        assert device.assigned()["x509"]["certificateInfo"]["sha256Thumbprint"]
    with dps.device("leaf-1", VECTOR["primaryKey"]) as device:
        assert device.register().status == 401


def test_a_disabled_group_of_a_lower_authority_blocks_although_a_higher_one_is_enabled(dps, authority):
    def group(name, file, status):
        dps.enroll_group(name, provisioningStatus=status, attestation={"type": "x509", "x509": {"signingCertificates": {
            "primary": {"certificate": file.read_text()}}}})

    verify(dps, authority)
    group("all-lines", authority.root, "enabled")
    settings = tls.context(dps.ca, *authority.device("lower-1"))
    for status, expected in [("enabled", 202), ("disabled", 401)]:
        group("x-line", authority.below, status)
        with Registrant(dps, "lower-1", settings=settings) as device:
            assert device.register().status == expected
    dps.done("DELETE", "enrollmentGroups", "x-line")
    with Registrant(dps, "lower-1", settings=settings) as device:
        assert device.assigned()["x509"]["enrollmentGroupId"] == "all-lines"


def test_silence_longer_than_the_keep_alive_ends_the_connection(dps):
    enrollment = dps.enroll("still-1")
    device = dps.device("still-1", primary(enrollment), keep_alive=1)
    started = time.monotonic()
    assert device.mqtt.ended() == [] and time.monotonic() - started > 1


# --- HTTPS --------------------------------------------------------------------------------------------------------


def test_the_same_over_https(dps, hubs):
    enrollment = dps.enroll("web-1")
    token = dps.token("web-1", primary(enrollment), policy="registration")
    base = f"/{SCOPE}/registrations/web-1"
    with dps.connect() as connection:
        def ask(method, path, body=None, **named):
            target = f"{base}{path}?api-version=2021-06-01&forceRegistration=true"
            return connection.exchange(method, target, body=body, token=token, **named)

        never = ask("POST", "", {"registrationId": "web-1"})
        assert never.status == 404 and never.header("x-ms-error-code") == "404201"
        begun = ask("PUT", "/register", {"registrationId": "web-1"}, headers={"Content-Encoding": "utf-8"})
        assert begun.status == 202 and begun.header("Retry-After") == "3" and begun.json["status"] == "assigning"
        assert begun.header("Content-Type") == "application/json; charset=utf-8" and begun.header("x-ms-request-id")
        operation = begun.json["operationId"]
        place = urllib.parse.urlsplit(begun.header("Location"))
        assert place.path == f"{base}/operations/{operation}" and place.query.startswith("api-version=")
        deadline = time.monotonic() + 20
        while True:
            answer = ask("GET", f"/operations/{operation}")
            if answer.status == 200 or time.monotonic() > deadline:
                break
            assert answer.status == 202 and answer.header("Retry-After") == "3"
            assert answer.json["registrationState"] == {"registrationId": "web-1", "status": "assigning"}
            time.sleep(0.05)
        assert answer.json["status"] == "assigned"
        assert ask("POST", "", {"registrationId": "web-1"}).json == answer.json["registrationState"]
        assert ask("POST", "", {"csr": "AAAA"}).status == 400
        assert ask("GET", "/register").status == 405 and ask("GET", "/other").status == 404
        assert connection.exchange("PUT", f"{base}/register", body={}, token=token).status == 400
        assert connection.exchange("PUT", f"{base}/register?api-version=2021-06-01", body=b"{").status in (400, 401)
        wrong = dps.token("web-1", VECTOR["primaryKey"])
        refused = connection.exchange("PUT", f"{base}/register?api-version=2021-06-01", body={}, token=wrong)
        assert refused.status == 401 and refused.json["errorCode"] == 401002 and refused.header("x-ms-error-code") == "401002"


def test_a_certificate_over_https(dps, authority):
    chain, key = authority.device("web-x", shown=("leaf",))
    dps.enroll("web-x", attestation={"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": chain.read_text()}}}})
    with dps.connect(settings=tls.context(dps.ca, chain, key)) as connection:
        assert connection.exchange("PUT", f"/{SCOPE}/registrations/web%2Dx/register?api-version=2021-06-01", body={}).status == 202


# --- Assignment ---------------------------------------------------------------------------------------------------


def moved(dps, hubs, name, policy, **members):
    """Registers a device at the first hub, lets its twin change, and registers it again at the second."""
    shared = {"allocationPolicy": "static", "reprovisionPolicy": policy,
              "initialTwin": {"tags": {"stage": "test"}, "properties": {"desired": {"interval": 5}}}, **members}
    enrollment = dps.enroll(name, iotHubs=["localhost"], **shared)
    with dps.device(name, primary(enrollment)) as device:
        first = device.assigned()
    assert bare(twin(hubs[0], name)["properties"]["desired"]) == {"interval": 5} and twin(hubs[0], name)["tags"] == {"stage": "test"}
    hubs[0].rest("PATCH", rest.path("twins", name), {"tags": {"owner": "ada"}, "properties": {"desired": {"interval": 9}}})
    with Device(hubs[0], name, None, on_hub(hubs[0], name)).login() as client:
        client.subscribe("$iothub/twin/res/#")
        client.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"firmware":"2"}')
        assert client.expect(mqtt.PUBLISH).topic.startswith("$iothub/twin/res/204/")
    dps.enroll(name, iotHubs=["hub.test"], **shared)
    with dps.device(name, primary(enrollment)) as device:
        return first, device.assigned(), primary(enrollment)


def test_reprovision_and_migrate(dps, hubs):
    first, second, key = moved(dps, hubs, "move-1", {"updateHubAssignment": True, "migrateDeviceData": True})
    assert second["assignedHub"] == "hub.test" and second["substatus"] == "deviceDataMigrated"
    assert second["createdDateTimeUtc"] == first["createdDateTimeUtc"] and second["etag"] != first["etag"]
    assert on_hub(hubs[0], "move-1") is None
    document = twin(hubs[1], "move-1")
    assert document["tags"] == {"stage": "test", "owner": "ada"} and bare(document["properties"]["desired"]) == {"interval": 9}
    assert bare(document["properties"]["reported"]) == {"firmware": "2"}
    with dps.device("move-1", key) as device:
        again = device.assigned()
    assert (again["assignedHub"], again["substatus"]) == ("hub.test", "deviceDataMigrated")


def test_reprovision_and_reset(dps, hubs):
    _, second, key = moved(dps, hubs, "move-2", {"updateHubAssignment": True, "migrateDeviceData": False})
    assert second["assignedHub"] == "hub.test" and second["substatus"] == "deviceDataReset" and on_hub(hubs[0], "move-2") is None
    document = twin(hubs[1], "move-2")
    assert document["tags"] == {"stage": "test"} and bare(document["properties"]["desired"]) == {"interval": 5}
    assert bare(document["properties"]["reported"]) == {}
    hubs[1].rest("PATCH", rest.path("twins", "move-2"), {"properties": {"desired": {"interval": 7}}})
    with dps.device("move-2", key) as device:
        assert device.assigned()["substatus"] == "deviceDataReset"
    assert bare(twin(hubs[1], "move-2")["properties"]["desired"]) == {"interval": 5}


def test_never_reprovision(dps, hubs):
    _, second, key = moved(dps, hubs, "move-3", {"updateHubAssignment": False, "migrateDeviceData": True})
    assert second["assignedHub"] == "localhost" and second["substatus"] == "initialAssignment"
    assert bare(twin(hubs[0], "move-3")["properties"]["desired"]) == {"interval": 9}
    hubs[0].rest("DELETE", rest.path("devices", "move-3"), headers={"If-Match": "*"})
    with dps.device("move-3", key) as device:
        assert device.assigned()["assignedHub"] == "localhost" and on_hub(hubs[0], "move-3")
    dps.done("DELETE", "registrations", "move-3")
    with dps.device("move-3", key) as device:
        state = device.assigned()
    assert state["assignedHub"] == "hub.test" and state["substatus"] == "initialAssignment"


def test_a_device_that_the_hub_has_already_keeps_its_twin(dps, hubs):
    hubs[0].create("by-hand")
    hubs[0].rest("PATCH", rest.path("twins", "by-hand"), {"tags": {"made": "by hand"}})
    enrollment = dps.enroll("by-hand", allocationPolicy="static", iotHubs=["localhost"], initialTwin={"tags": {"stage": "test"}})
    with dps.device("by-hand", primary(enrollment)) as device:
        device.assigned()
    assert on_hub(hubs[0], "by-hand")["authentication"]["symmetricKey"]["primaryKey"] == primary(enrollment)
    assert twin(hubs[0], "by-hand")["tags"] == {"made": "by hand"}


def test_an_enrollment_names_another_device_id(dps, hubs):
    enrollment = dps.enroll("serial-9", deviceId="Press-9", allocationPolicy="static", iotHubs=["localhost"],
                            capabilities={"iotEdge": True})
    with dps.device("serial-9", primary(enrollment)) as device:
        assert device.assigned()["deviceId"] == "Press-9"
    assert on_hub(hubs[0], "Press-9")["capabilities"]["iotEdge"] is True


def test_a_registration_without_a_hub_has_failed(dps):
    enrollment = dps.enroll("no-hub", iotHubs=["elsewhere.example"])
    with dps.device("no-hub", primary(enrollment)) as device:
        state = device.assigned()
    assert state["status"] == "failed" and isinstance(state["errorCode"], int) and state["errorMessage"]


def test_a_hub_that_does_not_take_the_key_is_named(dps, hubs, certificates, new_hub):
    hub = new_hub(name="127.0.0.1")
    dps.link(hub, key="AAAA" * 11)
    enrollment = dps.enroll("no-key", allocationPolicy="static", iotHubs=["127.0.0.1"])
    with dps.device("no-key", primary(enrollment)) as device:
        state = device.assigned()
    assert state["status"] == "failed" and "IotHubUnauthorizedAccess" in state["errorMessage"]
    dps.link(hub)
    with dps.device("no-key", primary(enrollment)) as device:
        assert device.assigned()["status"] == "assigned"
    dps.done("DELETE", "linkedHubs", "127.0.0.1")


# --- The webhook --------------------------------------------------------------------------------------------------


def test_a_webhook_decides(dps, hubs, certificates, keep):
    hook = keep(Webhook(certificates, lambda question: (200, {
        "iotHubHostName": "hub.test", "initialTwin": {"tags": {"line": "a"}, "properties": {"desired": {"state": "ready"}}},
        "payload": {"hint": question["deviceRuntimeContext"]["payload"]["model"]}})))
    enrollment = dps.enroll("custom-1", allocationPolicy="custom",
                            customAllocationDefinition={"webhookUrl": hook.url, "apiVersion": "2019-03-31"})
    with dps.device("custom-1", primary(enrollment)) as device:
        state = device.assigned(payload={"model": "x9"})
    assert state["assignedHub"] == "hub.test" and state["payload"] == {"hint": "x9"}
    path, question = hook.questions[0]
    assert path == "/allocate?code=x" and question["linkedHubs"] == ["hub.test", "localhost"]
    assert question["individualEnrollment"]["attestation"] == {"type": "symmetricKey"}
    assert question["deviceRuntimeContext"]["symmetricKey"] == {} and primary(enrollment) not in json.dumps(question)
    assert twin(hubs[1], "custom-1")["tags"] == {"line": "a"}


@pytest.mark.parametrize("answer", [
    (200, {"iotHubHostName": "elsewhere.example"}), (200, {}), (200, b"no json"), (404, {}), (500, {}), None,
], ids=["stranger", "nobody", "no-json", "404", "500", "silence"])
def test_a_webhook_that_is_no_use_fails_the_registration(dps, certificates, keep, answer):
    hook = keep(Webhook(certificates, lambda question: answer))
    enrollment = dps.enroll("custom-2", allocationPolicy="custom", customAllocationDefinition={"webhookUrl": hook.url})
    with dps.device("custom-2", primary(enrollment)) as device:
        state = device.assigned()
    assert state["status"] == "failed" and state["errorCode"] == 400207, state
    if answer and answer[0] != 200:
        assert str(answer[0]) in state["errorMessage"]


# --- Too much -----------------------------------------------------------------------------------------------------


def test_too_many_registrations_are_told_to_come_again(iotstream, certificates, hubs, keep):
    small = keep(Dps(iotstream, certificates, settings="registrations-per-second 1"))
    small.link(hubs[0])
    group = small.enroll_group("crowd")
    seen = set()
    with small.device("crowd-1", derived(primary(group), "crowd-1")) as device:
        for _ in range(5):
            answer = device.register()
            seen.add(answer.status)
            if answer.status == 429:
                assert answer.retry_after == 5 and answer.json["errorCode"] == 429001
        assert seen == {202, 429}
        # A reload takes the limit away, and connections stay.
        with open(small.configuration, "w") as file:
            file.write(f"hub-ca {small.ca}\n")
        small.process.signal(signal.SIGHUP)
        small.process.wait_line("reloaded")
        assert [device.register().status for _ in range(5)] == [202] * 5
        with open(f"{small.state}/run/dps.status") as file:
            assert json.load(file)["idScope"] == SCOPE


def test_bytes_that_mean_nothing_harm_nobody(dps):
    enrollment = dps.enroll("calm-1")
    name = f"{SCOPE}/registrations/calm-1/api-version=2019-03-31"
    hello = mqtt.connect_packet("calm-1", name, dps.token("calm-1", primary(enrollment)))
    topic = mqtt.text("$dps/registrations/PUT/iotdps-register/?$rid=1")
    for said in [
        b"\xff" * 64, b"\x10\xff\xff\xff\xff", hello[:-1] + b"\xff", hello + b"\x30\xff\xff\xff\x7f",
        hello + mqtt.packet(mqtt.PUBLISH, topic + b"\0\0x", 2), hello + mqtt.packet(mqtt.PUBLISH, b"\xff\xff" + topic),
        hello + mqtt.packet(mqtt.SUBSCRIBE, b"\0\1", 2), hello + mqtt.packet(mqtt.PUBREC, b"\0\1"), b"GET / HTTP/1.1\r\n\r\n",
    ]:
        client = mqtt.Client.tcp((dps.address, dps.mqtts), dps.ca)
        client.send(said)
        assert all(packet.kind in (mqtt.CONNACK, mqtt.PUBACK) for packet in client.ended()), said
    paths = [b"%zz/registrations/x/register", b"a/registrations/%ff"]
    for said in [b"\0" * 64] + [b"PUT /%s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths]:
        with dps.connect() as connection:
            connection.send(said)
            assert connection.response().status in (400, 404, 411)
    with dps.device("calm-1", primary(enrollment)) as device:
        assert device.register(b"[" * 5000).status == 400 and device.register().status == 202
