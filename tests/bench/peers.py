"""What others take for the same work, in the same run: ``make bench-peers``.

Three questions. The rows of 100 actions, scored by LightGBM, by what compiles LightGBM's trees, and
by us. A decision behind BentoML with the same models and store, beside ours with rules, limits and
log, and beside the floor. The 80 features of a customer, read from Feast or computed from the
timeline by us. A peer that does not install or start is named with the reason.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lightgbm
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from features.elementary import Floats
from features.plan import Context, rows_of
from service import bundle as bundles
from service import reading
from service.models import Models
from service.redis_store import RedisStore
from service.usual import described
from tests.bench import stand as stands
from tests.bench.load import Job
from tests.bench.people import TENANT
from tests.bench.processes import WORK, Process, cores, drained, pin
from tests.bench.reference import CHANNEL
from tests.bench.stand import Stand
from training.progress import Bars

_CUSTOMERS: Final = 200
_ROUNDS: Final = 5
_SECONDS: Final = 2.0
_START_SECONDS: Final = 60.0

Scorer = Callable[[Any], Any]


class Scored(msgspec.Struct):
    """One way to score the rows of all actions."""

    warm_us: float  # median, customers in a row
    cold_us: float  # the same after 32 MB of something else went through the caches
    difference: float  # largest, of a raw score, from LightGBM's


class Served(msgspec.Struct):
    """One way to serve decisions."""

    per_second: float  # 16 in flight
    p50_ms: float  # 1 in flight


def scorers(bundle: Path, models: Models, skipped: dict[str, str]) -> dict[str, Scorer]:
    """Everything that scores rows and could be had."""
    text = bundles.read(bundle).files[bundles.ACCEPTANCE].decode()
    booster = lightgbm.Booster(model_str=text)
    at = WORK / "peers.txt"
    at.write_text(text)
    found: dict[str, Scorer] = {
        "LightGBM's Booster.predict": lambda rows: booster.predict(
            rows, raw_score=True, num_threads=1
        )
    }
    makers: dict[str, Callable[[Path], Scorer]] = {
        "pylignum": _lignum,
        "pylignum, compiled": _lignum_compiled,
        "tl2cgen": _tl2cgen,
    }
    for name, make in makers.items():
        try:
            found[name] = make(at)
        except Exception as error:  # noqa: BLE001  whatever it was, the others are measured
            skipped[name] = f"{type(error).__name__}: {error}"
    found["Rapport"] = lambda seen: _odds(models.acceptance(seen))
    return found


def _odds(chances: Floats) -> Floats:
    raised: Floats = np.log(chances / (1 - chances))
    return raised


def _lignum(at: Path) -> Scorer:
    import lignum  # noqa: PLC0415  of the extra, and perhaps not there

    model = lignum.load(str(at))
    return lambda rows: model.predict(rows, raw_score=True, n_jobs=1)


def _lignum_compiled(at: Path) -> Scorer:
    import lignum  # noqa: PLC0415

    model = lignum.load(str(at))
    model.compile(library=str(at.with_suffix(".lignum.so")))
    return lambda rows: model.predict(rows, raw_score=True, n_jobs=1)


def _tl2cgen(at: Path) -> Scorer:
    import tl2cgen  # noqa: PLC0415
    import treelite  # noqa: PLC0415

    library = at.with_suffix(".tl2cgen.so")
    model = treelite.frontend.load_lightgbm_model(str(at))
    tl2cgen.export_lib(model, toolchain="gcc", libpath=str(library), params={"parallel_comp": 8})
    predictor = tl2cgen.Predictor(str(library), nthread=1)
    return lambda rows: np.asarray(
        predictor.predict(tl2cgen.DMatrix(rows), pred_margin=True)
    ).reshape(-1)


def scored(
    ways: dict[str, Scorer], rows: Sequence[Floats], seen: Sequence[Any]
) -> dict[str, Scored]:
    """Time every way on the rows of varying customers, in turns.

    Args:
        ways: By name.
        rows: [actions, columns of the model] of each customer.
        seen: What our models make of each customer before they score.
    """
    other = np.zeros(4_000_000)
    took: dict[str, dict[bool, list[float]]] = {name: {False: [], True: []} for name in ways}
    differences = dict.fromkeys(ways, 0.0)
    wanted = [ways["LightGBM's Booster.predict"](one) for one in rows]
    for turn in range(_ROUNDS):
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            for cold in (False, True):
                for place, one in enumerate(seen if name == "Rapport" else rows):
                    if cold:
                        other += 1.0
                    start = time.perf_counter_ns()
                    scores = ways[name](one)
                    took[name][cold].append((time.perf_counter_ns() - start) / 1e3)
                    if turn == 0:
                        apart = float(np.abs(np.asarray(scores) - wanted[place]).max())
                        differences[name] = max(differences[name], apart)
    return {
        name: Scored(statistics.median(one[False]), statistics.median(one[True]), differences[name])
        for name, one in took.items()
    }


@contextmanager
def bento(at: Stand, url: str) -> Iterator[int]:
    """Serve the peer; give its port."""
    port = int(stands.address("tcp", "bento").rpartition(":")[2])
    environment = {
        **os.environ,
        "BENCH_CONFIG": str(at.work.config),
        "BENCH_BUNDLE": str(at.work.bundle),
        "BENCH_STORE": url,
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "bentoml", "serve", "tests.bench.peer_bento:Decide",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with (WORK / "bento.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    pin(process.pid, cores().server)  # its workers inherit it
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                asyncio.run(_http(port, at.people.ids, 1, 0.05))
                break
            except (OSError, asyncio.IncompleteReadError) as error:
                if time.monotonic() > deadline or process.poll() is not None:
                    words = (WORK / "bento.log").read_text(errors="replace")[-500:]
                    raise RuntimeError(f"it did not start: {words}") from error
                time.sleep(0.3)
        yield port
    finally:
        process.terminate()
        process.wait(30)


async def _http(
    port: int, customers: Sequence[str], in_flight: int, seconds: float
) -> tuple[float, list[float]]:
    """Call the peer in a closed loop; give calls a second, and the milliseconds of each."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    chance = random.Random(in_flight)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            body = msgspec.json.encode({"customer_id": customers[chance.randrange(len(customers))]})
            writer.write(
                b"POST /decide HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(f"the peer answers {head[:60]!r}")
            size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = msgspec.json.decode(await reader.readexactly(size))
            assert len(answer["actions"]) == 3
            took.append(1e3 * (time.perf_counter() - start))
        writer.close()

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return len(took) / seconds, took


def served(at: Stand, skipped: dict[str, str]) -> dict[str, Served]:
    """Throughput and latency of ours, the floor and the peer, in turns."""
    pair = at.pairs["tcp"]
    found: dict[str, list[Served]] = {}

    def ours(server: Process) -> Served:
        job = Job("closed", server.address, at.questions, "", in_flight=16, seconds=_SECONDS)
        rate, _ = at.loader.run(job)
        _, one = at.loader.run(msgspec.structs.replace(job, in_flight=1, seed=1))
        if server is pair.full:
            drained(server.address)
        return Served(rate.per_second, float(np.median(one)))

    def peer(port: int) -> Served:
        rate, _ = asyncio.run(_http(port, at.people.ids, 16, _SECONDS))
        _, one = asyncio.run(_http(port, at.people.ids, 1, _SECONDS))
        return Served(rate, statistics.median(one))

    ways: dict[str, Callable[[], Served]] = {
        "the floor": lambda: ours(pair.floor),
        "Rapport, a full decision": lambda: ours(pair.full),
    }
    try:
        with bento(at, pair.store.url) as port:
            ways["BentoML, scores alone"] = lambda: peer(port)
            _rounds(ways, found)
    except Exception as error:  # noqa: BLE001  the others are measured without it
        skipped["BentoML"] = f"{type(error).__name__}: {error}"
        found.clear()
        ways.pop("BentoML, scores alone", None)
        _rounds(ways, found)
    return {
        name: Served(
            statistics.median(one.per_second for one in all_),
            statistics.median(one.p50_ms for one in all_),
        )
        for name, all_ in found.items()
    }


def _rounds(ways: dict[str, Callable[[], Served]], found: dict[str, list[Served]]) -> None:
    for measure in ways.values():
        measure()
    for turn in range(3):
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            found.setdefault(name, []).append(ways[name]())


def read(at: Stand, models: Models, skipped: dict[str, str]) -> dict[str, float]:
    """Median microseconds until 80 features of a customer are there, one after the other."""
    people, store = at.people, at.pairs["tcp"].store
    chosen = people.drawn(500, 3).tolist()
    context = Context(people.business.vocabulary.channels[CHANNEL], 1)

    async def ours() -> float:
        redis = RedisStore(store.url, tenant=TENANT)
        took = []
        for number in chosen:
            start = time.perf_counter()
            known = reading.known(await redis.read(people.ids[number]))
            assert known.records is not None
            assert known.profile is not None
            models.customer(known.records, known.profile, context, people.now)
            took.append(1e6 * (time.perf_counter() - start))
        await redis.close()
        return statistics.median(took)

    found = {"Rapport: timeline read, features computed": asyncio.run(ours())}
    try:
        from tests.bench import peer_feast  # noqa: PLC0415  of the extra, and perhaps not there

        vectors = np.array(
            [
                models.customer(people.timelines[n], people.profile(n), context, people.now)
                for n in chosen
            ]
        )
        names = models.plan.names[: vectors.shape[1]]
        assert store.port is not None
        ids = [people.ids[number] for number in chosen]
        get = peer_feast.reader(WORK / "feast", store.port, ids, vectors, names)
        took = []
        for customer in ids:
            start = time.perf_counter()
            get(customer)
            took.append(1e6 * (time.perf_counter() - start))
        found["Feast: computed before, read online"] = statistics.median(took)
    except Exception as error:  # noqa: BLE001  ours stands alone then
        skipped["Feast"] = f"{type(error).__name__}: {error}"
    return found


def main() -> int:
    """Measure, print, write ``build/bench-peers.json``."""
    WORK.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, cores().others)
    skipped: dict[str, str] = {}
    with Bars() as bars, stands.stand(bars, ["tcp"]) as at:
        models = Models(bundles.read(at.work.bundle), at.work.business)
        chosen = at.people.drawn(_CUSTOMERS, 1).tolist()
        rows = [_rows(at, models, number) for number in chosen]
        seen = [_seen(at, models, number) for number in chosen]
        scores = scored(scorers(at.work.bundle, models, skipped), rows, seen)
        serving = served(at, skipped)
        had = read(at, models, skipped)
    _show(scores, serving, had, skipped)
    everything = {"scored": scores, "served": serving, "read_us": had, "skipped": skipped}
    written = msgspec.json.format(msgspec.json.encode(everything), indent=1)
    Path("build/bench-peers.json").write_bytes(written + b"\n")
    return 0


