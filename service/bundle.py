"""A bundle: one versioned, checksummed set of models, definitions, vocabulary and report.

======================  ===========================================================================
manifest.json           version, digests, metrics, and the SHA-256 of every other file
definitions.json        the feature definitions that the models were trained on
vocabulary.json         the vocabulary that their codes are from
intent.txt              LightGBM model of the intent; may be absent
acceptance.txt          LightGBM model of the acceptance probability; may be absent
uplift.txt              LightGBM models of the uplift, one a bag; may be absent
calibration.json        what turns their scores into probabilities and intervals
golden.msgpack          cases that a server must reproduce before it serves
======================  ===========================================================================

The bundle's checksum is the SHA-256 of its manifest, which covers all the rest.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from service.errors import BundleRefused

MANIFEST: Final = "manifest.json"
DEFINITIONS: Final = "definitions.json"
VOCABULARY: Final = "vocabulary.json"
INTENT: Final = "intent.txt"
ACCEPTANCE: Final = "acceptance.txt"
UPLIFT: Final = "uplift.txt"
CALIBRATION: Final = "calibration.json"
GOLDEN: Final = "golden.msgpack"

_LARGEST: Final = 512 * 2**20
_BETWEEN_BAGS: Final = "\f"


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle says of itself."""

    version: str
    built_at: int  # milliseconds
    code: str  # version of Rapport that built it
    feature_digest: str
    vocabulary_digest: str
    files: dict[str, str]  # SHA-256 by name
    metrics: dict[str, float] = {}
    lineage: dict[str, str] = {}  # what it was trained on
    notes: list[str] = []  # what numbers do not say, in sentences


class IntentCalibration(msgspec.Struct, frozen=True):
    """Probabilities = softmax(scores / temperature); a class is a code of ``field``."""

    field: str  # "intents" or "types"
    classes: list[int]
    temperature: float


class AcceptanceCalibration(msgspec.Struct, frozen=True):
    """Probability = sigmoid(slope x score + offset), after Platt (1999)."""

    slope: float
    offset: float
    evidence: dict[str, float] | None = None  # presentations it has learnt from, by action


class UpliftCalibration(msgspec.Struct, frozen=True):
    """Uplift in a bag = score of the action's row - score of nothing's row + effect of the action.

    An effect is what the trees of the bag left out. The estimate is the mean over the bags, give
    or take ``spread`` x their standard deviation.
    """

    effects: list[dict[str, float]]  # of each bag, by action
    others: list[float]  # of each bag, for an action that was never drawn
    spread: float


class Calibration(msgspec.Struct, frozen=True):
    """How scores become probabilities."""

    intent: IntentCalibration | None = None
    acceptance: AcceptanceCalibration | None = None
    uplift: UpliftCalibration | None = None


class Golden(msgspec.Struct, frozen=True, array_like=True):
    """A case with its answers, as little-endian doubles. Empty bytes: that model is absent."""

    timeline: bytes  # with its header
    profile: bytes  # msgpack
    channel: int
    direction: int
    now: int
    vector: bytes  # customer features
    intents: bytes  # probabilities
    row: bytes  # of one action, as both models of actions see it
    acceptance: bytes  # its one probability
    action: str = ""  # whose row it is
    uplift: bytes = b""  # mean, low, high


class Bundle(msgspec.Struct, frozen=True):
    """A bundle whose files are what its manifest says."""

    manifest: Manifest
    checksum: str
    files: dict[str, bytes]


def seal(
    files: Mapping[str, bytes],
    *,
    version: str,
    built_at: int,
    code: str,
    feature_digest: str,
    vocabulary_digest: str,
    metrics: Mapping[str, float],
    lineage: Mapping[str, str],
    notes: Sequence[str] = (),
) -> Bundle:
    """Write the manifest of some files."""
    manifest = Manifest(
        version=version,
        built_at=built_at,
        code=code,
        feature_digest=feature_digest,
        vocabulary_digest=vocabulary_digest,
        files={name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        metrics=dict(metrics),
        lineage=dict(lineage),
        notes=list(notes),
    )
    written = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2)
    return Bundle(manifest, checksum(written), {**files, MANIFEST: written})


def joined(bags: Sequence[str]) -> bytes:
    """The models of all bags as one file."""
    return _BETWEEN_BAGS.join(bags).encode()


def bags(written: bytes) -> list[str]:
    """The models in a file that :func:`joined` wrote."""
    return written.decode().split(_BETWEEN_BAGS)


def checksum(manifest: bytes) -> str:
    """SHA-256 of a written manifest: the checksum of its whole bundle."""
    return hashlib.sha256(manifest).hexdigest()


def opened(files: Mapping[str, bytes]) -> Bundle:
    """Check files against their manifest.

    Raises:
        BundleRefused: The manifest is absent or unreadable, or a file is absent, altered or extra.
    """
    written = files.get(MANIFEST)
    if written is None:
        raise BundleRefused(f"the bundle has no {MANIFEST}; publish it again")
    try:
        manifest = msgspec.json.decode(written, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefused(f"{MANIFEST} cannot be read: {error}; publish it again") from error
    for name, wanted in manifest.files.items():
        if name not in files:
            raise BundleRefused(f"{name} is missing from bundle {manifest.version}")
        if hashlib.sha256(files[name]).hexdigest() != wanted:
            raise BundleRefused(
                f"{name} of bundle {manifest.version} was altered: its SHA-256 is not the "
                "manifest's; publish it again"
            )
    extra = set(files) - set(manifest.files) - {MANIFEST}
    if extra:
        raise BundleRefused(f"bundle {manifest.version} holds what its manifest does not: {extra}")
    return Bundle(manifest, checksum(written), dict(files))


def read(folder: Path) -> Bundle:
    """Read and check a bundle's folder, or the newest bundle in a folder of bundles.

    Raises:
        BundleRefused: It is not what its manifest says, or there is no such folder.
    """
    if not folder.is_dir():
        raise BundleRefused(f"{folder}: no such folder; 'rapport train' writes bundles")
    if not (folder / MANIFEST).exists():
        inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
        if not inside:
            raise BundleRefused(f"{folder} holds no bundle; 'rapport train' writes them")
        folder = inside[-1]  # versions begin with the time they were built
    return opened({path.name: path.read_bytes() for path in folder.iterdir()})


def pack(bundle: Bundle) -> bytes:
    """One blob that :func:`unpack` reads; the same files always give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in sorted(bundle.files):
            member = tarfile.TarInfo(name)
            member.size = len(bundle.files[name])
            tar.addfile(member, io.BytesIO(bundle.files[name]))
    return zlib.compress(buffer.getvalue(), 6)


def unpack(blob: bytes) -> Bundle:
    """Read and check a blob.

    Raises:
        BundleRefused: It is truncated or altered.
    """
    files = {}
    try:
        inflating = zlib.decompressobj()
        plain = inflating.decompress(blob, _LARGEST)
        if not inflating.eof or inflating.unused_data:
            raise BundleRefused(
                f"the bundle's {len(blob)} bytes are truncated, followed by others, or hold over "
                f"{_LARGEST // 2**20} MiB; publish it again"
            )
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r") as tar:
            for member in tar:
                if not member.isreg() or member.issparse() or member.size > len(plain):
                    raise BundleRefused(f"{member.name!r} in the bundle is no plain file")
                stream = tar.extractfile(member)
                if stream is not None:
                    files[member.name] = stream.read()
    except (zlib.error, tarfile.TarError, EOFError, KeyError) as error:
        raise BundleRefused(
            f"the bundle's {len(blob)} bytes are truncated or altered ({error}); publish it again"
        ) from error
    return opened(files)
