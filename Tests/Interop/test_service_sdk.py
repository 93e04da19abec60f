"""azure-iot-hub's registry manager, as it comes from PyPI."""

import base64
import hashlib
import os

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    AuthenticationMechanism, ExportImportDevice, QuerySpecification, SymmetricKey, Twin, TwinProperties)
from harness.rest import path
from msrest.exceptions import HttpOperationError

THUMBPRINTS = ("0123456789ABCDEF0123456789ABCDEF01234567", "0123456789abcdef" * 4)


@pytest.fixture
def registry(hub, trust):
    return IoTHubRegistryManager.from_connection_string(hub.connection_string())


@pytest.fixture
def name(request, hub):
    """An identifier of this test's own."""
    made = "svc-" + hashlib.sha1(request.node.name.encode()).hexdigest()[:10]
    yield made
    hub.rest("DELETE", path("devices", made), headers={"If-Match": "*"})


def key():
    return base64.b64encode(os.urandom(32)).decode()


def refused(status, reason, call, *arguments, **named):
    """The only thing that the package passes on is the status and its reason phrase."""
    with pytest.raises(HttpOperationError) as caught:
        call(*arguments, **named)
    assert caught.value.response.status_code == status
    assert reason in str(caught.value)


def test_a_device_with_keys_from_creation_to_deletion(registry, name):
    primary, secondary = key(), key()
    made = registry.create_device_with_sas(name, primary, secondary, "enabled")
    assert made.device_id == name and made.status == "enabled" and made.connection_state == "Disconnected"
    assert made.authentication.type == "sas"
    assert (made.authentication.symmetric_key.primary_key, made.authentication.symmetric_key.secondary_key) == (primary, secondary)
    assert made.generation_id.isdigit() and made.etag

    shown = registry.get_device(name)
    assert shown.as_dict() == made.as_dict()

    fresh = key()
    changed = registry.update_device_with_sas(name, made.etag, fresh, secondary, "disabled", status_reason="moved to line 4")
    assert changed.etag != made.etag and changed.generation_id == made.generation_id
    assert (changed.status, changed.status_reason) == ("disabled", "moved to line 4")
    assert registry.get_device(name).authentication.symmetric_key.primary_key == fresh

    registry.delete_device(name)
    refused(404, "Not Found", registry.get_device, name)
    refused(404, "Not Found", registry.delete_device, name)


def test_keys_that_are_not_given_are_made(registry, name):
    made = registry.create_device_with_sas(name, None, None, "enabled")
    keys = made.authentication.symmetric_key
    assert len(base64.b64decode(keys.primary_key)) == len(base64.b64decode(keys.secondary_key)) == 32
    assert keys.primary_key != keys.secondary_key


def test_a_name_is_given_once_and_a_new_life_is_another_one(registry, name):
    first = registry.create_device_with_sas(name, None, None, "enabled")
    refused(409, "Conflict", registry.create_device_with_sas, name, None, None, "enabled")
    registry.delete_device(name)
    assert registry.create_device_with_sas(name, None, None, "enabled").generation_id != first.generation_id


def test_a_device_with_thumbprints(registry, name):
    made = registry.create_device_with_x509(name, *THUMBPRINTS, "enabled")
    assert made.authentication.type == "selfSigned"
    prints = made.authentication.x509_thumbprint
    assert [prints.primary_thumbprint.lower(), prints.secondary_thumbprint.lower()] == [one.lower() for one in THUMBPRINTS]
    keys = made.authentication.symmetric_key
    assert keys is None or (keys.primary_key, keys.secondary_key) == (None, None)
    changed = registry.update_device_with_x509(name, made.etag, THUMBPRINTS[1], THUMBPRINTS[1], "enabled")
    assert changed.authentication.x509_thumbprint.primary_thumbprint.lower() == THUMBPRINTS[1]
    refused(400, "Bad Request", registry.update_device_with_x509, name, changed.etag, "not hex", THUMBPRINTS[0], "enabled")


def test_a_device_with_a_certificate_authority(registry, name):
    made = registry.create_device_with_certificate_authority(name, "enabled")
    assert made.authentication.type == "certificateAuthority"
    changed = registry.update_device_with_certificate_authority(name, made.etag, "disabled")
    assert changed.status == "disabled"


def test_the_kind_of_authentication_can_change(registry, name):
    made = registry.create_device_with_x509(name, *THUMBPRINTS, "enabled")
    changed = registry.update_device_with_sas(name, made.etag, key(), key(), "enabled")
    assert changed.authentication.type == "sas"
    prints = changed.authentication.x509_thumbprint
    assert prints is None or (prints.primary_thumbprint, prints.secondary_thumbprint) == (None, None)


