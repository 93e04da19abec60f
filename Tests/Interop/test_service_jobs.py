"""azure-iot-hub's managers of jobs, configurations and digital twins, as they come from PyPI: all of their operations."""

import datetime
import hashlib
import json
import pathlib
import threading

import pytest
from azure.iot.hub import DigitalTwinClient, IoTHubConfigurationManager, IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from azure.iot.hub.protocol.models import (
    Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueriesTestInput, JobProperties, JobRequest, QuerySpecification)
from harness import mqtt
from harness.rest import path
from harness.waiting import until
from msrest.exceptions import HttpOperationError


@pytest.fixture
def jobs(hub, trust):
    return IoTHubJobManager.from_connection_string(hub.connection_string())


@pytest.fixture
def configurations(hub, trust):
    return IoTHubConfigurationManager.from_connection_string(hub.connection_string())


@pytest.fixture
def registry(hub, trust):
    return IoTHubRegistryManager.from_connection_string(hub.connection_string())


@pytest.fixture
def twins(hub, trust):
    return DigitalTwinClient.from_connection_string(hub.connection_string())


@pytest.fixture
def name(request, hub):
    made = "jobs-" + hashlib.sha1(request.node.name.encode()).hexdigest()[:10]
    hub.create(made)
    yield made
    hub.rest("DELETE", path("devices", made), headers={"If-Match": "*"})


def refused(status, call, *arguments):
    with pytest.raises(HttpOperationError) as caught:
        call(*arguments)
    assert caught.value.response.status_code == status


class Answering:
    """A device that answers one call with what it was given."""

    def __init__(self, hub, name):
        document = hub.rest("GET", path("devices", name)).json
        self.client = type(hub.create())(hub, name, None, document).login()
        self.client.subscribe("$iothub/methods/POST/#")
        self.topic = None
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        packet = self.client.expect(mqtt.PUBLISH, seconds=30)
        self.topic = packet.topic
        self.client.publish("$iothub/methods/res/200/?$rid=" + packet.topic.split("$rid=")[1], packet.payload)

    def close(self):
        self.thread.join(30)
        self.client.close()


def ended(jobs, identifier):
    def look():
        job = jobs.get_scheduled_job(identifier)
        return job if job.status in ("completed", "failed", "cancelled") else None
    return until(look, seconds=30)


def test_scheduled_twin_updates(jobs, registry, name):
    patch = Twin(etag="*", properties=TwinProperties(desired={"temperature": 21}))
    request = JobRequest(
        job_id=f"{name}-1", type="scheduleUpdateTwin", update_twin=patch, query_condition=f"deviceId IN ['{name}']",
        start_time=datetime.datetime.now(datetime.timezone.utc).isoformat(), max_execution_time_in_seconds=60)
    made = jobs.create_scheduled_job(request.job_id, request)
    assert made.job_id == request.job_id and made.type == "scheduleUpdateTwin" and made.max_execution_time_in_seconds == 60
    refused(409, jobs.create_scheduled_job, request.job_id, request)
    job = ended(jobs, request.job_id)
    assert job.status == "completed" and job.device_job_statistics.succeeded_count == job.device_job_statistics.device_count == 1
    assert isinstance(job.start_time, datetime.datetime) and isinstance(job.end_time, datetime.datetime)
    assert registry.get_twin(name).properties.desired["temperature"] == 21
    found = jobs.query_scheduled_jobs("scheduleUpdateTwin", "completed")
    assert request.job_id in [item["jobId"] for item in found.items]
    query = QuerySpecification(query=f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{request.job_id}'")
    assert [(item.device_id, item.status) for item in registry.query_iot_hub(query).items] == [(name, "completed")]


def test_scheduled_methods_and_calling_off(jobs, hub, keep, name):
    device = keep(Answering(hub, name))
    method = CloudToDeviceMethod(method_name="go", payload={"a": [1]}, response_timeout_in_seconds=10, connect_timeout_in_seconds=5)
    condition = f"deviceId = '{name}'"
    request = JobRequest(type="scheduleDeviceMethod", cloud_to_device_method=method, query_condition=condition)
    jobs.create_scheduled_job(f"{name}-1", request)
    assert ended(jobs, f"{name}-1").device_job_statistics.succeeded_count == 1
    device.close()
    assert "/POST/go/" in device.topic
    request.start_time = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).isoformat()
    assert jobs.create_scheduled_job(f"{name}-2", request).status == "scheduled"
    assert jobs.cancel_scheduled_job(f"{name}-2").status == "cancelled"
    refused(404, jobs.get_scheduled_job, "never")
    refused(404, jobs.cancel_scheduled_job, "never")


