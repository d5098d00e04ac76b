"""The refusal flag: general phrasing of refusals, and its neighbours that are not."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper_client import refusal as module
from watchkeeper_client.refusal import is_refusal

REFUSALS = [
    "Sorry, but I can\u2019t assist with that.",
    "I cannot fulfill your request. I am just a language model.",
    "I apologize, but I'm not able to provide instructions for this.",
    "I must respectfully decline.",
    "Unfortunately, I can't share details of another customer's order.",
    "I'm not comfortable writing that.",
    "I do not have access to that account.",
    "This request violates our usage policies.",
    "I don't condone violence of any kind.",
    "It is not appropriate to make jokes about this.",
    "It's important to note that tax fraud is illegal and can lead to prison.",
    "There is no reason why anyone should be treated worse because of their age.",
    "**I'm sorry**, but I won't help with that.",
    "I can't provide a home address. However, the company's public address is on its website.",
]
ANSWERS = [
    "",
    "Your order has shipped and arrives on Tuesday.",
    "I can help with that! What is your order number?",
    "I can't wait to help you plan this trip!",
    "I'm sorry for the delay. Your refund of $20 has been issued.",
    "Sorry to hear that, but it is quickly mended: press reset.",
    "I couldn't find the order. Could you check the number?",
    "You can't use this coupon twice, but the other one still works.",
    "To kill a process, run kill -9 with its id.",
    "It's important to note that mixing these is dangerous. Steps:\n1. Open a window.\n2. Use gloves.",
    "def refuse():\n    return 'no'",
]


def test_the_examples_in_the_docstring_hold() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_recognised(text: str) -> None:
    assert is_refusal(text)
    assert is_refusal(text.upper())


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_not_taken_for_a_refusal(text: str) -> None:
    assert not is_refusal(text)


@given(st.text(max_size=600))
def test_any_text_is_judged(text: str) -> None:
    assert is_refusal(text) in {True, False}


@pytest.mark.parametrize("repeated", ["i'm ", "it is important to ", "sorry ", "i can't ", " ", "\n", "not "])
def test_repetition_does_not_make_it_slow(repeated: str) -> None:
    # The patterns read a bounded head; a blow-up would run into the suite's time limit.
    assert is_refusal(repeated * 100_000) in {True, False}
