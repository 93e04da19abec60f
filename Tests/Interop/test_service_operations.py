"""Every operation that azure-iot-hub generates from the service's description, each with the answer that it takes (service-rest 18)."""

import inspect
import json
import threading

import pytest
from azure.iot.hub import IoTHubHttpRuntimeManager, IoTHubRegistryManager
from azure.iot.hub.protocol import operations
from azure.iot.hub.protocol.models import (
    CloudToDeviceMethod, Configuration, ConfigurationContent, ConfigurationQueriesTestInput, Device, ExportImportDevice, JobProperties,
    JobRequest, Module, QuerySpecification, Twin, TwinProperties)
from harness import mqtt
from harness.rest import path
from harness.waiting import until
from msrest.exceptions import HttpOperationError

DEVICE, MODULE = "all-operations", "m1"
TWIN = Twin(tags={"a": 1}, properties=TwinProperties(desired={"b": 2}))
METHOD = CloudToDeviceMethod(method_name="go", payload={"x": 1}, response_timeout_in_seconds=10, connect_timeout_in_seconds=10)
CONFIGURATION = Configuration(
    id="all-operations", schema_version="1.0", content=ConfigurationContent(device_content={"properties.desired.c": 1}), target_condition="", priority=1)


def listed():
    """Names of all operations, as attribute of the client and of its group."""
    groups = {name: group for name, group in inspect.getmembers(operations, inspect.isclass)}
    attribute = {"DevicesOperations": "devices", "ModulesOperations": "modules", "JobsOperations": "jobs", "QueryOperations": "query",
                 "BulkRegistryOperations": "bulk_registry", "ConfigurationOperations": "configuration", "StatisticsOperations": "statistics",
                 "CloudToDeviceMessagesOperations": "cloud_to_device_messages", "DigitalTwinOperations": "digital_twin"}
    return {(attribute[name], one) for name, group in groups.items() for one, _ in inspect.getmembers(group, inspect.isfunction) if one[0] != "_"}


class Answering:
    """A device or module that answers every call with what it was given."""

    def __init__(self, device):
        self.client = device.login()
        assert self.client.subscribe("$iothub/methods/POST/#") == [0]
        self.topics = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        try:
            while True:
                packet = self.client.receive(60)
                self.topics.append(packet.topic)
                self.client.publish("$iothub/methods/res/200/?$rid=" + packet.topic.split("$rid=")[1], packet.payload)
        except (OSError, EOFError, ValueError):
            return

    def close(self):
        self.client.send(mqtt.packet(mqtt.DISCONNECT))
        self.thread.join(20)
        self.client.close()


