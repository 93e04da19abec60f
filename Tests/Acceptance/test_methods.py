"""Direct methods: from REST and from the command line to devices and modules (service-rest 10, mqtt-device 13)."""

import json
import re
import threading

import pytest
from harness import mqtt
from harness.process import run
from harness.rest import path

FILTER = "$iothub/methods/POST/#"


def listening(device, qos=0, **named):
    client = device.login(**named)
    assert client.subscribe(FILTER, qos=qos) == [qos]
    return client


def target(device):
    segments = ["twins", device.name] + (["modules", device.module] if device.module else []) + ["methods"]
    return path(*segments)


def asked(client):
    """The next call: its name as it stands in the topic, its rid, its payload."""
    packet = client.expect(mqtt.PUBLISH)
    assert packet.qos == 0
    name, rid = re.fullmatch(r"\$iothub/methods/POST/([^/]*)/\?\$rid=([A-Za-z0-9-]+)", packet.topic).groups()
    return name, rid, packet.payload


def answer(client, rid, status=200, payload=b"null", qos=0):
    client.publish(f"$iothub/methods/res/{status}/?$rid={rid}", payload, qos)
    if qos:
        client.expect(mqtt.PUBACK)


class Call:
    """A call under way on a connection of its own."""

    def __init__(self, hub, device, body):
        self.connection = hub.connect(seconds=60)
        self.connection.request("POST", target(device), None, body, hub.service_token())

    def answer(self):
        with self.connection:
            return self.connection.response()


@pytest.mark.parametrize("web", [False, True], ids=["tls", "websocket"])
@pytest.mark.parametrize("module", [None, "m1"])
def test_a_call_and_its_answer(hub, web, module):
    device = hub.create()
    if module:
        device = hub.create(device.name, module)
    with listening(device, web=web) as client:
        call = Call(hub, device, {"methodName": "reboot", "payload": {"x": [1, None, "é"]}, "responseTimeoutInSeconds": 20})
        name, rid, payload = asked(client)
        assert name == "reboot" and json.loads(payload) == {"x": [1, None, "é"]}
        answer(client, rid, 207, '{"big":9007199254740993,"dec":1.10}'.encode(), qos=1)
        got = call.answer()
        assert got.status == 200 and got.body == b'{"status":207,"payload":{"big":9007199254740993,"dec":1.10}}'


@pytest.mark.parametrize("given, sent", [({}, b"null"), ({"payload": None}, b"null"), ({"payload": ""}, b'""'), ({"payload": 5}, b"5")])
def test_payloads_of_every_kind(hub, given, sent):
    device = hub.create()
    with listening(device) as client:
        call = Call(hub, device, {"methodName": "a b/ü", **given})
        name, rid, payload = asked(client)
        assert (name, payload) == ("a%20b%2F%C3%BC", sent)
        answer(client, rid, -3, b"")
        assert call.answer().json == {"status": -3, "payload": None}


def test_a_payload_of_128_kib_each_way_and_no_more(hub):
    device = hub.create()
    most = "x" * ((128 << 10) - 2)
    with listening(device) as client:
        call = Call(hub, device, {"methodName": "m", "payload": most})
        _, rid, payload = asked(client)
        assert json.loads(payload) == most
        answer(client, rid, 200, payload)
        assert call.answer().json["payload"] == most
        got = hub.rest("POST", target(device), {"methodName": "m", "payload": most + "x"})
        assert (got.status, got.error) == (413, "MessageTooLarge")
        call = Call(hub, device, {"methodName": "m"})
        _, rid, _ = asked(client)
        answer(client, rid, 200, b'"' + most.encode() + b'x"')
        assert (call.answer().status, client.ping()) == (502, None)


def test_answers_that_are_no_json_are_the_devices_fault(hub):
    device = hub.create()
    with listening(device) as client:
        call = Call(hub, device, {"methodName": "m"})
        answer(client, asked(client)[1], 200, b"not json")
        got = call.answer()
        assert (got.status, got.error) == (502, "BadDeviceResponse")


def test_calls_do_not_wait_for_one_another(hub):
    device = hub.create()
    with listening(device) as client:
        calls = [Call(hub, device, {"methodName": "m", "payload": number}) for number in range(5)]
        questions = [asked(client) for _ in calls]
        for _, rid, payload in reversed(questions):
            answer(client, rid, 200, payload)
        assert [call.answer().json["payload"] for call in calls] == list(range(5))


def test_late_unknown_and_second_answers_are_acknowledged_and_dropped(hub):
    device = hub.create()
    with listening(device) as client:
        answer(client, "nobody", qos=1)
        call = Call(hub, device, {"methodName": "m"})
        rid = asked(client)[1]
        answer(client, rid, 200, b"1", qos=1)
        answer(client, rid, 200, b"2", qos=1)
        assert call.answer().json == {"status": 200, "payload": 1}


def test_a_device_that_is_not_there_or_does_not_listen(hub):
    device = hub.create()
    got = hub.rest("POST", target(device), {"methodName": "m"})
    assert (got.status, got.error, got.code) == (404, "DeviceNotOnline", 404103)
    with device.login():
        assert hub.rest("POST", target(device), {"methodName": "m"}).code == 404103
    device.name = "never-made"
    got = hub.rest("POST", target(device), {"methodName": "m"})
    assert (got.status, got.error) == (404, "DeviceNotFound")


