"""The audit log: who was let in and who was not, streams, and every change of the registry (iotstream-audit(5))."""

import glob
import json
import os
import pathlib
import re
import stat
import time

import pytest
from harness import sas, streams, waiting
from harness.process import Process, run
from harness.rest import path


def files(hub):
    return sorted(glob.glob(f"{hub.state}/audit/*.jsonl"))


def lines(hub):
    """Every line of the files, as they are."""
    return [json.loads(line) for file in files(hub) for line in pathlib.Path(file).read_text().splitlines()]


def found(hub, **wanted):
    """Lines whose members are these; a pattern with `detail_` in front of a detail's name."""
    def fits(event):
        for name, value in wanted.items():
            holder, name = (event.get("detail", {}), name[7:]) if name.startswith("detail_") else (event, name)
            if holder.get(name) != value:
                return False
        return True
    return [event for event in lines(hub) if fits(event)]


def expect(hub, count=1, **wanted):
    """So many lines of this kind come, and no more; the last of them."""
    waiting.until(lambda: len(found(hub, **wanted)) >= count, what=f"{count} lines with {wanted} in {lines(hub)[-5:]}")
    events = found(hub, **wanted)
    assert len(events) == count, events
    return events[-1]


def code(hub, client, user, password, web=False):
    with hub.mqtt(web) as connection:
        return connection.connect(client, user, password)[0]


@pytest.mark.parametrize("web", [False, True], ids=["mqtt", "mqtt-ws"])
def test_devices_come_go_and_are_refused(hub, web):
    protocol = "mqtt-ws" if web else "mqtt"
    device = hub.create()
    actor = f"device:{device.name}"
    client = device.login(web=web)
    came = expect(hub, event="authentication", action="connect", outcome="ok", actor=actor, protocol=protocol)
    assert came["service"] == "hub" and came["detail"]["method"] == "sas" and re.fullmatch(r"127\.0\.0\.1:\d+", came["from"])
    newer = device.login(web=web)
    taken = expect(hub, event="connection", action="ended", actor=actor, detail_cause="taken-over")
    assert taken["from"] == came["from"]
    client.close()
    newer.close()
    expect(hub, 2, event="connection", action="ended", actor=actor)
    policy = sas.token(hub.policy_key(), device.resource, "iothubowner")
    assert code(hub, device.client, device.user(), policy, web) == 0
    expect(hub, event="authentication", outcome="ok", actor=actor, detail_method="policy iothubowner")
    for password, word in [
        (device.token(key=sas.parse_connection_string(hub.connection_string())["SharedAccessKey"]), "wrong-signature"),
        (device.token(ttl=-3600), "expired-token"), (device.token(resource=f"{hub.name}/devices/other"), "wrong-audience"),
        ("SharedAccessSignature nonsense", "malformed-token"), (None, "no-credential"),
    ]:
        assert code(hub, device.client, device.user(), password, web) == 5
        expect(hub, event="authentication", action="connect", outcome="refused", code=word, actor=actor, protocol=protocol)
    absent = f"absent{protocol}"
    assert code(hub, absent, f"{hub.name}/{absent}/?api-version=2021-04-12", device.token(), web) == 5
    expect(hub, event="authentication", outcome="refused", code="unknown-identity", actor=f"device:{absent}")
    hub.admin("device", "disable", device.name)
    assert code(hub, device.client, device.user(), device.token(), web) == 5
    expect(hub, event="authentication", outcome="refused", code="disabled", actor=actor)
    assert device.key not in pathlib.Path(files(hub)[-1]).read_text()


def test_a_device_that_is_put_out(hub):
    device = hub.create()
    client = device.login()
    hub.admin("device", "disable", device.name)
    assert client.ended() == []
    expect(hub, event="connection", actor=f"device:{device.name}", detail_cause="disabled-or-deleted")
    who = expect(hub, event="registry", action="device-disabled", subject=f"device:{device.name}")
    assert who["actor"] == f"user:{os.geteuid()}" and who["service"] == "command" and "from" not in who


