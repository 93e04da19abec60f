"""What is measured, of whom, and what it should come to."""

import socket
import time

from . import brokers, ours, peers
from .processes import resident
from .subjects import Direct
from .tools import Failure


class Goal:
    """Ours is at most (or at least) `factor` times the value of one of `whose`: the best of those that are there."""

    def __init__(self, factor, *whose):
        self.factor, self.whose = factor, whose

    def judge(self, row, values):
        """What to say, ours divided by theirs, and whether that is enough; None when nobody is there to compare with."""
        theirs = [values[name] for name in self.whose if values.get(name)]
        if not theirs or not values.get(row.us):
            return None
        ratio = values[row.us] / (max(theirs) if row.more else min(theirs))
        sign = "≥" if row.more else "≤"
        return f"{sign} {self.factor:g} × {' / '.join(self.whose)}", ratio, ratio >= self.factor if row.more else ratio <= self.factor


class Bound:
    """Ours is at most so much."""

    def __init__(self, most):
        self.most = most

    def judge(self, row, values):
        if not values.get(row.us):
            return None
        return f"≤ {self.most:g} {row.unit}", values[row.us] / self.most, values[row.us] <= self.most


class Row:
    """One comparison: `measure(subject, pace)` gives a number of `unit`."""

    def __init__(self, name, title, unit, subjects, measure, goals=(), more=False, delay=0, once=False):
        self.name, self.title, self.unit = name, title, unit
        self.subjects, self.measure, self.goals, self.more, self.delay = subjects, measure, goals, more, delay
        self.once = once  # one round: a second one would find what the first has left behind
        self.us = subjects[0].name


class Pace:
    """How long and how often."""

    def __init__(self, quick):
        self.quick = quick
        self.rounds = 1 if quick else 7
        self.seconds = 0.3 if quick else 1.0
        self.warm_up = 0.1 if quick else 0.4

    def options(self, *more):
        return ["--seconds", self.seconds, "--warm-up", self.warm_up, *more]


def cost(streams, tls=False, write=131072):
    """Processor seconds per gigabyte."""
    def measure(subject, pace):
        # With many streams it takes longer until all of them run.
        options = pace.options("--write", write)
        if streams > 100:
            options += ["--warm-up", 1]
        got = subject.load("bulk", streams, tls, options)
        return got["cpu"] / (got["bytes"] / 1e9)
    return measure


def speed(streams=1, seconds=None, warm_up=None):
    """Gigabytes per second."""
    def measure(subject, pace):
        options = pace.options()
        if not pace.quick and seconds:
            options += ["--seconds", seconds, "--warm-up", warm_up]
        got = subject.load("bulk", streams, False, options)
        return got["bytes"] / 1e9 / got["seconds"]
    return measure


def round_trip(subject, pace):
    """Microseconds for 64 bytes there and back, the median."""
    return subject.load("pingpong", 1, False, pace.options())["p50"]


def round_trip_beside_bulk(subject, pace):
    """Microseconds of the slowest hundredth."""
    return subject.load("mixed", 2, False, pace.options("--seconds", pace.seconds * 2))["p99"]


def opening(pause):
    """Milliseconds from connect to the far end's first byte, the median."""
    def measure(subject, pace):
        count = 5 if pace.quick else 60
        return subject.load("open", 1, False, ["--opens", count, "--pause", pause])["p50"] / 1000
    return measure


def first_opening(subject, pace):
    """The same for the first stream of a fresh forward."""
    del pace
    got = subject.load("open", 1, False, ["--opens", 1])["p50"] / 1000
    if isinstance(subject, ours.Chain):
        subject.again()
    return got


def weight(subject, pace):
    """Kilobytes of memory that an idle stream costs."""
    count = 100 if pace.quick else 1000
    before = resident(subject.pids())
    held = []
    try:
        if isinstance(subject, ours.HubAlone):
            _, _, held = subject.ends(count)
        else:
            for _ in range(count):
                held.append(socket.create_connection(("127.0.0.1", subject.port), timeout=20))
                held.append(subject.listener.accept()[0])
        # Every stream has carried something before it fell silent.
        for near, far in zip(held[::2], held[1::2]) if not isinstance(subject, ours.HubAlone) else zip(held[:count], held[count:]):
            near.sendall(b"x" * 1000)
            far.settimeout(20)
            left = 1000
            while left > 0:
                left -= len(far.recv(left))
        time.sleep(1.5)
        return (resident(subject.pids()) - before) / count / 1000
    finally:
        for one in held:
            one.close()
        time.sleep(0.5)


