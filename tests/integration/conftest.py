"""One store a session, and one server a module that shares its event loop with the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from service.bundle import Bundle
from service.embedded import EmbeddedStore
from tests.integration.serving import Client, sealed, serving


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Address of a store; every server in it has a tenant of its own."""
    with EmbeddedStore() as store:
        yield store.url


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """Tiny models for the sample bank."""
    return sealed()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(url: str, bundle: Bundle) -> AsyncIterator[Client]:
    """A client of a server of the sample bank, models active. Tests share it: use `somebody()`."""
    async with serving(url, bundle=bundle) as client:
        yield client
