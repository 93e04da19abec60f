"""Quotas: how fast streams may be, how many, and that a change holds at once."""

import json
import os
import signal

import pytest
from harness import blind, streams, waiting
from harness.process import run
from harness.programs import Agent, Forward, Server
from harness.rest import path
from harness.streams import Opening, Request, reply
from harness.traffic import Traffic

MB = 1_000_000
KINDS = pytest.mark.parametrize("kind", ["websocket", "blind"])


def lay(hub, keep, kind, device=None, client=None):
    """A stream's two ends: the service's and the device's."""
    if kind == "websocket":
        pair = streams.pair(hub, device, client)
    else:
        accepted = streams.open_stream(hub, device, client, offer="blind", chosen="blind")
        far = blind.leg(hub, accepted.request.url, accepted.request.token)
        pair = blind.leg(hub, accepted.url, accepted.token), far
    for end in pair:
        keep(end)
    return pair


@pytest.fixture
def lane(hub, keep):
    """A device, and what lays streams to it."""
    device = hub.create()
    client = keep(device.listen())
    return device, lambda kind, count=1: [lay(hub, keep, kind, device, client) for _ in range(count)]


def put(hub, device, **members):
    answer = hub.rest("PUT", path("quotas", device.name), members)
    assert answer.status == 200, answer
    return answer.json


@KINDS
@pytest.mark.parametrize("limit", ["rate", "streamRate"])
def test_a_stream_keeps_to_a_rate(hub, keep, lane, kind, limit):
    device, pairs = lane
    put(hub, device, **{limit: 2 * MB})
    traffic = keep(Traffic(pairs(kind)))
    traffic.keeps_to(2 * MB)


@KINDS
def test_both_directions_count_together(hub, keep, lane, kind):
    device, pairs = lane
    put(hub, device, streamRate=2 * MB)
    (service, far), = pairs(kind)
    traffic = keep(Traffic([(far, service), (service, far)]))
    traffic.keeps_to(2 * MB)
    assert min(traffic.shares()) > 0.2 * MB


@KINDS
def test_a_hundred_streams_keep_to_a_rate_together(hub, keep, lane, kind):
    device, pairs = lane
    put(hub, device, rate=5 * MB)
    traffic = keep(Traffic(pairs(kind, 100)))
    waiting.until(lambda: all(pair.moved for pair in traffic.pairs))
    traffic.keeps_to(5 * MB)
    shares = traffic.shares()
    print(f"the slowest {min(shares):.0f}, the fastest {max(shares):.0f}")
    assert min(shares) > 0.02 * MB, "somebody starves"


@KINDS
def test_a_slow_rate_holds_too(hub, keep, lane, kind):
    device, pairs = lane
    put(hub, device, rate=20_000)
    traffic = keep(Traffic(pairs(kind)))
    waiting.until(lambda: traffic.moved)
    traffic.keeps_to(20_000)


@KINDS
def test_a_change_holds_at_once(hub, keep, lane, kind):
    device, pairs = lane
    traffic = keep(Traffic(pairs(kind)))
    free = traffic.rate(1)
    assert free > 8 * MB
    hub.admin("quota", "set", device.name, "--rate", "1MB/s")
    waiting.until(lambda: traffic.rate(0.2) < 2 * MB)
    traffic.keeps_to(MB)
    hub.admin("quota", "set", device.name, "--stream-rate", "3MB/s", "--rate", "none")
    waiting.until(lambda: traffic.rate(0.2) > 2 * MB)
    traffic.keeps_to(3 * MB)
    put(hub, device, rate=1000)
    waiting.until(lambda: traffic.rate(0.2) < 20_000)
    hub.admin("quota", "clear", device.name)
    waiting.until(lambda: traffic.rate(0.2) > 4 * MB)


def test_a_stream_that_waits_long_is_not_cut_and_hears_of_more(hub, keep, lane):
    device, pairs = lane
    put(hub, device, rate=1)
    (service, far), = pairs("websocket")
    far.send(bytes(20_000))
    put(hub, device)
    assert far.connection.socket and service.bytes(20_000) == bytes(20_000)


