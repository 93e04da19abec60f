"""What is measured: something that relays streams, as the load tool sees it."""

import socket

from .processes import family


class Missing(Exception):
    """A subject that is not on this machine; the row says why."""


class Subject:
    """Relays from a port (or from legs) to a listener of ours.

    Subclasses start what they need in `start` and append it to `held`.
    """

    name = "?"

    def __init__(self, place):
        self.place = place  # the directory, the tools, the certificate, the binary
        self.held = []
        self.listener = None
        self.port = None

    def start(self):
        raise NotImplementedError

    def listen(self):
        """The far end's listener; its port."""
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        return self.listener.getsockname()[1]

    def pids(self):
        """Everybody whose processor time counts."""
        return family(*(one.pid for one in self.held))

    def ends(self, streams):
        """Arguments for both ends of so many fresh streams, the descriptors they name, and what to close afterwards."""
        del streams
        number = self.listener.fileno()
        return ["--connect", self.port, "--accept", number], [number], []

    def load(self, mode, streams=1, tls=False, options=()):
        arguments, descriptors, held = self.ends(streams)
        if tls:
            arguments += ["--tls", "--cert", self.place.cert, "--key", self.place.key]
        pids = self.pids()
        if pids:
            arguments += ["--pids", ",".join(map(str, pids))]
        try:
            return self.place.tools.load(mode, *arguments, "--streams", streams, *options, descriptors=descriptors)
        finally:
            for one in held:
                one.close()

    def stop(self):
        for one in reversed(self.held):
            one.stop()
        self.held = []
        if self.listener is not None:
            self.listener.close()


class Direct(Subject):
    """Nobody in between."""

    name = "direct"

    def start(self):
        self.port = self.listen()
