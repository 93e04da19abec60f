"""Files that devices upload: the calls around it, and the links by the storage protocol (mqtt-device 15)."""

import base64
import hashlib
import os
import pathlib
import re
import shutil
import urllib.parse

import pytest
from harness import rest, tls, waiting
from harness.process import run
from harness.rest import path

CONTAINER = "iotstream-uploads"
BLOB = {"x-ms-blob-type": "BlockBlob"}


class Link:
    """What the hub says of an upload, and requests by its link."""

    def __init__(self, hub, device, answer):
        self.hub, self.device, self.document = hub, device, answer.json
        self.correlation = self.document["correlationId"]
        self.name = self.document["blobName"]
        self.query = self.document["sasToken"]

    @property
    def path(self):
        return f"/{self.document['containerName']}/" + urllib.parse.quote(self.name, safe="/")

    def target(self, more="", query=None):
        return self.path + (self.query if query is None else query) + more

    def ask(self, method, body=None, headers=None, more="", query=None):
        with self.hub.connect() as connection:
            return connection.exchange(method, self.target(more, query), headers, body)

    def put(self, body, **headers):
        return self.ask("PUT", body, {**BLOB, **headers})

    def put_block(self, number, body, **headers):
        return self.ask("PUT", body, headers, more="&comp=block&blockid=" + urllib.parse.quote(block_id(number), safe=""))

    def put_list(self, entries, **headers):
        inside = "".join(f"<{place}>{block_id(number)}</{place}>" for place, number in entries)
        return self.ask("PUT", f'<?xml version="1.0" encoding="utf-8"?>\n<BlockList>{inside}</BlockList>'.encode(), headers, more="&comp=blocklist")

    def get(self, **headers):
        return self.ask("GET", headers=headers)

    def report(self, success=True, status=204, **more):
        document = {"correlationId": self.correlation, "isSuccess": success, "statusCode": 200, "statusDescription": "OK", **more}
        answer = self.hub.rest("POST", path("devices", self.device.name, "files", "notifications"), document, None, self.device.token())
        assert answer.status == status, answer
        return answer

    @property
    def file(self):
        device, name = self.name.split("/", 1)
        return directory(self.hub) / encoded(device) / name


def block_id(number):
    return base64.b64encode(b"block %06d" % number).decode()


def encoded(device):
    name = device.replace("%", "%25")
    return "%2E" + name[1:] if name.startswith(".") else name


def directory(hub):
    return pathlib.Path(hub.state) / "uploads"


def begin(hub, device, name="file.bin", status=200, token=None):
    answer = hub.rest("POST", path("devices", device.name, "files"), {"blobName": name}, None, token or device.token())
    assert answer.status == status, answer
    return Link(hub, device, answer) if status == 200 else answer


def leftovers(hub):
    """Everything below the directory that is not a device's file."""
    return [str(one) for hidden in (".partial", ".blocks") for one in (directory(hub) / hidden).rglob("*") if one.is_file() and one.name != "map"]


def configured(new_hub, tmp_path, **keys):
    file = tmp_path / "hub.conf"
    file.write_text("".join(f"{key.replace('_', '-')} {value}\n" for key, value in keys.items()))
    return new_hub(options=["--config", file])


def refused(answer, status, code):
    assert (answer.status, answer.header("x-ms-error-code")) == (status, code), answer
    if answer.body:
        assert answer.header("Content-Type") == "application/xml"
        assert answer.body.startswith(b'<?xml version="1.0" encoding="utf-8"?><Error><Code>' + code.encode() + b"</Code><Message>")


