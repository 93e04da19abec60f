"""A fleet of one group that comes all at once: everybody is registered, and the hubs have their parts of it.

`IOTSTREAM_DEVICES` says how many.
"""

import asyncio
import json
import os
import struct
import time

from harness import mqtt, rest, tls
from harness.dps import ANSWERS, SCOPE, VERSION, Answer, Dps, derived, primary
from harness.hub import Hub

DEVICES = int(os.environ.get("IOTSTREAM_DEVICES", "300"))
HANDSHAKES = 100


def processor_seconds(process):
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Member:
    """One device, as a library's state machine behaves."""

    def __init__(self, dps, name, key):
        self.dps, self.name, self.key = dps, name, key

    async def receive(self):
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            digit = (await self.reader.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
        return mqtt.Packet(first >> 4, first & 15, await self.reader.readexactly(length))

    async def ask(self, topic, number):
        body = mqtt.text(topic.replace("RID", str(number))) + struct.pack("!H", number) + b" "
        self.writer.write(mqtt.packet(mqtt.PUBLISH, body, 2))
        assert (await self.receive()).kind == mqtt.PUBACK
        got = await self.receive()
        self.writer.write(mqtt.packet(mqtt.PUBACK, struct.pack("!H", got.identifier)))
        return Answer(got.topic, got.payload)

    async def register(self, gate, settings):
        async with gate:
            self.reader, self.writer = await asyncio.open_connection(
                self.dps.address, self.dps.mqtts, ssl=settings, server_hostname=self.dps.name)
            user = f"{SCOPE}/registrations/{self.name}/api-version={VERSION}"
            self.writer.write(mqtt.connect_packet(self.name, user, self.dps.token(self.name, self.key)))
            assert (await self.receive()).body == b"\0\0"
            self.writer.write(mqtt.packet(mqtt.SUBSCRIBE, struct.pack("!H", 1) + mqtt.text(ANSWERS) + b"\1", 2))
            assert (await self.receive()).kind == mqtt.SUBACK
        number = 2
        topic, operation, throttled = "$dps/registrations/PUT/iotdps-register/?$rid=RID", None, 0
        while True:
            answer = await self.ask(topic, number)
            number += 1
            if answer.status == 200:
                break
            assert answer.status in (202, 429), answer
            throttled += answer.status == 429
            if answer.status == 202:
                operation = answer.json["operationId"]
                topic = f"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=RID&operationId={operation}"
            await asyncio.sleep(answer.retry_after)
        self.writer.close()
        return self.name, answer.json["registrationState"], throttled


def test_a_fleet_registers_all_at_once(iotstream, certificates, keep):
    hubs = [
        keep(Hub(iotstream, certificates, name="localhost")),
        keep(Hub(iotstream, certificates, name="hub.test", options=["--hostname", "127.0.0.1"])),
    ]
    dps = keep(Dps(iotstream, certificates))
    dps.link(hubs[0])
    dps.link(hubs[1], "127.0.0.1")
    key = primary(dps.enroll_group("fleet", initialTwin={"tags": {"fleet": "f"}, "properties": {"desired": {"interval": 5}}}))
    members = [Member(dps, f"unit-{number:05}", derived(key, f"unit-{number:05}")) for number in range(DEVICES)]

    async def burst():
        gate, settings = asyncio.Semaphore(HANDSHAKES), tls.context(dps.ca)
        return await asyncio.gather(*(member.register(gate, settings) for member in members))

    started = time.monotonic()
    results = asyncio.run(burst())
    seconds = time.monotonic() - started
    assert all(state["status"] == "assigned" for _, state, _ in results)
    counts = [sum(state["assignedHub"] == hub.name for _, state, _ in results) for hub in hubs]
    totals = [hub.rest("GET", rest.path("statistics", "devices")).json["totalDeviceCount"] for hub in hubs]
    spent = [round(processor_seconds(one.process), 1) for one in [dps, *hubs]]
    print(json.dumps({
        "devices": DEVICES, "seconds": round(seconds, 1), "hubs": counts, "throttled": sum(t for _, _, t in results),
        "processor seconds of service and hubs": spent, "resident MB": dps.process.resident() >> 20}))
    assert totals == counts and sum(counts) == DEVICES
    assert abs(counts[0] - counts[1]) <= max(0.02 * DEVICES, 20)
