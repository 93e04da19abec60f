"""The registry over REST: identities, conditions, errors, rights, and HTTP itself (service-rest 1 to 8)."""

import base64
import concurrent.futures
import json
import re
import ssl
import time

import pytest
from harness import sas, tls, waiting
from harness.rest import path

NEVER = "0001-01-01T00:00:00Z"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")
ODD_IDS = [
    "dev-1.a_b:c", "a+b", "100%", "%2F", "a#b", "a?b", "a@b", "a!b(c)'d*e", "A,b=c$d", "dev;x", "a" * 128, "*", "#", ".", "$x", "a..b",
]


def device_path(name, **query):
    return path("devices", name, **query)


def refused(answer, status, error):
    """An error in its full dress."""
    assert answer.status == status, answer
    assert answer.header("iothub-errorcode") == error, answer
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.reason
    body = answer.json
    assert set(body) >= {"Message", "ExceptionMessage"}
    if not body["Message"].startswith("{"):
        assert body["Message"].startswith(f"ErrorCode:{error};"), body
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.header("x-ms-request-id"))
    assert answer.header("Date")


# --- devices ------------------------------------------------------------------------------------------------------


def test_a_created_device_is_the_document_that_clients_expect(hub):
    answer = hub.rest("PUT", device_path("full"), {"deviceId": "full"})
    assert (answer.status, answer.reason) == (200, "OK")
    document = answer.json
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.header("ETag") == f'"{document["etag"]}"'
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.header("x-ms-request-id"))
    assert document["deviceId"] == "full" and re.fullmatch(r"\d+", document["generationId"])
    assert document["status"] == "enabled" and document["statusReason"] is None
    assert document["connectionState"] == "Disconnected" and document["connectionStateUpdatedTime"] == NEVER
    assert document["lastActivityTime"] == NEVER and document["cloudToDeviceMessageCount"] == 0
    assert document["statusUpdatedTime"] == NEVER or TIME.fullmatch(document["statusUpdatedTime"])
    authentication = document["authentication"]
    assert authentication["type"] == "sas"
    for key in authentication["symmetricKey"].values():
        assert len(base64.b64decode(key, validate=True)) == 32
    assert authentication["symmetricKey"]["primaryKey"] != authentication["symmetricKey"]["secondaryKey"]
    assert authentication["x509Thumbprint"] == {"primaryThumbprint": None, "secondaryThumbprint": None}
    assert document["capabilities"] == {"iotEdge": False}
    assert document.get("parentScopes") == [] and document.get("deviceScope") is None
    read = hub.rest("GET", device_path("full"))
    assert read.status == 200 and read.json == document and read.header("ETag") == answer.header("ETag")


@pytest.mark.parametrize("name", ODD_IDS)
def test_every_character_of_an_id_survives_the_path(hub, name):
    target = device_path(name)
    if name == ".":
        target = target.replace("/devices/.", "/devices/%2E")
    created = hub.rest("PUT", target, {"deviceId": name})
    assert created.status == 200 and created.json["deviceId"] == name, created
    assert hub.rest("GET", target).json["deviceId"] == name
    assert hub.rest("DELETE", target, headers={"If-Match": "*"}).status == 204


@pytest.mark.parametrize("name", ["a b", "a" * 129, "ä", "a/b", "a\nb", "a\\b", 'a"b', "a\0b", "a&b", "a<b"])
def test_an_id_outside_the_alphabet_is_refused(hub, name):
    refused(hub.rest("PUT", device_path(name), {"deviceId": name}), 400, "ArgumentInvalid")


def test_ids_are_case_sensitive(hub):
    hub.create("Case")
    refused(hub.rest("GET", device_path("case")), 404, "DeviceNotFound")


def test_the_body_must_name_the_device_of_the_path(hub):
    refused(hub.rest("PUT", device_path("left"), {"deviceId": "right"}), 400, "ArgumentInvalid")
    assert hub.rest("GET", device_path("left")).status == 404


