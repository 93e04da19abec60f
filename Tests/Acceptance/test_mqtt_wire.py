"""What client libraries hide: packets as no library sends them, and what a library would make of it (mqtt-device 6 to 13, MQTT 3.1.1)."""

import json
import random
import struct
import time

import pytest
from harness import mqtt, waiting
from harness.rest import path

BOTH = pytest.mark.parametrize("web", [False, True], ids=["tls", "websocket"])
RESULTS = "$iothub/twin/res/#"


def events(device, bag=""):
    return f"devices/{device.name}/messages/events/{bag}"


def publish(topic, body=b"", flags=2, identifier=1):
    """A PUBLISH with these flags, and an identifier unless they say QoS 0."""
    return mqtt.packet(mqtt.PUBLISH, mqtt.text(topic) + (struct.pack("!H", identifier) if flags & 6 else b"") + body, flags)


def telemetry(hub, device):
    got = hub.admin("monitor", device.name, "--json", "--from", "beginning")
    return [json.loads(line) for line in got.stdout.splitlines()]


# --- publishing ---------------------------------------------------------------------------------------------------


def test_the_topic_as_the_python_client_writes_it(hub):
    """The example of mqtt-device 9, byte for byte."""
    device = hub.create()
    bag = ("%24.on=out1&%24.mid=m%201&%24.cid=c&%24.uid=u&%24.ct=application%2Fjson&%24.ce=utf-8&%24.exp=2030-01-01T00%3A00%3A00Z"
           "&a%20b=c%2Fd%2Be&n=5&z=&%C3%A9=%C3%BC")
    with device.login() as client:
        client.send(publish(events(device, bag), b"x"))
        assert client.expect(mqtt.PUBACK).identifier == 1
    (one,) = telemetry(hub, device)
    assert one["properties"] == {"a b": "c/d+e", "n": "5", "z": "", "é": "ü"}
    generation = one["systemProperties"].pop("iothub-connection-auth-generation-id")
    assert generation == device.document["generationId"] and one["systemProperties"] == {
        "iothub-outputname": "out1", "message-id": "m 1", "correlation-id": "c", "user-id": "u", "content-type": "application/json",
        "content-encoding": "utf-8", "absolute-expiry-time": "2030-01-01T00:00:00Z"}


@BOTH
def test_an_identifier_that_comes_again(hub, web):
    """At QoS 1 each PUBLISH is acknowledged and kept, whatever was sent under its identifier before and whether it says so."""
    device = hub.create()
    with device.login(web=web) as client:
        client.send(b"".join(publish(events(device), b"%d" % number, 2 | (8 if number % 2 else 0), 7) for number in range(6)))
        assert [client.expect(mqtt.PUBACK).identifier for _ in range(6)] == [7] * 6
        client.send(publish(events(device), b"last", 10, 65535))
        assert client.expect(mqtt.PUBACK).identifier == 65535
        client.ping()
    assert [one["body"] for one in telemetry(hub, device)] == ["0", "1", "2", "3", "4", "5", "last"]


@BOTH
def test_a_publish_in_pieces_of_any_size(hub, web):
    device, chance = hub.create(), random.Random(7)
    bodies = [bytes([65 + number]) * size for number, size in enumerate((0, 1, 1000, 70_000, 200_000))]
    raw = b"".join(publish(events(device), body, 2, number + 1) for number, body in enumerate(bodies))
    with device.login(web=web) as client:
        place = 0
        while place < len(raw):
            size = chance.choice((1, 2, 3, 5, 100, 5000, 16_384, 40_000))
            client.send(raw[place:place + size])
            place += size
        assert [client.expect(mqtt.PUBACK).identifier for _ in bodies] == [1, 2, 3, 4, 5]
    assert [len(one["body"]) for one in telemetry(hub, device)] == [0, 1, 1000, 70_000, 200_000]


def test_lengths_that_are_longer_than_they_need_be(hub):
    """MQTT 3.1.1 allows them: 0x80 0x00 is nought."""
    device = hub.create()
    with device.login() as client:
        client.send(b"\xc0\x80\x00" + b"\xc0\x80\x80\x80\x00")
        client.expect(mqtt.PINGRESP)
        client.expect(mqtt.PINGRESP)