def test_every_operation_of_the_package(hub, trust, keep):
    protocol = IoTHubRegistryManager.from_connection_string(hub.connection_string()).protocol
    called = set()

    def call(group, name, *arguments, status=200):
        """The status as it came, and what the package made of it."""
        called.add((group, name))
        answer = getattr(getattr(protocol, group), name)(*arguments, raw=True)
        assert answer.response.status_code == status, answer.response.text
        return answer.output

    made = call("devices", "create_or_update_identity", DEVICE, Device(device_id=DEVICE, status="enabled"))
    assert made.authentication.symmetric_key.primary_key
    assert call("modules", "create_or_update_identity", DEVICE, MODULE, Module(device_id=DEVICE, module_id=MODULE), status=201).module_id == MODULE
    made.status_reason = "for a test"
    assert call("devices", "create_or_update_identity", DEVICE, made, '"*"').status_reason == "for a test"
    assert call("devices", "get_identity", DEVICE).device_id == DEVICE
    assert call("modules", "get_identity", DEVICE, MODULE).module_id == MODULE
    assert DEVICE in [one.device_id for one in call("devices", "get_devices", 1000)]
    assert [one.module_id for one in call("modules", "get_modules_on_device", DEVICE)] == [MODULE]
    assert call("statistics", "get_device_statistics").total_device_count >= 1
    assert call("statistics", "get_service_statistics").connected_device_count >= 0
    assert call("bulk_registry", "update_registry", [ExportImportDevice(id=DEVICE + "-2", import_mode="create", status="enabled")]).is_successful
    assert not call("bulk_registry", "update_registry", [ExportImportDevice(id=DEVICE, import_mode="create")], status=400).is_successful

    for group, names in (("devices", (DEVICE,)), ("modules", (DEVICE, MODULE))):
        assert call(group, "update_twin", *names, TWIN, '"*"').properties.desired["b"] == 2
        assert call(group, "replace_twin", *names, TWIN, '"*"').tags == {"a": 1}
        assert call(group, "get_twin", *names).properties.desired["b"] == 2
    rows = call("query", "get_twins", QuerySpecification(query=f"SELECT * FROM devices WHERE deviceId = '{DEVICE}'"), None, "10")
    assert [row.device_id for row in rows] == [DEVICE]

    kind = type(hub.create())
    device = keep(Answering(kind(hub, DEVICE, None, hub.rest("GET", path("devices", DEVICE)).json)))
    module = keep(Answering(kind(hub, DEVICE, MODULE, hub.rest("GET", path("devices", DEVICE, "modules", MODULE)).json)))
    assert call("devices", "invoke_method", DEVICE, METHOD).payload == {"x": 1}
    assert call("modules", "invoke_method", DEVICE, MODULE, METHOD).status == 200
    assert call("digital_twin", "get_digital_twin", DEVICE)["$dtId"] == DEVICE
    call("digital_twin", "update_digital_twin", DEVICE, [{"op": "add", "path": "/d", "value": 4}], status=202)
    assert call("digital_twin", "invoke_root_level_command", DEVICE, "root", {"y": 1}, 5, 10) == {"y": 1}
    assert call("digital_twin", "invoke_component_command", DEVICE, "pump", "stop", [2], 5, 10) == [2]
    assert len(device.topics) == 3 and len(module.topics) == 1

    call("configuration", "create_or_update", CONFIGURATION.id, CONFIGURATION)
    assert call("configuration", "get", CONFIGURATION.id).priority == 1
    assert CONFIGURATION.id in [one.id for one in call("configuration", "get_configurations", 20)]
    tested = call("configuration", "test_queries", ConfigurationQueriesTestInput(target_condition="tags.a = 1", custom_metric_queries={}))
    assert not tested.target_condition_error
    hub.create(DEVICE + "-edge", body={"capabilities": {"iotEdge": True}})
    content = ConfigurationContent(modules_content={"$edgeAgent": {"properties.desired": {"a": 1}}})
    call("configuration", "apply_on_edge_device", DEVICE + "-edge", content, status=204)
    call("configuration", "delete", CONFIGURATION.id, "*", status=204)

    job = JobRequest(job_id=DEVICE, type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"j": 1}), query_condition=f"deviceId = '{DEVICE}'",
                     start_time="2050-01-01T00:00:00Z", max_execution_time_in_seconds=60)
    assert call("jobs", "create_scheduled_job", DEVICE, job).status == "scheduled"
    assert call("jobs", "get_scheduled_job", DEVICE).job_id == DEVICE
    call("jobs", "query_scheduled_jobs", "scheduleUpdateTwin", "scheduled")
    assert call("jobs", "cancel_scheduled_job", DEVICE).status == "cancelled"
    export = call("jobs", "create_import_export_job", JobProperties(type="export", output_blob_container_uri="file:operations", exclude_keys_in_export=True))
    assert call("jobs", "get_import_export_job", export.job_id).type == "export"
    assert export.job_id in [one.job_id for one in call("jobs", "get_import_export_jobs")]
    call("jobs", "cancel_import_export_job", export.job_id, status=204)

    def dropped(*names):
        """Leaves messages, and takes them away again."""
        for name in names:
            hub.admin("message", "send", DEVICE, "x", "--message-id", name, "--ack", "full")
        return call("cloud_to_device_messages", "purge_cloud_to_device_message_queue", DEVICE)

    def batch():
        """The lock's token; the package itself reads neither body nor header of this answer."""
        answer = protocol.cloud_to_device_messages.receive_feedback_notification(raw=True)
        called.add(("cloud_to_device_messages", "receive_feedback_notification"))
        return answer.response.status_code, answer.response.headers.get("ETag", "").strip('"'), answer.response.text

    assert dropped("one", "two").total_messages_purged == 2
    status, token, text = batch()
    mine = [(one["originalMessageId"], one["statusCode"]) for one in json.loads(text) if one["deviceId"] == DEVICE]
    assert status == 200 and mine == [("one", "Purged"), ("two", "Purged")]
    call("cloud_to_device_messages", "abandon_feedback_notification", token, status=204)
    status, token, _ = batch()
    assert status == 200
    call("cloud_to_device_messages", "complete_feedback_notification", token, status=204)
    assert batch()[0] == 204
    with pytest.raises(HttpOperationError):
        protocol.cloud_to_device_messages.complete_feedback_notification(token)

    call("modules", "delete_identity", DEVICE, MODULE, '"*"', status=204)
    call("devices", "delete_identity", DEVICE, '"*"', status=204)
    until(lambda: not device.thread.is_alive() and not module.thread.is_alive(), 10, "the end of the connections")
    assert called == listed() and len(called) == 42


def test_the_runtime_manager(hub, trust):
    manager = IoTHubHttpRuntimeManager.from_connection_string(hub.connection_string())
    device = hub.create()
    while hub.rest("GET", path("messages", "serviceBound", "feedback")).status == 200:
        pass  # somebody else's
    assert manager.receive_feedback_notification() is None
    hub.admin("message", "send", device.name, "x", "--message-id", "r", "--ack", "full")
    hub.admin("message", "purge", device.name)
    token = hub.rest("GET", path("messages", "serviceBound", "feedback")).header("ETag").strip('"')
    assert manager.abandon_feedback_notification(token) is None
    token = hub.rest("GET", path("messages", "serviceBound", "feedback")).header("ETag").strip('"')
    assert manager.complete_feedback_notification(token) is None
    with pytest.raises(HttpOperationError):
        manager.abandon_feedback_notification(token)