def test_conditions_of_put(hub):
    target = device_path("conditions")
    for match in ("*", '"*"', '"MTIz"', "MTIz"):
        refused(hub.rest("PUT", target, {"deviceId": "conditions"}, {"If-Match": match}), 404, "DeviceNotFound")
    first = hub.rest("PUT", target, {"deviceId": "conditions"}).json
    refused(hub.rest("PUT", target, {"deviceId": "conditions"}), 409, "DeviceAlreadyExists")
    refused(hub.rest("PUT", target, first, {"If-Match": '"bm90dGhpcw=="'}), 412, "PreconditionFailed")
    refused(hub.rest("PUT", target, first, {"If-Match": "bm90dGhpcw=="}), 412, "PreconditionFailed")
    document = first
    for form in ("*", '"*"', '"{}"', "{}", 'W/"{}"'):
        answer = hub.rest("PUT", target, {**document, "statusReason": form}, {"If-Match": form.format(document["etag"])})
        assert answer.status == 200, (form, answer)
        assert answer.json["etag"] != document["etag"] and answer.json["statusReason"] == form
        assert answer.json["generationId"] == first["generationId"]
        document = answer.json
    refused(hub.rest("PUT", target, first, {"If-Match": f'"{first["etag"]}"'}), 412, "PreconditionFailed")
    assert hub.rest("GET", target).json == document


def test_conditions_of_delete(hub):
    target = device_path("going")
    refused(hub.rest("DELETE", target, headers={"If-Match": '"*"'}), 404, "DeviceNotFound")
    for form in ("*", '"*"', '"{}"', "{}", None):
        etag = hub.create("going").document["etag"]
        refused(hub.rest("DELETE", target, headers={"If-Match": '"bm9wZQ=="'}), 412, "PreconditionFailed")
        answer = hub.rest("DELETE", target, headers={"If-Match": form.format(etag)} if form else {})
        assert (answer.status, answer.reason, answer.body) == (204, "No Content", b""), answer
        refused(hub.rest("GET", target), 404, "DeviceNotFound")


def test_a_device_that_is_made_again_is_another_generation(hub):
    first = hub.create("again").document
    assert hub.rest("DELETE", device_path("again")).status == 204
    second = hub.create("again").document
    assert second["generationId"] != first["generationId"]
    assert second["authentication"]["symmetricKey"] != first["authentication"]["symmetricKey"]


def test_an_update_keeps_keys_that_it_names_and_replaces_what_is_writable(hub):
    device = hub.create()
    document = hub.update(device, status="disabled", statusReason="lent out", generationId="1", connectionState="Connected", unknown=[1])
    assert document["status"] == "disabled" and document["statusReason"] == "lent out"
    assert TIME.fullmatch(document["statusUpdatedTime"]) and document["statusUpdatedTime"] != NEVER
    assert document["authentication"] == device.document["authentication"]
    assert document["generationId"] == device.document["generationId"]
    assert document["connectionState"] == "Disconnected" and "unknown" not in document


@pytest.mark.parametrize("body, good", [
    ({"authentication": {"symmetricKey": {"primaryKey": base64.b64encode(b"k" * 16).decode()}}}, True),
    ({"authentication": {"symmetricKey": {"primaryKey": base64.b64encode(b"k" * 64).decode(), "secondaryKey": None}}}, True),
    ({"authentication": {"symmetricKey": {"primaryKey": base64.b64encode(b"k" * 15).decode()}}}, False),
    ({"authentication": {"symmetricKey": {"primaryKey": base64.b64encode(b"k" * 65).decode()}}}, False),
    ({"authentication": {"symmetricKey": {"primaryKey": "not base64!"}}}, False),
    ({"authentication": {"symmetricKey": {"primaryKey": 7}}}, False),
    ({"authentication": {"type": "selfSigned"}}, False),
    ({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "ab" * 20}}}, True),
    ({"authentication": {"type": "selfSigned", "x509Thumbprint": {"secondaryThumbprint": "AB" * 32}}}, True),
    ({"authentication": {"x509Thumbprint": {"primaryThumbprint": "ab" * 20, "secondaryThumbprint": "ab" * 20}}}, True),
    ({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "ab" * 21}}}, False),
    ({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "xy" * 20}}}, False),
    ({"authentication": {"type": "certificateAuthority"}}, True),
    ({"authentication": {"type": "telepathy"}}, False),
    ({"status": "sleeping"}, False),
    ({"status": "disabled"}, True),
    ({"statusReason": "x" * 128}, True),
    ({"statusReason": "x" * 129}, False),
    ({"statusReason": None, "authentication": None, "capabilities": None}, True),
    ({"capabilities": {"iotEdge": "yes"}}, False),
])
def test_members_of_a_device_are_checked(hub, body, good):
    name = f"checked{abs(hash(json.dumps(body)))}"
    answer = hub.rest("PUT", device_path(name), {"deviceId": name, **body})
    if good:
        assert answer.status == 200, answer
        kind = answer.json["authentication"]["type"]
        keys = answer.json["authentication"]["symmetricKey"]
        assert all(keys.values()) if kind == "sas" else not any(keys.values())
        asked = (body.get("authentication") or {}).get("symmetricKey", {}).get("primaryKey")
        assert asked is None or keys["primaryKey"] == asked
    else:
        refused(answer, 400, "ArgumentInvalid")
        assert hub.rest("GET", device_path(name)).status == 404


