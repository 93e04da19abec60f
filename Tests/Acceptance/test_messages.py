"""Cloud-to-device messages: sent, kept, given to the device, settled (mqtt-device 11 and 16, service-rest 12)."""

import datetime
import json
import struct
import urllib.parse

import pytest
from harness import mqtt, waiting
from harness.process import run
from harness.rest import path


def filter_of(device):
    return f"devices/{device.name}/messages/devicebound/#"


def listening(device, qos=1, **named):
    client = device.login(**named)
    assert client.subscribe(filter_of(device), qos=qos) == [qos]
    return client


def target(device, *rest, query=None):
    made = path("devices", device.name, "messages", "deviceBound", *rest)
    return made + (f"&{query}" if query else "")


def send(hub, device, body=b"hello", status=204, **headers):
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    answer = hub.rest("POST", target(device), body, fields)
    assert answer.status == status, answer
    return answer


def message(packet):
    """The properties in their order, and the body."""
    topic = packet.topic
    bag = topic.split("/messages/devicebound/", 1)[1]
    return [tuple(urllib.parse.unquote(part) for part in pair.split("=", 1)) for pair in bag.split("&")], packet.payload


def acknowledge(client, packet):
    client.send(mqtt.packet(mqtt.PUBACK, struct.pack("!H", packet.identifier)))


def waiting_for(hub, device):
    return hub.rest("GET", path("devices", device.name)).json["cloudToDeviceMessageCount"]


def is_empty(hub, device):
    waiting.until(lambda: waiting_for(hub, device) == 0, 10, "an empty queue")


def feedback(hub):
    return hub.rest("GET", path("messages", "serviceBound", "feedback"))


def settle_feedback(hub, answer, *rest, method="DELETE"):
    return hub.rest(method, path("messages", "serviceBound", "feedback", answer.header("ETag").strip('"'), *rest)).status


@pytest.mark.parametrize("web", [False, True], ids=["tls", "websocket"])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_comes_to_a_connected_device(hub, web, qos):
    device = hub.create()
    with listening(device, qos, web=web) as client:
        send(hub, device, b"\0\xff body", iothub_messageid="m/1", iothub_correlationid="c", iothub_userid="u", iothub_contenttype="application/json",
             iothub_contentencoding="utf-8", iothub_ack="full", iothub_app_b="2", iothub_app_a="x y&z=+#%")
        packet = client.expect(mqtt.PUBLISH)
        assert packet.qos == qos and not packet.flags & 1
        assert message(packet) == ([
            ("$.to", f"/devices/{device.name}/messages/devicebound"), ("$.mid", "m/1"), ("$.cid", "c"), ("$.uid", "u"),
            ("$.ct", "application/json"), ("$.ce", "utf-8"), ("iothub-ack", "full"), ("b", "2"), ("a", "x y&z=+#%")], b"\0\xff body")
        if qos:
            assert waiting_for(hub, device) == 1
            acknowledge(client, packet)
        is_empty(hub, device)


def test_messages_wait_for_the_device_and_outlive_the_hub(new_hub):
    hub = new_hub()
    device = hub.create()
    listening(device, clean=False).close()
    for number in range(20):
        send(hub, device, b"%d" % number)
    hub.restart()
    with device.login(clean=False) as client:
        for number in range(20):  # more than may be unacknowledged
            packet = client.expect(mqtt.PUBLISH)
            assert message(packet)[1] == b"%d" % number
            acknowledge(client, packet)
    is_empty(hub, device)


def test_what_is_not_acknowledged_comes_again_in_order(hub):
    device = hub.create()
    for number in range(3):
        send(hub, device, b"%d" % number)
    with listening(device) as client:
        packets = [client.expect(mqtt.PUBLISH) for _ in range(3)]
        acknowledge(client, packets[1])
        client.ping()
    with listening(device) as client:
        again = [client.expect(mqtt.PUBLISH) for _ in range(2)]
        assert [packet.payload for packet in again] == [b"0", b"2"]
        for packet in again:
            acknowledge(client, packet)
        is_empty(hub, device)


