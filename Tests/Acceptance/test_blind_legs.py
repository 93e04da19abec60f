"""Blind streams at the hub, with raw clients on both sides."""

import hashlib
import os
import random
import ssl
import threading

import pytest
from harness import blind, segments, tls, waiting
from harness.programs import receive_all, receive_exactly
from harness.rest import path
from harness.streams import Request, open_stream, reply


@pytest.fixture
def far(hub):
    """A device that listens for streams."""
    hub.rest("DELETE", path("devices", "blind"))
    device = hub.create("blind")
    client = device.listen()
    yield device, client
    client.close()


def pair(hub, device, client, settings=None):
    accepted = open_stream(hub, device, client, offer="blind, e2e, half-close", chosen="blind")
    assert accepted.answer.header("iotstream-chosen") == "blind"
    far_leg = blind.leg(hub, accepted.request.url, accepted.request.token, settings)
    return blind.leg(hub, accepted.url, accepted.token, settings), far_leg


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bytes_and_ends_pass_as_they_are(hub, far, version):
    service, device = pair(hub, *far, settings=tls.context(hub.ca, minimum=version, maximum=version))
    with service, device:
        service.sendall(b"\x17\x03\x03\x00\x05hello")  # would be a record of TLS
        assert receive_exactly(device, 10) == b"\x17\x03\x03\x00\x05hello"
        device.sendall(b"welcome")
        assert receive_exactly(service, 7) == b"welcome"
        listed = hub.rest("GET", "/streams?api-version=2021-04-12").json
        assert [(one["mode"], one["endToEnd"]) for one in listed] == [("blind", True)]
        service.shutdown(1)
        assert device.recv(1) == b""
        device.sendall(b"last words")
        device.shutdown(1)
        assert receive_all(service) == b"last words"
    waiting.until(lambda: hub.rest("GET", "/streams?api-version=2021-04-12").json == [])


