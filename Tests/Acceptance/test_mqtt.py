"""The device endpoint: CONNECT to DISCONNECT over TLS and over WebSocket (mqtt-device 2 to 9, attestation 10)."""

import base64
import os
import struct
import subprocess
import time

import pytest
from harness import mqtt, rest, sas, tls, waiting, websocket
from harness.process import run
from harness.rest import path

BOTH = pytest.mark.parametrize("web", [False, True], ids=["tls", "websocket"])


def code(hub, client, user, password, web=False, **named):
    """The return code of one CONNECT; a refusal is followed by the end of the connection."""
    with hub.mqtt(web) as connection:
        answer, present = connection.connect(client, user, password, **named)
        if answer:
            assert present == 0
            connection.ended(5)
        else:
            connection.ping()
        return answer


@BOTH
def test_a_device_comes_in_with_either_key_and_every_form_of_token(hub, web):
    device = hub.create()
    key, raw = device.key, device.resource
    for token in [
        device.token(), device.token(key=device.secondary), device.token(order="sr se sig"), device.token(order="sig se sr"),
        device.token(escape_signature=False), sas.token(key, raw, encoded=False),
        sas.token(key, sas.lower_hex(sas.encode(raw)), encoded=False), sas.token(key, raw.replace("/", "%2F"), encoded=False),
        sas.token(key, raw.replace("localhost", "LocalHost")), sas.token(key, raw, ""), device.token(expiry=4102444800),
    ]:
        assert code(hub, device.client, device.user(), token, web) == 0, token


@pytest.mark.parametrize("query", [
    "?api-version=2021-04-12", "?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%283.11.7%3BLinux%29",
    "?api-version=2020-09-30&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1", "api-version=2016-11-14&DeviceClientType=x", "",
    "?api-version=2020-09-30&DeviceClientType=iothubclient%2f1.8.0%20(native%3b%20Linux%3b%20x86_64)", "?x509=true", "?",
])
def test_user_names(hub, query):
    device = hub.create()
    assert code(hub, device.client, device.user(query), device.token()) == 0
    assert code(hub, device.client, device.user(query).replace("localhost", "LOCALHOST"), device.token()) == 0


def test_a_user_name_without_anything_behind_the_id(hub):
    device = hub.create()
    assert code(hub, device.client, f"localhost/{device.name}", device.token()) == 0


@pytest.mark.parametrize("name", ["a+b", "a#b", "a?b=c", "a?api-version=1", "50%", "%2F", "a@b!c", "d'e*f", "(x),y:z=$", "A" * 128])
def test_odd_ids_come_in(hub, name):
    device = hub.create(name)
    assert code(hub, name, device.user(), device.token()) == 0
    assert code(hub, name, device.user(), sas.token(device.key, f"localhost/devices/{sas.encode(name)}")) == 0
    module = hub.create(name, "m?x")
    assert code(hub, module.client, module.user(), module.token()) == 0


