import json

import pytest


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the toy world's detector, the smallest network."""
    import torch
    from safetensors.torch import save_file

    from pipeline.toyworld.network import CLASS_NAMES, build_network

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    torch.manual_seed(0)
    save_file(build_network().state_dict(), path, {"class_names": json.dumps(CLASS_NAMES)})
    return path
