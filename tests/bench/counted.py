"""
Runs twistd, and counts the bytecodes and calls of its main thread, by function.

``python -m tests.bench.counted OUT TWISTD ARGUMENTS...``: when the reactor has stopped OUT has a
line of JSON for each function: file, first line, name, bytecodes, calls.  Used by
`tests.bench.counting`.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from twisted.internet import reactor as installed

_bytecodes: Counter[CodeType] = Counter()
_calls: Counter[CodeType] = Counter()


def _in_function(frame: FrameType, happened: str, value: Any) -> Any:
    if happened == "opcode":
        _bytecodes[frame.f_code] += 1
    return _in_function


def _called(frame: FrameType, happened: str, value: Any) -> Any:
    _calls[frame.f_code] += 1
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return _in_function


def _write(out: Path) -> None:
    sys.settrace(None)
    with out.open("w", encoding="utf-8") as file:
        for code, calls in _calls.items():
            line = code.co_filename, code.co_firstlineno, code.co_qualname, _bytecodes[code], calls
            file.write(f"{json.dumps(line)}\n")


def main() -> None:
    """Run it."""
    out, sys.argv = Path(sys.argv[1]), sys.argv[2:]
    # Not at the end of Python: twistd ends by the signal that has stopped it.
    reactor: Any = installed
    reactor.addSystemEventTrigger("after", "shutdown", _write, out)
    sys.settrace(_called)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
