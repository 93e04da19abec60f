"""Devices and their certificates on every port and protocol: who comes in, and what the log says of who does not."""

import json
import pathlib
import re
import ssl
import time

import pytest
from harness import attestation, mqtt, tls, waiting
from harness.attestation import CA, LEAF, VERSIONS, WAYS
from harness.hub import Device, Hub
from harness.process import run
from harness.rest import path
from harness.streams import pair
from harness.websocket import CLOSE

EVERY_WAY = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    return attestation.Forge(tmp_path_factory.mktemp("forge"))


def register(hub, name, made, verified=True):
    answer = hub.rest("PUT", path("certificates", name), {"properties": {"certificate": made.pem, "isVerified": verified}})
    assert answer.status == 200, answer
    return answer


def device(hub, name, kind="certificateAuthority", module=None, **prints):
    """An identity of the name and what it is known by, made if it is not there."""
    authentication = {"type": kind, **({"x509Thumbprint": prints} if prints else {})}
    segments = ["devices", name] + (["modules", module] if module else [])
    body = {"deviceId": name, **({"moduleId": module} if module else {}), "authentication": authentication}
    answer = hub.rest("PUT", path(*segments), body)
    assert answer.status in (200, 201, 409), answer
    return answer


@pytest.fixture(scope="module")
def house(hub, forge):
    """Two authorities that are verified, one that is not, and a device for everybody."""
    made = {"root": forge.root("Root")}
    root = made["root"]
    made["middle"] = forge.make("Middle", root, CA.replace("TRUE", "TRUE,pathlen:0"))
    made["plant"] = forge.make("Plant", root, CA, show=[])
    made["claimed"] = forge.root("Claimed")
    made["old"] = forge.root("Old", begins=-20, ends=-1)
    register(hub, "root", root)
    register(hub, "old", made["old"])
    register(hub, "claimed", made["claimed"], verified=False)
    for name in ("Press-17", "press-18"):
        device(hub, name)
    return made


def refusal(client):
    return rf"event=refused what=(connect|request) identity={'module' if '/' in client else 'device'}:{client} peer=\S+ reason=(\S+)"


def audited(hub):
    """The refusals of the audit log: who, by what protocol, for which reason."""
    lines = [json.loads(line) for file in sorted(pathlib.Path(hub.state, "audit").glob("*")) for line in file.read_text().splitlines()]
    return [(each["actor"], each["protocol"], each["code"]) for each in lines if each.get("outcome") == "refused"]


def is_refused(hub, way, client, made, reason, **named):
    """Whether it is refused for this reason, which only the log tells."""
    since = len(hub.process.lines)
    assert not WAYS[way](hub, client, made, **named)
    match = hub.process.wait_line(refusal(client), 10, since)
    assert match[2] == reason, match.string
    return match.string


# --- an authority's certificates ---------------------------------------------------------------------------------


@EVERY_WAY
@pytest.mark.parametrize("version", VERSIONS)
def test_a_chain_to_a_registered_root_comes_in(hub, house, forge, way, version):
    leaf = forge.make("Press-17", house["middle"])
    assert WAYS[way](hub, "Press-17", leaf, version=VERSIONS[version])
    assert WAYS[way](hub, "Press-17", leaf.showing(house["root"], house["claimed"], house["middle"]), version=VERSIONS[version])