def test_an_upload_from_beginning_to_end(hub):
    device = hub.create()
    link = begin(hub, device, "a/b c.txt")
    document = link.document
    assert document["hostName"] == f"{hub.name}:{hub.https}"
    assert document["containerName"] == CONTAINER and document["blobName"] == f"{device.name}/a/b c.txt"
    assert re.fullmatch(r"\?sv=[0-9-]+&sr=b&se=[0-9-]+T[0-9A-F%]+Z&sp=rw&sig=[A-Za-z0-9%_.~-]+", document["sasToken"])
    answer = link.put(b"hello")
    assert answer.status == 201 and answer.body == b""
    for name in ("ETag", "Last-Modified", "x-ms-request-id", "x-ms-version", "Date"):
        assert answer.header(name), answer
    assert link.file.read_bytes() == b"hello"
    got = link.get(**{"x-ms-client-request-id": "mine", "x-ms-version": "2021-12-02"})
    assert (got.status, got.body, got.header("ETag")) == (200, b"hello", answer.header("ETag"))
    assert (got.header("x-ms-client-request-id"), got.header("x-ms-version")) == ("mine", "2021-12-02")
    head = link.ask("HEAD")
    assert (head.status, head.header("Content-Length"), head.header("x-ms-blob-type")) == (200, "5", "BlockBlob")
    link.report()
    batch = hub.rest("GET", path("messages", "serviceBound", "filenotifications"))
    assert batch.status == 200
    (notice,) = batch.json
    assert notice.pop("enqueuedTimeUtc").endswith("Z") and notice.pop("lastUpdatedTime").endswith("Z")
    assert notice == {"deviceId": device.name, "blobName": link.name, "blobSizeInBytes": 5,
                      "blobUri": f"https://{hub.name}:{hub.https}/{CONTAINER}/{device.name}/a/b%20c.txt"}
    assert hub.rest("GET", path("messages", "serviceBound", "filenotifications")).status == 204  # somebody holds it
    token = batch.header("ETag").strip('"')
    target = path("messages", "serviceBound", "filenotifications", token)
    assert hub.rest("POST", path("messages", "serviceBound", "filenotifications", token, "abandon")).status == 204
    assert hub.rest("DELETE", target).status == 412
    batch = hub.rest("GET", path("messages", "serviceBound", "filenotifications"))
    assert hub.rest("DELETE", path("messages", "serviceBound", "filenotifications", batch.header("ETag").strip('"'))).status == 204
    assert hub.rest("GET", path("messages", "serviceBound", "filenotifications")).status == 204
    link.report(status=404)  # only once
    link.put(b"the link itself is good for its hour")


def test_who_may_begin_and_what(hub):
    device, other = hub.create(), hub.create()
    hub.create(device.name, "m")
    module = hub.create(device.name, "n")
    target = path("devices", device.name, "files")
    for token in (other.token(), module.token(), device.token(key="A" * 44), device.token(ttl=-1000), "nonsense"):
        answer = hub.rest("POST", target, {"blobName": "x"}, None, token)
        assert (answer.status, answer.error) == (401, "IotHubUnauthorized"), answer
    assert hub.rest("POST", target, {"blobName": "x"}).status == 200  # the owner has DeviceConnect
    assert hub.rest("GET", target).status == 405
    assert hub.rest("POST", path("devices", device.name, "modules", "n", "files"), {"blobName": "x"}, None, module.token()).status == 404
    for name in ("", "/a", "a/", "a//b", ".", "..", "a/../b", "../x", "a/.", "x" * 256, "a\0b", "a\nb", "/".join("abcdefghijklmnopq"),
                 "x/" * 600 + "x", 7, None, ["a"]):
        answer = hub.rest("POST", target, {"blobName": name}, None, device.token())
        assert answer.status == 400 and answer.error in ("ArgumentInvalid", "ArgumentNull"), (name, answer)
    for body in (b"", b"{", b"[]", b"\xff"):
        assert hub.rest("POST", target, body, None, device.token()).status == 400
    assert hub.rest("POST", target, {"blobName": "x" * 255}, None, device.token()).status == 200
    assert hub.rest("POST", f"/devices/{device.name}/files", {"blobName": "x"}, None, device.token()).error == "InvalidProtocolVersion"
    hub.update(device, status="disabled")
    assert hub.rest("POST", target, {"blobName": "x"}, None, device.token()).status == 401


