from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Definitions
from features.duration import DAY
from features.vocabulary import Vocabulary
from service import config, configuration
from service.business import Business, load, published
from service.capacity import Prices
from service.catalogue import Validity
from service.configuration import Catalogues, Configuration
from service.decide import World
from service.errors import BundleRefused, ConfigurationError, NotFound, StoreUnavailable
from service.leases import Leases
from service.models import Models
from service.redis_store import RedisStore
from service.registry import Registry
from tests.business import CALLBACK, OFFER, Change, written
from tests.integration.serving import workshop

FILE = Path("some/file.yaml")
ROOT = Path(__file__).parents[2]


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    day: datetime.date | None = None
    share: float = 0.0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    listed: list[Inner] = []
    named: dict[str, Inner] = {}
    deep: dict[str, dict[str, int]] = {}


def complaint(text: str, kind: type = Outer) -> str:
    with pytest.raises(ConfigurationError) as refused:
        config.parse(text, kind, FILE)
    return str(refused.value)


GOOD = """\
inner: {number: 1, day: 2026-02-28}
listed:
  - number: 2
  - {number: 3, share: 1}
named:
  one: {number: 4}
deep:
  a: {b: 5}
"""


def test_what_fits_is_read() -> None:
    read, _ = config.parse(GOOD, Outer, FILE)
    assert read.inner == Inner(1, datetime.date(2026, 2, 28))
    assert [one.number for one in read.listed] == [2, 3]
    assert read.named == {"one": Inner(4)}
    assert read.deep == {"a": {"b": 5}}


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert config.parse("# nothing yet\n", dict, FILE)[0] == {}


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("inner: {number: x}\n", "1:9: inner.number: ", "Expected `int`, got `str`"),
        ("inner:\n  number: 1\n  colour: 2\n", "3:3: inner.colour: ", "unknown field `colour`"),
        ("inner: {}\n", "1:1: inner: ", "missing required field `number`"),
        ("listed: []\n", "1:1: the file: ", "missing required field `inner`"),
        (GOOD.replace("share: 1", "share: lots"), "4:17: listed.1.share: ", "Expected `float`"),
        (GOOD.replace("{number: 4}", "{number: four}"), "6:9: named.one.number: ", "`int`"),
        (GOOD.replace("{b: 5}", "{b: 5, c: 6, d: x}"), "8:19: deep.a.d: ", "got `str`"),
        (GOOD.replace("one: {number: 4}", "one: {number: 4}\n  two: {numbr: 1}"),
         "7:9: named.two.numbr: ", "unknown field"),
        (GOOD.replace("one: {number: 4}", "1: {number: 4}"), "5:1: named: ", "got `int`"),
        ("- 1\n", "1:1: the file: ", "Expected `object`, got `array`"),
        ("just words\n", "1:1: the file: ", "Expected `object`, got `str`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_column_and_field(
    text: str, start: str, words: str
) -> None:
    told = complaint(text)
    assert told.startswith(f"some/file.yaml:{start}")
    assert words in told


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("inner: {number: 1}\ninner: {number: 2}\n", "2:1: ", "'inner' is written twice"),
        ("inner: {number: 1, number: 1}\n", "1:20: ", "'number' is written twice"),
        ("inner: [1\n", "2:1: ", "expected ',' or ']'"),
        ("inner:\n\t- 1\n", "2:1: ", "cannot start any token"),
        ("inner: {number: *nobody}\n", "1:17: ", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "2:1: ", "but found another document"),
        ("inner: !!python/name:os.system x\n", "1:8: ", "could not determine a constructor"),
        ("inner: {number: 1, day: 2026-02-30}\n", "1:25: ", "'2026-02-30': day is out of range"),
        ("inner:\n  number: \x00\n", "2:11: ", "#x0000 may not stand in YAML"),
        ("{{ template }}: 1\n", "1:1: ", "a key is a mapping"),
        ("? [a, b]\n: 1\n", "1:3: ", "a key is a sequence"),
        ("inner: &a [*a]\n", " ", "an alias holds itself"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, start: str, words: str) -> None:
    told = complaint(text)
    assert told.startswith(f"some/file.yaml:{start}")
    assert words in told


