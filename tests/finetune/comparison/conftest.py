"""A model to start from."""

import pytest

from pretrain.model.folder import export
from pretrain.model.heads import ErnieViLForPreTraining


@pytest.fixture(scope="session")
def start(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    export(ErnieViLForPreTraining(toys.config()).state_dict(), toys.config(), toys.vocabulary, folder)
    return folder
