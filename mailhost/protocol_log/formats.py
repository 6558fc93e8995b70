"""
Lines of a protocol log, as IIS and others write them.

:Room: ``protocol_log``
:IIS: GEN-09, GEN-12, §2.1 of the requirements; the W3C working draft WD-logfile-960323.
:Called by: `mailhost.protocol_log.files`, in the thread that writes.

Nothing that a peer says ends a line or a column: in the W3C format a blank is a ``+``, and
what cannot stand there as it is stands as ``%`` and two hexadecimal digits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

from attrs import define, field

from mailhost.model.protocol_log import Spoken

#: What stands for itself in a value; an address on the web would have more of it escaped.
_PLAIN = "!\"#$&'()*,-./:;<=>?@[\\]^_`{|}~"
#: Within the quotation marks of a request, and where a web server has the name of a user.
_PLAIN_IN_REQUEST = "!$&'()*,-./:;<=>@_~"
_PLAIN_IN_NAME = "-._@:"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SOFTWARE = "Microsoft Internet Information Services 6.0 (mailhost)"


@define(eq=False)
class Form:
    """
    What all lines of a virtual server have in common.

    :ivar site: its name.
    :ivar machine: the name of this machine.
    :ivar fields: of the W3C format and of JSON.
    """

    site: str
    machine: str
    fields: tuple[str, ...] = ()
    _second: int = field(default=-1, init=False)
    _utc: time.struct_time = field(factory=lambda: time.gmtime(0), init=False)
    _local: time.struct_time = field(factory=lambda: time.gmtime(0), init=False)

    def look(self, at: float) -> None:
        """The lines that follow are of the time *at*."""
        if int(at) != self._second:
            self._second = int(at)
            self._utc, self._local = time.gmtime(at), time.localtime(at)

    # ---- W3C

    def w3c_head(self, now: float) -> str:
        """The directives at the beginning of a file."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        return f"#Software: {SOFTWARE}\n#Version: 1.0\n#Date: {stamp}\n{self.w3c_fields}"

    @property
    def w3c_fields(self) -> str:
        """The directive that names the columns."""
        return f"#Fields: {' '.join(self.fields)}\n"

    def w3c(self, spoken: Spoken) -> str:
        """The fields that are wanted, with blanks between them."""
        values = [_W3C[name](self, spoken) for name in self.fields]
        return f"{' '.join(values)}\n"

    def as_json(self, spoken: Spoken) -> str:
        """A table of the fields that are wanted; what IIS has no value for is left out."""
        found = {name: _JSON[name](self, spoken) for name in self.fields if name in _JSON}
        return json.dumps({name: value for name, value in found.items() if value != ""}) + "\n"

    @property
    def utc_date(self) -> str:
        """``2026-01-31``."""
        return time.strftime("%Y-%m-%d", self._utc)

    @property
    def utc_time(self) -> str:
        """``12:34:56``."""
        return time.strftime("%H:%M:%S", self._utc)

    # ---- the others: local time

    def ncsa(self, spoken: Spoken) -> str:
        """NCSA Common; a parser of web logs takes the command for a request."""
        said, local = spoken.turn, self._local
        minutes = abs(local.tm_gmtoff) // 60
        sign = "-" if local.tm_gmtoff < 0 else "+"
        stamp = (
            f"{local.tm_mday:02}/{_MONTHS[local.tm_mon - 1]}/{local.tm_year}:"
            f"{local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02} "
            f"{sign}{minutes // 60:02}{minutes % 60:02}"
        )
        query = _escaped(said.argument, plain=_PLAIN_IN_REQUEST)
        request = f"{said.verb or '-'} -?{query} HTTP/1.0"
        name = _escaped(spoken.name, plain=_PLAIN_IN_NAME) or "-"
        return f'{spoken.client} - {name} [{stamp}] "{request}" {said.status} {said.sent}\n'

    def iis(self, spoken: Spoken) -> str:
        """The fixed columns of IIS, with commas between them."""
        said, local = spoken.turn, self._local
        columns = (
            spoken.client,
            spoken.name or "-",
            f"{local.tm_mon}/{local.tm_mday}/{local.tm_year % 100:02}",
            f"{local.tm_hour}:{local.tm_min:02}:{local.tm_sec:02}",
            self.site,
            self.machine,
            spoken.server or "-",
            str(milliseconds(spoken)),
            str(said.received),
            str(said.sent),
            str(said.status),
            "0",
            said.verb or "-",
            "-",
            said.argument or "-",
        )
        plain = (_escaped(one, blank="%20").replace(",", "%2C") for one in columns)
        return ", ".join(plain) + ",\n"

    def odbc(self, spoken: Spoken) -> tuple[object, ...]:
        """The columns that IIS's ODBC logging has, as wide as they are there."""
        said = spoken.turn
        return (
            spoken.client[:255],
            (spoken.name or "-")[:255],
            time.strftime("%Y-%m-%d %H:%M:%S", self._local),
            self.site[:255],
            self.machine[:255],
            spoken.server[:50],
            milliseconds(spoken),
            said.received,
            said.sent,
            said.status,
            0,
            (said.verb or "-")[:255],
            "-",
            said.argument[:255],
        )