def test_what_a_struct_says_of_itself_is_told_at_its_place() -> None:
    text = "channels: {a: 1}\ntypes:\n  x: {code: 1}\n  y: {code: 1}\n"
    assert complaint(text, Vocabulary) == (
        "some/file.yaml:4:3: types.y: types.y: code 1 is taken by 'x'; the next free one is 2"
    )
    text = "features:\n  - {op: count, name: a}\n  - {op: count, name: b, window: 3x}\n"
    assert complaint(text, Definitions).startswith("some/file.yaml:3:5: features.1: '3x' is no")
    assert "swap them" in complaint("from: 2026-02-01\nuntil: 2026-01-01\n", Validity)


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ((), "1:1"),
        (("inner",), "1:1"),
        (("inner", "day"), "1:20"),
        (("inner", "share"), "1:1"),  # not written: where it is missing from
        (("listed",), "2:1"),
        (("listed", 0), "3:5"),
        (("listed", 1, "share"), "4:17"),
        (("listed", 7), "2:1"),
        (("deep", "a", "b"), "8:7"),
        (("nothing", "of", "it"), "1:1"),
    ],
)
def test_a_part_is_found_where_it_was_written(steps: tuple[str | int, ...], place: str) -> None:
    _, places = config.parse(GOOD, Outer, FILE)
    assert places.at(*steps) == f"some/file.yaml:{place}"
    assert places.path == FILE


def test_a_file_says_where_its_parts_are(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(GOOD)
    read, places = config.read(path, Outer)
    assert read == config.load(path, Outer)
    assert places.at("named", "one") == f"{path}:6:3"
    path.write_text("")
    assert config.read(path, dict)[1].at("anything") == str(path)


def test_a_time_of_day_is_no_number_to_the_base_of_sixty() -> None:
    text = "{a: 22:00:00, b: 07:30:00, c: 1:30.5, d: 10, e: 1.5, f: 0x1f, g: '12'}"
    assert config.parse(text, dict, FILE)[0] == {
        "a": "22:00:00", "b": "07:30:00", "c": "1:30.5", "d": 10, "e": 1.5, "f": 31, "g": "12",
    }  # fmt: skip


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.yaml: No such file.*create it"):
        config.load(tmp_path / "none.yaml", Outer)


def test_a_file_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"inner:\n  number: \xff\n")
    with pytest.raises(ConfigurationError, match=r"file.yaml:2: is no UTF-8"):
        config.load(path, Outer)