def configured(new_hub, tmp_path, *lines):
    file = tmp_path / "hub.conf"
    file.write_text("".join(f"{line}\n" for line in lines))
    return new_hub(options=["--config", file]), file


def reload(hub, file, *lines):
    file.write_text("".join(f"{line}\n" for line in lines))
    after = len(hub.process.lines)
    hub.process.signal(signal.SIGHUP)
    hub.process.wait_line("event=reloaded", after=after)


def test_the_configuration_limits_streams_devices_and_all_together(new_hub, keep, tmp_path):
    hub, file = configured(new_hub, tmp_path, "total-rate 3MB/s", "workers 2")
    ends = []
    for _ in range(2):
        device = hub.create()
        client = keep(device.listen())
        ends += [lay(hub, keep, "blind", device, client) for _ in range(2)]
    traffic = keep(Traffic(ends))
    traffic.keeps_to(3 * MB)
    reload(hub, file, "total-rate none", "device-rate 1MB/s", "workers 2")
    waiting.until(lambda: traffic.rate(0.2) < 2.5 * MB)
    traffic.keeps_to(2 * MB)
    reload(hub, file, "stream-rate 8Mbit/s", "workers 2")
    waiting.until(lambda: traffic.rate(0.2) > 2.5 * MB)
    traffic.keeps_to(4 * MB)
    reload(hub, file, "workers 2")
    waiting.until(lambda: traffic.rate(0.2) > 10 * MB)


def test_streams_at_once(hub, keep):
    device, other = hub.create(), hub.create()
    client, far = keep(device.listen()), keep(other.listen())
    hub.admin("quota", "set", device.name, "--streams", "2")
    first = lay(hub, keep, "websocket", device, client)
    lay(hub, keep, "blind", device, client)
    opening = keep(Opening(hub, device.name))
    answer = opening.answer()
    assert (answer.status, answer.code) == (429, 429001) and answer.header("Retry-After"), answer
    assert "too many streams" in answer.body.decode()
    lay(hub, keep, "websocket", other, far)  # nobody else's business
    first[0].shut()

    def again():
        fresh = Opening(hub, device.name)
        try:
            reply(client, Request(client.receive(0.5)), 400)
        except TimeoutError:
            pass
        with fresh.connection:
            return fresh.answer().status == 200

    waiting.until(again)
    hub.admin("quota", "set", device.name, "--streams", "none")
    for _ in range(3):
        lay(hub, keep, "websocket", device, client)


def test_new_streams_in_a_second(hub, keep):
    device = hub.create()
    client = keep(device.listen())
    hub.admin("quota", "set", device.name, "--new-streams", "1/s")

    def opened():
        """What three at once are answered: nothing listens to those that are let in."""
        openings = [keep(Opening(hub, device.name, response=1)) for _ in range(3)]
        return [opening.answer().status == 504 for opening in openings]

    # Two of three fall into one second, wherever its border is.
    assert 1 <= sum(opened()) <= 2
    assert 1 <= sum(opened()) <= 2
    hub.admin("quota", "clear", device.name)
    waiting.until(lambda: all(opened()))


def test_a_quota_lives_through_a_restart_and_goes_with_its_device(new_hub, keep):
    hub = new_hub()
    device = hub.create("press")
    put(hub, device, rate=MB, streams=7)
    hub.restart()
    assert hub.rest("GET", path("quotas", "press")).json["streams"] == 7
    traffic = keep(Traffic([lay(hub, keep, "blind", device, keep(device.listen()))]))
    traffic.keeps_to(MB)
    traffic.stop()
    hub.admin("device", "delete", "press", "--yes")
    hub.create("press")
    assert hub.admin_json("quota", "list") == []


