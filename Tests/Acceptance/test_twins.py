"""Twins and queries over REST and on the command line (service-rest 9 and 11)."""

import base64
import concurrent.futures
import json
import os
import re
import threading

import pytest
from harness import sas
from harness.rest import path

# Devices that the paging test goes through; the full number is 10000.
MANY = int(os.environ.get("IOTSTREAM_QUERY_DEVICES", "2500"))
# Crashes of the hub under writers; the full number is 100.
CRASHES = int(os.environ.get("IOTSTREAM_CRASHES", "3"))


def twin_path(device):
    return path("twins", device.name, *(["modules", device.module] if device.module else []))


def patch(hub, device, body, etag=None, method="PATCH"):
    return hub.rest(method, twin_path(device), body, {"If-Match": etag} if etag else None)


def number(etag):
    return int.from_bytes(base64.b64decode(etag), "big")


# --- documents ----------------------------------------------------------------------------------------------------


def test_a_fresh_twin_is_the_document_that_clients_expect(hub):
    device = hub.create("fresh")
    answer = hub.rest("GET", twin_path(device))
    twin = answer.json
    assert answer.status == 200 and answer.header("ETag") == f'"{twin["etag"]}"' == '"AAAAAAAAAAE="'
    assert set(twin) == {
        "deviceId", "etag", "deviceEtag", "status", "statusUpdateTime", "connectionState", "lastActivityTime", "cloudToDeviceMessageCount",
        "authenticationType", "x509Thumbprint", "modelId", "version", "properties", "capabilities",
    }
    assert (twin["version"], twin["status"], twin["connectionState"]) == (2, "enabled", "Disconnected")
    assert twin["deviceEtag"] == device.document["etag"] and twin["capabilities"] == {"iotEdge": False}
    for section in twin["properties"].values():
        assert section["$version"] == 1 and set(section) == {"$metadata", "$version"}
        assert set(section["$metadata"]) == {"$lastUpdated"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", section["$metadata"]["$lastUpdated"])


def test_a_patch_merges_and_a_put_replaces(hub):
    device = hub.create("changed")
    answer = patch(hub, device, {"tags": {"plant": {"hall": 3, "row": "b"}}, "properties": {"desired": {"a": {"b": 1, "c": [1, {"d": 2}]}}}})
    assert answer.status == 200 and answer.header("ETag") == f'"{answer.json["etag"]}"'
    assert answer.json["version"] == 3 and number(answer.json["etag"]) == 2
    twin = patch(hub, device, {"tags": {"plant": {"hall": None}}, "properties": {"desired": {"a": {"b": None}, "e": True}}}).json
    assert twin["tags"] == {"plant": {"row": "b"}}
    desired = twin["properties"]["desired"]
    assert desired["a"] == {"c": [1, {"d": 2}]} and desired["e"] is True and desired["$version"] == 3
    assert desired["$metadata"]["a"]["c"]["$lastUpdatedVersion"] == 2
    assert desired["$metadata"]["a"]["$lastUpdatedVersion"] == desired["$metadata"]["e"]["$lastUpdatedVersion"] == 3
    assert "b" not in desired["$metadata"]["a"]
    assert hub.rest("GET", twin_path(device)).json == twin

    # A whole twin, as it was read, with another value: what is not the service's to write is passed over.
    twin["properties"]["desired"]["e"] = False
    twin["properties"]["reported"]["x"] = 1
    twin["status"] = "disabled"
    changed = patch(hub, device, twin, f'"{twin["etag"]}"').json
    assert changed["properties"]["desired"]["e"] is False and changed["status"] == "enabled"
    assert "x" not in changed["properties"]["reported"] and changed["properties"]["reported"]["$version"] == 1

    replaced = patch(hub, device, {"properties": {"desired": {"new": 1}}}, method="PUT").json
    assert "tags" not in replaced
    assert {key for key in replaced["properties"]["desired"] if key[0] != "$"} == {"new"}
    emptied = patch(hub, device, {"tags": None, "properties": {"desired": None}}).json
    assert set(emptied["properties"]["desired"]) == {"$metadata", "$version"}


def test_conditions(hub):
    device = hub.create("conditional")
    first = patch(hub, device, {"tags": {"a": 1}}, "*").json["etag"]
    for form in ('"%s"', "%s", 'W/"%s"'):
        form = form % first
        answer = patch(hub, device, {"tags": {"a": 2}}, form)
        assert answer.status == 200
        late = patch(hub, device, {"tags": {"a": 3}}, form)
        assert (late.status, late.error) == (412, "PreconditionFailed")
        assert patch(hub, device, {}, form, "PUT").status == 412
        first = answer.json["etag"]
    assert patch(hub, device, {"tags": {"a": 9}}, '"*"').status == 200
    assert patch(hub, device, {"tags": {"a": 9}}).status == 200


def test_one_of_many_writers_with_one_etag_wins(hub):
    device = hub.create("contended")
    etag = hub.rest("GET", twin_path(device)).header("ETag")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda writer: patch(hub, device, {"tags": {"writer": writer}}, etag).status, range(16)))
    assert sorted(answers) == [200] + [412] * 15
    assert hub.rest("GET", twin_path(device)).json["version"] == 3