def telemetry_rate(qos, devices):
    """Thousands of messages of 100 bytes per second, as fast as the devices may."""
    def measure(subject, pace):
        got = subject.publish(devices, qos, pace, "--window", 50)
        return got["messages"] / got["seconds"] / 1000
    return measure


def telemetry_cost(qos, devices):
    """Microseconds of processor time for each of them."""
    def measure(subject, pace):
        got = subject.publish(devices, qos, pace, "--window", 50)
        return got["cpu"] / max(1, got["messages"]) * 1e6
    return measure


def handshake_cost(mode, shows=False):
    """Microseconds of processor time for a handshake of TLS 1.3."""
    def measure(subject, pace):
        got = subject.shake(mode, pace, subject.place.client if shows else None)
        if got["reused"] not in (0, got["handshakes"]):
            raise Failure(f"{got['reused']} of {got['handshakes']} sessions were resumed")
        return got["cpu"] / got["handshakes"] * 1e6
    return measure


def storm(what):
    """What it takes until all devices are back: seconds (0), or memory as a multiple of that before (1)."""
    return lambda subject, pace: subject.storm(200 if pace.quick else 10_000)[what]


def device_weight(subject, pace):
    return subject.weigh(200 if pace.quick else 10_000)


def at_scale(what):
    return lambda subject, pace: subject.scale(pace)[what]


def answer_at_scale(what, part):
    """Milliseconds within which this part of the answers came."""
    def measure(subject, pace):
        times = subject.scale(pace)["milliseconds"][what]
        if not times:
            raise Failure("nothing was asked")
        return times[min(len(times) - 1, int(len(times) * part))]
    return measure


RELAYS = (ours.Blind, peers.TunedHaproxy, peers.Haproxy, peers.Nginx, peers.Pump)
TUNED, USUAL = peers.TunedHaproxy.name, peers.Haproxy.name
SSH, CHACHA, STUNNEL = peers.OpenSSH.name, peers.OpenSSHChaCha.name, peers.Stunnel.name


