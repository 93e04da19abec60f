"""A provisioning service under test, and devices that register at it."""

import base64
import hashlib
import hmac
import itertools
import json
import re
import shutil
import tempfile
import time

from . import mqtt, rest, sas, tls
from .process import Process, run

READY = r"iotstream dps: ready https=(\S+):(\d+) mqtts=(\S+):(\d+)"
SCOPE = "0ne00000007"
VERSION = "2019-03-31"
ANSWERS = "$dps/registrations/res/#"


def derived(key, registration):
    """A device's key, of its group's (dps 5.3)."""
    return base64.b64encode(hmac.new(base64.b64decode(key), registration.encode(), hashlib.sha256).digest()).decode()


class Answer:
    """What the service published."""

    def __init__(self, topic, body):
        self.topic, self.body = topic, body
        found = re.fullmatch(r"\$dps/registrations/res/(\d+)/\?\$rid=([^&]*)(?:&retry-after=(\d+))?", topic)
        assert found, topic
        self.status, self.rid = int(found[1]), found[2]
        self.retry_after = int(found[3]) if found[3] else None

    def __repr__(self):
        return f"<{self.topic} {self.body!r}>"

    @property
    def json(self):
        return json.loads(self.body)


class Registrant:
    """A device's MQTT connection to the service."""

    def __init__(self, dps, registration, key=None, web=False, scope=SCOPE, token=None, client=None, user=None, clean=True, settings=None,
                 target="/$iothub/websocket", protocol="mqtt", qos=1, subscribe=True, keep_alive=60):
        self.dps, self.registration, self.qos = dps, registration, qos
        if web:
            self.mqtt = mqtt.Client.web((dps.address, dps.https), dps.ca, dps.name, target=target, protocol=protocol)
        else:
            self.mqtt = mqtt.Client.tcp((dps.address, dps.mqtts), dps.ca, dps.name, settings=settings)
        if token is None and key is not None:
            token = dps.token(registration, key, scope)
        user = user if user is not None else f"{scope}/registrations/{registration}/api-version={VERSION}&ClientVersion=py%2F2.14.0"
        self.code, self.session = self.mqtt.connect(
            registration if client is None else client, user, token, clean=clean, keep_alive=keep_alive)
        self.rids = itertools.count(1)
        if self.code == 0 and subscribe:
            self.granted = self.mqtt.subscribe(ANSWERS, qos=qos)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mqtt.close()

    close = __exit__

    def ask(self, topic, body=b"", rid=None, seconds=20.0):
        """One request: its PUBACK comes before its answer."""
        rid = rid or str(next(self.rids))
        number = self.mqtt.publish(topic.replace("RID", rid), body, qos=self.qos)
        if self.qos:
            assert self.mqtt.expect(mqtt.PUBACK).identifier == number
        got = self.mqtt.expect(mqtt.PUBLISH, seconds)
        answer = Answer(got.topic, got.payload)
        assert answer.rid == rid and got.qos == self.qos
        return answer

    def register(self, body=b"", **named):
        return self.ask("$dps/registrations/PUT/iotdps-register/?$rid=RID", body, **named)

    def poll(self, operation, **named):
        return self.ask(f"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=RID&operationId={operation}", b" ", **named)

    def finish(self, operation, seconds=30.0):
        """Asks until the operation has ended: its last answer."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.poll(operation)
            if answer.status != 202 or time.monotonic() > deadline:
                return answer
            assert answer.retry_after == 3 and answer.json["registrationState"]["registrationId"] == self.registration
            time.sleep(0.05)

    def assigned(self, payload=None, seconds=30.0):
        """Registers: the registration state."""
        begun = self.register(json.dumps({"registrationId": self.registration, "payload": payload}).encode())
        assert begun.status == 202 and begun.retry_after == 3, begun
        assert begun.json["status"] == "assigning"
        answer = self.finish(begun.json["operationId"], seconds)
        assert answer.status == 200, answer
        assert answer.json["status"] == answer.json["registrationState"]["status"]
        return answer.json["registrationState"]


class Service:
    """What a provisioning service is asked for, whatever process it lives in."""

    key = None

    # What services do

    def owner_key(self):
        if self.key is None:
            words = [self.binary, "provisioning", "connection-string", "--hostname", self.name, "--state", self.state]
            self.key = sas.parse_connection_string(run(words, check=0).stdout)["SharedAccessKey"]
        return self.key

    def connect(self, **named):
        return rest.Connection((self.address, self.https), self.ca, self.name, **named)

    def rest(self, method, *segments, body=None, headers=None, token=None):
        token = token or sas.token(self.owner_key(), self.name, "provisioningserviceowner")
        with self.connect() as connection:
            return connection.exchange(method, rest.path(*segments, **{"api-version": "2021-10-01"}), headers, body, token)

    def done(self, *arguments, **named):
        answer = self.rest(*arguments, **named)
        assert answer.status in (200, 204), answer
        return answer.json if answer.body else None

    def link(self, hub, host=None, port=None, key=None, **members):
        """Links a hub by its name; `host` is another name or address of it, `port` perhaps a go-between's."""
        text = f"HostName={host or hub.name}:{port or hub.https};SharedAccessKeyName=iothubowner;SharedAccessKey={key or hub.policy_key()}"
        return self.done("PUT", "linkedHubs", hub.name, body={"name": hub.name, "connectionString": text, **members})

    def enroll(self, registration, **members):
        return self.done(
            "PUT", "enrollments", registration,
            body={"registrationId": registration, "attestation": {"type": "symmetricKey"}, **members})

    def enroll_group(self, group, **members):
        return self.done(
            "PUT", "enrollmentGroups", group,
            body={"enrollmentGroupId": group, "attestation": {"type": "symmetricKey"}, **members})

    # What devices do

    def token(self, registration, key, scope=SCOPE, **named):
        return sas.token(key, named.pop("resource", f"{scope}/registrations/{registration}"), named.pop("policy", None), **named)

    def device(self, registration, key=None, **named):
        return Registrant(self, registration, key, **named)

    def settings(self, leaf=None):
        """TLS settings of a device with a certificate: (chain file, key file)."""
        return tls.context(self.ca, *leaf) if leaf else None