def test_modules_have_twins_of_their_own(hub):
    device = hub.create("housed")
    module = hub.create("housed", "m1")
    assert patch(hub, module, {"tags": {"x": 1}}).json["moduleId"] == "m1"
    assert "tags" not in hub.rest("GET", twin_path(device)).json
    hub.update(device, status="disabled")
    assert hub.rest("GET", twin_path(module)).json["status"] == "disabled"


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT"])
def test_nobodys_twin(hub, method):
    hub.create("somebody-" + method.lower())
    body = None if method == "GET" else {"tags": {"a": 1}}
    answer = hub.rest(method, path("twins", "nobody"), body)
    assert (answer.status, answer.error) == (404, "DeviceNotFound")
    answer = hub.rest(method, path("twins", "somebody-" + method.lower(), "modules", "m"), body)
    assert (answer.status, answer.error) == (404, "ModuleNotFound")
    assert hub.rest("DELETE", path("twins", "nobody")).status == 405


BAD = [
    {"$x": 1}, {"a.b": 1}, {"a b": 1}, {"": 1}, {"a\u0007": 1}, {"k" * 1025: 1}, {"a": 4503599627370496}, {"a": "x" * 4097}, {"a": [None]},
    {"a": [{"b": None}]}, [], 5, "x", json.loads('{"k":' * 12 + "1" + "}" * 12), {str(key): "x" * 90 for key in range(400)},
]


@pytest.mark.parametrize("section", BAD, ids=lambda section: json.dumps(section)[:30])
def test_what_breaks_the_rules_changes_nothing(hub, section):
    device = hub.create()
    for body in ({"tags": section}, {"properties": {"desired": section}}, {"tags": {"good": 1}, "properties": {"desired": section}}):
        for method in ("PATCH", "PUT"):
            answer = patch(hub, device, body, method=method)
            assert (answer.status, answer.error) == (400, "ArgumentInvalid"), answer
    assert hub.rest("GET", twin_path(device)).json["version"] == 2


@pytest.mark.parametrize("body", [
    b"", b"{", b"[1]", b'{"tags":{"a":1},"tags":{}}', b'{"tags":{"a":\xff}}', b'{"tags":{"a":1e999}}', b'{"tags":{"a":99999999999999999999}}',
    b"[" * 100000, b'{"properties":7}', b'{"tags":"x"}', b"null",
], ids=lambda body: body[:20].decode("latin-1"))
def test_what_is_no_patch_is_refused(hub, body):
    device = hub.create()
    answer = patch(hub, device, body)
    assert answer.status == 400 and answer.error in ("ArgumentInvalid", "IotHubFormatError")


