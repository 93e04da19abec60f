"""Device streams on the wire, with raw clients that behave like each of the published ones (device-streams 15)."""

import json
import os
import re
import struct
import threading
import time

import pytest
from harness import mqtt, sas, tls, waiting, websocket
from harness.rest import path
from harness.streams import Accepted, Opening, Request, headers, open_stream, pair, reply
from harness.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

SIDES = pytest.mark.parametrize("side", ["service", "device"])


@pytest.fixture
def far(hub):
    """A device of the name far that listens for streams over TLS."""
    hub.rest("DELETE", path("devices", "far"))
    device = hub.create("far")
    client = device.listen()
    yield device, client
    client.close()


def ends(side, service, device):
    """The leg of `side`, and the other one."""
    return (service, device) if side == "service" else (device, service)


def refused(answer, status, code, error=None):
    assert answer.status == status, answer
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert set(answer.json) == {"Message", "ExceptionMessage"}
    inner = json.loads(answer.json["Message"])
    assert inner["errorCode"] == code, inner
    assert inner["message"] and inner["trackingId"] and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", inner["timestampUtc"])
    if error:
        assert answer.header("iothub-errorcode") == error
    return inner


# --- 1: forms of the request --------------------------------------------------------------------------------------


def test_the_request_of_the_node_client(hub, far):
    device, client = far
    token = hub.service_token(order="sr sig skn se")
    connection = hub.connect()
    connection.send(
        "POST /twins/far/streams/TestStream?api-version=2018-10-20-preview HTTP/1.1\r\n"
        "iothub-streaming-connect-timeout-in-seconds: 30\r\niothub-streaming-response-timeout-in-seconds: 30\r\n"
        f"Authorization: {token}\r\nRequest-Id: 2a0f6d3c-1b1e-4f3e-9a52-9f7e5a1b2c3d\r\n"
        f"User-Agent: azure-iothub/1.10.0-preview.0 (node v10; Linux)\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
    request = Request(client.receive())
    reply(client, request)
    answer = connection.response()
    assert (answer.status, answer.reason) == (200, "OK")
    assert b"iothub-streaming-is-accepted: True\r\n" in answer.raw + b"\r\n"
    assert b"Content-Length: 0" in answer.raw
    assert answer.header("iothub-streaming-url").startswith("wss://localhost")
    # Host had no port: the URL carries the hub's own, so that it can be dialled.
    assert re.match(r"wss://localhost:\d+/bridges/", answer.header("iothub-streaming-url"))
    connection.close()


@pytest.mark.parametrize("connect, response", [
    ("60", "60"), ("60.0", "59.5"), ("0", "1.25"), ("300", "300"), ("99999", "99999"), (None, "30"), ("30", None), (None, None), ("0.5", "7"),
])
def test_the_request_of_the_dotnet_client(hub, far, connect, response):
    device, client = far
    for version in ("2018-08-30-preview", "2020-05-31-preview", "2020-09-30", "2018-06-30"):
        opening = Opening(hub, "far", fields={**headers(connect, response), "Accept": "application/json", "Content-Type": "application/json"},
                          version=version, token=hub.service_token(order="sr sig se skn"))
        reply(client, Request(client.receive()), 400)
        assert opening.answer().status == 200
        opening.close()


@pytest.mark.parametrize("fields", [
    {"iothub-streaming-connect-timeout-in-seconds": "soon"}, {"iothub-streaming-response-timeout-in-seconds": "-1"},
    {"iothub-streaming-response-timeout-in-seconds": ""}, {"iothub-streaming-connect-timeout-in-seconds": "1,5"},
    {"iothub-streaming-connect-timeout-in-seconds": "NaN"}, {"iothub-streaming-connect-timeout-in-seconds": "0x10"},
])
def test_a_malformed_timeout(hub, far, fields):
    opening = Opening(hub, "far", fields=fields)
    refused(opening.answer(), 400, 400004, "ArgumentInvalid")
    opening.close()
    far[1].ping()


@pytest.mark.parametrize("name", ["a%00b", "a%2Fb", "n" * 129, "a%0Ab", "%7F", "a%zz", "a%E4"])
def test_a_malformed_stream_name(hub, far, name):
    opening = Opening(hub, "far", target=f"/twins/far/streams/{name}?api-version=2020-09-30")
    assert opening.answer().status == 400
    opening.close()
    far[1].ping()


def test_an_empty_stream_name(hub, far):
    for target in ("/twins/far/streams/?api-version=2020-09-30", "/twins/far/streams?api-version=2020-09-30"):
        opening = Opening(hub, "far", target=target)
        assert opening.answer().status == 404
        opening.close()


def test_a_small_body_is_ignored(hub, far):
    device, client = far
    with hub.connect() as connection:
        connection.request("POST", "/twins/far/streams/s?api-version=2020-09-30", body={"x": 1}, token=hub.service_token())
        reply(client, Request(client.receive()), 400)
        assert connection.response().status == 200


def test_the_connection_is_kept_after_an_answer(hub, far):
    device, client = far
    with hub.connect() as connection:
        for status in (400, 200, 400):
            connection.request("POST", "/twins/far/streams/s?api-version=2020-09-30", token=hub.service_token())
            reply(client, Request(client.receive()), status)
            assert connection.response().header("iothub-streaming-is-accepted") == {200: "True", 400: "False"}[status]


# --- 2: subscriptions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_both_filters_in_two_packets_and_again(hub, qos):
    device = hub.create()
    with device.login(web=True) as client:
        for _ in range(3):
            assert client.subscribe("$iothub/streams/POST/#", qos=qos) == [qos]
            assert client.subscribe("$iothub/streams/res/#", qos=qos) == [qos]
        opening = Opening(hub, device.name)
        request = Request(client.receive())
        assert client.subscribe("$iothub/streams/POST/#") == [0]
        client.ping()  # nothing is played again
        reply(client, request)
        Accepted(opening.answer(), request)
        opening.close()


def test_the_c_client_subscribes_with_these_bytes(hub):
    device = hub.create()
    with device.login(query="?api-version=2020-09-30&DeviceClientType=iothubclient%2f1.8.0%20(native%3b%20Linux%3b%20x86_64)",
                      clean=False, keep_alive=240) as client:
        client.send(b"\x82\x33\x00\x05\x00\x16$iothub/streams/POST/#\x00\x00\x15$iothub/streams/res/#\x00")
        assert client.expect(mqtt.SUBACK).body == b"\0\5\0\0"


# --- 3, 4: what the device is sent --------------------------------------------------------------------------------


def test_the_request_topic(hub, far):
    device, client = far
    seen = set()
    for _ in range(3):
        accepted = open_stream(hub, device, client, name="Name-1._~")
        request = accepted.request
        assert request.name == "Name-1._~" and not request.extra
        assert re.fullmatch(rf"wss://localhost:{hub.https}/bridges/ih/[^/]+/d/far/sid/[0-9a-f]{{32}}/r/device", request.url), request.url
        assert re.fullmatch(rf"wss://localhost:{hub.https}/bridges/ih/[^/]+/d/far/sid/[0-9a-f]{{32}}/r/service", accepted.url), accepted.url
        assert request.url.split("/sid/")[1][:32] == accepted.url.split("/sid/")[1][:32]
        assert request.token != accepted.token and len(request.token) >= 22
        assert len(request.url) < 1022 and len(request.token) <= 1016
        seen |= {request.rid, request.token, accepted.token, request.url}
    assert len(seen) == 12


@pytest.mark.parametrize("name", ["a+b", "50%off", "a#b", "a?b", "a@b", "a!(b)'*c", "%2F", "d:e=f$g,h"])
def test_odd_device_ids_and_stream_names(hub, name):
    device = hub.create(name)
    with device.listen() as client:
        service, far = pair(hub, device, client, name="my stream")
        service.send(b"to the device")
        assert far.message() == (BINARY, b"to the device")
        far.send(b"to the service")
        assert service.message() == (BINARY, b"to the service")
        service.shut()
        far.close()
        # .NET leaves a literal plus in the path.
        if "%" not in name and "#" not in name and "?" not in name:
            opening = Opening(hub, name, target=f"/twins/{name}/streams/x?api-version=2020-09-30")
            reply(client, Request(client.receive()), 400)
            assert opening.answer().status == 200
            opening.close()


@pytest.mark.parametrize("sent, shown", [("my%20stream", "my%20stream"), ("22", "22"), ("a+b", "a%2Bb"), ("%C3%A4", "%C3%A4"), ("a%23b", "a%23b"),
                                         ("127.0.0.1%3A22", "127.0.0.1%3A22"), ("a%25b", "a%25b")])
def test_the_stream_name_is_one_level_of_the_topic(hub, far, sent, shown):
    device, client = far
    opening = Opening(hub, "far", target=f"/twins/far/streams/{sent}?api-version=2020-09-30")
    request = Request(client.receive())
    assert request.name == shown
    reply(client, request, 400)
    opening.answer()
    opening.close()


# --- 5, 6: who comes first ----------------------------------------------------------------------------------------


def test_a_device_leg_may_come_before_the_answer(hub, far):
    """The C client opens its WebSocket first."""
    device, client = far
    opening = Opening(hub, "far")
    request = Request(client.receive())
    early = hub.leg(request.url, request.token, {"Sec-WebSocket-Protocol": "MQTT"})
    assert early.answer.header("Sec-WebSocket-Protocol") == "MQTT"
    early.send(b"SSH-2.0-early\r\n")
    reply(client, request)
    accepted = Accepted(opening.answer(), request)
    service = hub.leg(accepted.url, accepted.token)
    assert service.message() == (BINARY, b"SSH-2.0-early\r\n")
    service.send(b"hello", TEXT)
    assert early.message() == (TEXT, b"hello")
    for leg in (service, early):
        leg.close()
    opening.close()


@SIDES
def test_either_leg_first_with_data_before_the_other_is_there(hub, far, side):
    device, client = far
    for size in (1, 1000, 60000):
        accepted = open_stream(hub, device, client)
        legs = [(accepted.url, accepted.token), (accepted.request.url, accepted.request.token)]
        first = hub.leg(*legs[0 if side == "service" else 1])
        data = os.urandom(size)
        for at in range(0, size, 997):
            first.send(data[at:at + 997])
        second = hub.leg(*legs[1 if side == "service" else 0])
        assert second.bytes(size) == data
        second.send(b"back")
        assert first.message() == (BINARY, b"back")
        first.shut()
        second.close()


@SIDES
@pytest.mark.parametrize("end", ["close", "fin"])
def test_a_leg_that_speaks_and_ends_before_the_other_comes_is_heard(hub, far, side, end):
    device, client = far
    accepted = open_stream(hub, device, client)
    legs = [(accepted.url, accepted.token), (accepted.request.url, accepted.request.token)]
    first = hub.leg(*legs[0 if side == "service" else 1])
    first.send(b"last words")
    if end == "close":
        first.send_raw(websocket.close_frame(1000))
        assert first.receive_close().code == 1000
    first.close()
    second = hub.leg(*legs[1 if side == "service" else 0])
    assert second.message() == (BINARY, b"last words")
    assert second.receive_close().code == (1000 if end == "close" else 1011)
    second.close()


def test_the_first_legs_early_data_is_bounded_and_complete(hub, far):
    """A leg that sends without end before its peer comes is held back, not dropped."""
    device, client = far
    accepted = open_stream(hub, device, client)
    first = hub.leg(accepted.request.url, accepted.request.token)
    first.socket.settimeout(0.5)
    piece, sent = os.urandom(16384), 0
    block = websocket.frame(piece)
    before = hub.process.resident()
    stalled = b""
    try:
        while sent < 512:
            stalled = block
            while stalled:
                stalled = stalled[first.socket.send(stalled):]
            sent += 1
    except TimeoutError:
        pass
    assert sent < 512, "eight megabytes went into a leg whose peer is absent"
    assert hub.process.resident() - before < 4 << 20
    second = hub.leg(accepted.url, accepted.token)
    done = threading.Thread(target=lambda: first.socket.settimeout(20) or first.socket.sendall(stalled))
    done.start()
    for _ in range(sent + 1):
        assert second.message(20) == (BINARY, piece)
    done.join()
    first.close()
    second.close()


def test_a_leg_whose_peer_never_comes_is_closed_and_the_session_is_gone(new_hub):
    """Sixty seconds after the answer. A stream that runs does not mind the time, nor that nobody says anything on it."""
    hub = new_hub()
    device = hub.create()
    with device.listen(keep_alive=600) as client:
        idle_service, idle_leg = pair(hub, device, client, device_headers={"Sec-WebSocket-Protocol": "MQTT"})
        accepted = open_stream(hub, device, client)
        waiting_leg = hub.leg(accepted.url, accepted.token)
        started = time.monotonic()
        assert waiting_leg.receive_close(75).code in (1001, 1011)
        assert 50 < time.monotonic() - started < 70
        waiting_leg.close()
        answer, connection = hub.leg_answer(accepted.request.url, accepted.request.token)
        assert answer.status == 404
        connection.close()
        idle_service.send(b"still")
        assert idle_leg.message() == (BINARY, b"still")  # and no Ping before it
        idle_leg.send(b"here")
        got = idle_service.receive()
        while got.opcode == PING:
            got = idle_service.receive()
        assert got.payload == b"here"
        idle_service.close()
        idle_leg.close()


# --- 7, 8, 9: rejection, silence, absence -------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["400", "404", "500", "201", "0"])
def test_a_rejection(hub, far, status):
    device, client = far
    opening = Opening(hub, "far")
    request = Request(client.receive())
    early = hub.leg(request.url, request.token)
    reply(client, request, status)
    answer = opening.answer()
    assert answer.status == 200 and answer.header("iothub-streaming-is-accepted") == "False", answer
    assert answer.header("iothub-streaming-url") is None and answer.header("iothub-streaming-auth-token") is None
    assert early.receive().opcode == CLOSE
    early.close()
    late, connection = hub.leg_answer(request.url, request.token)
    assert late.status == 404
    connection.close()
    opening.close()


def test_a_rejection_with_its_reason(hub, far):
    device, client = far
    opening = Opening(hub, "far")
    reply(client, Request(client.receive()), 400, "&$reason=" + sas.encode("connection refused by 127.0.0.1:22\r\nX: y"))
    answer = opening.answer()
    assert answer.header("iothub-streaming-is-accepted") == "False"
    assert answer.header("iotstream-reason").startswith("connection refused by 127.0.0.1:22") and answer.header("X") is None
    opening.close()


@pytest.mark.parametrize("form", ["$iothub/streams/res/200/$rid={}", "$iothub/streams/res/200/?$rid={}&x=y", "$iothub/streams/res/200/?a=b&$rid={}",
                                  "$iothub/streams/res/200/?$rid={}&$ct=application%2Fjson"])
@pytest.mark.parametrize("qos", [0, 1])
def test_forms_of_the_answer(hub, far, form, qos):
    device, client = far
    opening = Opening(hub, "far")
    request = Request(client.receive())
    number = client.publish(form.format(request.rid), b"{}" if "ct" in form else b"", qos=qos)
    if qos:
        assert client.expect(mqtt.PUBACK).identifier == number
    Accepted(opening.answer(), request)
    opening.close()


def test_answers_to_something_else_change_nothing(hub, far):
    device, client = far
    other = hub.create()
    with other.listen() as foreign:
        opening = Opening(hub, "far")
        request = Request(client.receive())
        foreign.publish(f"$iothub/streams/res/200/?$rid={request.rid}")
        client.publish("$iothub/streams/res/200/?$rid=nonsense")
        client.publish("$iothub/streams/res/200/?x=y")
        foreign.ping()
        client.ping()
        reply(client, request, 400)
        reply(client, request, 200)
        assert opening.answer().header("iothub-streaming-is-accepted") == "False"
        opening.close()
    client.ping()


def test_silence_is_504101_at_the_response_timeout(hub, far):
    device, client = far
    started = time.monotonic()
    opening = Opening(hub, "far", connect=30, response=2)
    request = Request(client.receive())
    answer = opening.answer()
    assert 1.5 < time.monotonic() - started < 2.9
    inner = refused(answer, 504, 504101)
    assert answer.reason == "Gateway Timeout" or answer.reason == "Gateway Time-out"
    assert inner["message"] == "Timed out waiting for the response from device." and inner["info"] == {"timeout": "00:00:02"}
    reply(client, request)  # too late, and ignored
    client.ping()
    late, connection = hub.leg_answer(request.url, request.token)
    assert late.status == 404
    connection.close()
    opening.close()


@pytest.mark.parametrize("kind", ["absent", "unsubscribed", "unsubscribed again"])
def test_a_device_that_is_not_there_is_404103_at_once(hub, kind):
    device = hub.create()
    client = device.login() if kind != "absent" else None
    if kind == "unsubscribed again":
        client.subscribe("$iothub/streams/POST/#")
        client.unsubscribe("$iothub/streams/POST/#")
    started = time.monotonic()
    for fields in ({}, headers(0, 30), headers("0.0", None)):
        opening = Opening(hub, device.name, fields=fields)
        inner = refused(opening.answer(), 404, 404103, "DeviceNotOnline")
        assert inner.get("info") in (None, {"timeout": "00:00:00"})
        opening.close()
    assert time.monotonic() - started < 2
    if client:
        client.close()


def test_the_connect_timeout_passes(hub):
    device = hub.create()
    started = time.monotonic()
    opening = Opening(hub, device.name, connect=2, response=30)
    inner = refused(opening.answer(), 404, 404103, "DeviceNotOnline")
    assert inner["info"] == {"timeout": "00:00:02"}
    assert 1.5 < time.monotonic() - started < 2.9
    opening.close()


@pytest.mark.parametrize("kind", ["comes", "subscribes"])
def test_a_device_that_comes_within_the_connect_timeout_is_asked(hub, kind):
    device = hub.create()
    client = device.login() if kind == "subscribes" else None
    openings = [Opening(hub, device.name, name=f"s{n}", connect=20, response=20) for n in range(3)]
    with hub.connect() as other:  # the hub has taken them when it answers what came later
        other.exchange("GET", path("statistics", "devices"), token=hub.service_token())
    client = client or device.login()
    assert client.subscribe("$iothub/streams/POST/#") == [0]
    requests = [Request(client.receive()) for _ in openings]
    assert {request.name for request in requests} == {"s0", "s1", "s2"}
    for request in requests:
        reply(client, request)
    for opening in openings:
        assert opening.answer().header("iothub-streaming-is-accepted") == "True"
        opening.close()
    client.close()


def test_an_unknown_device_and_module(hub, far):
    for connect in (0, 30):
        opening = Opening(hub, "nobody", connect=connect)
        refused(opening.answer(), 404, 404001, "DeviceNotFound")
        opening.close()
        opening = Opening(hub, "far", module="nobody", connect=connect)
        refused(opening.answer(), 404, 404010, "ModuleNotFound")
        opening.close()


def test_a_disabled_device(hub):
    device = hub.create(body={"status": "disabled"})
    opening = Opening(hub, device.name, connect=5)
    assert opening.answer().status in (403, 404)
    opening.close()


@pytest.mark.parametrize("how", ["closed", "reset", "taken over", "disconnect"])
def test_a_device_that_goes_away_while_a_request_is_pending(hub, how):
    device = hub.create()
    client = device.listen()
    opening = Opening(hub, device.name, connect=30, response=30)
    request = Request(client.receive())
    newer = None
    if how == "taken over":
        newer = device.listen()
    elif how == "reset":
        tls.reset_on_close(client.socket)
        client.close()
    else:
        if how == "disconnect":
            client.send(mqtt.packet(mqtt.DISCONNECT))
        client.close()
    inner = refused(opening.answer(5), 404, 404001)
    assert "Device unavailable" in inner["message"]
    if newer:
        newer.ping()  # it never saw the request
        newer.close()
    late, connection = hub.leg_answer(request.url, request.token)
    assert late.status == 404
    connection.close()
    opening.close()


def test_a_service_that_goes_away_dissolves_the_session(hub, far):
    device, client = far
    opening = Opening(hub, "far", response=30)
    request = Request(client.receive())
    early = hub.leg(request.url, request.token)
    opening.close()
    assert early.receive(5).opcode == CLOSE
    early.close()
    reply(client, request)
    client.ping()
    late, connection = hub.leg_answer(request.url, request.token)
    assert late.status == 404
    connection.close()


def test_a_service_that_goes_away_while_the_device_is_awaited(hub):
    device = hub.create()
    opening = Opening(hub, device.name, connect=30, response=30)
    with hub.connect() as other:
        other.exchange("GET", path("statistics", "devices"), token=hub.service_token())
    opening.close()
    waiting.until(lambda: not [s for s in hub.rest("GET", path("streams")).json if s["deviceId"] == device.name], 5)
    with device.listen() as client:
        client.ping()


# --- 10: rights ---------------------------------------------------------------------------------------------------


def test_who_may_not_open_a_stream(hub, far):
    device, client = far
    hub.admin("policy", "create", "onlyread", "--rights", "RegistryRead,RegistryWrite,DeviceConnect")
    for label, token, code in [
        ("wrong key", hub.service_token(key="d3Jvbmd3cm9uZ3dyb25nd3Jvbmd3cm9uZ3dyb25nd28="), None),
        ("expired", hub.service_token(expiry=int(time.time()) - 900), None), ("other audience", hub.service_token(resource="other"), None),
        ("right missing", hub.service_token("onlyread"), 401002), ("device's own", device.token(), None),
        ("restricted to another path", hub.service_token(resource="localhost/twins/other"), None),
    ]:
        opening = Opening(hub, "far", token=token)
        answer = opening.answer()
        assert answer.status == 401, (label, answer)
        if code:
            assert answer.error == "IotHubUnauthorizedAccess"
        opening.close()
    opening = Opening(hub, "far", token=hub.service_token(resource="localhost/twins/far"))
    reply(client, Request(client.receive()), 400)
    assert opening.answer().status == 200
    opening.close()
    client.ping()


@pytest.mark.parametrize("setting", ["max-streams 3", "max-streams-per-device 3", "new-streams-per-second 3"])
def test_limits(new_hub, tmp_path, setting):
    configuration = tmp_path / "hub.conf"
    configuration.write_text(setting + "\n")
    hub = new_hub(options=["--config", configuration])
    device, other = hub.create(), hub.create()
    with device.listen() as client:
        openings = [Opening(hub, device.name) for _ in range(3)]
        requests = [Request(client.receive()) for _ in openings]
        opening = Opening(hub, device.name)
        answer = opening.answer()
        assert int(answer.header("Retry-After")) > 0
        refused(answer, 429, 429001, "ThrottlingException")
        opening.close()
        opening = Opening(hub, other.name)
        assert opening.answer().status == (404 if "per-device" in setting else 429)
        opening.close()
        for request in requests:
            reply(client, request, 400)
        for opening in openings:
            assert opening.answer().status == 200
            opening.close()

        def again():
            fresh = Opening(hub, device.name, response=5)
            try:
                reply(client, Request(client.receive(0.2)), 400)
                return fresh.answer().status == 200
            except TimeoutError:
                assert fresh.answer().status == 429
                return False
            finally:
                fresh.close()

        waiting.until(again, 10)


# --- 11: modules --------------------------------------------------------------------------------------------------


def test_a_modules_stream_reaches_the_module_alone(hub):
    device = hub.create()
    module, sibling = hub.create(device.name, "mod+1"), hub.create(device.name, "mod2")
    with device.listen() as outer, sibling.listen() as other, module.listen() as client:
        service, leg = pair(hub, module, client)
        service.send(b"hello module")
        assert leg.message() == (BINARY, b"hello module")
        outer.ping()
        other.ping()
        opening = Opening(hub, device.name)
        reply(outer, Request(outer.receive()), 400)
        assert opening.answer().status == 200
        client.ping()
        opening.close()
        service.close()
        leg.close()
    opening = Opening(hub, device.name, module="mod+1")
    refused(opening.answer(), 404, 404103)
    opening.close()


# --- 12: the upgrade ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered, chosen", [(None, None), ("MQTT", "MQTT"), ("AMQP", "AMQP"), ("HTTP", "HTTP"), ("first, second", "first")])
def test_a_subprotocol_is_echoed(hub, far, offered, chosen):
    device, client = far
    fields = {"Sec-WebSocket-Protocol": offered} if offered else {}
    service, leg = pair(hub, device, client, device_headers={**fields, "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"})
    assert leg.answer.header("Sec-WebSocket-Protocol") == chosen
    assert leg.answer.header("Sec-WebSocket-Extensions") is None
    assert service.answer.header("Sec-WebSocket-Protocol") is None
    service.close()
    leg.close()


def test_the_accept_value_of_the_vector(hub, far):
    device, client = far
    accepted = open_stream(hub, device, client)
    connection, target, fields = websocket.open_url(accepted.url, {"Authorization": f"Bearer {accepted.token}"}, hub.ca)
    upgrade = websocket.Upgrade(connection, target, fields, "MDEyMzQ1Njc4OWFiY2RlZg==")
    assert upgrade.answer.status == 101
    assert upgrade.answer.header("Sec-WebSocket-Accept") == "BACScCJPNqyz+UBoqMH89VmURoA="
    connection.close()


def test_tokens(hub, far):
    device, client = far
    accepted = open_stream(hub, device, client)
    request = accepted.request

    def status(url, token, headers=None):
        answer, connection = hub.leg_answer(url, token, headers)
        if answer.status != 101:
            connection.ended(5)
        connection.close()
        return answer.status

    assert status(accepted.url, None) == 401
    assert status(accepted.url, None, {"Authorization": accepted.token}) == 401
    assert status(accepted.url, None, {"Authorization": f"Basic {accepted.token}"}) == 401
    assert status(accepted.url, "") == 401
    assert status(accepted.url, accepted.token[:-1]) == 401
    assert status(accepted.url, accepted.token + "A") == 401
    assert status(accepted.url, request.token) == 401
    assert status(request.url, accepted.token) == 401
    assert status(request.url, hub.service_token()) == 401
    sid = request.url.split("/sid/")[1][:32]
    other = ("0" if sid[5] != "0" else "1").join((sid[:5], sid[6:]))
    assert status(request.url.replace(sid, other), request.token) == 404
    assert status(request.url.replace(sid, "zz"), request.token) == 404
    assert status(request.url.replace(sid, sid * 40), request.token) in (404, 414)
    # None of that used a token up.
    leg, service = hub.leg(request.url, request.token), hub.leg(accepted.url, accepted.token)
    assert status(request.url, request.token) == 409
    assert status(accepted.url, accepted.token) == 409
    service.send(b"still here")
    assert leg.message() == (BINARY, b"still here")
    service.shut()
    leg.close()

    def gone():
        return status(request.url, request.token) == 404 and status(accepted.url, accepted.token) == 404

    waiting.until(gone, 5)


def test_a_plain_get_is_426(hub, far):
    device, client = far
    accepted = open_stream(hub, device, client)
    target = "/" + accepted.url.split("/", 3)[3]
    for fields in ({}, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
                        "Sec-WebSocket-Version": "8"}):
        with hub.connect() as connection:
            answer = connection.exchange("GET", target, {**fields, "Authorization": f"Bearer {accepted.token}"})
            assert answer.status == 426 and answer.header("Sec-WebSocket-Version") == "13", answer
            connection.ended(5)
    with hub.connect() as connection:
        answer = connection.exchange("GET", target, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x",
                                                     "Sec-WebSocket-Version": "13", "Authorization": f"Bearer {accepted.token}"})
        assert answer.status in (400, 426)
    with hub.connect() as connection:
        assert connection.exchange("POST", target, {"Authorization": f"Bearer {accepted.token}"}).status in (405, 426)
    hub.leg(accepted.url, accepted.token).close()