def test_requests_are_told_once_for_each_connection(hub):
    with hub.connect() as connection:
        for _ in range(5):
            assert connection.exchange("GET", path("devices"), token=hub.service_token()).status == 200
    waiting.until(lambda: found(hub, action="request", actor="policy:iothubowner"))
    came = found(hub, action="request", actor="policy:iothubowner")
    assert came[-1]["protocol"] == "https" and len({event["from"] for event in came}) == len(came)
    stranger = sas.token("c2VjcmV0c2VjcmV0c2VjcmV0", hub.name, "iothubowner")
    assert hub.rest("GET", path("devices", "x"), token=stranger).status == 401
    expect(hub, action="request", outcome="refused", code="wrong-signature", subject="/devices/x")
    hub.admin("policy", "create", "reader", "--rights", "RegistryRead")
    reader = hub.service_token("reader")
    assert hub.rest("PUT", path("devices", "x"), {"deviceId": "x"}, token=reader).status == 401
    expect(hub, action="request", outcome="refused", code="missing-right", subject="/devices/x")


def test_changes_of_the_registry_over_rest(hub):
    device = hub.create()
    expect(hub, event="registry", action="device-created", subject=f"device:{device.name}", actor="policy:iothubowner", protocol="https")
    hub.update(device, status="disabled")
    expect(hub, action="device-updated", subject=f"device:{device.name}", detail_status="disabled")
    hub.create(device.name, "m1")
    expect(hub, action="module-created", subject=f"module:{device.name}/m1")
    assert hub.rest("PATCH", path("twins", device.name), {"tags": {"secret-place": "hall 4"}}).status == 200
    expect(hub, action="twin-changed", subject=f"device:{device.name}", detail_tags=True)
    assert hub.rest("PUT", path("devices", device.name), {"deviceId": device.name}).status == 409
    expect(hub, action="device-created", outcome="failed", code="device-already-exists", subject=f"device:{device.name}")
    assert hub.rest("DELETE", path("devices", device.name, "commands")).status == 200
    expect(hub, action="messages-purged", subject=f"device:{device.name}")
    assert hub.rest("PUT", path("quotas", device.name), {"streams": 3}).status in (200, 204)
    expect(hub, action="quota-changed", subject=f"device:{device.name}")
    bulk = [{"id": "bulk1", "importMode": "create"}, {"id": device.name, "importMode": "create"}, {"id": "bulk1", "importMode": "delete"}][:2]
    assert hub.rest("POST", path("devices"), bulk).status == 400
    expect(hub, action="device-created", outcome="ok", subject="device:bulk1", detail_mode="create")
    expect(hub, 2, action="device-created", outcome="failed", subject=f"device:{device.name}")
    assert hub.rest("DELETE", path("devices", device.name), headers={"If-Match": "*"}).status == 204
    expect(hub, action="device-deleted", subject=f"device:{device.name}")
    assert hub.rest("PUT", path("policies", "temporary"), {"rights": ["ServiceConnect"]}).status in (200, 201)
    expect(hub, action="policy-created", subject="policy:temporary", detail_rights="ServiceConnect")
    assert hub.rest("POST", path("policies", "temporary", "rotate", key="primary")).status == 200
    expect(hub, action="policy-rotated", subject="policy:temporary")
    assert hub.rest("DELETE", path("policies", "temporary")).status == 204
    expect(hub, action="policy-deleted", subject="policy:temporary")
    text = "".join(pathlib.Path(file).read_text() for file in files(hub))
    assert "secret-place" not in text and "hall 4" not in text and device.key not in text


def test_changes_on_the_command_line(hub):
    mine = {"actor": f"user:{os.geteuid()}", "service": "command"}
    hub.admin("device", "create", "cmd1")
    hub.admin("device", "rotate-key", "cmd1", "--secondary")
    hub.admin("twin", "update", "cmd1", '{"properties":{"desired":{"a":1}}}')
    hub.admin("device", "disable", "cmd1", "--reason", "stolen")
    hub.admin("device", "enable", "cmd1")
    hub.admin("policy", "create", "cmd", "--rights", "RegistryRead")
    hub.admin("policy", "rotate", "cmd")
    hub.admin("policy", "delete", "cmd")
    hub.admin("quota", "set", "cmd1", "--streams", "2")
    hub.admin("device", "delete", "cmd1")
    assert hub.admin("device", "delete", "cmd1", check=1).stdout == ""
    for action in ["created", "key-rotated", "disabled", "enabled"]:
        expect(hub, action=f"device-{action}", subject="device:cmd1", outcome="ok", **mine)
    expect(hub, action="device-disabled", subject="device:cmd1", detail_reason="stolen")
    expect(hub, action="twin-changed", subject="device:cmd1", detail_desired=True, **mine)
    for action in ["created", "rotated", "deleted"]:
        expect(hub, action=f"policy-{action}", subject="policy:cmd", **mine)
    expect(hub, action="quota-changed", subject="device:cmd1", **mine)
    expect(hub, action="device-deleted", subject="device:cmd1", outcome="ok", **mine)
    expect(hub, action="device-deleted", subject="device:cmd1", outcome="failed", code="device-not-found", **mine)