def test_the_largest_sections_fit_and_not_a_byte_more(hub):
    device = hub.create("full-twin")

    def section(count):
        return {f"k{index:02d}": "x" * (1024 - 3) for index in range(count)}

    assert patch(hub, device, {"tags": section(8), "properties": {"desired": section(32)}}).status == 200
    assert patch(hub, device, {"tags": {"y": {}}}).status == 400
    assert patch(hub, device, {"properties": {"desired": {"y": {}}}}).status == 400
    removals = {f"x{index}": None for index in range(60_000)}
    assert patch(hub, device, {"properties": {"desired": removals}}).status == 200


def test_rights(hub):
    device = hub.create("guarded")
    for name, rights, status in (("tw-service", "ServiceConnect", 200), ("tw-writer", "RegistryRead,RegistryWrite", 401), ("tw-device", "DeviceConnect", 401)):
        hub.admin("policy", "create", name, "--rights", rights)
        token = hub.service_token(name)
        for method, body in (("GET", None), ("PATCH", {"tags": {"a": 1}}), ("PUT", {})):
            assert hub.rest(method, twin_path(device), body, token=token).status == status
        assert hub.rest("POST", path("devices", "query"), {"query": "SELECT * FROM devices"}, token=token).status == status
    assert hub.rest("GET", twin_path(device), token=sas.token(device.key, hub.name)).status == 401


def test_twins_live_through_a_crash(new_hub):
    hub = new_hub()
    device = hub.create("lasting")
    for count in range(20):
        assert patch(hub, device, {"properties": {"desired": {f"k{count}": count}}}).status == 200
    before = hub.rest("GET", twin_path(device)).json
    hub.restart()
    assert hub.rest("GET", twin_path(device)).json == before
    assert before["properties"]["desired"]["$version"] == 21


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_on_both_ways(hub, tmp_path):
    device = hub.create("by-hand")
    hub.create("by-hand", "m1")
    remote = ["--connection-string", hub.connection_string(), "--ca", hub.ca]
    for place in ([], remote):
        hub.admin("twin", "replace", device.name, '{"tags":{}}', *place)
        twin = json.loads(hub.admin("twin", "update", device.name, '{"tags":{"a":1,"b":2}}', *place).stdout)
        assert twin["tags"] == {"a": 1, "b": 2}
        document = tmp_path / "twin.json"
        document.write_text('{"tags":{"a":null},"properties":{"desired":{"c":3}}}')
        twin = json.loads(hub.admin("twin", "update", device.name, f"@{document}", "--etag", twin["etag"], *place).stdout)
        assert twin["tags"] == {"b": 2} and twin["properties"]["desired"]["c"] == 3
        shown = hub.admin("twin", "show", device.name, "--json", *place).stdout
        assert "\n" not in shown.strip() and json.loads(shown) == twin
        old = hub.admin("twin", "update", device.name, '{"tags":{}}', "--etag", '"AAAAAAAAAAE="', *place, check=75)
        assert "somebody else changed it meanwhile" in old.stderr
        for name in (["by-hand/m1"], ["by-hand", "--module", "m1"]):
            twin = json.loads(hub.admin("twin", "replace", *name, '{"tags":{"m":1}}', *place).stdout)
            assert (twin["moduleId"], twin["tags"]) == ("m1", {"m": 1})
        for code, words in (
            (65, ["update", "by-hand", "{"]), (65, ["update", "by-hand", '{"tag":{}}']), (65, ["update", "by-hand", '{"tags":{"a b":1}}']),
            (66, ["update", "by-hand", "@/nowhere"]), (1, ["show", "nobody"]), (1, ["show", "by-hand/nobody"]), (64, ["show"]),
            (64, ["show", "by-hand/m1", "--module", "m1"]), (65, ["show", "a b"]),
        ):
            error = hub.admin("twin", *words, *place, check=code).stderr
            assert error.startswith("iotstream twin: ") and error.count("\n") == 1, error
    # What a tool wrote, the hub shows.
    hub.admin("twin", "update", device.name, '{"tags":{"from":"tool"}}')
    assert hub.rest("GET", twin_path(device)).json["tags"]["from"] == "tool"