def test_a_session_gets_again_what_it_had_under_the_same_identifiers(new_hub):
    """MQTT 3.1.1 section 4.4: in order, with DUP; a new session knows of nothing before it."""
    hub = new_hub()
    device = hub.create()
    desired = "$iothub/twin/PATCH/properties/desired/#"

    def again(client, count):
        return [client.expect(mqtt.PUBLISH) for _ in range(count)]

    with listening(device, clean=False) as client:
        assert client.subscribe(desired, qos=1) == [1]
        for number in range(20):
            send(hub, device, b"%d" % number)
        first = again(client, 16)
        assert [packet.flags >> 3 for packet in first] == [0] * 16
        identifiers = [packet.identifier for packet in first]
        assert len(set(identifiers)) == 16
        acknowledge(client, first[3])
        assert client.expect(mqtt.PUBLISH).payload == b"16"
    with device.login(clean=False) as client:
        second = again(client, 16)
        assert [(packet.payload, packet.flags >> 3, packet.identifier) for packet in second[:15]] == [
            (packet.payload, 1, packet.identifier) for packet in first if packet is not first[3]]
        assert (second[15].payload, second[15].flags >> 3) == (b"16", 1)
        # A notice does not take the identifier of a message that is under way.
        assert hub.rest("PATCH", path("twins", device.name), {"properties": {"desired": {"a": 1}}}).status == 200
        notice = client.expect(mqtt.PUBLISH)
        assert notice.qos == 1 and notice.identifier not in [packet.identifier for packet in second]
        acknowledge(client, notice)
        # Taken over: the newer connection gets them all once more, in order, whatever the older still holds.
        with device.login(clean=False) as newer:
            third = again(newer, 16)
            assert [(packet.payload, packet.flags >> 3, packet.identifier) for packet in third] == [
                (packet.payload, 1, packet.identifier) for packet in second]
            newer.ping()
    hub.restart()
    with device.login(clean=False) as client:
        assert [(packet.payload, packet.identifier) for packet in again(client, 16)] == [
            (packet.payload, packet.identifier) for packet in third]
    with listening(device) as client:
        fresh = again(client, 16)
        assert [(packet.payload, packet.flags >> 3) for packet in fresh] == [(packet.payload, 0) for packet in third]
        for packet in fresh:
            acknowledge(client, packet)
        for packet in again(client, 3):
            acknowledge(client, packet)
        is_empty(hub, device)


def test_no_more_than_sixteen_are_under_way(hub):
    device = hub.create()
    for number in range(20):
        send(hub, device, b"%d" % number)
    with listening(device) as client:
        packets = [client.expect(mqtt.PUBLISH) for _ in range(16)]
        client.ping()  # nothing else comes
        acknowledge(client, packets[0])
        assert client.expect(mqtt.PUBLISH).payload == b"16"


def test_a_full_queue_a_large_message_and_bad_fields(hub):
    device = hub.create()
    for _ in range(50):
        send(hub, device)
    assert send(hub, device, status=403).error == "DeviceMaximumQueueDepthExceeded"
    answer = hub.rest("DELETE", path("devices", device.name, "commands"))
    assert answer.json == {"totalMessagesPurged": 50, "deviceId": device.name, "moduleId": None}
    assert send(hub, device, b"x" * (64 << 10), status=413).error == "MessageTooLarge"
    send(hub, device, b"x" * ((64 << 10) - 200))
    for name, value in (("iothub-ack", "maybe"), ("iothub-expiry", "tomorrow"), ("iothub-app-", "x"), ("iothub-app-$.mid", "x"), ("iothub-app-iothub-ack", "x")):
        assert hub.rest("POST", target(device), b"", {name: value}).status == 400
    device.name = "never-made"
    assert send(hub, device, status=404).error == "DeviceNotFound"
    assert hub.rest("DELETE", path("devices", "never-made", "commands")).status == 404


def test_what_is_too_old_is_dropped_and_the_sender_is_told(new_hub):
    hub = new_hub()
    device = hub.create()
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    send(hub, device, iothub_messageid="old", iothub_expiry=soon, iothub_ack="negative")
    send(hub, device, iothub_messageid="silent", iothub_expiry=soon, iothub_ack="positive")
    is_empty(hub, device)
    answer = feedback(hub)
    assert answer.status == 200
    (record,) = answer.json
    assert record.pop("enqueuedTimeUtc").endswith("Z")
    assert record == {"originalMessageId": "old", "description": "Expired", "statusCode": "Expired", "deviceId": device.name,
                      "deviceGenerationId": device.document["generationId"]}
    assert feedback(hub).status == 204  # somebody holds it
    assert settle_feedback(hub, answer, "abandon", method="POST") == 204
    answer = feedback(hub)
    assert len(answer.json) == 1
    assert settle_feedback(hub, answer) == 204
    assert settle_feedback(hub, answer) == 412
    assert feedback(hub).status == 204


