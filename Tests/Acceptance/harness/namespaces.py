"""Network namespaces: machines that cannot reach one another except as said."""

import ctypes
import itertools
import os
import shutil
import socket
import threading

from .process import run

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()
CLONE_NEWNET = 0x40000000


class Namespace:
    """One machine. Its /etc/hosts is its own."""

    def __init__(self, role, hosts=None):
        self.name = f"ist{os.getpid()}{role}{next(_numbers)}"
        run(["ip", "netns", "add", self.name], check=0)
        self.prefix = ["ip", "netns", "exec", self.name]
        self.hosts(hosts or {})
        self.run("ip", "link", "set", "lo", "up")
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")

    def hosts(self, names):
        """Names and addresses that are known here."""
        directory = f"/etc/netns/{self.name}"
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/hosts", "w") as file:
            file.write("127.0.0.1 localhost\n::1 localhost\n")
            for name, address in names.items():
                file.write(f"{address} {name}\n")
        with open(f"{directory}/resolv.conf", "w") as file:
            file.write("# none\n")

    def run(self, *arguments, **named):
        return run(arguments, namespace=self, check=named.pop("check", 0), **named)

    def call(self, function, *arguments):
        """Calls in a thread that lives in this namespace; sockets made there stay in it."""
        outcome = {}

        def body():
            try:
                descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
                try:
                    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(descriptor)
                outcome["value"] = function(*arguments)
            except BaseException as error:  # handed to the caller's thread
                outcome["error"] = error

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    def dial(self, address, seconds=20.0):
        return self.call(lambda: socket.create_connection(address, timeout=seconds))

    def listen(self, address):
        return self.call(lambda: socket.create_server(address, backlog=1024))

    def firewall(self, rules):
        self.run("nft", "-f", "-", stdin=rules)

    def refuse_inbound(self):
        """Nobody connects to this machine; it connects to others."""
        self.firewall(
            "table inet guard {\nchain input { type filter hook input priority 0; policy drop; iif lo accept; "
            "ct state established,related accept; }\n}\n")

    def cut(self):
        """From now on every packet is lost, and nobody is told."""
        self.firewall(
            "table inet cut {\nchain in { type filter hook input priority -10; policy drop; iif lo accept; }\n"
            "chain out { type filter hook output priority -10; policy drop; oif lo accept; }\n}\n")

    def mend(self):
        self.run("nft", "delete", "table", "inet", "cut")

    def remove(self):
        run(["ip", "netns", "del", self.name])
        shutil.rmtree(f"/etc/netns/{self.name}", ignore_errors=True)


def link(left, left_address, right, right_address):
    """A cable between two machines, addresses with their prefix length."""
    number = next(_numbers)
    first, second = f"a{number}", f"b{number}"
    left.run("ip", "link", "add", first, "type", "veth", "peer", "name", second, "netns", right.name)
    for namespace, device, address in ((left, first, left_address), (right, second, right_address)):
        namespace.run("ip", "address", "add", address, "dev", device)
        namespace.run("ip", "link", "set", device, "up")
    return first, second
