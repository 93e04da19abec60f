"""Automatic device management: what configurations make of twins (service-rest 13)."""

import json

import pytest
from harness import mqtt
from harness.rest import path
from harness.waiting import until


def document(**members):
    return {"schemaVersion": "1.0", "labels": {"l": "v"}, "content": {"deviceContent": {"properties.desired.fw": {"v": 2}}},
            "targetCondition": "tags.env='prod'", "priority": 10, "metrics": {"queries": {}}, **members}


def put(hub, name, body, check=200, etag=None):
    answer = hub.rest("PUT", path("configurations", name), {"id": name, **body}, {"If-Match": etag} if etag else None)
    assert answer.status == check, answer
    return answer


def get(hub, name):
    answer = hub.rest("GET", path("configurations", name))
    assert answer.status == 200, answer
    return answer.json


def delete(hub, name):
    assert hub.rest("DELETE", path("configurations", name), None, {"If-Match": "*"}).status == 204


def device(hub, name, **tags):
    made = hub.create(name)
    tag(hub, name, tags)
    return made


def tag(hub, name, tags):
    assert hub.rest("PATCH", path("twins", name), {"tags": tags}).status == 200


def twin(hub, *name):
    answer = hub.rest("GET", path("twins", *name))
    assert answer.status == 200, answer
    return answer.json


def desired(hub, *name):
    return {key: value for key, value in twin(hub, *name)["properties"]["desired"].items() if not key.startswith("$")}


def status(hub, *name):
    return {key: value["status"] for key, value in twin(hub, *name).get("configurations", {}).items()}


def test_a_configuration_comes_and_goes(hub):
    one = device(hub, "go1", env="go")
    device(hub, "go2", env="test")
    with one.login() as client:
        client.subscribe("$iothub/twin/PATCH/properties/desired/#")
        made = put(hub, "go", document(targetCondition="tags.env='go'", metrics={"queries": {"mine": "SELECT deviceId FROM devices WHERE deviceId = 'go2'"}}))
        assert made.header("ETag") == f'"{made.json["etag"]}"' and made.json["createdTimeUtc"]
        assert until(lambda: status(hub, "go1") == {"go": "Applied"})
        assert desired(hub, "go1") == {"fw": {"v": 2}}
        assert json.loads(client.expect(mqtt.PUBLISH).payload)["fw"] == {"v": 2}
        assert "configurations" not in twin(hub, "go2")
        assert until(lambda: get(hub, "go")["systemMetrics"]["results"] == {"targetedCount": 1, "appliedCount": 1})
        assert until(lambda: get(hub, "go")["metrics"]["results"] == {"mine": 1})
        assert get(hub, "go")["etag"] == made.json["etag"]
        text = "SELECT * FROM devices WHERE configurations.[[go]].status = 'Applied'"
        found = hub.rest("POST", path("devices", "query"), {"query": text}).json
        assert [row["deviceId"] for row in found] == ["go1"]
        for kind in ("targetedCount", "appliedCount"):
            found = hub.rest("POST", path("devices", "query"), {"query": get(hub, "go")["systemMetrics"]["queries"][kind]})
            assert [row["deviceId"] for row in found.json] == ["go1"], found
        # A device that begins to meet the condition, and one that no longer does.
        tag(hub, "go2", {"env": "go"})
        assert until(lambda: desired(hub, "go2") == {"fw": {"v": 2}})
        tag(hub, "go1", {"env": None})
        assert until(lambda: status(hub, "go1") == {})
        assert desired(hub, "go1") == {} and json.loads(client.expect(mqtt.PUBLISH).payload)["fw"] is None
        # One that is made with it; and the end of it all.
        line = {"id": "go3", "importMode": "create", "tags": {"env": "go"}, "properties": {"desired": {"other": 1, "fw": {"mine": 3}}}}
        assert hub.rest("POST", path("devices"), [line]).status == 200
        assert until(lambda: desired(hub, "go3") == {"other": 1, "fw": {"mine": 3, "v": 2}})
        delete(hub, "go")
        assert hub.rest("GET", path("configurations", "go")).error == "ConfigurationNotFound"
        assert until(lambda: status(hub, "go2") == status(hub, "go3") == {})
        assert until(lambda: desired(hub, "go2") == {} and desired(hub, "go3") == {"other": 1, "fw": {"mine": 3}})


