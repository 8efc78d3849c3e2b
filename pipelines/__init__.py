"""The jobs: each wires transforms of Penstock into a pipeline, `python -m pipelines.<name> --help`."""
