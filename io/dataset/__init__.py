"""The dataset on disk: shards, manifest, dead letters, publication."""
