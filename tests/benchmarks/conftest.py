from tests.pretrain.conftest import shard_folder

__all__ = ["shard_folder"]
