"""Kafka: what is read (`source`), how (`read`, over `consumer` and `client`), what messages become (`values`, `rows`),
and writing (`write`)."""