def rows():
    made = []
    for tls, what in ((False, "plain"), (True, "TLS")):
        for streams in (1, 8, 64):
            goals = [Goal(1.0, TUNED), Goal(0.35, USUAL)]
            if not tls:
                goals.append(Goal(1.05, peers.Pump.name))
            made.append(Row(
                f"hub-{what.lower()}-{streams}", f"hub, blind, {streams} stream{'s' * (streams > 1)}, {what} end points", "s/GB", RELAYS,
                cost(streams, tls, 131072), goals))
    for streams in (1, 8, 64):
        made.append(Row(
            f"hub-websocket-{streams}", f"hub, WebSocket ⇄ WebSocket over TLS, {streams} stream{'s' * (streams > 1)}", "s/GB",
            (ours.WebSockets, peers.NginxTLS), tls_cost(streams), [Goal(0.8, peers.NginxTLS.name)]))
    made += [
        Row("chain-cost-1", "agent + hub + forward, blind, 1 stream", "s/GB", (ours.Chain, peers.OpenSSH), cost(1), [Goal(1.25, SSH)]),
        Row("chain-cost-8", "agent + hub + forward, blind, 8 streams", "s/GB", (ours.Chain, peers.OpenSSH), cost(8), [Goal(1.25, SSH)]),
        Row("chain-speed", "one stream from end to end", "GB/s", (ours.Chain, peers.OpenSSH, peers.OpenSSHChaCha, peers.Stunnel), speed(),
            [Goal(1.2, SSH, CHACHA, STUNNEL)], more=True),
        Row("chain-far", "one stream from end to end, 50 ms round trip", "GB/s", (ours.Chain, peers.OpenSSH, peers.Stunnel),
            speed(1, 4, 3), [Goal(1.0, SSH, STUNNEL)], more=True, delay=25),
        Row("ping-hub", "64 bytes there and back through the hub, median", "µs", (ours.Blind, Direct, peers.Haproxy, peers.Nginx),
            round_trip, [Goal(1.0, USUAL)]),
        Row("ping-chain", "64 bytes there and back from end to end, median", "µs", (ours.Chain, peers.OpenSSH, peers.Stunnel), round_trip,
            [Goal(0.8, SSH)]),
        Row("ping-beside-bulk", "64 bytes there and back while another stream carries bulk, 99th percentile", "µs",
            (ours.Blind, peers.TunedHaproxy, peers.Haproxy), round_trip_beside_bulk, [Goal(1.0, USUAL, TUNED)]),
        Row("open-warm", "new stream until its first byte, spare connections ready", "ms", (ours.WarmChain, peers.Stunnel), opening(0.02),
            [Bound(1)]),
        Row("open-cold", "first stream of a fresh forward until its first byte", "ms", (ours.Chain, peers.Stunnel), first_opening,
            [Bound(4)]),
        Row("memory-hub", "memory of an idle stream in the hub", "kB", (ours.Blind, peers.HaproxyTLSPair), weight, [Bound(12)], once=True),
        Row("memory-chain", "memory of an idle stream in all three processes", "kB", (ours.Chain, peers.HaproxyTLSPair), weight,
            [Bound(40)], once=True),
        Row("grow-1", "hub, blind, plain end points, 1 active stream", "s/GB", (ours.Blind, peers.TunedHaproxy), cost(1)),
        Row("grow-64", "hub, blind, plain end points, 64 active streams", "s/GB", (ours.Blind, peers.TunedHaproxy), cost(64)),
        Row("grow-1000", "hub, blind, plain end points, 1,000 active streams", "s/GB", (ours.Blind, peers.TunedHaproxy), cost(1000)),
    ]
    both, broker = (brokers.HubBroker, brokers.Mosquitto), brokers.Mosquitto.name
    for qos, factor, what in ((1, 1.0, "QoS 1; the hub has them on disk first"), (0, 1.2, "QoS 0")):
        made.append(Row(
            f"telemetry-rate-{qos}", f"messages of 100 devices over TLS, {what}", "k/s", both, telemetry_rate(qos, 100),
            [Goal(factor, broker)], more=True))
        made.append(Row(
            f"telemetry-cost-{qos}", f"processor time for a message, {what}", "µs", both, telemetry_cost(qos, 100),
            [Goal(1 / factor, broker)]))
    edge, asking = (brokers.HubBroker, brokers.Mosquitto, brokers.HaproxyEdge), (
        brokers.HubBroker, brokers.MosquittoAsking, brokers.HaproxyAsking)
    for name, what, subjects, measure in (
            ("full", "full", edge, handshake_cost("full")), ("resumed", "resumed", edge, handshake_cost("resumed")),
            ("certificate", "full, with a client's certificate", asking, handshake_cost("full", shows=True))):
        made.append(Row(
            f"handshake-{name}", f"processor time for a handshake of TLS 1.3, {what}", "µs", subjects, measure,
            [Goal(1.0, broker), Goal(1.0, brokers.HaproxyEdge.name)]))
    made += [
        Row("storm-time", "until 10,000 devices that have lost their connections are back", "s", both, storm(0), [Bound(60)], once=True),
        Row("storm-memory", "the most memory meanwhile, divided by that of before", "×", both, storm(1), [Bound(1.2)], once=True),
    ]
    made.append(Row(
        "memory-device", "memory of an idle device over TLS", "kB", both, device_weight, [Bound(15)], once=True))
    crowd = "10,000 devices over TLS, a message at QoS 1 from each every 10 s"
    for name, what, unit, subjects, measure, goals in (
            ("connected", "until all of them were in", "s", both, at_scale("connected"), [Goal(1, broker)]),
            ("cpu", "processor time, % of a core", "%", both, at_scale("cpu"), []),
            ("memory", "memory of each", "kB", both, at_scale("memory"), [Goal(1.1, broker)]),
            ("method-p50", "round trip of a method over REST, half of them within", "ms", both[:1], answer_at_scale("method", 0.5), []),
            ("method-p99", "round trip of a method over REST, 99 of 100 within", "ms", both[:1], answer_at_scale("method", 0.99), [Bound(5)]),
            ("twin-p99", "reading a twin over REST, 99 of 100 within", "ms", both[:1], answer_at_scale("twin", 0.99), [Bound(5)])):
        made.append(Row(f"scale-{name}", f"{crowd}: {what}", unit, subjects, measure, goals, once=True))
    return made


def tls_cost(streams):
    """As `cost`, where the relay itself ends the load tool's TLS. WebSocket legs bring theirs along."""
    def measure(subject, pace):
        own = isinstance(subject, ours.WebSockets)
        got = subject.load("bulk", streams, not own, pace.options("--write", 65536))
        return got["cpu"] / (got["bytes"] / 1e9)
    return measure
