"""The cert role, judged by openssl, curl and Python's ssl."""
import contextlib, json, os, re, shutil, socket, ssl, stat, subprocess, threading, time

import pytest


class Tool:
    """Runs `iotstream cert` in a directory of its own."""

    def __init__(self, binary, directory):
        self.binary, self.directory = os.path.abspath(str(binary)), directory

    def run(self, *words, **options):
        return subprocess.run(
            [self.binary, "cert", *words], cwd=self.directory, capture_output=True, text=True, timeout=60,
            stdin=options.pop("stdin", subprocess.DEVNULL), **options)

    def ok(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, code, *words, **options):
        done = self.run(*words, **options)
        lines = done.stderr.splitlines()
        assert done.returncode == code, done.stderr
        assert len(lines) == 1 and lines[0].startswith("iotstream cert: "), done.stderr
        return lines[0]

    def path(self, name):
        return os.path.join(self.directory, "certs", name)

    def files(self):
        return sorted(os.listdir(os.path.join(self.directory, "certs")))


@pytest.fixture
def tool(iotstream, tmp_path):
    return Tool(iotstream, str(tmp_path))


@pytest.fixture
def house(tool):
    tool.ok("gen-root")
    tool.ok("gen-intermediate", "factory")
    tool.ok("gen-server", "hub.example", "localhost", "127.0.0.1", "::1")
    tool.ok("gen-device", "press-17")
    return tool


def openssl(*words, cwd=None, input=None):
    done = subprocess.run(["openssl", *words], cwd=cwd, capture_output=True, text=True, timeout=60, input=input)
    return done.returncode, done.stdout + done.stderr


def openssl_ok(*words, cwd=None):
    code, text = openssl(*words, cwd=cwd)
    assert code == 0, text
    return text


