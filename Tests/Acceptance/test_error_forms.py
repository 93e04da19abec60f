"""Each error of the service API in the form that clients read: status and reason, header, and one of the two bodies (service-rest 3)."""

import http.client
import json
import re

import pytest
from harness import mqtt
from harness.rest import path

STRUCTURED = {"DeviceNotOnline": 404103, "GatewayTimeout": 504101, "BadDeviceResponse": 502001, "DeviceMaximumActiveMethodCallsExceeded": 403800}
CONFIGURATION = {"content": {"deviceContent": {"properties.desired.x": 1}}, "targetCondition": "", "priority": 1}
JOB = {"type": "scheduleUpdateTwin", "updateTwin": {"tags": {"a": 1}}, "queryCondition": "deviceId = 'nobody'", "startTime": "2050-01-01T00:00:00Z"}


def has_form(answer, status, error):
    """What Node, C#, Python and az read: the name in header and text, the reason phrase, the body."""
    assert answer.status == status and answer.error == error, answer
    assert answer.reason == {413: "Content Too Large"}.get(status, http.client.responses[status]), answer
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.header("x-ms-request-id"))
    assert answer.header("Date")
    body = answer.json
    assert set(body) == {"Message", "ExceptionMessage"}
    if error in STRUCTURED:
        inner = json.loads(body["Message"])
        assert inner["errorCode"] == STRUCTURED[error] and inner["errorCode"] // 1000 == status
        assert re.fullmatch(r"[0-9a-fA-F]{32}-G:0-TimeStamp:\S+", inner["trackingId"]) and inner["message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", inner["timestampUtc"])
        if error in ("DeviceNotOnline", "GatewayTimeout"):
            assert re.fullmatch(r"\d\d:\d\d:\d\d", inner["info"]["timeout"])
        assert body["ExceptionMessage"] == ""
    else:
        # Node takes the text between `ErrorCode:` and the semicolon.
        assert re.match(r"ErrorCode:(\w+);\S", body["Message"])[1] == error
        assert re.match(r"Tracking ID:[0-9a-fA-F]{32}-G:0-TimeStamp:\S", body["ExceptionMessage"])


@pytest.fixture(scope="module")
def place(hub):
    """A hub with one of everything."""
    hub.create("there")
    hub.create("there", "mod")
    for _ in range(50):
        assert hub.rest("POST", path("devices", "there", "messages", "deviceBound"), b"x").status == 204
    full = hub.create("full")
    for number in range(50):
        hub.create(full.name, f"m{number}")
    assert hub.rest("PUT", path("configurations", "conf"), {"id": "conf", **CONFIGURATION}).status in (200, 201)
    assert hub.rest("PUT", path("jobs", "v2", "job"), {"jobId": "job", **JOB}).status == 200
    return hub


DEVICE, TWIN = path("devices", "there"), path("twins", "there")
FAULTS = [
    (400, "ArgumentInvalid", "GET", path("devices", "a b"), None, {}),
    (400, "ArgumentInvalid", "PUT", path("devices", "new"), {"deviceId": "other"}, {}),
    (400, "ArgumentInvalid", "PATCH", TWIN, {"tags": {"$": 1}}, {}),
    (400, "ArgumentInvalid", "POST", path("devices", "query"), {"query": "SELECT"}, {}),
    (400, "ArgumentInvalid", "POST", path("devices", "query"), {"query": "SELECT * FROM devices"}, {"x-ms-continuation": "nonsense"}),
    (400, "ArgumentInvalid", "POST", path("twins", "there", "methods"), {"methodName": "m", "responseTimeoutInSeconds": 1}, {}),
    (400, "ArgumentNull", "POST", path("devices", "query"), {}, {}),
    (400, "ArgumentNull", "POST", path("twins", "there", "methods"), {}, {}),
    (400, "IotHubFormatError", "PATCH", TWIN, b"{", {}),
    (400, "InvalidProtocolVersion", "GET", "/devices/there", None, {}),
    (400, "InvalidProtocolVersion", "GET", "/devices/there?api-version=new", None, {}),
    (400, "DeviceDefinedMultipleTimes", "POST", path("devices"), [{"id": "x"}, {"id": "x"}], {}),
    (400, "TooManyDevices", "POST", path("devices"), [{"id": f"x{n}"} for n in range(101)], {}),
    (401, "IotHubUnauthorized", "GET", DEVICE, None, {"Authorization": "SharedAccessSignature nonsense"}),
    (403, "DeviceMaximumQueueDepthExceeded", "POST", path("devices", "there", "messages", "deviceBound"), b"x", {}),
    (403, "TooManyModulesOnDevice", "PUT", path("devices", "full", "modules", "one-more"), {"deviceId": "full", "moduleId": "one-more"}, {}),
    (404, "DeviceNotFound", "GET", path("devices", "nobody"), None, {}),
    (404, "DeviceNotFound", "GET", path("twins", "nobody"), None, {}),
    (404, "DeviceNotFound", "POST", path("twins", "nobody", "methods"), {"methodName": "m"}, {}),
    (404, "DeviceNotFound", "DELETE", path("devices", "nobody", "commands"), None, {}),
    (404, "ModuleNotFound", "GET", path("devices", "there", "modules", "nothing"), None, {}),
    (404, "ModuleNotFound", "PATCH", path("twins", "there", "modules", "nothing"), {"tags": {}}, {}),
    (404, "DeviceNotOnline", "POST", path("twins", "there", "methods"), {"methodName": "m"}, {}),
    (404, "ConfigurationNotFound", "GET", path("configurations", "nothing"), None, {}),
    (404, "JobNotFound", "GET", path("jobs", "v2", "nothing"), None, {}),
    (404, "JobNotFound", "GET", path("jobs", "nothing"), None, {}),
    (404, "NotFound", "GET", path("nowhere"), None, {}),
    (405, "MethodNotAllowed", "DELETE", path("devices"), None, {}),
    (409, "DeviceAlreadyExists", "PUT", DEVICE, {"deviceId": "there"}, {}),
    (409, "ModuleAlreadyExistsOnDevice", "PUT", path("devices", "there", "modules", "mod"), {"deviceId": "there", "moduleId": "mod"}, {}),
    (409, "ConfigurationAlreadyExists", "PUT", path("configurations", "conf"), {"id": "conf", **CONFIGURATION}, {}),
    (409, "JobAlreadyExists", "PUT", path("jobs", "v2", "job"), {"jobId": "job", **JOB}, {}),
    (412, "PreconditionFailed", "PUT", DEVICE, {"deviceId": "there"}, {"If-Match": '"bm8="'}),
    (412, "PreconditionFailed", "DELETE", DEVICE, None, {"If-Match": "bm8="}),
    (412, "PreconditionFailed", "PATCH", TWIN, {"tags": {"a": 1}}, {"If-Match": 'W/"bm8="'}),
    (412, "DeviceMessageLockLost", "DELETE", path("messages", "serviceBound", "feedback", "nothing"), None, {}),
    (413, "MessageTooLarge", "POST", path("devices", "nobody", "messages", "deviceBound"), b"x" * (65 << 10), {}),
    (413, "MessageTooLarge", "POST", path("twins", "there", "methods"), {"methodName": "m", "payload": "x" * (129 << 10)}, {}),
]


