import apache_beam as beam

from penstock.io.beam.upstream import transforms_behind


class Doubled(beam.PTransform):
    def expand(self, values):
        return values | "Twice" >> beam.Map(lambda value: 2 * value)


def test_all_transforms_behind_values_are_found():
    pipeline = beam.Pipeline()
    first, second, side, other = (pipeline | name >> beam.Create([1]) for name in ("First", "Second", "Side", "Other"))
    joined = (first | Doubled(), second) | beam.Flatten()
    values = joined | "Add" >> beam.Map(lambda value, sides: value + len(sides), beam.pvalue.AsList(side))
    found = list(transforms_behind(values))
    kinds = [type(transform).__name__ for transform in found]
    assert kinds.count("Create") == 3
    assert {"Doubled", "Flatten"} <= set(kinds)
    assert len(found) == len(set(map(id, found)))
    assert [type(transform).__name__ for transform in transforms_behind(other)].count("Create") == 1