def test_ten_uploads_pend_and_no_more(hub):
    device = hub.create()
    links = [begin(hub, device, f"f{number}") for number in range(10)]
    answer = begin(hub, device, "one more", status=403)
    assert answer.error == "DeviceMaximumActiveFileUploadLimitExceeded"
    hub.restart()
    begin(hub, device, "one more", status=403)
    begin(hub, hub.create(), "another's")
    links[0].report(success=False)
    begin(hub, device, "one more")
    assert links[1].report(status=400).error == "InvalidStorageEndpointOrBlob"  # there is no such file
    links[1].put(b"")
    links[1].report()
    assert links[1].report(status=404).error == "FileUploadNotFound"
    links[2].correlation = "nonsense"
    assert links[2].report(status=400).error == "InvalidFileUploadCorrelationId"
    for document in ({"correlationId": links[3].correlation}, {"isSuccess": True}, {"correlationId": 7, "isSuccess": True}):
        answer = hub.rest("POST", path("devices", device.name, "files", "notifications"), document, None, device.token())
        assert answer.status == 400, answer
    other = hub.create()
    stolen = Link.__new__(Link)
    stolen.hub, stolen.device, stolen.correlation = hub, other, links[3].correlation
    stolen.report(status=404)


def test_the_links_signature_alone_decides(hub):
    device, other = hub.create(), hub.create()
    link, another = begin(hub, device, "mine.txt"), begin(hub, other, "mine.txt")
    items = dict(urllib.parse.parse_qsl(link.query[1:]))

    def query(**changed):
        return "?" + urllib.parse.urlencode({key: value for key, value in {**items, **changed}.items() if value is not None})

    assert link.ask("PUT", b"x", BLOB, query=query()).status == 201
    turned = "?" + "&".join(reversed(link.query[1:].split("&")))
    assert link.ask("PUT", b"x", BLOB, query=turned).status == 201
    wrong = base64.b64encode(bytes(32)).decode()
    for bad in ("", "?", query(sig=wrong), query(sig="x"), query(sig=None), query(se="2099-01-01T00:00:00Z"), query(se=None), query(se="x"),
                query(sp="r"), query(sp="rwd"), query(sp=None), query(sr="c"), query(sv=None), query() + "&sig=" + wrong, another.query):
        refused(link.ask("PUT", b"y" * 100_000, BLOB, query=bad), 403, "AuthenticationFailed")
        refused(link.ask("GET", query=bad), 403, "AuthenticationFailed")
    mine = link.name
    for name in (f"{device.name}/other.txt", f"{device.name}/mine.txt/", f"{device.name}/./mine.txt", f"{other.name}/../{mine}", "", "/",
                 f"/{mine}", f"{mine}%00", f"{device.name}/../{mine}", f"{other.name}/mine.txt"):
        link.name = name
        refused(link.ask("PUT", b"y", BLOB), 403, "AuthenticationFailed")
    link.name = mine
    assert link.get().body == b"x"
    # A service's or device's own token opens nothing here, and the link opens nothing else.
    with hub.connect() as connection:
        refused(connection.exchange("GET", link.path, token=hub.service_token()), 403, "AuthenticationFailed")
        refused(connection.exchange("GET", link.path, token=device.token()), 403, "AuthenticationFailed")
        assert connection.exchange("GET", path("devices", device.name) + "&" + link.query[1:]).status == 401
    refused(link.ask("DELETE"), 405, "UnsupportedHttpVerb")
    refused(link.ask("POST", b""), 405, "UnsupportedHttpVerb")
    hub.update(device, status="disabled")
    refused(link.get(), 403, "AuthenticationFailed")
    hub.update(device, status="enabled")
    assert link.get().status == 200
    hub.rest("DELETE", path("devices", device.name), headers={"If-Match": "*"})
    refused(link.get(), 403, "AuthenticationFailed")
    hub.create(device.name)  # another one of the same name
    refused(link.get(), 403, "AuthenticationFailed")
    refused(link.put(b"z"), 403, "AuthenticationFailed")


