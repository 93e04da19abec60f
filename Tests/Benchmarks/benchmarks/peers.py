"""The peers, as Debian ships them, each with a configuration of its own in the run's directory."""

import os
import pathlib
import shutil
import subprocess

from harness.programs import free_ports

from .processes import Program
from .subjects import Missing, Subject


def need(*names):
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found:
            return found
    raise Missing(f"{names[0]} is not installed")


class Peer(Subject):
    def directory(self):
        made = pathlib.Path(self.place.directory) / self.name.replace(" ", "-").replace(",", "")
        made.mkdir(exist_ok=True)
        return made

    def run(self, port, *arguments):
        self.held.append(Program(arguments, self.directory() / "log"))
        self.held[-1].wait_listening(port)


class Haproxy(Peer):
    """TCP mode as people run it."""

    name = "haproxy"
    settings = ""
    splice = "option splice-auto"

    def start(self):
        program, target, self.port = need("haproxy"), self.listen(), free_ports()
        file = self.directory() / "haproxy.cfg"
        file.write_text(f"""global
    maxconn 3000
{self.settings}
defaults
    mode tcp
    maxconn 3000
    {self.splice}
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen relay
    bind 127.0.0.1:{self.port} backlog 4096
    server far 127.0.0.1:{target}
""")
        self.run(self.port, program, "-db", "-f", file)


class TunedHaproxy(Haproxy):
    """Splicing always, through the largest pipes."""

    name = "haproxy tuned"
    settings = "    tune.pipesize 1048576\n    tune.maxaccept 64"
    splice = "option splice-request\n    option splice-response"


class HaproxyTLSPair(Peer):
    """One haproxy that speaks TLS to another one."""

    name = "haproxy TLS pair"

    def start(self):
        program, target = need("haproxy"), self.listen()
        self.port = free_ports(2)
        both = self.directory() / "both.pem"
        both.write_text(pathlib.Path(self.place.cert).read_text() + pathlib.Path(self.place.key).read_text())
        both.chmod(0o600)
        for role, bind, server in (
                ("far", f"bind 127.0.0.1:{self.port + 1} ssl crt {both} backlog 4096", f"server far 127.0.0.1:{target}"),
                ("near", f"bind 127.0.0.1:{self.port} backlog 4096", f"server far 127.0.0.1:{self.port + 1} ssl verify none")):
            file = self.directory() / f"{role}.cfg"
            file.write_text(f"""global
    maxconn 3000
defaults
    mode tcp
    maxconn 3000
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen relay
    {bind}
    {server}
""")
            self.run(self.port + (role == "far"), program, "-db", "-f", file)


class Nginx(Peer):
    """The stream module, bytes as they are."""

    name = "nginx stream"
    tls = False

    def start(self):
        program, target, self.port = need("nginx"), self.listen(), free_ports()
        module = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        if not module.exists():
            raise Missing("libnginx-mod-stream is not installed")
        listen = f"listen 127.0.0.1:{self.port} backlog=4096"
        server = f"{listen};"
        if self.tls:
            server = (f"{listen} ssl; ssl_certificate {self.place.cert}; ssl_certificate_key {self.place.key}; "
                      f"ssl_protocols TLSv1.3; proxy_ssl on; proxy_ssl_protocols TLSv1.3;")
        file = self.directory() / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        file.write_text(f"""load_module {module};
{user}
daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {self.directory()}/pid;
error_log stderr warn;
events {{ worker_connections 8000; }}
stream {{
    server {{ {server} proxy_timeout 1h; proxy_pass 127.0.0.1:{target}; }}
}}
""")
        self.run(self.port, program, "-e", "stderr", "-p", self.directory(), "-c", file)


class NginxTLS(Nginx):
    """Ends TLS on both sides, as a hub does with WebSockets, without their framing."""

    name = "nginx TLS"
    tls = True


class Stunnel(Peer):
    """A client and a server, TLS between them."""

    name = "stunnel pair"

    def start(self):
        program, target = need("stunnel4", "stunnel"), self.listen()
        self.port = free_ports(2)
        through = self.place.between(self, self.port + 1)
        for role, text in (
                ("far", f"cert = {self.place.cert}\nkey = {self.place.key}\n[far]\naccept = 127.0.0.1:{self.port + 1}\n"
                        f"connect = 127.0.0.1:{target}\n"),
                ("near", f"[near]\nclient = yes\naccept = 127.0.0.1:{self.port}\nconnect = 127.0.0.1:{through}\n")):
            file = self.directory() / f"{role}.conf"
            file.write_text(f"foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n{text}")
            self.run(self.port + (role == "far"), program, file)


class OpenSSH(Peer):
    """A port forwarded by ssh -L."""

    name = "ssh aes128-gcm"
    cipher = "aes128-gcm@openssh.com"

    def start(self):
        server, client, target = need("sshd"), need("ssh"), self.listen()
        self.port = free_ports(2)
        directory = self.directory()
        for name in ("host", "user"):
            if not (directory / name).exists():
                subprocess.run([need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        configuration = directory / "sshd_config"
        configuration.write_text(
            f"ListenAddress 127.0.0.1:{self.port + 1}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\n"
            f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nMaxSessions 2000\n")
        self.run(self.port + 1, server, "-D", "-e", "-f", configuration)
        through = self.place.between(self, self.port + 1)
        self.run(
            self.port, client, "-F", "none", "-N", "-L", f"127.0.0.1:{self.port}:127.0.0.1:{target}", "-p", through,
            "-i", directory / "user", "-c", self.cipher, "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={directory}/known", "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes", "127.0.0.1")


class OpenSSHChaCha(OpenSSH):
    name = "ssh chacha20"
    cipher = "chacha20-poly1305@openssh.com"


class Pump(Peer):
    """The least that a relay can do, in C."""

    name = "C pump"

    def start(self):
        target, self.port = self.listen(), free_ports()
        self.run(self.port, self.place.tools.path("pump"), self.port, target)