def test_queries_on_the_command_line(hub):
    for index in range(12):
        patch(hub, hub.create(f"q-{index:02d}"), {"tags": {"shelf": "left" if index < 5 else "right", "weight": index}})
    hub.create("q-00", "m1")
    for place in ([], ["--connection-string", hub.connection_string(), "--ca", hub.ca]):

        def rows(query):
            return json.loads(hub.admin("device", "list", "--query", query, "--json", *place).stdout)

        assert [one["deviceId"] for one in rows("SELECT * FROM devices WHERE tags.shelf = 'left'")] == [f"q-{index:02d}" for index in range(5)]
        assert rows("SELECT COUNT() AS n, MAX(tags.weight) AS w FROM devices WHERE STARTS_WITH(deviceId, 'q-')") == [{"n": 12, "w": 11}]
        assert rows("SELECT deviceId, tags.weight FROM devices WHERE deviceId = 'q-07'") == [{"deviceId": "q-07", "weight": 7}]
        table = hub.admin("device", "list", "--query", "SELECT * FROM devices.modules WHERE deviceId = 'q-00'", *place).stdout.splitlines()
        assert table[0].split()[:2] == ["ID", "STATUS"] and table[1].split()[0] == "q-00/m1"
        table = hub.admin("device", "list", "--query", "SELECT tags.weight AS w, deviceId FROM devices WHERE tags.weight > 10", *place).stdout
        assert [line.split() for line in table.splitlines()] == [["w", "deviceId"], ["11", "q-11"]]
        error = hub.admin("device", "list", "--query", "SELECT * FROM devices WHERE tags.a ==", *place, check=65).stderr
        assert "at character 37" in error


# --- queries over REST --------------------------------------------------------------------------------------------


def query(hub, text, rows=None, continuation=None):
    headers = {}
    if rows is not None:
        headers["x-ms-max-item-count"] = str(rows)
    if continuation:
        headers["x-ms-continuation"] = continuation
    return hub.rest("POST", path("devices", "query"), {"query": text}, headers)


@pytest.fixture(scope="module")
def herd(iotstream, certificates):
    """A hub with many devices."""
    from harness.hub import Hub

    made = Hub(iotstream, certificates)
    lines = "".join(
        json.dumps({"id": f"h{index:05d}", "tags": {"number": index, "colour": ["red", "green", "blue"][index % 3]}}) + "\n"
        for index in range(MANY))
    made.admin("device", "import", "-", stdin=lines, seconds=300)
    yield made
    assert made.process.running(), made.process.log
    made.remove()


def pages(hub, text, rows=None):
    continuation, answers = None, []
    while continuation or not answers:
        answers.append(query(hub, text, rows, continuation))
        assert answers[-1].status == 200, answers[-1]
        continuation = answers[-1].header("x-ms-continuation")
        assert continuation is None or re.fullmatch(r"[A-Za-z0-9_-]{1,1000}", continuation)
    return answers


def test_pages_of_many_devices(herd):
    answers = pages(herd, "SELECT * FROM devices", 1000)
    assert len(answers) == (MANY + 999) // 1000
    assert {answer.header("x-ms-item-type") for answer in answers} == {"Twin"}
    ids = [twin["deviceId"] for answer in answers for twin in answer.json]
    assert ids == [f"h{index:05d}" for index in range(MANY)]
    assert len(query(herd, "SELECT * FROM devices").json) == 100
    assert len(query(herd, "SELECT * FROM devices", 100000).json) == 1000
    assert len(query(herd, "SELECT * FROM devices", -1).json) == 100
    some = [one["number"] for answer in pages(herd, "SELECT tags.number FROM devices WHERE tags.colour = 'red'", 97) for one in answer.json]
    assert some == list(range(0, MANY, 3))


