"""Import and export jobs, between the registry and files of the hub's own (service-rest 15)."""

import json
import os
import pathlib

import pytest
from harness.rest import path
from harness.waiting import until


def create(hub, check=200, **body):
    answer = hub.rest("POST", path("jobs", "create"), body)
    assert answer.status == check, answer
    return answer


def ended(hub, job):
    def look():
        found = hub.rest("GET", path("jobs", job)).json
        return found if found["status"] in ("completed", "failed", "cancelled") else None
    return until(look, seconds=30)


def folder(hub, *names):
    made = pathlib.Path(hub.state, "transfer", *names)
    made.mkdir(parents=True, exist_ok=True)
    return made


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_devices_go_out_and_come_back(new_hub):
    hub = new_hub()
    hub.create("tr1", body={"status": "disabled"})
    hub.rest("PATCH", path("twins", "tr1"), {"tags": {"a": 1}})
    hub.create("tr2")
    hub.create("tr2", "m1")
    configuration = {"id": "cfg", "content": {"deviceContent": {"properties.desired.a": 1}}, "targetCondition": "", "priority": 4}
    hub.rest("PUT", path("configurations", "cfg"), configuration)
    made = create(hub, type="export", outputBlobContainerUri="file:fleet/monday?sv=x&sig=y", includeConfigurations=True,
                  configurationsBlobName="conf.txt").json
    assert made["status"] in ("enqueued", "running", "completed") and made["type"] == "export" and made["startTimeUtc"]
    job = ended(hub, made["jobId"])
    assert (job["status"], job["progress"], job["failureReason"]) == ("completed", 100, "") and job["endTimeUtc"]
    place = folder(hub, "fleet", "monday")
    exported = lines(place / "devices.txt")
    assert [(line["id"], line.get("moduleId")) for line in exported] == [("tr1", None), ("tr2", None), ("tr2", "m1")]
    assert exported[0]["authentication"]["symmetricKey"]["primaryKey"] and (place / "devices.txt").stat().st_mode & 0o777 == 0o600
    assert [line["id"] for line in lines(place / "conf.txt")] == ["cfg"]

    other = new_hub()
    to = folder(other, "in")
    (to / "devices.txt").write_text((place / "devices.txt").read_text() + '{"id":"bad id"}\nnothing\n')
    (to / "conf.txt").write_text((place / "conf.txt").read_text() + "{}\n")
    made = create(other, type="import", inputBlobContainerUri="in", outputBlobContainerUri="out", includeConfigurations=True,
                  configurationsBlobName="conf.txt").json
    assert ended(other, made["jobId"])["status"] == "completed"
    assert other.rest("GET", path("devices", "tr1")).json["status"] == "disabled"
    assert other.rest("GET", path("twins", "tr1")).json["tags"] == {"a": 1}
    assert other.rest("GET", path("devices", "tr2", "modules", "m1")).status == 200
    assert other.rest("GET", path("configurations", "cfg")).json["priority"] == 4
    errors = lines(folder(other, "out") / "importErrors.log")
    assert [(error["file"], error["line"]) for error in errors] == [("devices.txt", 4), ("devices.txt", 5), ("conf.txt", 2)]
    assert all(error["errorCode"] and error["errorStatus"] for error in errors)