def test_who_does_not_come_in(hub):
    device, other = hub.create(), hub.create()
    module = hub.create(device.name, "mod")
    disabled = hub.create(body={"status": "disabled"})
    thumb = hub.create(body={"authentication": {"x509Thumbprint": {"primaryThumbprint": "ab" * 32}}})
    certified = hub.create(body={"authentication": {"type": "certificateAuthority"}})
    now = int(time.time())
    client, user, good = device.client, device.user(), device.token()
    for label, arguments in {
        "wrong key": (client, user, device.token(key=base64.b64encode(os.urandom(32)).decode())),
        "other device's key": (client, user, device.token(key=other.key)),
        "other device's token": (client, user, other.token()),
        "expired by ten minutes": (client, user, device.token(expiry=now - 600)),
        "expired by an hour": (client, user, device.token(expiry=now - 3600)),
        "no expiry": (client, user, good.split("&se=")[0]),
        "other host": (client, user, device.token(resource=f"other.test/devices/{client}")),
        "prefix, not a segment": (client, user, device.token(resource=f"localhost/devices/{client}x")),
        "part of a segment": (client, user, device.token(resource=f"localhost/devices/{client[:-1]}")),
        "without devices": (client, user, device.token(resource=f"localhost/{client}")),
        "case of the id": (client, user, device.token(resource=f"localhost/devices/{client.upper()}")),
        "broken signature": (client, user, good.replace("sig=", "sig=A")),
        "no token": (client, user, ""), "nonsense": (client, user, "hello"), "bytes": (client, user, b"\xff\xfe"),
        "no password at all": (client, user, None),
        "unknown device": ("nobody", "localhost/nobody/?api-version=2021-04-12", device.token(resource="localhost/devices/nobody")),
        "disabled device": (disabled.client, disabled.user(), disabled.token()),
        "device's key for its module": (module.client, module.user(), module.token(key=device.key)),
        "module's key for its device": (client, user, device.token(key=module.key)),
        "unknown module": (f"{client}/none", f"localhost/{client}/none/?api-version=2021-04-12",
                           device.token(resource=f"localhost/devices/{client}/modules/none")),
        "other host in the user name": (client, user.replace("localhost", "hub.other"), good),
        "other device in the user name": (client, other.user(), good),
        "other client id": (other.client, user, good),
        "empty user name": (client, "", good), "no user name": (client, None, None), "only a host": (client, "localhost", good),
        "token for a thumbprint": (thumb.client, thumb.user(), sas.token(device.key, thumb.resource)),
        "no certificate for a thumbprint": (thumb.client, thumb.user(), None),
        "no certificate for a CA": (certified.client, certified.user(), None),
    }.items():
        assert code(hub, *arguments) == 5, label


def test_policy_tokens(hub):
    hub.admin("policy", "create", "speaker", "--rights", "DeviceConnect")
    hub.admin("policy", "create", "listener", "--rights", "ServiceConnect")
    device, disabled = hub.create(), hub.create(body={"status": "disabled"})
    module = hub.create(device.name, "m")
    key = hub.policy_key("speaker")

    def token(resource, policy="speaker", key=key):
        return sas.token(key, resource, policy)

    for resource in ("localhost", "localhost/devices", device.resource):
        assert code(hub, device.client, device.user(), token(resource)) == 0, resource
    assert code(hub, module.client, module.user(), token("localhost/devices")) == 0
    assert code(hub, device.client, device.user(), token("localhost", "iothubowner", hub.policy_key())) == 0
    for label, arguments in {
        "not a segment": (device.client, device.user(), token("localhost/device")),
        "other device": (device.client, device.user(), token(disabled.resource)),
        "disabled": (disabled.client, disabled.user(), token("localhost/devices")),
        "unknown": ("nobody", "localhost/nobody/", token("localhost/devices")),
        "no right": (device.client, device.user(), token("localhost", "listener", hub.policy_key("listener"))),
        "unknown policy": (device.client, device.user(), token("localhost", "nopolicy")),
        "device's key": (device.client, device.user(), token(device.resource, key=device.key)),
    }.items():
        assert code(hub, *arguments) == 5, label


def test_protocol_levels(hub):
    device = hub.create()
    for level, name in ((3, "MQIsdp"), (3, "MQTT"), (6, "MQTT"), (0, "MQTT")):
        assert code(hub, device.client, device.user(), device.token(), level=level, name=name) == 1, (level, name)
    with hub.mqtt() as client:  # MQTT 5 has a property length of its own
        packet = mqtt.text("MQTT") + bytes([5, 0xC2]) + struct.pack("!HB", 60, 0) + mqtt.text(device.client) + mqtt.text(device.user())
        client.send(mqtt.packet(mqtt.CONNECT, packet + mqtt.text(device.token())))
        got = client.expect(mqtt.CONNACK)
        assert got.body[0] == 0 and got.body[1] in (0x84, 0x01), got
        client.ended(5)


def test_an_empty_or_broken_client_id(hub):
    device = hub.create()
    assert code(hub, "", device.user(), device.token()) == 2
    assert code(hub, "a b", "localhost/a b/", device.token()) in (2, 5)
    assert code(hub, "a" * 129, f"localhost/{'a' * 129}/", device.token()) in (2, 5)
    assert code(hub, "a/b/c", "localhost/a/b/c/", device.token()) in (2, 5)


