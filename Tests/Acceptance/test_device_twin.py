"""Twins as a device sees them: reading, reporting, hearing what is desired (mqtt-device 12)."""

import json
import re
import struct

import pytest
from harness import mqtt
from harness.rest import path

RESULTS, DESIRED = "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"


def listening(device, *filters, qos=0, **named):
    client = device.login(**named)
    assert client.subscribe(*filters, qos=qos) == [qos] * len(filters)
    return client


def result(client, rid):
    """Status, version and body of the answer to a request."""
    packet = client.expect(mqtt.PUBLISH)
    status, echoed, version = re.fullmatch(r"\$iothub/twin/res/(\d+)/\?\$rid=([^&]*)(?:&\$version=(\d+))?", packet.topic).groups()
    assert echoed == rid and packet.qos == 0
    return int(status), version and int(version), json.loads(packet.payload) if packet.payload else None


def get(client, rid="1", qos=0):
    client.publish(f"$iothub/twin/GET/?$rid={rid}", b" ", qos)
    answer = result(client, rid)
    if qos:
        client.expect(mqtt.PUBACK)
    return answer


def patch(client, document, rid="2", version=None, raw=False):
    client.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={rid}" + ("" if version is None else f"&$version={version}"),
                   document if raw else json.dumps(document).encode())
    return result(client, rid)


def twin(device):
    return path("twins", device.name, *(["modules", device.module] if device.module else []))


def desire(hub, device, document, method="PATCH"):
    answer = hub.rest(method, twin(device), {"properties": {"desired": document}})
    assert answer.status == 200, answer
    return answer.json


def heard(client):
    packet = client.expect(mqtt.PUBLISH)
    version = re.fullmatch(r"\$iothub/twin/PATCH/properties/desired/\?\$version=(\d+)", packet.topic)[1]
    body = json.loads(packet.payload)
    assert body.pop("$version") == int(version)
    if packet.qos:
        client.send(mqtt.packet(mqtt.PUBACK, struct.pack("!H", packet.identifier)))
    return int(version), body


@pytest.mark.parametrize("web", [False, True], ids=["tls", "websocket"])
@pytest.mark.parametrize("module", [None, "m1"])
def test_a_device_reads_reports_and_hears(hub, web, module):
    device = hub.create()
    if module:
        device = hub.create(device.name, module)
    with listening(device, RESULTS, DESIRED, qos=1, web=web) as client:
        assert get(client, "a-b_c:9", qos=1) == (200, None, {"desired": {"$version": 1}, "reported": {"$version": 1}})
        assert patch(client, {"a": {"b": 1, "c": None}, "n": 2 ** 52 - 1}) == (204, 2, None)
        assert patch(client, {"a": {"b": None, "d": [1, {"e": 2}]}}, version=2) == (204, 3, None)
        assert desire(hub, device, {"x": {"y": 1}, "gone": None})["properties"]["desired"]["$version"] == 2
        assert heard(client) == (2, {"x": {"y": 1}, "gone": None})
        desire(hub, device, {"z": "ü"}, "PUT")
        assert heard(client) == (3, {"z": "ü"})
        assert get(client)[2] == {
            "desired": {"z": "ü", "$version": 3}, "reported": {"a": {"d": [1, {"e": 2}]}, "n": 2 ** 52 - 1, "$version": 3}}
    seen = hub.rest("GET", twin(device)).json
    assert seen["properties"]["reported"]["a"] == {"d": [1, {"e": 2}]} and seen["properties"]["reported"]["$version"] == 3


def test_a_patch_for_another_version_changes_nothing(hub):
    device = hub.create()
    with listening(device, RESULTS) as client:
        assert patch(client, {"a": 1}, version=7)[0] == 412
        assert patch(client, {"a": 1}, version=1) == (204, 2, None)
        assert patch(client, {"a": 2}, version="x")[0] == 400
        assert get(client)[2]["reported"] == {"a": 1, "$version": 2}


@pytest.mark.parametrize("body", [
    b"", b"no", b"[]", b"5", b'{"a":', b'{"a b":1}', b'{"a.b":1}', b'{"$a":1}', b'{"":1}', b'{"a":[null]}', b'{"a":4503599627370496}',
    b'{"a":"' + b"x" * 4097 + b'"}', b'{"' + b"k" * 1025 + b'":1}', b'{"a":' * 12 + b"1" + b"}" * 12, b'{"a":"\xff"}',
    b"{" + b",".join(b'"k%d":"%s"' % (number, b"x" * 4000) for number in range(9)) + b"}", b'{"a":' + b"[" * 100000,
])
def test_patches_that_break_a_rule(hub, body):
    device = hub.create()
    with listening(device, RESULTS) as client:
        status, version, detail = patch(client, body, raw=True)
        assert (status, version, detail["errorCode"]) == (400, None, 400004) and detail["message"]
        assert patch(client, {"fine": 1}) == (204, 2, None)


def test_acknowledgements_come_in_the_order_of_the_publishes(hub):
    device = hub.create()
    with listening(device, RESULTS) as client:
        identifiers = []
        for number in range(300):  # more than are worked on at once
            topic = "$iothub/twin/GET/?$rid=g" if number % 3 else f"$iothub/twin/PATCH/properties/reported/?$rid=p{number}"
            identifiers.append(client.publish(topic, b'{"n":%d}' % number, qos=1))
        acknowledged, answers = [], 0
        while len(acknowledged) < 300 or answers < 300:
            packet = client.receive(20)
            if packet.kind == mqtt.PUBACK:
                acknowledged.append(packet.identifier)
            else:
                answers += 1
        assert acknowledged == identifiers
        assert get(client)[2]["reported"] == {"n": 297, "$version": 101}


def test_nothing_is_pushed_that_was_not_asked_for(hub):
    device = hub.create()
    with listening(device, RESULTS) as client:
        desire(hub, device, {"a": 1})
        client.ping()
        assert client.subscribe(DESIRED) == [0]
        desire(hub, device, {"a": 2})
        assert heard(client) == (3, {"a": 2})
        client.unsubscribe(DESIRED)
        desire(hub, device, {"a": 3})
        hub.rest("PATCH", twin(device), {"tags": {"t": 1}})
        client.ping()


def test_changes_while_away_are_read_and_subscriptions_outlive_the_hub(new_hub):
    hub = new_hub()
    device = hub.create()
    listening(device, RESULTS, DESIRED, clean=False).close()
    desire(hub, device, {"a": 1})
    hub.restart()
    desire(hub, device, {"b": 2})
    with device.login(clean=False) as client:
        assert get(client)[2]["desired"] == {"a": 1, "b": 2, "$version": 3}
        desire(hub, device, {"a": None})
        assert heard(client) == (4, {"a": None})


def test_a_model_that_is_announced_is_in_the_twin(hub):
    device = hub.create()
    with device.login(query="?api-version=2020-09-30&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1") as client:
        assert patch(client, {"a": 1})[0] == 204
    assert hub.rest("GET", twin(device)).json["modelId"] == "dtmi:com:example:Thermostat;1"