@pytest.mark.parametrize("status, error, method, target, body, headers", FAULTS, ids=[f"{number}-{one[1]}" for number, one in enumerate(FAULTS)])
def test_what_is_refused_is_refused_in_form(place, status, error, method, target, body, headers):
    token = None if "Authorization" in headers else place.service_token()
    with place.connect() as connection:
        answer = connection.exchange(method, target, headers, body, token)
        has_form(answer, status, error)
        if status == 405:
            assert answer.header("Allow")
        # The connection goes on with the next request.
        assert connection.exchange("GET", path("statistics", "devices"), token=place.service_token()).status == 200


def test_nobody_without_the_right(place):
    place.admin("policy", "create", "reader", "--rights", "RegistryRead")
    token = place.service_token("reader")
    for method, target, body in (("DELETE", DEVICE, None), ("GET", TWIN, None), ("POST", path("devices", "query"), {"query": "SELECT * FROM devices"}),
                                 ("GET", path("jobs", "v2", "query"), None)):
        has_form(place.rest(method, target, body, token=token), 401, "IotHubUnauthorizedAccess")


def test_what_a_device_does_to_a_call(place):
    device = place.create()
    target = path("twins", device.name, "methods")
    with device.login() as client:
        assert client.subscribe("$iothub/methods/POST/#") == [0]

        def call(react, **members):
            with place.connect() as connection:
                connection.request("POST", target, body={"methodName": "m", **members}, token=place.service_token())
                react(client.expect(mqtt.PUBLISH).topic.split("$rid=")[1])
                return connection.response(seconds=15)

        has_form(call(lambda rid: client.publish(f"$iothub/methods/res/200/?$rid={rid}", b"no JSON")), 502, "BadDeviceResponse")
        has_form(call(lambda rid: client.close()), 504, "GatewayTimeout")


def test_a_bulk_failure_has_the_name_in_its_header(place):
    answer = place.rest("POST", path("devices"), [{"id": "there", "importMode": "create"}, {"id": "bulk-new", "importMode": "create"}])
    assert (answer.status, answer.error, answer.reason) == (400, "BulkRegistryOperationFailure", "Bad Request")
    assert answer.json["isSuccessful"] is False
    (error,) = answer.json["errors"]
    assert (error["deviceId"], error["errorCode"]) == ("there", "DeviceAlreadyExists") and set(error) >= {"moduleId", "errorStatus"}


@pytest.mark.parametrize("form", ["*", '"*"', "{etag}", '"{etag}"', 'W/"{etag}"'])
def test_every_form_of_if_match_that_clients_send(place, form):
    device = place.create()
    etags = {"identity": device.document["etag"], "twin": place.rest("GET", path("twins", device.name)).json["etag"]}
    match = {name: {"If-Match": form.replace("{etag}", etag)} for name, etag in etags.items()}
    assert place.rest("PATCH", path("twins", device.name), {"tags": {"a": 1}}, match["twin"]).status == 200
    made = place.rest("PUT", path("devices", device.name), {**device.document, "statusReason": "x"}, match["identity"])
    assert made.status == 200
    assert place.rest("DELETE", path("devices", device.name), None, {"If-Match": form.replace("{etag}", made.json["etag"])}).status == 204


def test_a_put_that_is_sent_again_is_told_the_same(place):
    """The Python package repeats PUT and DELETE after 5xx: what was done stays done (service-rest 1)."""
    device = place.create()
    document = {**device.document, "statusReason": "again"}
    first, second = (place.rest("PUT", path("devices", device.name), document, {"If-Match": "*"}) for _ in range(2))
    assert first.status == second.status == 200
    assert {**first.json, "etag": ""} == {**second.json, "etag": ""}
    assert [place.rest("DELETE", path("devices", device.name), headers={"If-Match": "*"}).status for _ in range(2)] == [204, 404]


def test_the_header_fields_of_the_python_package(place):
    answer = place.rest("GET", DEVICE, headers={
        "Accept": "application/json", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive",
        "User-Agent": "python/3.11.7 (Linux) msrest/0.7.1 iothubgatewayserviceapis/2021-04-12"})
    assert answer.status == 200 and answer.header("Content-Encoding") is None and answer.header("ETag") == f'"{answer.json["etag"]}"'