@pytest.mark.parametrize("raw", [
    publish("devices/{d}/messages/events/", b"x", 4), publish("some/topic", b"x", 4), mqtt.packet(6, b"\0\1", 2), mqtt.packet(7, b"\0\1"),
    publish("devices/{d}/messages/events/", b"x", 8), mqtt.packet(mqtt.PINGREQ, flags=1), mqtt.packet(mqtt.DISCONNECT, flags=2),
    mqtt.packet(mqtt.DISCONNECT, b"x"), mqtt.packet(mqtt.PUBACK, b"\0\1", 2), mqtt.packet(mqtt.PUBACK, b"\0"),
    mqtt.packet(mqtt.PUBACK, b"\0\0"), mqtt.packet(mqtt.PUBACK, b"\0\1\0"), mqtt.packet(mqtt.UNSUBSCRIBE, b"\0\1" + mqtt.text("a"), 0),
    mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + mqtt.text("a") + b"\4", 2), mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + mqtt.text("") + b"\0", 2),
    mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + mqtt.text("a") + b"\0" + b"\0", 2), publish("devices/{d}/messages/devicebound/", b"x", 0),
    publish("devices/{d}/modules/m/messages/events/", b"x", 0), publish("$iothub/methods/POST/m/?$rid=1", b"x", 0),
    publish("$iothub/twin/res/200/?$rid=1", b"x", 0), publish("$iothub/twin/PATCH/properties/desired/?$rid=1", b"{}", 0),
    publish("devices/{d}/messages/events/a\0b", b"x", 0), publish("devices/{d}/messages/events/#", b"x", 0) + b"\xff\xff",
    b"\x32\xff\xff\xff\x7f" + mqtt.text("devices/{d}/messages/events/"),  # a quarter of a gigabyte is announced
], ids=range(24))
def test_what_ends_the_connection(hub, raw):
    device = hub.create("ddd")  # an id as long as its place, so that lengths stay
    with device.login() as client:
        client.send(raw.replace(b"{d}", device.name.encode()))
        assert client.ended(5) == []
    assert telemetry(hub, device) == []
    assert hub.rest("DELETE", path("devices", device.name), headers={"If-Match": "*"}).status == 204


def test_a_will_is_at_most_once_or_at_least_once(hub):
    device = hub.create()

    def code(flags):
        with hub.mqtt() as client:
            return client.connect(device.client, device.user(), device.token(), will=(events(device), b"gone"), flags=flags)[0]

    assert [code(0xC6 | qos << 3) for qos in (0, 1, 2)] == [0, 0, 5]


# --- acknowledging and subscribing --------------------------------------------------------------------------------


def test_acknowledgements_that_nobody_waits_for(hub):
    device = hub.create()
    with device.login() as client:
        for identifier in (1, 1, 77, 65535):
            client.send(mqtt.packet(mqtt.PUBACK, struct.pack("!H", identifier)))
        client.ping()
        assert client.subscribe(f"devices/{device.name}/messages/devicebound/#", qos=1) == [1]
        hub.admin("message", "send", device.name, "one")
        packet = client.expect(mqtt.PUBLISH)
        client.send(mqtt.packet(mqtt.PUBACK, struct.pack("!H", packet.identifier ^ 1)))
        client.ping()
        assert hub.rest("GET", path("devices", device.name)).json["cloudToDeviceMessageCount"] == 1
        client.send(mqtt.packet(mqtt.PUBACK, struct.pack("!H", packet.identifier)) * 2)
        waiting.until(lambda: hub.rest("GET", path("devices", device.name)).json["cloudToDeviceMessageCount"] == 0, 10, "an empty queue")
        client.ping()


def test_all_that_a_device_listens_to_in_one_packet_and_again(hub):
    device = hub.create()
    filters = [f"devices/{device.name}/messages/devicebound/#", RESULTS, "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#",
               "$iothub/streams/POST/#", "$iothub/streams/res/#"]
    with device.login(clean=False) as client:
        assert client.subscribe(*filters, qos=2) == [1] * 6
        # The same identifier, and the same filter twice in a packet: the last word holds.
        body = b"\0\1" + mqtt.text(RESULTS) + b"\1" + mqtt.text(RESULTS) + b"\0"
        client.send(mqtt.packet(mqtt.SUBSCRIBE, body, 2) * 2)
        for _ in range(2):
            assert client.expect(mqtt.SUBACK).body == b"\0\1\1\0"
        client.unsubscribe(filters[0], filters[0], "$iothub/nothing/#")
    with hub.mqtt() as client:
        assert client.connect(device.client, device.user(), device.token(), clean=False) == (0, 1)
        hub.admin("message", "send", device.name, "not for it")
        client.publish("$iothub/twin/GET/?$rid=1")
        assert client.expect(mqtt.PUBLISH).topic == "$iothub/twin/res/200/?$rid=1"
        client.ping()


# --- twins and methods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rid", ["1", "a-b_c:9", "A%20b%2f", "ü", "x" * 500, "?", "2f6a3c7e-0000-4000-8000-000000000000"])
def test_a_request_is_answered_under_its_own_name(hub, rid):
    device = hub.create()
    with device.login() as client:
        assert client.subscribe(RESULTS) == [0]
        client.publish(f"$iothub/twin/GET/?$rid={rid}", b" ", qos=1)
        assert client.expect(mqtt.PUBLISH).topic == f"$iothub/twin/res/200/?$rid={rid}"
        client.expect(mqtt.PUBACK)
        client.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={rid}&$version=1", b"{}")
        assert client.expect(mqtt.PUBLISH).topic == f"$iothub/twin/res/204/?$rid={rid}&$version=2"