def test_commands_write_their_lines_without_a_hub(new_hub, tmp_path):
    hub = new_hub()
    hub.stop()
    expect(hub, event="service", action="started")
    expect(hub, event="service", action="stopped")
    hub.admin("device", "create", "alone")
    expect(hub, action="device-created", subject="device:alone", service="command")
    exported = tmp_path / "devices"
    hub.admin("device", "export", exported)
    hub.admin("device", "import", exported)
    expect(hub, action="devices-imported", service="command", detail_imported=1)
    assert stat.S_IMODE(os.stat(f"{hub.state}/audit").st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in files(hub)} == {0o600}


def test_a_stream_from_the_question_to_its_end(hub):
    device = hub.create()
    subject = {"event": "stream", "actor": "policy:iothubowner", "subject": f"device:{device.name}", "protocol": "https"}
    opening = streams.Opening(hub, "nobody")
    assert opening.answer().status == 404
    expect(hub, event="stream", action="asked", outcome="failed", code="device-not-found", subject="device:nobody")
    with device.listen() as client:
        service, far = streams.pair(hub, device, client, name="ssh")
        joined = expect(hub, action="joined", **subject)
        service.send(b"12345")
        far.receive()
        far.send(b"123")
        service.receive()
        service.close()
        ended = expect(hub, action="ended", **subject)
        assert expect(hub, action="asked", **subject)["detail"]["name"] == "ssh"
        expect(hub, action="answered", outcome="ok", **subject)
        assert joined["detail"]["stream"] == ended["detail"]["stream"] and joined["detail"]["mode"] == "websocket"
        assert ended["detail"]["bytesToDevice"] == 5 and ended["detail"]["bytesToService"] == 3
        assert ended["detail"]["cause"] == "done" and ended["detail"]["milliseconds"] >= 0
        opening = streams.Opening(hub, device.name)
        streams.reply(client, streams.Request(client.receive()), status=400)
        opening.answer()
        expect(hub, action="answered", outcome="refused", code="rejected", **subject)
        accepted = streams.open_stream(hub, device, client)
        answer, connection = hub.leg_answer(accepted.url, "wrong")
        assert answer.status == 401
        connection.close()
        expect(hub, event="authentication", action="leg", outcome="refused", code="wrong-token")


def shown(hub, *words):
    return [json.loads(line) for line in hub.admin("audit", "--json", *words).stdout.splitlines()]


def test_the_command_filters(hub):
    device = hub.create("filtered")
    with hub.mqtt() as client:
        assert client.connect(device.client, device.user(), "nonsense")[0] == 5
    expect(hub, outcome="refused", actor="device:filtered")
    of_device = shown(hub, "--device", "filtered")
    assert [event["event"] for event in of_device] == ["registry", "authentication"]
    assert [event["outcome"] for event in shown(hub, "--device", "filtered", "--outcome", "refused")] == ["refused"]
    assert {event["event"] for event in shown(hub, "--event", "registry")} == {"registry"}
    assert shown(hub, "--from", "127.0.0.1", "--device", "filtered") == of_device
    assert shown(hub, "--from", "192.0.2.1") == []
    assert shown(hub, "--until", "1h") == [] and shown(hub, "--since", of_device[0]["time"], "--device", "filtered") == of_device
    assert len(shown(hub, "--count", "2")) == 2
    table = hub.admin("audit", "--device", "filtered", "--since", "1h").stdout.splitlines()
    assert table[0].split() == ["TIME", "EVENT", "OUTCOME", "WHO", "WHAT", "FROM", "DETAIL"]
    assert "registry device-created" in table[1] and "refused malformed-token" in table[2]
    for words in [("--event", "eclipse"), ("--since", "yesterday"), ("--outcome", "good")]:
        assert hub.admin("audit", *words, check=64).stderr.count("\n") == 1
    reached = run(
        [hub.binary, "audit", "--json", "--device", "filtered", "--ca", hub.ca],
        {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}, check=0).stdout
    assert [json.loads(line) for line in reached.splitlines()] == of_device
    assert hub.rest("GET", path("audit", position="/etc/passwd")).status == 400
    hub.admin("policy", "create", "blind", "--rights", "ServiceConnect")
    assert hub.rest("GET", path("audit"), token=hub.service_token("blind")).status == 401