def test_whoever_comes_late_with_an_etag_is_refused(registry, name):
    old = registry.create_device_with_sas(name, None, None, "enabled")
    new = registry.update_device_with_sas(name, old.etag, key(), key(), "enabled")
    refused(412, "Precondition Failed", registry.update_device_with_sas, name, old.etag, key(), key(), "disabled")
    refused(412, "Precondition Failed", registry.delete_device, name, old.etag)
    assert registry.get_device(name).as_dict() == new.as_dict()
    # No etag is "whatever there is".
    newest = registry.update_device_with_sas(name, None, key(), key(), "enabled")
    registry.delete_device(name, newest.etag)


def test_an_update_of_nobody(registry, name):
    refused(404, "Not Found", registry.update_device_with_sas, name, None, key(), key(), "enabled")


def test_what_is_no_device_is_refused(registry, name):
    refused(400, "Bad Request", registry.create_device_with_sas, name, "short", "short", "enabled")
    refused(400, "Bad Request", registry.create_device_with_sas, name, key(), key(), "asleep")
    refused(400, "Bad Request", registry.create_device_with_sas, "a b", key(), key(), "enabled")
    refused(400, "Bad Request", registry.create_device_with_sas, "x" * 129, key(), key(), "enabled")
    refused(404, "Not Found", registry.get_device, name)


def test_identifiers_with_every_character(registry):
    for odd in ("aZ09-.+%_#*?!(),:=@$'", "%2F", "?api-version=1", "a" * 128):
        made = registry.create_device_with_sas(odd, None, None, "enabled")
        try:
            assert made.device_id == odd
            assert registry.get_device(odd).device_id == odd
        finally:
            registry.delete_device(odd)


def test_edge_devices_and_their_children(registry, name):
    gateway = registry.create_device_with_sas(name, None, None, "enabled", iot_edge=True)
    assert gateway.capabilities.iot_edge is True
    assert gateway.device_scope == f"ms-azure-iot-edge://{name}-{gateway.generation_id}"
    child = registry.create_device_with_sas(name + "-child", None, None, "enabled", device_scope=gateway.device_scope)
    try:
        assert child.device_scope == gateway.device_scope
    finally:
        registry.delete_device(name + "-child")


# --- modules ------------------------------------------------------------------------------------------------------


def test_modules(registry, name):
    registry.create_device_with_sas(name, None, None, "enabled")
    primary, secondary = key(), key()
    made = registry.create_module_with_sas(name, "mod1", "somebody", primary, secondary)
    assert (made.device_id, made.module_id, made.managed_by) == (name, "mod1", "somebody")
    assert made.authentication.symmetric_key.primary_key == primary
    registry.create_module_with_x509(name, "mod2", "", *THUMBPRINTS)
    registry.create_module_with_certificate_authority(name, "mod3", "")
    assert sorted(one.module_id for one in registry.get_modules(name)) == ["mod1", "mod2", "mod3"]
    refused(409, "Conflict", registry.create_module_with_sas, name, "mod1", "", primary, secondary)

    changed = registry.update_module_with_sas(name, "mod1", "another", made.etag, secondary, primary)
    assert changed.managed_by == "another" and changed.authentication.symmetric_key.primary_key == secondary
    refused(412, "Precondition Failed", registry.update_module_with_sas, name, "mod1", "x", made.etag, primary, secondary)
    refused(412, "Precondition Failed", registry.delete_module, name, "mod1", made.etag)
    assert registry.get_module(name, "mod1").as_dict() == changed.as_dict()

    registry.delete_module(name, "mod1")
    refused(404, "Not Found", registry.get_module, name, "mod1")
    registry.delete_device(name)
    refused(404, "Not Found", registry.get_module, name, "mod2")


def test_modules_of_nobody(registry, name):
    refused(404, "Not Found", registry.create_module_with_sas, name, "mod1", "", key(), key())


# --- many at once -------------------------------------------------------------------------------------------------


def entry(name, mode=None, status="enabled", etag=None):
    return ExportImportDevice(
        id=name, import_mode=mode, status=status, e_tag=etag,
        authentication=AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=key(), secondary_key=key())))


def test_bulk(registry, name):
    names = [f"{name}-{number}" for number in range(100)]
    result = registry.bulk_create_or_update_devices([entry(one, "create") for one in names])
    assert result.is_successful and not result.errors
    assert {one.device_id for one in registry.get_devices()} >= set(names)

    # Some succeed and some do not; each for itself.
    result = registry.bulk_create_or_update_devices(
        [entry(names[0], "create"), entry(names[1], "update", "disabled"), entry(name + "-nobody", "update"), entry(names[2], "delete")])
    assert not result.is_successful
    assert sorted(one.device_id for one in result.errors) == sorted([names[0], name + "-nobody"])
    assert {one.device_id: one.error_code for one in result.errors}[names[0]] == "DeviceAlreadyExists"
    assert registry.get_device(names[1]).status == "disabled"
    refused(404, "Not Found", registry.get_device, names[2])

    result = registry.bulk_create_or_update_devices([entry(names[1], "updateIfMatchETag", etag="bm90IGl0")])
    assert not result.is_successful and result.errors[0].device_id == names[1]
    result = registry.bulk_create_or_update_devices([entry(one, "delete") for one in names if one != names[2]])
    assert result.is_successful
    assert not {one.device_id for one in registry.get_devices()} & set(names)


