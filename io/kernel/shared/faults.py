"""Messages for dead letters: why bytes are not a tf.Example, or not a tf.SequenceExample."""

# By whether it is a sequence.
TYPES = ("tf.Example", "tf.SequenceExample")

_NOT_ONE = "the record is not a {what}: "

SEQUENCES = "the record is a tf.SequenceExample, and is read as a tf.Example: pass --record_type sequence_example"
NO_FEATURES = f"{_NOT_ONE}it holds no features, but other fields"
NO_PARTS = f"{_NOT_ONE}it holds neither a context nor feature lists, but other fields"
UNPARSED = f"{_NOT_ONE}{{}}"
IN_BOTH = "the record has {key!r} in its context and in its feature lists, and a row has one column of a name"
BAD_CRC = "the data CRC of the record does not match; the record is damaged"
MIXED_STEPS = "the steps of the feature list {key!r} have values of different kinds, and a column has one"

# The faults that the compiled decoder detects, by their number there; {} is the index of a byte of the record.
FAULTS = (
    SEQUENCES,
    NO_FEATURES,
    f"{_NOT_ONE}what begins at byte {{}} is cut off",
    f"{_NOT_ONE}no field begins at byte {{}}",
    f"{_NOT_ONE}the number at byte {{}} has more than 10 bytes",
    f"{_NOT_ONE}the floats at byte {{}} have a number of bytes that 4 does not divide",
    f"{_NOT_ONE}the key at byte {{}} is not UTF-8",
    f"{_NOT_ONE}the group at byte {{}} has no end, no start, or 100 groups around it",
    NO_PARTS,
    IN_BOTH,
    MIXED_STEPS,
    BAD_CRC,
)
