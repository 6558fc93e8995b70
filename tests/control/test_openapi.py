"""The description of control, and whether a live service keeps to it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.access_tokens import add_token
from mailhost.control.api import ROUTES
from mailhost.control.openapi import describe
from mailhost.control.shapes import shapes_of
from tests.support.certificates import Authority
from tests.support.process import reserve_address, takes_connections, wait_until
from tests.workers.house import HouseCase

EXAMPLES = 8
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


class DescriptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.document = json.loads(json.dumps(describe(ROUTES)))

    def test_every_route(self) -> None:
        """Each with its parameters, its body and its answer; each with words."""
        described = {
            (method.upper(), path): operation
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        }
        expected = {
            (route.method, route.path.replace("{action}", action)): route
            for route in ROUTES
            for action in route.actions or ("",)
        }
        self.assertEqual(set(expected), set(described))
        for key, operation in described.items():
            route = expected[key]
            query = [one["name"] for one in operation["parameters"] if one["in"] == "query"]
            self.assertEqual(list(shapes_of(route.query)), query, key)
            self.assertEqual(bool(shapes_of(route.body)), "requestBody" in operation, key)
            self.assertTrue(operation["summary"].endswith("."), key)
        names = [one["operationId"] for one in described.values()]
        self.assertEqual(len(names), len(set(names)))

    def test_references_lead_somewhere(self) -> None:
        """No class is named that is not described, and none is described for nobody."""
        text = json.dumps(self.document)
        for name, schema in self.document["components"]["schemas"].items():
            self.assertIn(f'"#/components/schemas/{name}"', text)
            self.assertTrue(schema["properties"], name)

    def test_words(self) -> None:
        """What the classes' docstrings say is in it."""
        row = self.document["components"]["schemas"]["RecipientRow"]["properties"]
        self.assertEqual("null", row["due_at"]["anyOf"][1]["type"])
        self.assertIn("it is held", row["due_at"]["description"])


class LiveTests(HouseCase):
    """Two workers, over HTTPS, and whatever the description allows."""

    def test_it_keeps_to_its_description(self) -> None:
        """No request that the description allows is a fault; every answer is as described."""
        folder = self.path("remote")
        folder.mkdir()
        certificate, key = Authority(folder).issue("here", "localhost")
        address = reserve_address()
        house = self.make_house(delivery={"smart_host": f"[{address.split(':')[0]}]:9"})
        token = add_token(folder / "tokens", "ada")
        house.top["remote_control"] = {
            "listen": address,
            "certificate": str(certificate),
            "key": str(key),
            "tokens": str(folder / "tokens"),
            "administrators": ["ada"],
        }
        house.settings["access"] = {"relay": {"default": "allow"}}
        house.configure()
        house.start()
        wait_until(lambda: takes_connections(address), "control over TCP")
        for number in range(3):
            house.submit([f"a{number}@x.example", "here@example.com"])
        house.process.wait_for_words("to=a0@x.example delayed")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a certificate that is not looked at
            self.exercise(f"https://{address}", token)
        self.assertNotIn("Control has stumbled", house.process.said())

    def exercise(self, base: str, token: str) -> None:
        self.base, self.fields = base, {"Authorization": f"Bearer {token}"}
        schema: Any = schemathesis.openapi.from_url(
            f"{base}/v1/openapi.json", headers=self.fields, verify=False
        )
        operations = [found.ok() for found in schema.get_all_operations()]
        self.assertGreater(len(operations), 20)
        # What is made up at random seldom has rows.
        for path in ("status", "queue", "traces?since=1000", "badmail", "sites", "sessions"):
            rows = self.rows(schema, f"/v1/{path}")
            self.assertTrue(rows or path not in ("queue", "traces?since=1000"), path)
        for operation in operations:
            # Stopped, it would keep all others from what they are about.
            if not operation.path.endswith("/stop"):
                self.assertLess(max(self.statuses(operation)), 500, operation.label)

    def statuses(self, operation: Any) -> list[int]:
        """What was answered to some requests that the description of *operation* allows."""
        answered: list[int] = []

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def run(case: Any) -> None:
            response = case.call(base_url=self.base, headers=self.fields, verify=False)
            answered.append(response.status_code)
            case.validate_response(response, checks=CHECKS)

        run()
        return answered

    def rows(self, schema: Any, path: str) -> list[Any]:
        """What is listed, as it was described."""
        route, _, query = path.partition("?")
        case = schema[route]["GET"].Case(query=dict([query.split("=")]) if query else {})
        response = case.call(base_url=self.base, headers=self.fields, verify=False)
        self.assertEqual(200, response.status_code, path)
        case.validate_response(response, checks=[response_schema_conformance])
        return list(response.json().get("rows", ()))
