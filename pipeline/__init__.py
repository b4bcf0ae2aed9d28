"""The offline stages that turn captions and region features into shards, and the executor that runs them."""