def test_bulk_both_ways_at_once_arrives_whole(hub, far):
    service, device = pair(hub, *far)
    size = int(os.environ.get("IOTSTREAM_BULK_BYTES", 64 << 20))
    block = random.Random(5).randbytes(1 << 20)

    def send(connection, step):
        digest, sent = hashlib.sha256(), 0
        while sent < size:
            piece = block[: min(step, size - sent)]
            connection.sendall(piece)
            digest.update(piece)
            sent += len(piece)
        connection.shutdown(1)
        return digest.hexdigest()

    def receive(connection):
        digest = hashlib.sha256()
        while piece := connection.recv(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    results = {}
    jobs = {
        "up": lambda: send(service, 65537), "down": lambda: send(device, 1 << 20), "at-device": lambda: receive(device),
        "at-service": lambda: receive(service),
    }
    threads = [threading.Thread(target=lambda name=name, job=job: results.update({name: job()})) for name, job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results["up"] == results["at-device"] and results["down"] == results["at-service"]
    service.close()
    device.close()


@pytest.mark.parametrize("side", ["service", "device"])
def test_a_reset_is_passed_on_as_a_reset(hub, far, side):
    service, device = pair(hub, *far)
    broken, other = (service, device) if side == "service" else (device, service)
    broken.sendall(b"x")
    assert other.recv(1) == b"x"
    tls.reset_on_close(broken)
    broken.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    other.close()


def test_what_is_said_before_the_other_leg_is_there_waits_in_the_kernel(hub, far):
    accepted = open_stream(hub, *far, offer="blind", chosen="blind")
    device = blind.leg(hub, accepted.request.url, accepted.request.token)
    device.sendall(b"early")
    device.shutdown(1)
    service = blind.leg(hub, accepted.url, accepted.token)
    assert receive_all(service) == b"early"
    service.sendall(b"late")
    service.close()
    assert receive_all(device) == b"late"
    device.close()


def test_a_leg_comes_once_and_as_what_was_chosen(hub, far):
    accepted = open_stream(hub, *far, offer="blind", chosen="blind")
    with pytest.raises(AssertionError, match="400"):
        hub.leg(accepted.url, accepted.token)
    leg = blind.leg(hub, accepted.url, accepted.token)
    with pytest.raises(blind.Refused) as refused:
        blind.leg(hub, accepted.url, accepted.token)
    assert refused.value.status == 409
    with pytest.raises(blind.Refused) as refused:
        blind.leg(hub, accepted.request.url, "wrong")
    assert refused.value.status == 401
    leg.close()


@pytest.mark.parametrize(
    ("offer", "chosen", "told"),
    [
        ("blind", "blind", "blind"),
        ("e2e", "e2e", "e2e"),
        ("half-close", "half-close", "half-close"),
        ("teleport, blind ,e2e", "e2e", "e2e"),
        ("half-close", "blind", None),
        ("blind", "teleport", None),
        ("teleport", "teleport", None),
        ("BLIND", "blind", None),
        (",,", "blind", None),
        ("x" * 5000 + ", e2e", "e2e", "e2e"),
        ("blind, half-close", "teleport, half-close", "half-close"),
    ],
)
def test_ways_are_negotiated_down_to_what_both_know(hub, far, offer, chosen, told):
    accepted = open_stream(hub, *far, offer=offer, chosen=chosen)
    assert accepted.answer.header("iotstream-chosen") == told
    known = [word for word in ("blind", "e2e", "half-close") if word in [part.strip() for part in offer.split(",")]]
    passed = accepted.request.extra.get("$offer")
    assert sorted(part.strip() for part in passed.split(",")) == sorted(known) if known else passed is None
    if told != "blind":
        service, device = hub.leg(accepted.url, accepted.token), hub.leg(accepted.request.url, accepted.request.token)
        service.send(b"plain")
        assert device.bytes(5) == b"plain"
        service.close()
        device.close()


@pytest.mark.parametrize("leaves", ["before the answer", "behind the answer"])
def test_the_connection_of_a_request_becomes_the_leg(hub, far, leaves):
    device, client = far
    asked = segments.asked(hub, device, b"hello", leaves == "before the answer")
    request = Request(client.receive())
    other = blind.leg(hub, request.url, request.token)  # before its answer
    reply(client, request, extra="&$chosen=blind")
    head = asked.answer().decode()
    assert head.startswith("HTTP/1.1 101 ") and "\r\niotstream-chosen: blind\r\n" in head, head
    assert "\r\niothub-streaming-is-accepted: True\r\n" in head and "auth-token" not in head, head
    if leaves == "behind the answer":
        asked.say(asked.records(farewell=True) + b"hello")
    asked.leave()
    service = asked.socket
    assert receive_exactly(other, 5) == b"hello"
    other.sendall(b"welcome")
    other.shutdown(1)
    assert receive_all(service) == b"welcome"
    service.sendall(b"last words")
    service.close()
    assert receive_all(other) == b"last words"
    other.close()


@pytest.mark.parametrize(
    ("status", "extra", "line", "field"),
    [
        (200, "&$chosen=e2e", "HTTP/1.1 200 ", "iotstream-chosen: e2e"),
        (200, "", "HTTP/1.1 200 ", "iothub-streaming-auth-token: "),
        (400, "&$reason=no", "HTTP/1.1 200 ", "iothub-streaming-is-accepted: False"),
    ],
)
def test_a_client_that_has_left_gets_every_other_answer_whole(hub, far, status, extra, line, field):
    device, client = far
    asked = segments.asked(hub, device, b"raw bytes that nobody will read")
    reply(client, Request(client.receive()), status, extra)
    head = asked.answer().decode()
    assert head.startswith(line) and f"\r\n{field}" in head and "\r\nConnection: close\r\n" in head, head
    asked.leave()
    assert asked.socket.recv(1) == b""  # and no RST
    asked.socket.close()


def test_a_client_that_has_left_and_is_refused_is_told(hub):
    class Nobody:
        name = "nobody-there"

    asked = segments.asked(hub, Nobody, b"raw bytes that nobody will read")
    assert asked.answer().startswith(b"HTTP/1.1 404 ")
    asked.socket.close()


def test_a_client_that_has_left_and_then_goes_is_noticed(hub, far):
    device, client = far
    asked = segments.asked(hub, device, b"hello")
    request = Request(client.receive())
    listed = hub.rest("GET", "/streams?api-version=2021-04-12").json
    assert [one["state"] for one in listed] == ["pending"]
    asked.socket.close()
    waiting.until(lambda: hub.rest("GET", "/streams?api-version=2021-04-12").json == [])
    reply(client, request, extra="&$chosen=blind")  # late, and no harm
    assert hub.rest("GET", "/streams?api-version=2021-04-12").json == []


def test_a_client_that_has_left_hears_of_a_device_that_takes_its_time(hub, far):
    device, client = far
    asked = segments.asked(hub, device, b"hello")
    request = Request(client.receive())
    assert asked.answer().startswith(b"HTTP/1.1 102 ")
    other = blind.leg(hub, request.url, request.token)
    reply(client, request, extra="&$chosen=blind")
    assert asked.answer().startswith(b"HTTP/1.1 101 ")
    asked.leave()
    assert receive_exactly(other, 5) == b"hello"
    asked.socket.close()
    other.close()