def test_pages_while_devices_come_and_go(herd):
    first = query(herd, "SELECT deviceId FROM devices", 200)
    assert first.json[-1] == {"deviceId": "h00199"}
    for gone in ("h00100", "h00199", "h00200"):
        assert herd.rest("DELETE", path("devices", gone), headers={"If-Match": "*"}).status == 204
    for come in ("h00050x", "h00300x"):
        herd.create(come)
    second = query(herd, "SELECT deviceId FROM devices", 200, first.header("x-ms-continuation"))
    ids = [one["deviceId"] for one in second.json]
    assert ids[0] == "h00201" and "h00300x" in ids and len(ids) == 200
    for back in ("h00100", "h00199", "h00200"):
        herd.create(back, body={"tags": {"number": int(back[1:])}})
    for come in ("h00050x", "h00300x"):
        herd.rest("DELETE", path("devices", come), headers={"If-Match": "*"})


CLAUSES = [
    ("SELECT COUNT() AS n FROM devices", lambda rows: rows == [{"n": MANY}]),
    ("SELECT TOP 7 deviceId FROM devices", lambda rows: len(rows) == 7),
    ("SELECT d.deviceId AS id FROM devices AS d WHERE d.tags.number IN [3, 5]", lambda rows: rows == [{"id": "h00003"}, {"id": "h00005"}]),
    ("SELECT deviceId FROM devices WHERE tags.number NIN [1] AND tags.number < 3", lambda rows: len(rows) == 2),
    ("SELECT deviceId FROM devices WHERE NOT (tags.number > 1) OR tags.number = 9", lambda rows: len(rows) == 3),
    ("SELECT deviceId FROM devices WHERE STARTS_WITH(deviceId, 'h0001')", lambda rows: len(rows) == 10),
    ("SELECT deviceId FROM devices WHERE ENDS_WITH(deviceId, '0042')", lambda rows: len(rows) == 1),
    ("SELECT deviceId FROM devices WHERE IS_DEFINED(tags.none)", lambda rows: rows == []),
    ("SELECT deviceId FROM devices WHERE tags.number * 2 + 1 = 21", lambda rows: rows == [{"deviceId": "h00010"}]),
    ("SELECT tags.colour, COUNT() AS n, MIN(tags.number) AS low FROM devices WHERE tags.number < 30 GROUP BY tags.colour",
     lambda rows: sorted(row["low"] for row in rows if "colour" in row) == [0, 1, 2] and all(row["n"] == 10 for row in rows)),
    ("SELECT AVG(tags.number) AS a, SUM(tags.number) AS s FROM devices WHERE tags.number <= 4 AND tags.colour != 'x'",
     lambda rows: rows == [{"a": 2, "s": 10}]),
    ("SELECT * FROM devices.modules", lambda rows: rows == []), ("SELECT * FROM devices.jobs", lambda rows: rows == []),
]


