import os
import subprocess
import sys

from matcher.vocabulary import learn_vocabulary
from shards.vocabulary import SPECIAL_TOKENS, load_tokenizer, read_vocabulary
from tests.conftest import ROOT

CAPTIONS = [f"{number} Dogs playing on the grass near a Café, {'ab' * (number % 7)}" for number in range(50)]


def test_words_that_occur_often_are_pieces_and_nothing_is_unknown(tmp_path):
    learn_vocabulary(CAPTIONS, tmp_path / "vocab.txt")
    pieces = read_vocabulary(tmp_path / "vocab.txt")
    assert tuple(pieces[:5]) == SPECIAL_TOKENS
    assert {"dogs", "grass", "cafe"} <= set(pieces)
    assert len(set(pieces)) == len(pieces)
    assert load_tokenizer(tmp_path / "vocab.txt").encode("dogs near a grassy cafe").tokens[0] == "dogs"
    assert "[UNK]" not in load_tokenizer(tmp_path / "vocab.txt").encode("a sandy glass").tokens


def test_every_process_learns_the_same(tmp_path):
    code = (
        "import sys; from pathlib import Path; from matcher.vocabulary import learn_vocabulary\n"
        "from tests.matcher.test_vocabulary import CAPTIONS; learn_vocabulary(CAPTIONS, Path(sys.argv[1]))"
    )
    for name in ("a", "b", "c"):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "random"}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