def bad(forge, house):
    """Everything that a certificate can be instead of good, with the reason for the log."""
    root, middle = house["root"], house["middle"]
    below = forge.make("Below", middle, CA)
    no_ca = forge.make("NoCA", root, LEAF)
    silent = forge.make("Silent", root, CA.replace("keyCertSign,cRLSign", "digitalSignature"))
    twin, elsewhere = forge.root("Root"), forge.root("Elsewhere")
    gone = forge.make("Gone", root, CA, begins=-9, ends=-1)
    young = forge.make("Young", root, CA, begins=1, ends=9)
    feeble = forge.make("Feeble", root, CA, key="RSA:1024")

    def leaf(issuer=middle, **named):
        return forge.make(named.pop("name", "Press-17"), issuer, **named)

    made = {
        "expired": (leaf(begins=-9, ends=-1), "expired"), "not yet valid": (leaf(begins=1, ends=9), "not-yet-valid"),
        "another's name": (leaf(name="press-18"), "wrong-name"), "wrong case": (leaf(name="press-17"), "wrong-name"),
        "a longer name": (leaf(name="Press-17 "), "wrong-name"),
        "missing intermediate": (leaf(show=[]), "no-issuer"), "unverified authority": (leaf(house["claimed"]), "unverified-authority"),
        "expired authority": (leaf(house["old"]), "expired"), "expired intermediate": (leaf(gone), "expired"),
        "intermediate of tomorrow": (leaf(young), "not-yet-valid"), "path length exceeded": (leaf(below), "path-length"),
        "a server's certificate": (leaf(extensions=LEAF.replace("clientAuth", "serverAuth")), "key-usage"),
        "a key that may not sign": (leaf(extensions=LEAF.replace("digitalSignature", "keyEncipherment")), "key-usage"),
        "a CA as a leaf": (leaf(house["root"], extensions=CA), "is-a-ca"), "an issuer that is no CA": (leaf(no_ca), "not-a-ca"),
        "an issuer that may not sign": (leaf(silent), "key-usage"), "weak intermediate": (leaf(feeble), "weak-key"),
        "a stranger's chain": (leaf(twin), "bad-signature"), "a root of its own": (leaf(None), "untrusted-root"),
        "a chain with its own root": (leaf(elsewhere).showing(elsewhere), "untrusted-root"),
        "a weak key": (leaf(key="RSA:1024"), "weak-key"), "a weak digest": (leaf(digest="sha1"), "weak-key"), "too many": (leaf().showing(*[middle] * 10), "too-long"),
        "another intermediate of the name": (leaf().showing(forge.make("Middle", root, CA)), "bad-signature"),
    }
    return made


def test_every_bad_certificate_is_refused_on_every_way_for_its_own_reason(new_hub, house, forge):
    hub, kinds = new_hub(), bad(forge, house)
    for name in ("root", "old"):
        register(hub, name, house[name])
    register(hub, "claimed", house["claimed"], verified=False)
    device(hub, "Press-17")
    found = {}
    for kind, (made, reason) in kinds.items():
        for way in WAYS:
            since = len(hub.process.lines)
            try:
                assert not WAYS[way](hub, "Press-17", made), f"{kind} over {way} came in"
            except (ssl.SSLError, ConnectionError) as error:
                found[kind, way] = f"handshake: {error}"
                continue
            found[kind, way] = hub.process.wait_line(refusal("Press-17"), 10, since)[2]
    wrong = {where: word for where, word in found.items() if word != kinds[where[0]][1]}
    assert not wrong, wrong
    ways = {"mqtt": "mqtt", "websocket": "mqtt-ws", "https": "https", "upload": "https"}
    expected = [("device:Press-17", ways[way], word) for (_, way), word in found.items()]
    waiting.until(lambda: len(audited(hub)) >= len(expected), 10)
    assert audited(hub) == expected


def test_the_log_says_it_in_words(hub, house, forge):
    line = is_refused(hub, "mqtt", "Press-17", forge.make("Press-17", house["middle"], begins=-9, ends=-1), "expired")
    assert "CN=Press-17 expired on 20" in line
    line = is_refused(hub, "https", "Press-17", forge.make("Press-17", house["claimed"]), "unverified-authority")
    assert "authority claimed is not verified" in line


@EVERY_WAY
def test_the_certificate_of_one_device_is_not_another_ones(hub, house, forge, way):
    own, others = forge.make("press-18", house["middle"]), forge.make("Press-17", house["middle"])
    assert WAYS[way](hub, "press-18", own)
    is_refused(hub, way, "press-18", others, "wrong-name")
    is_refused(hub, way, "nobody", forge.make("nobody", house["middle"]), "unknown-identity")
    is_refused(hub, way, "press-18", None, "no-credential")


