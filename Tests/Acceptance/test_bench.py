"""`iotstream bench`: what it measures, and what it says when it cannot."""

import json

import pytest

from harness.process import run
from harness.programs import Agent, Server, echo


def bench(hub, tmp_path, device, *arguments, check=0):
    return run([hub.binary, "bench", device.name, *arguments, "--ca", hub.ca, "--identity", tmp_path / "service"],
               {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}, check=check)


def positive(hop):
    return hop["count"] > 0 and 0 <= hop["min"] <= hop["p50"] <= hop["p99"] and hop["p99"] > 0


@pytest.mark.parametrize("mode", ["auto", "blind", "websocket"])
def test_every_hop_is_measured(hub, keep, tmp_path, mode):
    device = hub.create()
    agent = keep(Agent(hub, device, "bench"))
    result = bench(hub, tmp_path, device, "--mode", mode, "--seconds", "1", "--count", "3", "--json")
    found = json.loads(result.stdout)
    assert (found["device"], found["remote"], found["hub"]) == (device.name, "bench", f"localhost:{hub.https}")
    assert found["endToEnd"] is True and found["mode"] == ("websocket" if mode == "websocket" else "blind")
    assert set(found["hubMilliseconds"]) == {"name", "connect", "tlsFull", "tlsResumed", "request"}
    assert set(found["streamMilliseconds"]) == {"answer", "leg", "handshake", "firstByte", "total", "first"}
    for hop in [*found["hubMilliseconds"].values(), *found["streamMilliseconds"].values(), found["roundTripMilliseconds"]]:
        assert positive(hop), hop
    assert found["roundTripMilliseconds"]["bytes"] == 64
    assert found["hubMilliseconds"]["tlsFull"]["count"] == 1
    assert found["toDeviceBytesPerSecond"] > 0 and found["fromDeviceBytesPerSecond"] > 0
    assert agent.process.running()


def test_people_get_a_table(hub, keep, tmp_path):
    device = hub.create()
    keep(Agent(hub, device, "bench"))
    lines = bench(hub, tmp_path, device, "--seconds", "0", "--count", "2").stdout.splitlines()
    assert lines[0] == f"{device.name}:bench via localhost:{hub.https}: blind, encrypted end to end"
    for title in ("TLS handshake, resumed", "stream: end-to-end handshake", "stream: to the first byte", "round trip of 64 bytes"):
        assert len([line for line in lines if line.startswith(title) and line.count(" ms") == 3]) == 1, title
    assert not [line for line in lines if "MB/s" in line]


def test_another_service_is_only_opened(hub, keep, tmp_path):
    server = keep(Server(echo))
    device = hub.create()
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    found = json.loads(bench(hub, tmp_path, device, "it", "--count", "4", "--json").stdout)
    assert set(found["streamMilliseconds"]) == {"answer", "leg", "handshake", "total", "first"}
    assert "roundTripMilliseconds" not in found and "toDeviceBytesPerSecond" not in found
    assert server.accepted == 4
    found = json.loads(bench(hub, tmp_path, device, "it", "--echo", "--count", "2", "--json").stdout)
    assert positive(found["roundTripMilliseconds"]) and "toDeviceBytesPerSecond" not in found


def test_a_device_that_does_not_offer_it(hub, keep, tmp_path):
    device = hub.create()
    keep(Agent(hub, device, "22"))
    result = bench(hub, tmp_path, device, check=1)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"iotstream bench: {device.name}:bench: the device does not offer its measuring service: run its agent with --allow bench, "
        "or put `allow bench` into its configuration and send it SIGHUP"]


def test_what_cannot_be_reached(hub, tmp_path):
    device = hub.create()
    assert bench(hub, tmp_path, device, check=1).stderr == f"iotstream bench: {device.name}:bench: device offline\n"
    assert "no such device" in run(
        [hub.binary, "bench", "nobody", "--ca", hub.ca, "--identity", tmp_path],
        {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}, check=1).stderr
    elsewhere = hub.connection_string().replace(f":{hub.https}", ":1")
    assert "connection refused" in run(
        [hub.binary, "bench", device.name, "--ca", hub.ca, "--identity", tmp_path], {"IOTSTREAM_CONNECTION_STRING": elsewhere}, check=69).stderr
    refused = hub.connection_string().replace("SharedAccessKey=", "SharedAccessKey=AAAA")
    assert "not permitted" in run(
        [hub.binary, "bench", device.name, "--ca", hub.ca, "--identity", tmp_path], {"IOTSTREAM_CONNECTION_STRING": refused}, check=77).stderr


def test_a_service_that_is_no_measuring_service(hub, keep, tmp_path):
    server = keep(Server(echo))
    device = hub.create()
    keep(Agent(hub, device, f"bench=127.0.0.1:{server.port}"))
    assert "the measuring service answered echo" in bench(hub, tmp_path, device, check=1).stderr
