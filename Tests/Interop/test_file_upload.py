"""File upload with azure-iot-device and azure-storage-blob, as they come from PyPI."""

import hashlib
import io
import os

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.iot.device import IoTHubDeviceClient, exceptions
from azure.storage.blob import BlobBlock, BlobClient, ContentSettings
from harness.rest import path
from harness.process import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def dial(hub, trust):
    made = []

    def make(device, key=None):
        text = f"HostName={hub.name};DeviceId={device.name};SharedAccessKey={key or device.key}"
        made.append(IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=trust, auto_connect=False, connection_retry=False))
        return made[-1]

    yield make
    for client in made:
        client.shutdown()


def blob(info, **named):
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    return BlobClient.from_blob_url(url, retry_total=0, **named)


def notices(hub):
    answer = hub.rest("GET", path("messages", "serviceBound", "filenotifications"))
    if answer.status == 204:
        return []
    hub.rest("DELETE", path("messages", "serviceBound", "filenotifications", answer.header("ETag").strip('"')))
    return answer.json


@pytest.mark.parametrize("name", ["plain.txt", "a/b c/ü%20+&#?.bin", "deep/er/and/deeper"])
def test_the_story_as_the_documentation_tells_it(hub, dial, name):
    device = hub.create()
    client = dial(device)
    info = client.get_storage_info_for_blob(name)
    assert info["hostName"] == hub.name and info["blobName"] == f"{device.name}/{name}"
    if "#" in name:  # such a name has to be encoded before it is a URL
        from urllib.parse import quote
        info["blobName"] = quote(info["blobName"])
    body = os.urandom(100_000)
    with blob(info) as target:
        answer = target.upload_blob(body, overwrite=True)
        assert answer["etag"] and answer["last_modified"]
        assert target.download_blob().readall() == body
        properties = target.get_blob_properties()
        assert (properties.size, properties.etag, properties.blob_type) == (len(body), answer["etag"], "BlockBlob")
        assert target.exists()
    client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
    (notice,) = notices(hub)
    assert (notice["deviceId"], notice["blobName"], notice["blobSizeInBytes"]) == (device.name, f"{device.name}/{name}", len(body))
    with pytest.raises(exceptions.ClientError):
        client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("validate", [False, True])
def test_large_ones_go_in_blocks(hub, dial, concurrency, validate):
    info = dial(hub.create()).get_storage_info_for_blob("large.bin")
    body = os.urandom(3_000_001)
    sizes = dict(max_single_put_size=64 << 10, max_block_size=256 << 10, max_single_get_size=512 << 10, max_chunk_get_size=256 << 10)
    with blob(info, **sizes) as target:
        target.upload_blob(io.BytesIO(body), max_concurrency=concurrency, validate_content=validate)
        assert target.download_blob(max_concurrency=concurrency, validate_content=validate).readall() == body
        assert target.download_blob(offset=1_000_000, length=777).readall() == body[1_000_000:1_000_777]
        target.upload_blob(iter([body[:100_000], body[100_000:]]), overwrite=True, max_concurrency=concurrency)  # of unknown length
        assert hashlib.sha256(target.download_blob().readall()).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("size", [10, 300_000], ids=["whole", "blocks"])
def test_settings_and_metadata(hub, dial, size):
    with blob(dial(hub.create()).get_storage_info_for_blob("described"), max_single_put_size=64 << 10, max_block_size=64 << 10) as target:
        settings = ContentSettings(content_type="text/csv", content_language="en", cache_control="no-cache")
        target.upload_blob(b"x" * size, content_settings=settings, metadata={"site": "R43", "shift": "2"})
        got = target.get_blob_properties()
        assert (got.content_settings.content_type, got.content_settings.content_language, got.content_settings.cache_control) == (
            "text/csv", "en", "no-cache")
        assert got.metadata == {"site": "R43", "shift": "2"} and got.size == size
        assert target.download_blob().properties.content_settings.content_type == "text/csv"


def test_small_ones_are_checked(hub, dial):
    with blob(dial(hub.create()).get_storage_info_for_blob("checked")) as target:
        target.upload_blob(b"checked", validate_content=True)
        assert target.download_blob(validate_content=True).readall() == b"checked"
        target.upload_blob(b"", overwrite=True)
        assert target.download_blob().readall() == b""


def test_overwriting_and_conditions(hub, dial):
    with blob(dial(hub.create()).get_storage_info_for_blob("x")) as target:
        with pytest.raises(ResourceNotFoundError):
            target.download_blob()
        assert not target.exists()
        first = target.upload_blob(b"first")
        with pytest.raises(ResourceExistsError):
            target.upload_blob(b"second")
        target.upload_blob(b"second", overwrite=True, etag=first["etag"], match_condition=MatchConditions.IfNotModified)
        with pytest.raises(ResourceModifiedError):
            target.upload_blob(b"third", overwrite=True, etag=first["etag"], match_condition=MatchConditions.IfNotModified)
        assert target.download_blob().readall() == b"second"


def test_blocks_by_hand(hub, dial):
    with blob(dial(hub.create()).get_storage_info_for_blob("by hand")) as target:
        for name in ("c", "a", "b"):
            target.stage_block(name, name.encode() * 1000)
        target.commit_block_list([BlobBlock("a"), BlobBlock("b"), BlobBlock("c")])
        target.stage_block("b", b"new")
        target.commit_block_list([BlobBlock("c"), BlobBlock("b")])
        assert target.download_blob().readall() == b"c" * 1000 + b"new"
        with pytest.raises(HttpResponseError) as caught:
            target.commit_block_list([BlobBlock("nowhere")])
        assert caught.value.error_code == "InvalidBlockList"


def test_what_fails_is_told_so(hub, dial):
    device = hub.create()
    client = dial(device)
    info = client.get_storage_info_for_blob("x")
    with blob({**info, "sasToken": info["sasToken"].replace("sp=rw", "sp=r")}) as target:
        with pytest.raises(HttpResponseError) as caught:
            target.upload_blob(b"x")
        assert (caught.value.status_code, caught.value.error_code) == (403, "AuthenticationFailed")
    client.notify_blob_upload_status(info["correlationId"], False, 500, "it went wrong")
    assert notices(hub) == []
    for number in range(10):
        client.get_storage_info_for_blob(f"f{number}")
    with pytest.raises(exceptions.ClientError):
        client.get_storage_info_for_blob("one more")
    with pytest.raises(exceptions.ClientError):
        dial(device, key="A" * 43 + "=").get_storage_info_for_blob("x")


def test_a_device_with_a_certificate(hub, trust, tmp_path):
    from azure.iot.device import X509
    run([hub.binary, "cert", "gen-root", "--dir", tmp_path], check=0)
    run([hub.binary, "cert", "gen-device", "cert-up", "--dir", tmp_path], check=0)
    certificate, key = tmp_path / "cert-up.cert.pem", tmp_path / "cert-up.key.pem"
    thumbprint = run([hub.binary, "cert", "thumbprint", certificate], check=0).stdout.split()[0]
    hub.admin("device", "create", "cert-up", "--auth", "thumbprint", "--primary-thumbprint", thumbprint)
    client = IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(certificate), str(key)), hub.name, "cert-up", server_verification_cert=trust, auto_connect=False)
    try:
        info = client.get_storage_info_for_blob("x")
        with blob(info) as target:
            target.upload_blob(b"x")
        client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        assert [notice["deviceId"] for notice in notices(hub)] == ["cert-up"]
    finally:
        client.shutdown()