def test_a_registered_intermediate_is_enough(new_hub, forge, house):
    hub = new_hub()
    register(hub, "middle", house["middle"])
    device(hub, "Press-17")
    leaf = forge.make("Press-17", house["middle"])
    for way in WAYS:
        assert WAYS[way](hub, "Press-17", leaf.showing()), "the leaf alone"
        assert WAYS[way](hub, "Press-17", leaf.showing(house["middle"], house["root"]))
        is_refused(hub, way, "Press-17", forge.make("Press-17", house["plant"]), "no-issuer")


@EVERY_WAY
def test_a_modules_certificate_names_both(hub, house, forge, way):
    device(hub, "gate")
    device(hub, "gate", module="pump")
    if way == "upload":  # devices alone upload files
        return
    assert WAYS[way](hub, "gate/pump", forge.make("gate/pump", house["middle"]))
    for name in ("gate", "pump", "gate/Pump"):
        is_refused(hub, way, "gate/pump", forge.make(name, house["middle"]), "wrong-name")


# --- thumbprints --------------------------------------------------------------------------------------------------


@EVERY_WAY
def test_thumbprints_of_both_lengths_and_cases_in_both_slots(hub, forge, way):
    own, other = forge.root("anything"), forge.root("anything")
    prints = [own.thumbprint(digest) for digest in ("sha1", "sha256")]
    wanted = [(slot, text) for each in prints for text in (each.lower(), each.upper()) for slot in ("primaryThumbprint", "secondaryThumbprint")]
    for number, (slot, text) in enumerate(wanted):
        name = f"print-{way}-{number}"
        device(hub, name, "selfSigned", **{slot: text})
        assert WAYS[way](hub, name, own)
    is_refused(hub, way, name, other, "wrong-certificate")
    device(hub, f"both-{way}", "selfSigned", primaryThumbprint=prints[0], secondaryThumbprint=other.thumbprint())
    assert WAYS[way](hub, f"both-{way}", own) and WAYS[way](hub, f"both-{way}", other)


@EVERY_WAY
def test_dates_and_keys_count_for_thumbprints_too(hub, forge, way):
    for kind, named, reason in (("old", {"begins": -9, "ends": -1}, "expired"), ("young", {"begins": 1, "ends": 9}, "not-yet-valid"),
                                ("weak", {"key": "RSA:1024"}, "weak-key")):
        made = forge.root("anything", **named)
        device(hub, f"{kind}-{way}", "selfSigned", primaryThumbprint=made.thumbprint())
        is_refused(hub, way, f"{kind}-{way}", made, reason)


@pytest.mark.parametrize("text", ["ab:cd", "zz" * 20, "ab" * 19, "ab" * 21, " " + "ab" * 20])
def test_a_thumbprint_is_digits_and_nothing_else(hub, text):
    body = {"deviceId": "x", "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": text}}}
    assert hub.rest("PUT", path("devices", "x"), body).status == 400


# --- a token and a certificate ------------------------------------------------------------------------------------


@EVERY_WAY
def test_what_the_identity_is_known_by_decides(hub, house, forge, way):
    leaf, stranger = forge.make("Press-17", house["middle"]), forge.make("Press-17")
    sas = hub.create()
    assert WAYS[way](hub, sas.name, leaf, sas.token())
    assert WAYS[way](hub, sas.name, stranger, sas.token())
    is_refused(hub, way, sas.name, leaf, "wrong-attestation")
    is_refused(hub, way, sas.name, leaf, "wrong-signature", password=sas.token(key=hub.policy_key()))
    assert WAYS[way](hub, "Press-17", leaf, "SharedAccessSignature rubbish")
    is_refused(hub, way, "Press-17", stranger, "untrusted-root", password=sas.token())
    is_refused(hub, way, "Press-17", None, "wrong-attestation", password=sas.token())


