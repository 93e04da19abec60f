"""paho-mqtt and the mosquitto clients as plain devices: no SDK, just MQTT 3.1.1."""

import re
import ssl
import threading

import paho.mqtt.client as paho
import pytest
from harness import streams, waiting
from harness.process import Process, run
from harness.rest import path

WAYS = pytest.mark.parametrize("transport", ["tcp", "websockets"])


class Plain:
    """A paho client and what happened to it."""

    def __init__(self, hub, device, transport, token=None):
        self.results, self.messages = [], []
        self.connected, self.lost, self.subscribed, self.arrived = (threading.Event() for _ in range(4))
        self.granted = None
        self.client = paho.Client(device.client, clean_session=True, transport=transport)
        self.client.tls_set(str(hub.ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self.client.username_pw_set(device.user(), token or device.token())
        if transport == "websockets":
            self.client.ws_set_options("/$iothub/websocket")
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self.lost.set()
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.connect(hub.name, 443 if transport == "websockets" else 8883, 30)
        self.client.loop_start()

    def _on_connect(self, client, data, flags, code):
        self.results.append(code)
        self.connected.set()

    def _on_subscribe(self, client, data, identifier, granted):
        self.granted = list(granted)
        self.subscribed.set()

    def _on_message(self, client, data, message):
        self.messages.append(message)
        self.arrived.set()

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@WAYS
def test_paho_takes_a_stream(hub, keep, transport):
    device = hub.create()
    plain = keep(Plain(hub, device, transport))
    assert plain.connected.wait(10) and plain.results == [0]
    plain.client.subscribe([("$iothub/streams/POST/#", 0), ("$iothub/streams/res/#", 1)])
    assert plain.subscribed.wait(10) and plain.granted == [0, 1]
    opening = keep(streams.Opening(hub, device.name))
    assert plain.arrived.wait(10)
    topic = plain.messages[0].topic
    match = streams.TOPIC.fullmatch(topic)
    assert match and match[1] == "TestStream", topic
    plain.client.publish(f"$iothub/streams/res/200/?$rid={match[2]}").wait_for_publish(10)
    answer = opening.answer()
    assert answer.header("iothub-streaming-is-accepted") == "True"


@WAYS
def test_paho_is_told_that_it_is_not_welcome(hub, keep, transport):
    device, other = hub.create(), hub.create()
    plain = keep(Plain(hub, device, transport, token=other.token()))
    assert plain.connected.wait(10) and plain.results[0] == 5


@WAYS
def test_paho_is_no_broker_client(hub, keep, transport):
    device = hub.create()
    plain = keep(Plain(hub, device, transport))
    assert plain.connected.wait(10)
    plain.client.subscribe([("#", 0), ("a/b", 0)])
    assert plain.subscribed.wait(10) and plain.granted == [0x80, 0x80]
    plain.client.publish("somewhere/else", b"x")
    assert plain.lost.wait(10), "a publish to a foreign topic was tolerated"


def test_paho_answers_pings(hub, keep):
    device = hub.create()
    plain = keep(Plain(hub, device, "tcp"))
    assert plain.connected.wait(10)
    plain.stop()
    plain.client = paho.Client(device.client)
    plain.connected.clear()
    plain.client.tls_set(str(hub.ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
    plain.client.username_pw_set(device.user(), device.token())
    plain.client.on_connect = plain._on_connect
    lost = threading.Event()
    plain.client.on_disconnect = lambda *_: lost.set()
    pinged = threading.Event()
    plain.client.on_log = lambda client, data, level, text: pinged.set() if "PINGRESP" in text else None
    plain.client.connect(hub.name, 8883, keepalive=2)
    plain.client.loop_start()
    assert plain.connected.wait(10) and pinged.wait(10)
    assert not lost.is_set()


# --- mosquitto_sub and mosquitto_pub -------------------------------------------------------------------------------


def words(hub, device, token=None, debug=True):
    made = ["-h", hub.name, "-p", "8883", "--cafile", hub.ca, "-V", "mqttv311", "-i", device.client, "-u", device.user(), "-P",
            token or device.token()]
    return made + (["-d"] if debug else [])


def test_mosquitto_sub_sees_a_stream_request(hub, keep):
    device = hub.create()
    subscriber = keep(Process(["stdbuf", "-oL", "mosquitto_sub", *words(hub, device), "-v", "-t", "$iothub/streams/POST/#"]))
    subscriber.wait_line("received SUBACK", 10)
    waiting.until(lambda: hub.rest("GET", path("devices", device.name)).json["connectionState"] == "Connected", 10)
    keep(streams.Opening(hub, device.name, "22"))
    subscriber.wait_line(re.escape("$iothub/streams/POST/22/?$rid="), 10)


def test_mosquitto_sub_is_displaced_by_a_second_one(hub, keep):
    device = hub.create()
    arguments = ["stdbuf", "-oL", "mosquitto_sub", *words(hub, device), "-t", "$iothub/streams/POST/#"]
    first = keep(Process(arguments))
    first.wait_line("received SUBACK", 10)
    lines = len(first.lines)
    with device.login() as second:
        # It comes back by itself, and whoever came last has the name.
        first.wait_line(r"received CONNACK \(0\)", 20, after=lines)
        assert second.ended() == []


def test_mosquitto_with_a_wrong_password(hub):
    device, other = hub.create(), hub.create()
    result = run(["mosquitto_pub", *words(hub, device, other.token()), "-t", "$iothub/streams/res/200/?$rid=1", "-n"])
    assert result.returncode == 5, result.stderr
    assert "not authori" in (result.stdout + result.stderr).lower()


def test_mosquitto_with_a_version_that_is_not_spoken(hub):
    device = hub.create()
    result = run(["mosquitto_pub", "-h", hub.name, "-p", "8883", "--cafile", hub.ca, "-V", "mqttv31", "-i", device.client, "-u",
                  device.user(), "-P", device.token(), "-t", "$iothub/streams/res/200/?$rid=1", "-n"])
    assert result.returncode == 1, (result.returncode, result.stderr)