def test_an_edge_device_has_its_scope_and_system_modules(hub):
    document = hub.create("gateway", body={"capabilities": {"iotEdge": True}}).document
    assert document["capabilities"] == {"iotEdge": True}
    assert document["deviceScope"] == f"ms-azure-iot-edge://gateway-{document['generationId']}"
    modules = hub.rest("GET", path("devices", "gateway", "modules")).json
    assert {one["moduleId"] for one in modules} == {"$edgeAgent", "$edgeHub"}


# --- modules ------------------------------------------------------------------------------------------------------


def test_modules(hub):
    device = hub.create("carrier")
    collection, target = path("devices", "carrier", "modules"), path("devices", "carrier", "modules", "m+1")
    assert hub.rest("GET", collection).json == []
    refused(hub.rest("GET", target), 404, "ModuleNotFound")
    refused(hub.rest("PUT", path("devices", "nobody", "modules", "m"), {"deviceId": "nobody", "moduleId": "m"}), 404, "DeviceNotFound")
    refused(hub.rest("PUT", target, {}, {"If-Match": "*"}), 404, "ModuleNotFound")
    created = hub.rest("PUT", target, {"deviceId": "carrier", "moduleId": "m+1", "managedBy": "me"})
    assert (created.status, created.reason) == (201, "Created"), created
    document = created.json
    assert document["deviceId"] == "carrier" and document["moduleId"] == "m+1" and document["managedBy"] == "me"
    assert created.header("ETag") == f'"{document["etag"]}"'
    assert document["authentication"]["symmetricKey"]["primaryKey"] != device.key
    refused(hub.rest("PUT", target, document), 409, "ModuleAlreadyExistsOnDevice")
    refused(hub.rest("PUT", target, document, {"If-Match": '"eHg="'}), 412, "PreconditionFailed")
    updated = hub.rest("PUT", target, {**document, "managedBy": "you"}, {"If-Match": f'"{document["etag"]}"'})
    assert updated.status == 200 and updated.json["managedBy"] == "you"
    assert [one["moduleId"] for one in hub.rest("GET", collection).json] == ["m+1"]
    refused(hub.rest("DELETE", target, headers={"If-Match": '"eHg="'}), 412, "PreconditionFailed")
    assert hub.rest("DELETE", target, headers={"If-Match": "*"}).status == 204
    refused(hub.rest("DELETE", target), 404, "ModuleNotFound")


def test_a_device_takes_its_modules_with_it(hub):
    hub.create("parent")
    hub.create("parent", "child")
    assert hub.rest("DELETE", device_path("parent")).status == 204
    refused(hub.rest("GET", path("devices", "parent", "modules", "child")), 404, "DeviceNotFound")
    hub.create("parent")
    assert hub.rest("GET", path("devices", "parent", "modules")).json == []


def test_fifty_modules_and_no_more(hub):
    hub.create("crowd")
    for number in range(50):
        hub.create("crowd", f"m{number}")
    answer = hub.rest("PUT", path("devices", "crowd", "modules", "m50"), {"deviceId": "crowd", "moduleId": "m50"})
    assert answer.status in (403, 413) and answer.error == "TooManyModulesOnDevice", answer


# --- bulk, lists, statistics --------------------------------------------------------------------------------------


