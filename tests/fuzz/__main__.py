"""
``python -m tests.fuzz server|client [-runs=N] [-max_total_time=SECONDS] [FOLDER]``

Looks for octets that break a dialogue, guided by coverage; needs ``pip install atheris``.  The
options are libFuzzer's; in FOLDER it keeps what it finds interesting.  It ends with what
it has found, which ``python -m tests.fuzz server FILE`` plays again.
"""

from __future__ import annotations

import sys
from importlib import import_module
from tempfile import NamedTemporaryFile


def main() -> None:
    """One target, until something breaks or the options say that it is enough."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("server", "client"):
        sys.exit(__doc__)
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["mailhost.smtp"]):
        targets = import_module("tests.fuzz.targets")
    target, words = targets.TARGETS[sys.argv[1]]
    with NamedTemporaryFile("w", suffix=".dict") as dictionary:
        for word in words:
            dictionary.write('"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n')
        dictionary.flush()
        atheris.Setup([sys.argv[0], f"-dict={dictionary.name}", *sys.argv[2:]], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
