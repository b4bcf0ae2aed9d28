"""The official accuracy of VQA."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.tasks.vqa_accuracy import compute_accuracy, normalise


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("A red Bus", "red bus"),
        ("the an a", ""),
        ("Two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("ten dogs and one cat", "10 dogs and 1 cat"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("its", "its"),  # not in the official table
        ("somebody'd", "somebodyd"),  # the wrong way round there, too
        ("its 11:10", "its 11:10"),
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("red/white", "red white"),
        ("1,000", "1000"),
        ("1,000 - 2/3", "1000 23"),  # next to such a number all marks vanish
        ("t-shirt", "t shirt"),
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("st. mary", "st mary"),
        ("what?!", "what"),
        (" line\nbreak\there ", "line break here"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_officially(answer, normalised):
    assert normalise(answer) == normalised


@pytest.mark.parametrize(
    ("answer", "annotated", "expected"),
    [
        ("yes", ["yes"] * 10, 1.0),
        ("no", ["yes"] * 10, 0.0),
        ("yes", ["yes"] + ["no"] * 9, 0.9 * 1 / 3),
        ("yes", ["yes"] * 2 + ["no"] * 8, 0.8 * 2 / 3 + 0.2 * 1 / 3),
        ("yes", ["yes"] * 3 + ["no"] * 7, 0.7 * 1 + 0.3 * 2 / 3),
        ("yes", ["yes"] * 4 + ["no"] * 6, 1.0),
        ("no", ["yes"] * 5 + ["no"] * 5, 1.0),  # a tie: both are right
        ("The Two", ["2"] * 10, 0.0),  # where all agree, no side is normalised
        ("The Two", ["The Two"] * 10, 1.0),
        ("The Two", ["2"] * 9 + ["3"], 1.0),
        ("red/white", ["red/white"] * 9 + ["red-white"], 1.0),
        ("red white", ["red/white"] * 10, 0.0),
        ("red/white", ["red/white"] * 10, 1.0),
        ("0", ["none"] * 9 + ["nothing"], 1.0),
        ("cat", ["the cat"] * 5 + ["a cat"] * 5, 1.0),
        ("don't", ["dont"] * 5 + ["no"] * 5, 1.0),
        ("1000", ["1,000"] * 5 + ["1000."] * 5, 1.0),
        ("a dog", ["dog"] * 10, 0.0),
        ("yes", [" yes\n"] * 10, 1.0),
    ],
)
def test_accuracy_of_hand_made_cases(answer, annotated, expected):
    assert compute_accuracy(answer, annotated) == pytest.approx(expected)


@given(st.sampled_from("abcd"), st.lists(st.sampled_from("bcd"), min_size=1, max_size=10))
def test_accuracy_is_the_mean_over_all_subsets_without_one(answer, annotated):
    subsets = [annotated[:i] + annotated[i + 1 :] for i in range(len(annotated))]
    expected = np.mean([min(1, subset.count(answer) / 3) for subset in subsets])
    assert compute_accuracy(answer, annotated) == pytest.approx(expected if answer != "a" else 0)


@given(st.text("ab ,.'-/1two", max_size=12))
def test_normalised_answers_have_no_loose_spaces(answer):
    assert normalise(answer) == " ".join(normalise(answer).split())


# ------------------------------------------------------------------------- the rule of the evaluator, written down anew

CONTRACTIONS = {
    "dont": "don't", "wont": "won't", "isnt": "isn't", "couldn'tve": "couldn't've", "somebody'd": "somebodyd",
    "oclock": "o'clock", "yall": "y'all",
}  # fmt: skip
NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10",
}  # fmt: skip
WORDS = [*CONTRACTIONS, *CONTRACTIONS.values(), *NUMBERS, "none", "a", "an", "the", "A", "THE", "Two", "dog", "Dogs"]
PIECES = [
    *WORDS,
    *"0123456789",
    "١",
    "\u00b2",
    *";/[]\"{}()=+\\_-><@`,?!.':&#",
    " ",
    "  ",
    "\n",
    "\t",
    "\r",
    "\u00a0",
    "É",
    "İ",
]


def judge(answer, annotated):
    """The accuracy of the official evaluator of today, step by step."""

    def strip(text):
        return "".join(" " if character in "\n\t" else character for character in text).strip()

    def remove_marks(text):
        digits = [character.isdecimal() for character in text]
        has_number = any(digits[i - 1] and text[i] == "," and digits[i + 1] for i in range(1, len(text) - 1))
        kept = []
        for character in text:
            if character not in ';/[]"{}()=+\\_-><@`,?!':
                kept.append(character)
            elif not has_number and character + " " not in text and " " + character not in text:
                kept.append(" ")
        found, stops = "", 0
        for i, character in enumerate(kept):
            if character == "." and stops < 32 and not (i + 1 < len(kept) and kept[i + 1].isdecimal()):
                stops += 1
            else:
                found += character
        return found

    def process(text):
        words = [{**NUMBERS, "none": "0"}.get(word, word) for word in remove_marks(text).lower().split()]
        return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ("a", "an", "the"))

    answer, annotated = strip(answer), list(map(strip, annotated))
    if any(other != annotated[0] for other in annotated):
        answer, annotated = process(answer), list(map(process, annotated))
    rates = []
    for left_out in range(len(annotated)):
        agreeing = sum(other == answer for place, other in enumerate(annotated) if place != left_out)
        rates.append(1.0 if agreeing >= 3 else agreeing / 3)
    return sum(rates) / len(rates)


def test_two_implementations_of_the_rule_agree_on_adversarial_texts():
    random = np.random.default_rng(0)
    rates = set()
    for _ in range(10_000):
        pool = ["".join(random.choice(PIECES, random.integers(0, 7))) for _ in range(random.integers(1, 4))]
        if random.random() < 0.1:
            pool.append(pool[0] + "." * int(random.integers(30, 40)))
        answer, annotated = random.choice(pool), random.choice(pool, 10).tolist()
        expected = judge(answer, annotated)
        assert compute_accuracy(answer, annotated) == pytest.approx(expected, abs=1e-9), (answer, annotated)
        rates.add(round(expected, 9))
    assert rates == {0.0, 0.3, 0.6, 0.9, 1.0}


@given(st.text(max_size=8), st.lists(st.text(max_size=8), min_size=1, max_size=10))
def test_two_implementations_of_the_rule_agree_on_any_text(answer, annotated):
    assert compute_accuracy(answer, annotated) == pytest.approx(judge(answer, annotated), abs=1e-9)