def test_more_than_a_hundred_are_too_many(registry, name):
    result = registry.bulk_create_or_update_devices([entry(f"{name}-{number}", "create") for number in range(101)])
    assert not getattr(result, "is_successful", False)
    refused(404, "Not Found", registry.get_device, f"{name}-0")


# --- lists, statistics --------------------------------------------------------------------------------------------


def test_lists_and_statistics(registry, hub, name):
    before = registry.get_device_registry_statistics()
    online = registry.get_service_statistics().connected_device_count
    names = [f"{name}-{number}" for number in range(5)]
    try:
        for number, one in enumerate(names):
            registry.create_device_with_sas(one, None, None, "disabled" if number == 4 else "enabled")
        after = registry.get_device_registry_statistics()
        assert after.total_device_count == before.total_device_count + 5
        assert after.enabled_device_count == before.enabled_device_count + 4
        assert after.disabled_device_count == before.disabled_device_count + 1
        assert len(registry.get_devices(2)) == 2
        assert {one.device_id for one in registry.get_devices(1000)} >= set(names)
        device = hub.create(name)
        with device.login():
            assert registry.get_service_statistics().connected_device_count == online + 1
            assert registry.get_device(name).connection_state == "Connected"
    finally:
        for one in names:
            registry.delete_device(one)


# --- rights -------------------------------------------------------------------------------------------------------


def test_rights(hub, trust, registry, name):
    made = registry.create_device_with_sas(name, None, None, "enabled")

    def manager(policy, *rights):
        hub.admin("policy", "create", policy, "--rights", ",".join(rights))
        return IoTHubRegistryManager.from_connection_string(hub.connection_string(policy))

    reader, writer = manager("registryRead", "RegistryRead"), manager("registryReadWrite", "RegistryRead", "RegistryWrite")
    service, device = manager("service", "ServiceConnect"), manager("device", "DeviceConnect")
    assert reader.get_device(name).as_dict() == made.as_dict()
    refused(401, "Unauthorized", reader.delete_device, name)
    refused(401, "Unauthorized", reader.create_device_with_sas, name + "x", None, None, "enabled")
    refused(401, "Unauthorized", service.get_device, name)
    service.get_service_statistics()
    refused(401, "Unauthorized", reader.get_service_statistics)
    refused(401, "Unauthorized", device.get_device, name)
    writer.update_device_with_sas(name, None, key(), key(), "enabled")
    string = hub.connection_string().rpartition("SharedAccessKey=")[0] + "SharedAccessKey=" + key()
    refused(401, "Unauthorized", IoTHubRegistryManager.from_connection_string(string).get_device, name)


def test_a_port_in_the_connection_string(hub, registry, name):
    """Our strings have none on 443; other hubs' have one, and it is part of what this package signs."""
    string = hub.connection_string().replace(f"HostName={hub.name};", f"HostName={hub.name}:443;")
    assert string != hub.connection_string()
    other = IoTHubRegistryManager.from_connection_string(string)
    assert other.create_device_with_sas(name, None, None, "enabled").device_id == name


def test_a_certificate_that_is_not_trusted(hub, registry, monkeypatch, name):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    stranger = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    stranger.protocol.config.retry_policy.policy.total = 0
    with pytest.raises(Exception, match="(?i)certificate"):
        stranger.create_device_with_sas(name, None, None, "enabled")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.ca))
    refused(404, "Not Found", registry.get_device, name)


# --- twins --------------------------------------------------------------------------------------------------------


def wish(tags=None, desired=None, etag=None):
    return Twin(tags=tags, properties=None if desired is None else TwinProperties(desired=desired), etag=etag)


