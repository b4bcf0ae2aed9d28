import json
import os

import pytest

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def bucket():
    """The address of a bucket on an S3 server that runs as long as the tests of a module; workers find it too."""
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    s3fs.S3FileSystem.clear_instance_cache()  # it keeps connections to the servers of other tests
    server.start()
    host, port = server.get_host_and_port()
    before = {name: os.environ.get(name) for name in (*ENVIRONMENT, "AWS_ENDPOINT_URL")}
    os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=f"http://{host}:{port}")
    from pipeline.files import location

    name = f"bucket-{port}"  # servers of one process share their buckets
    location(f"s3://{name}/x").fs.mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


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
