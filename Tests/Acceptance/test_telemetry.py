"""Telemetry: from devices into the log, and out of it again (mqtt-device 10 and 16)."""

import json
import os
import pathlib
import threading
import time

import pytest
from harness import mqtt, waiting
from harness.process import Process, run
from harness.rest import path

# By hand: IOTSTREAM_CRASHES=100 IOTSTREAM_LOGGED=1000000, and a release build.
CRASHES = int(os.environ.get("IOTSTREAM_CRASHES", "3"))
LOGGED = int(os.environ.get("IOTSTREAM_LOGGED", "20000"))


def topic(device, bag=""):
    module = f"/modules/{device.module}" if device.module else ""
    return f"devices/{device.name}{module}/messages/events/{bag}"


def monitor(hub, *words, check=0):
    """The messages that `monitor --json` prints."""
    got = hub.admin("monitor", "--json", "--from", "beginning", *words, check=check)
    return [json.loads(line) for line in got.stdout.splitlines()]


def publish(client, device, bodies, bag=""):
    """At QoS 1, all at once; back when every one is acknowledged, in order."""
    identifiers = [client.publish(topic(device, bag), body, qos=1) for body in bodies]
    assert [client.expect(mqtt.PUBACK, 30).identifier for _ in identifiers] == identifiers


