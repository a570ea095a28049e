from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import bundle as bundles
from service.bundle import MANIFEST, Bundle
from service.errors import BundleRefused

FILES = {
    "definitions.json": b'{"features": []}',
    "intent.txt": b"tree\n" * 400,
    "vocabulary.json": b"{}",
    "empty": b"",
}


def sealed(files: dict[str, bytes] | None = None, version: str = "2026-11-21.1") -> Bundle:
    return bundles.seal(
        FILES if files is None else files,
        version=version,
        built_at=1_800_000_000_000,
        code="0.1.0",
        feature_digest="f" * 16,
        vocabulary_digest="v" * 16,
        metrics={"intent.accuracy": 0.5},
        lineage={"log": "1-0..2-0"},
    )


GOOD = sealed()
BLOB = bundles.pack(GOOD)


def refused(files: dict[str, bytes]) -> str:
    with pytest.raises(BundleRefused) as error:
        bundles.opened(files)
    return str(error.value)


def test_what_is_packed_is_unpacked() -> None:
    again = bundles.unpack(BLOB)
    assert again == GOOD
    assert again.files == {**FILES, MANIFEST: GOOD.files[MANIFEST]}
    assert again.manifest.metrics == {"intent.accuracy": 0.5}


def test_packing_is_deterministic_whatever_the_order_of_the_files() -> None:
    again = sealed(dict(reversed(FILES.items())))
    assert bundles.pack(again) == BLOB
    assert again.checksum == GOOD.checksum


def test_the_checksum_covers_every_file_and_every_word_of_the_manifest() -> None:
    others = [
        sealed({**FILES, "empty": b"x"}),
        sealed({**FILES, "more": b""}),
        sealed(version="2026-11-21.2"),
    ]
    assert len({GOOD.checksum, *(one.checksum for one in others)}) == 4
    assert GOOD.checksum == bundles.checksum(GOOD.files[MANIFEST])
    assert len(GOOD.checksum) == 64


def test_a_bundle_without_a_manifest_is_refused() -> None:
    assert "has no manifest.json" in refused(FILES)


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"{}", b"[]", b"\xff", GOOD.files[MANIFEST].replace(b'"version"', b'"versio"'),
     GOOD.files[MANIFEST].replace(b"2026", b"\xff\xfe")],
)  # fmt: skip
def test_a_manifest_that_cannot_be_read_is_refused(written: bytes) -> None:
    assert "manifest.json cannot be read" in refused({**GOOD.files, MANIFEST: written})


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(name: str) -> None:
    files = {other: data for other, data in GOOD.files.items() if other != name}
    assert refused(files) == f"{name} is missing from bundle 2026-11-21.1"


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_refused_by_name(name: str) -> None:
    told = refused({**GOOD.files, name: GOOD.files[name] + b"\n"})
    assert told.startswith(f"{name} of bundle 2026-11-21.1 was altered")


def test_an_extra_file_is_refused_by_name() -> None:
    assert "holds what its manifest does not: {'more'}" in refused({**GOOD.files, "more": b""})


def test_every_truncation_is_refused() -> None:
    for size in range(len(BLOB)):
        with pytest.raises(BundleRefused, match="publish it again"):
            bundles.unpack(BLOB[:size])


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(BundleRefused, match="followed by others"):
        bundles.unpack(BLOB + b"x")


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_every_altered_byte_is_refused_or_changes_nothing(at: int, change: int) -> None:
    altered = bytearray(BLOB)
    altered[at] ^= change
    try:
        found = bundles.unpack(bytes(altered))
    except BundleRefused:
        return
    assert found == GOOD


@given(st.integers(0, 4_000), st.binary(min_size=1, max_size=8))
def test_an_archive_that_was_altered_before_it_was_packed_is_refused_or_the_same(
    at: int, change: bytes
) -> None:
    plain = bytearray(zlib.decompress(BLOB))
    plain[at : at + len(change)] = change
    try:
        found = bundles.unpack(zlib.compress(bytes(plain)))
    except BundleRefused:
        return
    assert found == GOOD


@given(st.binary(max_size=200))
def test_bytes_that_are_no_bundle_are_refused(blob: bytes) -> None:
    for one in (blob, zlib.compress(blob)):
        with pytest.raises(BundleRefused):
            bundles.unpack(one)


def linked(kind: bytes) -> bytes:
    """A bundle with a link in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("intent.txt")
        member.type = kind
        member.linkname = "../../etc/passwd"
        tar.addfile(member)
    return zlib.compress(buffer.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_an_archive_that_points_elsewhere_is_refused(kind: bytes) -> None:
    with pytest.raises(BundleRefused):
        bundles.unpack(linked(kind))


def test_a_blob_that_swells_beyond_all_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_LARGEST", 2**20)
    with pytest.raises(BundleRefused, match="1 MiB"):
        bundles.unpack(zlib.compress(bytes(2**20 + 1)))


def test_a_folder_is_read_and_checked(tmp_path: Path) -> None:
    for name, data in GOOD.files.items():
        (tmp_path / name).write_bytes(data)
    assert bundles.read(tmp_path) == GOOD
    (tmp_path / "intent.txt").write_bytes(b"")
    with pytest.raises(BundleRefused, match=r"intent.txt of bundle .* was altered"):
        bundles.read(tmp_path)


def test_of_a_folder_of_bundles_the_newest_is_read(tmp_path: Path) -> None:
    for version in ("2026-11-21.2", "2026-11-21.1"):
        (tmp_path / version).mkdir()
        for name, data in sealed(version=version).files.items():
            (tmp_path / version / name).write_bytes(data)
    assert bundles.read(tmp_path).manifest.version == "2026-11-21.2"


@pytest.mark.parametrize(
    ("prepare", "told"),
    [(Path.touch, "no such folder"), (lambda _: None, "no such folder"),
     (Path.mkdir, "holds no bundle")],
)  # fmt: skip
def test_a_folder_without_a_bundle_is_told(
    tmp_path: Path, prepare: Callable[[Path], None], told: str
) -> None:
    prepare(tmp_path / "bundle")
    with pytest.raises(BundleRefused, match=told):
        bundles.read(tmp_path / "bundle")


def test_the_manifest_is_written_to_be_read_by_people() -> None:
    written = GOOD.files[MANIFEST].decode()
    assert '\n  "version": "2026-11-21.1"' in written
    assert msgspec.json.decode(written, type=bundles.Manifest) == GOOD.manifest


@given(st.lists(st.text(st.characters(exclude_characters="\f", codec="utf-8")), min_size=1))
def test_bags_in_one_file_are_read_apart(written: list[str]) -> None:
    assert bundles.bags(bundles.joined(written)) == written


def test_a_manifest_without_notes_is_read() -> None:
    plain = msgspec.json.decode(GOOD.files[MANIFEST])
    del plain["notes"]
    assert msgspec.json.decode(msgspec.json.encode(plain), type=bundles.Manifest).notes == []


def test_notes_are_part_of_the_checksum() -> None:
    manifest = GOOD.manifest
    told = bundles.seal(
        FILES, version=manifest.version, built_at=manifest.built_at, code=manifest.code,
        feature_digest=manifest.feature_digest, vocabulary_digest=manifest.vocabulary_digest,
        metrics=manifest.metrics, lineage=manifest.lineage, notes=["not enough data"],
    )  # fmt: skip
    assert told.manifest.notes == ["not enough data"]
    assert told.checksum != GOOD.checksum