def bulk(hub, *entries):
    return hub.rest("POST", path("devices"), list(entries))


def test_bulk_modes(hub):
    answer = bulk(hub, *({"id": f"bulk{n}", "importMode": "create", "status": "disabled" if n == 3 else "enabled"} for n in range(100)))
    assert answer.status == 200 and answer.json == {"isSuccessful": True, "errors": [], "warnings": []}, answer
    assert hub.rest("GET", device_path("bulk3")).json["status"] == "disabled"
    etag = hub.rest("GET", device_path("bulk0")).json["etag"]
    key = base64.b64encode(b"z" * 32).decode()
    answer = bulk(
        hub,
        {"id": "bulk0", "importMode": "updateIfMatchETag", "eTag": etag, "status": "disabled"},
        {"id": "bulk1", "importMode": "update", "authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}}},
        {"id": "bulk2", "importMode": "delete"},
        {"id": "bulkNew", "status": "enabled"},
        {"id": "bulk4", "moduleId": "m", "importMode": "create"})
    assert answer.status == 200, answer
    assert hub.rest("GET", device_path("bulk0")).json["status"] == "disabled"
    assert hub.rest("GET", device_path("bulk1")).json["authentication"]["symmetricKey"]["primaryKey"] == key
    assert hub.rest("GET", device_path("bulk2")).status == 404
    assert hub.rest("GET", device_path("bulkNew")).status == 200
    assert hub.rest("GET", path("devices", "bulk4", "modules", "m")).status == 200


def test_bulk_failures_are_told_one_by_one_and_the_others_stay(hub):
    hub.create("there")
    answer = bulk(
        hub,
        {"id": "there", "importMode": "create"},
        {"id": "absent", "importMode": "update"},
        {"id": "there", "importMode": "updateIfMatchETag", "eTag": "eHg="} | {"id": "there2"},
        {"id": "good", "importMode": "create"})
    assert answer.status == 400, answer
    result = answer.json
    assert result["isSuccessful"] is False
    errors = {one["deviceId"]: one["errorCode"] for one in result["errors"]}
    assert errors["there"] == "DeviceAlreadyExists" and errors["absent"] == "DeviceNotFound", result
    assert "good" not in errors
    assert hub.rest("GET", device_path("good")).status == 200


@pytest.mark.parametrize("body, status", [
    ([], 400), ([{"id": f"many{n}"} for n in range(101)], 400), ({"id": "x"}, 400), ([{"id": "a b"}], 400), ([{"importMode": "create"}], 400),
    ([{"id": "x1", "importMode": "dance"}], 400), ([{"id": "twice"}, {"id": "twice"}], 400), ([7], 400),
])
def test_bulk_nonsense(hub, body, status):
    answer = hub.rest("POST", path("devices"), body)
    assert answer.status == status, answer
    for name in ("many0", "x", "x1"):
        assert hub.rest("GET", device_path(name)).status == 404


def test_lists_and_statistics(new_hub):
    hub = new_hub()
    assert hub.rest("GET", path("devices")).json == []
    assert hub.rest("GET", path("statistics", "devices")).json == {
        "totalDeviceCount": 0, "enabledDeviceCount": 0, "disabledDeviceCount": 0}
    bulk(hub, *({"id": f"d{n}", "status": "enabled" if n % 3 else "disabled"} for n in range(30)))
    for _ in range(3):
        hub.create()
    assert hub.rest("GET", path("statistics", "devices")).json == {
        "totalDeviceCount": 33, "enabledDeviceCount": 23, "disabledDeviceCount": 10}
    assert {one["deviceId"] for one in hub.rest("GET", path("devices", top="1000")).json} >= {f"d{n}" for n in range(30)}
    assert len(hub.rest("GET", path("devices", top="5")).json) == 5
    assert len(hub.rest("GET", path("devices", top="0")).json) == 33
    assert hub.rest("GET", path("statistics", "service")).json == {"connectedDeviceCount": 0}
    device = hub.create()
    with device.login():
        assert hub.rest("GET", path("statistics", "service")).json == {"connectedDeviceCount": 1}
        document = hub.rest("GET", device_path(device.name)).json
        assert document["connectionState"] == "Connected"
        assert TIME.fullmatch(document["connectionStateUpdatedTime"]) and document["connectionStateUpdatedTime"] != NEVER
    waiting.until(lambda: hub.rest("GET", device_path(device.name)).json["connectionState"] == "Disconnected", 5)
    assert hub.rest("GET", path("statistics", "service")).json == {"connectedDeviceCount": 0}


# --- versions, paths, verbs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version, status", [
    ("2016-02-03", 200), ("2018-08-30-preview", 200), ("2020-05-31-preview", 200), ("2021-04-12", 200), ("2030-01-01", 200),
    (None, 400), ("", 400), ("soon", 400), ("2021-4-12", 400),
])
def test_api_version(hub, version, status):
    target = "/statistics/devices" + (f"?api-version={version}" if version is not None else "")
    answer = hub.rest("GET", target)
    if status == 400:
        refused(answer, 400, "InvalidProtocolVersion")
    else:
        assert answer.status == 200


