"""Certificates of devices as `openssl` makes them, good and bad, and the ways in with them."""

import pathlib
import re
import ssl
import time

from . import mqtt, rest, tls, websocket
from .process import run

CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash"
LEAF = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth"
DAY = 86400


class Made:
    """A certificate with its key; `chain` is what its holder shows."""

    def __init__(self, place, name, shown):
        self.certificate, self.key = place / f"{name}.pem", place / f"{name}.key"
        self.chain = place / f"{name}.chain.pem"
        self.shown = shown
        self.chain.write_text("".join(each.certificate.read_text() for each in [self, *shown]))

    @property
    def pem(self):
        return self.certificate.read_text()

    def showing(self, *others):
        """The same certificate with other ones behind it."""
        again = object.__new__(Made)
        again.certificate, again.key, again.shown = self.certificate, self.key, list(others)
        again.chain = self.chain.with_name(f"{self.chain.stem}-{len(others)}-{id(again)}.pem")
        again.chain.write_text("".join(each.pem for each in [self, *others]))
        return again

    def thumbprint(self, digest="sha256"):
        said = run(["openssl", "x509", "-in", self.certificate, "-noout", "-fingerprint", f"-{digest}"], check=0).stdout
        return said.split("=")[1].strip().replace(":", "")


class Forge:
    """Makes certificates with `openssl ca`, which knows no shame about dates."""

    def __init__(self, place):
        self.place = pathlib.Path(place)
        self.count = 0

    def make(self, name, issuer=None, extensions=LEAF, begins=-1, ends=30, key="EC:P-256", digest="sha256", show=None):
        """CN=`name`; dates in days from now. Its chain has `show` behind it, else the issuer and what that shows, without a root."""
        self.count += 1
        label = f"c{self.count}"
        config, place = self.place / f"{label}.cnf", self.place
        (place / "index").write_text("")
        config.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={place}/index\nnew_certs_dir={place}\npolicy=p\nunique_subject=no\nx509_extensions=x\n"
            f"rand_serial=yes\ndefault_md={digest}\n[p]\ncommonName=supplied\n[req]\ndistinguished_name=n\nstring_mask=utf8only\n[n]\n"
            f"[x]\n{extensions}\n")
        kind, _, size = key.partition(":")
        options = ["-pkeyopt", f"ec_paramgen_curve:{size}"] if kind == "EC" else ["-pkeyopt", f"rsa_keygen_bits:{size}"] if size else []
        run(["openssl", "genpkey", "-algorithm", kind, *options, "-out", place / f"{label}.key"], check=0)
        run(["openssl", "req", "-new", "-utf8", "-config", config, "-key", place / f"{label}.key", "-subj",
             "/CN=" + name.replace("/", "\\/"), "-out", place / f"{label}.csr"], check=0)
        signer = ["-cert", issuer.certificate, "-keyfile", issuer.key] if issuer else ["-selfsign", "-keyfile", place / f"{label}.key"]
        dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * DAY)) for days in (begins, ends)]
        run(["openssl", "ca", "-batch", "-notext", "-utf8", "-config", config, *signer, "-in", place / f"{label}.csr", "-out",
             place / f"{label}.pem", "-startdate", dates[0], "-enddate", dates[1]], check=0)
        if show is None:
            show = [issuer, *issuer.shown] if issuer and issuer.shown is not ROOT else []
        made = Made(place, label, show)
        return made

    def root(self, name, **named):
        made = self.make(name, extensions=named.pop("extensions", CA), **named)
        made.shown = ROOT
        return made


class _Root(list):
    """What a root shows above itself: nothing, and nobody shows the root."""


ROOT = _Root()


def settings(hub, made, version=None):
    """The client's side of TLS, which shows weak certificates as well."""
    context = tls.context(hub.ca)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    if made:
        context.load_cert_chain(str(made.chain), str(made.key))
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def user(hub, client):
    return f"{hub.name}/{client}/?api-version=2021-04-12"


def over_mqtt(hub, client, made, password=None, version=None):
    with mqtt.Client.tcp((hub.address, hub.mqtts), hub.ca, settings=settings(hub, made, version)) as connection:
        code, _ = connection.connect(client, user(hub, client), password)
        if code == 0:
            connection.ping()
        return code == 0


def over_websocket(hub, client, made, password=None, version=None):
    with web(hub, made, version) as connection:
        code, _ = connection.connect(client, user(hub, client), password)
        if code == 0:
            connection.ping()
        return code == 0


def web(hub, made, version=None):
    connection = rest.Connection((hub.address, hub.https), hub.ca, settings=settings(hub, made, version))
    return mqtt.Client(websocket.WebSocket(connection, "/$iothub/websocket", {"Sec-WebSocket-Protocol": "mqtt"}), True)


def segments(client):
    device, _, module = client.partition("/")
    return ["devices", device] + (["modules", module] if module else [])


def asked(hub, target, body, made, token, version):
    with rest.Connection((hub.address, hub.https), hub.ca, settings=settings(hub, made, version)) as connection:
        answer = connection.exchange("POST", target, None, body, token)
        assert answer.status in (200, 204, 401), answer
        if answer.status == 401:
            assert answer.error == "IotHubUnauthorized" and re.search("ErrorCode:IotHubUnauthorized;Unauthorized", answer.json["Message"])
        return answer.status != 401


def over_https(hub, client, made, password=None, version=None):
    return asked(hub, rest.path(*segments(client), "messages", "events"), b"x", made, password, version)


def over_upload(hub, client, made, password=None, version=None):
    return asked(hub, rest.path(*segments(client), "files"), {"blobName": "a.txt"}, made, password, version)


WAYS = {"mqtt": over_mqtt, "websocket": over_websocket, "https": over_https, "upload": over_upload}
VERSIONS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}
