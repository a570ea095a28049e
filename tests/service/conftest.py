from __future__ import annotations

import msgspec
import pytest

from service import bundle as bundles
from service.bundle import Golden
from service.models import Models
from tests.integration.serving import business, sealed


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(sealed(), business())


@pytest.fixture(scope="module")
def cases() -> list[Golden]:
    return msgspec.msgpack.decode(sealed().files[bundles.GOLDEN], type=list[Golden])
