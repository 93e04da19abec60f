"""As many bytes as will go, from one end of each stream to the other."""

import os
import selectors
import socket
import ssl
import threading
import time

from .websocket import WebSocket, frame

#: How long a rate is measured, and how near it has to be: 10 seconds within 5 %; less time on a busy machine needs more room.
SECONDS = float(os.environ.get("IOTSTREAM_QUOTA_SECONDS", 2))
TOLERANCE = 0.05 if SECONDS >= 10 else 0.2

BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
WHOLE_FRAME = frame(bytes(16384))
PLAIN = bytes(65536)


class _Pair:
    def __init__(self, sender, receiver):
        self.sender, self.receiver = (one.socket if isinstance(one, WebSocket) else one for one in (sender, receiver))
        self.piece = WHOLE_FRAME if isinstance(sender, WebSocket) else PLAIN
        self.rest = memoryview(self.piece)
        self.moved = 0

    def send(self):
        try:
            for _ in range(4):
                self.rest = self.rest[self.sender.send(self.rest):] or memoryview(self.piece)
        except BLOCKED:
            pass

    def receive(self):
        try:
            for _ in range(16):
                piece = self.receiver.recv(262144)
                if not piece:
                    raise EOFError("a stream was cut")
                self.moved += len(piece)
        except BLOCKED:
            pass


class Traffic:
    """Moves bytes through (sender, receiver) pairs of legs or sockets until it is stopped."""

    def __init__(self, pairs):
        self.pairs = [_Pair(*pair) for pair in pairs]
        self.failure = None
        self._bell, self._clapper = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._bell, selectors.EVENT_READ)
                duties = {}  # of each socket; one that sends and receives is in two pairs
                for pair in self.pairs:
                    duties.setdefault(pair.sender, {})[selectors.EVENT_WRITE] = pair.send
                    duties.setdefault(pair.receiver, {})[selectors.EVENT_READ] = pair.receive
                for one, duty in duties.items():
                    one.setblocking(False)
                    selector.register(one, sum(duty), duty)
                while True:
                    for key, events in selector.select():
                        if key.data is None:
                            return
                        for event, perform in key.data.items():
                            if events & event:
                                perform()
        except (OSError, EOFError) as error:
            self.failure = error

    @property
    def moved(self):
        return sum(pair.moved for pair in self.pairs)

    def rate(self, seconds=SECONDS):
        """Bytes per second from now on."""
        before, began = self.moved, time.monotonic()
        time.sleep(seconds)
        found = (self.moved - before) / (time.monotonic() - began)
        assert self.failure is None, self.failure
        return found

    def keeps_to(self, wanted, seconds=SECONDS):
        for _ in range(1 if SECONDS >= 10 else 3):  # in a short time the machine may have been busy with something else
            found = self.rate(seconds)
            print(f"{found:.0f} bytes per second, wanted {wanted}: {100 * (found / wanted - 1):+.2f} %")
            if abs(found - wanted) <= TOLERANCE * wanted:
                return
        assert abs(found - wanted) <= TOLERANCE * wanted, f"{found:.0f} bytes per second, wanted {wanted}"

    def shares(self, seconds=SECONDS):
        """Bytes per second of each pair."""
        before = [pair.moved for pair in self.pairs]
        time.sleep(seconds)
        return [(pair.moved - earlier) / seconds for pair, earlier in zip(self.pairs, before)]

    def stop(self):
        if self._thread.is_alive():
            self._clapper.send(b"x")
            self._thread.join(20)
        self._bell.close()
        self._clapper.close()