def test_a_resumed_session_brings_the_whole_chain(hub, house, forge):
    leaf = forge.make("Press-17", house["middle"])
    for version in VERSIONS.values():
        settings = attestation.settings(hub, leaf, version)
        session = None
        for _ in range(2):
            plain = tls.socket.create_connection((hub.address, hub.mqtts), 10)
            secured = settings.wrap_socket(plain, server_hostname="localhost", session=session, suppress_ragged_eofs=False)
            with mqtt.Client(secured) as client:
                assert client.connect("Press-17", attestation.user(hub, "Press-17"))[0] == 0
                client.ping()
                assert secured.session_reused == (session is not None)
                session = secured.session


# --- proof of possession ------------------------------------------------------------------------------------------


def test_an_authority_is_verified_by_its_key(hub, forge, house):
    mine, other = forge.root("Mine"), forge.root("Mine")
    made = register(hub, "mine", mine, verified=False)
    assert made.json["properties"]["isVerified"] is False
    target = path("certificates", "mine")
    assert hub.rest("GET", target).json["properties"]["thumbprint"] == mine.thumbprint("sha1")
    assert hub.rest("POST", path("certificates", "mine", "verify"), {"certificate": mine.pem}).status == 400

    def code():
        answer = hub.rest("POST", path("certificates", "mine", "generateVerificationCode"), None, {"If-Match": "*"})
        assert answer.status == 200, answer
        text = answer.json["properties"]["verificationCode"]
        assert len(text) == 48 and set(text) <= set("0123456789ABCDEF")
        return text, answer.json["etag"]

    def verify(proof, etag="*"):
        return hub.rest("POST", path("certificates", "mine", "verify"), {"certificate": proof.pem}, {"If-Match": etag})

    old, _ = code()
    text, etag = code()
    assert old != text
    assert verify(forge.make(text, mine), "MTIz").status == 412
    for proof in (forge.make(old, mine), forge.make(text.lower(), mine), forge.make(text, other), forge.root(text)):
        assert verify(proof).status == 400
    assert hub.rest("GET", target).json["properties"]["isVerified"] is False
    assert "verificationCode" not in hub.rest("GET", target).json["properties"]
    answer = verify(forge.make(text, mine), etag)
    assert answer.status == 200 and answer.json["properties"]["isVerified"] is True
    device(hub, "mine-1")
    leaf = forge.make("mine-1", mine)
    assert attestation.over_mqtt(hub, "mine-1", leaf)
    # Another body under the name has proved nothing.
    assert hub.rest("PUT", target, {"properties": {"certificate": other.pem}}).status == 409
    answer = hub.rest("PUT", target, {"properties": {"certificate": other.pem}}, {"If-Match": f'"{answer.json["etag"]}"'})
    assert answer.status == 200 and answer.json["properties"]["isVerified"] is False
    is_refused(hub, "mqtt", "mine-1", leaf, "no-issuer")
    assert [each["name"] for each in hub.rest("GET", path("certificates")).json["value"]] == ["claimed", "mine", "old", "root"]
    assert hub.rest("DELETE", target, None, {"If-Match": "MTIz"}).status == 412
    assert hub.rest("DELETE", target, None, {"If-Match": "*"}).status == 204
    assert hub.rest("GET", target).status == 404
    assert hub.rest("PUT", target, {"properties": {"certificate": leaf.pem}}).status == 400


