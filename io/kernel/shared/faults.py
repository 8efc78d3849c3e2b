"""Messages for dead letters: why bytes are not a tf.Example."""

_NO_EXAMPLE = "the record is not a tf.Example: "

SEQUENCES = "the record is a tf.SequenceExample; only tf.Example is read"
NO_FEATURES = f"{_NO_EXAMPLE}it holds no features, but other fields"
UNPARSED = _NO_EXAMPLE + "{}"

# The faults that the compiled decoder detects, by their number there; {} is the index of a byte of the record.
FAULTS = (
    SEQUENCES,
    NO_FEATURES,
    _NO_EXAMPLE + "what begins at byte {} is cut off",
    _NO_EXAMPLE + "no field begins at byte {}",
    _NO_EXAMPLE + "the number at byte {} has more than 10 bytes",
    _NO_EXAMPLE + "the floats at byte {} have a number of bytes that 4 does not divide",
    _NO_EXAMPLE + "the key at byte {} is not UTF-8",
    _NO_EXAMPLE + "the group at byte {} has no end, no start, or 100 groups around it",
)
