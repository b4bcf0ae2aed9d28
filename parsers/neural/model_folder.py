"""The folder that holds a trained network.

``config.json`` holds the sizes and ``model.safetensors`` the weights in float16. ``words.txt``, ``edits.txt`` and
``relation_labels.txt`` hold the vocabulary, one entry a line, in the order of the numbers. ``lookalikes.txt.gz`` is
compressed because nobody needs to read it: it holds rare words of a dictionary, and some of them are abusive. A network
over BERT or MPNet also has its ``tokenizer.json``. ``checksums.json`` holds the SHA-256 of each.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_weights
from torch import Tensor

from parsers.checksums import check_file, forget_checksums, write_checksums
from parsers.neural.network import ROLES, Encoder, ParserNetwork
from parsers.neural.piece_encoder import PieceEncoder, read_tokenizer
from parsers.neural.vocabulary import Vocabulary
from parsers.neural.word_encoder import WordEncoder

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
WORDS, EDITS, RELATION_LABELS, LOOKALIKES = "words.txt", "edits.txt", "relation_labels.txt", "lookalikes.txt.gz"
CERTAIN = 20.0
"""Log-odds of what is taken for certain."""
FILES = (CONFIG, WORDS, EDITS, RELATION_LABELS, LOOKALIKES, WEIGHTS)


def save_network(network: ParserNetwork, folder: Path) -> None:
    """Writes a network into a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    forget_checksums(folder)
    vocabulary = network.vocabulary
    _write_lines(folder / WORDS, vocabulary.words[1:])
    _write_lines(folder / EDITS, vocabulary.edits)
    _write_lines(folder / RELATION_LABELS, vocabulary.relation_labels[1:])
    lookalikes = "".join(f"{word}\n" for word in vocabulary.lookalikes).encode()
    (folder / LOOKALIKES).write_bytes(gzip.compress(lookalikes, mtime=0))
    if isinstance(network.encoder, PieceEncoder):
        network.encoder.tokenizer.save(str(folder / TOKENIZER))
    config = {"encoder": network.encoder.config, "arc": network.arc, "frequent_words": vocabulary.frequent_words}
    (folder / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    weights = {name: tensor.half().cpu().contiguous() for name, tensor in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save_weights(weights))  # `save_file` makes files that only their owner can read
    write_checksums(folder, [name for name in (*FILES, TOKENIZER) if (folder / name).is_file()])


def load_parser_network(folder: Path) -> ParserNetwork:
    """Reads what `save_network` wrote; the network is in evaluation mode.

    Raises:
        OSError: a file is missing.
        InputError: a file differs from its checksum.
    """
    for name in (*FILES, TOKENIZER):
        check_file(folder / name)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    vocabulary = Vocabulary(
        words=("", *_read_lines(folder / WORDS)),
        edits=_read_lines(folder / EDITS),
        relation_labels=("", *_read_lines(folder / RELATION_LABELS)),
        frequent_words=config["frequent_words"],
        lookalikes=tuple(gzip.decompress((folder / LOOKALIKES).read_bytes()).decode().split()),
    )
    encoder: Encoder
    if (folder / TOKENIZER).is_file():
        encoder = PieceEncoder(config["encoder"], read_tokenizer(folder / TOKENIZER))
    else:
        encoder = WordEncoder(vocabulary.words, **config["encoder"])
    network = ParserNetwork(encoder, vocabulary, arc=config["arc"])
    weights = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    network.load_state_dict(weights | _add_visible(weights["roles.weight"], weights["roles.bias"]))
    return network.eval()


def _add_visible(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Returns the layer of the roles. In a network of an earlier release, which lacks the last role, all is visible."""
    lacking = len(ROLES) - len(bias)
    return {
        "roles.weight": torch.cat([weight, weight.new_zeros(lacking, weight.shape[1])]),
        "roles.bias": torch.cat([bias, bias.new_full((lacking,), CERTAIN)]),
    }


def compute_checksum(folder: Path) -> str:
    """Returns 12 hexadecimal digits that change whenever a file of the network changes."""
    checksum = hashlib.sha256()
    for name in FILES:
        checksum.update((folder / name).read_bytes())
    return checksum.hexdigest()[:12]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _read_lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines())
