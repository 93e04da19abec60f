"""The provisioning service's device side over MQTT and HTTPS, line by line of its checklist."""

import json

import pytest
from harness import mqtt, rest, sas, waiting
from harness.dps import SCOPE, Dps, derived, primary, secondary
from harness.hub import Certificates, Device, Hub
from harness.process import run


@pytest.fixture(scope="module")
def hubs(iotstream, certificates):
    made = [Hub(iotstream, certificates, name="localhost"), Hub(iotstream, certificates, name="hub.test", options=["--hostname", "127.0.0.1"])]
    yield made
    for hub in made:
        hub.remove()


@pytest.fixture(scope="module")
def dps(iotstream, certificates, hubs):
    made = Dps(iotstream, certificates)
    made.link(hubs[0])
    made.link(hubs[1], "127.0.0.1")
    yield made
    assert made.process.running(), made.process.log
    made.remove()


def test_assigns_a_device_that_its_hub_then_lets_in(dps, hubs):
    enrollment = dps.enroll("press-01", allocationPolicy="static", iotHubs=["localhost"])
    with dps.device("press-01", primary(enrollment)) as device:
        state = device.assigned()
    assert state["assignedHub"] == "localhost" and state["deviceId"] == "press-01", state
    document = hubs[0].rest("GET", rest.path("devices", "press-01")).json
    Device(hubs[0], "press-01", None, document).login().close()