@pytest.mark.parametrize("text,isRight", CLAUSES, ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_a_query_per_clause(herd, text, isRight):
    answer = query(herd, text)
    assert answer.status == 200 and isRight(answer.json), answer
    kind = "DeviceJob" if "jobs" in text else "Twin" if "*" in text.split("FROM")[0] else "Raw"
    assert answer.header("x-ms-item-type") == kind


@pytest.mark.parametrize("body", [
    {}, {"query": None}, {"query": 5}, [], {"query": ""}, {"query": "SELECT"}, {"query": "SELECT * FROM hubs"}, {"query": "DROP TABLE devices"},
    {"query": "SELECT * FROM devices ORDER BY deviceId"}, {"query": "SELECT * FROM devices WHERE " + "(" * 5000},
    {"query": "SELECT * FROM devices WHERE a = '" + "x" * 9000 + "'"},
], ids=lambda body: json.dumps(body)[:40])
def test_what_is_no_query_is_refused(herd, body):
    answer = herd.rest("POST", path("devices", "query"), body)
    assert answer.status == 400 and answer.error in ("ArgumentInvalid", "ArgumentNull"), answer
    assert answer.json["Message"].startswith(f"ErrorCode:{answer.error};BadRequest;")


def test_a_token_belongs_to_its_query(herd):
    token = query(herd, "SELECT * FROM devices", 10).header("x-ms-continuation")
    assert query(herd, "SELECT deviceId FROM devices", 10, token).status == 400
    assert query(herd, "SELECT * FROM devices", 10, "nonsense").status == 400
    assert query(herd, "SELECT * FROM devices", 0).status == 400
    assert query(herd, "SELECT * FROM devices", "x").status == 400


def test_short_requests_do_not_wait_for_long_queries(herd):
    """Queries that look at every device go on beside the reactors."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        scans = [
            pool.submit(query, herd, f"SELECT COUNT() AS n FROM devices WHERE CONTAINS(tags.colour, 'x{index}') OR version > 99") for index in range(8)
        ]
        for _ in range(10):
            assert herd.rest("GET", path("twins", "h00001")).status == 200
        assert all(scan.result().json == [{"n": 0}] for scan in scans)


@pytest.mark.parametrize("way", ["state", "rest"])
def test_twins_move_to_another_hub(new_hub, way):
    hub, other = new_hub(), new_hub()
    device, module = hub.create("mover"), hub.create("mover", "m1")
    patch(hub, device, {"tags": {"a": {"b": 1}}, "properties": {"desired": {"c": [1, {"d": 2}]}}})
    patch(hub, module, {"properties": {"desired": {"e": 1}}})
    place = [] if way == "state" else ["--connection-string", hub.connection_string(), "--ca", hub.ca]
    lines = hub.admin("device", "export", *place).stdout
    other.admin("device", "import", "-", stdin=lines)
    twin = other.rest("GET", path("twins", "mover")).json
    assert twin["tags"] == {"a": {"b": 1}} and twin["properties"]["desired"]["c"] == [1, {"d": 2}]
    assert (twin["version"], twin["properties"]["desired"]["$version"]) == (2, 1)
    assert other.rest("GET", path("twins", "mover", "modules", "m1")).json["properties"]["desired"]["e"] == 1
    if way == "rest":
        hub.admin("policy", "create", "reader", "--rights", "RegistryRead")
        reader = hub.admin("device", "export", "--connection-string", hub.connection_string("reader"), "--ca", hub.ca)
        assert reader.stderr.count("without twins") == 1 and '"tags"' not in reader.stdout


# --- crashes ------------------------------------------------------------------------------------------------------


def test_no_acknowledged_write_is_lost_in_a_crash(new_hub):
    """Writers go on until the hub dies under them; afterwards every write that was answered is there. The full number is 100 crashes."""
    hub = new_hub()
    devices = [hub.create(f"w{index}") for index in range(8)]
    known = dict.fromkeys((device.name for device in devices), 0)

    def write(device, started):
        """Counts up until the hub is gone, and tells the last number that was acknowledged."""
        count = known[device.name]
        try:
            with hub.connect() as connection:
                token = hub.service_token()
                while True:
                    body = {"tags": {"n": count + 1}, "properties": {"desired": {"n": count + 1, f"k{count % 7}": count}}}
                    answer = connection.exchange("PATCH", twin_path(device), body=body, token=token)
                    assert answer.status == 200, answer
                    count += 1
                    if count >= known[device.name] + patience:
                        started.set()
        except (OSError, EOFError):
            return count

    for crash in range(CRASHES):
        patience = 1 + crash * 7 % 40  # writes before the hub may die
        started = [threading.Event() for _ in devices]
        with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
            writers = [pool.submit(write, device, event) for device, event in zip(devices, started)]
            assert all(event.wait(30) for event in started)
            hub.process.kill()
            written = [writer.result() for writer in writers]
        hub.process.stop()
        hub.start()
        for device, count in zip(devices, written):
            twin = hub.rest("GET", twin_path(device)).json
            found = twin["tags"]["n"]
            # One more may have been written whose answer was lost; tags and desired properties are written together or not at all.
            assert count <= found <= count + 1, (device.name, count, found)
            assert twin["properties"]["desired"]["n"] == found
            assert twin["properties"]["desired"]["$version"] == found + 1 and twin["version"] == found + 2
            known[device.name] = found
