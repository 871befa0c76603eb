"""Whatever is planted into a run is found and named, and a good run is left in peace."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.mcmc.api.diagnosis import diagnose, findings
from pyro_ebm.target import Target

from .records import made_up, run


def model():
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))


@pytest.fixture(scope="module")
def target():
    return Target.from_model(model)


def independent(chains=4, draws=500, dim=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(chains, draws, dim, generator=generator)


def flags(chains, draws, count):
    found = torch.zeros(chains, draws)
    found.view(-1)[:count] = 1
    return found


def names(record, severity=None):
    return [f.name for f in findings(record) if severity in (None, f.severity)]


def test_a_good_run_is_told_so_with_its_worst_figures(target):
    record = made_up(target, independent())
    assert findings(record) == ()
    said = diagnose(record)
    assert said.startswith("All is well with 4 chains of 500 draws")
    assert "the worst split R-hat is 1.00" in said
    assert "smallest effective sample sizes" in said
    assert "0 transitions diverged" in said
    assert "lowest BFMI" in said


def test_a_good_run_of_many_short_chains_is_judged_by_nested_rhat(target):
    ids = torch.arange(256) // 32
    record = made_up(target, independent(256, 20), superchain_ids=ids)
    assert names(record, "problem") == []
    assert names(record, "note") == ["short chains"]
    said = diagnose(record)
    assert "nested R-hat" in said
    assert f"limit {math.sqrt(1 + 1 / 32 + 1e-4):.3f}" in said


def test_short_chains_are_asked_for_more_draws(target):
    record = made_up(target, independent(4, 30))
    assert "short chains" in names(record, "problem")
    assert "num_samples=50 or more" in diagnose(record)
    assert names(made_up(target, independent(4, 3)), "problem") == ["too short", "short chains"]
    assert names(made_up(target, independent(4, 0))) == ["no draws"]
    assert "holds no draws" in diagnose(made_up(target, independent(4, 0)))


def test_chains_that_disagree_are_told_where(target):
    positions = independent()
    positions[0, :, 1] += 0.5
    finding, *_ = findings(made_up(target, positions))
    assert finding.name == "R-hat"
    assert "for b[0], where 1.010 is the limit" in finding.sentence


def test_superchains_that_disagree_are_told_so(target):
    ids = torch.arange(128) // 16
    positions = independent(128, 20)
    positions[ids == 2, :, 0] += 1.0
    record = made_up(target, positions, superchain_ids=ids)
    assert names(record, "problem") == ["R-hat"]
    assert "nested R-hat is" in diagnose(record)


def test_separate_groups_are_counted_and_their_weights_disclaimed(target):
    positions = independent(16, 100)
    positions[:5, :, 2] += 30.0
    positions[:5, :, 0] -= 30.0
    positions[5, :, 2] -= 30.0
    (finding,) = findings(made_up(target, positions))
    assert finding.name == "separate groups"
    assert "3 separate groups of 10, 5, 1 chains, apart in a, b[1]" in finding.sentence
    assert "weights are not estimated" in finding.sentence


def test_chains_that_overlap_a_bit_are_one_group(target):
    positions = independent(16, 100)
    positions[:8, :, 0] += 3.0
    assert names(made_up(target, positions)) == ["R-hat", "bulk ESS"]


def test_modes_of_a_real_run_are_found():
    target = Target.from_energy(ebm.GaussianMixtureEnergy(torch.tensor([[-12.0], [12.0]])))
    assert "separate groups" in names(run(target, chains=16, draws=60, warmup=60), "problem")


def test_stuck_chains_are_named(target):
    positions = independent(8, 100)
    positions[3] = positions[3, :1]
    record = made_up(target, positions)
    assert names(record, "problem")[0] == "stuck"
    assert "Chain 3 of 8 does not move" in diagnose(record)
    positions[5] = positions[5, :1]
    assert "2 of 8 chains (3, 5) do not move" in diagnose(made_up(target, positions))


def grow(positions):
    positions[2] *= torch.logspace(0, 3, positions.shape[1])[:, None]


def escape(positions):
    positions[1] *= 1e9


def stand_still_far_out(positions):
    positions[:] = 1e12 + torch.arange(len(positions))[:, None, None] * 1e10


@pytest.mark.parametrize("plant", [grow, escape, stand_still_far_out])
def test_chains_that_run_away_are_told_as_an_energy_without_a_normaliser(target, plant):
    positions = independent(4, 100)
    plant(positions)
    record = made_up(target, positions)
    assert names(record) == ["runaway"]
    assert "likely not normalisable" in diagnose(record)
    assert "effective sample size" not in diagnose(record)


def test_a_net_without_confinement_is_seen_to_run_away():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    record = run(
        Target.from_energy(net, event_shape=(2,)), chains=4, draws=25, warmup=60, max_tree_depth=6
    )
    assert "runaway" in names(record, "problem")


def test_large_scales_and_places_are_no_runaways(target):
    positions = independent() * torch.tensor([1e8, 1.0, 1e-8]) + torch.tensor([0.0, 1e7, 0.0])
    assert names(made_up(target, positions.double())) == []


def test_heavy_tails_are_no_runaways(target):
    generator = torch.Generator().manual_seed(3)
    cauchy = torch.empty(4, 500, 3).cauchy_(generator=generator)
    assert "runaway" not in names(made_up(target, cauchy))


def test_low_effective_sample_sizes_ask_for_so_many_draws(target):
    positions = independent(4, 1000)
    for i in range(1, 1000):
        positions[:, i, 0] = 0.95 * positions[:, i - 1, 0] + 0.31 * positions[:, i, 0]
    found = {finding.name: finding for finding in findings(made_up(target, positions))}
    assert "effective sample size of a is" in found["bulk ESS"].sentence
    needed = int(found["bulk ESS"].advice.split("num_samples=")[1].split(",")[0])
    assert 1000 < needed < 20_000


@pytest.mark.parametrize(
    ("statistic", "count", "name", "severity", "said"),
    [
        ("diverging", 20, "divergences", "problem", r"20 of 2000 transitions diverged (1 %)"),
        ("diverging", 1, "divergences", "note", r"1 of 2000 transitions diverged (0.05 %)"),
        ("reached_max_treedepth", 500, "tree depth", "problem", "25 % of the transitions"),
        ("reached_max_treedepth", 2, "tree depth", "note", "0.1 % of the transitions"),
    ],
)
def test_rates_are_told_and_rare_ones_only_noted(target, statistic, count, name, severity, said):
    record = made_up(target, independent(), statistics={statistic: flags(4, 500, count)})
    (finding,) = findings(record)
    assert (finding.name, finding.severity) == (name, severity)
    assert said in finding.sentence
    assert diagnose(record).startswith("All is well") == (severity == "note")


def test_a_low_bfmi_is_told(target):
    energy = independent(4, 500, 1)[..., 0].cumsum(1)
    (finding,) = findings(made_up(target, independent(), statistics={"energy": energy}))
    assert finding.name == "BFMI"
    assert "in 4 of 4 chains" in finding.sentence


def test_the_chain_that_holds_the_others_up_is_named(target):
    steps = torch.full((8, 500), 7.0)
    steps[6] = 70.0
    (finding,) = findings(made_up(target, independent(8), statistics={"n_steps": steps}))
    assert (finding.name, finding.severity) == ("slow chain", "note")
    assert "Chain 6 holds the others up: it took 10.0 times" in finding.sentence


def test_a_partial_run_is_marked(target):
    record = made_up(target, independent(), complete=False)
    assert names(record, "problem") == ["partial"]
    assert "every chain had 500 draws" in diagnose(record)


def test_a_log_density_too_large_for_float32_is_told(target):
    lp = torch.full((4, 500), -1e6)
    record = made_up(target, independent(), statistics={"lp": lp})
    assert names(record) == ["precision"]
    assert "float64" in diagnose(record)
    record = made_up(target, independent(), statistics={"lp": lp.double()})
    assert names(record) == []


def test_all_of_very_many_coordinates_are_screened():
    wide = Target.from_energy(lambda x: 0.5 * x.square().sum(), event_shape=(20, 30))
    positions = independent(4, 500, 600)
    # R-hat of 600 independent coordinates: the worst one is a bit above the limit by chance.
    assert set(names(made_up(wide, positions))) <= {"R-hat"}
    for i in range(1, 500):
        positions[:, i, 123] = 0.9 * positions[:, i - 1, 123] + 0.44 * positions[:, i, 123]
    assert "effective sample size of x[4,3]" in diagnose(made_up(wide, positions))
    positions[1, :, 457] += 2.0
    assert "for x[15,7]" in diagnose(made_up(wide, positions))


def test_stored_coordinates_keep_their_names(target):
    positions = independent()[..., 1:]
    positions[0, :, 1] += 0.5
    record = made_up(target, positions, coordinates=torch.tensor([1, 2]), sites=("b",))
    assert "for b[1]" in diagnose(record)


def test_a_single_chain_is_judged_by_its_halves(target):
    positions = independent(1, 2000)
    assert names(made_up(target, positions)) == []
    positions[:, 1000:, 0] += 0.5
    assert "R-hat" in names(made_up(target, positions))


def test_several_problems_are_counted_and_notes_come_last(target):
    positions = independent()
    positions[0, :, 1] += 0.3
    statistics = {"diverging": flags(4, 500, 20), "reached_max_treedepth": flags(4, 500, 1)}
    lines = diagnose(made_up(target, positions, statistics=statistics)).splitlines()
    assert lines[0] == "This run has 2 problems."
    assert [line[:2] for line in lines[1:3]] == ["- ", "- "]
    assert lines[3].startswith("Of 4 chains of 500 draws:")
    assert lines[4].startswith("Note: ")
