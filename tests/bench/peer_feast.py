"""A peer: 80 features of a customer read online from Feast, which somebody computed before."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import feast
import pandas as pd
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.repo_config import RegistryConfig, RepoConfig
from feast.types import Float64

from features.elementary import Floats

_VIEW: Final = "customer"


def reader(
    folder: Path, port: int, customers: Sequence[str], vectors: Floats, names: Sequence[str]
) -> Callable[[str], dict[str, Any]]:
    """Put features into Feast's Redis, and give the function that reads those of a customer.

    Args:
        folder: Of its registry; emptied first.
        port: Of the store, on loopback.
        customers: Ids.
        vectors: [customers, features].
        names: Of the features.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    now = pd.Timestamp.now(tz="UTC")
    table = pd.DataFrame(vectors, columns=list(names))
    table.insert(0, "customer_id", list(customers))
    table["at"] = now
    table.to_parquet(folder / "customers.parquet")
    store = feast.FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=RegistryConfig(path=str(folder / "registry.db")),
            online_store=RedisOnlineStoreConfig(connection_string=f"127.0.0.1:{port}"),
            entity_key_serialization_version=3,
        )
    )
    entity = feast.Entity(
        name="customer_id", join_keys=["customer_id"], value_type=feast.ValueType.STRING
    )
    view = feast.FeatureView(
        name=_VIEW,
        entities=[entity],
        ttl=datetime.timedelta(days=1),
        schema=[feast.Field(name=name, dtype=Float64) for name in names],
        source=feast.FileSource(path=str(folder / "customers.parquet"), timestamp_field="at"),
    )
    store.apply([entity, view])
    store.write_to_online_store(_VIEW, table)
    wanted = [f"{_VIEW}:{name}" for name in names]

    def read(customer_id: str) -> dict[str, Any]:
        rows = [{"customer_id": customer_id}]
        found: dict[str, Any] = store.get_online_features(wanted, rows).to_dict()
        return found

    return read
