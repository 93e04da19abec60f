"""The provisioning service dies, or a hub of its, at every step of a registration: the device is registered, and once."""

import signal
import threading

import pytest
from harness import rest, waiting
from harness.dps import Dps, primary
from harness.gobetween import GoBetween
from harness.hub import Hub


class Town:
    """Two hubs behind go-betweens, and the service that knows them."""

    def __init__(self, binary, certificates):
        self.hubs = [
            Hub(binary, certificates, name="localhost"),
            Hub(binary, certificates, name="hub.test", options=["--hostname", "127.0.0.1"]),
        ]
        self.ways = [GoBetween(hub, certificates) for hub in self.hubs]
        self.dps = Dps(binary, certificates)
        self.dps.link(self.hubs[0], port=self.ways[0].port)
        self.dps.link(self.hubs[1], "127.0.0.1", port=self.ways[1].port)

    def remove(self):
        for one in [*self.ways, self.dps, *self.hubs]:
            (one.close if hasattr(one, "close") else one.remove)()


@pytest.fixture(scope="module")
def town(iotstream, certificates):
    made = Town(iotstream, certificates)
    yield made
    made.remove()


def anew(one):
    """Starts what has ended, on other ports: somebody may have taken the old ones. The service knows hubs by their go-betweens."""
    one.process.stop()
    one.https = one.mqtts = 0
    one.start()


def registered(town, name, operation, key):
    """Waits, as a device does that has lost its connection, until its operation has ended."""
    with town.dps.device(name, key) as device:
        answer = device.finish(operation)
        assert answer.status == 200, answer
        return answer.json["registrationState"]


def begun(town, name, key):
    with town.dps.device(name, key) as device:
        answer = device.register()
        assert answer.status == 202, answer
        return answer.json["operationId"]


def documents(town, name):
    found = [hub.rest("GET", rest.path("devices", name)) for hub in town.hubs]
    return [answer.status for answer in found]


STEPS = ["create", "fetch", "insert", "delete"]
CRASHES = [(victim, phase, step) for victim in ("service", "hub") for phase in ("before", "after") for step in range(4)]


@pytest.mark.parametrize(
    "victim, phase, step", [*CRASHES, ("stopped-service", "before", 2), ("stopped-service", "after", 2)],
    ids=lambda part: STEPS[part] if isinstance(part, int) else part)
def test_a_registration_outlives_a_crash(town, victim, phase, step):
    """Step 0 is of a first registration, the others are those of a move."""
    name = f"crash-{victim}-{phase}-{step}"
    shared = {"allocationPolicy": "static", "initialTwin": {"tags": {"stage": "test"}, "properties": {"desired": {"interval": 5}}}}
    enrollment = town.dps.enroll(name, iotHubs=["localhost"], **shared)
    key = primary(enrollment)
    if step:
        assert registered(town, name, begun(town, name, key), key)["assignedHub"] == "localhost"
        town.hubs[0].rest("PATCH", rest.path("twins", name), {"tags": {"owner": "ada"}})
        town.dps.enroll(name, iotHubs=["hub.test"], **shared)
    index, wanted = [(0, "POST /devices"), (0, f"GET /twins/{name}"), (1, "POST /devices"), (0, f"DELETE /devices/{name}")][step]
    has_happened, is_asked = threading.Event(), threading.Event()

    def watch(when, method, path):
        if has_happened.is_set() or when != phase or f"{method} {path}" != wanted:
            return True
        is_asked.wait(10)  # until then nobody knows the operation
        has_happened.set()
        if victim == "service":
            town.dps.kill()
        elif victim == "stopped-service":
            town.dps.process.signal(signal.SIGTERM)
        else:
            town.hubs[index].process.kill()
        return False

    town.ways[index].watch = watch
    try:
        operation = begun(town, name, key)
        is_asked.set()
        assert has_happened.wait(20)
        if victim != "hub":
            waiting.until(lambda: not town.dps.process.running(), 10, "the service's end")
            anew(town.dps)
        else:
            waiting.until(lambda: not town.hubs[index].process.running(), 10, "the hub's end")
            anew(town.hubs[index])
        state = registered(town, name, operation, key)
    finally:
        town.ways[index].watch = lambda *_: True
    here = 1 if step else 0
    assert state["assignedHub"] == town.hubs[here].name
    assert state["substatus"] == ("deviceDataMigrated" if step else "initialAssignment")
    assert documents(town, name) == ([404, 200] if step else [200, 404])
    twin = town.hubs[here].rest("GET", rest.path("twins", name)).json
    assert twin["tags"] == ({"stage": "test", "owner": "ada"} if step else {"stage": "test"})
    assert twin["properties"]["desired"]["interval"] == 5
    assert town.dps.done("GET", "registrations", name)["etag"] == state["etag"]
    # The same once more, with nobody dying: nothing changes.
    assert registered(town, name, begun(town, name, key), key)["assignedHub"] == state["assignedHub"]


def test_a_hub_that_stays_silent_fails_the_registration(iotstream, certificates, keep):
    hub = keep(Hub(iotstream, certificates))
    dps = keep(Dps(iotstream, certificates, settings="hub-seconds 1"))
    dps.link(hub)
    enrollment = dps.enroll("silent")
    hub.process.kill()
    with dps.device("silent", primary(enrollment)) as device:
        state = device.assigned()
    assert state["status"] == "failed" and state["errorCode"] == 503210
    hub.process.stop()
    hub.start()
    with dps.device("silent", primary(enrollment)) as device:
        assert device.assigned()["status"] == "assigned"