def milliseconds(spoken: Spoken) -> int:
    """How long it took."""
    return max(0, int(spoken.turn.seconds * 1000))


def _escaped(text: str, blank: str = "+", plain: str = _PLAIN) -> str:
    """*text* without anything that could end a column or a line."""
    if text.isascii() and text.isalnum():
        return text
    return quote(text, safe=plain).replace("%20", blank)


def _argument(form: Form, spoken: Spoken) -> str:
    said = spoken.turn
    if not said.argument:
        return "-"
    # IIS keeps the blank behind the verb, of commands that come in.
    inbound = bool(spoken.server) and said.verb not in ("DATA", "BDAT")
    return ("+" if inbound else "") + _escaped(said.argument)


def _nothing(form: Form, spoken: Spoken) -> str:
    return "-"


def _zero(form: Form, spoken: Spoken) -> str:
    return "0"


_W3C: Mapping[str, Callable[[Form, Spoken], str]] = {
    "date": lambda form, spoken: form.utc_date,
    "time": lambda form, spoken: form.utc_time,
    "c-ip": lambda form, spoken: spoken.client or "-",
    "cs-username": lambda form, spoken: _escaped(spoken.name) or "-",
    "s-sitename": lambda form, spoken: _escaped(form.site),
    "s-computername": lambda form, spoken: _escaped(form.machine),
    "s-ip": lambda form, spoken: spoken.server or "-",
    "s-port": lambda form, spoken: str(spoken.port),
    "cs-method": lambda form, spoken: spoken.turn.verb or "-",
    "cs-uri-stem": _nothing,
    "cs-uri-query": _argument,
    "sc-status": lambda form, spoken: str(spoken.turn.status),
    "sc-substatus": _zero,
    "sc-win32-status": _zero,
    "sc-bytes": lambda form, spoken: str(spoken.turn.sent),
    "cs-bytes": lambda form, spoken: str(spoken.turn.received),
    "time-taken": lambda form, spoken: str(milliseconds(spoken)),
    "cs-version": lambda form, spoken: "SMTP",
    "cs-host": _nothing,
    "cs(User-Agent)": _nothing,
    "cs(Cookie)": _nothing,
    "cs(Referer)": _nothing,
}

_JSON: Mapping[str, Callable[[Form, Spoken], str | int]] = {
    "date": lambda form, spoken: form.utc_date,
    "time": lambda form, spoken: form.utc_time,
    "c-ip": lambda form, spoken: spoken.client,
    "cs-username": lambda form, spoken: spoken.name,
    "s-sitename": lambda form, spoken: form.site,
    "s-computername": lambda form, spoken: form.machine,
    "s-ip": lambda form, spoken: spoken.server,
    "s-port": lambda form, spoken: spoken.port,
    "cs-method": lambda form, spoken: spoken.turn.verb,
    "cs-uri-query": lambda form, spoken: spoken.turn.argument,
    "sc-status": lambda form, spoken: spoken.turn.status,
    "sc-bytes": lambda form, spoken: spoken.turn.sent,
    "cs-bytes": lambda form, spoken: spoken.turn.received,
    "time-taken": lambda form, spoken: milliseconds(spoken),
}
