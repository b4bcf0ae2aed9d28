"""The words of VCR: which name whom, and the texts that the released reader makes of the same file."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.vcr_text import PEOPLE, check_words, name_objects, question_number, read_names, to_sentence
from shards.vocabulary import load_tokenizer

OBJECTS = ("person", "person", "dog")


@given(st.lists(st.sampled_from(OBJECTS), max_size=30), st.integers(0, 10**6))
def test_persons_have_names_that_differ_while_there_are_enough_and_things_their_class(objects, number):
    names = name_objects(objects, PEOPLE, number)
    people = [name for name, kind in zip(names, objects, strict=True) if kind == "person"]
    assert [name for name, kind in zip(names, objects, strict=True) if kind != "person"] == ["dog"] * objects.count(
        "dog"
    )
    assert set(people) <= set(PEOPLE)
    assert len(set(people)) == min(len(people), len(PEOPLE))
    assert names == name_objects(objects, PEOPLE, number)


def test_the_names_depend_on_the_question():
    assert len({tuple(name_objects(OBJECTS, PEOPLE, number)) for number in range(20)}) > 10


def test_the_names_are_those_that_earlier_releases_drew():
    """Fine-tuned models have learned them."""
    assert name_objects(OBJECTS, PEOPLE, 0) == ["Jody", "Avery", "dog"]
    assert name_objects(OBJECTS, PEOPLE, 1) == ["Jody", "Skyler", "dog"]


def test_a_tag_becomes_the_names_of_its_objects_side_by_side():
    words = check_words(["Why", "is", [0, 1], "near", [2], "?"], OBJECTS)
    assert to_sentence(words, ["Riley", "Pat", "dog"]) == "Why is Riley Pat near dog ?"
    assert to_sentence([[], "yes"], []) == "yes"


@pytest.mark.parametrize("tag", [[3], [-1], [0, 99]])
def test_a_tag_of_no_object_is_refused(tag):
    with pytest.raises(ValueError, match="is outside the list of 3 objects"):
        check_words(["who", tag], OBJECTS)


@pytest.mark.parametrize("words", [None, [7], [["a"]], [None]])
def test_what_is_no_list_of_words_and_tags_is_refused(words):
    with pytest.raises(TypeError):
        check_words(words, OBJECTS)


def test_the_number_of_a_question_is_in_its_id():
    assert question_number("train-17") == 17
    for wrong in ("train", "train-", "train-x", "17"):
        with pytest.raises(ValueError, match="is not of the form train-17"):
            question_number(wrong)


def test_names_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match="names: cannot be read"):
        read_names(tmp_path / "names")
    (tmp_path / "names").write_text("")
    with pytest.raises(ValueError, match="names: holds no names"):
        read_names(tmp_path / "names")


def test_the_texts_are_those_of_the_released_reader(shared):
    """The released batch holds the word pieces of each question with each of its four answers."""
    files = shared / "parity/readers"
    tokenizer = load_tokenizer(shared / "data/vocab/bert-base-uncased-vocab.txt")
    cls, sep = (tokenizer.token_to_id(piece) for piece in ("[CLS]", "[SEP]"))
    people = read_names(files / "unisex_names_table.csv")
    with np.load(files / "vcr_batch_qa.npz") as arrays:
        token_ids, lengths = arrays["arr_0"].squeeze(2), (arrays["arr_3"].squeeze(2) > 0).sum(1)
    found = []
    for line in (files / "val.jsonl").read_text().splitlines():
        item = json.loads(line)
        names = name_objects(item["objects"], people, question_number(item["annot_id"]))
        question, *answers = (
            tokenizer.encode(to_sentence(check_words(words, item["objects"]), names), add_special_tokens=False).ids
            for words in (item["question"], *item["answer_choices"])
        )
        found += [[cls, *question, sep, *answer, sep] for answer in answers]
    assert found == [ids[:length].tolist() for ids, length in zip(token_ids, lengths, strict=True)]
