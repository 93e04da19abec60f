"""Plug and play: twins by the names of a model, and commands (service-rest 16)."""

import json
import threading

import pytest
from harness import mqtt
from harness.rest import path


def patch(hub, name, *steps, **headers):
    return hub.rest("PATCH", path("digitaltwins", name), list(steps), {key.replace("_", "-"): value for key, value in headers.items()})


def step(op, where, *value):
    return {"op": op, "path": where, **({"value": value[0]} if value else {})}


def test_a_digital_twin(hub):
    device = hub.create("dt1")
    model = "dtmi:com:example:Thermostat;1"
    with device.login(query="?api-version=2021-04-12&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1") as client:
        client.subscribe("$iothub/twin/res/#")
        reported = {"serial": "x1", "target": {"value": 20, "ac": 200, "av": 2, "ad": "done"},
                    "pump": {"__t": "c", "rpm": 900, "limit": {"value": 5, "ac": 203, "av": 1}}}
        client.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", json.dumps(reported).encode())
        client.expect(mqtt.PUBLISH)
        answer = patch(hub, "dt1", step("add", "/target", 21), step("replace", "/pump/limit", 7), step("add", "/lamp/on", True))
        assert answer.status == 202 and answer.header("ETag") and answer.header("Location").split("?")[0].endswith("/digitaltwins/dt1")
    found = hub.rest("GET", path("digitaltwins", "dt1"))
    assert found.status == 200 and found.header("ETag") == answer.header("ETag")
    twin = found.json
    assert (twin["$dtId"], twin["$metadata"]["$model"]) == ("dt1", model)
    assert (twin["serial"], twin["target"], twin["pump"]["rpm"], twin["pump"]["limit"]) == ("x1", 20, 900, 5)
    about = twin["$metadata"]["target"]
    assert (about["desiredValue"], about["desiredVersion"], about["ackCode"], about["ackVersion"], about["ackDescription"]) == (21, 2, 200, 2, "done")
    assert about["lastUpdateTime"] and twin["$metadata"]["serial"].keys() == {"lastUpdateTime"}
    assert twin["pump"]["$metadata"]["limit"]["desiredValue"] == 7 and "pump" not in twin["$metadata"]
    assert twin["lamp"]["$metadata"]["on"]["desiredValue"] is True and "on" not in twin["lamp"]
    desired = hub.rest("GET", path("twins", "dt1")).json["properties"]["desired"]
    assert desired["pump"] == {"__t": "c", "limit": 7} and desired["lamp"] == {"__t": "c", "on": True}
    assert patch(hub, "dt1", step("remove", "/pump/limit"), step("remove", "/target")).status == 202
    desired = hub.rest("GET", path("twins", "dt1")).json["properties"]["desired"]
    assert desired["pump"] == {"__t": "c"} and "target" not in desired


def test_etags_and_bad_patches(hub):
    hub.create("dt2")
    etag = hub.rest("GET", path("digitaltwins", "dt2")).header("ETag")
    assert patch(hub, "dt2", step("add", "/a~1b", 1), If_Match=etag.strip('"')).status == 202
    assert patch(hub, "dt2", step("add", "/a", 1), If_Match=etag).status == 412
    for bad in (step("move", "/a", 1), step("add", "a", 1), step("add", "/a"), step("add", "/", 1), step("add", "/a/b/c", 1), {"op": "add"},
                step("add", "/$metadata", 1), step("add", "/a~2", 1), step("add", "/a b", 1), step("add", "/a/__t", 1)):
        assert patch(hub, "dt2", bad).status == 400, bad
    assert patch(hub, "dt2").status == 400
    assert hub.rest("PATCH", path("digitaltwins", "dt2"), {}).status == 400
    assert hub.rest("GET", path("digitaltwins", "nobody")).error == "DeviceNotFound"
    assert hub.rest("GET", path("twins", "dt2")).json["properties"]["desired"]["a/b"] == 1


@pytest.mark.parametrize("component, method", [(None, "reboot"), ("pump", "pump*reboot")])
def test_commands(hub, component, method):
    device = hub.create()
    segments = ["digitaltwins", device.name] + (["components", component] if component else []) + ["commands", "reboot"]
    with device.login() as client:
        client.subscribe("$iothub/methods/POST/#")
        got = []
        target = path(*segments, connectTimeoutInSeconds=5, responseTimeoutInSeconds=20)
        thread = threading.Thread(target=lambda: got.append(hub.rest("POST", target, {"delay": 3})))
        thread.start()
        packet = client.expect(mqtt.PUBLISH)
        assert packet.topic.startswith(f"$iothub/methods/POST/{method.replace('*', '%2A')}/") or f"/{method}/" in packet.topic
        assert json.loads(packet.payload) == {"delay": 3}
        client.publish("$iothub/methods/res/207/?$rid=" + packet.topic.split("$rid=")[1], b'{"took":4}')
        thread.join(20)
        assert got[0].status == 200 and got[0].json == {"took": 4}
        assert got[0].header("x-ms-command-statuscode") == "207" and got[0].header("x-ms-request-id")
    assert hub.rest("POST", path(*segments)).code == 404103
    assert hub.rest("POST", path(*segments, responseTimeoutInSeconds=1)).status == 400