def test_a_file_is_read_with_its_path_in_complaints(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(GOOD)
    assert config.load(path, Outer) == config.parse(GOOD, Outer, path)[0]
    path.write_text("inner: 1\n")
    with pytest.raises(ConfigurationError) as refused:
        config.load(path, Outer)
    assert str(refused.value).startswith(f"{path}:1:1: inner: ")


@given(st.text(alphabet=st.sampled_from("ab:{}[]-&*!?|>'\"#%@ \n\t0123.\x00é"), max_size=60))
def test_whatever_is_written_it_is_read_or_refused(text: str) -> None:
    told = "some/file.yaml:"
    with contextlib.suppress(ConfigurationError):
        try:
            config.parse(text, dict[str, Any], FILE)
        except ConfigurationError as error:
            told = str(error)
            raise
    assert told.startswith("some/file.yaml:")


# The configuration in charge, on a real store


class Fitter:
    """A registry that says what it was asked to fit, and refuses as it is told."""

    def __init__(self) -> None:
        self.refuses = ""
        self.asked: list[str] = []
        self.served: list[tuple[str, str]] = []

    async def fitted(self, business: Business) -> Models | None:
        self.asked.append(business.digest)
        if self.refuses:
            raise BundleRefused(self.refuses)
        return cast(Models, f"fitted to {business.digest}")

    def serve(self, business: Business, models: Models | None) -> None:
        self.served.append((business.digest, str(models)))


class Shop:
    """A configuration folder, and what keeps it in charge."""

    def __init__(self, folder: Path, store: RedisStore) -> None:
        self.folder, self.store = folder, store
        self.fitter = Fitter()
        business = load(folder)
        self.prices = Prices(store, business.policies.resources)
        self.leases = Leases(store, time.monotonic)
        world = World(
            store, lambda: None, lambda: self.prices.current, self.leases,
            lambda: time.time_ns() // 1_000_000, "0000",
        )  # fmt: skip
        self.configuration = Configuration(
            folder, business, store, cast(Registry, self.fitter), self.prices, world, workshop()
        )

    @property
    def digest(self) -> str:
        return self.configuration.current.business.digest

    async def start(self) -> None:
        await self.leases.start([])
        await self.configuration.start()

    async def close(self) -> None:
        await self.configuration.close()
        await self.leases.close()


@pytest.fixture
async def shop(
    tmp_path: Path, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    monkeypatch.setattr(configuration, "_POLL_SECONDS", 3_600.0)
    found = Shop(written(tmp_path), store)
    yield found
    await found.close()


embedded = pytest.mark.parametrize("store_url", ["embedded"], indirect=True)

DEARER: Change = ((*OFFER, "value"), 12)
BROKEN: Change = ((*OFFER, "group"), "sale")
RENUMBERED: Change = (("vocabulary.yaml", "actions"), {"callback": 2, "offer": 1})
GONE: Change = (("vocabulary.yaml", "context"), {})


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


@embedded
async def test_a_good_configuration_takes_over_with_all_that_hangs_on_it(shop: Shop) -> None:
    await shop.start()
    before, serving = shop.digest, shop.configuration.current
    assert serving.decider.business is serving.business
    resources = {"agents": {"unit": "minute", "price": 4}}
    limits = [{"name": "l", "at_most": 8, "within": "9d", "issue": "grow", "outcome": "clicked"}]
    written(
        shop.folder, DEARER, (("policies.yaml", "resources"), resources),
        (("policies.yaml", "limits"), limits),
    )  # fmt: skip
    assert shop.prices.current == {"agents": 0.0}
    assert await shop.configuration.reload() is True
    current = shop.configuration.current
    assert shop.digest != before
    assert current.business.by_name["offer"].value == 12
    assert current.decider.business is current.business
    assert current.counted == {2, 3}
    assert serving.counted == {2}, "a call keeps what it took"
    assert serving.business.by_name["offer"].value == 9
    assert shop.prices.current == {"agents": 4.0}
    assert shop.fitter.served == [(shop.digest, f"fitted to {shop.digest}")]
    assert (shop.store._horizon, shop.store._keep) == (9 * DAY, 9)


@embedded
async def test_what_has_not_changed_changes_nothing(shop: Shop) -> None:
    await shop.start()
    serving = shop.configuration.current
    written(shop.folder)
    assert await shop.configuration.reload() is False
    assert shop.configuration.current is serving
    assert shop.fitter.asked == []


@embedded
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (BROKEN, "'sale' is not declared; did you mean 'sales'?"),
        (((*OFFER, "value"), "dear"), "Expected `float`"),
        (((*OFFER, "eligibility"), [{"name": "r", "when": "customer.agee > 1.0", "reason": "r"}]),
         "customer.agee is not known"),
        (RENUMBERED, "vocabulary.yaml does not fit what the store holds: actions.callback was cod"),
        (GONE, "does not fit what the store holds: context.wait (code 1) is gone; put it back"),
    ],
)  # fmt: skip
async def test_a_bad_configuration_never_replaces_a_good_one(
    shop: Shop, change: Change, told: str
) -> None:
    await shop.start()
    serving = shop.configuration.current
    written(shop.folder, change)
    with pytest.raises(ConfigurationError) as refused:
        await shop.configuration.reload()
    assert told in str(refused.value)
    assert shop.configuration.refused == str(refused.value)
    assert shop.configuration.current is serving
    assert shop.fitter.served == []
    assert shop.prices.current == {"agents": 0.0}
    written(shop.folder)
    assert await shop.configuration.reload() is False
    assert shop.configuration.refused == "", "the mistake is gone"
    written(shop.folder, change)
    with pytest.raises(ConfigurationError):
        await shop.configuration.reload()
    written(shop.folder, DEARER)
    assert await shop.configuration.reload() is True
    assert shop.configuration.refused == ""


@embedded
async def test_a_configuration_that_the_models_do_not_fit_is_refused(shop: Shop) -> None:
    await shop.start()
    serving, shop.fitter.refuses = shop.configuration.current, "no such attribute"
    written(shop.folder, DEARER)
    with pytest.raises(ConfigurationError, match="no such attribute"):
        await shop.configuration.reload()
    assert shop.configuration.current is serving
    assert shop.configuration.refused == "no such attribute"
    assert shop.fitter.served == []


