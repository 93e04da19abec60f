"""device, module, policy, sas, stream, request and the command line itself: on the state directory and over REST."""
import base64, contextlib, hashlib, hmac, json, os, pathlib, re, signal, stat, subprocess, threading, urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.path.abspath(os.environ.get("IOTSTREAM_BINARY") or ROOT / ".build/debug/iotstream")
ROLES_WITH_COMMANDS = ["device", "module", "twin", "policy", "stream", "request", "cert"]


def run(*words, environment=None, **options):
    variables = {key: value for key, value in os.environ.items() if not key.startswith("IOTSTREAM_")}
    variables.update(environment or {})
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    if options["stdin"] is None:
        del options["stdin"]
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=60, env=variables, **options)


class Place:
    """Where administration acts: adds the options that say so."""

    def __init__(self, *options):
        self.options = [str(option) for option in options]

    def run(self, *words, **options):
        return run(words[0], *self.options, *words[1:], **options)

    def ok(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words):
        return json.loads(self.ok(*words, "--json"))

    def fails(self, code, *words, **options):
        done = self.run(*words, **options)
        lines = done.stderr.splitlines()
        assert done.returncode == code, done.stderr
        assert len(lines) == 1 and lines[0].startswith(f"iotstream {words[0]}: "), done.stderr
        return lines[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A hub's state directory, root and HTTPS port."""
    directory = tmp_path_factory.mktemp("administration")
    certs, state = directory / "certs", directory / "state"
    for words in (["gen-root"], ["gen-server", "localhost", "127.0.0.1"]):
        assert run("cert", *words, "--dir", certs).returncode == 0
    variables = {key: value for key, value in os.environ.items() if not key.startswith("IOTSTREAM_")}
    hub = subprocess.Popen(
        [PROGRAM, "hub", "--config", "/dev/null", "--state", state, "--hostname", "localhost", "--https", "127.0.0.1:0",
         "--mqtts", "127.0.0.1:0", "--tls-cert", certs / "localhost.full-chain.cert.pem", "--tls-key", certs / "localhost.key.pem"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=variables)
    port = None
    for line in hub.stderr:
        if found := re.search(r"ready https=\S+:(\d+) ", line):
            port = int(found[1])
            break
    assert port, "the hub is not ready"
    drain = threading.Thread(target=hub.stderr.read, daemon=True)
    drain.start()
    yield state, certs / "root.ca.cert.pem", port
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(30) == 0


@pytest.fixture(params=["state", "service"])
def hub(request, running, tmp_path):
    state, ca, _ = running
    local = Place("--state", state)
    if request.param == "state":
        return local
    file = tmp_path / "connection-string"
    file.write_text(local.ok("policy", "connection-string", "iothubowner"))
    file.chmod(0o600)
    return Place("--connection-string-file", file, "--ca", ca)


@pytest.fixture
def device(hub, request):
    name = "d-" + hashlib.sha1(request.node.name.encode()).hexdigest()[:12]
    text = hub.ok("device", "create", name).strip()
    yield name, text
    hub.run("device", "delete", name)


def test_create_prints_the_connection_string_with_the_hubs_port(hub, device, running):
    name, text = device
    assert re.fullmatch(rf"HostName=localhost:{running[2]};DeviceId={name};SharedAccessKey=[A-Za-z0-9+/]{{43}}=", text)
    assert hub.ok("device", "connection-string", name).strip() == text
    assert hub.ok("device", "connection-string", name, "--secondary").strip() != text


def test_every_character_of_an_identifier_is_taken(hub):
    name = "aZ09-.+%_#*?!(),:=@$'"
    hub.ok("device", "create", "--", name)
    try:
        assert hub.json("device", "show", name)["deviceId"] == name
        assert name in [each["deviceId"] for each in hub.json("device", "list")]
    finally:
        hub.ok("device", "delete", name)
    hub.fails(1, "device", "show", name)
    for bad in ("a/b", "a b", "ä", "", "x" * 129):
        hub.fails(65, "device", "create", "--", bad)


def test_a_name_is_given_once(hub, device):
    assert "already" in hub.fails(1, "device", "create", device[0])


def test_disable_and_enable(hub, device):
    hub.ok("device", "disable", device[0], "--reason", "stolen")
    shown = hub.json("device", "show", device[0])
    assert (shown["status"], shown["statusReason"]) == ("disabled", "stolen")
    hub.ok("device", "enable", device[0])
    assert hub.json("device", "show", device[0])["status"] == "enabled"
    hub.fails(1, "device", "disable", "nobody")


def test_keys_rotate_and_swap(hub, device):
    def keys():
        found = hub.json("device", "show", device[0])["authentication"]["symmetricKey"]
        return found["primaryKey"], found["secondaryKey"]

    first = keys()
    printed = hub.ok("device", "rotate-key", device[0], "--secondary")
    second = keys()
    assert second[0] == first[0] and second[1] != first[1] and second[1] in printed
    hub.ok("device", "rotate-key", device[0], "--swap")
    assert keys() == second[::-1]
    hub.ok("device", "rotate-key", device[0])
    assert keys()[0] != second[1] and keys()[1] == second[0]
    hub.fails(64, "device", "rotate-key", device[0], "--swap", "--primary")


def test_devices_with_certificates_have_no_key_in_their_string(hub):
    thumbprint = ":".join(["AB"] * 32)
    text = hub.ok("device", "create", "certified", "--primary-thumbprint", thumbprint)
    try:
        assert text.strip().endswith(";DeviceId=certified;x509=true")
        hub.fails(1, "device", "rotate-key", "certified")
        hub.fails(1, "sas", "--device", "certified")
    finally:
        hub.ok("device", "delete", "certified")
    hub.fails(64, "device", "create", "certified", "--auth", "thumbprint")
    hub.fails(64, "device", "create", "certified", "--auth", "ca", "--primary-thumbprint", thumbprint)
    hub.fails(65, "device", "create", "certified", "--primary-thumbprint", "AB")


def test_gateways_have_children(hub):
    hub.ok("device", "create", "gateway", "--edge")
    try:
        hub.ok("device", "create", "child", "--parent", "gateway")
        scope = hub.json("device", "show", "gateway")["deviceScope"]
        assert hub.json("device", "show", "child")["parentScopes"] == [scope]
        assert "--edge" in hub.fails(1, "device", "create", "grandchild", "--parent", "child")
    finally:
        hub.run("device", "delete", "child")
        hub.run("device", "delete", "gateway")


def test_modules(hub, device):
    name = device[0]
    assert f"DeviceId={name};ModuleId=m1;" in hub.ok("module", "create", name, "m1")
    assert [each["moduleId"] for each in hub.json("module", "list", name)] == ["m1"]
    assert hub.json("module", "show", name, "m1")["deviceId"] == name
    hub.fails(1, "module", "create", name, "m1")
    hub.ok("module", "delete", name, "m1")
    hub.fails(1, "module", "show", name, "m1")
    hub.fails(1, "module", "list", "nobody")


def test_policies(hub):
    text = hub.ok("policy", "create", "operators", "--rights", "ServiceConnect,registryread").strip()
    try:
        assert re.search(r";SharedAccessKeyName=operators;SharedAccessKey=", text)
        listed = {each["keyName"]: each["rights"] for each in hub.json("policy", "list")}
        assert listed["operators"] == "RegistryRead, ServiceConnect"
        assert hub.ok("policy", "connection-string", "operators").strip() == text
        assert hub.ok("policy", "rotate", "operators").strip() != text
        hub.fails(1, "policy", "create", "operators", "--rights", "ServiceConnect")
    finally:
        hub.ok("policy", "delete", "operators")
    hub.fails(1, "policy", "connection-string", "operators")
    hub.fails(65, "policy", "create", "operators", "--rights", "Everything")
    hub.fails(64, "policy", "create", "operators")
    hub.fails(1, "policy", "delete", "iothubowner")


def test_a_signature_is_one(hub, device):
    key = base64.b64decode(re.search("SharedAccessKey=(.*)", device[1])[1])
    fields = dict(re.findall(r"(sr|sig|se)=([^&]*)", hub.ok("sas", "--device", device[0], "--ttl", "30m").strip()))
    assert urllib.parse.unquote(fields["sr"]) == f"localhost/devices/{device[0]}"
    wanted = hmac.new(key, f"{fields['sr']}\n{fields['se']}".encode(), "sha256").digest()
    assert base64.b64decode(urllib.parse.unquote(fields["sig"].strip())) == wanted
    hub.fails(64, "sas")
    hub.fails(64, "sas", "--device", device[0], "--policy", "iothubowner")
    hub.fails(64, "sas", "--device", device[0], "--ttl", "soon")


def test_what_is_exported_can_be_imported(hub, device, tmp_path):
    hub.ok("module", "create", device[0], "m1")
    file = tmp_path / "devices.jsonl"
    hub.ok("device", "export", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    hub.fails(73, "device", "export", file)
    before = hub.json("device", "show", device[0])["authentication"]
    hub.ok("device", "delete", device[0])
    hub.ok("device", "import", file)
    assert hub.json("device", "show", device[0])["authentication"] == before
    assert [each["moduleId"] for each in hub.json("module", "list", device[0])] == ["m1"]


def test_lines_that_are_refused_are_named_and_the_others_stand(hub):
    lines = '{"id":"good-1","importMode":"create"}\n{broken\n\n{"id":"good-2","importMode":"create"}\n'
    done = hub.run("device", "import", "-", input=lines)
    try:
        assert done.returncode == 65
        assert "-:2:" in done.stderr
        assert {"good-1", "good-2"} <= {each["deviceId"] for each in hub.json("device", "list")}
    finally:
        hub.run("device", "delete", "good-1")
        hub.run("device", "delete", "good-2")


def test_no_streams(hub):
    assert hub.json("stream", "list") == []
    hub.fails(1, "stream", "close", "nothing")


def test_secrets_stay_out_of_errors(running, tmp_path):
    state, ca, port = running
    secret = base64.b64encode(b"0123456789abcdef" * 2).decode()
    text = f"HostName=localhost:{port};SharedAccessKeyName=iothubowner;SharedAccessKey={secret}"
    for words, code in ((["device", "list"], 77), (["policy", "list"], 77), (["stream", "list"], 77)):
        done = run(*words, "--ca", ca, "-vv", environment={"IOTSTREAM_CONNECTION_STRING": text})
        assert done.returncode == code, done.stderr
        assert secret not in done.stderr + done.stdout
    done = run("device", "list", environment={"IOTSTREAM_CONNECTION_STRING": text + ";x=y"})
    assert done.returncode == 78 and secret not in done.stderr


def test_a_hub_that_cannot_be_reached(running):
    state, ca, port = running
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

    def attempt(host, *options):
        text = f"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={key}"
        return run("device", "list", *options, environment={"IOTSTREAM_CONNECTION_STRING": text})

    for done in (attempt("localhost:1", "--ca", ca), attempt("nowhere.invalid", "--ca", ca), attempt(f"localhost:{port}")):
        assert done.returncode == 69 and len(done.stderr.splitlines()) == 1, done.stderr
    assert attempt("localhost", "--ca", "/nonexistent").returncode == 66


def test_a_readable_connection_string_earns_a_warning(running, tmp_path):
    state, ca, _ = running
    file = tmp_path / "service"
    file.write_text("# mine\n" + run("policy", "connection-string", "iothubowner", "--state", state).stdout)
    file.chmod(0o644)
    done = run("device", "list", "--connection-string-file", file, "--ca", ca)
    assert done.returncode == 0 and "chmod 600" in done.stderr


def test_a_state_directory_that_is_not_there(tmp_path):
    for words in (["device", "list"], ["stream", "list"], ["policy", "list"]):
        done = run(*words, "--state", tmp_path / "none")
        assert done.returncode == 66 and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_person_decides_about_requests(tmp_path):
    directory = tmp_path / "run" / "requests"
    directory.mkdir(parents=True)
    place = Place("--state", tmp_path)
    assert place.json("request", "list") == []
    (directory / "r1.json").write_text('{"id":"r1","name":"22\\u001b[2J"}')
    os.mkfifo(directory / "r1.fifo")
    listed = place.ok("request", "list")
    assert "r1" in listed and "\x1b" not in listed
    place.fails(1, "request", "accept", "r1")  # nobody listens
    fifo = os.open(directory / "r1.fifo", os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.closing(os.fdopen(fifo)) as answers:
        place.ok("request", "reject", "r1", "--reason", "busy\nnow")
        place.ok("request", "accept", "r1")
        assert answers.read() == "reject busy\\nnow\naccept\n"
    place.fails(1, "request", "accept", "r2")
    place.fails(65, "request", "accept", "../r1")


# --- the command line itself


def commands():
    roles = re.findall(r"^  ([a-z-]+)", run("--help").stdout.split("Roles:")[1], re.M)
    for role in roles:
        yield [role]
        page = run(role, "--help").stdout
        if "\nCommands:\n" in page:
            block = page.split("\nCommands:\n")[1].split("\n\n")[0]
            for word in re.findall(r"^  ([a-z-]+)", block, re.M):
                yield [role, word]


def test_every_page_of_help_fits_a_terminal():
    found = list(commands())
    assert len(found) > 30
    for words in found:
        done = run(*words, "--help")
        assert done.returncode == 0 and done.stderr == "", words
        assert done.stdout.startswith(f"usage: iotstream {' '.join(words)} ")
        assert [line for line in done.stdout.splitlines() if len(line) > 80] == [], words


def test_every_role_has_a_manual_with_every_option_of_its_own():
    for role in [words[0] for words in commands() if len(words) == 1]:
        if role == "completion":
            continue
        pages = [path for path in (ROOT / "man").glob(f"iotstream-{role}.[18]")]
        assert len(pages) == 1, role
        text = re.sub(r"Fl -([a-z])", r"Fl Fl \1", pages[0].read_text())
        options = set()
        for words in commands():
            if words[0] == role:
                options |= set(re.findall(r"--([a-z][a-z0-9-]+)", run(*words, "--help").stdout.split("Options:")[1].split("Examples:")[0]))
        missing = [name for name in sorted(options - {"help", "quiet", "verbose", "version"}) if not re.search(rf"\b{name}\b", text)]
        assert missing == [], role


def test_unknown_words_get_one_line_and_64():
    for words in (["frobnicate"], [], ["device", "crate"], ["device"], ["device", "list", "--jsn"], ["sas", "--ttl"], ["completion", "csh"]):
        done = run(*words)
        assert done.returncode == 64 and done.stdout == "" and len(done.stderr.splitlines()) == 1, (words, done)
    assert "device" in run("frobnicate").stderr


def test_the_name_of_the_program_picks_the_role(tmp_path):
    (tmp_path / "iotstream-cert").symlink_to(PROGRAM)
    done = subprocess.run([tmp_path / "iotstream-cert", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == run("cert", "--help").stdout


def test_version():
    assert re.fullmatch(r"iotstream \d+\.\d+\.\d+\n", run("--version").stdout)
    assert run("hub", "--version").stdout == run("--version").stdout


def test_a_full_standard_output_is_an_error_and_a_closed_one_is_not(running):
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 74 and len(done.stderr.splitlines()) == 1
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([PROGRAM, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_scripts_of_their_shell(shell, tmp_path):
    script = tmp_path / "script"
    script.write_text(run("completion", shell).stdout)
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_bash_completes(tmp_path):
    script = tmp_path / "script"
    script.write_text(run("completion", "bash").stdout)

    def complete(*words):
        listed = " ".join(f"'{word}'" for word in words)
        program = f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _iotstream; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return set(subprocess.run(["bash", "-c", program], capture_output=True, text=True).stdout.split())

    assert {"hub", "device", "cert"} <= complete("iotstream", "")
    assert complete("iotstream", "device", "cre") == {"create"}
    assert "--reason" in complete("iotstream", "device", "disable", "--")
    assert complete("iotstream", "device", "create", "--auth", "") == {"sas", "thumbprint", "ca"}
    assert "gen-root" in complete("iotstream-cert", "gen-")


def test_fish_completes(tmp_path):
    script = tmp_path / "script"
    script.write_text(run("completion", "fish").stdout)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": os.path.dirname(PROGRAM) + ":" + os.environ["PATH"]}

    def complete(line):
        program = f"source {script}; complete -C '{line}'"
        done = subprocess.run(["fish", "-c", program], capture_output=True, text=True, env=environment)
        return {each.split("\t")[0] for each in done.stdout.splitlines()}

    assert {"hub", "device", "cert"} <= complete("iotstream ")
    assert complete("iotstream device cre") == {"create"}
    assert "--reason" in complete("iotstream device disable --")
