"""Waiting for an event with a deadline; never for a guessed time."""

import time


def until(predicate, seconds=10.0, what="the condition"):
    """Polls until `predicate` returns something true, and returns that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.02)
