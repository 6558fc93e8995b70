"""
*Enable logging*: what was said in each session, in the formats of IIS.

:Room: ``config.settings``
:IIS: GEN-08..GEN-12.
:Read by: `mailhost.protocol_log`.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, keys
from mailhost.config.settings.words import words
from mailhost.config.units import PATH, TRUTH, Kind, parse_size
from mailhost.model.protocol_log import DEFAULT_FIELDS, FIELDS, LogSchedule

_LEAST_OCTETS = 64 * 1024
_PERIODS = ("hourly", "daily", "weekly", "monthly", "unlimited")
_BY_NAME = {name.lower(): name for name in FIELDS}


def _parse_schedule(text: str) -> LogSchedule:
    word = text.strip().lower()
    if word in _PERIODS:
        return LogSchedule(word)
    try:
        return LogSchedule("size", parse_size(word))
    except ValueError:
        raise ValueError(f"{shown(text)} is neither a period nor a size") from None


def _check_schedule(value: LogSchedule) -> None:
    if value.period == "size" and (value.octets is None or value.octets < _LEAST_OCTETS):
        raise ValueError("the files would be too small")


_SCHEDULE = Kind(
    _parse_schedule,
    f"{', '.join(_PERIODS)}, or a size of at least 64K, also with K, M or G (1024-based)",
    check=_check_schedule,
)


def _parse_field(text: str) -> str:
    word = text.strip().lower()
    if word in ("default", "all"):
        return word
    try:
        return _BY_NAME[word]
    except KeyError:
        raise ValueError(f"{shown(text)} is no field") from None


_FIELD = Kind(_parse_field, f"default, all, or some of {', '.join(FIELDS)}")


@frozen
class ProtocolLogSettings:
    """What was said in each session, in the formats of IIS."""

    enabled: bool = key(TRUTH, "false", help="Whether it is written.", iis="GEN-08 LogType")
    format: str = key(
        words("w3c", "ncsa", "iis", "json", "sqlite"),
        "w3c",
        help="w3c: W3C Extended. ncsa: NCSA Common. iis: Microsoft IIS. json: the fields of w3c, a "
        "table in each line. sqlite: a database with the table and columns of ODBC logging.",
        iis="GEN-09 LogPluginClsid",
    )
    directory: Path | None = key(
        PATH, "null", help="null: Logs below home.", iis="GEN-11 LogFileDirectory"
    )
    schedule: LogSchedule = key(
        _SCHEDULE,
        "daily",
        help="When a new file is begun. It has no meaning for sqlite. Nothing is deleted.",
        iis="GEN-10 LogFilePeriod, LogFileTruncateSize",
    )
    local_time: bool = key(
        TRUTH,
        "false",
        help="Whether days and hours of w3c and json files begin as they do here, not in UTC. What "
        "is in them is UTC. In ncsa and iis both are local.",
        iis="GEN-10 LogFileLocaltimeRollover",
    )
    fields: tuple[str, ...] = keys(
        _FIELD,
        "default",
        least=1,
        help="Of w3c and json. default: " + " ".join(DEFAULT_FIELDS) + ".",
        iis="GEN-12 LogExtFileFlags",
    )

    def expanded(self) -> ProtocolLogSettings:
        """With the names of all fields in place of ``default`` and ``all``."""
        named = {"default": DEFAULT_FIELDS, "all": FIELDS}
        chosen = {name for word in self.fields for name in named.get(word, (word,))}
        return evolve(self, fields=tuple(name for name in FIELDS if name in chosen))