class Dps(Service):
    """A provisioning service with a state directory of its own."""

    def __init__(self, binary, certificates, hubs=(), address="127.0.0.1", ports=(0, 0), name="localhost", options=(), settings="",
                 environment=None):
        self.binary, self.certificates, self.address, self.name = binary, certificates, address, name
        self.ca = certificates.root
        self.state = tempfile.mkdtemp(prefix="iotstream-dps.")
        self.https, self.mqtts = ports
        self.options, self.environment = list(options), environment
        self.configuration = f"{self.state}/dps.conf"
        with open(self.configuration, "w") as file:
            file.write(f"hub-ca {self.ca}\nwebhook-ca {self.ca}\n{settings}\n")
        self.start()
        for hub in hubs:
            self.link(hub)

    def start(self, seconds=20.0):
        self.process = Process(
            [self.binary, "dps", "--config", self.configuration, "--state", self.state, "--hostname", self.name, "--https",
             f"{self.address}:{self.https}", "--mqtts", f"{self.address}:{self.mqtts}", "--tls-cert", self.certificates.chain, "--tls-key",
             self.certificates.key, "--id-scope", SCOPE, *self.options], self.environment)
        ready = self.process.wait_line(READY, seconds)
        self.https, self.mqtts = int(ready[2]), int(ready[4])
        return self

    def kill(self):
        """Dies without a word."""
        self.process.kill()
        self.process.stop()

    def restart(self):
        self.kill()
        return self.start()

    def stop(self):
        return self.process.stop()

    def remove(self):
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)


def primary(document):
    return document["attestation"]["symmetricKey"]["primaryKey"]


def secondary(document):
    return document["attestation"]["symmetricKey"]["secondaryKey"]


class Within(Service):
    """The service that a hub runs on its own ports."""

    def __init__(self, hub, name="localhost"):
        self.binary, self.state, self.address, self.ca, self.name = hub.binary, hub.state, hub.address, hub.ca, name
        self.hub, self.https, self.mqtts = hub, hub.https, hub.mqtts