@BOTH
@pytest.mark.parametrize("raw", [
    mqtt.packet(mqtt.PINGREQ), mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + mqtt.text("#") + b"\0", 2), b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00",
    b"\xf0\x00", mqtt.packet(mqtt.CONNECT, b""), mqtt.packet(mqtt.CONNECT, b"\0\4MQ"), mqtt.packet(mqtt.CONNECT, b"\xff\xffMQTT"),
    mqtt.packet(mqtt.CONNECT, mqtt.text("MQTT") + b"\x04\x03\0\x3c" + mqtt.text("x")),  # the reserved flag
    mqtt.packet(mqtt.CONNECT, mqtt.text("MQTT") + b"\x04\x42\0\x3c" + mqtt.text("x") + mqtt.text("p")),  # password without user name
    mqtt.packet(mqtt.CONNECT, mqtt.text("MQTT") + b"\x04\x1e\0\x3c" + mqtt.text("x")),  # will with QoS 3
    mqtt.packet(mqtt.CONNECT, mqtt.text("HTTP") + b"\x04\x02\0\x3c" + mqtt.text("x")),
    mqtt.packet(mqtt.CONNECT, mqtt.text("MQTT") + b"\x04\x02\0\x3c" + mqtt.text("x") + b"more"), b"\x10\xff\xff\xff\xff\x01",
    b"\x10\xff\xff\xff\x7f", b"\x11" + mqtt.connect_packet("x")[1:],
], ids=range(16))
def test_a_broken_start_ends_the_connection(hub, web, raw):
    with hub.mqtt(web) as client:
        client.send(raw)
        for packet in client.ended(5):
            assert packet.kind == mqtt.CONNACK and packet.body[1] != 0, packet


@BOTH
def test_a_packet_that_comes_byte_by_byte(hub, web):
    device = hub.create()
    with hub.mqtt(web) as client:
        for byte in mqtt.connect_packet(device.client, device.user(), device.token()):
            client.send(bytes([byte]))
        assert client.expect(mqtt.CONNACK).body == b"\0\0"
        stream = mqtt.packet(mqtt.PINGREQ) * 3 + mqtt.packet(mqtt.SUBSCRIBE, b"\0\7" + mqtt.text("$iothub/streams/POST/#") + b"\1", 2)
        for byte in stream:
            client.send(bytes([byte]))
        for _ in range(3):
            client.expect(mqtt.PINGRESP)
        assert client.expect(mqtt.SUBACK).body == b"\0\7\1"


@BOTH
def test_many_packets_in_one_piece(hub, web):
    device = hub.create()
    with hub.mqtt(web) as client:
        client.send(mqtt.connect_packet(device.client, device.user(), device.token()) + mqtt.packet(mqtt.PINGREQ) * 1000)
        client.expect(mqtt.CONNACK)
        for _ in range(1000):
            client.expect(mqtt.PINGRESP)


def test_packets_behind_a_refused_connect_are_not_served(hub):
    device = hub.create()
    with hub.mqtt() as client:
        client.send(mqtt.connect_packet(device.client, device.user(), "wrong") + mqtt.packet(mqtt.PINGREQ) * 10)
        packets = client.ended(5)
        assert [packet.kind for packet in packets] == [mqtt.CONNACK] and packets[0].body[1] == 5


@BOTH
def test_a_second_connect_ends_the_connection(hub, web):
    device = hub.create()
    client = device.login(web)
    client.send(mqtt.connect_packet(device.client, device.user(), device.token()))
    assert client.ended(5) == []


@BOTH
def test_the_newer_login_wins_at_once(hub, web):
    device = hub.create()
    older = device.login(web)
    for _ in range(5):
        started = time.monotonic()
        newer = device.login(not web)
        older.ended(5)
        assert time.monotonic() - started < 1.5
        newer.ping()
        older = newer
    assert hub.rest("GET", path("devices", device.name)).json["connectionState"] == "Connected"
    older.close()


def test_a_failed_login_does_not_disturb_who_is_there(hub):
    device = hub.create()
    with device.login() as client:
        assert code(hub, device.client, device.user(), "wrong") == 5
        client.ping()


def test_device_and_module_are_connected_side_by_side(hub):
    device = hub.create()
    module = hub.create(device.name, "beside")
    with device.login() as first, module.login() as second:
        first.ping()
        second.ping()


