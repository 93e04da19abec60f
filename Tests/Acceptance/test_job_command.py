"""`iotstream job` and `iotstream configuration`, on the state directory and over REST."""

import json
import threading

import pytest
from harness import mqtt
from harness.process import run
from harness.rest import path
from harness.waiting import until


@pytest.fixture(params=["state", "rest"])
def command(request, hub):
    """Runs the program; either way to the hub."""
    def on_state(*arguments, check=0):
        return hub.admin(*arguments, check=check)

    def over_rest(*arguments, check=0):
        environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}
        return run([hub.binary, *arguments, "--ca", hub.ca], environment, check=check)

    made = {"state": on_state, "rest": over_rest}[request.param]
    made.name = request.param
    return made


def test_a_job_of_twins(hub, command):
    names = [hub.create(f"{command.name}-tw{number}").name for number in range(2)]
    identifier = f"{command.name}-twins"
    got = command("job", "create-twin-update", identifier, '{"tags":{"a":1}}', "--query-condition", f"STARTS_WITH(deviceId, '{command.name}-tw')",
                  "--wait", "--ttl", "2m", "--json")
    job = json.loads(got.stdout)
    assert (job["status"], job["maxExecutionTimeInSeconds"], job["deviceJobStatistics"]["succeededCount"]) == ("completed", 120, 2)
    assert hub.rest("GET", path("twins", names[0])).json["tags"] == {"a": 1}
    assert json.loads(command("job", "show", identifier, "--json").stdout) == job
    assert command("job", "show", identifier).stdout.splitlines()[1].split()[:3] == [identifier, "scheduleUpdateTwin", "completed"]
    rows = command("job", "show", identifier, "--devices").stdout.splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [[name, "completed"] for name in names]
    listed = json.loads(command("job", "list", "--type", "scheduleUpdateTwin", "--status", "completed", "--json").stdout)
    assert identifier in [found["jobId"] for found in listed]
    assert len(json.loads(command("job", "list", "--top", "1", "--json").stdout)) == 1
    assert "such a job already" in command(
        "job", "create-twin-update", identifier, '{"tags":{"a":1}}', "--query-condition", "*", check=1).stderr or command.name == "rest"


def test_a_job_of_methods(hub, command):
    device = hub.create(f"{command.name}-me")
    identifier = f"{command.name}-calls"
    with device.login() as client:
        client.subscribe("$iothub/methods/POST/#")

        def serve():
            packet = client.expect(mqtt.PUBLISH)
            client.publish("$iothub/methods/res/201/?$rid=" + packet.topic.split("$rid=")[1], packet.payload)

        thread = threading.Thread(target=serve)
        thread.start()
        command("job", "create-method", identifier, "go", '{"x":1}', "--query-condition", f"deviceId = '{device.name}'", "--wait", "--timeout", "20")
        thread.join()
    assert '201 {"x":1}' in command("job", "show", identifier, "--devices").stdout


def test_a_job_for_later(hub, command):
    identifier = f"{command.name}-later's"
    command("job", "create-method", identifier, "go", "--query-condition", "*", "--start-time", "2099-01-01T00:00:00Z")
    assert json.loads(command("job", "show", identifier, "--json").stdout)["status"] == "scheduled"
    command("job", "show", identifier, "--devices")
    assert json.loads(command("job", "cancel", identifier, "--json").stdout)["status"] == "cancelled"
    command("job", "cancel", "never", check=1)
    command("job", "show", "never", check=1)
    command("job", "create-method", "x", "go", check=64)
    command("job", "create-method", "x", "go", "--query-condition", "tags.", check=65)
    command("job", "create-twin-update", "x", "{", "--query-condition", "*", check=65)
    command("job", "create-twin-update", "x", "{}", "--query-condition", "*", check=65)
    command("job", "list", "--status", "tired", check=64)


def test_a_job_without_a_hub(new_hub):
    hub = new_hub()
    hub.create("wo1")
    hub.process.kill()
    hub.stop()
    hub.admin("job", "create-twin-update", "without", '{"tags":{"a":1}}', "--query-condition", "*")
    hub.admin("configuration", "create", "without", '{"deviceContent":{"properties.desired.b":2}}', "--target-condition", "tags.a = 1")
    hub.start()
    twin = until(lambda: (lambda found: found if "b" in found["properties"]["desired"] else None)(hub.rest("GET", path("twins", "wo1")).json))
    assert twin["tags"] == {"a": 1} and twin["configurations"] == {"without": {"status": "Applied"}}


def test_configurations(hub, command, tmp_path):
    name = hub.create(f"{command.name}-co").name
    identifier = f"{command.name}-cfg"
    content = tmp_path / "content.json"
    content.write_text('{"content":{"deviceContent":{"properties.desired.fw":2}}}')
    made = json.loads(command(
        "configuration", "create", identifier, f"@{content}", "--target-condition", f"deviceId = '{name}'", "--priority", "7",
        "--labels", '{"owner":"me"}', "--metrics", '{"queries":{"all":"SELECT deviceId FROM devices"}}').stdout)
    assert made["priority"] == 7 and made["labels"] == {"owner": "me"} and made["metrics"]["queries"] == {"all": "SELECT deviceId FROM devices"}
    assert until(lambda: hub.rest("GET", path("twins", name)).json["properties"]["desired"].get("fw") == 2)
    assert until(lambda: json.loads(command("configuration", "show", identifier).stdout)["systemMetrics"]["results"]["appliedCount"] == 1)
    row = next(row for row in command("configuration", "list").stdout.splitlines() if row.startswith(identifier))
    assert row.split()[1:4] == ["7", "1", "1"]
    changed = json.loads(command("configuration", "update", identifier, "--priority", "8", "--json").stdout)
    assert changed["priority"] == 8 and changed["labels"] == {"owner": "me"} and changed["content"] == made["content"]
    command("configuration", "update", identifier, "--priority", "9", "--etag", made["etag"], check=75)
    command("configuration", "update", identifier, check=64)
    command("configuration", "create", identifier, '{"deviceContent":{"properties.desired.a":1}}', check=1)
    command("configuration", "create", "Big", '{"deviceContent":{"properties.desired.a":1}}', check=65)
    command("configuration", "create", "x", '{"deviceContent":{"tags.a":1}}', check=65)
    command("configuration", "delete", identifier, "--etag", made["etag"], check=75)
    command("configuration", "delete", identifier, "--etag", f'"{changed["etag"]}"')
    command("configuration", "show", identifier, check=1)
    assert until(lambda: "fw" not in hub.rest("GET", path("twins", name)).json["properties"]["desired"])