def test_the_command_line_goes_the_whole_way(new_hub, iotstream, tmp_path):
    """From the root to a device that is connected, with our own commands, on the state directory and over REST."""
    hub = new_hub()
    place = tmp_path / "certs"
    run([iotstream, "cert", "gen-root", "--dir", place], check=0)
    run([iotstream, "cert", "gen-intermediate", "plant", "--dir", place], check=0)
    over_rest = ["--connection-string", hub.connection_string().replace("localhost", f"localhost:{hub.https}", 1)
                 if f":{hub.https};" not in hub.connection_string() else hub.connection_string(), "--ca", hub.ca]
    for name, file, extra in (("root", "root.ca", []), ("plant", "plant", over_rest)):
        added = hub.admin("authority", "add", name, place / f"{file}.cert.pem", *extra)
        code = added.stdout.strip()
        said = [line.strip() for line in added.stderr.splitlines() if line.startswith("  iotstream")]
        assert len(code) == 48 and len(said) == 2 and code in said[0]
        for line in said:
            words = line.split()
            assert words[0] == "iotstream"
            hub.admin(*words[1:], *(extra if words[1] == "authority" else []))
    listed = {each["name"]: each["properties"]["isVerified"] for each in hub.admin_json("authority", "list")}
    assert listed == {"root": True, "plant": True}
    assert "plant" in hub.admin("authority", "list", *over_rest).stdout
    text = hub.admin("device", "create", "press-17", "--auth", "ca").stdout.strip()
    assert text.endswith(";DeviceId=press-17;x509=true")
    run([iotstream, "cert", "gen-device", "press-17", "--dir", place], check=0)
    made = attestation.Made.__new__(attestation.Made)
    made.chain, made.key = place / "press-17.full-chain.cert.pem", place / "press-17.key.pem"
    for way in WAYS.values():
        assert way(hub, "press-17", made)
    shown = run([iotstream, "cert", "thumbprint", place / "press-17.cert.pem"], check=0).stdout.strip()
    text = hub.admin("module", "create", "press-17", "pump", "--auth", "thumbprint", "--primary-thumbprint", shown, *over_rest).stdout
    assert text.strip().endswith(";DeviceId=press-17;ModuleId=pump;x509=true")
    assert attestation.over_mqtt(hub, "press-17/pump", made)
    hub.admin("module", "create", "press-17", "fan", "--auth", "ca", "--primary-thumbprint", shown, check=64)
    hub.admin("device", "create", "press-18", "--auth", "thumbprint", "--primary-thumbprint", shown)
    assert attestation.over_websocket(hub, "press-18", made)
    assert hub.admin("authority", "delete", "plant", "--yes").stdout == ""
    assert attestation.over_mqtt(hub, "press-17", made), "the root is still there"
    hub.admin("authority", "delete", "root", "--yes", *over_rest)
    is_refused(hub, "mqtt", "press-17", made, "no-issuer")
    hub.admin("authority", "delete", "root", "--yes", check=1)
    hub.admin("authority", "show", "root", check=1)
    hub.admin("authority", "add", "root", place / "press-17.cert.pem", check=65)
    hub.admin("authority", "add", "root", place / "nowhere.pem", check=66)


def test_there_are_no_more_than_twenty_five(new_hub, forge):
    hub = new_hub()
    root = forge.root("Many")
    for number in range(25):
        register(hub, f"a{number}", root)
    answer = hub.rest("PUT", path("certificates", "b"), {"properties": {"certificate": root.pem}})
    assert answer.status == 403
    hub.admin("authority", "add", "b", root.certificate, check=1)


# --- taking away --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["delete", "unverify", "replace", "disable", "delete the device"])
def test_taking_trust_away_cuts_connections_and_streams(hub, forge, how):
    name = how.replace(" ", "-")
    root, other = forge.root("Gone"), forge.root("Kept")
    register(hub, name, root)
    kept = f"{name}-kept"
    register(hub, kept, other)
    identity = Device(hub, f"{name}-d", None, device(hub, f"{name}-d").json)
    bystander = forge.make(kept, other)
    device(hub, kept)
    clients = []
    for issuer, client in ((forge.make(identity.name, root), identity.name), (bystander, kept)):
        connection = attestation.web(hub, issuer) if issuer is bystander else mqtt.Client.tcp(
            (hub.address, hub.mqtts), hub.ca, settings=attestation.settings(hub, issuer))
        assert connection.connect(client, attestation.user(hub, client))[0] == 0
        clients.append(connection)
    assert clients[0].subscribe("$iothub/streams/POST/#", "$iothub/streams/res/#") == [0, 0]
    service, leg = pair(hub, identity, clients[0])
    started = time.monotonic()
    target, known = path("certificates", name), {"If-Match": "*"}
    if how == "delete":
        assert hub.rest("DELETE", target, None, known).status == 204
    elif how == "unverify":
        assert hub.rest("PUT", target, {"properties": {"certificate": root.pem, "isVerified": False}}, known).status == 200
    elif how == "replace":
        body = {"properties": {"certificate": forge.root("Gone").pem, "isVerified": True}}
        assert hub.rest("PUT", target, body, known).status == 200
    elif how == "disable":
        hub.admin("device", "disable", identity.name)
    else:
        hub.admin("device", "delete", identity.name, "--yes")
    clients[0].ended(5)
    assert service.receive(5).opcode == CLOSE and leg.receive(5).opcode == CLOSE
    assert time.monotonic() - started < 3
    clients[1].ping()
    for each in (service, leg, *clients):
        each.close()
    if how == "disable":
        hub.admin("device", "enable", identity.name)
        assert attestation.over_mqtt(hub, identity.name, forge.make(identity.name, root))


