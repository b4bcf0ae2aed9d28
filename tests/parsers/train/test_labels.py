"""Which edits and labels a graph demands."""

from parsers.neural.tokenizer import tokenize
from parsers.train.examples import TrainingExample
from parsers.train.labels import list_edits, list_relation_labels, make_vocabulary, select_frequent


def test_frequent_labels_come_first_and_rare_ones_are_left_out():
    assert select_frequent(["b", "a", "a", "b", "b", "c"], 2, ["-"]) == ("-", "b", "a")


def test_a_label_is_made_of_words_or_given_whole_or_by_its_rest(align):
    def read(caption, label):
        words = tokenize(caption)
        graph = align(words, [("dog", label, "mat")])
        edits = [(words.forms[i], edit) for i, kind, edit in list_edits(words, graph) if kind == 2]
        return edits, [label for _, label in list_relation_labels(words, graph)]

    assert read("a dog sitting on a mat", "sit on") == ([("sitting", "-4+"), ("on", "-0+")], [""])
    assert read("a dog sitting at a mat", "sit on") == ([("sitting", "-4+")], ["* on"])
    assert read("a dog atop a mat", "on top of") == ([], ["on top of"])


def test_words_come_also_from_captions_without_gold_graphs_and_labels_do_not(align):
    def example(caption, triples):
        return TrainingExample(tokenize(caption), align(tokenize(caption), triples))

    gold = [example("two dogs", [("dog", "is", "2")])] * 8 + [example("a cat", [("cat",)])] * 2
    others = [example("six geese 7", [("goose", "is", "6")])] * 3
    vocabulary = make_vocabulary(gold, others, ["dags"])
    assert vocabulary.words == ("", "dogs", "two", "a", "cat", "geese", "six")
    assert vocabulary.edits == ("-0+", "-1+", "=2")
    assert vocabulary.relation_labels == ("",)
    assert vocabulary.frequent_words == 2
    assert vocabulary.lookalikes == ("dags",)