def test_a_link_is_over_after_an_hour(iotstream, certificates, keep):
    library = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        pytest.skip("libfaketime is missing")
    from harness.hub import Hub
    hub = keep(Hub(iotstream, certificates))
    device = hub.create()
    link = begin(hub, device)
    hub.stop()
    words = hub.arguments()
    from harness.hub import READY
    from harness.process import Process
    hub.process = Process(words, {"LD_PRELOAD": str(library), "FAKETIME": "+3601s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    hub.process.wait_line(READY, 20)
    refused(link.put(b"late"), 403, "AuthenticationFailed")
    answer = hub.rest("POST", path("devices", device.name, "files", "notifications"), {"correlationId": link.correlation, "isSuccess": False},
                      None, device.token(ttl=9000))
    assert (answer.status, answer.error) == (400, "ExpiredFileUploadCorrelationId"), answer


@pytest.mark.parametrize("name", [".", "..", "%2E", "..%", "a%2Fb", "a%41", "$x", "*?!(),:=@'+#;", ".partial", ".blocks"])
def test_odd_devices_stay_in_their_directories(hub, name):
    device = hub.create(name)
    link = begin(hub, device, "etc/passwd")
    assert link.put(b"odd").status == 201
    assert link.get().body == b"odd"
    assert link.file.read_bytes() == b"odd"
    everything = {str(one.relative_to(directory(hub))) for one in directory(hub).rglob("passwd")}
    assert f"{encoded(name)}/etc/passwd" in everything
    if "?" not in name and "#" not in name:  # a client that puts the name into the URL as it stands
        with hub.connect() as connection:
            assert connection.exchange("GET", f"/{CONTAINER}/{link.name}{link.query}").body == b"odd"
    with hub.connect() as connection:  # and one that encodes the slashes too
        whole = urllib.parse.quote(link.name, safe="")
        assert connection.exchange("GET", f"/{CONTAINER}/{whole}{link.query}").body == b"odd"


def test_ranges_and_conditions(hub):
    link = begin(hub, hub.create())
    body = bytes(range(256)) * 40
    etag = link.put(body).header("ETag")
    size = len(body)
    for text, first, last in (("bytes=0-0", 0, 0), ("bytes=5-", 5, size - 1), ("bytes=100-199", 100, 199), ("bytes=-7", size - 7, size - 1),
                              (f"bytes=9-{1 << 70}", 9, size - 1), (f"bytes=-{1 << 70}", 0, size - 1)):
        for field in ("Range", "x-ms-range"):
            got = link.get(**{field: text, "x-ms-range-get-content-md5": "true"})
            assert (got.status, got.header("Content-Range")) == (206, f"bytes {first}-{last}/{size}"), got
            assert got.body == body[first:last + 1]
            assert got.header("Content-MD5") == base64.b64encode(hashlib.md5(got.body).digest()).decode()
    for text in ("bytes=9-5", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5"):
        assert link.get(Range=text).body == body
    for text in (f"bytes={size}-", f"bytes={1 << 80}-", "bytes=-0"):
        answer = link.get(Range=text)
        refused(answer, 416, "InvalidRange")
        assert answer.header("Content-Range") == f"bytes */{size}"
    assert link.get(**{"If-None-Match": etag}).status == 304
    refused(link.get(**{"If-Match": '"other"'}), 412, "ConditionNotMet")
    refused(link.put(b"x", **{"If-None-Match": "*"}), 409, "BlobAlreadyExists")
    refused(link.put(b"x", **{"If-Match": '"other"'}), 412, "ConditionNotMet")
    assert link.get().body == body
    assert link.put(b"new", **{"If-Match": etag}).status == 201
    refused(link.put(b"x", **{"If-Match": etag}), 412, "ConditionNotMet")
    assert link.get().body == b"new" and link.get().header("ETag") != etag
    empty = begin(hub, link.device, "empty")
    assert empty.put(b"", **{"If-None-Match": "*"}).status == 201
    assert empty.get().body == b"" and empty.ask("HEAD").header("Content-Length") == "0"
    refused(empty.get(Range="bytes=0-1"), 416, "InvalidRange")
    nothing = begin(hub, link.device, "nothing")
    refused(nothing.get(), 404, "BlobNotFound")
    assert nothing.ask("HEAD").header("x-ms-error-code") == "BlobNotFound"


def test_type_and_metadata_come_back_with_the_file(hub):
    link = begin(hub, hub.create())
    said = {"x-ms-blob-content-type": "text/plain; charset=utf-8", "x-ms-blob-content-encoding": "identity", "x-ms-blob-content-language": "de",
            "x-ms-blob-content-disposition": 'attachment; filename="a b.txt"', "x-ms-blob-cache-control": "no-store", "x-ms-meta-Site": "R43",
            "x-ms-meta-empty": ""}
    assert link.put(b"text", **said).status == 201
    for answer in (link.get(), link.ask("HEAD"), link.get(Range="bytes=1-2")):
        for name, value in (("Content-Type", "text/plain; charset=utf-8"), ("Content-Encoding", "identity"), ("Content-Language", "de"),
                            ("Content-Disposition", 'attachment; filename="a b.txt"'), ("Cache-Control", "no-store"), ("x-ms-meta-site", "R43"),
                            ("x-ms-meta-empty", "")):
            assert answer.header(name) == value, (name, answer)
    # The next one says nothing of itself, or says it in the request's own field.
    assert link.put(b"bytes").status == 201
    assert (link.get().header("Content-Type"), link.get().header("x-ms-meta-site")) == ("application/octet-stream", None)
    assert link.put(b"{}", **{"Content-Type": "application/json"}).status == 201
    assert link.get().header("Content-Type") == "application/json"
    refused(link.put(b"x", **{"x-ms-meta-long": "x" * 3500}), 400, "MetadataTooLarge")
    assert link.get().body == b"{}"


def test_blocks(hub):
    link = begin(hub, hub.create())
    parts = [os.urandom(70_000 + number) for number in range(4)]
    for number in (2, 0, 3, 1):
        answer = link.put_block(number, parts[number])
        assert answer.status == 201 and answer.header("ETag") is None
    assert not link.file.exists()
    refused(link.put_list([("Latest", 0), ("Latest", 9)]), 400, "InvalidBlockList")
    refused(link.put_list([("Committed", 0)]), 400, "InvalidBlockList")
    assert link.put_list([("Latest", 0), ("Uncommitted", 1), ("Latest", 2), ("Latest", 0)]).status == 201
    assert link.file.read_bytes() == parts[0] + parts[1] + parts[2] + parts[0]
    refused(link.put_list([("Uncommitted", 3)]), 400, "InvalidBlockList")  # the others were dropped
    assert link.put_block(1, b"newer").status == 201
    refused(link.put_list([("Uncommitted", 0)]), 400, "InvalidBlockList")
    refused(link.put_list([("Latest", 1), ("Committed", 2)], **{"If-None-Match": "*"}), 409, "BlobAlreadyExists")
    hub.restart()
    assert link.put_list([("Committed", 1), ("Latest", 1), ("Committed", 2)]).status == 201
    assert link.get().body == parts[1] + b"newer" + parts[2]
    assert link.put(b"whole").status == 201
    refused(link.put_list([("Committed", 1)]), 400, "InvalidBlockList")
    assert link.put_list([]).status == 201 and link.get().body == b""
    for body in (b"", b"<BlockList>", b"<BlockList><Latest>!</Latest></BlockList>", b"<Other/>", b"<!DOCTYPE x><BlockList/>",
                 b"<BlockList><Latest>QQ==</Committed></BlockList>", b"<BlockList/>x"):
        refused(link.ask("PUT", body, more="&comp=blocklist"), 400, "InvalidBlockList")
    for identifier in ("", "!", base64.b64encode(bytes(65)).decode()):
        answer = link.ask("PUT", b"x", more="&comp=block&blockid=" + urllib.parse.quote(identifier, safe=""))
        refused(answer, 400, "InvalidQueryParameterValue")
    refused(link.ask("PUT", b"x", more="&comp=block"), 400, "InvalidQueryParameterValue")
    refused(link.ask("PUT", b"x", more="&comp=metadata"), 400, "InvalidQueryParameterValue")


def crc64(data):
    value = (1 << 64) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x9A6C9329AC4BC9B5 if value & 1 else 0)
    return base64.b64encode((value ^ ((1 << 64) - 1)).to_bytes(8, "little")).decode()


def test_digests_and_fields(hub):
    link = begin(hub, hub.create())
    body = os.urandom(1003)
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    other = base64.b64encode(hashlib.md5(b"").digest()).decode()
    answer = link.put(body, **{"Content-MD5": md5, "x-ms-content-crc64": crc64(body)})
    assert (answer.status, answer.header("Content-MD5"), answer.header("x-ms-content-crc64")) == (201, md5, crc64(body))
    refused(link.put(b"y" + body, **{"Content-MD5": md5}), 400, "Md5Mismatch")
    refused(link.put(b"y" + body, **{"x-ms-content-crc64": crc64(body)}), 400, "Crc64Mismatch")
    refused(link.put(body, **{"Content-MD5": other}), 400, "Md5Mismatch")
    refused(link.put_block(1, body, **{"Content-MD5": other}), 400, "Md5Mismatch")
    for value in ("x", "QQ==", ""):
        refused(link.put(body, **{"Content-MD5": value}), 400, "InvalidMd5")
        refused(link.put(body, **{"x-ms-content-crc64": value}), 400, "InvalidHeaderValue")
    refused(link.ask("PUT", body), 400, "MissingRequiredHeader")
    refused(link.ask("PUT", body, {"x-ms-blob-type": "PageBlob"}), 400, "InvalidHeaderValue")
    refused(link.ask("PUT", b"", {**BLOB, "x-ms-copy-source": "https://elsewhere/"}), 400, "UnsupportedHeader")
    refused(link.put(body, **{"x-ms-structured-body": "XSM/1.0; properties=crc64"}), 400, "UnsupportedHeader")
    with hub.connect() as connection:
        connection.send(f"PUT {link.target()} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\n\r\n")
        refused(connection.response(), 411, "MissingContentLengthHeader")
        connection.send(f"PUT {link.target()} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\nTransfer-Encoding: chunked\r\n"
                        "Expect: 100-continue\r\n\r\n")
        assert connection.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        assert connection.response().status == 201
        got = connection.exchange("GET", link.target())  # on the same connection
        assert got.body == b"hello world"
    assert leftovers(hub) == []


def test_every_cut_leaves_nothing(hub):
    link = begin(hub, hub.create(), "cut/deep/file")
    request = f"PUT {link.target()} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 40\r\n\r\n".encode() + b"x" * 40
    block = request.replace(b" HTTP/1.1", b"&comp=block&blockid=QQ== HTTP/1.1", 1)
    size = len(request) - 40
    cuts = sorted({0, 1, *range(7, size, 37), size - 2, size - 1, *range(size, size + 40)})
    for cut in cuts:
        with hub.connect() as connection:
            connection.send((block if cut % 2 else request)[:cut])
            if cut % 3 == 0:
                tls.reset_on_close(connection.socket)
    waiting.until(lambda: leftovers(hub) == [], 10, "nothing left")
    assert not (directory(hub) / link.device.name).exists()
    # However it is cut into records, a whole one is whole.
    for cut in (1, size - 3, size, size + 1, size + 39):
        with hub.connect() as connection:
            connection.send(request[:cut])
            connection.send(request[cut:])
            assert connection.response().status == 201
    assert link.get().body == b"x" * 40


def test_quotas(new_hub, tmp_path):
    hub = configured(new_hub, tmp_path, upload_file_bytes="100kB", upload_device_bytes="200kB", upload_total_bytes="300kB")
    device, other = hub.create(), hub.create()
    first, second, third = (begin(hub, device, name) for name in ("1", "2", "3"))
    refused(first.put(bytes(100 * 1024 + 1)), 413, "RequestBodyTooLarge")
    assert first.put(bytes(100 * 1024)).status == 201
    assert second.put(bytes(96 * 1024)).status == 201
    refused(third.put(bytes(5000)), 413, "DeviceQuotaExceeded")
    refused(third.put_block(1, bytes(5000)), 413, "DeviceQuotaExceeded")
    assert third.put(bytes(4096)).status == 201
    refused(begin(hub, device, "4").put(b""), 413, "DeviceQuotaExceeded")  # a file takes room of its own
    assert first.get().body == bytes(100 * 1024)
    mine = begin(hub, other, "a/b")
    refused(mine.put(bytes(99 * 1024)), 507, "InsufficientStorage")
    assert mine.put(bytes(92 * 1024)).status == 201  # and a directory
    hub.restart()
    waiting.until(lambda: begin_put(hub, other, b"x" * 5000).header("x-ms-error-code") == "InsufficientStorage", 10, "the same count as before")
    (directory(hub) / device.name / "1").unlink()  # somebody took it away
    assert begin_put(hub, device, bytes(100 * 1024)).status == 201
    # Chunked, where nothing is announced.
    with hub.connect() as connection:
        connection.send(f"PUT {third.target()} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(40):
                connection.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        except OSError:
            pass
        answer = connection.response()
        assert answer.status == 413 and answer.header("x-ms-error-code") in ("DeviceQuotaExceeded", "RequestBodyTooLarge")
    assert third.get().body == bytes(4096)
    waiting.until(lambda: leftovers(hub) == [], 10, "nothing left")


def begin_put(hub, device, body):
    link = begin(hub, device, "again")
    answer = link.put(body)
    link.report(success=False)
    return answer


def test_blocks_count_until_they_are_a_file(new_hub, tmp_path):
    hub = configured(new_hub, tmp_path, upload_file_bytes="100kB", upload_device_bytes="128kB")
    device = hub.create()
    link = begin(hub, device)
    for number in range(3):
        assert link.put_block(number, bytes(32 * 1024)).status == 201
    refused(begin(hub, device, "b").put(bytes(32 * 1024)), 413, "DeviceQuotaExceeded")
    hub.restart()
    waiting.until(lambda: begin_put(hub, device, bytes(32 * 1024)).header("x-ms-error-code") == "DeviceQuotaExceeded", 10, "the same count")
    refused(link.put_list([("Latest", 0), ("Latest", 0), ("Latest", 0), ("Latest", 0)]), 413, "RequestBodyTooLarge")
    assert link.put_list([("Latest", 0)]).status == 201
    assert begin(hub, device, "c").put(bytes(64 * 1024)).status == 201


def test_a_name_is_a_file_or_a_directory(hub):
    device = hub.create()
    inner, outer = begin(hub, device, "a/b"), begin(hub, device, "a")
    assert inner.put(b"x").status == 201
    refused(outer.put(b"x"), 409, "ResourceTypeMismatch")
    outer.put_block(1, b"x")
    refused(outer.put_list([("Latest", 1)]), 409, "ResourceTypeMismatch")
    other = hub.create()
    assert begin(hub, other, "a").put(b"x").status == 201
    refused(begin(hub, other, "a/b").put(b"x"), 409, "ResourceTypeMismatch")
    refused(begin(hub, other, "a/c").get(), 404, "BlobNotFound")


def test_a_hub_that_dies_in_the_middle_leaves_nothing_half(new_hub):
    hub = new_hub()
    device = hub.create()
    old, fresh, blocks = (begin(hub, device, name) for name in ("old", "fresh", "blocks"))
    assert old.put(b"old").status == 201
    assert blocks.put_block(0, b"whole").status == 201
    connections = []
    for link, more in ((old, ""), (fresh, ""), (blocks, "&comp=block&blockid=" + urllib.parse.quote(block_id(1), safe=""))):
        connection = hub.connect()
        connection.send(f"PUT {link.target(more)} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 1000000\r\n\r\n")
        connection.send(bytes(600_000))
        connections.append(connection)
    waiting.until(lambda: sum(one.stat().st_size for one in (directory(hub) / ".partial").iterdir()) > 900_000, 10, "bytes on the disk")
    hub.restart()
    waiting.until(lambda: list((directory(hub) / ".partial").iterdir()) == [], 10, "nothing half")
    assert old.get().body == b"old"
    refused(fresh.get(), 404, "BlobNotFound")
    refused(blocks.put_list([("Latest", 0), ("Latest", 1)]), 400, "InvalidBlockList")
    assert blocks.put_list([("Latest", 0)]).status == 201
    for connection in connections:
        connection.close()
    old.report()
    notices = hub.rest("GET", path("messages", "serviceBound", "filenotifications")).json
    assert [(notice["blobName"], notice["blobSizeInBytes"]) for notice in notices] == [(old.name, 3)]
    hub.restart()
    assert len(hub.rest("GET", path("messages", "serviceBound", "filenotifications")).json) == 1


def test_notifications_can_be_switched_off(new_hub, tmp_path):
    hub = configured(new_hub, tmp_path, upload_notifications="no")
    link = begin(hub, hub.create())
    link.put(b"x")
    link.report()
    assert hub.rest("GET", path("messages", "serviceBound", "filenotifications")).status == 204
    hub = configured(new_hub, tmp_path, upload_total_bytes="0")
    assert begin(hub, hub.create(), status=400).error == "DefaultStorageEndpointNotConfigured"


def test_memory_stays_small_and_others_are_served(new_hub):
    hub = new_hub()
    device = hub.create()
    megabytes = int(os.environ.get("IOTSTREAM_UPLOAD_MEGABYTES", 48))
    link = begin(hub, device)
    assert link.put(bytes(1 << 20)).status == 201
    before = hub.process.anonymous()
    highest = 0
    with hub.connect() as connection:
        connection.send(f"PUT {link.target()} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: {megabytes << 20}\r\n\r\n")
        piece = os.urandom(1 << 20)
        for _ in range(megabytes):
            connection.send(piece)
            highest = max(highest, hub.process.anonymous())
        assert hub.rest("GET", path("devices", device.name)).status == 200
        assert connection.response(seconds=60).status == 201
    assert link.file.stat().st_size == megabytes << 20
    # A reader that takes nothing costs little as well.
    with hub.connect() as connection:
        connection.request("GET", link.target())
        assert connection.socket.recv(1)
        waiting.until(lambda: hub.rest("GET", path("devices", device.name)).status == 200, 10, "an answer")
        highest = max(highest, hub.process.anonymous())
        found, wanted = hashlib.sha256(), hashlib.sha256()
        rest_of_head, count = b"", 0
        while b"\r\n\r\n" not in rest_of_head:
            rest_of_head += connection.socket.recv(65536)
        data = rest_of_head.split(b"\r\n\r\n", 1)[1]
        while True:
            found.update(data)
            count += len(data)
            if count >= megabytes << 20:
                break
            data = connection.socket.recv(65536)
        for _ in range(megabytes):
            wanted.update(piece)
        assert found.digest() == wanted.digest()
    assert highest - before < 8 << 20, f"{highest - before} bytes more"


def test_a_refused_body_is_read_over_and_the_connection_goes_on(new_hub, tmp_path):
    hub = configured(new_hub, tmp_path, upload_file_bytes="8MB", upload_device_bytes="1MB")
    link = begin(hub, hub.create())
    head = f"PUT %s HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\n"
    with hub.connect() as connection:
        for target, size, status in ((link.path, 3 << 20, 403), (link.target(), 9 << 20, 413), (link.target(), 5 << 20, 413), (link.target(), 5, 201),
                                     (link.target(query=link.query[:-3]), 7, 403), (link.target("&comp=lease"), 1, 400), (link.target(), 0, 201)):
            connection.send(head % target + f"Content-Length: {size}\r\n\r\n")
            connection.send(bytes(size))
            assert connection.response().status == status
        connection.send(head % link.target() + "Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            connection.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.response().status == 413
        assert connection.exchange("GET", link.target()).body == b""
        connection.send(head % link.path + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense")
        assert connection.response().status == 403
        assert connection.ended() == b""
    with hub.connect() as connection:
        connection.send(head % link.path + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        answer = connection.response()
        assert answer.status == 403 and answer.header("Connection") == "close"
        assert connection.ended() == b""
    with hub.connect() as connection:  # and no more of it than a client sends at once
        connection.send(head % link.path + f"Content-Length: {1 << 40}\r\n\r\n")
        assert connection.response().status == 403
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.send(bytes(1 << 20))


def test_too_many_at_once_are_told_to_wait(hub):
    device = hub.create()
    link = begin(hub, device)
    held = []
    for _ in range(16):
        connection = hub.connect()
        connection.send(f"PUT {link.target()} HTTP/1.1\r\nHost: {hub.name}\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert connection.take(25).startswith(b"HTTP/1.1 100")
        held.append(connection)
    answer = link.get()
    refused(answer, 503, "ServerBusy")
    assert answer.header("Retry-After")
    assert begin(hub, hub.create()).put(b"x").status == 201
    for connection in held:
        connection.close()
    waiting.until(lambda: link.put(b"x").status == 201, 10, "a place")


def test_curl(hub, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is missing")
    link = begin(hub, hub.create(), "from curl.bin")
    file, back = tmp_path / "up", tmp_path / "down"
    file.write_bytes(os.urandom(3_000_000))
    url = f"https://{hub.name}:{hub.https}{link.target()}"
    run(["curl", "-sS", "--fail", "--cacert", hub.ca, "-H", "x-ms-blob-type: BlockBlob", "-T", file, url], check=0)
    run(["curl", "-sS", "--fail", "--cacert", hub.ca, "-o", back, url], check=0)
    assert back.read_bytes() == file.read_bytes()
    got = run(["curl", "-sS", "--cacert", hub.ca, "-r", "10-19", url], check=0, binary=True)
    assert got.stdout == file.read_bytes()[10:20]