@pytest.mark.parametrize("web", [False, True], ids=["tls", "websocket"])
@pytest.mark.parametrize("module", [None, "m1"])
def test_a_message_with_all_its_properties(hub, web, module):
    device = hub.create()
    if module:
        device = hub.create(device.name, module)
    bag = ("%24.on=out1&%24.mid=m%201&%24.cid=c&%24.uid=u&%24.ct=application%2Fjson&%24.ce=utf-8&%24.exp=2030-01-01T00%3A00%3A00Z"
           "&%24.ctime=2020-01-01&%24.sub=comp&%24.unknown=x&a%20b=c%2Fd%2Be&n=5&z=&%C3%A9=%C3%BC&alone")
    with device.login(web=web, query="?api-version=2020-09-30&model-id=dtmi%3Ax%3By1") as client:
        publish(client, device, [b'{"t":21}'], bag)
        client.publish(topic(device), b"\xff\0", retain=True)
        client.ping()
    first, second = waiting.until(lambda: (lambda got: got if len(got) == 2 else None)(monitor(hub, device.name)), 10, "both messages")
    assert first["body"] == '{"t":21}' and first["deviceId"] == device.name and first.get("moduleId") == module
    assert first["systemProperties"] == {
        "message-id": "m 1", "correlation-id": "c", "user-id": "u", "content-type": "application/json", "content-encoding": "utf-8",
        "absolute-expiry-time": "2030-01-01T00:00:00Z", "iothub-creation-time-utc": "2020-01-01", "dt-subject": "comp", "iothub-outputname": "out1",
        "dt-dataschema": "dtmi:x;y1", "iothub-connection-auth-generation-id": device.document["generationId"]}
    assert first["properties"] == {"a b": "c/d+e", "n": "5", "z": "", "é": "ü", "alone": None}
    assert json.loads(first["authMethod"]) == {
        "scope": "module" if module else "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
    assert second["bodyBase64"] == "/wA=" and second["properties"] == {"mqtt-retain": "true"}
    assert second["sequenceNumber"] > first["sequenceNumber"] and second["enqueuedTime"] >= first["enqueuedTime"]


@pytest.mark.parametrize("form", ["", "?%24.mid=1", "%24.mid=1/", "x=1&x=2"])
def test_forms_of_the_topic(hub, form):
    device = hub.create()
    with device.login() as client:
        publish(client, device, [b"x"], form)
        if not form:
            client.publish(f"devices/{device.name}/messages/events", b"y", qos=1)
            client.expect(mqtt.PUBACK)
    got = monitor(hub, device.name)
    assert [one["body"] for one in got] == (["x"] if form else ["x", "y"])
    if form == "x=1&x=2":
        assert got[0]["properties"] == {"x": "2"}


def test_the_order_of_a_device_is_kept(hub):
    device = hub.create()
    with device.login() as client:
        publish(client, device, [b"%d" % number for number in range(2000)])
    got = monitor(hub, device.name)
    assert [one["body"] for one in got] == [str(number) for number in range(2000)]
    assert len({one["partition"] for one in got}) == 1


def test_sizes(hub):
    device = hub.create()
    with device.login() as client:
        publish(client, device, [b"", b"x" * (256 << 10)])
    assert [len(one["body"]) for one in monitor(hub, device.name)] == [0, 256 << 10]
    with device.login() as client:
        client.publish(topic(device, "k=" + "v" * 100), b"x" * (256 << 10), qos=1)
        client.ended()
    assert len(monitor(hub, device.name)) == 2


def test_what_is_acknowledged_is_there_after_a_crash(new_hub):
    """The hub is killed while twenty devices publish and report, and a service writes to their twins; nothing that was acknowledged is
    missing, what was not is there whole or not at all, and the order is kept. With a log behind it the hub is soon back."""
    hub = new_hub()
    devices = [hub.create() for _ in range(20)]
    fill(hub, LOGGED)
    sent = {device.name: 0 for device in devices}
    acknowledged = {device.name: 0 for device in devices}
    # The number of the last patch that was acknowledged; each writes its own number, one after the other.
    reported = {device.name: 0 for device in devices}
    desired = {device.name: 0 for device in devices}

    def story(device, started):
        try:
            with device.login(clean=False) as client:
                if client.subscribe("$iothub/twin/res/#") != [0]:
                    return
                first = sent[device.name] = acknowledged[device.name]
                waiting_for, patch = [], None
                started.release()
                while True:
                    while len(waiting_for) < 20:
                        waiting_for.append((client.publish(topic(device), b"%d" % sent[device.name], qos=1), sent[device.name]))
                        sent[device.name] += 1
                    if patch is None:
                        patch = reported[device.name] + 1
                        client.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={patch}", json.dumps({"n": patch, f"k{patch % 8}": patch}).encode())
                    got = client.receive(20)
                    if got.kind == mqtt.PUBLISH:
                        assert got.topic == f"$iothub/twin/res/204/?$rid={patch}&$version={patch + 1}", got
                        reported[device.name], patch = patch, None
                        continue
                    identifier, number = waiting_for.pop(0)
                    assert got.kind == mqtt.PUBACK and got.identifier == identifier and number >= first
                    acknowledged[device.name] = number + 1
        except (OSError, EOFError):
            started.release()

    def service(device, started):
        token = hub.service_token()
        try:
            with hub.connect() as connection:
                started.release()
                while True:
                    patch = desired[device.name] + 1
                    answer = connection.exchange("PATCH", path("twins", device.name), token=token, body={
                        "properties": {"desired": {"n": patch, f"k{patch % 8}": patch}}})
                    assert answer.status == 200 and answer.json["properties"]["desired"]["$version"] == patch + 1, answer
                    desired[device.name] = patch
        except (OSError, EOFError):
            started.release()

    def written(document, before):
        """The last of the patches that are in a section; at most the one that was under way goes beyond what was acknowledged."""
        number = document.get("n", 0)
        assert number in (before, before + 1) and document["$version"] == number + 1, (document, before)
        for key, value in document.items():
            assert not key.startswith("k") or value == max(n for n in range(number + 1) if n % 8 == int(key[1:])), document
        return number

    starts = []
    for _ in range(CRASHES):
        started = threading.Semaphore(0)
        threads = [threading.Thread(target=story, args=(device, started)) for device in devices]
        threads += [threading.Thread(target=service, args=(device, started)) for device in devices[:4]]
        for thread in threads:
            thread.start()
        for _ in threads:
            started.acquire()
        before = [sum(counts.values()) for counts in (acknowledged, reported, desired)]
        waiting.until(lambda: all(sum(counts.values()) > old + least for counts, old, least in zip(
            (acknowledged, reported, desired), before, (200, 20, 4))), 30, "messages and patches under way")
        hub.process.kill()
        hub.process.stop()
        began = time.monotonic()
        hub.start()
        starts.append(time.monotonic() - began)
        for thread in threads:
            thread.join()
        for device in devices:
            properties = hub.rest("GET", path("twins", device.name)).json["properties"]
            reported[device.name] = written(properties["reported"], reported[device.name])
            desired[device.name] = written(properties["desired"], desired[device.name])
    for device in devices:
        bodies = [int(one["body"]) for one in monitor(hub, device.name)]
        assert set(range(acknowledged[device.name])) <= set(bodies)
        # A message that was not acknowledged may be there twice; otherwise the numbers go up.
        seen = -1
        for number in bodies:
            assert number <= seen + 1, bodies
            seen = max(seen, number)
    starts.sort()
    print(f"{CRASHES} crashes, {sum(acknowledged.values())} messages, {sum(reported.values())} + {sum(desired.values())} patches; "
          f"ready after {starts[len(starts) // 2]:.3f} s, at most {starts[-1]:.3f} s, with {LOGGED} messages in the log before")
    # Machines that do something else besides are not held to a time.
    assert CRASHES < 100 or starts[-1] < 1, starts


def fill(hub, count):
    """Puts messages into the log, of eight devices."""
    for number in range(8):
        device, part = hub.create(f"filler{number}"), count // 8
        packet = mqtt.packet(mqtt.PUBLISH, mqtt.text(topic(device, "kind=filler")) + b"x" * 50)
        with device.login() as client:
            for start in range(0, part, 10_000):
                client.send(packet * min(10_000, part - start))
                client.ping(60)


def test_a_will_is_left_by_whoever_goes_without_a_word(hub):
    device = hub.create()

    def connect(**named):
        client = hub.mqtt()
        code, _ = client.connect(device.client, device.user(), device.token(), **named)
        return client, code

    client, code = connect(will=(topic(device, "a=1"), b"gone"))
    assert code == 0
    client.close()
    client, code = connect(will=(topic(device), b"never"))
    assert code == 0
    client.send(mqtt.packet(mqtt.DISCONNECT))
    client.ended()
    client.close()
    first, code = connect(will=(topic(device), b"displaced"))
    second, code = connect()
    first.ended()
    second.send(mqtt.packet(mqtt.DISCONNECT))
    bodies = waiting.until(lambda: (lambda got: got if len(got) == 2 else None)(monitor(hub, device.name)), 10, "two wills")
    assert [(one["body"], one["properties"]) for one in bodies] == [
        ("gone", {"a": "1", "iothub-MessageType": "Will"}), ("displaced", {"iothub-MessageType": "Will"})]
    for wrong in ("elsewhere", "devices/other/messages/events/", "$iothub/twin/GET/?$rid=1"):
        assert connect(will=(wrong, b""))[1] == 5


def test_a_device_sends_over_https(hub):
    device = hub.create()
    target = path("devices", device.name, "messages", "events")

    def send(body, headers=None, token=None):
        return hub.rest("POST", target, body, headers, token or device.token()).status

    assert send(b"one", {"iothub-messageid": "1", "iothub-app-k": "v", "iothub-contenttype": "text/plain"}) == 204
    batch = [{"body": "dHdv", "base64Encoded": True, "properties": {"iothub-app-k": "w", "iothub-correlationid": "c"}}, {"body": "three"}]
    assert send(json.dumps(batch).encode(), {"Content-Type": "application/vnd.microsoft.iothub.json"}) == 204
    got = monitor(hub, device.name)
    assert [(one["body"], one["properties"]) for one in got] == [("one", {"k": "v"}), ("two", {"k": "w"}), ("three", {})]
    assert got[0]["systemProperties"]["message-id"] == "1" and got[1]["systemProperties"]["correlation-id"] == "c"
    for body in (b"{", b"{}", b'[{"x":1}]', b'[{"body":1}]', b'[{"body":"!","base64Encoded":true}]', b'[{"body":"x","properties":{"a":1}}]'):
        assert send(body, {"Content-Type": "application/vnd.microsoft.iothub.json; charset=utf-8"}) == 400
    assert send(b"x" * ((256 << 10) + 1)) == 413
    assert send(b"x", token=hub.create().token()) == 401
    assert len(monitor(hub, device.name)) == 3


def test_a_service_reads_over_rest(hub):
    device = hub.create()
    described = hub.rest("GET", path("telemetry")).json["partitions"]
    assert [one["partition"] for one in described] == [0, 1, 2, 3]

    def read(**query):
        return hub.rest("GET", path("telemetry", "records") + "".join(f"&{key}={value}" for key, value in query.items()))

    with device.login() as client:
        begin = read().json["next"]
        publish(client, device, [b"%d" % number for number in range(10)])
        part = read(position=begin, device=device.name, max=4).json
        assert [one["body"] for one in part["records"]] == ["0", "1", "2", "3"]
        rest = read(position=part["next"], device=device.name).json
        assert [one["body"] for one in rest["records"]] == ["4", "5", "6", "7", "8", "9"]
        assert read(position=rest["next"], device=device.name).json["records"] == []
        # One who waits is answered when something comes, and not by others' messages.
        other = hub.create()
        with hub.connect(seconds=40) as connection, other.login() as stranger:
            target = path("telemetry", "records") + f"&position={rest['next']}&device={device.name}&wait=30"
            connection.request("GET", target, token=hub.service_token())
            publish(stranger, other, [b"not this"])
            publish(client, device, [b"late"])
            assert [one["body"] for one in connection.response().json["records"]] == ["late"]
    assert read(wait=1).json["records"] == []
    time = monitor(hub, device.name)[5]["enqueuedTime"]
    assert "5" in [one["body"] for one in read(**{"from": time, "device": device.name}).json["records"]]
    for wrong in ({"from": "never"}, {"position": "x"}, {"partition": 4}, {"max": 0}, {"wait": 61}, {"position": "9.0.0.0"}):
        assert read(**wrong).status == 400, wrong
    hub.admin("policy", "create", "reads-registry", "--rights", "RegistryRead")
    assert hub.rest("GET", path("telemetry", "records"), token=hub.service_token("reads-registry")).status == 401


def test_consumer_groups_remember_where_they_were(hub):
    device = hub.create()
    groups = path("telemetry", "groups")
    assert "$Default" in hub.rest("GET", groups).json
    assert hub.rest("PUT", path("telemetry", "groups", "billing")).status == 204
    assert hub.rest("PUT", path("telemetry", "groups", "billing")).status == 409
    assert hub.rest("PUT", path("telemetry", "groups", "a/b")).status == 400
    with device.login() as client:
        publish(client, device, [b"%d" % number for number in range(10)])
        environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}

        def over_rest(*words):
            got = run([hub.binary, "monitor", "--json", "--from", "beginning", "--ca", hub.ca, *words], environment, check=0)
            return [json.loads(line)["body"] for line in got.stdout.splitlines()]

        words = (device.name, "--group", "billing")
        assert [one["body"] for one in monitor(hub, *words, "--count", "3")] == ["0", "1", "2"]
        assert over_rest(*words, "--count", "3") == ["3", "4", "5"]
        assert [one["body"] for one in monitor(hub, *words)] == ["6", "7", "8", "9"]
        assert over_rest(*words) == []
        publish(client, device, [b"new"])
        assert over_rest(*words) == ["new"]
        assert over_rest(device.name) == [str(number) for number in range(10)] + ["new"]
    assert hub.rest("DELETE", path("telemetry", "groups", "billing")).status == 204
    monitor(hub, "--group", "billing", check=1)
    assert hub.rest("DELETE", path("telemetry", "groups", "$Default")).status == 400