@pytest.mark.parametrize("way", ["state", "rest"])
def test_following_goes_from_file_to_file_and_over_a_killed_hub(new_hub, keep, tmp_path, way):
    config = tmp_path / "hub.conf"
    config.write_text("audit-file-bytes 64KB\n")
    hub = new_hub(options=["--config", config])
    output = keep(open(tmp_path / "out", "wb"))
    words = [hub.binary, "audit", "--follow", "--json", "--event", "registry"]
    if way == "state":
        follower = keep(Process([*words, "--state", hub.state], stdout=output))
    else:
        follower = keep(Process([*words, "--ca", hub.ca], {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}, stdout=output))

    def seen():
        text = (tmp_path / "out").read_text()
        return [json.loads(line)["subject"] for line in text.splitlines()]

    def ready():
        hub.admin("policy", "create", f"probe{time.monotonic_ns()}", "--rights", "ServiceConnect")
        return bool(seen())

    waiting.until(ready, what="the follower")
    made = []
    with hub.connect() as connection:
        for number in range(6):
            body = [{"id": f"n{number}x{each}", "importMode": "create"} for each in range(100)]
            assert connection.exchange("POST", path("devices"), None, body, hub.service_token()).status == 200
            made += [f"device:{entry['id']}" for entry in body]
    waiting.until(lambda: made[-1] in seen(), what="the last of them")
    if way == "state":
        hub.restart()
        hub.admin("device", "create", "last")
        made.append("device:last")
    waiting.until(lambda: [name for name in seen() if name.startswith("device:")] == made, what="every change, in order")
    assert len(files(hub)) > 1 and follower.running()


def test_what_a_crash_has_torn_is_closed_off(new_hub):
    hub = new_hub()
    hub.create("before")
    expect(hub, action="device-created", subject="device:before")
    hub.process.kill()
    hub.process.stop()
    with open(files(hub)[-1], "a") as file:
        file.write('{"time":"2026-11-21T08:00:00Z","event":"regi')
    hub.start()
    hub.create("after")
    waiting.until(lambda: b"device:after" in pathlib.Path(files(hub)[-1]).read_bytes())
    got = hub.admin("audit", "--json", "--event", "registry")
    assert [json.loads(line)["subject"] for line in got.stdout.splitlines()] == ["device:before", "device:after"]
    assert "1 lines of the log cannot be read" in got.stderr


def test_nobody_forges_lines(hub):
    nasty = 'x","outcome":"ok"}\n{"time":"2026-11-21T08:00:00Z","event":"forged","outcome":"ok"}\n\x1b[2J\u009b31m'
    assert code(hub, nasty, "user", "password") in (2, 5)
    expect(hub, event="authentication", outcome="refused", code="bad-client-id")
    raw = pathlib.Path(files(hub)[-1]).read_bytes()
    assert b"\x1b" not in raw and b"\xc2\x9b" not in raw and not found(hub, event="forged")
    assert "\x1b" not in hub.admin("audit", "--outcome", "refused").stdout


def test_a_flood_of_refusals_is_counted(new_hub):
    hub = new_hub()
    with hub.connect() as connection:
        for _ in range(300):
            assert connection.exchange("GET", path("devices"), token="nonsense").status == 401
    told = waiting.until(lambda: [event for event in found(hub, action="request", code="malformed-token") if "count" in event], 15)
    refused = found(hub, action="request", code="malformed-token")
    assert told[0]["from"] == "127.0.0.1" and 200 <= len(refused) < 250
    assert sum(event.get("count", 1) for event in refused) == 300
