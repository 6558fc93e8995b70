"""What was promised, written down before anything can happen to whoever promised it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from attrs import define, field


def digest(octets: bytes) -> str:
    """A content's name in the ledger."""
    return hashlib.sha256(octets).hexdigest()


class LedgerWriter:
    """One line for each event, in one system call: a kill leaves no half of it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, event: str, *facts: str) -> None:
        os.write(self._fd, json.dumps([event, *facts]).encode("ascii") + b"\n")

    def close(self) -> None:
        os.close(self._fd)


@define
class Ledger:
    """
    What must be, and what may be.

    :ivar tried: contents that were handed over.
    :ivar accepted: contents by id, as far as they were acknowledged.
    :ivar settling: the report by id, as far as an outcome was handed over.
    :ivar expanding: ids of those of them whose content is then another message's.
    :ivar settled: ids whose outcome was acknowledged.
    :ivar bad: Badmail triples that were acknowledged.
    """

    tried: set[str] = field(factory=set)
    accepted: dict[str, str] = field(factory=dict)
    settling: dict[str, str] = field(factory=dict)
    expanding: set[str] = field(factory=set)
    settled: set[str] = field(factory=set)
    bad: set[str] = field(factory=set)

    def read(self, octets: bytes) -> Ledger:
        """Take in the lines of a `LedgerWriter`."""
        for line in octets.splitlines():
            event, *facts = json.loads(line)
            if event == "try":
                self.tried.add(facts[0])
            elif event == "accepted":
                self.accepted[facts[0]] = facts[1]
            elif event == "settle":
                self.settling[facts[0]] = facts[1]
            elif event == "expand":
                self.settling[facts[0]] = facts[1]
                self.expanding.add(facts[0])
            elif event == "settled":
                self.settled.add(facts[0])
            elif event == "bad":
                self.bad.add(facts[0])
            else:
                raise AssertionError(f"unknown event {event}")
        return self

    def faults(self, found: dict[str, str]) -> list[str]:
        """
        What is wrong with a queue that holds *found*, contents by id; empty when nothing is.

        A message that was acknowledged is there whole until its outcome was
        handed over; then it is there, or its report is; once that was
        acknowledged only the report is.  Nothing else is there but what somebody tried.
        """
        contents = set(found.values())
        wrong = [
            f"{one} was accepted and is {'changed' if one in found else 'lost'}"
            for one, content in self.accepted.items()
            if one not in self.settling and found.get(one) != content
        ]
        for one, report in self.settling.items():
            there, reported = one in found, not report or report in contents
            if one in self.settled and (there or not reported):
                wrong.append(f"{one} was settled: still there {there}, reported {reported}")
            if one not in self.settled and not there and not reported:
                wrong.append(f"{one} is gone without its report")
            if one not in self.settled and there and report and reported:
                wrong.append(f"{one} is there, and its report too")
        wrong += [
            f"{one} was expanded, and its members have nothing"
            for one in self.expanding
            if self.accepted[one] not in contents
        ]
        known = self.tried | set(self.settling.values())
        wrong += [f"{one} is nobody's content" for one in found if found[one] not in known]
        return wrong
