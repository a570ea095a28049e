from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rapport.v1 import decision_pb2 as pb
from service import asked, questions
from service.asked import Asked, Reader
from service.callers import EVERYBODY, Caller, Scope
from service.catalogue import Placement
from service.checks import parsed
from service.errors import RapportError
from tests.business import PLACEMENTS, business
from tests.chain import NOW
from tests.integration.serving import key
from tests.service.test_questions import GOOD, TRIED

LONG: Final = "h" * 128
BUSINESS: Final = business(placements={**PLACEMENTS, LONG: Placement(["phone"])})
CONTACT: Final = ("interaction_id", "parent_interaction_id", "agent_id", "skill", "queue")
SCOPES: Final[tuple[Scope, ...]] = ("decide", "record", "replay")

Way = Callable[[bytes, Caller, int], Asked]


def written(fields: Mapping[str, Any], good: Mapping[str, Any] = GOOD) -> bytes:
    """A request as we write it."""
    return pb.DecideRequest(**{**good, **fields}).SerializeToString(deterministic=True)


def plainly(sent: bytes, caller: Caller, now: int) -> Asked:
    """Read a request with no memory and no short cut."""
    request = parsed(sent, pb.DecideRequest.FromString)
    who, question = questions.checked(request, BUSINESS, caller, now)
    logged = request.SerializeToString(deterministic=True)
    return Asked(who.identifier, question, request.include_trace, request.include_features, logged)


def found(way: Way, sent: bytes, scope: Scope) -> object:
    """What comes of a request: what is asked, or an error."""
    try:
        return way(sent, Caller("ivr", frozenset({scope})), NOW)
    except RapportError as error:
        return type(error), str(error)


def agreed(reader: Reader, sent: bytes, scope: Scope = "decide") -> None:
    """What is known and what is new are read alike."""
    whole = found(plainly, sent, scope)
    for _ in range(2):
        assert found(reader.read, sent, scope) == whole


@pytest.mark.parametrize("field", TRIED)
def test_what_was_asked_of_others_is_read_as_if_it_were_new(field: str) -> None:
    reader = Reader(BUSINESS)
    for scope in SCOPES:
        for tried in [*TRIED[field], *TRIED[field]]:
            for whom in ("ann", "", " ", "a\0b", "Zoë", *("x" * n for n in (125, 126, 129))):
                agreed(reader, written({"customer": key(whom), field: tried}), scope)
    assert len(reader._known) <= 1 + len(TRIED[field])


def test_an_application_is_known_by_what_it_asks_of_anybody() -> None:
    reader = Reader(BUSINESS)
    for n in range(20):
        sent = written({"customer": key(f"c{n}")})
        assert reader.read(sent, EVERYBODY, NOW).question.customer_id == f"c{n}"
    assert len(reader._known) == 1