def test_the_rest_routes(hub):
    device = hub.create("quota-by-rest")
    empty = {"deviceId": device.name, "rate": None, "streamRate": None, "streams": None, "newStreamsPerSecond": None}
    assert hub.rest("GET", path("quotas", device.name)).json == empty
    wanted = {**empty, "rate": 1000, "streams": "none"}
    assert put(hub, device, rate=1000, streams="none") == wanted
    assert hub.rest("GET", path("quotas", device.name)).json == wanted
    assert wanted in hub.rest("GET", path("quotas")).json
    hub.admin("policy", "create", "reader", "--rights", "RegistryRead")
    reader = hub.service_token("reader")
    assert hub.rest("GET", path("quotas"), token=reader).status == 200
    assert hub.rest("PUT", path("quotas", device.name), {"rate": 5}, token=reader).status == 401
    assert hub.rest("DELETE", path("quotas", device.name), token=reader).status == 401
    for body in ({"rate": 0}, {"rate": "1MB/s"}, {"streams": -1}, [], {"streamRate": 1.5}):
        answer = hub.rest("PUT", path("quotas", device.name), body)
        assert (answer.status, answer.error) == (400, "ArgumentInvalid"), answer
    assert hub.rest("GET", path("quotas", device.name)).json == wanted
    assert hub.rest("DELETE", path("quotas", device.name)).status == 204
    assert hub.rest("DELETE", path("quotas", device.name)).status == 204
    assert hub.rest("GET", path("quotas", device.name)).json == empty
    for method in ("GET", "DELETE"):
        assert hub.rest(method, path("quotas", "nobody")).status == 404
    assert hub.rest("PUT", path("quotas", "nobody"), {}).status == 404
    assert hub.rest("POST", path("quotas", device.name), {}).status == 405


@pytest.mark.parametrize("place", ["state", "service"])
def test_the_commands(hub, place):
    device = hub.create(f"by-{place}")

    def quota(*words, check=0):
        if place == "state":
            return hub.admin("quota", *words, check=check)
        environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}
        return run([hub.binary, "quota", *words, "--ca", str(hub.ca)], environment, check=check)

    assert quota("set", device.name, "--rate", "1MB/s", "--streams", "4").stdout == ""
    assert quota("set", device.name, "--new-streams", "10/s", "--stream-rate", "10Mbit/s").stdout == ""
    assert json.loads(quota("show", device.name, "--json").stdout) == {
        "deviceId": device.name, "rate": MB, "streamRate": 1_250_000, "streams": 4, "newStreamsPerSecond": 10}
    quota("set", device.name, "--rate", "none", "--streams", "default")
    shown = quota("show", device.name).stdout.splitlines()
    assert shown[0].split() == ["DEVICE", "RATE", "STREAM", "RATE", "STREAMS", "NEW", "STREAMS"]
    assert shown[1].split() == [device.name, "none", "1250kB/s", "default", "10/s"]
    assert device.name in quota("list").stdout
    quota("clear", device.name)
    assert device.name not in quota("list").stdout
    for words in (["--rate", "1Mb/s"], ["--rate", "0"], ["--stream-rate", "fast"], ["--streams", "0"], ["--new-streams", "1/m"], []):
        failed = quota("set", device.name, *words, check=64)
        assert len(failed.stderr.splitlines()) == 1 and failed.stderr.startswith("iotstream quota: "), failed.stderr
    assert quota("show", "nobody", check=1).stderr.count("\n") == 1


@pytest.mark.parametrize("mode", ["blind", "websocket"])
def test_through_agent_and_forward(hub, keep, mode):
    device = hub.create()
    ends = []
    server = keep(Server(lambda connection: ends.append(connection) or connection.makefile().read()))
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it", options=["--mode", mode], environment={"HOME": os.environ.get("HOME", "/root")}))
    near = keep(forward.connect())
    waiting.until(lambda: ends)
    far = ends[0].dup()
    hub.admin("quota", "set", device.name, "--rate", "2MB/s")
    traffic = keep(Traffic([(far, near)]))
    waiting.until(lambda: traffic.rate(0.2) < 3 * MB)
    traffic.keeps_to(2 * MB)
    hub.admin("quota", "set", device.name, "--rate", "none")
    waiting.until(lambda: traffic.rate(0.2) > 5 * MB)
