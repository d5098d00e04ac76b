"""Real Apache Kafka and PostgreSQL for every test in this folder."""

from __future__ import annotations

import pytest

from tests.integration.parts.fixtures import *  # noqa: F403 - pytest finds fixtures by their names here
from tests.integration.parts.fixtures import mark_by_parts


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_by_parts(items)
