"""The word lists agree with each other."""

from parsers.dependency import lexicon

LISTS = {name: words for name, words in vars(lexicon).items() if name.isupper()}


def test_words_are_in_lower_case_and_no_list_is_empty():
    assert LISTS
    for name, words in LISTS.items():
        assert words, name
        assert all(word == word.lower().strip() != "" for word in words), name


def test_a_word_is_either_a_wrapper_or_a_portion():
    assert lexicon.WRAPPERS.isdisjoint(lexicon.PORTIONS)


def test_a_container_is_not_a_whole_and_a_depiction_is_neither():
    for one, other in (("CONTENT_LABELS", "WHOLES"), ("CONTENT_LABELS", "DEPICTIONS"), ("WHOLES", "DEPICTIONS")):
        assert set(LISTS[one]).isdisjoint(LISTS[other])


def test_numbers_are_digits():
    assert lexicon.NUMBERS["two"] == "2"
    assert lexicon.NUMBERS["twelve"] == "12"
    assert all(digits.isdecimal() for digits in lexicon.NUMBERS.values())


def test_every_label_of_a_place_ends_in_a_preposition():
    assert all(label.endswith(" of") for label in lexicon.PLACES.values())
