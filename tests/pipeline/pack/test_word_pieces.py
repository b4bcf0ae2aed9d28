"""Word pieces, and the nodes that cover them."""

import json

import pytest

from parsers.command import InputError
from parsers.graph import Object, Relation, SceneGraph, Span
from pipeline.pack.word_pieces import make_masks
from shards.schema import Caption
from shards.vocabulary import load_tokenizer
from tests.pipeline.pack.tables import (
    SPECIAL,
    VOCABULARY,
    make_caption,
)


def covered(masks, number):
    pieces = masks.token_ids[masks.token_offsets[number] : masks.token_offsets[number + 1]]
    return [[VOCABULARY[piece] for piece in pieces[masks.tokens(node)]] for node in masks.nodes(number)]


def test_nodes_are_paired_with_their_pieces(vocabulary):
    second = Caption(None, "man", SceneGraph("man", (Object("man", Span(0, 3)),)))
    masks = make_masks([make_caption(), second], load_tokenizer(vocabulary))
    masks.check()
    pieces = [VOCABULARY[piece] for piece in masks.token_ids]
    assert pieces == ["a", "red", "fire", "hydrant", "on", "the", "man", "'", "s", "side", "##walk", ".", "man"]
    assert masks.token_offsets.tolist() == [0, 12, 13]
    assert covered(masks, 0) == [["fire", "hydrant"], ["man"], ["side", "##walk"], ["red"], ["on"], []]
    assert covered(masks, 1) == [["man"]]
    assert masks.node_kind.tolist() == [0, 0, 0, 1, 2, 2, 0]
    assert masks.node_args.tolist() == [[-1, -1]] * 3 + [[0, -1], [0, 2], [1, 2], [-1, -1]]


def test_part_of_a_word_takes_the_pieces_that_it_touches(vocabulary):
    spans = [Span(0, 1), Span(4, 5), Span(3, 5), Span(8, 9), Span(9, 12)]
    graph = SceneGraph("sidewalk man", tuple(Object("x", span) for span in spans))
    masks = make_masks([Caption(None, "sidewalk man", graph)], load_tokenizer(vocabulary))
    assert covered(masks, 0) == [["side"], ["##walk"], ["side", "##walk"], [], ["man"]]


def test_an_object_covers_the_pieces_of_all_its_mentions(vocabulary):
    text = "the sidewalk . a man on side sidewalk"
    walk = Object("sidewalk", Span(4, 12), (Span(24, 28), Span(29, 37)))
    graph = SceneGraph(text, (walk, Object("man", Span(17, 20))), (), (Relation(1, 0, "on", (Span(21, 23),)),))
    masks = make_masks([Caption(None, text, graph)], load_tokenizer(vocabulary))
    masks.check()
    assert covered(masks, 0) == [["side", "##walk", "side", "side", "##walk"], ["man"], ["on"]]
    assert masks.runs(0) == [[1, 2], [7, 8, 9]], "mentions side by side are one run"
    assert masks.node_args.tolist() == [[-1, -1], [-1, -1], [1, 0]]


def test_special_tokens_in_a_text_are_plain_text(vocabulary):
    encoding = load_tokenizer(vocabulary).encode("a [MASK] man [SEP]", add_special_tokens=False)
    assert encoding.tokens == ["a", "[", "mask", "]", "man", "[", "[UNK]", "]"]


@pytest.mark.parametrize("text", ["\u200b", "\u200d\ufeff"])
def test_a_caption_without_pieces_is_kept_empty(vocabulary, text):
    masks = make_masks([Caption(None, text, SceneGraph(text))], load_tokenizer(vocabulary))
    masks.check()
    assert masks.token_offsets.tolist() == [0, 0]


def test_the_tokenizer_is_the_released_one(shared):
    tokenizer = load_tokenizer(shared / "data" / "vocab" / "bert-base-uncased-vocab.txt")
    assert tokenizer.get_vocab_size() == 30522
    for case in json.loads((shared / "parity" / "readers" / "tokenizer.json").read_text()):
        encoding = tokenizer.encode(case["text"], add_special_tokens=False)
        assert (encoding.tokens, encoding.ids) == (case["tokens"], case["ids"]), case["text"]


def test_a_vocabulary_without_special_tokens_is_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a\nb\n[UNK]\n")
    with pytest.raises(InputError, match=r"lacks \[PAD\], \[CLS\]"):
        load_tokenizer(path)


def test_a_piece_may_hold_any_character_but_the_end_of_a_line(tmp_path):
    """The line number is the id: a separator that only Unicode knows must not count as one."""
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*SPECIAL, "a\u2028b", "man"]).encode())
    assert load_tokenizer(path).token_to_id("man") == 6


def test_segments_reach_the_word_pieces(vocabulary):
    text = "a man on the sidewalk a red hat"
    caption = Caption(None, text, SceneGraph(text))
    masks = make_masks([caption, make_caption()], load_tokenizer(vocabulary), [(6, 22), ()])
    masks.check()
    assert masks.segment_ids.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2] + [0] * 12
