"""``etc/grafana.json`` is a dashboard, and asks for nothing that is not told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailhost.control.metrics import METRICS

FILE = Path(__file__).parents[2] / "etc" / "grafana.json"
_SERIES = re.compile(r"\b(?:mailhost|windows_smtp)_\w+")
_LABELS = re.compile(r"\b((?:mailhost|windows_smtp)_\w+)\{(\w+)=~")


class DashboardTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.board: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
        self.panels: list[dict[str, Any]] = self.board["panels"]
        self.asked = [target["expr"] for one in self.panels for target in one["targets"]]

    def test_form(self) -> None:
        """Each panel has a place of its own, a title and something to ask."""
        self.assertGreater(len(self.panels), 10)
        for name in ("id", "title"):
            found = [one[name] for one in self.panels]
            self.assertEqual(len(found), len(set(found)))
        places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in self.panels]
        self.assertEqual(len(places), len(set(places)))
        for one in self.panels:
            marks = [target["refId"] for target in one["targets"]]
            self.assertEqual(sorted(set(marks)), marks, one["title"])
        for expression in self.asked:
            for left, right in ("()", "{}", "[]"):
                self.assertEqual(expression.count(left), expression.count(right), expression)

    def test_every_metric_is_told(self) -> None:
        """Under its name, and a histogram by its buckets."""
        told = {name for name, metric in METRICS.items() if metric.kind != "histogram"}
        told |= {f"{n}_bucket" for n, metric in METRICS.items() if metric.kind == "histogram"}
        asked = {name for expression in self.asked for name in _SERIES.findall(expression)}
        self.assertGreater(len(asked), 20)
        self.assertEqual(set(), asked - told)

    def test_labels(self) -> None:
        """What is asked by virtual server is told by that label."""
        for expression in self.asked:
            for name, label in _LABELS.findall(expression):
                metric = METRICS[name.removesuffix("_bucket")]
                self.assertEqual(metric.label, label, expression)

    def test_counters_are_rates(self) -> None:
        """What only grows is never shown as it is."""
        for expression in self.asked:
            for name in _SERIES.findall(expression):
                metric = METRICS[name.removesuffix("_bucket")]
                grows = metric.kind != "gauge"
                self.assertEqual(grows, f"rate({name}" in expression, expression)