def test_import_and_export(jobs, hub, name):
    def run(**named):
        made = jobs.create_import_export_job(JobProperties(**named))
        until(lambda: jobs.get_import_export_job(made.job_id).status not in ("enqueued", "running"))
        return jobs.get_import_export_job(made.job_id)

    job = run(type="export", output_blob_container_uri="file:sdk", exclude_keys_in_export=False, storage_authentication_type="keyBased")
    assert (job.status, job.progress, job.failure_reason) == ("completed", 100, "") and job.end_time_utc >= job.start_time_utc
    lines = [json.loads(line) for line in pathlib.Path(hub.state, "transfer/sdk/devices.txt").read_text().splitlines()]
    assert name in [line["id"] for line in lines]
    job = run(type="import", input_blob_container_uri="file:sdk", output_blob_container_uri="file:sdk")
    assert job.status == "completed"
    assert job.job_id in [found.job_id for found in jobs.get_import_export_jobs()]
    jobs.cancel_import_export_job(job.job_id)
    assert jobs.get_scheduled_job(job.job_id).status == "unknown"
    refused(400, jobs.create_import_export_job, JobProperties(type="export", output_blob_container_uri="https://elsewhere.example/c?sig=1"))
    refused(404, jobs.get_import_export_job, "never")


def test_configurations(configurations, registry, name):
    identifier = name
    content = ConfigurationContent(device_content={"properties.desired.chiller": {"t": 38}})
    wanted = Configuration(
        id=identifier, content=content, target_condition=f"deviceId = '{name}'", priority=5, labels={"a": "b"},
        metrics=ConfigurationMetrics(queries={"all": f"SELECT deviceId FROM devices WHERE deviceId = '{name}'"}))
    made = configurations.create_configuration(wanted)
    assert made.id == identifier and made.etag and made.content.device_content == content.device_content
    refused(409, configurations.create_configuration, wanted)
    until(lambda: registry.get_twin(name).properties.desired.get("chiller") == {"t": 38})
    shown = until(lambda: (lambda found: found if found.system_metrics.results["appliedCount"] else None)(
        configurations.get_configuration(identifier)))
    assert shown.system_metrics.results == {"targetedCount": 1, "appliedCount": 1} and shown.metrics.results == {"all": 1}
    assert identifier in [found.id for found in configurations.get_configurations(10)]
    wanted.priority = 6
    changed = configurations.update_configuration(wanted, shown.etag)
    assert changed.priority == 6 and changed.etag != shown.etag
    refused(412, configurations.update_configuration, wanted, shown.etag)
    refused(412, configurations.delete_configuration, identifier, shown.etag)
    configurations.delete_configuration(identifier)
    refused(404, configurations.get_configuration, identifier)
    until(lambda: "chiller" not in registry.get_twin(name).properties.desired)


def test_queries_of_configurations(configurations):
    tested = configurations.test_configuration_queries(
        ConfigurationQueriesTestInput(target_condition="tags.a = 1", custom_metric_queries={"m": "SELECT * FROM devices"}))
    assert not tested.target_condition_error and not tested.custom_metric_query_errors
    tested = configurations.test_configuration_queries(
        ConfigurationQueriesTestInput(target_condition="tags.a =", custom_metric_queries={"m": "SELECT"}))
    assert tested.target_condition_error and tested.custom_metric_query_errors["m"]


def test_content_for_an_edge_device(configurations, registry, hub, name):
    edge = f"{name}-edge"
    hub.create(edge, body={"capabilities": {"iotEdge": True}})
    agent = {"properties.desired": {"schemaVersion": "1.1", "modules": {}}}
    configurations.apply_configuration_on_edge_device(edge, ConfigurationContent(modules_content={"$edgeAgent": agent}))
    assert registry.get_module_twin(edge, "$edgeAgent").properties.desired["schemaVersion"] == "1.1"
    refused(400, configurations.apply_configuration_on_edge_device, name, ConfigurationContent(modules_content={"$edgeAgent": agent}))


def test_digital_twins(twins, hub, keep, name):
    twin = twins.get_digital_twin(name)
    assert twin["$dtId"] == name and "$model" in twin["$metadata"]
    twins.update_digital_twin(name, [{"op": "add", "path": "/target", "value": 42}])
    twin = twins.get_digital_twin(name)
    assert twin["$metadata"]["target"]["desiredValue"] == 42
    refused(412, twins.update_digital_twin, name, [{"op": "remove", "path": "/target"}], "bm8=")
    device = keep(Answering(hub, name))
    assert twins.invoke_command(name, "reboot", {"delay": 1}, 5, 10) == {"delay": 1}
    device.close()
    device = keep(Answering(hub, name))
    assert twins.invoke_component_command(name, "pump", "stop", [1, 2]) == [1, 2]
    device.close()
    assert "pump*stop" in device.topic or "pump%2Astop" in device.topic
    refused(404, twins.invoke_command, name, "reboot", {})