@BOTH
def test_keep_alive_is_enforced_at_one_and_a_half_times(hub, web):
    device = hub.create()
    client = device.login(web, keep_alive=2)
    client.ping()
    started = time.monotonic()
    client.ended(10)
    assert 2.5 <= time.monotonic() - started <= 4.5


def test_pings_and_other_packets_keep_a_connection(hub):
    device = hub.create()
    with device.login(keep_alive=1) as client:
        until = time.monotonic() + 4
        client.socket.settimeout(1)
        while time.monotonic() < until:
            try:
                client.receive(seconds=0.5)
            except TimeoutError:
                client.send(mqtt.packet(mqtt.PINGREQ))
        client.ping()


def test_subscriptions(hub):
    device, other = hub.create(), hub.create()
    with device.login() as client:
        good = ["$iothub/streams/POST/#", "$iothub/streams/res/#"]
        for qos in (0, 1, 2):
            assert client.subscribe(*good, qos=qos) == [min(qos, 1)] * 2
        bad = ["#", "+", "+/#", "$iothub/#", "$SYS/#", f"devices/{other.name}/messages/devicebound/#", "devices/+/messages/devicebound/#",
               "some/topic", f"devices/{device.name}/messages/events/", "$iothub/streams/POST/+", "$iothub/streams/GET/#"]
        assert client.subscribe(*bad, qos=1) == [0x80] * len(bad)
        assert client.subscribe(bad[0], good[0], bad[1], good[1]) == [0x80, 0, 0x80, 0]
        client.unsubscribe(*good, "never/was/there")
        client.ping()


@pytest.mark.parametrize("raw", [
    mqtt.packet(mqtt.PUBLISH, mqtt.text("some/topic") + b"x"), mqtt.packet(mqtt.PUBLISH, mqtt.text("devices/other/messages/events/") + b"x"),
    mqtt.packet(mqtt.PUBLISH, mqtt.text("devices/{d}/messages/events/") + b"\0\1x", 4),  # QoS 2
    mqtt.packet(mqtt.PUBLISH, mqtt.text("devices/{d}/messages/events/") + b"\0\1x", 6),  # QoS 3
    mqtt.packet(mqtt.PUBLISH, mqtt.text("devices/{d}/messages/events/") + b"\0\0x", 2),  # identifier 0
    mqtt.packet(mqtt.PUBLISH, mqtt.text("$iothub/streams/POST/x/?$rid=1")), mqtt.packet(mqtt.PUBLISH, mqtt.text("")),
    mqtt.packet(mqtt.PUBLISH, mqtt.text("$iothub/streams/other")), mqtt.packet(mqtt.PUBLISH, mqtt.text("+/x")),
    mqtt.packet(mqtt.PUBLISH, mqtt.text(b"devices/\xff\xfe/messages/events/")), mqtt.packet(mqtt.PUBLISH, b"\xff\xff"),
    mqtt.packet(mqtt.SUBSCRIBE, b"\0\1", 2), mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + mqtt.text("$iothub/methods/POST/#") + b"\1", 0),
    mqtt.packet(mqtt.SUBSCRIBE, b"\0\0" + mqtt.text("$iothub/methods/POST/#") + b"\1", 2),
    mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + mqtt.text("$iothub/methods/POST/#") + b"\3", 2), mqtt.packet(mqtt.UNSUBSCRIBE, b"\0\1", 2),
    mqtt.packet(mqtt.CONNACK, b"\0\0"), mqtt.packet(mqtt.SUBACK, b"\0\1\0"), mqtt.packet(mqtt.PINGRESP), mqtt.packet(mqtt.PINGREQ, b"x"),
    b"\x30\xff\xff\xff\xff\x01", b"\x30\x80\x80\x80\x01",  # a length of five bytes; two megabytes
    mqtt.packet(0), mqtt.packet(15), mqtt.packet(mqtt.PUBREC, b"\0\1"),
], ids=range(25))
def test_a_breach_of_protocol_ends_the_connection_and_nothing_else(hub, raw):
    device, bystander = hub.create(), hub.create()
    with bystander.login() as quiet, device.login() as client:
        name = device.name.encode()
        if b"{d}" in raw:
            body = raw[2:].replace(b"{d}", name)
            topic = struct.unpack("!H", body[:2])[0] + len(name) - 3
            raw = mqtt.packet(raw[0] >> 4, struct.pack("!H", topic) + body[2:], raw[0] & 15)
        client.send(raw)
        assert client.ended(5) == []
        quiet.ping()


