"""azure-iothub-provisioningserviceclient, as it comes from PyPI, against the provisioning service's API for services."""

import os

import pytest
from harness.dps import Dps, derived
from harness.hub import Hub
from harness.process import run
from provisioningserviceclient import ProvisioningServiceClient, ProvisioningServiceError
from provisioningserviceclient.models import (
    AttestationMechanism, BulkEnrollmentOperation, BulkEnrollmentOperationResult, DeviceCapabilities, EnrollmentGroup,
    IndividualEnrollment, InitialTwin, QuerySpecification)
from provisioningserviceclient.protocol.models import CustomAllocationDefinition, ReprovisionPolicy, SymmetricKeyAttestation

KEY = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
OTHER = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")


@pytest.fixture(scope="module")
def dps(iotstream, certificates):
    made = Dps(iotstream, certificates)
    yield made
    assert made.process.running(), made.process.log
    made.remove()


@pytest.fixture
def service(dps, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(dps.ca))
    return ProvisioningServiceClient.create_from_connection_string(
        f"HostName={dps.name}:{dps.https};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={dps.owner_key()}")


def keys(primary=None, secondary=None):
    return AttestationMechanism(
        type="symmetricKey", symmetric_key=SymmetricKeyAttestation(primary_key=primary, secondary_key=secondary) if primary else None)


def refused(status, call, *arguments):
    with pytest.raises(ProvisioningServiceError) as caught:
        call(*arguments)
    assert f"Service Error {status} " in str(caught.value), caught.value


def test_an_individual_enrollment_from_creation_to_deletion(service):
    wanted = IndividualEnrollment.create(
        "sdk-07", keys(KEY, OTHER), device_id="press-7", initial_twin=InitialTwin({"stage": "test"}, {"interval": 5}),
        reprovision_policy=ReprovisionPolicy(update_hub_assignment=True, migrate_device_data=False), allocation_policy="static",
        iot_hubs=["one.example"])
    wanted.capabilities = DeviceCapabilities.create(True)
    made = service.create_or_update(wanted)
    assert made.registration_id == "sdk-07" and made.device_id == "press-7" and made.provisioning_status == "enabled"
    assert made.attestation.symmetric_key.primary_key == KEY and made.capabilities.iot_edge
    assert made.initial_twin.tags == {"stage": "test"} and made.initial_twin.desired_properties == {"interval": 5}
    assert made.created_date_time_utc == made.last_updated_date_time_utc
    read = service.get_individual_enrollment("SDK-07")
    assert read.etag == made.etag and read.attestation.symmetric_key.primary_key is None
    assert read.iot_hubs == ["one.example"] and read.allocation_policy == "static" and not read.reprovision_policy.migrate_device_data
    secrets = service.get_individual_enrollment_attestation_mechanism("sdk-07")
    assert (secrets.symmetric_key.primary_key, secrets.symmetric_key.secondary_key) == (KEY, OTHER)
    # What was read goes back, changed in one place, under its etag.
    read.iot_hubs = ["two.example"]
    changed = service.create_or_update(read)
    assert changed.etag != made.etag and changed.attestation.symmetric_key.primary_key == KEY and changed.iot_hubs == ["two.example"]
    refused(412, service.create_or_update, read)
    refused(412, service.delete, read)
    service.delete(service.get_individual_enrollment("sdk-07"))
    refused(404, service.get_individual_enrollment, "sdk-07")
    refused(404, service.delete_individual_enrollment_by_param, "sdk-07")
    refused(400, service.create_or_update, IndividualEnrollment.create("bad id", keys()))


