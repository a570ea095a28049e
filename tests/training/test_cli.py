from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features import record
from features.plan import Context, Plan
from features.profile import Profile
from features.record import LogId
from rapport.v1 import decision_pb2, log_pb2
from service import bundle as bundles
from service import cli
from service.business import load
from service.errors import ConfigurationError
from service.redis_store import RedisStore
from service.store import Write
from training import archive, publish
from training import cli as training_cli
from training.archive import Entry

CONFIG = Path(__file__).parents[2] / "config"
BUSINESS = load(CONFIG)
PLAN = Plan(BUSINESS.definitions, BUSINESS.vocabulary)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the real command, where its errors become exit codes."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=CONFIG.parent,
    )  # fmt: skip


def inside(*arguments: object) -> tuple[int, str]:
    """Run a command of training in this process, which is faster."""
    done = CliRunner().invoke(training_cli.app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_training_on_an_empty_archive_exits_2_with_the_remedy(tmp_path: Path) -> None:
    done = run("train", "--archive", tmp_path / "archive", "--out", tmp_path / "bundles")
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "no Parquet files there; export or simulate first" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundles").exists()


def test_all_commands_of_training_are_part_of_rapport() -> None:
    listed = run("--help").stdout
    for name in ("simulate", "import", "export", "train", "publish", "parity", "demo", "serve"):
        assert re.search(rf"\b{name}\b", listed), name


def decided(folder: Path, vectors: list[bytes]) -> list[str]:
    """An archive with decisions about nobody known, made with these vectors; give their ids."""
    entries = []
    for number, vector in enumerate(vectors, 1):
        response = decision_pb2.DecideResponse(decision_id=f"d{number}")
        response.decided_at.seconds = 1_800_000_000
        entry = log_pb2.LogEntry(
            customer_id="anna",
            decision=log_pb2.DecisionLogged(
                request=decision_pb2.DecideRequest(channel="phone"), response=response,
                vector=vector, feature_digest=PLAN.digest,
            ),
        )  # fmt: skip
        entries.append(Entry.parse(LogId(number, 0), entry.SerializeToString()))
    archive.write(folder, 0, entries)
    return [f"d{number}" for number in range(1, len(vectors) + 1)]


def truth() -> bytes:
    phone = BUSINESS.vocabulary.channels["phone"]
    return PLAN.customer(record.EMPTY, Profile(), Context(phone, 1), 1_800_000_000_000).tobytes()


def test_parity_is_told(tmp_path: Path) -> None:
    decided(tmp_path, [truth(), truth()])
    code, text = inside("parity", "--config", CONFIG, "--archive", tmp_path)
    assert (code, text.strip()) == (0, "2 of 2 vectors are equal bit for bit")


def test_a_skew_is_named_and_exits_1(tmp_path: Path) -> None:
    decided(tmp_path, [truth(), b"\1" + truth()[1:], truth()])
    code, text = inside("parity", "--config", CONFIG, "--archive", tmp_path)
    assert code == 1
    assert "2 of 3 vectors are equal bit for bit differing: d2" in text


def test_parity_of_an_empty_archive_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="export or simulate first"):
        inside("parity", "--config", CONFIG, "--archive", tmp_path)


@pytest.mark.parametrize("command", [("export",), ("publish", "somewhere")])
def test_a_command_that_needs_a_store_says_how_to_name_one(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    sealed = publish.build(
        PLAN, BUSINESS, intent=None, acceptance=None, cases=[], built_at=1, lineage={}
    )
    at = publish.save(sealed, tmp_path)
    arguments = [at if one == "somewhere" else one for one in command]
    with pytest.raises(ConfigurationError, match="--store URL or REDIS_URL"):
        inside(*arguments)


def test_simulate_train_export_and_publish_work_together(tmp_path: Path, store_url: str) -> None:
    tenant = f"test-{uuid.uuid4().hex}"
    (tmp_path / "config").mkdir()
    for path in CONFIG.iterdir():
        if path.name != "training.yaml":
            (tmp_path / "config" / path.name).symlink_to(path)
    written = (CONFIG / "training.yaml").read_text()
    assert "\nacceptance:" in written
    (tmp_path / "config" / "training.yaml").write_text(  # the intents take a while
        "acceptance:" + written.split("\nacceptance:")[1]
    )
    common = ("--config", tmp_path / "config")
    folder, out = tmp_path / "archive", tmp_path / "bundles"
    simulating = ("simulate", *common, "--archive", folder, "--customers", 60, "--days", 120)
    assert inside(*simulating)[0] == 0
    assert inside(*simulating, "--fresh")[0] == 0
    code, text = inside("train", *common, "--archive", folder, "--out", out)
    assert code == 0
    assert "acceptance.auc" in text
    (at,) = out.iterdir()
    assert at.name in text
    stored = ("--store", store_url, "--tenant", tenant)
    assert inside("publish", at, *common, *stored)[1].strip() == f"{at.name} is a candidate"
    again = inside("publish", at, *common, *stored, "--activate")  # the same bytes: no harm
    assert again[1].strip().endswith(f"{at.name} is active")
    assert bundles.read(at).manifest.version == at.name
    code, _ = inside("export", "--archive", tmp_path / "live", *stored)
    assert code == 0
    assert archive.files(tmp_path / "live") == []


async def stored(url: str, tenant: str) -> None:
    store = RedisStore(url, tenant=tenant)
    packed = record.pack(occurred_at=1, hash=1, type=1)
    entry = log_pb2.LogEntry(customer_id="anna", event=log_pb2.EventLogged(record=packed))
    await store.record([("anna", Write(packed, False, entry.SerializeToString()))])
    await store.close()


async def test_following_ends_with_its_standard_input_and_loses_nothing(
    tmp_path: Path, store_url: str
) -> None:
    """So the exporter of a server that was killed ends, whatever way the server went."""
    tenant = f"test-{uuid.uuid4().hex}"
    exporter = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli", "export", "--follow", "--every", "100ms",
        "--archive", str(tmp_path), "--store", store_url, "--tenant", tenant,
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    await stored(store_url, tenant)
    _, errors = await asyncio.wait_for(exporter.communicate(b""), 30)  # closes its standard input
    assert exporter.returncode == 0, errors
    assert [one.customer_id for one in archive.read(tmp_path)] == ["anna"]


def test_the_report_lists_every_metric() -> None:
    sealed = bundles.seal(
        {}, version="v", built_at=1, code="c", feature_digest="f", vocabulary_digest="v",
        metrics={"a.rows": 1200.0, "a.auc": 0.71234}, lineage={},
    )  # fmt: skip
    table = training_cli.report(sealed)
    assert [list(column.cells) for column in table.columns] == [
        ["a.auc", "a.rows"],
        ["0.7123", "1,200"],
    ]


def test_our_own_errors_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["rapport", "parity", "--config", str(CONFIG), "--archive", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "export or simulate first" in capsys.readouterr().err
