"""Kafka: the URI of a source (`source`), reading (`read`, with `consumer` and `client`), messages as rows (`rows`),
and writing (`write`)."""