# --- tokens -------------------------------------------------------------------------------------------------------


@EVERY_WAY
def test_a_policys_token_speaks_for_every_device_that_is_enabled(hub, way):
    device, off = hub.create(), hub.create(body={"status": "disabled"})
    hub.admin("policy", "create", f"speaker-{way}", "--rights", "DeviceConnect")
    name = f"speaker-{way}"

    def token(resource, policy=name, **named):
        return hub.service_token(policy, resource=resource, **named)

    assert WAYS[way](hub, device.name, None, token(f"{hub.name}/devices"))
    is_refused(hub, way, off.name, None, "disabled", password=token(f"{hub.name}/devices"))
    is_refused(hub, way, device.name, None, "wrong-audience", password=token(f"{hub.name}/device"))
    is_refused(hub, way, device.name, None, "expired-token", password=token(f"{hub.name}/devices", expiry=int(time.time()) - 600))
    is_refused(hub, way, device.name, None, "expired-token", password=device.token(expiry=int(time.time()) - 600))


# --- switches -----------------------------------------------------------------------------------------------------


def test_switches_refuse_what_is_right(iotstream, certificates, house, forge, tmp_path):
    config = tmp_path / "hub.conf"
    config.write_text("")
    hub = Hub(iotstream, certificates, options=["--config", str(config)])
    try:
        register(hub, "root", house["root"])
        device(hub, "Press-17")
        plain = hub.create("plain")
        module = hub.create("plain", module="m")
        leaf = forge.make("Press-17", house["middle"])

        def turn(text):
            since = len(hub.process.lines)
            config.write_text(text)
            hub.process.signal(1)
            hub.process.wait_line("event=reloaded|event=configuration", 10, since)

        turn("disable-device-sas yes\n")
        is_refused(hub, "mqtt", "plain", None, "switched-off", password=plain.token())
        assert attestation.over_mqtt(hub, "plain/m", None, module.token())
        turn("disable-module-sas yes\n")
        is_refused(hub, "https", "plain/m", None, "switched-off", password=module.token())
        assert attestation.over_https(hub, "plain", None, plain.token())
        turn("refuse-ca-devices-on-https yes\n")
        assert attestation.over_mqtt(hub, "Press-17", leaf)
        for way in ("websocket", "https", "upload"):
            is_refused(hub, way, "Press-17", leaf, "switched-off")
        policy = {"resource": f"{hub.name}/devices", "key": hub.policy_key()}
        speaking = hub.service_token(resource=f"{hub.name}/devices")
        assert attestation.over_mqtt(hub, "plain", None, speaking), policy
        with hub.mqtt() as there, attestation.web(hub, leaf) as certified:
            turn("")
            assert there.connect("plain", attestation.user(hub, "plain"), speaking)[0] == 0
            assert certified.connect("Press-17", attestation.user(hub, "Press-17"))[0] == 0
            turn("disable-local-auth yes\n")
            there.ended(5)
            certified.ping()
        is_refused(hub, "mqtt", "plain", None, "switched-off", password=speaking)
        assert hub.rest("GET", path("devices")).status == 401
        assert attestation.over_websocket(hub, "Press-17", leaf)
    finally:
        hub.remove()


# --- other people's programs --------------------------------------------------------------------------------------