@embedded
async def test_a_store_that_is_away_changes_nothing_either(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.start()
    serving = shop.configuration.current
    written(shop.folder, DEARER)

    async def away(digest: str, written: bytes) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(shop.store, "keep_configuration", away)
        with pytest.raises(StoreUnavailable):
            await shop.configuration.reload()
    assert shop.configuration.current is serving
    assert await shop.configuration.reload() is True


@embedded
async def test_words_may_be_added_and_never_taken_back(shop: Shop) -> None:
    await shop.start()
    more: Change = (("vocabulary.yaml", "channels"), {"phone": 1, "web": 2, "chat": 3})
    written(shop.folder, more)
    assert await shop.configuration.reload() is True
    written(shop.folder)
    with pytest.raises(ConfigurationError, match=r"channels.chat \(code 3\) is gone; put it back"):
        await shop.configuration.reload()


@embedded
async def test_two_who_reload_at_once_do_it_once(shop: Shop) -> None:
    await shop.start()
    written(shop.folder, DEARER)
    found = await asyncio.gather(*(shop.configuration.reload() for _ in range(3)))
    assert sorted(found) == [False, False, True]
    assert len(shop.fitter.served) == 1


@embedded
async def test_a_changed_file_is_seen_and_a_bad_one_is_told_and_looked_at_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_POLL_SECONDS", 0.01)
    await shop.start()
    first = shop.digest
    sales = shop.folder / "catalogue/sales.yaml"
    written(shop.folder, DEARER)
    await until(lambda: shop.digest != first)
    second = shop.digest
    good = sales.read_text()
    sales.write_text(good.replace("group: sales", "group: nobody"))
    await until(lambda: "'nobody' is not declared" in shop.configuration.refused)
    assert shop.digest == second
    sales.write_text(good)
    await until(lambda: not shop.configuration.refused)
    assert shop.digest == second
    (shop.folder / "release.yaml").write_text("name: spring\n")
    await until(lambda: shop.configuration.current.business.release.name == "spring")
    (shop.folder / "release.yaml").unlink()
    await until(lambda: shop.digest == second)
    sales.unlink()
    await until(lambda: len(shop.configuration.current.business.actions) == 1)


CHANGES = {
    "catalogue/grow.yaml": "title: Something else",
    "policies.yaml": "responds_within: 13d",
    "placements.yaml": "max_actions: 4",
    "features.yaml": "time_zone: Asia/Tokyo",
}
"""A field of each file of the sample, and what to write there."""


@embedded
async def test_the_sample_is_watched_in_whole(
    tmp_path: Path, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_POLL_SECONDS", 0.01)
    shutil.copytree(ROOT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("examples"))
    shop = Shop(tmp_path / "config", store)
    await shop.start()
    first = shop.digest
    for file, change in CHANGES.items():
        path, fitted = shop.folder / file, len(shop.fitter.served)
        text = path.read_text()
        field, _, value = change.partition(": ")
        changed, times = re.subn(rf"(?m)^( *(?:- )?{field}): .*$", rf"\1: {value}", text, count=1)
        changed = changed if times else f"{change}\n{text}"
        path.write_text(changed)
        await until(lambda fitted=fitted: len(shop.fitter.served) > fitted)  # type: ignore[misc]
    assert shop.digest != first
    assert shop.configuration.refused == ""
    await shop.close()


@embedded
async def test_a_configuration_is_kept_for_replays(shop: Shop) -> None:
    await shop.start()
    first = shop.configuration.current.business
    kept = Catalogues(shop.store, most=1)
    assert await kept.of(first.digest, first) is first
    written(shop.folder, DEARER)
    await shop.configuration.reload()
    second = shop.configuration.current.business
    again = await kept.of(first.digest, second)
    assert again == first
    assert again.digest == first.digest
    assert await kept.of(first.digest, second) is again, "it is read once"
    assert await kept.of(second.digest, first) == second
    assert list(kept._read) == [second.digest], "and few are remembered"
    with pytest.raises(NotFound, match="configuration 'never', which decided, is not kept"):
        await kept.of("never", second)
    assert published(await shop.store.configuration(first.digest) or b"") == first


@embedded
async def test_a_configuration_that_nobody_watches_stays(shop: Shop) -> None:
    business = load(shop.folder)
    fixed = Configuration(
        None, business, shop.store, cast(Registry, shop.fitter), shop.prices,
        shop.configuration._world, workshop(),
    )  # fmt: skip
    await fixed.start()
    written(shop.folder, DEARER)
    assert await fixed.reload() is False
    assert fixed.current.business is business
    await fixed.close()


@embedded
async def test_a_server_does_not_start_on_words_that_mean_something_else(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await shop.start()
    other = Shop(
        written(tmp_path_factory.mktemp("other"), RENUMBERED, ((*CALLBACK, "value"), 2)), shop.store
    )
    with pytest.raises(ConfigurationError, match=r"actions.callback was code 1 and is 2; put it b"):
        await other.start()
    await other.close()