# --- 13: messages -------------------------------------------------------------------------------------------------


@SIDES
def test_sizes_of_messages(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    for opcode in (BINARY, TEXT):
        for size in (1, 125, 126, 127, 65535, 65536, 70000):
            data = os.urandom(size)
            a.send(data, opcode)
            assert b.message() == (opcode, data), size
    a.send(b"")
    a.send(b"", TEXT)
    a.send(b"after nothing")
    assert b.message() == (BINARY, b"after nothing")
    a.shut()
    b.close()


@SIDES
def test_fragments_keep_their_shape(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    a.send(b"one ", TEXT, fin=False)
    a.send(b"two ", CONTINUATION, fin=False)
    a.send(b"inside", PING)
    assert (lambda f: (f.opcode, f.payload))(a.receive()) == (PONG, b"inside")
    a.send(b"", CONTINUATION)
    assert b.message() == (TEXT, b"one two ")
    a.send(b"next")
    assert b.message() == (BINARY, b"next")
    # A part of a message is passed on before the rest is there.
    a.send(b"first half", BINARY, fin=False)
    assert b.bytes(10, 5) == b"first half"
    a.send(b"", CONTINUATION, fin=False)
    a.send(b"x" * 70000, CONTINUATION)
    assert b.bytes(70000) == b"x" * 70000
    a.shut()
    b.close()


@SIDES
def test_a_large_message_passes_while_it_comes(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    size = 8 << 20
    before = hub.process.resident()
    head = struct.pack("!BBQ", 0x82, 0x80 | 127, size) + b"\0\0\0\0"
    data = os.urandom(1 << 16)
    sender = threading.Thread(target=lambda: [a.send_raw(head)] + [a.send_raw(data) for _ in range(size >> 16)])
    sender.start()
    assert b.bytes(size, 30) == data * (size >> 16)
    sender.join()
    assert hub.process.resident() - before < 8 << 20
    a.shut()
    b.close()


def test_a_hundred_thousand_small_frames(hub, far):
    """A C device reads its local socket in pieces of 64 bytes."""
    device, client = far
    service, leg = pair(hub, device, client)
    count = 100_000
    block = b"".join(struct.pack("!BB", 0x82, 0x80 | 64) + b"\0\0\0\0" + struct.pack("!II", n, 0) + b"p" * 56 for n in range(count))
    sender = threading.Thread(target=lambda: leg.send_raw(block))
    sender.start()
    expected = (b"\x82\x40" + struct.pack("!II", n, 0) + b"p" * 56 for n in range(count))
    service.socket.settimeout(60)
    for one in expected:
        assert service.connection.take(66) == one
    sender.join()
    leg.shut()
    service.close()


# --- 14: empty messages -------------------------------------------------------------------------------------------


@SIDES
def test_a_flood_of_empty_messages_ends_the_stream(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    a.send(b"last words")
    try:
        a.send_raw(websocket.frame() * 200)
    except OSError:
        pass
    assert b.message() == (BINARY, b"last words")
    assert b.receive_close().code == 1000
    assert a.receive_close().code == 1000
    a.close()
    b.close()


# --- 15: control frames -------------------------------------------------------------------------------------------


@SIDES
def test_control_frames_belong_to_a_leg(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client, device_headers={"Sec-WebSocket-Protocol": "MQTT"}))
    a.send(b"unasked", PONG)
    for payload in (b"", b"x" * 125):
        a.send(payload, PING)
        got = a.receive()
        assert (got.opcode, got.payload) == (PONG, payload)
    a.send(b"data")
    assert b.message() == (BINARY, b"data")
    a.shut()
    b.close()


@pytest.mark.parametrize("raw", [
    websocket.frame(b"x", masked=False), websocket.frame(b"x", reserved=4), websocket.frame(b"x", 5), websocket.frame(b"x", 12),
    websocket.frame(b"x" * 126, PING), websocket.frame(b"", PING, fin=False), websocket.frame(b"x", CONTINUATION),
    websocket.frame(b"x", fin=False) + websocket.frame(b"y"), websocket.frame(b"\x01", CLOSE),
    websocket.frame(struct.pack("!H", 1006), CLOSE), websocket.frame(struct.pack("!H", 999), CLOSE), b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0",
], ids=range(12))
@SIDES
def test_a_broken_frame_ends_the_stream(hub, far, raw, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    a.send(b"before")
    a.send_raw(raw)
    assert b.message() == (BINARY, b"before")
    got = a.receive_close()
    assert got.code in (1002, 1009)
    got = b.receive()
    while got.opcode != CLOSE:  # the first fragment of the broken message
        got = b.receive()
    assert got.code in (1011, 1002, 1009)
    a.ended(5)
    a.close()
    b.close()


# --- 16: ends -----------------------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("code", [1000, None, 1001, 1011, 3000, 4000, 4999])
def test_a_close_is_answered_and_passed_on(hub, far, side, code):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    data = os.urandom(100_000)
    for at in range(0, len(data), 25_000):
        a.send(data[at:at + 25_000])
    a.send_raw(websocket.close_frame(code, b"why" if code else b""))
    # The closer gets its reply although the peer has read nothing.
    assert a.receive_close().code == code
    assert b.bytes(len(data)) == data
    got = b.receive_close()
    assert got.code == (code or 1000)
    b.send_raw(websocket.close_frame(got.code))
    assert b.ended(5) == b"" and a.ended(5) == b""
    a.close()
    b.close()


@SIDES
@pytest.mark.parametrize("how", ["fin", "reset", "close_notify"])
def test_an_abrupt_end_gives_the_peer_everything_and_1011(hub, far, side, how):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    data = os.urandom(200_000)
    for at in range(0, len(data), 50_000):
        a.send(data[at:at + 50_000])
    if how == "reset":
        # What a reset may throw away is what the hub has not read: it has read this.
        assert b.bytes(len(data)) == data
        tls.reset_on_close(a.socket)
        a.close()
    elif how == "close_notify":
        threading.Thread(target=lambda: _unwrap(a.socket), daemon=True).start()
    else:
        plain = a.socket.detach()
        os.close(plain)
    if how != "reset":
        assert b.bytes(len(data)) == data
    got = b.receive_close()
    assert got.code == 1011 and got.reason == "WS disconnected", got
    b.close()
    if how == "close_notify":
        a.close()


def _unwrap(socket):
    try:
        socket.unwrap()
    except (OSError, ValueError):
        pass


@SIDES
def test_the_peer_that_never_answers_a_close_is_dropped(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    a.send_raw(websocket.close_frame(1000))
    assert a.receive_close().code == 1000
    assert b.receive_close().code == 1000
    started = time.monotonic()
    b.ended(10)
    assert time.monotonic() - started < 8
    a.close()
    b.close()


@SIDES
def test_what_comes_after_a_close_is_discarded(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    a.send_raw(websocket.close_frame(1000))
    b_close = b.receive_close()
    for _ in range(50):
        b.send(b"x" * 10000)
    assert a.receive_close().code == 1000
    assert a.ended(8) == b""
    b.send_raw(websocket.close_frame(b_close.code))
    a.close()
    b.close()


@pytest.mark.parametrize("how", ["disable", "delete", "tool"])
def test_a_device_that_is_disabled_loses_its_streams(hub, how):
    device = hub.create()
    with device.listen() as client:
        service, leg = pair(hub, device, client)
        if how == "disable":
            hub.update(device, status="disabled")
        elif how == "delete":
            hub.rest("DELETE", path("devices", device.name))
        else:
            hub.admin("device", "disable", device.name)
        started = time.monotonic()
        assert service.receive(5).opcode == CLOSE
        assert leg.receive(5).opcode == CLOSE
        assert time.monotonic() - started < 1.5
        service.close()
        leg.close()


# --- half-close between our own programs --------------------------------------------------------------------------


def test_half_close_is_offered_chosen_and_carried(hub, far):
    device, client = far
    opening = Opening(hub, "far", fields=headers(0, 20, "half-close"))
    request = Request(client.receive())
    assert request.extra == {"$offer": "half-close"}
    reply(client, request, 200, "&$chosen=half-close")
    answer = opening.answer()
    accepted = Accepted(answer, request)
    assert answer.header("iotstream-chosen") == "half-close"
    service, leg = hub.leg(accepted.url, accepted.token), hub.leg(request.url, request.token)
    service.send(b"question")
    service.send(b"")
    assert leg.message() == (BINARY, b"question")
    assert leg.message() == (BINARY, b"")
    for number in range(100):
        leg.send(b"answer %d" % number)
    for number in range(100):
        assert service.message() == (BINARY, b"answer %d" % number)
    leg.send(b"")
    assert service.message() == (BINARY, b"")
    leg.shut()
    assert service.receive_close().code == 1000
    service.close()
    opening.close()


def test_half_close_that_was_not_chosen_is_none(hub, far):
    device, client = far
    opening = Opening(hub, "far", fields=headers(0, 20, "half-close"))
    request = Request(client.receive())
    reply(client, request)
    answer = opening.answer()
    assert answer.header("iotstream-chosen") is None
    accepted = Accepted(answer, request)
    service, leg = hub.leg(accepted.url, accepted.token), hub.leg(request.url, request.token)
    service.send(b"")
    service.send(b"x")
    assert leg.message() == (BINARY, b"x")
    opening.close()
    service.close()
    leg.close()


# --- 17, 18, 19: many, slow, long ---------------------------------------------------------------------------------


@SIDES
def test_a_slow_reader_stalls_its_own_stream_only(hub, far, side):
    device, client = far
    a, b = ends(side, *pair(hub, device, client))
    quick_service, quick_leg = pair(hub, device, client)
    before = hub.process.resident()
    a.socket.settimeout(1)
    block, sent = websocket.frame(os.urandom(60_000)), 0
    rest_of_it = b""
    try:
        while sent < 64 << 20:
            rest_of_it = block
            while rest_of_it:
                written = a.socket.send(rest_of_it)
                sent += written
                rest_of_it = rest_of_it[written:]
    except TimeoutError:
        pass
    assert sent < 64 << 20, "nothing held the sender back"
    assert hub.process.resident() - before < 8 << 20
    started = time.monotonic()
    for _ in range(100):
        quick_service.send(b"ping")
        assert quick_leg.message() == (BINARY, b"ping")
        quick_leg.send(b"pong")
        assert quick_service.message() == (BINARY, b"pong")
    assert time.monotonic() - started < 5
    client.ping()
    assert b.message(20)[1] == block_payload(block)
    for leg in (a, b, quick_service, quick_leg):
        leg.close()


def block_payload(frame):
    return websocket.mask_bytes(frame[8:], frame[4:8])


def test_a_running_stream_outlives_the_devices_connection(hub):
    device = hub.create()
    client = device.listen()
    service, leg = pair(hub, device, client)
    client.close()
    waiting.until(lambda: hub.rest("GET", path("devices", device.name)).json["connectionState"] == "Disconnected", 5)
    for _ in range(2):
        service.send(b"on")
        assert leg.message() == (BINARY, b"on")
        leg.send(b"and on")
        assert service.message() == (BINARY, b"and on")
        client = device.listen()
    service.shut()
    leg.close()
    client.close()


def test_sixty_streams_to_one_device(hub, far):
    device, client = far
    openings = [Opening(hub, "far", name=f"many{n}") for n in range(60)]
    requests = {}
    for _ in openings:
        request = Request(client.receive())
        requests[request.name] = request
    legs = []
    for number in reversed(range(60)):
        reply(client, requests[f"many{number}"])
    for number, opening in enumerate(openings):
        accepted = Accepted(opening.answer(), requests[f"many{number}"])
        legs.append((hub.leg(accepted.url, accepted.token), hub.leg(accepted.request.url, accepted.request.token)))
        opening.close()
    for number, (service, leg) in enumerate(legs):
        service.send(b"s%d" % number)
        leg.send(b"d%d" % number)
    for number, (service, leg) in enumerate(legs):
        assert leg.message() == (BINARY, b"s%d" % number)
        assert service.message() == (BINARY, b"d%d" % number)
    listed = [one for one in hub.rest("GET", path("streams")).json if one["deviceId"] == "far"]
    assert {f"many{n}" for n in range(60)} <= {one["name"] for one in listed}
    for service, leg in legs:
        service.close()
        leg.close()
    waiting.until(lambda: not [one for one in hub.rest("GET", path("streams")).json if one["deviceId"] == "far"], 10)


def test_the_echo_quickstart_step_by_step(hub, far):
    """The device closes while the echo is still on its way, and the service drops its leg without a Close."""
    device, client = far
    for _ in range(20):
        service, leg = pair(hub, device, client, service_first=True)
        service.send(b"Streaming data over a stream...")
        assert leg.message() == (BINARY, b"Streaming data over a stream...")
        leg.send_raw(websocket.frame(b"Streaming data over a stream...") + websocket.close_frame(1000))
        assert service.message() == (BINARY, b"Streaming data over a stream...")
        tls.reset_on_close(service.socket)
        service.close()
        assert leg.receive_close().code == 1000
        leg.close()


def test_a_stream_is_listed_and_can_be_closed_from_outside(hub, far):
    device, client = far
    service, leg = pair(hub, device, client, name="listed")
    service.send(b"12345")
    assert leg.message()[1] == b"12345"
    [one] = [one for one in hub.rest("GET", path("streams")).json if one["name"] == "listed"]
    assert one["deviceId"] == "far" and one["moduleId"] is None and one["mode"]
    answer = hub.rest("DELETE", path("streams", one["id"]))
    assert answer.status == 204
    assert service.receive(5).opcode == CLOSE and leg.receive(5).opcode == CLOSE
    waiting.until(lambda: hub.rest("DELETE", path("streams", one["id"])).status == 404, 8)
    service.close()
    leg.close()


def test_nothing_is_left_behind(new_hub):
    hub = new_hub()
    device = hub.create()
    with device.listen() as client:

        def once():
            service, leg = pair(hub, device, client)
            service.send(b"x")
            assert leg.message()[1] == b"x"
            service.close()
            leg.close()

        def settle():
            waiting.until(lambda: not hub.rest("GET", path("streams")).json, 15)

        for _ in range(20):
            once()
        settle()
        descriptors, memory = hub.process.descriptors(), hub.process.resident()
        for _ in range(200):
            once()
        settle()
        waiting.until(lambda: hub.process.descriptors() <= descriptors + 3, 15, "the descriptors' return")
        assert hub.process.resident() - memory < 4 << 20