@pytest.mark.parametrize("method, target, status", [
    ("GET", "/nowhere", 404), ("GET", "/", 404), ("GET", "/devices/a/b/c/d", 404), ("GET", "//devices", 404),
    ("GET", "/Devices/x", 404), ("PATCH", "/devices/x", 405), ("POST", "/devices/x", 405), ("DELETE", "/devices", 405),
    ("PUT", "/statistics/devices", 405), ("GET", "/twins/x/streams/y", 405), ("TRACE", "/devices", 405),
])
def test_unknown_paths_and_verbs(hub, method, target, status):
    with hub.connect() as connection:
        answer = connection.exchange(method, target + "?api-version=2021-04-12", token=hub.service_token())
        assert answer.status == status, answer
        if status == 405:
            assert answer.header("Allow")
        # The connection stays of use.
        assert connection.exchange("GET", path("statistics", "devices"), token=hub.service_token()).status == 200


# --- authorization ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policies(hub):
    rights = {
        "reader": "RegistryRead", "writer": "RegistryWrite", "service": "ServiceConnect", "device": "DeviceConnect",
    }
    for name, right in rights.items():
        hub.admin("policy", "create", name, "--rights", right)
    return rights


@pytest.mark.parametrize("policy, read, write, connect", [
    ("iothubowner", True, True, True), ("reader", True, False, False), ("writer", True, True, False), ("service", False, False, True),
    ("device", False, False, False),
])
def test_rights(hub, policies, policy, read, write, connect):
    token = hub.service_token(policy)
    for method, target, body, allowed in [
        ("GET", path("devices", "nobody"), None, read), ("GET", path("statistics", "devices"), None, read),
        ("GET", path("devices"), None, read), ("GET", path("devices", "nobody", "modules"), None, read),
        ("DELETE", path("devices", "nobody"), None, write), ("POST", path("devices"), [{"id": "nobody", "importMode": "delete"}], write),
        ("PUT", path("devices", "nobody"), {"deviceId": "somebody"}, write), ("GET", path("statistics", "service"), None, connect),
        ("POST", path("twins", "nobody", "streams", "s"), None, connect), ("GET", path("streams"), None, connect),
    ]:
        answer = hub.rest(method, target, body, token=token)
        if allowed:
            assert answer.status != 401, (method, target, answer)
        else:
            refused(answer, 401, "IotHubUnauthorizedAccess")