def test_a_call_waits_for_its_device(hub):
    device = hub.create()
    call = Call(hub, device, {"methodName": "m", "connectTimeoutInSeconds": 30})
    with listening(device) as client:
        answer(client, asked(client)[1], 200, b"7")
        assert call.answer().json == {"status": 200, "payload": 7}


def test_patience_ends(hub):
    device = hub.create()
    call = Call(hub, device, {"methodName": "m", "connectTimeoutInSeconds": 1})
    got = call.answer()
    assert (got.status, got.code) == (404, 404103) and "00:00:01" in got.json["Message"]
    with listening(device) as client:
        call = Call(hub, device, {"methodName": "m", "responseTimeoutInSeconds": 5})
        rid = asked(client)[1]
        got = call.answer()
        assert (got.status, got.error, got.code) == (504, "GatewayTimeout", 504101)
        answer(client, rid, qos=1)


def test_a_connection_that_is_lost_ends_its_calls(hub):
    device = hub.create()
    client = listening(device)
    call = Call(hub, device, {"methodName": "m", "responseTimeoutInSeconds": 60})
    asked(client)
    client.close()
    assert call.answer().code == 504101


def test_a_subscription_outlives_connection_and_hub(new_hub):
    hub = new_hub()
    device = hub.create()
    listening(device, clean=False).close()
    hub.restart()
    with device.login(clean=False) as client:
        call = Call(hub, device, {"methodName": "m", "connectTimeoutInSeconds": 20})
        answer(client, asked(client)[1], 201)
        assert call.answer().json["status"] == 201
        client.unsubscribe(FILTER)
        assert hub.rest("POST", target(device), {"methodName": "m"}).code == 404103


def test_too_many_calls_at_a_time(hub):
    device = hub.create()
    with listening(device) as client:
        calls = [Call(hub, device, {"methodName": "m", "responseTimeoutInSeconds": 60}) for _ in range(100)]
        rids = [asked(client)[1] for _ in calls]
        got = hub.rest("POST", target(device), {"methodName": "m"})
        assert (got.status, got.code) == (403, 403800)
        for rid in rids:
            answer(client, rid)
        assert {call.answer().status for call in calls} == {200}


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b"{}", b'{"methodName":""}', b'{"methodName":5}', {"methodName": "x" * 101}, {"methodName": "m", "responseTimeoutInSeconds": 4},
    {"methodName": "m", "responseTimeoutInSeconds": 301}, {"methodName": "m", "connectTimeoutInSeconds": -1},
    {"methodName": "m", "connectTimeoutInSeconds": 301}, {"methodName": "m", "connectTimeoutInSeconds": "1"},
    {"methodName": "m", "responseTimeoutInSeconds": 5.5},
])
def test_bad_bodies(hub, body):
    device = hub.create()
    with listening(device) as client:
        assert hub.rest("POST", target(device), body).status == 400
        client.ping()


def test_only_a_service_may_call(hub):
    device = hub.create()
    hub.admin("policy", "create", "reader", "--rights", "RegistryRead")
    with listening(device) as client:
        for token in (hub.service_token("reader"), device.token(), "SharedAccessSignature sr=x&sig=y&se=1"):
            assert hub.rest("POST", target(device), {"methodName": "m"}, token=token).status == 401
        assert hub.rest("GET", target(device)).status == 405
        client.ping()


def test_the_command_line(hub):
    device = hub.create()
    with listening(device) as client:
        seen = []

        def serve():
            for status, payload in ((200, b'{"a":1}'), (404, b'"no"'), (200, b"null")):
                name, rid, given = asked(client)
                seen.append((name, json.loads(given)))
                answer(client, rid, status, payload)

        thread = threading.Thread(target=serve)
        thread.start()
        got = hub.admin("method", "invoke", device.name, "go", '{"b":[2]}', "--ca", hub.ca)
        assert json.loads(got.stdout) == {"a": 1}
        got = hub.admin("method", "invoke", device.name, "go", "--ca", hub.ca, check=1)
        assert json.loads(got.stdout) == "no" and got.stderr == f"iotstream method: {device.name} answered with status 404\n"
        environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}
        got = run([hub.binary, "method", "invoke", device.name, "go", "--json", "--ca", hub.ca], environment, check=0)
        assert json.loads(got.stdout) == {"status": 200, "payload": None}
        thread.join()
        assert seen == [("go", {"b": [2]}), ("go", None), ("go", None)]
    got = hub.admin("method", "invoke", device.name, "go", "--ca", hub.ca, check=1)
    assert got.stderr == "iotstream method: Timed out waiting for device to connect.\n"
    assert "double quotes" in hub.admin("method", "invoke", device.name, "go", "{", "--ca", hub.ca, check=65).stderr
    assert "invoke" in hub.admin("method", check=64).stderr
    hub.admin("method", "invoke", device.name, "x" * 101, "--ca", hub.ca, check=65)
    hub.admin("method", "invoke", device.name, "go", "--timeout", "4", "--ca", hub.ca, check=64)
