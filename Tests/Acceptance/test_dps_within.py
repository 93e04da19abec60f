"""A hub with the provisioning service on its own ports: every client finds whom it means."""

import signal

import pytest
from harness import mqtt, rest
from harness.dps import SCOPE, Within, derived, primary
from harness.hub import Device, Hub
from harness.process import run


@pytest.fixture(scope="module")
def both(iotstream, certificates, tmp_path_factory):
    file = tmp_path_factory.mktemp("dps") / "dps.conf"
    file.write_text(f"id-scope {SCOPE}\nhub-ca {certificates.root}\nhostname 127.0.0.1\n")
    hub = Hub(iotstream, certificates, options=["--with-dps", "--dps-config", file])
    dps = Within(hub, "127.0.0.1")
    dps.link(hub)
    yield hub, dps
    assert hub.process.running(), hub.process.log
    hub.remove()


@pytest.mark.parametrize("web, target", [(False, ""), (True, "/$iothub/websocket"), (True, "/")], ids=["mqtt", "hub-path", "root-path"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["own-name", "hubs-name"])
def test_a_device_registers_and_connects_on_the_same_port(both, web, target, name):
    hub, dps = both
    key = primary(dps.enroll("both-1"))
    dps.name, known = name, dps.name
    try:
        with dps.device("both-1", key, web=web, **({"target": target} if web else {})) as device:
            state = device.assigned()
    finally:
        dps.name = known
    assert state["assignedHub"] == "localhost"
    document = hub.rest("GET", rest.path("devices", "both-1")).json
    with Device(hub, "both-1", None, document).login(web=web) as client:
        client.ping()


def test_both_service_apis_and_https_devices(both):
    hub, dps = both
    group = dps.enroll_group("both")
    assert dps.rest("GET", "policies").json != hub.rest("GET", rest.path("policies")).json
    dps.name = "localhost"  # paths alone decide
    try:
        assert dps.rest("GET", "enrollmentGroups", "both").status == 401  # the token is for another name
        token = dps.token("both-2", derived(primary(group), "both-2"))
        with dps.connect() as connection:
            base = f"/{SCOPE}/registrations/both-2"
            assert connection.exchange("PUT", f"{base}/register?api-version=2019-03-31", body={}, token=token).status == 202
            assert connection.exchange("GET", rest.path("devices", "nobody"), token=hub.service_token()).status == 404
    finally:
        dps.name = "127.0.0.1"
    assert dps.rest("GET", "enrollmentGroups", "both").status == 200


def test_a_device_that_is_called_like_a_path_of_the_service(both):
    hub, dps = both
    device = hub.create("registrations")
    assert hub.rest("GET", rest.path("devices", "registrations", "modules")).json == []
    assert hub.rest("GET", rest.path("twins", "registrations")).status == 200
    device.login().close()


def test_packets_in_pieces_and_strangers(both):
    hub, dps = both
    key = primary(dps.enroll("both-3"))
    client = hub.mqtt()
    packet = mqtt.connect_packet("both-3", f"{SCOPE}/registrations/both-3/api-version=2019-03-31", dps.token("both-3", key))
    client.send(packet[:9])
    client.send(packet[9:] + mqtt.packet(mqtt.PINGREQ))
    assert client.expect(mqtt.CONNACK).body == b"\0\0"
    client.expect(mqtt.PINGRESP)
    assert hub.mqtt().connect("both-3", "elsewhere/both-3/?api-version=2021-04-12", "x")[0] == 5
    with dps.device("both-3", key, scope="0ne999") as device:
        assert device.register().status == 401


def test_a_restart_and_a_reload_keep_both(both):
    hub, dps = both
    hub.restart()
    hub.process.signal(signal.SIGHUP)
    hub.process.wait_line("reloaded")
    key = primary(dps.enroll("both-4"))
    with dps.device("both-4", key) as device:
        assert device.assigned()["status"] == "assigned"


def test_a_look_at_the_configuration_is_one_at_both(iotstream, certificates, tmp_path):
    file = tmp_path / "dps.conf"
    words = [iotstream, "hub", "--check", "--with-dps", "--dps-config", file, "--tls-cert", certificates.chain, "--tls-key", certificates.key]
    file.write_text("hub-seconds 10\n")
    run(words, check=0)
    file.write_text("hub-seconds 10\nnonsense 1\n")
    assert f"{file}:2" in run(words, check=78).stderr