def test_unknown_answers_are_harmless(hub):
    device = hub.create()
    with device.login() as client:
        for topic in ("$iothub/streams/res/200/?$rid=99", "$iothub/streams/res/400/?$rid=abc&x=y", "$iothub/streams/res/200/$rid=1",
                      "$iothub/streams/res/777/?$rid="):
            client.publish(topic)
            number = client.publish(topic, qos=1)
            assert client.expect(mqtt.PUBACK).identifier == number
        client.ping()


def test_disconnect_ends_the_connection(hub):
    device = hub.create()
    with device.login() as client:
        client.send(mqtt.packet(mqtt.DISCONNECT))
        assert client.ended(5) == []
    waiting.until(lambda: hub.rest("GET", path("devices", device.name)).json["connectionState"] == "Disconnected", 5)


@pytest.mark.parametrize("end", ["disable", "delete"])
def test_the_registry_cuts_a_live_connection_within_a_second(hub, end):
    device = hub.create()
    with device.login() as client:
        if end == "disable":
            hub.update(device, status="disabled")
        else:
            assert hub.rest("DELETE", path("devices", device.name)).status == 204
        started = time.monotonic()
        client.ended(5)
        assert time.monotonic() - started < 1


def test_a_module_goes_with_its_device(hub):
    device = hub.create()
    module = hub.create(device.name, "tied")
    with module.login() as client:
        hub.update(device, status="disabled")
        client.ended(2)


def test_a_deleted_and_recreated_device_needs_its_new_key(hub):
    device = hub.create("reborn")
    assert hub.rest("DELETE", path("devices", "reborn")).status == 204
    again = hub.create("reborn")
    assert code(hub, "reborn", device.user(), device.token()) == 5
    assert code(hub, "reborn", again.user(), again.token()) == 0


# --- sessions -----------------------------------------------------------------------------------------------------


def test_session_present(hub):
    device = hub.create()

    def present(clean):
        with hub.mqtt() as client:
            answer, bit = client.connect(device.client, device.user(), device.token(), clean=clean)
            assert answer == 0
            assert client.subscribe("$iothub/streams/POST/#") == [0]
            client.send(mqtt.packet(mqtt.DISCONNECT))
            client.ended(5)
            return bit

    assert present(False) == 0
    assert present(False) == 1
    assert present(True) == 0
    assert present(False) == 0


def test_subscriptions_survive_a_reconnect_and_a_restart_of_the_hub(new_hub):
    from harness import streams
    hub = new_hub()
    device = hub.create()
    with device.login(clean=False) as client:
        assert client.subscribe("$iothub/streams/POST/#", "$iothub/streams/res/#", "$iothub/streams/POST/#") == [0, 0, 0]
    hub.restart()
    with hub.mqtt() as client:
        assert client.connect(device.client, device.user(), device.token(), clean=False) == (0, 1)
        opening = streams.Opening(hub, device.name, response=10)
        streams.reply(client, streams.Request(client.receive()), 400)
        assert opening.answer().header("iothub-streaming-is-accepted") == "False"
        client.unsubscribe("$iothub/streams/POST/#")
        opening.close()
    with hub.mqtt() as client:
        assert client.connect(device.client, device.user(), device.token(), clean=False) == (0, 1)
        with streams.Opening(hub, device.name).connection as connection:
            assert connection.response().error == "DeviceNotOnline"


# --- WebSocket ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [
    "/$iothub/websocket", "/%24iothub/websocket", "/$iothub/websocket?iothub-no-client-cert=true",
    "/%24iothub/websocket?x=y&api-version=1",
])
@pytest.mark.parametrize("protocol", ["mqtt", "MQTT"])
def test_the_path_and_protocol_of_the_websocket(hub, target, protocol):
    device = hub.create()
    with mqtt.Client.web((hub.address, hub.https), hub.ca, target=target, protocol=protocol) as client:
        assert client.connect(device.client, device.user(), device.token())[0] == 0
        client.ping()


