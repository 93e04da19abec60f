"""Scheduled jobs: twins and methods of many devices (service-rest 14)."""

import json
import os
import threading
import time

import pytest
from harness import mqtt
from harness.rest import path
from harness.waiting import until

FILTER = "$iothub/methods/POST/#"
OVER = ("completed", "failed", "cancelled")


def put(hub, job, body, check=200, **named):
    answer = hub.rest("PUT", path("jobs", "v2", job), body, **named)
    assert answer.status == check, answer
    return answer


def get(hub, job):
    answer = hub.rest("GET", path("jobs", "v2", job))
    assert answer.status == 200, answer
    return answer.json


def ended(hub, job, seconds=30):
    return until(lambda: (lambda found: found if found["status"] in OVER else None)(get(hub, job)), seconds=seconds)


def query(hub, text, **headers):
    answer = hub.rest("POST", path("devices", "query"), {"query": text}, headers)
    assert answer.status == 200, answer
    return answer


def records(hub, job):
    return query(hub, f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job}'").json


def twin_job(condition, **named):
    return {"type": "scheduleUpdateTwin", "queryCondition": condition,
            "updateTwin": {"etag": "*", "tags": {"plant": "R43"}, "properties": {"desired": {"fw": 2}}}, **named}


def method_job(condition, **named):
    return {"type": "scheduleDeviceMethod", "queryCondition": condition,
            "cloudToDeviceMethod": {"methodName": "go", "payload": [1], "responseTimeoutInSeconds": 30}, **named}


