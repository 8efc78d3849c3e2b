import itertools
import pathlib

import pytest
from benchmarks import contest, cores, run
from benchmarks.contest import CONTESTANTS, PARQUET_WRITERS, PROFILERS, SCENARIOS

LISTS = {"records": CONTESTANTS, "statistics": PROFILERS, "parquet": PARQUET_WRITERS}
PEERS = pathlib.Path(run.__file__).parent / "peers"


@pytest.mark.parametrize("contestants", LISTS.values(), ids=LISTS)
def test_names_are_unique(contestants):
    assert len({contestant.name for contestant in contestants}) == len(contestants)


@pytest.mark.parametrize("contestant", [*itertools.chain(*LISTS.values())], ids=lambda contestant: contestant.name)
def test_a_contestant_has_its_files(contestant):
    assert (PEERS / contestant.script).is_file()
    assert contestant.cannot.keys() <= SCENARIOS.keys()
    if contestant.requirements:
        lines = (PEERS / contestant.requirements).read_text().splitlines()
        assert all("==" in line for line in lines if not line.startswith("#"))


def test_the_floor_comes_after_penstock():
    names = [contestant.name for contestant in CONTESTANTS]
    assert names.index(contest.PENSTOCK) < names.index(contest.FLOOR)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_has_its_checker_and_its_base(scenario):
    script, requirements = scenario.checker
    assert (PEERS / script).is_file()
    assert requirements is None or (PEERS / requirements).is_file()
    if scenario.name != "tft":  # which has no floor
        assert scenario.base in {contestant.name for contestant in scenario.contestants or CONTESTANTS}


def test_an_unknown_contestant_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--only", "penstock,nobody"])
    assert "got nobody" in capsys.readouterr().err


def test_all_scenarios_have_a_name():
    assert run.parse(["--scenario", "all"]).scenario == [*SCENARIOS, cores.NAME]