def _customer(at: Stand, models: Models, number: int) -> Floats:
    """The features of a customer."""
    people = at.people
    context = Context(people.business.vocabulary.channels[CHANNEL], 1)
    return models.customer(people.timelines[number], people.profile(number), context, people.now)


def _rows(at: Stand, models: Models, number: int) -> Floats:
    """What the acceptance model may see of every action, for a customer."""
    people, plan, business = at.people, models.plan, at.work.business
    codes = [business.vocabulary.actions[one.name] for one in business.actions]
    vector = np.tile(_customer(at, models, number), (len(codes), 1))
    pairs = plan.pairs(people.timelines[number], people.now, rows_of(codes), len(codes))
    whole = np.column_stack([vector, plan.actions(described(business)), pairs])
    return np.ascontiguousarray(whole[:, plan.columns("acceptance")])


def _seen(at: Stand, models: Any, number: int) -> Any:
    """What our models score, by whichever name they call it."""
    see = getattr(models, "seen", None) or models.rows
    found = see(_customer(at, models, number), at.people.timelines[number], at.people.now)
    return found.copy() if isinstance(found, np.ndarray) else found


def _show(
    scores: dict[str, Scored],
    serving: dict[str, Served],
    had: dict[str, float],
    skipped: dict[str, str],
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    first = Table("100 actions scored", "us, warm", "us, cold", "largest difference")
    for name, one in scores.items():
        first.add_row(name, f"{one.warm_us:.0f}", f"{one.cold_us:.0f}", f"{one.difference:.1e}")
    second = Table("decisions on one core", "calls/s, 16 in flight", "p50 ms, 1 in flight")
    for name, way in serving.items():
        second.add_row(name, f"{way.per_second:,.0f}", f"{way.p50_ms:.2f}")
    third = Table("80 features of a customer", "us")
    for name, took in had.items():
        third.add_row(name, f"{took:,.0f}")
    for table in (first, second, third):
        console.print(table)
    for name, why in skipped.items():
        console.print(f"{name} was left out: {why}")


if __name__ == "__main__":
    sys.exit(main())