def test_token_forms(hub):
    key, owner = hub.policy_key(), "iothubowner"
    secondary = sas.parse_connection_string(hub.admin("policy", "connection-string", "iothubowner", "--secondary").stdout)["SharedAccessKey"]
    good = [
        hub.service_token(), hub.service_token(order="sr se sig skn"), hub.service_token(order="sig se skn sr"),
        hub.service_token(key=secondary), hub.service_token(escape_signature=False), hub.service_token(resource="LOCALHOST"),
        hub.service_token(resource=f"localhost:{hub.https}"), hub.service_token(resource="localhost/devices"),
        sas.token(key, "localhost%2Fdevices", owner, encoded=False), sas.token(key, "localhost%2fdevices", owner, encoded=False),
        sas.token(key, "localhost/devices", owner, encoded=False), hub.service_token(resource="localhost/devices/tokens"),
        hub.service_token(resource="localhost/"), hub.service_token(expiry=4102444800),
    ]
    for token in good:
        answer = hub.rest("GET", device_path("tokens"), token=token)
        assert answer.status == 404, (token, answer)
    now = int(time.time())
    bad = [
        "", "Bearer x", "SharedAccessSignature", "SharedAccessSignature ", "SharedAccessSignature sr=localhost", hub.service_token()[:-3],
        hub.service_token().replace("SharedAccessSignature ", "SharedAccessSignature"), hub.service_token(resource="other.example"),
        hub.service_token(resource="localhost.evil"), hub.service_token(resource="localhost/device"),
        hub.service_token(resource="localhost/devices/token"), hub.service_token(resource="localhost/twins"), hub.service_token(resource=""),
        hub.service_token(expiry=now - 600), hub.service_token(expiry=0), hub.service_token(expiry=-1),
        hub.service_token().replace("&se=", "&se=x"), hub.service_token(expiry=10**30),
        sas.token(key, "localhost", "nopolicy"), sas.token(key, "localhost"), sas.token(key, "localhost", ""),
        hub.service_token(key=base64.b64encode(b"wrong" * 8).decode()),
        hub.service_token() + "&sig=AAAA", hub.service_token().replace("sig=", "sig=%zz"), "SharedAccessSignature " + "a=b&" * 5000,
    ]
    for token in bad:
        with hub.connect() as connection:
            answer = connection.exchange("GET", device_path("tokens"), {"Authorization": token})
        if len(token) > 8192:
            assert answer.status in (401, 431), answer
        else:
            refused(answer, 401, "IotHubUnauthorized")
    with hub.connect() as connection:
        refused(connection.exchange("GET", device_path("tokens")), 401, "IotHubUnauthorized")
        assert b"DeviceNotFound" not in connection.exchange("GET", device_path("tokens")).body


def test_a_device_key_is_no_service_key(hub):
    device = hub.create()
    refused(hub.rest("GET", device_path(device.name), token=device.token()), 401, "IotHubUnauthorized")


def test_a_removed_or_rotated_policy_stops_at_once(hub):
    hub.admin("policy", "create", "short", "--rights", "RegistryRead")
    token = hub.service_token("short")
    with hub.connect() as connection:
        assert connection.exchange("GET", path("statistics", "devices"), token=token).status == 200
        hub.admin("policy", "rotate", "short")
        waiting.until(lambda: connection.exchange("GET", path("statistics", "devices"), token=token).status == 401, 1, "the old key's end")
        hub.policies.pop("short")
        token = hub.service_token("short")
        assert connection.exchange("GET", path("statistics", "devices"), token=token).status == 200
        hub.admin("policy", "delete", "short")
        waiting.until(lambda: connection.exchange("GET", path("statistics", "devices"), token=token).status == 401, 1, "the policy's end")


# --- HTTP ---------------------------------------------------------------------------------------------------------


def test_one_connection_serves_many_requests(hub):
    with hub.connect() as connection:
        for number in range(50):
            answer = connection.exchange("PUT", device_path(f"kept{number}"), body={"deviceId": f"kept{number}"}, token=hub.service_token())
            assert answer.status == 200
        answer = connection.exchange("GET", device_path("kept1"), {"Connection": "close"}, token=hub.service_token())
        assert answer.status == 200 and answer.header("Connection").lower() == "close"
        assert connection.ended(5) == b""


def test_http_1_0_ends_after_the_answer(hub):
    with hub.connect() as connection:
        connection.send(f"GET {path('statistics', 'devices')} HTTP/1.0\r\nHost: localhost\r\nAuthorization: {hub.service_token()}\r\n\r\n")
        assert b" 200 OK\r\n" in connection.ended(5)


