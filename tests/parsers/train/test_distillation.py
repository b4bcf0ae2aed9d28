"""Teachers read captions."""

import torch

from parsers.neural.network import ParserNetwork
from parsers.neural.word_encoder import WordEncoder
from parsers.train.distillation import add_teacher_scores
from parsers.train.labels import make_vocabulary
from parsers.train.targets import make_teacher_targets


def test_teachers_are_averaged_and_every_caption_is_read(examples):
    vocabulary = make_vocabulary(examples, [])
    torch.manual_seed(0)
    teachers = [ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary).eval() for _ in range(2)]
    taught = add_teacher_scores(examples, teachers, lambda _: True, size=2)
    assert [example.words for example in taught] == [example.words for example in examples]
    for example in taught:
        both = [teacher.score([example.words]).roles[0] for teacher in teachers]
        torch.testing.assert_close(example.teacher_scores.roles.float(), (both[0] + both[1]) / 2, atol=1e-2, rtol=1e-2)
        assert example.graph is not None


def test_what_makes_no_word_is_not_taught(examples):
    vocabulary = make_vocabulary(examples, [])
    teacher = ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary).eval()
    assert vocabulary.edits == ("-0+", "-3+", "=2", "=have")
    taught = add_teacher_scores(examples[:1], [teacher], {"wear"}.__contains__)[0].teacher_scores
    for form, odds in zip(examples[0].words.forms, taught.edits, strict=True):
        assert odds.isfinite().all(0).tolist() == [True, form == "wearing", True, True]
    targets = make_teacher_targets([taught])
    assert targets.edits.isfinite().all()
    assert not targets.edits[0, 1, :, 1].any()
