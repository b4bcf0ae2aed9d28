"""Every file that is written has the permissions that the umask leaves: others on a machine may read a model."""

import os

import pytest

from finetune.tasks.retrieval.cheap_score import CheapScore, save_cheap_score
from parsers.neural.model_folder import load_parser_network, save_network
from parsers.neural.parser import MODEL
from pretrain.model.encoder import ErnieViL
from pretrain.model.folder import export
from pretrain.model.heads import ErnieViLForPreTraining
from tests.models import SMALL

WRITERS = {
    "export": lambda folder: export(ErnieViLForPreTraining(SMALL).state_dict(), SMALL, b"[PAD]\n", folder),
    "hub": lambda folder: ErnieViL(SMALL).save_pretrained(folder),
    "cheap score": lambda folder: save_cheap_score(CheapScore(8, 8), folder / "score.safetensors", {}),
    "parser": lambda folder: save_network(load_parser_network(MODEL), folder),
}


@pytest.mark.parametrize("umask", [0o022, 0o027])
@pytest.mark.parametrize("writer", WRITERS)
def test_files_have_the_permissions_of_the_umask(tmp_path, writer, umask):
    before = os.umask(umask)
    try:
        WRITERS[writer](tmp_path / "model")
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert set(found.values()) == {0o666 & ~umask}, found