def test_a_device_fetches_over_https(new_hub):
    hub = new_hub()
    device = hub.create()

    def ask(method, *rest, token=None, query=None, headers=None):
        return hub.rest(method, target(device, *rest, query=query), None, headers, token or device.token())

    assert ask("GET").status == 204
    send(hub, device, b"one", iothub_messageid="1", iothub_ack="full", iothub_app_k="v", iothub_contenttype="text/plain")
    send(hub, device, b"two", iothub_messageid="2", iothub_ack="full")
    got = ask("GET", headers={"IotHub-MessageLockTimeout": "30"})
    assert (got.status, got.body) == (200, b"one")
    seen = {name: got.header(name) for name in ("iothub-messageid", "iothub-ack", "iothub-deliverycount", "iothub-app-k", "ContentType", "iothub-to")}
    assert seen == {"iothub-messageid": "1", "iothub-ack": "full", "iothub-deliverycount": "0", "iothub-app-k": "v", "ContentType": "text/plain",
                    "iothub-to": f"/devices/{device.name}/messages/devicebound"}
    first = got.header("ETag").strip('"')
    second = ask("GET")
    assert second.body == b"two" and ask("GET").status == 204
    assert ask("POST", first, "abandon").status == 204
    assert ask("DELETE", first).status == 412
    got = ask("GET")
    assert (got.body, got.header("iothub-deliverycount")) == (b"one", "1")
    assert ask("DELETE", got.header("ETag").strip('"'), query="reject").status == 204
    assert ask("DELETE", second.header("ETag").strip('"')).status == 204
    assert ask("DELETE", "nonsense").status == 412
    outcomes = {record["originalMessageId"]: record["statusCode"] for record in feedback(hub).json}
    assert outcomes == {"1": "Rejected", "2": "Success"}
    other = hub.create()
    for token in (other.token(), hub.service_token("iothubowner", key="AAAA" * 11), "x"):
        assert ask("GET", token=token).status == 401
    assert ask("GET", headers={"IotHub-MessageLockTimeout": "4"}).status == 400
    assert ask("GET", token=hub.service_token()).status == 204  # the owner has DeviceConnect


def test_ten_deliveries_and_no_more(hub):
    device = hub.create()
    send(hub, device, b"hot", iothub_messageid="hot", iothub_ack="negative")
    for number in range(10):
        got = hub.rest("GET", target(device), token=device.token())
        assert (got.body, got.header("iothub-deliverycount")) == (b"hot", str(number))
        assert hub.rest("POST", target(device, got.header("ETag").strip('"'), "abandon"), token=device.token()).status == 204
    assert waiting_for(hub, device) == 0
    assert [record["statusCode"] for record in feedback(hub).json if record["deviceId"] == device.name] == ["DeliveryCountExceeded"]


def test_a_deleted_device_takes_its_queue_along(hub):
    device = hub.create()
    send(hub, device)
    assert hub.rest("DELETE", path("devices", device.name), headers={"If-Match": "*"}).status == 204
    again = hub.create(device.name)
    assert waiting_for(hub, again) == 0


def test_modules_have_no_queue(hub):
    device = hub.create()
    module = hub.create(device.name, "m")
    with module.login() as client:
        assert client.subscribe(f"devices/{device.name}/messages/devicebound/#", qos=1) == [0x80]


def test_the_command_line(hub, tmp_path):
    device = hub.create()
    environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}
    file = tmp_path / "body"
    file.write_bytes(b"\0\1\2")
    with listening(device) as client:
        hub.admin("message", "send", device.name, "héllo", "-p", "a=1=2", "--property", "b=", "--message-id", "m", "--ack", "full")
        packet = client.expect(mqtt.PUBLISH)
        assert message(packet) == ([("$.to", f"/devices/{device.name}/messages/devicebound"), ("$.mid", "m"), ("iothub-ack", "full"), ("a", "1=2"),
                                    ("b", "")], "héllo".encode())
        acknowledge(client, packet)
        words = ["message", "send", device.name, f"@{file}", "-p", "k=v", "--ttl", "30m", "--content-type", "x/y", "--ca", hub.ca]
        run([hub.binary, *words], environment, check=0)
        packet = client.expect(mqtt.PUBLISH)
        bag, body = message(packet)
        assert body == b"\0\1\2" and ("k", "v") in bag and ("$.ct", "x/y") in bag and dict(bag)["$.exp"].endswith("Z")
        acknowledge(client, packet)
    is_empty(hub, device)
    hub.admin("message", "send", device.name, "later")
    assert hub.admin("message", "purge", device.name).stdout == "1\n"
    got = run([hub.binary, "message", "purge", device.name, "--json", "--ca", hub.ca], environment, check=0)
    assert json.loads(got.stdout)["totalMessagesPurged"] == 0
    assert hub.admin("message", "send", "never-made", "x", check=1).stderr == "iotstream message: never-made: no such device: iotstream device list shows them\n"
    for words, status in ((["-p", "novalue"], 64), (["-p", "$.mid=1"], 64), (["--ttl", "3d"], 64), (["--ack", "perhaps"], 65)):
        hub.admin("message", "send", device.name, "x", *words, check=status)
