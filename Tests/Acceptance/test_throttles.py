"""What may not happen as often as anybody likes, and what a queue allows, as the hub's configuration says (mqtt-device 11 and 19)."""

import json
import signal
import time

import pytest
from harness import mqtt, waiting
from harness.process import run
from harness.rest import path


@pytest.fixture
def limited(new_hub, tmp_path):
    """A hub, and what gives it a configuration."""
    file = tmp_path / "hub.conf"
    file.write_text("")
    hub = new_hub(options=["--config", file])

    def configure(*lines):
        file.write_text("\n".join(lines) + "\n")
        start = len(hub.process.lines)
        hub.process.signal(signal.SIGHUP)
        hub.process.wait_line("event=reloaded", after=start)

    hub.configure = configure
    return hub


def is_refused(answer):
    assert (answer.status, answer.error, answer.code) == (429, "ThrottlingException", "ThrottlingException"), answer
    assert answer.reason == "Too Many Requests" and 1 <= int(answer.header("Retry-After")) <= 3600
    return True


def test_rest_operations_are_refused_each_by_its_own_limit(limited):
    hub = limited
    device = hub.create()
    twin, query = path("twins", device.name), path("devices", "query")
    calls = {
        "twin-reads": ("GET", twin, None), "twin-updates": ("PATCH", twin, {"tags": {"a": 1}}),
        "registry": ("GET", path("devices", device.name), None), "queries": ("POST", query, {"query": "SELECT * FROM devices"}),
        "methods": ("POST", path("twins", device.name, "methods"), {"methodName": "m"}), "configurations": ("GET", path("configurations"), None),
        "jobs": ("GET", path("jobs", "v2", "query"), None), "messages": ("POST", path("devices", device.name, "messages", "deviceBound"), b"x"),
    }

    def ask(name):
        return hub.rest(*calls[name])

    hub.configure(*(f"throttle-{name} 2/h" for name in calls))
    for name in calls:
        assert [ask(name).status for _ in range(2)] == [{"methods": 404, "messages": 204}.get(name, 200)] * 2, name
        assert is_refused(ask(name))
    # Nobody without a right uses anything up, and others than these go on.
    assert hub.rest(*calls["registry"], token="x").status == 401
    assert hub.rest("GET", path("statistics", "service")).status == 200
    hub.configure("throttle-twin-reads none")
    for name in calls:
        assert ask(name).status != 429, name


def test_devices_are_slowed_down_and_then_cut_off(limited):
    hub = limited
    device = hub.create()
    topic = f"devices/{device.name}/messages/events/"
    hub.configure("throttle-telemetry 100/s")
    with device.login(keep_alive=1) as client:
        began = time.monotonic()
        identifiers = [client.publish(topic, b"%d" % number, qos=1) for number in range(350)]
        assert [client.expect(mqtt.PUBACK, 30).identifier for _ in identifiers] == identifiers
        client.ping(30)
        assert time.monotonic() - began > 2  # the first hundred at once; the silence was not the device's
    hub.configure("throttle-telemetry 1/h")
    with device.login() as client:
        client.publish(topic, b"a", qos=1)
        client.expect(mqtt.PUBACK)
        client.publish(topic, b"b", qos=1)
        client.ended()
    hub.process.wait_line("event=device-disconnected .*reason=throttled")
    over_https = ("POST", path("devices", device.name, "messages", "events"), b"x")
    assert is_refused(hub.rest(*over_https, token=device.token()))
    hub.configure("throttle-message-fetches 1/h", "throttle-uploads 1/h", "throttle-connects 2/h")
    fetch, upload = ("GET", path("devices", device.name, "messages", "deviceBound")), ("POST", path("devices", device.name, "files"), {"blobName": "a"})
    for call, good in ((fetch, 204), (upload, 200), (over_https, 204)):
        assert hub.rest(*call, token=device.token()).status == good
    for call in (fetch, upload):
        assert is_refused(hub.rest(*call, token=device.token()))
    for code in (0, 0, 3):
        with hub.mqtt() as client:
            assert client.connect(device.client, device.user(), device.token())[0] == code
    # Who may not come in at all is told so.
    with hub.mqtt() as client:
        assert client.connect(device.client, device.user(), device.token(key="AAAA" * 11))[0] == 5


