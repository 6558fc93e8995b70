"""Tests for `mailhost.protocol_log.formats` and `files`, with parsers that others have written."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lars.apache import ApacheSource
from lars.iis import IISSource
from twisted.trial.unittest import SynchronousTestCase

from mailhost.background import AppendedFile
from mailhost.model.protocol_log import (
    DEFAULT_FIELDS,
    FIELDS,
    OUTBOUND_COMMAND,
    LogSchedule,
    Spoken,
    Turn,
)
from mailhost.protocol_log.files import STYLES, LogFiles, LogTable, file_name
from mailhost.protocol_log.formats import Form

AT = datetime(2026, 1, 31, 23, 45, 6, tzinfo=UTC).timestamp()
MAIL = Spoken(
    AT,
    "192.0.2.7",
    "client.example",
    "127.0.0.1",
    25,
    Turn("MAIL", "FROM:<a+b@example.com> SIZE=10", 250, 43, 31, 0.0125),
)
SENT = Spoken(AT, "198.51.100.9", OUTBOUND_COMMAND, "", 25, Turn("EHLO", "x.example", 0, 0, 16, 1))
#: What a peer may say in the hope that somebody's columns move.
NASTY = Spoken(
    AT,
    "192.0.2.7",
    'a b,c"d\r\n#Fields: x\x1b[2J',
    "127.0.0.1",
    25,
    Turn("RCPT", 'TO:<\u00fc%20,\t\x00">', 553, 20, 30, 0),
)


class ZoneCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name) / "Logs"
        before = os.environ.get("TZ")
        self.addCleanup(time.tzset)
        self.addCleanup(self.put_back, before)
        self.zone("America/St_Johns")

    def zone(self, name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    def put_back(self, before: str | None) -> None:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before

    def files(self, style: str, *fields: str, **given: Any) -> LogFiles:
        schedule = given.pop("schedule", LogSchedule("daily"))
        form = Form("Default SMTP", "mail.example.com", fields or FIELDS)
        files = LogFiles(self.directory, form, STYLES[style], schedule, **given)
        self.addCleanup(files.close)
        return files

    def written(self) -> dict[str, str]:
        return {path.name: path.read_text("utf-8") for path in sorted(self.directory.iterdir())}


class W3CTests(ZoneCase):
    def test_as_iis_writes_it(self) -> None:
        """All fields, in and out; times are UTC."""
        self.files("w3c").write([MAIL, SENT])
        (text,) = self.written().values()
        lines = text.splitlines()

        self.assertEqual("#Version: 1.0", lines[1])
        self.assertEqual("#Fields: " + " ".join(FIELDS), lines[3])
        self.assertEqual(
            "2026-01-31 23:45:06 192.0.2.7 client.example Default+SMTP mail.example.com "
            "127.0.0.1 25 MAIL - +FROM:<a%2Bb@example.com>+SIZE=10 250 0 0 31 43 12 SMTP - - - -",
            lines[4],
        )
        self.assertEqual(
            "2026-01-31 23:45:06 198.51.100.9 OutboundConnectionCommand Default+SMTP "
            "mail.example.com - 25 EHLO - x.example 0 0 0 16 0 1000 SMTP - - - -",
            lines[5],
        )

    def test_default(self) -> None:
        """GEN-12: what IIS shows where nothing was chosen."""
        self.files("w3c", *DEFAULT_FIELDS).write([MAIL])
        (text,) = self.written().values()
        self.assertEqual("23:45:06 192.0.2.7 MAIL - 250", text.splitlines()[-1])

    def test_parser(self) -> None:
        """A parser of others finds the columns, whatever a peer says."""
        files = self.files("w3c")
        files.write([MAIL, SENT, NASTY])
        (path,) = self.directory.iterdir()
        with path.open() as opened, IISSource(opened) as source:
            mail, sent, nasty = list(source)

        self.assertEqual(
            ("192.0.2.7", "MAIL", 250), (str(mail.c_ip), mail.cs_method, mail.sc_status)
        )
        self.assertEqual((31, 43), (mail.sc_bytes, mail.cs_bytes))
        self.assertEqual("2026-01-31 23:45:06", f"{mail.date} {mail.time}")
        self.assertEqual(OUTBOUND_COMMAND, sent.cs_username)
        self.assertEqual(NASTY.name, nasty.cs_username)

    def test_later_process(self) -> None:
        """Who opens the file again adds no second head; other fields are announced."""
        for files in (self.files("w3c"), self.files("w3c"), self.files("w3c", "time", "c-ip")):
            files.write([MAIL])
        (text,) = self.written().values()

        self.assertEqual((1, 2), (text.count("#Version"), text.count("#Fields")))
        self.assertEqual("#Fields: time c-ip\n23:45:06 192.0.2.7\n", text[-38:])


class OtherFormatTests(ZoneCase):
    def test_ncsa(self) -> None:
        """Parsers of web logs read it; the time is local, with the zone."""
        self.files("ncsa").write([MAIL, NASTY])
        ((name, text),) = self.written().items()
        first = text.splitlines()[0]
        self.assertEqual(
            "192.0.2.7 - client.example [31/Jan/2026:20:15:06 -0330] "
            '"MAIL -?FROM:<a%2Bb@example.com>+SIZE=10 HTTP/1.0" 250 31',
            first,
        )
        with ApacheSource(StringIO(text), log_format='%h %l %u %t "%r" %>s %b') as source:
            rows = list(source)
        self.assertEqual([250, 553], [row.status for row in rows])
        self.assertEqual("nc260131.log", name)

    def test_iis(self) -> None:
        """Fifteen columns and an empty one, however many commas a peer says."""
        self.files("iis").write([MAIL, NASTY])
        ((name, text),) = self.written().items()
        mail, nasty = text.splitlines()
        self.assertEqual(
            "192.0.2.7, client.example, 1/31/26, 20:15:06, Default%20SMTP, mail.example.com, "
            "127.0.0.1, 12, 43, 31, 250, 0, MAIL, -, FROM:<a%2Bb@example.com>%20SIZE=10,",
            mail,
        )
        self.assertEqual((16, "in260131.log"), (len(nasty.split(",")), name))

    def test_json(self) -> None:
        """A table in each line; numbers are numbers."""
        self.files("json", "time", "c-ip", "cs-method", "sc-status").write([MAIL, NASTY])
        ((name, text),) = self.written().items()
        tables = [json.loads(line) for line in text.splitlines()]
        self.assertEqual(
            {"time": "23:45:06", "c-ip": "192.0.2.7", "cs-method": "MAIL", "sc-status": 250},
            tables[0],
        )
        self.assertEqual("js260131.log", name)

    def test_table(self) -> None:
        """The columns of ODBC logging, as wide as they are in IIS."""
        long = MAIL._replace(turn=MAIL.turn._replace(argument="x" * 300))
        table = LogTable(self.directory, Form("one", "mail.example.com"))
        self.addCleanup(table.close)
        table.write([MAIL, long])
        with closing(sqlite3.connect(self.directory / "InternetLog.sqlite")) as connection:
            connection.row_factory = sqlite3.Row
            first, second = connection.execute("SELECT * FROM InternetLog").fetchall()

        self.assertEqual(
            {
                "ClientHost": "192.0.2.7",
                "Username": "client.example",
                "LogTime": "2026-01-31 20:15:06",
                "Service": "one",
                "Machine": "mail.example.com",
                "ServerIP": "127.0.0.1",
                "ProcessingTime": 12,
                "BytesRecvd": 43,
                "BytesSent": 31,
                "ServiceStatus": 250,
                "Win32Status": 0,
                "Operation": "MAIL",
                "Target": "-",
                "Parameters": "FROM:<a+b@example.com> SIZE=10",
            },
            dict(first),
        )
        self.assertEqual(255, len(second["Parameters"]))

    def test_table_that_cannot_be(self) -> None:
        """What SQLite says is told as trouble with the disk."""
        self.directory.mkdir()
        (self.directory / "InternetLog.sqlite").write_bytes(b"no database" * 100)
        self.assertRaises(OSError, LogTable(self.directory, Form("one", "x")).write, [MAIL])


class ScheduleTests(ZoneCase):
    def test_names(self) -> None:
        """GEN-10: what IIS calls them; a week is that of the month, and begins with Sunday."""

        def name(period: str, *moment: int) -> str:
            at = datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]
            return file_name("ex", period, at, local=False)

        for period, expected, moment in (
            ("hourly", "ex26013123.log", (2026, 1, 31, 23)),
            ("daily", "ex260131.log", (2026, 1, 31)),
            ("monthly", "ex2601.log", (2026, 1, 31)),
            # January 2026 begins on a Thursday.
            ("weekly", "ex260101.log", (2026, 1, 3)),
            ("weekly", "ex260102.log", (2026, 1, 4)),
            ("weekly", "ex260105.log", (2026, 1, 31)),
            # February 2026 begins on a Sunday, August on a Saturday.
            ("weekly", "ex260201.log", (2026, 2, 7)),
            ("weekly", "ex260204.log", (2026, 2, 28)),
            ("weekly", "ex260801.log", (2026, 8, 1)),
            ("weekly", "ex260806.log", (2026, 8, 30)),
        ):
            self.assertEqual(expected, name(period, *moment), moment)

    def test_rollover(self) -> None:
        """At the end of the day a new file, with a head of its own."""
        self.files("w3c").write([MAIL, MAIL._replace(at=AT + 900)])
        self.assertEqual(["ex260131.log", "ex260201.log"], list(self.written()))
        self.assertEqual([5, 5], [len(text.splitlines()) for text in self.written().values()])

    def test_local_rollover(self) -> None:
        """LogFileLocaltimeRollover: the day ends as it does here; what is in it is UTC."""
        later = MAIL._replace(at=AT + 4 * 3600)
        self.files("w3c", local_time=True).write([MAIL, MAIL._replace(at=AT + 900), later])
        texts = self.written()
        self.assertEqual(["ex260131.log", "ex260201.log"], list(texts))
        self.assertIn("2026-02-01 00:00:06", texts["ex260131.log"])

    def test_unlimited(self) -> None:
        """One file."""
        files = self.files("ncsa", schedule=LogSchedule("unlimited"))
        files.write([MAIL, MAIL._replace(at=AT + 86400 * 400)])
        self.assertEqual(["ncsa1.log"], list(self.written()))

    def test_by_size(self) -> None:
        """No file is larger, no line is torn, and a later process goes on where it was."""
        schedule = LogSchedule("size", 1000)
        for _ in range(2):
            self.files("w3c", schedule=schedule).write([MAIL] * 10)
        texts = self.written()

        names = sorted(texts, key=lambda name: int(re.sub(r"\D", "", name)))
        self.assertEqual([f"extend{number}.log" for number in range(1, len(names) + 1)], names)
        self.assertGreater(len(names), 3)
        self.assertLessEqual(max(map(len, texts.values())), 1000)
        self.assertEqual(20, sum(text.count(" MAIL ") for text in texts.values()))

    def test_head_is_asked_once(self) -> None:
        """Of several that open a new file one writes its head."""
        path = self.directory / "x"
        for _ in range(3):
            file = AppendedFile(path, head=lambda known, now: b"" if known else b"head\n")
            file.write(b"line\n")
            file.close()
        self.assertEqual(b"head\nline\nline\nline\n", path.read_bytes())
