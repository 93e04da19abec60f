"""Device streams with raw clients on both sides."""

import re
import urllib.parse

from . import mqtt

TOPIC = re.compile(r"\$iothub/streams/POST/([^/]+)/\?\$rid=([A-Za-z0-9-]+)&\$url=([^&/]+)&\$auth=([A-Za-z0-9._-]+)((?:&[^&=/]+=[^&=/]*)*)")


class Request:
    """What a device is told about a stream that a service wants."""

    def __init__(self, packet):
        assert packet.kind == mqtt.PUBLISH and packet.qos == 0 and packet.flags == 0, packet
        assert packet.payload == b""
        self.topic = packet.topic
        assert len(self.topic.split("/")) == 5, self.topic
        match = TOPIC.fullmatch(self.topic)
        assert match, self.topic
        self.name, self.rid, self.encoded_url, self.token = match[1], match[2], match[3], match[4]
        self.extra = dict(urllib.parse.parse_qsl(match[5].lstrip("&")))
        assert re.fullmatch(r"(?:[A-Za-z0-9!()*._-]|%[0-9A-Fa-f]{2})*", self.encoded_url), self.encoded_url
        self.url = urllib.parse.unquote(self.encoded_url)


def headers(connect=None, response=None, offer=None):
    made = {}
    if connect is not None:
        made["iothub-streaming-connect-timeout-in-seconds"] = connect
    if response is not None:
        made["iothub-streaming-response-timeout-in-seconds"] = response
    if offer is not None:
        made["iotstream-offer"] = offer
    return made


class Opening:
    """A service's POST, sent and not yet answered."""

    def __init__(self, hub, device, name="TestStream", module=None, connect=None, response=None, token=None, target=None, fields=None,
                 version="2020-09-30"):
        self.hub = hub
        segments = ["twins", device] + (["modules", module] if module else []) + ["streams", name]
        target = target or "/" + "/".join(urllib.parse.quote(part, safe="") for part in segments) + f"?api-version={version}"
        self.connection = hub.connect(seconds=90)
        fields = headers(connect, response) if fields is None else fields
        self.connection.request("POST", target, fields, token=token or hub.service_token())

    def answer(self, seconds=20.0):
        return self.connection.response(seconds=seconds)

    def close(self):
        self.connection.close()


def reply(client, request, status=200, extra=""):
    client.publish(f"$iothub/streams/res/{status}/?$rid={request.rid}{extra}")


class Accepted:
    def __init__(self, answer, request):
        assert answer.status == 200, answer
        assert answer.header("iothub-streaming-is-accepted") == "True"
        assert answer.body == b""
        self.answer, self.request = answer, request
        self.url, self.token = answer.header("iothub-streaming-url"), answer.header("iothub-streaming-auth-token")
        assert re.fullmatch(r"[A-Za-z0-9._-]{20,}", self.token)


def open_stream(hub, device, client, name="TestStream", offer=None, chosen="half-close", **named):
    """A stream that the device has accepted; no leg is connected. `chosen` is what the device says where something is offered."""
    fields = headers(named.pop("connect", None), named.pop("response", 20), offer)
    opening = Opening(hub, device.name, name, module=device.module, fields=fields, **named)
    request = Request(client.receive())
    reply(client, request, extra=f"&$chosen={chosen}" if offer else "")
    accepted = Accepted(opening.answer(), request)
    opening.close()
    return accepted


def pair(hub, device, client, service_first=False, device_headers=None, service_headers=None, **named):
    """A running stream: the service's leg and the device's."""
    accepted = open_stream(hub, device, client, **named)

    def service():
        return hub.leg(accepted.url, accepted.token, service_headers)

    def far():
        return hub.leg(accepted.request.url, accepted.request.token, device_headers)

    if service_first:
        first = service()
        return first, far()
    second = far()
    return service(), second