def test_the_answer_to_the_upgrade_has_colon_and_space(hub):
    with mqtt.Client.web((hub.address, hub.https), hub.ca) as client:
        for line in client.transport.answer.raw.split(b"\r\n")[1:]:
            assert b": " in line
        assert client.transport.answer.header("Date")


@pytest.mark.parametrize("fields, status", [
    ({"Sec-WebSocket-Protocol": "mqtt"}, 101), ({"Sec-WebSocket-Protocol": "chat, mqtt"}, 101),
    ({"Sec-WebSocket-Protocol": "mqtt", "Sec-WebSocket-Extensions": "permessage-deflate"}, 101),
    ({"Sec-WebSocket-Protocol": "chat"}, 400), ({}, 400),
])
def test_protocols_that_are_offered(hub, fields, status):
    with hub.connect() as connection:
        answer = websocket.Upgrade(connection, "/$iothub/websocket", fields).answer
        assert answer.status == status, answer
        if status == 101:
            assert answer.header("Sec-WebSocket-Protocol") == "mqtt"
            assert answer.header("Sec-WebSocket-Extensions") is None


@pytest.mark.parametrize("lines, statuses", [
    ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", (400, 426)),
    ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n", (400, 426)),
    ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 8\r\n", (426,)),
    ("Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n", (400, 426)),
    ("", (400, 426)),
])
def test_a_malformed_upgrade(hub, lines, statuses):
    with hub.connect() as connection:
        connection.send(f"GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\n{lines}Sec-WebSocket-Protocol: mqtt\r\n\r\n")
        answer = connection.response()
        assert answer.status in statuses, answer
        if answer.status == 426:
            assert answer.header("Sec-WebSocket-Version") == "13"


def test_frames_that_are_split_oddly(hub):
    """Fragments, empty fragments, control frames between, text frames in a row: to MQTT it is one stream of bytes."""
    device = hub.create()
    with hub.mqtt(True) as client:
        socket_ = client.transport
        raw = mqtt.connect_packet(device.client, device.user(), device.token())
        socket_.send(b"", fin=False)
        for at in range(0, len(raw), 11):
            socket_.send(raw[at:at + 11], websocket.CONTINUATION, fin=False)
            if at % 33 == 0:
                socket_.send(b"p%d" % at, websocket.PING)
                got = socket_.receive()
                assert (got.opcode, got.payload) == (websocket.PONG, b"p%d" % at)
                socket_.send(b"unasked", websocket.PONG)
        socket_.send(b"", websocket.CONTINUATION)
        assert client.expect(mqtt.CONNACK).body == b"\0\0"
        socket_.send_raw(websocket.frame(b"\xc0") + websocket.frame(b"\x00\xc0") + websocket.frame(b"\x00"))
        client.expect(mqtt.PINGRESP)
        client.expect(mqtt.PINGRESP)
        for byte in websocket.frame(mqtt.packet(mqtt.PINGREQ)):
            socket_.send_raw(bytes([byte]))
        client.expect(mqtt.PINGRESP)


@pytest.mark.parametrize("raw, code", [
    (websocket.frame(b"\xc0\x00", masked=False), 1002), (websocket.frame(b"\xc0\x00", reserved=4), 1002), (websocket.frame(b"", 3), 1002),
    (websocket.frame(b"", 11), 1002), (websocket.frame(b"x", websocket.PING, fin=False), 1002),
    (websocket.frame(b"x" * 126, websocket.PING), 1002), (websocket.frame(b"x", websocket.CONTINUATION), 1002),
    (websocket.frame(b"x", fin=False) + websocket.frame(b"y"), 1002), (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", (1002, 1009)),
    (b"\x82\xfe\x00\x01\0\0\0\0x", 1002), (websocket.frame(b"\x03", websocket.CLOSE), 1002),
    (websocket.frame(struct.pack("!H", 1005), websocket.CLOSE), 1002), (websocket.frame(struct.pack("!H", 99), websocket.CLOSE), 1002),
], ids=range(13))
def test_broken_frames_end_with_a_close_that_says_so(hub, raw, code):
    device = hub.create()
    with device.login(web=True) as client:
        client.transport.send_raw(raw)
        got = client.transport.receive_close()
        assert got.code in (code if isinstance(code, tuple) else (code,)), got
        assert client.transport.ended(5) == b""


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999, None])
def test_close_is_answered(hub, code):
    device = hub.create()
    with device.login(web=True) as client:
        client.transport.send_raw(websocket.close_frame(code))
        assert client.transport.receive_close().code == code
        assert client.transport.ended(5) == b""