def test_keys_can_stay_at_home(hub):
    hub.create("ke1")
    made = create(hub, type="export", outputBlobContainerUri="file:///keys", excludeKeysInExport=True, outputBlobName="d.txt").json
    assert ended(hub, made["jobId"])["status"] == "completed"
    line = next(line for line in lines(folder(hub, "keys") / "d.txt") if line["id"] == "ke1")
    assert line["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}
    assert made["jobId"] in [job["jobId"] for job in hub.rest("GET", path("jobs")).json]
    assert hub.rest("GET", path("jobs", "v2", made["jobId"])).json["status"] == "unknown"
    assert hub.rest("DELETE", path("jobs", made["jobId"])).status == 204
    assert hub.rest("GET", path("jobs", made["jobId"])).json["status"] == "completed"
    assert hub.rest("GET", path("jobs", "never")).error == "JobNotFound"
    assert hub.rest("DELETE", path("jobs", "never")).status == 404


@pytest.mark.parametrize("body", [
    {}, {"type": "export"}, {"type": "backup", "outputBlobContainerUri": "a"}, {"type": "import", "outputBlobContainerUri": "a"},
    {"type": "export", "outputBlobContainerUri": "https://x.blob.core.windows.net/c?sv=1"},
    {"type": "export", "outputBlobContainerUri": "../a"}, {"type": "export", "outputBlobContainerUri": "file:///../../etc"},
    {"type": "export", "outputBlobContainerUri": "a/./b"}, {"type": "export", "outputBlobContainerUri": "a//b"},
    {"type": "export", "outputBlobContainerUri": "file:////etc"}, {"type": "export", "outputBlobContainerUri": "a%2fb"},
    {"type": "export", "outputBlobContainerUri": ".hidden"}, {"type": "export", "outputBlobContainerUri": 5},
    {"type": "export", "outputBlobContainerUri": "a", "outputBlobName": "../b"},
    {"type": "export", "outputBlobContainerUri": "a", "outputBlobName": "importErrors.log"},
])
def test_what_is_no_transfer_or_leads_elsewhere(hub, body):
    assert create(hub, check=400, **body).error.startswith("Argument")


def test_links_lead_nowhere(hub, tmp_path):
    root = folder(hub)
    os.symlink(tmp_path, root / "link")
    (tmp_path / "devices.txt").write_text('{"id":"smuggled"}\n')
    inner = folder(hub, "inner")
    os.symlink(tmp_path / "devices.txt", inner / "devices.txt")
    os.mkfifo(inner / "fifo")
    for body in ({"type": "export", "outputBlobContainerUri": "link"}, {"type": "import", "inputBlobContainerUri": "link"},
                 {"type": "import", "inputBlobContainerUri": "inner"}, {"type": "import", "inputBlobContainerUri": "missing"},
                 {"type": "import", "inputBlobContainerUri": "inner", "inputBlobName": "fifo"}):
        job = ended(hub, create(hub, **body).json["jobId"])
        assert job["status"] == "failed" and job["failureReason"], job
    assert hub.rest("GET", path("devices", "smuggled")).status == 404
    # An export replaces a link, and never what it points to.
    assert ended(hub, create(hub, type="export", outputBlobContainerUri="inner").json["jobId"])["status"] == "completed"
    assert not (inner / "devices.txt").is_symlink() and "smuggled" in (tmp_path / "devices.txt").read_text()


def test_one_at_a_time_and_calling_off(new_hub):
    hub = new_hub()
    place = folder(hub, "many")
    (place / "devices.txt").write_text("".join(json.dumps({"id": f"d{number:05}", "importMode": "create"}) + "\n" for number in range(5000)))
    job = create(hub, type="import", inputBlobContainerUri="many").json["jobId"]
    assert create(hub, check=403, type="export", outputBlobContainerUri="out").error == "JobQuotaExceeded"
    assert hub.rest("DELETE", path("jobs", job)).status == 204
    assert ended(hub, job)["status"] == "cancelled"
    job = create(hub, type="import", inputBlobContainerUri="many").json["jobId"]
    until(lambda: hub.rest("GET", path("jobs", job)).json["status"] == "running")
    hub.restart()
    assert ended(hub, job)["status"] in ("failed", "completed")
    assert ended(hub, create(hub, type="import", inputBlobContainerUri="many").json["jobId"])["status"] == "completed"
    assert hub.rest("GET", path("statistics", "devices")).json["totalDeviceCount"] == 5000


def test_rights(hub):
    hub.admin("policy", "create", "just-reads", "--rights", "RegistryRead")
    token = hub.service_token("just-reads")
    assert hub.rest("GET", path("jobs"), token=token).status == 200
    body = {"type": "export", "outputBlobContainerUri": "a"}
    assert hub.rest("POST", path("jobs", "create"), body, token=token).status == 401
    assert hub.rest("DELETE", path("jobs", "x"), token=token).status == 401
    assert hub.rest("GET", path("jobs", "create")).status == 405