def test_pipelined_requests_are_answered_in_order(hub):
    hub.create("pipe1")
    with hub.connect() as connection:
        targets = [device_path("pipe1"), device_path("pipe-none"), path("statistics", "devices")] * 20
        connection.send("".join(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {hub.service_token()}\r\n\r\n" for target in targets))
        assert [connection.response().status for _ in targets] == [200, 404, 200] * 20


def test_writes_in_a_pipeline_keep_their_order(hub):
    body = json.dumps({"deviceId": "order"}).encode()
    put = f"PUT {device_path('order')} HTTP/1.1\r\nHost: x\r\nAuthorization: {hub.service_token()}\r\nContent-Length: {len(body)}\r\n\r\n"
    others = [f"{m} {device_path('order')} HTTP/1.1\r\nHost: x\r\nAuthorization: {hub.service_token()}\r\n\r\n" for m in ("GET", "DELETE", "GET")]
    with hub.connect() as connection:
        connection.send(put.encode() + body + "".join(others).encode())
        assert [connection.response().status for _ in range(4)] == [200, 200, 204, 404]


def test_a_chunked_body(hub):
    body = json.dumps({"deviceId": "chunky", "statusReason": "in pieces"}).encode()
    head = (f"PUT {device_path('chunky')} HTTP/1.1\r\nHost: x\r\nAuthorization: {hub.service_token()}\r\n"
            "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n").encode()
    pieces = b"".join(f"{len(body[at:at + 7]):x};ext=1\r\n".encode() + body[at:at + 7] + b"\r\n" for at in range(0, len(body), 7))
    with hub.connect() as connection:
        connection.send(head + pieces + b"0\r\nTrailer: x\r\n\r\n")
        answer = connection.response()
        assert answer.status == 200 and answer.json["statusReason"] == "in pieces", answer
        assert connection.exchange("GET", device_path("chunky"), token=hub.service_token()).status == 200


def test_a_request_that_comes_byte_by_byte(hub):
    body = json.dumps({"deviceId": "slow"}).encode()
    head = (f"PUT {device_path('slow')} HTTP/1.1\r\nhost: x\r\naUTHORIZATION: {hub.service_token()}\r\ncontent-length:  {len(body)} \r\n\r\n")
    with hub.connect() as connection:
        for byte in head.encode() + body:
            connection.send(bytes([byte]))
        assert connection.response().status == 200


def test_expect_continue(hub):
    body = json.dumps({"deviceId": "expects"}).encode()
    with hub.connect() as connection:
        connection.send(f"PUT {device_path('expects')} HTTP/1.1\r\nHost: x\r\nAuthorization: {hub.service_token()}\r\n"
                        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n")
        assert connection.response(head=True).status == 100
        connection.send(body)
        assert connection.response().status == 200


@pytest.mark.parametrize("body", [
    b"", b"{", b"[1,2", b"null", b"7", b'"x"', b"{'deviceId':'x'}", b'{"deviceId":"json"} trailing', b'{"deviceId":"json",}', b"\xff\xfe",
    b'{"deviceId":"json\xff"}', b'{"deviceId":"json","deviceId":"json2"}', b"[" * 100000, b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"deviceId":1e999}', b'{"deviceId":"\\ud800"}', b'{"deviceId":["json"]}', b'\xef\xbb\xbf{"deviceId":7}',
])
def test_malformed_json(hub, body):
    with hub.connect() as connection:
        connection.request("PUT", device_path("json"), {"Content-Type": "application/json"}, body, hub.service_token())
        answer = connection.response()
        assert answer.status == 400, answer
        assert answer.error in ("ArgumentInvalid", "IotHubFormatError", "DeserializationError", "ArgumentNull")
        assert connection.exchange("GET", device_path("json"), token=hub.service_token()).status == 404


def test_a_body_beyond_the_limit(hub):
    with hub.connect() as connection:
        connection.send(f"PUT {device_path('huge')} HTTP/1.1\r\nHost: x\r\nAuthorization: {hub.service_token()}\r\n"
                        "Content-Length: 9999999999\r\n\r\n")
        answer = connection.response()
        assert answer.status == 413, answer
        connection.ended(5)
    with hub.connect() as connection:
        connection.send(f"PUT {device_path('huge')} HTTP/1.1\r\nHost: x\r\nAuthorization: {hub.service_token()}\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(1000):
                connection.send(chunk)
        except OSError:
            pass
        answer = connection.ended(5)
        assert not answer or b" 413 " in answer.split(b"\r\n")[0]
    assert hub.rest("GET", device_path("huge")).status == 404


def test_curl_speaks_with_the_hub(hub):
    from harness.process import run
    result = run(["curl", "-sS", "--fail-with-body", "--cacert", hub.ca, "-H", f"Authorization: {hub.service_token()}",
                  f"https://localhost:{hub.https}{path('statistics', 'devices')}"], check=0)
    assert "totalDeviceCount" in json.loads(result.stdout)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(hub, version):
    settings = tls.context(hub.ca, minimum=version, maximum=version)
    with hub.connect(settings=settings) as connection:
        assert connection.socket.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        assert connection.exchange("GET", path("statistics", "devices"), token=hub.service_token()).status == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_tls_is_refused(hub):
    settings = tls.context(hub.ca)
    settings.minimum_version = ssl.TLSVersion.TLSv1
    settings.maximum_version = ssl.TLSVersion.TLSv1_1
    settings.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        hub.connect(settings=settings)


def test_a_client_certificate_is_asked_for_and_any_is_let_through(hub, iotstream, tmp_path):
    from harness.process import run
    run([iotstream, "cert", "gen-root", "--dir", tmp_path], check=0)
    run([iotstream, "cert", "gen-device", "someone", "--dir", tmp_path], check=0)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        settings = tls.context(hub.ca, tmp_path / "someone.cert.pem", tmp_path / "someone.key.pem", version, version)
        with hub.connect(settings=settings) as connection:
            assert connection.exchange("GET", path("statistics", "devices"), token=hub.service_token()).status == 200


# --- the command line beside a running hub ------------------------------------------------------------------------


def test_what_a_tool_does_on_the_state_directory_shows_at_once(hub):
    made = hub.admin("device", "create", "tool").stdout.strip()
    fields = sas.parse_connection_string(made)
    assert fields["DeviceId"] == "tool" and fields["HostName"] == f"localhost:{hub.https}"
    answer = hub.rest("GET", device_path("tool"))
    assert answer.status == 200 and answer.json["authentication"]["symmetricKey"]["primaryKey"] == fields["SharedAccessKey"]
    hub.admin("device", "disable", "tool", "--reason", "on holiday")
    document = hub.rest("GET", device_path("tool")).json
    assert document["status"] == "disabled" and document["statusReason"] == "on holiday"
    hub.rest("PUT", device_path("tool"), {**document, "status": "enabled"}, {"If-Match": "*"})
    assert hub.admin_json("device", "show", "tool")["status"] == "enabled"
    hub.admin("device", "delete", "tool")
    assert hub.rest("GET", device_path("tool")).status == 404


def test_a_tool_cuts_a_device_off_within_a_second(hub):
    device = hub.create()
    with device.login() as client:
        hub.admin("device", "disable", device.name)
        started = time.monotonic()
        client.ended(5)
        assert time.monotonic() - started < 1
    with hub.mqtt() as client:
        assert client.connect(device.client, device.user(), device.token())[0] == 5
    hub.admin("device", "enable", device.name)
    device.login().close()


def test_writers_at_the_same_time_lose_nothing(hub):
    """REST and the command line write side by side; what was acknowledged is there."""
    def over_rest(number):
        return hub.rest("PUT", device_path(f"both-r{number}"), {"deviceId": f"both-r{number}"}).status == 200

    def by_tool(number):
        return hub.admin("device", "create", f"both-t{number}").returncode == 0

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: over_rest(n) if n % 4 else by_tool(n), range(100)))
    assert all(results)
    names = {one["deviceId"] for one in hub.rest("GET", path("devices", top="1000")).json}
    for number in range(100):
        assert (f"both-r{number}" if number % 4 else f"both-t{number}") in names


def test_one_etag_wins_one_race(hub):
    device = hub.create()
    etag = device.document["etag"]

    def write(number):
        return hub.rest("PUT", device_path(device.name), {**device.document, "statusReason": str(number)}, {"If-Match": f'"{etag}"'}).status

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        statuses = sorted(pool.map(write, range(10)))
    assert statuses == [200] + [412] * 9


def test_answers_stay_quick_beside_a_slow_client(hub):
    """A client that sends half a request holds up nobody else."""
    slow = [hub.connect() for _ in range(20)]
    for connection in slow:
        connection.send("PUT /devices/half?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nContent-Le")
    started = time.monotonic()
    assert hub.rest("GET", path("statistics", "devices")).status == 200
    assert time.monotonic() - started < 2
    for connection in slow:
        connection.close()
