import fsspec
import pytest

from tests.shards.samples import SAMPLES, write_shards


@pytest.fixture
def local(tmp_path):
    """A set of four shards on the disk."""
    return write_shards(tmp_path / "local", [SAMPLES[:2], SAMPLES[2:4], SAMPLES[4:6], SAMPLES[6:]])


@pytest.fixture
def memory(local):
    """The URL of the same set in fsspec's memory."""
    files = fsspec.filesystem("memory")
    for path in local.iterdir():
        files.pipe_file(f"/bucket/train/{path.name}", path.read_bytes())
    yield "memory://bucket/train"
    files.rm("/bucket", recursive=True)


@pytest.fixture
def s3(local, bucket, tmp_path):
    """The URL of the same set on an S3 server, which is reached over HTTP."""
    url = f"{bucket}/{tmp_path.name}/train"
    fsspec.filesystem("s3").put(str(local), url, recursive=True)
    return url