@contextlib.contextmanager
def tls_server(chain, key, roots=None):
    """A TLS server of Python's that says hello to everybody; with `roots` it demands a client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    if roots:
        context.load_verify_locations(roots)
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    peers = []

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                plain.settimeout(10)
                with context.wrap_socket(plain, server_side=True) as secure:
                    peers.append(secure.getpeercert())
                    secure.recv(4096)
                    secure.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], peers
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def fetch(port, roots, name="localhost", cert=None):
    context = ssl.create_default_context(cafile=roots)
    if cert:
        context.load_cert_chain(*cert)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=name) as secure:
            secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return secure.recv(4096)


# What openssl, curl and Python say


@pytest.mark.parametrize("algorithm", ["p256", "p384", "ed25519", "rsa2048", "rsa4096"])
def test_openssl_finds_nothing_to_complain_about(tool, algorithm):
    for words in (["gen-root"], ["gen-intermediate", "mid"], ["gen-server", "hub.example", "10.0.0.1"], ["gen-device", "d1"]):
        tool.ok(*words, "--algorithm", algorithm)
    root = tool.path("root.ca.cert.pem")
    for name, purpose in (("hub.example", "sslserver"), ("d1", "sslclient")):
        chain = tool.path(f"{name}.full-chain.cert.pem")
        openssl_ok("verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, "-untrusted", chain, chain)
        other = "sslclient" if purpose == "sslserver" else "sslserver"
        assert openssl("verify", "-purpose", other, "-CAfile", root, "-untrusted", chain, chain)[0] != 0
    openssl_ok("verify", "-x509_strict", "-verify_hostname", "hub.example", "-CAfile", root, "-untrusted", tool.path("mid.cert.pem"),
               tool.path("hub.example.cert.pem"))
    openssl_ok("verify", "-x509_strict", "-verify_ip", "10.0.0.1", "-CAfile", root, "-untrusted", tool.path("mid.cert.pem"),
               tool.path("hub.example.cert.pem"))
    openssl_ok("verify", "-x509_strict", "-CAfile", root, root)


def test_every_key_fits_its_certificate_and_belongs_to_its_owner_alone(house):
    for name in house.files():
        mode = stat.S_IMODE(os.stat(house.path(name)).st_mode)
        assert mode == (0o600 if name.endswith(".key.pem") else 0o644), name
        if name.endswith(".key.pem"):
            public = openssl_ok("pkey", "-in", house.path(name), "-pubout")
            assert public == openssl_ok("x509", "-in", house.path(name.replace(".key.", ".cert.")), "-noout", "-pubkey")
    assert stat.S_IMODE(os.stat(os.path.dirname(house.path("x"))).st_mode) == 0o700


@pytest.mark.parametrize("algorithm", ["p256", "rsa2048"])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_python_and_curl_accept_the_server_and_the_server_the_device(tool, algorithm, name):
    tool.ok("gen-root")
    tool.ok("gen-intermediate", "mid")
    tool.ok("gen-server", "localhost", "127.0.0.1", "--algorithm", algorithm)
    tool.ok("gen-device", "d:1", "--algorithm", algorithm)
    root = tool.path("root.ca.cert.pem")
    device = (tool.path("d%3A1.full-chain.cert.pem"), tool.path("d%3A1.key.pem"))
    with tls_server(tool.path("localhost.full-chain.cert.pem"), tool.path("localhost.key.pem"), root) as (port, peers):
        assert fetch(port, root, name, device).endswith(b"hello")
        assert peers[-1]["subject"] == ((("commonName", "d:1"),),)
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--cacert", root, "--cert", device[0], "--key", device[1], f"https://{name}:{port}/"],
            capture_output=True, text=True, timeout=30)
        assert done.stdout == "hello", done.stderr


def test_a_wrong_name_and_a_wrong_root_are_refused_by_python(house, tmp_path):
    house.ok("gen-root", "--dir", "other")
    with tls_server(house.path("hub.example.full-chain.cert.pem"), house.path("hub.example.key.pem")) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            fetch(port, house.path("root.ca.cert.pem"), "elsewhere.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            fetch(port, str(tmp_path / "other" / "root.ca.cert.pem"))
        assert fetch(port, house.path("root.ca.cert.pem")).endswith(b"hello")


def test_openssl_speaks_tls_with_both_sides(house):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", house.path("hub.example.cert.pem"), "-cert_chain",
         house.path("factory.cert.pem"), "-key", house.path("hub.example.key.pem"), "-Verify", "3", "-verify_return_error", "-CAfile",
         house.path("root.ca.cert.pem"), "-x509_strict", "-naccept", "1", "-www"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        assert b"ACCEPT" in iter_until(server.stdout, b"ACCEPT")
        code, text = openssl(
            "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "hub.example", "-verify_hostname", "hub.example", "-x509_strict",
            "-verify_return_error", "-CAfile", house.path("root.ca.cert.pem"), "-cert", house.path("press-17.cert.pem"), "-cert_chain",
            house.path("factory.cert.pem"), "-key", house.path("press-17.key.pem"), input="GET / HTTP/1.0\r\n\r\n")
        assert code == 0 and "Verify return code: 0 (ok)" in text, text
    finally:
        server.kill()
        server.wait()


def iter_until(stream, word):
    seen = b""
    while word not in seen:
        line = stream.readline()
        if not line:
            break
        seen += line
    return seen


# What is made


def test_an_edge_ca_issues_below_an_intermediate_that_allows_it(tool):
    tool.ok("gen-root")
    tool.ok("gen-intermediate", "site", "--path-length", "1")
    edge = json.loads(tool.ok("gen-edge-ca", "gw1", "--json"))
    assert edge["commonName"] == "gw1.ca" and edge["issuer"] == "CN=site" and edge["ca"] and edge["pathLength"] == 0
    tool.ok("gen-device", "gw1")  # a gateway is a device, too
    tool.ok("gen-server", "gw1.local", "edgeHub", "--ca", "gw1.ca")
    chain = tool.path("gw1.local.full-chain.cert.pem")
    assert open(chain).read().count("BEGIN CERTIFICATE") == 3
    openssl_ok("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", tool.path("root.ca.cert.pem"), "-untrusted", chain, chain)


def test_a_verification_certificate_proves_the_root_or_the_named_ca(house):
    house.ok("gen-verification", "A1B2C3")
    text = openssl_ok("x509", "-in", house.path("A1B2C3.cert.pem"), "-noout", "-subject", "-issuer", "-nameopt", "RFC2253")
    assert "subject=CN=A1B2C3" in text and "issuer=CN=iotstream root" in text
    assert not os.path.exists(house.path("A1B2C3.key.pem"))
    house.ok("gen-verification", "D4", "--ca", "factory")
    openssl_ok("verify", "-partial_chain", "-CAfile", house.path("factory.cert.pem"), house.path("D4.cert.pem"))


def test_days_are_counted_and_the_issuer_has_the_last_word(tool):
    tool.ok("gen-root", "--days", "10")
    done = tool.run("gen-device", "d", "--days", "30", "--json")
    made = json.loads(done.stdout)
    root = json.loads(tool.ok("show", "--json", "certs/root.ca.cert.pem"))[0]
    assert made["notAfter"] == root["notAfter"] and "ends with its issuer" in done.stderr
    assert made["notBefore"] >= root["notBefore"]
    assert abs(time.mktime(time.strptime(root["notAfter"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - time.time() - 10 * 86400) < 7300


def test_a_server_name_too_long_for_a_subject_still_serves(tool):
    name = ".".join(["a" * 30] * 3) + ".example"
    tool.ok("gen-root")
    tool.ok("gen-server", name)
    chain = tool.path(f"{name}.full-chain.cert.pem")
    openssl_ok("verify", "-x509_strict", "-verify_hostname", name, "-CAfile", tool.path("root.ca.cert.pem"), chain)


@pytest.mark.parametrize("identifier", ["a%b", "a*b", "a:b", "-x", ".hid", "..", "$HOME", "it's", "a;b", "(x)", "#1", "root.ca", "x.full-chain"])
def test_odd_ids_become_safe_files_and_exact_names(tool, identifier):
    tool.ok("gen-root")
    made = json.loads(tool.ok("gen-device", "--json", "--", identifier))
    assert made["commonName"] == identifier
    assert re.fullmatch(r"certs/[A-Za-z0-9%_+=@,][A-Za-z0-9%._+=@,-]*\.cert\.pem", made["certificate"])
    assert len(tool.files()) == 5
    assert "subject=CN=iotstream root" in openssl_ok("x509", "-in", tool.path("root.ca.cert.pem"), "-noout", "-subject", "-nameopt", "RFC2253")


# What is refused


@pytest.mark.parametrize(
    "words, code",
    [
        ([], 64), (["gen-device"], 64), (["gen-device", ""], 64), (["gen-device", "../x"], 64), (["gen-device", "a/b"], 64),
        (["gen-device", "a b"], 64), (["gen-device", "x" * 65], 64), (["gen-device", "x" * 129], 64), (["gen-device", "d", "--days", "0"], 64),
        (["gen-device", "d", "--days", "1e3"], 64), (["gen-device", "d", "--days", "99999999999999999999"], 64),
        (["gen-device", "d", "--algorithm", "dsa"], 64), (["gen-device", "d", "--ca", "../root.ca"], 64),
        (["gen-device", "d", "--ca", "nobody"], 66), (["gen-device", "d", "--ca", "press-17"], 65), (["gen-device", "d", "--dir", "empty"], 66),
        (["gen-server", "a b"], 64), (["gen-server", "ok.example", "no/good"], 64), (["gen-server", "bücher.example"], 64),
        (["gen-intermediate", "root"], 64), (["gen-intermediate", "a/b"], 64),
        (["gen-intermediate", "x" * 65], 65), (["gen-intermediate", "a\nb"], 65),
        (["gen-intermediate", "inner", "--ca", "factory"], 65), (["gen-edge-ca", "gw", "--ca", "factory"], 65),
        (["gen-root"], 73), (["gen-device", "press-17"], 73), (["gen-root", "--dir", "certs/root.ca.cert.pem"], 73),
        (["gen-root", "--dir", "/proc/nowhere"], 73), (["show", "nowhere"], 66), (["show", "certs"], 65), (["show", "/dev/zero"], 65),
        (["show", "/dev/null"], 65), (["show", "certs/press-17.key.pem"], 65), (["show"], 64), (["verify", "certs/press-17.cert.pem"], 64),
        (["thumbprint", "nowhere"], 66), (["renew", "nowhere"], 66), (["renew", "-"], 65), (["renew", "certs/press-17.full-chain.cert.pem"], 64),
        (["verify", "certs/press-17.cert.pem", "--ca", "nowhere"], 66),
    ])
def test_mistakes_are_one_line_and_change_nothing(house, words, code):
    before = {name: open(house.path(name)).read() for name in house.files()}
    house.fails(code, *words)
    assert {name: open(house.path(name)).read() for name in house.files()} == before
    assert sorted(os.listdir(house.directory)) == ["certs"]


def test_force_replaces_a_leaf_but_never_a_ca_by_a_leaf(house):
    before = open(house.path("press-17.key.pem")).read()
    house.ok("gen-device", "press-17", "--force")
    assert open(house.path("press-17.key.pem")).read() != before
    assert "is a CA" in house.fails(73, "gen-device", "factory", "--force")
    assert len([name for name in house.files() if name.startswith(".")]) == 0


@pytest.mark.parametrize("left", ["x.key.pem", "x.cert.pem", "x.full-chain.cert.pem"])
def test_no_half_pair_is_left_behind(house, left):
    with open(house.path(left), "w") as file:
        file.write("mine")
    before = house.files()
    house.fails(73, "gen-device", "x")
    assert house.files() == before and open(house.path(left)).read() == "mine"


def test_a_damaged_foreign_or_open_key_is_refused(house):
    key = house.path("factory.key.pem")
    good = open(key).read()
    for text, word in ((good[:100], "private key"), ("", "no private key"), (open(house.path("press-17.key.pem")).read(), "does not belong")):
        with open(key, "w") as file:
            file.write(text)
        assert word in house.fails(65, "gen-device", "new")
    openssl_ok("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", key)
    os.chmod(key, 0o600)
    assert "password" in house.fails(65, "gen-device", "new")
    os.chmod(key, 0o644)
    assert "chmod 600" in house.fails(77, "gen-device", "new")
    os.remove(key)
    assert "missing" in house.fails(66, "gen-device", "new", "--ca", "factory")
    assert "new.key.pem" not in house.files()
    house.ok("gen-device", "new")  # an intermediate without its key is no candidate: the root issues


def test_garbage_is_refused_by_every_reader(house):
    pem = open(house.path("press-17.cert.pem")).read()
    samples = [b"", b"\x30", b"\x30\x82\xff\xff" + b"A" * 100, os.urandom(4096), b"-----BEGIN CERTIFICATE-----\n", pem[:300].encode(),
               pem.replace("M", "*").encode(), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\0" * 5_000_000]
    for sample in samples:
        with open(os.path.join(house.directory, "sample"), "wb") as file:
            file.write(sample)
        for words in (["show", "sample"], ["thumbprint", "sample"], ["verify", "sample", "--ca", "certs/root.ca.cert.pem"],
                      ["verify", "certs/press-17.cert.pem", "--ca", "sample"], ["renew", "sample"]):
            house.fails(65, *words)


def test_a_key_is_never_shown(house):
    secret = "".join(open(house.path("root.ca.key.pem")).read().splitlines()[1:-1])[40:90]
    for words in (["show", "certs/root.ca.key.pem"], ["gen-device", "z", "--json"], ["verify", "certs/root.ca.key.pem", "--ca", "certs/root.ca.key.pem"]):
        done = house.run(*words)
        assert secret not in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_a_full_disk_leaves_nothing_behind(tool):
    script = (
        "mount -t tmpfs -o size=16k,nr_inodes=64 none disk && iot() { \"$IOT\" cert \"$@\"; } && iot gen-root --dir disk/certs >/dev/null"
        " && for i in 1 2 3 4 5 6 7 8; do iot gen-device d$i --dir disk/certs >/dev/null; code=$?; [ $code = 0 ] || break; done;"
        " ls -A disk/certs; exit $code")
    os.mkdir(os.path.join(tool.directory, "disk"))
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=tool.directory, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "IOT": tool.binary})
    if "mount" in done.stderr:
        pytest.skip("no mounts here")
    assert done.returncode == 74 and "no space left" in done.stderr, done.stderr
    names = done.stdout.split()
    assert not [name for name in names if name.startswith(".")]
    assert len(names) % 3 == 2  # the root's two files, and whole sets of three


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_another_users_directory_is_not_permitted(house):
    os.chmod(house.directory, 0o755)
    binary = shutil.copy(house.binary, os.path.join(house.directory, "iotstream"))
    parents = os.path.dirname(house.directory)
    while parents != "/" and parents.count("/") > 1:
        os.chmod(parents, 0o755)
        parents = os.path.dirname(parents)
    done = subprocess.run([binary, "cert", "gen-device", "d"], cwd=house.directory, capture_output=True, text=True, user=65534, group=65534)
    assert done.returncode == 77 and done.stderr.count("\n") == 1, done.stderr


# show, thumbprint, verify, renew


def test_show_and_thumbprint_agree_with_openssl(house):
    file = "certs/hub.example.cert.pem"
    for option, words in (("-sha256", []), ("-sha1", ["--sha1"])):
        wanted = openssl_ok("x509", "-in", file, "-noout", "-fingerprint", option, cwd=house.directory).split("=")[1].replace(":", "").strip()
        assert house.ok("thumbprint", file, *words).strip() == wanted
        assert json.loads(house.ok("thumbprint", file, *words, "--json"))["thumbprint"] == wanted
    shown = json.loads(house.ok("show", "--json", file, "certs/press-17.full-chain.cert.pem"))
    assert [each["commonName"] for each in shown] == ["hub.example", "press-17", "factory"]
    assert shown[0]["names"] == ["hub.example", "localhost", "127.0.0.1", "::1"]
    assert shown[0]["serial"] == openssl_ok("x509", "-in", house.path("hub.example.cert.pem"), "-noout", "-serial").split("=")[1].strip()
    text = house.ok("show", file)
    assert "names           hub.example, localhost, 127.0.0.1, ::1" in text
    openssl_ok("x509", "-in", file, "-outform", "DER", "-out", "leaf.der", cwd=house.directory)
    assert house.ok("thumbprint", "leaf.der") == house.ok("thumbprint", file)
    with open(house.path("hub.example.cert.pem")) as stdin:
        assert house.run("thumbprint", "-", stdin=stdin).stdout == house.ok("thumbprint", file)


def test_verify_explains(house):
    root = "certs/root.ca.cert.pem"
    chain = "certs/hub.example.full-chain.cert.pem"
    assert "ok" in house.ok("verify", chain, "--ca", root, "--hostname", "hub.example", "--strict")
    assert json.loads(house.ok("verify", chain, "--ca", root, "--json"))["valid"] is True
    assert "issuer of CN=hub.example is unknown" in house.fails(1, "verify", "certs/hub.example.cert.pem", "--ca", root)
    house.ok("verify", "certs/hub.example.cert.pem", "--ca", "certs/factory.cert.pem")
    assert "not valid for x.example" in house.fails(1, "verify", chain, "--ca", root, "--hostname", "x.example")
    assert "not made for a TLS client" in house.fails(1, "verify", chain, "--ca", root, "--purpose", "client")
    assert "not made for a TLS server" in house.fails(1, "verify", "certs/press-17.full-chain.cert.pem", "--ca", root, "--purpose", "server")
    house.ok("gen-root", "--dir", "other")
    assert "was not signed by the key of this" in house.fails(1, "verify", chain, "--ca", "other/root.ca.cert.pem")
    done = house.run("verify", chain, "--ca", root, "--purpose", "client", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["valid"] is False


FOREIGN = """
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[notca]
basicConstraints = critical,CA:FALSE
subjectKeyIdentifier = hash
[nosign]
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
[short]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def foreign(directory, name, issuer, section, *more, key=("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
    """A certificate made by openssl alone."""
    with open(os.path.join(directory, "foreign.cnf"), "w") as file:
        file.write(FOREIGN)
    signer = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
    openssl_ok("req", "-x509", "-config", "foreign.cnf", *key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
               "-extensions", section, "-days", "30", *signer, *more, cwd=directory)


@pytest.mark.parametrize(
    "middle, word",
    [("notca", "which is not a CA"), ("nosign", "lacks keyCertSign"), ("short", "more CAs follow below CN=mid than its path length allows")])
def test_verify_explains_what_is_wrong_with_an_issuer(tool, middle, word):
    where = tool.directory
    foreign(where, "top", None, "ca")
    foreign(where, "mid", "top", middle)
    issuer, files = "mid", ["mid.pem"]
    if middle == "short":
        foreign(where, "low", "mid", "ca")
        issuer, files = "low", ["low.pem", "mid.pem"]
    foreign(where, "end", issuer, "leaf")
    with open(os.path.join(where, "chain.pem"), "w") as file:
        for name in ["end.pem", *files]:
            file.write(open(os.path.join(where, name)).read())
    assert word in tool.fails(1, "verify", "chain.pem", "--ca", "top.pem")


def test_verify_explains_dates_and_weakness(tool):
    where = tool.directory
    foreign(where, "top", None, "ca")
    foreign(where, "weak", "top", "leaf", key=("-newkey", "rsa:1024"))
    assert "CN=weak is too weak: RSA key of 1024 bits" in tool.fails(1, "verify", "weak.pem", "--ca", "top.pem")
    foreign(where, "sha1", "top", "leaf", "-sha1")
    assert "too weak: signed with ecdsa-with-SHA1" in tool.fails(1, "verify", "sha1.pem", "--ca", "top.pem")
    openssl_ok("req", "-new", "-config", "foreign.cnf", "-newkey", "ed25519", "-nodes", "-keyout", "old.key", "-out", "old.csr", "-subj",
               "/CN=old", cwd=where)
    for name, start, end, word in (
            ("old", "20200101000000Z", "20210101000000Z", "CN=old expired on 2021-01-01T00:00:00Z"),
            ("new", "20900101000000Z", "20910101000000Z", "CN=old is not valid before 2090-01-01T00:00:00Z")):
        with open(os.path.join(where, "ca.cnf"), "w") as file:
            file.write("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
                       "certificate=top.pem\nprivate_key=top.key\n[p]\ncommonName=supplied\n")
        open(os.path.join(where, "index.txt"), "w").close()
        openssl_ok("ca", "-batch", "-config", "ca.cnf", "-in", "old.csr", "-out", f"{name}.pem", "-startdate", start, "-enddate", end, "-notext",
                   cwd=where)
        assert word in tool.fails(1, "verify", f"{name}.pem", "--ca", "top.pem")


def test_renew_keeps_key_and_names_and_refreshes_the_chain(house):
    before = json.loads(house.ok("show", "--json", "certs/hub.example.cert.pem"))[0]
    key = open(house.path("hub.example.key.pem")).read()
    os.chmod(house.path("hub.example.cert.pem"), 0o640)
    after = json.loads(house.ok("renew", "certs/hub.example.cert.pem", "--days", "700", "--json"))
    assert after["fullChain"] == "certs/hub.example.full-chain.cert.pem"
    for member in ("subject", "names", "issuer", "keyUsage", "extendedKeyUsage"):
        assert after[member] == before[member]
    assert after["serial"] != before["serial"] and after["notAfter"] > before["notAfter"]
    assert open(house.path("hub.example.key.pem")).read() == key
    assert stat.S_IMODE(os.stat(house.path("hub.example.cert.pem")).st_mode) == 0o640
    house.ok("verify", "certs/hub.example.full-chain.cert.pem", "--ca", "certs/root.ca.cert.pem", "--hostname", "hub.example", "--strict")
    assert json.loads(house.ok("show", "--json", "certs/hub.example.full-chain.cert.pem"))[0]["serial"] == after["serial"]
    openssl_ok("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", house.path("root.ca.cert.pem"), "-untrusted",
               house.path("factory.cert.pem"), house.path("hub.example.cert.pem"))


def test_renewing_the_authorities_keeps_every_chain_whole(house):
    old = open(house.path("factory.cert.pem")).read()
    house.ok("renew", "certs/factory.cert.pem", "--days", "1000")
    house.ok("renew", "certs/root.ca.cert.pem", "--days", "5000")
    new = open(house.path("factory.cert.pem")).read()
    assert new != old
    for name in ("hub.example", "press-17", "factory"):
        text = open(house.path(f"{name}.full-chain.cert.pem")).read()
        assert new in text and old not in text
        chain = house.path(f"{name}.full-chain.cert.pem")
        openssl_ok("verify", "-x509_strict", "-CAfile", house.path("root.ca.cert.pem"), "-untrusted", chain, chain)
    assert not [name for name in house.files() if name.startswith(".")]


def test_renew_finds_the_issuer_elsewhere_and_says_when_it_cannot(house):
    os.mkdir(os.path.join(house.directory, "device"))
    shutil.copy(house.path("press-17.cert.pem"), os.path.join(house.directory, "device", "mine.pem"))
    assert "issuer CN=factory is not in" in house.fails(66, "renew", "device/mine.pem")
    house.ok("renew", "device/mine.pem", "--dir", "certs")
    house.ok("verify", "device/mine.pem", "--ca", "certs/factory.cert.pem", "--purpose", "client")


def test_a_certificate_of_openssls_own_is_renewed_too(tool):
    where = tool.directory
    foreign(where, "top", None, "ca")
    foreign(where, "end", "top", "leaf")
    for name in ("top", "end"):
        os.rename(os.path.join(where, f"{name}.pem"), os.path.join(where, f"{name}.cert.pem"))
        os.rename(os.path.join(where, f"{name}.key"), os.path.join(where, f"{name}.key.pem"))
        os.chmod(os.path.join(where, f"{name}.key.pem"), 0o600)
    tool.ok("renew", "end.cert.pem")
    openssl_ok("verify", "-CAfile", "top.cert.pem", "end.cert.pem", cwd=where)


def test_ten_at_once_do_not_disturb_each_other(house):
    jobs = [subprocess.Popen([house.binary, "cert", "gen-device", "same"], cwd=house.directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for _ in range(10)]
    codes = sorted((job.communicate(timeout=60), job.returncode)[1] for job in jobs)
    assert codes == [0] + [73] * 9
    public = openssl_ok("pkey", "-in", house.path("same.key.pem"), "-pubout")
    assert public == openssl_ok("x509", "-in", house.path("same.cert.pem"), "-noout", "-pubkey")
    assert not [name for name in house.files() if name.startswith(".")]


def test_the_manuals_examples_run_as_printed(tool):
    page = os.path.join(os.path.dirname(__file__), "..", "..", "man", "iotstream-cert.1")
    lines = [line[4:].replace("\\-", "-") for line in open(page).read().splitlines() if line.startswith(".Dl ")]
    lines = [line[2:] if line.startswith("$ ") else line for line in lines]
    assert len(lines) >= 5
    path = os.path.join(tool.directory, "bin")
    os.mkdir(path)
    os.symlink(tool.binary, os.path.join(path, "iotstream"))
    for line in lines:
        done = subprocess.run(["sh", "-c", line], cwd=tool.directory, capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PATH": path + ":" + os.environ["PATH"]})
        assert done.returncode == 0, (line, done.stderr)


# Requests


def test_a_request_is_openssls_to_read_and_ours_to_sign(house):
    made = json.loads(house.ok("gen-request", "press:18", "--json"))
    assert made == {"request": "certs/press%3A18.csr.pem", "key": "certs/press%3A18.key.pem", "subject": "CN=press:18",
                    "publicKey": "EC P-256, 256 bits"}
    text = openssl_ok("req", "-in", house.path("press%3A18.csr.pem"), "-noout", "-text", "-verify")
    assert "verify OK" in text and "CN = press:18" in text
    assert stat.S_IMODE(os.stat(house.path("press%3A18.key.pem")).st_mode) == 0o600
    assert house.ok("show", "certs/press%3A18.csr.pem").splitlines()[1] == "subject         CN=press:18"
    house.fails(73, "gen-request", "press:18")
    signed = json.loads(house.ok("sign", "certs/press%3A18.csr.pem", "--days", "20", "--json"))
    assert signed["commonName"] == "press:18" and signed["issuer"] == "CN=factory" and signed["extendedKeyUsage"] == ["clientAuth"]
    assert "key" not in signed and signed["fullChain"] == "certs/press%3A18.full-chain.cert.pem"
    chain = house.path("press%3A18.full-chain.cert.pem")
    openssl_ok("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", house.path("root.ca.cert.pem"), "-untrusted", chain, chain)
    assert openssl_ok("x509", "-in", chain, "-noout", "-pubkey") == openssl_ok("pkey", "-in", house.path("press%3A18.key.pem"), "-pubout")
    house.fails(73, "sign", "certs/press%3A18.csr.pem")
    # Again for the same key: renewed by asking.
    house.ok("gen-request", "press:18", "--key", "certs/press%3A18.key.pem", "--force")
    house.ok("sign", "certs/press%3A18.csr.pem", "--force")
    openssl_ok("verify", "-CAfile", house.path("root.ca.cert.pem"), "-untrusted", chain, chain)


@pytest.mark.parametrize("algorithm", ["p256", "p384", "ed25519", "rsa2048", "rsa4096"])
def test_openssl_signs_what_is_asked_for(tool, algorithm):
    where = tool.directory
    foreign(where, "top", None, "ca")
    tool.ok("gen-request", "hub.example", "localhost", "10.0.0.1", "--as", "server", "--algorithm", algorithm, "--dir", ".")
    openssl_ok("x509", "-req", "-in", "hub.example.csr.pem", "-CA", "top.pem", "-CAkey", "top.key", "-copy_extensions", "copyall", "-days", "5",
               "-out", "hub.example.cert.pem", cwd=where)
    names = json.loads(tool.ok("show", "--json", "hub.example.cert.pem"))[0]["names"]
    assert names == ["hub.example", "localhost", "10.0.0.1"]
    tool.ok("verify", "hub.example.cert.pem", "--ca", "top.pem", "--hostname", "localhost")
    assert "BEGIN PRIVATE KEY" in open(os.path.join(where, "hub.example.key.pem")).read()


@pytest.mark.parametrize("form", ["PEM", "DER", "CRLF", "leading text"])
def test_a_request_of_openssls_gets_what_the_issuer_says_and_no_more(house, form):
    where = house.directory
    openssl_ok("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "f.key", "-out", "f.csr", "-subj", "/O=Acme/CN=web.example", "-addext",
               "subjectAltName=DNS:web.example,DNS:www.example,IP:10.1.2.3", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
               "keyUsage=keyCertSign", cwd=where)
    path = os.path.join(where, "f.csr")
    if form == "DER":
        openssl_ok("req", "-in", "f.csr", "-outform", "der", "-out", "f.csr", cwd=where)
    elif form != "PEM":
        text = open(path).read()
        open(path, "w", newline="").write(text.replace("\n", "\r\n") if form == "CRLF" else "Certificate Request:\n    Data:\n" + text)
    made = json.loads(house.ok("sign", "f.csr", "--as", "server", "--json"))
    assert made["names"] == ["web.example", "www.example", "10.1.2.3"] and made["subject"] == "CN=web.example" and not made["ca"]
    assert made["keyUsage"] == ["digitalSignature", "keyEncipherment"]
    chain = house.path("web.example.full-chain.cert.pem")
    openssl_ok("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", house.path("root.ca.cert.pem"), "-untrusted", chain, chain)
    with tls_server(chain, os.path.join(where, "f.key")) as (port, _):
        assert fetch(port, house.path("root.ca.cert.pem"), "www.example").endswith(b"hello")


def test_authorities_are_asked_for_too(tool):
    tool.ok("gen-root")
    tool.ok("gen-request", "site", "--as", "intermediate", "--dir", "below")
    made = json.loads(tool.ok("sign", "below/site.csr.pem", "--as", "intermediate", "--path-length", "1", "--json"))
    assert made["ca"] and made["pathLength"] == 1 and made["issuer"] == "CN=iotstream root"
    for name in ("site.cert.pem", "site.full-chain.cert.pem", "root.ca.cert.pem"):
        shutil.copy(tool.path(name), os.path.join(tool.directory, "below", name))
    tool.ok("gen-request", "gw", "--as", "edge-ca", "--dir", "gateway")
    made = json.loads(tool.ok("sign", "gateway/gw.ca.csr.pem", "--as", "edge-ca", "--ca", "site", "--dir", "below", "--json"))
    assert made["commonName"] == "gw.ca" and made["pathLength"] == 0 and made["issuer"] == "CN=site"
    openssl_ok("verify", "-x509_strict", "-CAfile", tool.path("root.ca.cert.pem"), "-untrusted", tool.path("site.cert.pem"),
               os.path.join(tool.directory, "below", "gw.ca.cert.pem"))


def test_bad_requests_are_one_line(house):
    where = house.directory
    house.ok("gen-request", "d")
    good = open(house.path("d.csr.pem")).read()
    lines = good.splitlines()
    middle = lines[3]
    open(os.path.join(where, "bad"), "w").write(good.replace(middle, middle[:10] + ("A" if middle[10] != "A" else "B") + middle[11:]))
    assert "damaged" in house.fails(65, "sign", "bad")
    for text, word in (("", "no request in it"), ("nonsense", "no request in it"), (good[:200], "damaged"), ("0" * 5000, "damaged")):
        open(os.path.join(where, "bad"), "w").write(text)
        assert word in house.fails(65, "sign", "bad"), text[:20]
    assert "no request in it" in house.fails(65, "sign", "certs/press-17.cert.pem")
    openssl_ok("req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "weak.key", "-out", "weak", "-subj", "/CN=weak", cwd=where)
    assert "RSA key of 1024 bits" in house.fails(65, "sign", "weak")
    openssl_ok("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", "k", "-out", "nameless", "-subj", "/O=x", cwd=where)
    assert "no common name" in house.fails(65, "sign", "nameless")
    house.fails(66, "sign", "missing")
    house.fails(64, "sign", "certs/d.csr.pem", "--as", "king")
    house.fails(64, "gen-request", "d2", "more.example")
    assert "d.cert.pem" not in house.files()


# Keys that are rolled


@pytest.mark.parametrize("algorithm", ["p256", "p384", "rsa2048", "ed25519"])
def test_a_key_is_rolled_with_its_certificate(tool, algorithm):
    tool.ok("gen-root")
    tool.ok("gen-intermediate", "factory")
    tool.ok("gen-device", "d", "--algorithm", algorithm)
    before = json.loads(tool.ok("show", "--json", "certs/d.cert.pem"))[0]
    key = open(tool.path("d.key.pem")).read()
    after = json.loads(tool.ok("renew", "certs/d.cert.pem", "--roll-key", "--json"))
    for member in ("subject", "issuer", "keyUsage", "extendedKeyUsage", "publicKey", "publicKeyBits"):
        assert after[member] == before[member]
    assert after["key"] == "certs/d.key.pem"
    assert open(tool.path("d.key.pem")).read() != key and stat.S_IMODE(os.stat(tool.path("d.key.pem")).st_mode) == 0o600
    chain = tool.path("d.full-chain.cert.pem")
    assert openssl_ok("x509", "-in", chain, "-noout", "-pubkey") == openssl_ok("pkey", "-in", tool.path("d.key.pem"), "-pubout")
    openssl_ok("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", tool.path("root.ca.cert.pem"), "-untrusted", chain, chain)
    assert not [name for name in tool.files() if name.startswith(".")]


def test_what_cannot_be_rolled_stays(house):
    for name in ("root.ca", "factory"):
        before = open(house.path(f"{name}.cert.pem")).read()
        assert "another CA" in house.fails(1, "renew", f"certs/{name}.cert.pem", "--roll-key")
        assert open(house.path(f"{name}.cert.pem")).read() == before
    os.unlink(house.path("press-17.key.pem"))
    assert "its key is unknown" in house.fails(66, "renew", "certs/press-17.cert.pem", "--roll-key")


def test_a_self_signed_device_rolls_its_key_by_itself(tool):
    where = tool.directory
    openssl_ok("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "d.key.pem", "-out", "d.cert.pem", "-subj", "/CN=d", "-addext",
               "basicConstraints=critical,CA:FALSE", "-days", "5", cwd=where)
    old = tool.ok("thumbprint", "d.cert.pem")
    tool.ok("renew", "d.cert.pem", "--roll-key")
    assert tool.ok("thumbprint", "d.cert.pem") != old
    openssl_ok("verify", "-CAfile", "d.cert.pem", "d.cert.pem", cwd=where)
    assert openssl_ok("x509", "-in", "d.cert.pem", "-noout", "-pubkey", cwd=where) == openssl_ok("pkey", "-in", "d.key.pem", "-pubout", cwd=where)


# The layout of IoT Edge's test scripts


def listing(directory):
    return {os.path.relpath(os.path.join(place, name), directory) for place, _, names in os.walk(directory) for name in names}


def count(path):
    return open(path).read().count("BEGIN CERTIFICATE-")


def test_the_scripts_layout_is_made(tool):
    tool.ok("gen-root", "--layout", "edge", "--name", "Azure_IoT_Hub_CA_Cert_Test_Only")
    tool.ok("gen-intermediate", "intermediate", "--path-length", "1")
    tool.ok("gen-device", "d1")
    tool.ok("gen-edge-ca", "gw", "--algorithm", "rsa4096")
    tool.ok("gen-server", "gw.local")
    tool.ok("gen-verification", "C0DE")
    root, prefix = "azure-iot-test-only.root.ca", "azure-iot-test-only.intermediate"
    wanted = {f"certs/{root}.cert.pem", f"private/{root}.key.pem", "certs/iot-device-verification-code.cert.pem"}
    for name in (prefix, "iot-device-d1", "iot-edge-device-ca-gw", "iot-edge-server-gw.local"):
        wanted |= {f"certs/{name}.cert.pem", f"certs/{name}-full-chain.cert.pem", f"private/{name}.key.pem"}
    assert listing(tool.directory) == wanted
    chains = {prefix: 2, "iot-device-d1": 3, "iot-edge-device-ca-gw": 3, "iot-edge-server-gw.local": 3}
    for name, length in chains.items():
        chain = tool.path(f"{name}-full-chain.cert.pem")
        assert count(chain) == length
        openssl_ok("verify", "-x509_strict", "-CAfile", tool.path(f"{root}.cert.pem"), "-untrusted", chain, chain)
        assert stat.S_IMODE(os.stat(os.path.join(tool.directory, "private", f"{name}.key.pem")).st_mode) == 0o600
    assert "CN=gw.ca" in tool.ok("show", "certs/iot-edge-device-ca-gw.cert.pem")
    # A server below the gateway's CA, as a gateway makes for itself; and renewals, in both directories.
    tool.ok("gen-server", "inner.local", "--ca", "gw.ca")
    assert count(tool.path("iot-edge-server-inner.local-full-chain.cert.pem")) == 4
    tool.ok("renew", "certs/iot-device-d1.cert.pem", "--roll-key")
    tool.ok("renew", f"certs/{prefix}.cert.pem")
    for name in ("iot-device-d1", "iot-edge-server-inner.local"):
        chain = tool.path(f"{name}-full-chain.cert.pem")
        openssl_ok("verify", "-x509_strict", "-CAfile", tool.path(f"{root}.cert.pem"), "-untrusted", chain, chain)
    assert open(tool.path("iot-device-d1.cert.pem")).read() in open(tool.path("iot-device-d1-full-chain.cert.pem")).read()


def test_a_scripts_own_authorities_are_used_once_their_keys_are_ours_alone(tool):
    """What certGen.sh leaves behind: keys of 4096 bits with a password, readable by everybody."""
    where = tool.directory
    for name in ("certs", "private", "csr"):
        os.mkdir(os.path.join(where, name))
    with open(os.path.join(where, "o.cnf"), "w") as file:
        file.write("[req]\ndistinguished_name=n\nprompt=no\n[n]\nCN=unused\n[ca]\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n"
                   "authorityKeyIdentifier=keyid:always\nkeyUsage=critical,digitalSignature,cRLSign,keyCertSign\n")
    root, middle = "azure-iot-test-only.root.ca", "azure-iot-test-only.intermediate"
    openssl_ok("req", "-x509", "-config", "o.cnf", "-extensions", "ca", "-newkey", "rsa:2048", "-passout", "pass:1234", "-keyout",
               f"private/{root}.key.pem", "-out", f"certs/{root}.cert.pem", "-subj", "/CN=Azure_IoT_Hub_CA_Cert_Test_Only", "-days", "9", cwd=where)
    openssl_ok("req", "-new", "-config", "o.cnf", "-newkey", "rsa:2048", "-passout", "pass:1234", "-keyout", f"private/{middle}.key.pem", "-out",
               f"csr/{middle}.csr.pem", "-subj", "/CN=Azure_IoT_Hub_Intermediate_Cert_Test_Only", cwd=where)
    openssl_ok("x509", "-req", "-in", f"csr/{middle}.csr.pem", "-CA", f"certs/{root}.cert.pem", "-CAkey", f"private/{root}.key.pem", "-passin",
               "pass:1234", "-extfile", "o.cnf", "-extensions", "ca", "-days", "9", "-out", f"certs/{middle}.cert.pem", cwd=where)
    key = os.path.join(where, "private", f"{middle}.key.pem")
    os.chmod(key, 0o444)
    assert "others may read this key: run chmod 600" in tool.fails(77, "gen-device", "d1")
    os.chmod(key, 0o600)
    assert "protected by a password: take it off with openssl pkey" in tool.fails(65, "gen-device", "d1")

    def unlock(name):
        openssl_ok("pkey", "-in", f"private/{name}.key.pem", "-passin", "pass:1234", "-out", "unlocked", cwd=where)
        os.chmod(os.path.join(where, "unlocked"), 0o600)
        os.rename(os.path.join(where, "unlocked"), os.path.join(where, "private", f"{name}.key.pem"))

    unlock(middle)
    tool.ok("gen-device", "d1")
    chain = os.path.join(where, "certs", "iot-device-d1-full-chain.cert.pem")
    assert count(chain) == 3 and os.path.exists(os.path.join(where, "private", "iot-device-d1.key.pem"))
    openssl_ok("verify", "-purpose", "sslclient", "-CAfile", f"certs/{root}.cert.pem", "-untrusted", chain, chain, cwd=where)
    tool.ok("verify", chain, "--ca", f"certs/{root}.cert.pem", "--device", "d1")
    assert tool.ok("gen-server", "gw.local", "--dir", ".")  # the directory above is as good
    unlock(root)
    tool.ok("gen-verification", "C0DE")
    openssl_ok("verify", "-CAfile", f"certs/{root}.cert.pem", "certs/iot-device-verification-code.cert.pem", cwd=where)


# As a hub judges


def test_verify_judges_as_a_hub_does(house):
    def codes(path, device, ca="certs/root.ca.cert.pem"):
        done = house.run("verify", path, "--ca", ca, "--device", device, "--json")
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout).get("codes", [])

    full, leaf = "certs/press-17.full-chain.cert.pem", "certs/press-17.cert.pem"
    assert codes(full, "press-17") == [] and codes(leaf, "press-17", "certs/factory.cert.pem") == []
    assert codes(leaf, "press-17") == ["no-issuer"]
    assert codes(full, "Press-17") == ["wrong-name"]
    assert "make one for this name with gen-device" in house.fails(1, "verify", full, "--ca", "certs/root.ca.cert.pem", "--device", "press-18")
    assert codes("certs/hub.example.full-chain.cert.pem", "hub.example") == ["key-usage"]
    assert codes("certs/factory.full-chain.cert.pem", "factory") == ["is-a-ca"]
    house.ok("gen-root", "--dir", "other", "--name", "other")
    assert codes(full, "press-17", "other/root.ca.cert.pem") == ["no-issuer"]


def test_a_modules_certificate_has_both_names(house):
    made = json.loads(house.ok("gen-device", "press-17", "--module", "camera", "--json"))
    assert made["commonName"] == "press-17/camera" and made["certificate"] == "certs/press-17%2Fcamera.cert.pem"
    house.ok("verify", "certs/press-17%2Fcamera.full-chain.cert.pem", "--ca", "certs/root.ca.cert.pem", "--device", "press-17/camera")
    house.fails(64, "gen-device", "press-17", "--module", "a b")
    house.fails(64, "gen-device", "press-17", "--module", "a/b")


def test_a_chain_that_begins_at_the_wrong_end_is_said_to_do_so(house):
    files = [house.path(name) for name in ("root.ca.cert.pem", "factory.cert.pem", "press-17.cert.pem")]
    with open(os.path.join(house.directory, "upside"), "w") as file:
        file.write("".join(open(name).read() for name in files))
    line = house.fails(1, "verify", "upside", "--ca", "certs/root.ca.cert.pem", "--device", "press-17")
    assert line.endswith("put the certificate that is no CA first in the file")