def test_a_twin_from_its_first_day_on(registry, name):
    made = registry.create_device_with_sas(name, None, None, "enabled")
    twin = registry.get_twin(name)
    assert (twin.device_id, twin.etag, twin.version, twin.device_etag) == (name, "AAAAAAAAAAE=", 2, made.etag)
    assert (twin.status, twin.connection_state, twin.authentication_type) == ("enabled", "Disconnected", "sas")
    assert twin.tags is None and twin.properties.desired["$version"] == 1 and twin.properties.reported["$version"] == 1
    assert twin.cloud_to_device_message_count == 0 and twin.capabilities.iot_edge is False
    assert not twin.additional_properties or set(twin.additional_properties) <= {"modelId"}

    changed = registry.update_twin(name, wish({"plant": "R43", "gone": None}, {"speed": {"low": 1, "high": 9}}), twin.etag)
    assert changed.tags == {"plant": "R43"} and changed.properties.desired["speed"] == {"low": 1, "high": 9}
    assert changed.etag == "AAAAAAAAAAI=" and changed.version == 3 and changed.properties.desired["$version"] == 2
    changed = registry.update_twin(name, wish(desired={"speed": {"low": None}}))
    assert changed.properties.desired["speed"] == {"high": 9} and changed.tags == {"plant": "R43"}
    assert changed.properties.desired["$metadata"]["speed"]["$lastUpdatedVersion"] == 3
    assert registry.get_twin(name).as_dict() == changed.as_dict()

    replaced = registry.replace_twin(name, wish(desired={"only": True}))
    assert replaced.tags is None and {key for key in replaced.properties.desired if key[0] != "$"} == {"only"}


def test_a_twin_that_was_read_can_be_written_back(registry, name):
    registry.create_device_with_sas(name, None, None, "enabled")
    twin = registry.update_twin(name, wish({"a": 1}, {"b": 2}))
    twin.tags["a"] = 5
    changed = registry.replace_twin(name, twin, twin.etag)
    assert changed.tags == {"a": 5} and changed.properties.desired["b"] == 2


def test_whoever_comes_late_with_a_twins_etag_is_refused(registry, name):
    registry.create_device_with_sas(name, None, None, "enabled")
    old = registry.get_twin(name)
    registry.update_twin(name, wish({"a": 1}), old.etag)
    refused(412, "Precondition Failed", registry.update_twin, name, wish({"a": 2}), old.etag)
    refused(412, "Precondition Failed", registry.replace_twin, name, wish({"a": 2}), old.etag)
    assert registry.get_twin(name).tags == {"a": 1}
    refused(400, "Bad Request", registry.update_twin, name, wish({"a b": 1}))
    refused(404, "Not Found", registry.get_twin, name + "-nobody")
    refused(404, "Not Found", registry.update_twin, name + "-nobody", wish({"a": 1}))


def test_twins_of_modules(registry, name):
    registry.create_device_with_sas(name, None, None, "enabled")
    registry.create_module_with_sas(name, "mod1", "", None, None)
    twin = registry.get_module_twin(name, "mod1")
    assert (twin.device_id, twin.module_id, twin.version) == (name, "mod1", 2)
    changed = registry.update_module_twin(name, "mod1", wish({"m": 1}, {"d": 1}), twin.etag)
    assert changed.tags == {"m": 1} and registry.get_twin(name).tags is None
    refused(412, "Precondition Failed", registry.update_module_twin, name, "mod1", wish({"m": 2}), twin.etag)
    assert registry.replace_module_twin(name, "mod1", wish({"n": 1})).tags == {"n": 1}
    refused(404, "Not Found", registry.get_module_twin, name, "mod2")


# --- queries ------------------------------------------------------------------------------------------------------


def test_queries_and_their_pages(registry, name):
    names = [f"{name}-{number:03d}" for number in range(100)]
    made = registry.bulk_create_or_update_devices(
        [ExportImportDevice(id=one, import_mode="create", status="enabled", tags={"of": name, "number": number}) for number, one in enumerate(names)])
    assert made.is_successful, made.errors
    try:
        found, pages, token = [], 0, None
        while True:
            page = registry.query_iot_hub(QuerySpecification(query=f"SELECT * FROM devices WHERE tags.of = '{name}'"), token, 30)
            found += page.items
            pages += 1
            token = page.continuation_token
            if not token:
                break
        assert [twin.device_id for twin in found] == names and pages == 4
        assert found[7].tags == {"of": name, "number": 7} and found[7].properties.desired["$version"] == 1

        page = registry.query_iot_hub(QuerySpecification(query=f"SELECT COUNT() AS n FROM devices WHERE tags.of = '{name}'"))
        assert page.items[0].additional_properties == {"n": 100}
        page = registry.query_iot_hub(QuerySpecification(query=f"SELECT deviceId, tags.number FROM devices WHERE deviceId = '{names[3]}'"))
        assert (page.items[0].device_id, page.items[0].additional_properties) == (names[3], {"number": 3})
        refused(400, "Bad Request", registry.query_iot_hub, QuerySpecification(query="SELECT * FROM nowhere"))
    finally:
        registry.bulk_create_or_update_devices([ExportImportDevice(id=one, import_mode="delete") for one in names])