def test_the_strongest_wins_and_then_the_latest(hub):
    device(hub, "wi1", env="wi")
    condition = {"targetCondition": "tags.env = 'wi'"}

    def content(**values):
        return {"content": {"deviceContent": {f"properties.desired.{key.replace('_', '.')}": value for key, value in values.items()}}, **condition}

    put(hub, "weak", document(**content(a=1, b=1, c_x=1), priority=1))
    assert until(lambda: status(hub, "wi1") == {"weak": "Applied"})
    put(hub, "strong", document(**content(a=2, c_y=2), priority=2))
    assert until(lambda: status(hub, "wi1") == {"weak": "Targeted", "strong": "Applied"})
    assert desired(hub, "wi1") == {"a": 2, "c": {"y": 2}}
    put(hub, "later", document(**content(d=3), priority=2))
    assert until(lambda: status(hub, "wi1") == {"weak": "Targeted", "strong": "Targeted", "later": "Applied"})
    assert desired(hub, "wi1") == {"d": 3}
    changed = {key: value for key, value in get(hub, "weak").items() if key != "content"}
    put(hub, "weak", {**document(**content(a=1, b=1, c_x=1)), "priority": 3, "etag": changed["etag"]}, etag=f'"{changed["etag"]}"')
    assert until(lambda: status(hub, "wi1")["weak"] == "Applied")
    assert desired(hub, "wi1") == {"a": 1, "b": 1, "c": {"x": 1}}
    assert until(lambda: get(hub, "strong")["systemMetrics"]["results"] == {"targetedCount": 1, "appliedCount": 0})
    for name in ("weak", "strong", "later"):
        delete(hub, name)
    assert until(lambda: desired(hub, "wi1") == {} and status(hub, "wi1") == {})


def test_reported_properties_and_connections_count(hub):
    one = device(hub, "re1")
    put(hub, "re", document(targetCondition="deviceId = 're1' AND properties.reported.ready = true AND connectionState = 'Connected'"))
    with one.login() as client:
        client.subscribe("$iothub/twin/res/#")
        client.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"ready":true}')
        assert until(lambda: status(hub, "re1") == {"re": "Applied"}, seconds=20)
    delete(hub, "re")


def test_modules_and_edge_devices(hub):
    hub.create("ed1", body={"capabilities": {"iotEdge": True}})
    tag(hub, "ed1", {"env": "edge"})
    hub.create("mo1")
    hub.create("mo1", "m1")
    content = {"moduleContent": {"properties.desired.x": 1}}
    put(hub, "mods", document(content=content, targetCondition="FROM devices.modules WHERE moduleId = 'm1'"))
    assert until(lambda: status(hub, "mo1", "modules", "m1") == {"mods": "Applied"})
    assert desired(hub, "mo1", "modules", "m1") == {"x": 1} and desired(hub, "mo1") == {}
    edge = {"$edgeAgent": {"properties.desired": {"modules": {"a": {"type": "docker"}}}}, "app": {"properties.desired": {"n": 1}}}
    put(hub, "dep", document(content={"modulesContent": edge}, targetCondition="tags.env = 'edge'"))
    assert until(lambda: status(hub, "ed1", "modules", "$edgeAgent") == {"dep": "Applied"})
    assert desired(hub, "ed1", "modules", "$edgeAgent") == {"modules": {"a": {"type": "docker"}}}
    assert desired(hub, "ed1", "modules", "app") == {"n": 1}
    layer = {"$edgeAgent": {"properties.desired.modules.b": {"type": "docker"}}}
    put(hub, "layer", document(content={"modulesContent": layer}, targetCondition="tags.env = 'edge'", priority=20))
    assert until(lambda: status(hub, "ed1", "modules", "$edgeAgent") == {"dep": "Applied", "layer": "Applied"})
    assert set(desired(hub, "ed1", "modules", "$edgeAgent")["modules"]) == {"a", "b"}
    assert until(lambda: get(hub, "layer")["systemMetrics"]["results"] == {"targetedCount": 1, "appliedCount": 1})
    delete(hub, "dep")
    assert until(lambda: status(hub, "ed1", "modules", "$edgeAgent") == {"layer": "Applied"})
    assert desired(hub, "ed1", "modules", "$edgeAgent") == {"modules": {"b": {"type": "docker"}}}
    assert desired(hub, "ed1", "modules", "app") == {}


def test_content_for_one_device(hub):
    hub.create("ap1", body={"capabilities": {"iotEdge": True}})
    target = path("devices", "ap1", "applyConfigurationContent")
    body = {"modulesContent": {"$edgeHub": {"properties.desired": {"routes": {}, "n": 1}}, "fresh": {"properties.desired.a": 5}}}
    assert hub.rest("POST", target, body).status == 204
    assert desired(hub, "ap1", "modules", "$edgeHub") == {"routes": {}, "n": 1} and desired(hub, "ap1", "modules", "fresh") == {"a": 5}
    assert hub.rest("POST", target, {"modulesContent": {"$edgeHub": {"properties.desired": {"m": 2}}}}).status == 204
    assert desired(hub, "ap1", "modules", "$edgeHub") == {"m": 2}
    hub.create("ap2")
    assert hub.rest("POST", path("devices", "ap2", "applyConfigurationContent"), body).status == 400
    assert hub.rest("POST", path("devices", "nobody", "applyConfigurationContent"), body).status == 404
    for bad in ({}, [], {"modulesContent": {"m": {"tags": {}}}}, {"modulesContent": 5}, {"moduleContent": {"properties.desired.a": 1}}):
        assert hub.rest("POST", target, bad).status == 400