# --- certificates -------------------------------------------------------------------------------------------------


def test_a_thumbprint_device_comes_in_with_its_certificate(hub, iotstream, tmp_path):
    run([iotstream, "cert", "gen-root", "--dir", tmp_path], check=0)
    for name in ("own", "other"):
        run([iotstream, "cert", "gen-device", name, "--dir", tmp_path], check=0)
    print256 = run([iotstream, "cert", "thumbprint", tmp_path / "own.cert.pem"], check=0).stdout.strip()
    print1 = run([iotstream, "cert", "thumbprint", "--sha1", tmp_path / "own.cert.pem"], check=0).stdout.strip()
    slots = [("primaryThumbprint", print256.upper()), ("secondaryThumbprint", print256.lower()), ("primaryThumbprint", print1.lower()),
             ("secondaryThumbprint", print1.upper())]
    for slot, value in slots:
        device = hub.create(body={"authentication": {"type": "selfSigned", "x509Thumbprint": {slot: value}}})
        for web in (False, True):
            for name, expected in (("own", 0), ("other", 5)):
                settings = tls.context(hub.ca, tmp_path / f"{name}.cert.pem", tmp_path / f"{name}.key.pem")
                if web:
                    connection = rest.Connection((hub.address, hub.https), hub.ca, settings=settings)
                    client = mqtt.Client(websocket.WebSocket(connection, "/$iothub/websocket", {"Sec-WebSocket-Protocol": "mqtt"}), True)
                else:
                    client = mqtt.Client.tcp((hub.address, hub.mqtts), hub.ca, settings=settings)
                with client:
                    assert client.connect(device.client, device.user())[0] == expected
                    if not expected:
                        client.ping()


# --- a real client ------------------------------------------------------------------------------------------------


def test_mosquitto_as_a_device(hub):
    device = hub.create()
    common = ["-h", "localhost", "-p", str(hub.mqtts), "--cafile", str(hub.ca), "-i", device.name, "-u", device.user(), "-P", device.token(),
              "-V", "mqttv311"]
    topic = "$iothub/streams/res/200/?$rid=none"
    run(["mosquitto_pub", *common, "-q", "1", "-t", topic, "-n"], check=0)
    bad = run(["mosquitto_pub", *common[:-3], "wrong", "-V", "mqttv311", "-t", topic, "-m", "x"])
    assert bad.returncode != 0 and "not authori" in (bad.stderr + bad.stdout).lower()
    listener = subprocess.Popen(["mosquitto_sub", *common, "-t", "$iothub/streams/POST/#", "-C", "1", "-F", "%t"], stdout=subprocess.PIPE,
                                text=True)
    try:
        waiting.until(lambda: hub.rest("GET", path("devices", device.name)).json["connectionState"] == "Connected", 10)
        from harness import streams
        opening = streams.Opening(hub, device.name, name="hello", connect=5, response=2)
        assert listener.communicate(timeout=10)[0].startswith("$iothub/streams/POST/hello/?$rid=")
        answer = opening.answer()
        assert answer.status in (404, 504), answer  # it ended after the request: gone, or silent
        opening.close()
    finally:
        if listener.poll() is None:
            listener.kill()
            listener.wait()


# --- time ---------------------------------------------------------------------------------------------------------


def test_a_connection_ends_with_its_token(hub):
    """At the expiry, plus at most the five minutes that are allowed for clocks that disagree."""
    device = hub.create()
    client = device.login(token=device.token(expiry=int(time.time()) - 297), keep_alive=600)
    started = time.monotonic()
    client.ended(10)
    assert time.monotonic() - started < 6