def later(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


class Answering:
    """A device that answers every call, and counts them."""

    def __init__(self, device, status=200):
        self.device, self.status, self.calls = device, status, 0
        self.client = device.login()
        assert self.client.subscribe(FILTER) == [0]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        try:
            while True:
                packet = self.client.expect(mqtt.PUBLISH, seconds=60)
                rid = packet.topic.split("$rid=")[1]
                self.calls += 1
                self.client.publish(f"$iothub/methods/res/{self.status}/?$rid={rid}", packet.payload)
        except Exception:  # the connection has ended
            pass

    def close(self):
        self.client.close()
        self.thread.join(10)


def test_a_job_changes_twins(hub):
    devices = [hub.create(f"tw{number}") for number in range(3)]
    with devices[0].login() as client:
        client.subscribe("$iothub/twin/PATCH/properties/desired/#")
        made = put(hub, "twins-1", twin_job("deviceId IN ['tw0', 'tw1', 'tw2', 'nobody']", maxExecutionTimeInSeconds=300)).json
        assert made["jobId"] == "twins-1" and made["type"] == "scheduleUpdateTwin" and made["status"] in ("queued", "running")
        assert made["updateTwin"]["properties"]["desired"] == {"fw": 2} and made["maxExecutionTimeInSeconds"] == 300
        job = ended(hub, "twins-1")
        assert job["status"] == "completed" and job["endTime"] >= job["startTime"] >= "2"
        assert job["deviceJobStatistics"] == {
            "deviceCount": 3, "failedCount": 0, "succeededCount": 3, "runningCount": 0, "pendingCount": 0}
        assert json.loads(client.expect(mqtt.PUBLISH).payload)["fw"] == 2
    for device in devices:
        twin = hub.rest("GET", path("twins", device.name)).json
        assert twin["tags"] == {"plant": "R43"} and twin["properties"]["desired"]["fw"] == 2
    rows = query(hub, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'twins-1' AND devices.jobs.status = 'completed'")
    assert rows.header("x-ms-item-type") == "DeviceJob"
    assert sorted(row["deviceId"] for row in rows.json) == ["tw0", "tw1", "tw2"]
    row = rows.json[0]
    assert row["jobType"] == "scheduleUpdateTwin" and row["endTimeUtc"] >= row["startTimeUtc"] >= row["createdDateTimeUtc"]


def test_a_job_calls_methods_and_a_failing_device_fails_alone(hub, keep):
    names = [f"me{number}" for number in range(4)]
    devices = [hub.create(name) for name in names]
    keep(Answering(devices[0]))
    keep(Answering(devices[1], status=404))
    quiet = devices[2].login()
    quiet.subscribe(FILTER)
    put(hub, "calls-1", method_job("STARTS_WITH(deviceId, 'me')"))
    quiet.expect(mqtt.PUBLISH)
    assert until(lambda: get(hub, "calls-1")["deviceJobStatistics"]["runningCount"] == 1)
    quiet.close()
    job = ended(hub, "calls-1")
    assert job["status"] == "completed"
    assert job["deviceJobStatistics"] == {
        "deviceCount": 4, "failedCount": 2, "succeededCount": 2, "runningCount": 0, "pendingCount": 0}
    rows = {row["deviceId"]: row for row in records(hub, "calls-1")}
    assert rows["me0"]["outcome"] == {"deviceMethodResponse": {"status": 200, "payload": [1]}}
    assert rows["me1"]["outcome"]["deviceMethodResponse"]["status"] == 404 and rows["me1"]["status"] == "completed"
    assert (rows["me2"]["status"], rows["me2"]["error"]["code"]) == ("failed", "GatewayTimeout")
    assert (rows["me3"]["status"], rows["me3"]["error"]["code"]) == ("failed", "DeviceNotOnline")


def test_a_job_waits_for_its_time_and_can_be_called_off(hub):
    hub.create("la0")
    made = put(hub, "later-1", twin_job("deviceId = 'la0'", startTime=later(3600))).json
    assert made["status"] == "scheduled"
    answer = hub.rest("POST", path("jobs", "v2", "later-1", "cancel"))
    assert answer.status == 200 and answer.json["status"] == "cancelled" and answer.json["endTime"]
    assert hub.rest("POST", path("jobs", "v2", "later-1", "cancel")).json["status"] == "cancelled"
    put(hub, "later-2", twin_job("deviceId = 'la0'", startTime=later(2)))
    assert ended(hub, "later-2")["status"] == "completed"
    assert hub.rest("POST", path("jobs", "v2", "later-2", "cancel")).status == 400
    assert hub.rest("GET", path("jobs", "v2", "never")).error == "JobNotFound"
    assert hub.rest("POST", path("jobs", "v2", "never", "cancel")).status == 404


def test_a_running_job_can_be_called_off_and_runs_out_of_time(hub):
    device = hub.create("of0")
    with device.login() as client:
        client.subscribe(FILTER)
        put(hub, "off-1", method_job("deviceId = 'of0'"))
        client.expect(mqtt.PUBLISH)
        assert hub.rest("POST", path("jobs", "v2", "off-1", "cancel")).json["status"] == "cancelled"
        assert until(lambda: records(hub, "off-1")[0]["status"] == "canceled")
        put(hub, "off-2", method_job("deviceId = 'of0'", maxExecutionTimeInSeconds=1))
        job = ended(hub, "off-2")
        assert job["status"] == "failed" and job["failureReason"]
        assert until(lambda: records(hub, "off-2")[0]["status"] == "failed")
        statistics = get(hub, "off-2")["deviceJobStatistics"]
        assert (statistics["failedCount"], statistics["runningCount"]) == (1, 0)


@pytest.mark.parametrize("body", [
    b"", b"[]", {}, {"type": "scheduleUpdateTwin"}, {"type": "export", "queryCondition": "*"}, twin_job(""), twin_job("deviceId ="), twin_job(5),
    twin_job("*", updateTwin={}), twin_job("*", updateTwin={"tags": {"a.b": 1}}), twin_job("*", startTime="tomorrow"),
    twin_job("*", maxExecutionTimeInSeconds=-1), twin_job("*", maxExecutionTimeInSeconds="x"), twin_job("*", jobId="other"),
    method_job("*", cloudToDeviceMethod={}), method_job("*", cloudToDeviceMethod={"methodName": "m", "responseTimeoutInSeconds": 1}),
    method_job("*", cloudToDeviceMethod=None), twin_job("FROM devices.jobs WHERE jobId = 'x'"),
])
def test_bad_jobs(hub, body):
    assert hub.rest("PUT", path("jobs", "v2", "bad"), body).status == 400
    assert hub.rest("GET", path("jobs", "v2", "bad")).status == 404


def test_ids_and_rights(hub):
    put(hub, "twice", twin_job("deviceId = 'nobody'"))
    assert put(hub, "twice", twin_job("deviceId = 'nobody'"), check=409).error == "JobAlreadyExists"
    put(hub, "query", twin_job("*"), check=405)
    put(hub, "a/b", twin_job("*"), check=400)
    hub.admin("policy", "create", "only-registry", "--rights", "RegistryWrite")
    token = hub.service_token("only-registry")
    for method, target in (("GET", ["twice"]), ("PUT", ["x"]), ("GET", ["query"]), ("POST", ["twice", "cancel"])):
        assert hub.rest(method, path("jobs", "v2", *target), b"{}", token=token).status == 401


def test_lists_have_pages(new_hub):
    hub = new_hub()
    for number in range(7):
        put(hub, f"l{number}", twin_job("deviceId = 'nobody'"))
    put(hub, "m0", method_job("deviceId = 'nobody'", startTime=later(3600)))
    for number in range(7):
        ended(hub, f"l{number}")
    found, continuation = [], None
    while True:
        headers = {"x-ms-max-item-count": "3", **({"x-ms-continuation": continuation} if continuation else {})}
        answer = hub.rest("GET", path("jobs", "v2", "query", jobType="ScheduleUpdateTwin", jobStatus="completed"), None, headers)
        assert answer.status == 200 and answer.header("x-ms-item-type") == "JobResponse" and len(answer.json) <= 3
        found += [job["jobId"] for job in answer.json]
        continuation = answer.header("x-ms-continuation")
        if not continuation:
            break
        assert hub.rest("GET", path("jobs", "v2", "query"), None, {"x-ms-continuation": continuation}).status == 400
    assert found == [f"l{number}" for number in range(7)]
    assert [job["jobId"] for job in hub.rest("GET", path("jobs", "v2", "query", jobStatus="scheduled")).json] == ["m0"]
    agent = {"User-Agent": "python/3.11 msrest/0.7.1 iothubgatewayserviceapis/2021-04-12"}
    assert len(hub.rest("GET", path("jobs", "v2", "query"), None, agent).json["items"]) == 8
    agent["User-Agent"] += " IoTPlatformCliExtension/0.20"
    assert len(hub.rest("GET", path("jobs", "v2", "query"), None, agent).json) == 8


def test_records_of_jobs_have_pages(hub):
    lines = [{"id": f"pg{number:03}", "importMode": "create"} for number in range(90)]
    assert hub.rest("POST", path("devices"), lines).status == 200
    put(hub, "pages", twin_job("STARTS_WITH(deviceId, 'pg')"))
    assert ended(hub, "pages")["deviceJobStatistics"]["succeededCount"] == 90
    text, seen, headers = "SELECT * FROM devices.jobs WHERE jobId = 'pages'", [], {"x-ms-max-item-count": "40"}
    while True:
        answer = query(hub, text, **headers)
        seen += [row["deviceId"] for row in answer.json]
        if not answer.header("x-ms-continuation"):
            break
        headers["x-ms-continuation"] = answer.header("x-ms-continuation")
    assert seen == [f"pg{number:03}" for number in range(90)]


def test_a_job_of_modules(hub):
    hub.create("mo0")
    hub.create("mo0", "m1")
    put(hub, "modules", twin_job("FROM devices.modules WHERE deviceId = 'mo0'"))
    assert ended(hub, "modules")["deviceJobStatistics"]["succeededCount"] == 1
    assert hub.rest("GET", path("twins", "mo0", "modules", "m1")).json["tags"] == {"plant": "R43"}
    assert records(hub, "modules")[0]["moduleId"] == "m1"


def test_a_killed_hub_goes_on_where_it_was(new_hub):
    """Outcomes that were recorded stand, and are not brought about twice."""
    hub, kills, count = new_hub(), int(os.environ.get("IOTSTREAM_JOB_KILLS", "2")), 3000
    for start in range(0, count, 100):
        lines = [{"id": f"k{number:04}", "importMode": "create"} for number in range(start, start + 100)]
        assert hub.rest("POST", path("devices"), lines).status == 200
    devices = [hub.create(f"answering{number}") for number in range(8)]
    silent = hub.create("answering-not")
    for turn in range(1, kills + 1):
        twins, calls = f"twins-{turn}", f"calls-{turn}"
        clients = [Answering(device) for device in devices]
        waiting = silent.login()
        waiting.subscribe(FILTER)
        put(hub, calls, method_job("STARTS_WITH(deviceId, 'answering')"))
        waiting.expect(mqtt.PUBLISH)  # under way when the hub dies
        assert until(lambda: get(hub, calls)["deviceJobStatistics"]["succeededCount"] == 8)
        put(hub, twins, twin_job("STARTS_WITH(deviceId, 'k')"))
        assert until(lambda: get(hub, twins)["deviceJobStatistics"]["succeededCount"] > 0)
        hub.restart()
        assert ended(hub, twins, 60)["deviceJobStatistics"]["succeededCount"] == count
        for client in clients:
            client.close()
            assert client.calls == 1
        versions = query(hub, "SELECT properties.desired.$version, COUNT() AS n FROM devices WHERE STARTS_WITH(deviceId, 'k') "
                              "GROUP BY properties.desired.$version").json
        assert versions == [{"$version": 1 + turn, "n": count}]  # every twin was written once
        job = ended(hub, calls, 60)  # the one that was under way was called again, and is not there
        assert (job["deviceJobStatistics"]["succeededCount"], job["deviceJobStatistics"]["failedCount"]) == (8, 1)
        waiting.close()