def test_etags_and_the_fixed_content(hub):
    made = put(hub, "et", document(targetCondition="")).json
    assert put(hub, "et", document(), check=409).error == "ConfigurationAlreadyExists"
    assert put(hub, "et", document(), check=412, etag='"bm8="').error == "PreconditionFailed"
    assert put(hub, "none", document(), check=404, etag="*").error == "ConfigurationNotFound"
    put(hub, "et", document(content={"deviceContent": {"properties.desired.fw": 3}}), check=400, etag="*")
    changed = put(hub, "et", document(targetCondition="", priority=3, labels={}), etag=made["etag"]).json
    assert (changed["priority"], changed["labels"], changed["createdTimeUtc"]) == (3, {}, made["createdTimeUtc"])
    assert changed["etag"] != made["etag"]
    assert hub.rest("DELETE", path("configurations", "et"), None, {"If-Match": made["etag"]}).status == 412
    assert hub.rest("DELETE", path("configurations", "et"), None, {"If-Match": changed["etag"]}).status == 204
    assert hub.rest("DELETE", path("configurations", "et"), None, {"If-Match": "*"}).status == 404


@pytest.mark.parametrize("name, body", [
    ("Upper", document()), ("a b", document()), ("x" * 129, document()), ("ok", {}), ("ok", document(content={})), ("ok", document(priority=-1)),
    ("ok", document(content={"deviceContent": {"properties.desired.a": 1}, "moduleContent": {"properties.desired.a": 1}})),
    ("ok", document(content={"deviceContent": {"tags.a": 1}})), ("ok", document(content={"deviceContent": {"properties.desired": 5}})),
    ("ok", document(content={"deviceContent": {"properties.desired.a b": 1}})), ("ok", document(content={"deviceContent": {}})),
    ("ok", document(targetCondition="tags.")), ("ok", document(targetCondition="FROM devices.modules WHERE moduleId = 'm'")),
    ("ok", document(labels={"a": 1})), ("ok", document(metrics={"queries": {"m": "SELECT"}})),
    ("ok", document(metrics={"queries": {str(number): "SELECT * FROM devices" for number in range(6)}})),
    ("ok", document(content={"moduleContent": {"properties.desired.a": 1}})),
])
def test_bad_configurations(hub, name, body):
    assert hub.rest("PUT", path("configurations", name), body).status == 400
    assert hub.rest("GET", path("configurations", name)).status == 404


def test_lists_queries_and_rights(new_hub):
    hub = new_hub()
    for number in range(25):
        put(hub, f"c{number:02}", document(targetCondition=""))
    assert len(hub.rest("GET", path("configurations")).json) == 20
    assert [found["id"] for found in hub.rest("GET", path("configurations", top=3)).json] == ["c00", "c01", "c02"]
    target = path("configurations", "testQueries")
    good = {"targetCondition": "tags.a = 1", "customMetricQueries": {"m": "SELECT * FROM devices"}}
    assert hub.rest("POST", target, good).json == {"targetConditionError": "", "customMetricQueryErrors": {}}
    bad = hub.rest("POST", target, {"targetCondition": "tags.", "customMetricQueries": {"m": "SELECT", "n": "SELECT * FROM devices"}}).json
    assert bad["targetConditionError"] and list(bad["customMetricQueryErrors"]) == ["m"]
    for policy, rights, status in (("write", "RegistryWrite", 200), ("service", "ServiceConnect", 200), ("read", "RegistryRead", 401)):
        hub.admin("policy", "create", policy, "--rights", rights)
        assert hub.rest("GET", path("configurations"), token=hub.service_token(policy)).status == status


def test_what_happens_while_the_hub_is_down_is_made_good(new_hub):
    hub = new_hub()
    for name in ("dn1", "dn2"):
        device(hub, name, env="dn")
    put(hub, "dn", document(targetCondition="tags.env='dn'"))
    assert until(lambda: status(hub, "dn1") == status(hub, "dn2") == {"dn": "Applied"})
    hub.process.kill()
    hub.stop()
    hub.admin("twin", "update", "dn1", '{"tags":{"env":null}}')
    hub.start()
    assert until(lambda: status(hub, "dn1") == {} and desired(hub, "dn1") == {})
    assert status(hub, "dn2") == {"dn": "Applied"}
    delete(hub, "dn")
    hub.restart()
    assert until(lambda: status(hub, "dn2") == {} and desired(hub, "dn2") == {})
