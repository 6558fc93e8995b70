"""
Which file a line goes to, and writing it there.

:Room: ``protocol_log``
:IIS: GEN-10 (schedules), §2.1 (names of files).
:Called by: `mailhost.protocol_log.log`, in the thread that writes.

Several processes append to the same file, each with whole lines.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from attrs import define, field, frozen

from mailhost.background import AppendedFile
from mailhost.model.protocol_log import LogSchedule, Spoken
from mailhost.protocol_log.formats import Form

#: A file's name is found anew so often: zones have offsets of whole quarters of an hour.
_QUARTER_SECONDS = 900
_LONG_NAMES = {"ex": "extend", "nc": "ncsa", "in": "inetsv", "js": "json"}
DATABASE = "InternetLog.sqlite"
_COLUMNS = """ClientHost VARCHAR(255), Username VARCHAR(255), LogTime DATETIME,
    Service VARCHAR(255), Machine VARCHAR(255), ServerIP VARCHAR(50), ProcessingTime INT,
    BytesRecvd INT, BytesSent INT, ServiceStatus INT, Win32Status INT,
    Operation VARCHAR(255), Target VARCHAR(255), Parameters VARCHAR(255)"""
_BUSY_SECONDS = 5.0


@frozen
class Style:
    """
    A format of files.

    :ivar prefix: of their names.
    :ivar line: makes a line.
    :ivar local: its times are local, and so is the end of a day; the W3C format's are UTC.
    """

    prefix: str
    line: Callable[[Form, Spoken], str]
    local: bool = False


STYLES = {
    "w3c": Style("ex", Form.w3c),
    "ncsa": Style("nc", Form.ncsa, local=True),
    "iis": Style("in", Form.iis, local=True),
    "json": Style("js", Form.as_json),
}


def file_name(prefix: str, period: str, at: float, local: bool) -> str:
    """
    What IIS calls the file for the time *at*: ``ex260131.log``; of a week ``ex260105.log``, the
    fifth of January.

    :param period: ``hourly``, ``daily``, ``weekly`` or ``monthly``.
    """
    day = time.localtime(at) if local else time.gmtime(at)
    name = f"{prefix}{day.tm_year % 100:02}{day.tm_mon:02}"
    if period == "weekly":
        # Weeks begin with Sunday, as in IIS; Python's Monday is 0.
        first = (day.tm_wday + 1 - (day.tm_mday - 1)) % 7
        return f"{name}{(day.tm_mday - 1 + first) // 7 + 1:02}.log"
    if period != "monthly":
        name += f"{day.tm_mday:02}"
    if period == "hourly":
        name += f"{day.tm_hour:02}"
    return f"{name}.log"


@define(eq=False)
class LogFiles:
    """
    :ivar directory: where the files are.
    :ivar form: of the lines.
    :ivar style: of the files.
    :ivar schedule: when a new one is begun.
    :ivar local_time: days end as they do here, in the W3C format as well.
    """

    directory: Path
    form: Form
    style: Style
    schedule: LogSchedule
    local_time: bool = False
    _file: AppendedFile | None = field(default=None, init=False)
    _quarter: int = field(default=-1, init=False)
    _name: str = field(default="", init=False)

    def write(self, items: Sequence[Spoken]) -> None:
        """
        Append a line for each of *items*.

        :raises OSError: some cannot be written.
        """
        for name, group in groupby(items, self._name_for):
            lines: list[bytes] = []
            for spoken in group:
                self.form.look(spoken.at)
                lines.append(self.style.line(self.form, spoken).encode("utf-8"))
            if self.schedule.octets is None:
                self._at(name).write(b"".join(lines))
            else:
                self._write_pieces(lines, self.schedule.octets)

    def close(self) -> None:
        """Keep no file open."""
        if self._file is not None:
            self._file.close()

    def _name_for(self, spoken: Spoken) -> str:
        if self.schedule.period == "unlimited":
            return f"{_LONG_NAMES[self.style.prefix]}1.log"
        quarter = int(spoken.at) // _QUARTER_SECONDS
        if quarter != self._quarter:
            local = self.style.local or self.local_time
            self._quarter = quarter
            self._name = file_name(self.style.prefix, self.schedule.period, spoken.at, local)
        return self._name

    def _at(self, name: str) -> AppendedFile:
        path = self.directory / name
        if self._file is None or self._file.path != path:
            self.close()
            head = self._head if self.style.prefix == "ex" else None
            self._file = AppendedFile(path, head=head)
        return self._file

    def _head(self, known: bytes, now: float) -> bytes:
        """What has to stand in a file that begins with *known* before our first line."""
        if not known:
            return self.form.w3c_head(now).encode("utf-8")
        fields = self.form.w3c_fields.encode("utf-8")
        return b"" if b"\n" + fields in known else fields

    # ---- by size

    def _write_pieces(self, lines: Sequence[bytes], most: int) -> None:
        number = self._newest()
        file = self._at(f"{_LONG_NAMES[self.style.prefix]}{number}.log")
        piece: list[bytes] = []
        size = file.size()
        for line in lines:
            if size and size + len(line) > most:
                if piece:
                    file.write(b"".join(piece))
                number += 1
                file = self._at(f"{_LONG_NAMES[self.style.prefix]}{number}.log")
                piece, size = [], file.size()
            piece.append(line)
            size += len(line)
        if piece:
            file.write(b"".join(piece))

    def _newest(self) -> int:
        name = re.compile(rf"{_LONG_NAMES[self.style.prefix]}([0-9]{{1,9}})\.log")
        self.directory.mkdir(parents=True, exist_ok=True)
        found = (name.fullmatch(path.name) for path in self.directory.iterdir())
        return max((int(one[1]) for one in found if one is not None), default=1)


@define(eq=False)
class LogTable:
    """
    A table in SQLite with the columns of IIS's ODBC logging.

    :ivar directory: where the database is.
    :ivar form: of the rows.
    """

    directory: Path
    form: Form
    _connection: sqlite3.Connection | None = field(default=None, init=False)

    def write(self, items: Sequence[Spoken]) -> None:
        """
        Add a row for each of *items*.

        :raises OSError: it cannot be done.
        """
        rows = []
        for spoken in items:
            self.form.look(spoken.at)
            rows.append(self.form.odbc(spoken))
        try:
            connection = self._opened()
            with connection:
                marks = ", ".join("?" * len(rows[0])) if rows else ""
                connection.executemany(f"INSERT INTO InternetLog VALUES ({marks})", rows)
        except sqlite3.Error as error:
            self.close()
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Keep no database open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self.directory / DATABASE
            path.touch(0o640)
            # Made in the thread that writes; closed by whoever stops it.
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS InternetLog ({_COLUMNS})")
        return self._connection