@pytest.fixture
def shameless(tmp_path):
    """Surroundings in which OpenSSL shows weak certificates as well."""
    file = tmp_path / "openssl.cnf"
    file.write_text("openssl_conf=c\n[c]\nssl_conf=s\n[s]\nsystem_default=d\n[d]\nCipherString=DEFAULT@SECLEVEL=0\n")
    return {"OPENSSL_CONF": str(file)}


def by_curl(hub, made, surroundings):
    said = run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", hub.ca, "--cert", made.chain,
                "--key", made.key, "-d", "x",
                f"https://localhost:{hub.https}{path('devices', 'Press-17', 'messages', 'events')}"], surroundings)
    assert said.stdout in ("204", "401"), said
    return said.stdout == "204"


def by_mosquitto(hub, made, surroundings):
    sent = run(["mosquitto_pub", "-h", "localhost", "-p", str(hub.mqtts), "--cafile", hub.ca, "--cert", made.chain, "--key",
                made.key, "-i", "Press-17", "-u", attestation.user(hub, "Press-17"), "-V", "mqttv311", "-q", "1", "-t",
                "devices/Press-17/messages/events/", "-m", "x"], surroundings)
    assert sent.returncode == 0 or "not authori" in (sent.stdout + sent.stderr).lower(), sent
    return sent.returncode == 0


def by_s_client(hub, port, made, surroundings, words):
    """What a server says to these bytes, until it hangs up."""
    return run(["openssl", "s_client", "-connect", f"localhost:{port}", "-CAfile", hub.ca, "-cert", made.chain, "-cert_chain", made.chain,
                "-key", made.key, "-quiet", "-ign_eof", "-servername", "localhost"], surroundings, stdin=words, binary=True, seconds=20).stdout


def by_openssl(hub, made, surroundings):
    said = by_s_client(
        hub, hub.https, made, surroundings, f"POST {path('devices', 'Press-17', 'messages', 'events')} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 1\r\nConnection: close\r\n\r\nx".encode())
    assert said[:12] in (b"HTTP/1.1 204", b"HTTP/1.1 401"), said
    return said[:12] == b"HTTP/1.1 204"


def by_openssl_in_mqtt(hub, made, surroundings):
    goodbye = mqtt.packet(mqtt.DISCONNECT)
    said = by_s_client(
        hub, hub.mqtts, made, surroundings, mqtt.connect_packet("Press-17", attestation.user(hub, "Press-17")) + goodbye)
    assert said in (b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"), said
    return said == b"\x20\x02\x00\x00"


@pytest.mark.parametrize("way", [by_curl, by_mosquitto, by_openssl, by_openssl_in_mqtt])
def test_curl_and_mosquitto_and_openssl(hub, house, forge, shameless, way):
    assert way(hub, forge.make("Press-17", house["middle"]), shameless)
    for kind, (made, reason) in bad(forge, house).items():
        since = len(hub.process.lines)
        assert not way(hub, made, shameless), kind
        assert hub.process.wait_line(refusal("Press-17"), 10, since)[2] == reason, kind


@EVERY_WAY
def test_a_list_that_nobody_needs_ends_in_the_handshake(hub, house, forge, way):
    endless = forge.make("Press-17", house["middle"]).showing(*[house["middle"]] * 120)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        WAYS[way](hub, "Press-17", endless)
    assert WAYS[way](hub, "Press-17", forge.make("Press-17", house["middle"]))


def test_telemetry_says_who_vouched(hub, house, forge):
    device(hub, "teller")
    print_of = forge.root("x")
    device(hub, "teller-2", "selfSigned", primaryThumbprint=print_of.thumbprint())
    assert attestation.over_https(hub, "teller", forge.make("teller", house["middle"]))
    assert attestation.over_https(hub, "teller-2", print_of)
    for name, issuer in (("teller", "external"), ("teller-2", "iothub")):
        said = hub.admin("monitor", name, "--from", "beginning", "--json").stdout.splitlines()
        assert any(json.dumps(issuer) in line.replace('\\"', '"') and "x509" in line for line in said), said
