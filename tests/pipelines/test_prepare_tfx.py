"""The main job with modules of TFX: the commands of docs/tfx.md, on rows like those of its examples."""

import random
from pathlib import Path

import pytest
from helpers import examples, run_prepare, write_csv, write_schema_file

from pipelines._report.result import DONE

tft = pytest.importorskip("tensorflow_transform")

TFX = Path(__file__).parents[2] / "examples" / "tfx"
SPLIT = "--split=train=2,eval=1"
TRIP = {
    "FLOAT": "trip_miles fare tips pickup_latitude pickup_longitude dropoff_latitude dropoff_longitude",
    "INT": "trip_start_hour trip_start_day trip_start_month pickup_census_tract dropoff_census_tract "
    "pickup_community_area dropoff_community_area trip_seconds",
    "BYTES": "payment_type company",
}


def write_taxi(folder: Path) -> tuple[str, ...]:
    draw = random.Random(2)
    values = {
        "FLOAT": lambda: draw.choice([None, round(draw.uniform(0, 40), 2)]),
        "INT": lambda: draw.choice([None, draw.randint(1, 900)]),
        "BYTES": lambda: draw.choice([None, "Cash", "Credit Card", "Taxi & Söhne, Inc."]),
    }
    kinds = {name: kind for kind, names in TRIP.items() for name in names.split()}
    rows = [{name: values[kind]() for name, kind in kinds.items()} for _ in range(200)]
    write_csv(folder / "trips.csv", rows, list(kinds))
    write_schema_file(folder / "taxi.pbtxt", **kinds)
    return ("--input", str(folder / "trips.csv"), "--schema", str(folder / "taxi.pbtxt"), SPLIT)


@pytest.mark.slow
def test_the_penguin_module_runs_as_the_page_says(tmp_path) -> None:
    draw, measures = random.Random(1), ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"]
    rows = [{"species": row % 3} | {name: draw.uniform(0, 1) for name in measures} for row in range(150)]
    write_csv(tmp_path / "penguins.csv", rows, ["species", *measures])
    fixed = "presence { min_fraction: 1 } shape { dim { size: 1 } }"
    kinds = {"species": f"INT {fixed}"} | {name: f"FLOAT {fixed}" for name in measures}
    flags = ("--input", tmp_path / "penguins.csv", "--schema", write_schema_file(tmp_path / "s.pbtxt", **kinds), SPLIT)
    module = ("--features", TFX / "penguin.py", "--custom_config", TFX / "penguin.json")
    assert run_prepare(*flags, *module, "--output", tmp_path / "out") == DONE
    found = examples(tmp_path / "out")
    assert len(found) > 75, "two thirds are for training"
    assert {tuple(sorted(row)) for row in found} == {(*sorted(f"{name}_xf" for name in measures), "species_xf")}
    spec = tft.TFTransformOutput(str(tmp_path / "out" / "transform")).transformed_feature_spec()
    assert {name: feature.shape for name, feature in spec.items()} == {name: [1] for name in found[0]}


@pytest.mark.slow
def test_the_taxi_module_runs_as_the_page_says(tmp_path) -> None:
    flags = write_taxi(tmp_path)
    assert run_prepare(*flags, "--features", TFX / "taxi.py", "--output", tmp_path / "out") == DONE
    output = tft.TFTransformOutput(str(tmp_path / "out" / "transform"))
    assert {len(row) for row in examples(tmp_path / "out")} == {17} == {len(output.transformed_feature_spec())}
    assert output.vocabulary_size_by_name("vocab_compute_and_apply_vocabulary_vocabulary") >= 1