@pytest.mark.parametrize("field", CONTACT)
def test_an_application_is_known_whatever_the_contact_is(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(BUSINESS)
    said = {"direction": 2, "placements": ["hint"], "locale": "nl-NL", "assurance": 2}
    agreed(reader, written({**said, field: "first"}))
    sent = [written({**said, field: f"i{n}"}) for n in range(20)]
    sent += [written(said), written({**said, **dict.fromkeys(CONTACT, "x" * 127)})]
    whole = [plainly(one, EVERYBODY, NOW) for one in sent]
    monkeypatch.delattr(asked, "parsed")
    assert [reader.read(one, EVERYBODY, NOW) for one in sent] == whole
    assert len(reader._known) == 1


def test_contacts_of_whatever_length_take_no_room() -> None:
    reader = Reader(BUSINESS)
    for n in range(1, 130):
        for field in CONTACT:
            agreed(reader, written({field: "i" * n}))
            agreed(reader, written({field: "i" * n, "locale": "nl"}))
    assert len(reader._known) == 2


def test_nothing_is_cut_out_of_a_long_name() -> None:
    reader = Reader(BUSINESS)
    sent = written({"placements": [LONG]})
    agreed(reader, sent)
    agreed(reader, sent[:-1] + b"\x2a\x02i7" + sent[-1:])


def test_nobody_has_a_million_fields_gone_through_one_by_one() -> None:
    piece = written({"placements": ["hint"]}, {})
    for count, repeats in ((asked._MOST // len(piece), True), (1_000_000, False)):
        assert asked._parted(piece * count)[0] == piece * count * repeats
    agreed(Reader(BUSINESS), written({"placements": ["hint"] * 1_000, "interaction_id": "i7"}))


def test_what_is_judged_by_more_than_the_configuration_is_not_remembered() -> None:
    reader = Reader(BUSINESS)
    agreed(reader, written({"as_of": TRIED["as_of"][0]}), "replay")
    for said in ({"utterance": "hello"}, {"seed": 1, "dry_run": True}, {"max_actions": 1}):
        agreed(reader, written({"interaction_id": "i7", **said}))
    assert not reader._known


def test_no_caller_fills_the_memory() -> None:
    reader = Reader(BUSINESS)
    for n in range(asked._REMEMBERED + 50):
        reader.read(written({"locale": f"nl-{n}"}), EVERYBODY, NOW)
    assert 0 < len(reader._known) <= asked._REMEMBERED


def test_a_field_that_nobody_knows_is_not_logged_and_another_order_is_put_right() -> None:
    reader = Reader(BUSINESS)
    sent = written({})
    at = 2 + sent[1]
    for odd in (sent + bytes.fromhex("fa0701") + b"x", sent[at:] + sent[:at]):
        for _ in range(2):
            one = reader.read(odd, EVERYBODY, NOW)
            assert one.written == sent
            assert one.question.customer_id == "ann"
    assert not reader._known


@given(st.binary(max_size=40), st.booleans())
@example(b"\x0a\x06\x0a\x01a\x0a\x01b\x12\x05phone", False)  # two ids, of which the last counts
@example(b"\x0a\x05\x0a\x03\xffnn\x12\x05phone", False)
def test_bytes_that_are_no_request_are_refused_and_never_more(junk: bytes, begins: bool) -> None:
    reader = Reader(BUSINESS)
    good = written({})
    reader.read(good, EVERYBODY, NOW)
    agreed(reader, good[:4] + junk + good[7:] if begins else junk)


# Whatever is sent to one who knows a lot

KNOWN: Final = [
    written(said)
    for channel in ("phone", "chat")
    for said in (
        {"channel": channel},
        {"channel": channel, "placements": ["hint"]},
        {"channel": channel, "assurance": 2},
        {"channel": channel, "locale": "*\x02i7", "dry_run": True},
        {"channel": channel, "direction": 2, "placements": ["hint"], "assurance": 3},
        {"channel": channel, "placements": ["hint"], "include_trace": True},
    )
]

texts = st.sampled_from(["i7", "x" * 127, "x" * 128, "x\u00e9" * 42, "\0", "a\0b", " "]) | st.text(
    max_size=130
)
contacts = st.dictionaries(st.sampled_from(CONTACT), texts, max_size=3)

ODD: Final = [bytes.fromhex(one) for one in (
    "2a00", "2a8000", "2a826937", "2a82006937", "aa00026937",  # none, and lengths and keys too long
    "2805", "2b2c", "2d01020304", "2902", "2a", "2a05", "2a056937",  # another kind, and cut off
    "2a01ff", "2a03eda080", "2a02c080", "2a0100", "2a03610062",  # no text, and NUL
    "18", "1802", "188200", "1a026937", "1204", "22", "220468696e74", "12", "12ff", "128001",
    "fa070178", "00", "ff", "52", "5200", "52026e6c", "5802", "a00101",
)]  # fmt: skip

pieces = st.sampled_from(ODD) | contacts.map(lambda said: written(said, {}))


def knowing() -> Reader:
    reader = Reader(BUSINESS)
    for sent in KNOWN:
        reader.read(sent, EVERYBODY, NOW)
    assert len(reader._known) == len(KNOWN)
    return reader


def split(sent: bytes) -> list[bytes]:
    """The fields of a request, of which none is long."""
    fields = []
    while sent:
        size = 2 + (sent[0] & 7 == 2) * sent[1] + (sent[0] >= 0x80)
        fields.append(sent[:size])
        sent = sent[size:]
    return fields


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([(name, tried) for name, some in TRIED.items() for tried in some]),
        max_size=3,
    ),
    contacts,
    st.sampled_from(["decide", *SCOPES]),
)
def test_every_request_is_read_as_if_it_were_new(
    said: list[tuple[str, Any]], contact: dict[str, str], scope: Scope
) -> None:
    reader = knowing()
    agreed(reader, written({**dict(said), **contact}), scope)
    assert len(reader._known) <= len(KNOWN) + 1


@settings(max_examples=500)
@given(st.sampled_from(KNOWN), st.lists(st.tuples(st.integers(0, 8), pieces), max_size=3))
@example(KNOWN[1], [(2, b"\x2a\x02i7")])  # between channel and placement
@example(KNOWN[2], [(2, b"\x2a\x02i7\x2a\x02i8")])
@example(KNOWN[2], [(2, b"\x32\x02i7\x2a\x02i8")])
def test_fields_in_any_order_and_number_are_read_as_if_they_were_new(
    sent: bytes, put: list[tuple[int, bytes]]
) -> None:
    fields = split(sent)
    for at, piece in put:
        fields.insert(at, piece)
    agreed(knowing(), b"".join(fields))


@settings(max_examples=500)
@given(st.sampled_from(KNOWN), contacts, st.data())
def test_bytes_that_were_changed_are_read_as_if_they_were_new(
    sent: bytes, contact: dict[str, str], data: st.DataObject
) -> None:
    request = pb.DecideRequest.FromString(sent)
    request.MergeFromString(written(contact, {}))
    changed = bytearray(request.SerializeToString(deterministic=True))
    for _ in range(data.draw(st.integers(1, 2))):
        begins = data.draw(st.integers(0, len(changed)))
        ends = begins + data.draw(st.integers(0, 2))
        changed[begins:ends] = data.draw(st.binary(max_size=2))
    agreed(knowing(), bytes(changed))
