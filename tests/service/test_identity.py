from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import identity
from service.errors import Violation
from tests.chain import VOCABULARY


@pytest.mark.parametrize(
    ("namespace", "value", "stored"),
    [
        ("phone", "+31 (0)20 123-4567", "310201234567"),
        ("phone", "０２０", "020"),  # noqa: RUF001  as a Japanese keyboard types them
        ("mobile", "+31 6 1234 5678", "31612345678"),
        ("mobile", "0031-612345678", "31612345678"),
        ("mobile", "06 1234 5678", "0612345678"),
        ("email", " Ann.Lee@Example.COM ", "ann.lee@example.com"),
        ("email", "STRASSE@x.de", "strasse@x.de"),
        ("email", "straße@x.de", "strasse@x.de"),
        ("cookie", " Ab  C ", "Ab C"),
    ],
)
def test_case_and_spacing_are_evened_out_as_the_namespace_says(
    namespace: str, value: str, stored: str
) -> None:
    assert identity.normalise(VOCABULARY, namespace, value) == stored


@pytest.mark.parametrize(
    ("namespace", "value", "field", "complaint"),
    [
        (
            "fax",
            "1",
            "namespace",
            "'fax' is not declared; use one of: phone, mobile, email, cookie",
        ),
        ("", "1", "namespace", "'' is not declared"),
        ("email", "", "value", "0 characters; send 1 to 256"),
        ("email", " \t", "value", "send 1 to 256"),
        ("email", "x" * 257, "value", "257 characters; send 1 to 256"),
        ("phone", "no number", "value", "'no number' holds no digit"),
    ],
)
def test_what_names_nobody_is_told(namespace: str, value: str, field: str, complaint: str) -> None:
    wrong = identity.normalise(VOCABULARY, namespace, value)
    assert isinstance(wrong, Violation)
    assert wrong.field == field
    assert complaint in wrong.description


def test_a_complaint_does_not_repeat_a_long_name_in_full() -> None:
    wrong = identity.normalise(VOCABULARY, "n" * 100_000, "1")
    assert isinstance(wrong, Violation)
    assert len(wrong.description) < 500, "it travels in the trailing metadata, which is small"


@given(st.sampled_from(["phone", "email", "cookie"]), st.text(max_size=260))
def test_evening_out_twice_changes_nothing_more(namespace: str, value: str) -> None:
    once = identity.normalise(VOCABULARY, namespace, value)
    if not isinstance(once, Violation):
        assert once
        assert identity.normalise(VOCABULARY, namespace, once) == once


@given(st.text(), st.text())
def test_a_newcomer_is_always_the_same_and_nobody_else(one: str, other: str) -> None:
    newcomer = identity.newcomer("email", one)
    assert newcomer == identity.newcomer("email", one)
    assert (newcomer == identity.newcomer("email", other)) == (one == other)
    assert newcomer != identity.newcomer("phone", one)
    assert newcomer.startswith("email-")
    assert len(newcomer) < identity.MAX_CUSTOMER_ID