@pytest.mark.parametrize("rest", [False, True], ids=["state", "rest"])
def test_monitor_follows(hub, rest, keep):
    device, other = hub.create(), hub.create()
    environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()} if rest else {"IOTSTREAM_STATE": hub.state}
    with device.login() as client, other.login() as stranger:
        publish(client, device, [b"before"])
        watcher = keep(Process([hub.binary, "monitor", device.name, "--from", "beginning", "--follow", "--ca", hub.ca], environment))
        waiting.until(lambda: "before" in watcher.log, 10, "what was there")
        publish(stranger, other, [b"stranger's"])
        publish(client, device, [b"line\nbreak \x1b[2J"], "a=1")
        waiting.until(lambda: "a=1" in watcher.log, 10, "what came")
    lines = watcher.log.splitlines()
    assert len(lines) == 2 and lines[1].endswith(f"{device.name}  line\\nbreak \\u{{1b}}[2J  a=1")


def test_monitor_says_what_is_wrong(hub, tmp_path):
    assert "offsets count in one partition" in hub.admin("monitor", "--from", "7", check=64).stderr
    assert "not a place" in hub.admin("monitor", "--from", "yesterday", check=64).stderr
    got = run([hub.binary, "monitor", "--state", tmp_path, "--from", "beginning"], check=66)
    assert "no telemetry log" in got.stderr and got.stderr.count("\n") == 1
    assert hub.admin("monitor", "--from", "beginning", "--partition", "9", check=64).stderr.count("\n") == 1


def test_a_hub_wants_the_partitions_that_the_log_has(new_hub, tmp_path):
    hub = new_hub()
    hub.stop()
    file = tmp_path / "hub.conf"
    file.write_text("telemetry-partitions 8\n")
    got = run([*hub.arguments(), "--config", file], check=65)
    assert "4 partitions" in got.stderr and got.stderr.count("\n") == 1
    (pathlib.Path(hub.state) / "telemetry").rename(tmp_path / "away")
    hub.options = ["--config", file]
    hub.start()
    assert len(hub.rest("GET", path("telemetry")).json["partitions"]) == 8
