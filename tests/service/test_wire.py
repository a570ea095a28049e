from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import answers, wire

numbers = st.floats() | st.sampled_from([0.0, -0.0])
sizes = st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.booleans())
@example(127, 128, True)
@example(0, -1, False)
def test_whole_numbers_are_written_as_protobuf_writes_them(
    seed: int, clock: int, greedy: bool
) -> None:
    built = log_pb2.DecisionInputs(seed=seed, clock=clock, greedy=greedy)
    packed = wire.whole(1, seed) + wire.whole(2, clock) + wire.whole(9, greedy)
    assert packed == built.SerializeToString(deterministic=True)


@given(st.text())
@example("")
def test_texts_are_written_as_protobuf_writes_them(said: str) -> None:
    assert wire.text(4, said) == log_pb2.ReservationReply(refused=said).SerializeToString()


@given(sizes)
def test_bytes_are_written_as_protobuf_writes_them(size: int) -> None:
    held = bytes(size)
    assert wire.packed(3, held) == log_pb2.DecisionLogged(vector=held).SerializeToString()
    assert wire.head(3, size) + held == wire.nested(3, held)


@given(sizes)
def test_a_message_is_there_though_it_is_empty(size: int) -> None:
    held = pb.Reason(text="x" * size)
    built = log_pb2.DecisionInputs(unread=held)
    assert wire.nested(3, held.SerializeToString()) == built.SerializeToString()


@given(numbers)
def test_doubles_are_written_as_protobuf_writes_them(value: float) -> None:
    assert wire.double(4, value) == pb.Slate(selection_probability=value).SerializeToString()
    assert wire.optional(6, value) == pb.Factors(model_probability=value).SerializeToString()


@given(st.text(), numbers)
def test_named_numbers_are_written_as_protobuf_writes_them(name: str, value: float) -> None:
    built = log_pb2.DecisionInputs(prices=[log_pb2.NamedNumber(name=name, value=value)])
    assert wire.amounts(5, [(name, value)]) == [built.SerializeToString()]


@given(st.integers(-(2**40), 2**42))
@example(0)
@example(999)
def test_moments_are_written_as_protobuf_writes_them(ms: int) -> None:
    assert wire.moment(ms) == answers.timestamp(ms).SerializeToString(deterministic=True)


def test_what_is_remembered_is_written_once_until_there_is_too_much() -> None:
    made: list[int] = []

    def write(thing: int) -> bytes:
        made.append(thing)
        return b"%d" % thing

    memory = wire.Memory(write, 3)
    assert [memory[thing] for thing in (1, 2, 1, 3, 2)] == [b"1", b"2", b"1", b"3", b"2"]
    assert made == [1, 2, 3]
    assert memory[4] == b"4"
    assert [*memory] == [4]
    assert memory[1] == b"1"
    assert made == [1, 2, 3, 4, 1]


def test_what_is_kept_belongs_to_one_object_and_begins_anew_where_it_is_full() -> None:
    kept = wire.Kept[list[int], str](2)
    one, same, third = [1], [1], [3]
    kept.keep(one, "one")
    assert id(same) not in kept, "equal is not the same"
    assert kept.keep(same, "same") == (same, "same")
    assert kept[id(one)] == (one, "one")
    kept.keep(third, "third")
    assert list(kept.values()) == [(third, "third")]