def test_twins_over_mqtt(limited):
    hub = limited
    device = hub.create()
    hub.configure("throttle-twin-reads 1/h", "throttle-twin-updates 1/h")
    with device.login() as client:
        assert client.subscribe("$iothub/twin/res/#") == [0]
        for topic, body, good in (("$iothub/twin/GET/", b" ", 200), ("$iothub/twin/PATCH/properties/reported/", b'{"a":1}', 204)):
            for status in (good, 429):
                client.publish(f"{topic}?$rid=7", body)
                packet = client.expect(mqtt.PUBLISH)
                assert packet.topic.startswith(f"$iothub/twin/res/{status}/?$rid=7"), packet
            assert json.loads(packet.payload)["errorCode"] == 429001
        client.ping()


def test_a_queue_is_as_the_configuration_says(limited):
    hub = limited
    device = hub.create()
    hub.configure("message-queue 3", "message-deliveries 2", "message-lock-seconds 5", "message-seconds 2m", "feedback-seconds 1h")
    bound = path("devices", device.name, "messages", "deviceBound")

    def send(body, **headers):
        return hub.rest("POST", bound, body, headers)

    for number in range(3):
        assert send(b"%d" % number, **{"iothub-ack": "full", "iothub-messageid": str(number)}).status == 204
    assert send(b"x").error == "DeviceMaximumQueueDepthExceeded"
    # A tool keeps to it as well.
    assert "as many messages" in hub.admin("message", "send", device.name, "x", check=1).stderr

    def fetch():
        return hub.rest("GET", bound, token=device.token())

    first = fetch()
    lasts = time.mktime(time.strptime(first.header("iothub-expiry")[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(
        time.strptime(first.header("iothub-enqueuedtime")[:19], "%Y-%m-%dT%H:%M:%S"))
    assert first.body == b"0" and 119 <= lasts <= 121
    for count in range(2):
        if count:
            first = fetch()
        assert first.header("iothub-deliverycount") == str(count)
        settle = path("devices", device.name, "messages", "deviceBound", first.header("ETag").strip('"'), "abandon")
        assert hub.rest("POST", settle, token=device.token()).status == 204
    feedback = hub.rest("GET", path("messages", "serviceBound", "feedback"))
    assert [(one["originalMessageId"], one["statusCode"]) for one in feedback.json] == [("0", "DeliveryCountExceeded")]
    # What is held for too long comes back by itself.
    assert fetch().body == b"1"
    again = waiting.until(lambda: (lambda got: got if got.body == b"1" else None)(fetch()), 20, "the message again")
    assert again.header("iothub-deliverycount") == "1"


@pytest.mark.parametrize("line, said", [
    ("throttle-queries 0/s", "takes a number per second, minute or hour"), ("throttle-queries 5", "takes a number per second"),
    ("throttle-everything 1/s", "unknown key"), ("message-queue 0", "message-queue"), ("message-deliveries 101", "message-deliveries"),
    ("message-lock-seconds 4", "a time from 5s to 300s"), ("message-seconds 3d", "a time from 60s to 172800s")])
def test_what_makes_no_sense_is_refused(iotstream, certificates, tmp_path, line, said):
    file = tmp_path / "hub.conf"
    file.write_text("# one\n" + line + "\n")
    got = run([iotstream, "hub", "--config", file, "--tls-cert", certificates.chain, "--tls-key", certificates.key, "--check"], check=78)
    assert said in got.stderr and "hub.conf:2: " in got.stderr and got.stderr.count("\n") == 1


def test_a_new_number_of_partitions_waits_for_a_restart(limited):
    limited.configure("telemetry-partitions 8")
    assert limited.process.has_line("event=restart-needed .*telemetry-partitions")
    assert len(limited.rest("GET", path("telemetry")).json["partitions"]) == 4