def test_properties_of_topics_that_nobody_knows(hub):
    device = hub.create()
    with device.login() as client:
        assert client.subscribe(RESULTS, "$iothub/methods/POST/#") == [0, 0]
        for topic, answer in (("GET/?$rid=1&x=y&flag", "200/?$rid=1"), ("GET/?x=y&$rid=2", "200/?$rid=2"),
                              ("PATCH/properties/reported/?$rid=3&new=1", "204/?$rid=3&$version=2"),
                              ("PATCH/properties/reported/?$version=2&$rid=4", "204/?$rid=4&$version=3"),
                              ("PATCH/properties/reported/?$rid=5&$version=2", "412/?$rid=5"),
                              ("PATCH/properties/reported/?$rid=6&$version=two", "400/?$rid=6")):
            client.publish(f"$iothub/twin/{topic}", b"{}")
            packet = client.expect(mqtt.PUBLISH)
            assert packet.topic == f"$iothub/twin/res/{answer}"
            # The Python client wants a = in each part.
            assert all("=" in part for part in packet.topic.split("?")[1].split("&"))
        with hub.connect() as connection:
            connection.request("POST", path("twins", device.name, "methods"), body={"methodName": "m", "responseTimeoutInSeconds": 10}, token=hub.service_token())
            rid = client.expect(mqtt.PUBLISH).topic.split("$rid=")[1]
            client.publish(f"$iothub/methods/res/201/?$rid={rid}&x=y", b"5")
            assert connection.response(seconds=10).json == {"status": 201, "payload": 5}


def test_a_twin_is_read_without_a_subscription(hub):
    """After a renewal of its token the Python client asks so, to learn the version of what is desired."""
    device = hub.create()
    with device.login() as client:
        client.publish("$iothub/twin/GET/?$rid=1", b" ", qos=1)
        assert {client.receive().kind, client.receive().kind} == {mqtt.PUBLISH, mqtt.PUBACK}


@pytest.mark.parametrize("body, status", [
    (b"{" + b",".join(b'"%d":1' % n for n in range(20_000)) + b"}", 400), (b'{"a":' * 12 + b"1" + b"}" * 12, 400), (b'{"a":' * 11 + b"1" + b"}" * 11, 204), (b"[" * 50_000, 400),
    (b'{"a":"\xff\xfe"}', 400), (b'{"a":99999999999999999999}', 400), (b'{"a":9223372036854775807}', 400), (b'{"a":1e400}', 400),
    (b'{"a":-4503599627370497}', 400), (b'{"a":1,"a":2}', 400), (b'{"a":"' + b"\\u0000" + b'"}', 204), (b'{"a":1}garbage', 400)],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else str(value))
def test_patches_of_ill_will(hub, body, status):
    device = hub.create()
    with device.login() as client:
        assert client.subscribe(RESULTS) == [0]
        client.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", body)
        assert client.expect(mqtt.PUBLISH).topic.startswith(f"$iothub/twin/res/{status}/?$rid=1")
        client.ping()


def test_a_million_keys(hub):
    device = hub.create()
    body = b'{"properties":{"desired":{' + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}}}"
    answer = None
    with hub.connect() as connection:
        try:
            answer = connection.exchange("PATCH", path("twins", device.name), body=body, token=hub.service_token())
        except (ConnectionError, EOFError):  # cut off in the middle of it
            pass
    assert answer is None or answer.status == 413
    with device.login() as client:
        try:
            client.send(publish("$iothub/twin/PATCH/properties/reported/?$rid=1", body))
            client.ended(5)
        except OSError:
            pass
    twin = hub.rest("GET", path("twins", device.name)).json
    assert twin["version"] == 2


# --- who does not listen ------------------------------------------------------------------------------------------


@BOTH
def test_a_client_that_reads_its_acknowledgements_late(hub, web):
    """Megabytes are on their way before it reads the first one."""
    device = hub.create()
    count = 40_000 if web else 100_000
    with device.login(web=web) as client:
        for start in range(0, count, 10_000):
            client.send(b"".join(publish(events(device), b"", 2, number % 65_535 + 1) for number in range(start, start + 10_000)))
        for number in range(count):
            assert client.expect(mqtt.PUBACK, 30).identifier == number % 65_535 + 1


@BOTH
def test_a_client_that_never_reads(new_hub, web):
    """It is not read from any more; the hub does not grow, and others are served."""
    hub = new_hub()
    device, other = hub.create(), hub.create()
    large = {f"k{n}": "x" * 4000 for n in range(7)}
    assert hub.rest("PATCH", path("twins", device.name), {"properties": {"desired": large}}).status == 200
    with device.login(web=web) as client, other.login() as bystander:
        bystander.ping()
        before = hub.process.resident()
        client.socket.settimeout(2)
        end = time.monotonic() + 60
        with pytest.raises(OSError):  # that it takes no more
            while time.monotonic() < end:
                client.send(publish("$iothub/twin/GET/?$rid=1") * 20)
        bystander.publish(events(other), b"here", qos=1)
        bystander.expect(mqtt.PUBACK)
        assert hub.process.resident() - before < 30 << 20
    waiting.until(lambda: hub.rest("GET", path("statistics", "service")).json == {"connectedDeviceCount": 0}, 10, "its end")