def test_groups_and_certificates(service, iotstream, tmp_path):
    run([iotstream, "cert", "gen-root", "--dir", tmp_path], check=0)
    run([iotstream, "cert", "gen-device", "sdk-08", "--dir", tmp_path], check=0)
    root, leaf = ((tmp_path / name).read_text() for name in ("root.ca.cert.pem", "sdk-08.cert.pem"))
    made = service.create_or_update(IndividualEnrollment.create("sdk-08", AttestationMechanism.create_with_x509_client_certs(leaf)))
    slot = made.attestation.x509.client_certificates.primary
    assert slot.certificate is None and "sdk-08" in slot.info.subject_name and len(slot.info.sha256_thumbprint) == 64
    assert slot.info.not_before_utc < slot.info.not_after_utc
    # It comes back with what is known of the certificate, and keeps the certificate.
    again = service.create_or_update(made)
    assert again.attestation.x509.client_certificates.primary.info.sha1_thumbprint == slot.info.sha1_thumbprint
    service.delete(again)
    group = service.create_or_update(
        EnrollmentGroup.create("sdk-line", AttestationMechanism.create_with_x509_signing_certs(root), provisioning_status="disabled"))
    assert group.enrollment_group_id == "sdk-line" and group.provisioning_status == "disabled"
    assert service.get_enrollment_group("sdk-line").attestation.type == "x509"
    service.delete_enrollment_group_by_param("sdk-line", group.etag)
    refused(404, service.get_enrollment_group, "sdk-line")
    custom = EnrollmentGroup.create("sdk-line", keys(), allocation_policy="custom")
    refused(400, service.create_or_update, custom)
    custom.custom_allocation_definition = CustomAllocationDefinition(webhook_url="https://h.example/x", api_version="2019-03-31")
    service.create_or_update(custom)
    assert len(service.get_enrollment_group_attestation_mechanism("sdk-line").symmetric_key.primary_key) == 88
    service.delete_enrollment_group_by_param("sdk-line")


def test_bulk_and_queries(service):
    names = [f"sdk-bulk-{number}" for number in range(10)]
    made = service.run_bulk_operation(BulkEnrollmentOperation("create", [IndividualEnrollment.create(name, keys()) for name in names]))
    assert isinstance(made, BulkEnrollmentOperationResult) and made.is_successful and not made.errors
    again = service.run_bulk_operation(BulkEnrollmentOperation("create", [IndividualEnrollment.create(names[0], keys())]))
    assert not again.is_successful and again.errors[0].registration_id == names[0] and again.errors[0].error_code == 409201
    pages = list(service.create_individual_enrollment_query(QuerySpecification("SELECT * FROM enrollments"), page_size=4))
    assert [len(page) for page in pages] == [4, 4, 2]
    assert sorted(one.registration_id for page in pages for one in page) == sorted(names)
    assert list(service.create_enrollment_group_query(QuerySpecification("SELECT * FROM enrollmentGroups"))) == []
    refused(400, next, service.create_individual_enrollment_query(QuerySpecification("SELECT * FROM devices")))
    entries = [IndividualEnrollment.create(name, keys()) for name in names]
    refused(400, service.run_bulk_operation, BulkEnrollmentOperation("delete", [*entries, IndividualEnrollment.create("x", keys())]))
    assert service.run_bulk_operation(BulkEnrollmentOperation("delete", entries)).is_successful


def test_registrations(service, dps, keep, iotstream, certificates):
    hub = keep(Hub(iotstream, certificates))
    dps.link(hub)
    service.create_or_update(EnrollmentGroup.create("sdk-line", keys(KEY, OTHER)))
    with dps.device("sdk-dev", derived(KEY, "sdk-dev")) as device:
        told = device.assigned()
    state = service.get_registration_state("sdk-dev")
    assert state.assigned_hub == hub.name and state.device_id == "sdk-dev" and state.status == "assigned"
    assert state.substatus == "initialAssignment" and state.etag == told["etag"]
    # The package's own query of states calls its lower half with a wrong argument; the lower half works.
    assert [one.registration_id for one in service._runtime_client.query_device_registration_states("sdk-line")] == ["sdk-dev"]
    service.delete(state)
    refused(404, service.get_registration_state, "sdk-dev")
    service.delete_enrollment_group_by_param("sdk-line")


def test_keys_that_are_not_the_policys(service, dps):
    stranger = ProvisioningServiceClient(f"{dps.name}:{dps.https}", "provisioningserviceowner", OTHER)
    refused(401, stranger.get_individual_enrollment, "x")
    refused(401, ProvisioningServiceClient(f"{dps.name}:{dps.https}", "nobody", dps.owner_key()).get_individual_enrollment, "x")
