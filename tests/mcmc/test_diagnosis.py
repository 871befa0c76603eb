"""Whatever is planted into a run is found and named, and a good run is left in peace."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.mcmc.api.diagnosis import diagnose, findings
from pyro_ebm.target import Target
from tests.models import load

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
    assert "num_samples=50 or more" in diagnose(made_up(target, independent(64, 40)))
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


def autoregressive(chains, draws, rho, dim=3):
    """Chains with the correlation rho from draw to draw, each from its stationary law."""
    noise = independent(chains, draws, dim)
    positions = noise.clone()
    for i in range(1, draws):
        positions[:, i] = rho * positions[:, i - 1] + math.sqrt(1 - rho**2) * noise[:, i]
    return positions


@pytest.mark.parametrize(
    ("chains", "draws", "rho"), [(64, 100, 0.6), (64, 50, 0.5), (16, 100, 0.6), (4, 100, 0.5)]
)
def test_a_bad_rhat_of_short_chains_that_agree_is_told_with_a_number_that_is_enough(
    target, chains, draws, rho
):
    finding, *_ = findings(made_up(target, autoregressive(chains, draws, rho)))
    assert finding.name == "short for R-hat"
    assert f"{draws} draws a chain are too short for an R-hat of 1.01" in finding.sentence
    assert "do not agree" not in finding.sentence
    enough = int(finding.advice.split("num_samples=")[1].split(" ")[0])
    assert draws < enough < 10 * draws
    longer = made_up(target, autoregressive(chains, enough, rho))
    assert not {"short for R-hat", "R-hat"} & set(names(longer))


def test_short_chains_that_disagree_are_not_excused_by_their_length(target):
    positions = autoregressive(64, 100, 0.6)
    positions[::4, :, 1] += 0.7
    finding, *_ = findings(made_up(target, positions))
    assert finding.name == "R-hat"
    assert "do not agree yet" in finding.sentence


def test_one_number_of_draws_is_asked_for(target):
    said = diagnose(made_up(target, autoregressive(4, 200, 0.8)))
    assert "short for R-hat" in names(made_up(target, autoregressive(4, 200, 0.8)))
    asked = re.findall(r"num_samples=(\d+)", said)
    assert len(asked) == 2
    assert len(set(asked)) == 1


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


def test_stuck_chains_beside_divergences_are_told_what_helps_a_hierarchy(target):
    positions = independent(8, 100)
    positions[3] = positions[3, :1]
    diverging = torch.zeros(8, 100)
    diverging[3] = 1
    stuck, diverged, *rest = findings(
        made_up(target, positions, statistics={"diverging": diverging})
    )
    assert (stuck.name, diverged.name) == ("stuck", "divergences")
    assert "non-centred form" in stuck.advice
    assert "target_accept_prob" in stuck.advice
    assert all("spoil it: mend that first" in finding.advice for finding in rest)


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
    # Which of the two depends on how far the chains came.
    assert {"runaway", "flat direction"} & set(names(record, "problem"))
    assert "likely not normalisable" in diagnose(record)


def wander(chains, draws, size):
    """Random walks from different places: what cut-off trees make along a long direction."""
    generator = torch.Generator().manual_seed(2)
    return size * torch.randn(chains, draws, generator=generator).cumsum(1)


def slow_along(direction, *, size, chains=4, draws=60):
    """Chains that mix across a direction of the plane and wander along it."""
    along = torch.tensor(direction) / math.hypot(*direction)
    across = torch.stack([along[1], -along[0]])
    mixed = independent(chains, draws, 1) / math.sqrt(2)
    return mixed * across + wander(chains, draws, size)[..., None] * along


def improper():
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))


FLAT = {
    "axis": (lambda x: x[0] ** 2, [0.0, 1.0], "a flat direction of x[1]"),
    "ridge": (lambda x: (x[0] - x[1]) ** 2 / 2, [1.0, 1.0], "of x[0], x[1] together"),
    "one side": (
        lambda x: x[0] ** 2 + torch.nn.functional.softplus(-x[1]),
        [0.0, 1.0],
        "a flat direction of x[1]",
    ),
}


@pytest.mark.parametrize(("energy", "direction", "where"), FLAT.values(), ids=FLAT)
def test_a_flat_direction_beside_proper_ones_is_told_as_such(energy, direction, where):
    positions = slow_along(direction, size=20.0)
    if energy is FLAT["one side"][0]:
        positions[..., 1] = positions[..., 1].abs()
    statistics = {"reached_max_treedepth": flags(4, 60, 150)}
    target = Target.from_energy(energy, event_shape=(2,))
    record = made_up(target, positions, statistics=statistics)
    assert names(record) == ["flat direction"]
    said = diagnose(record)
    assert where in said
    assert "likely not normalisable" in said
    assert "slow, not wrong" not in said


def test_a_flat_prior_of_a_real_run_is_found():
    record = run(Target.from_model(improper), chains=4, draws=20, warmup=25, max_tree_depth=4)
    (finding,) = findings(record)
    assert finding.name == "flat direction"
    assert "of b:" in finding.sentence


@pytest.mark.parametrize("size", [0.03, 0.1, 0.3])
def test_a_long_proper_direction_that_is_crossed_slowly_is_not_flat(size):
    target = Target.from_energy(
        lambda x: (x[0] - x[1]) ** 2 / 2 + (x[0] + x[1]) ** 2 / 800, event_shape=(2,)
    )
    statistics = {"reached_max_treedepth": flags(4, 60, 150)}
    positions = slow_along([1.0, 1.0], size=10 * size)
    record = made_up(target, positions, statistics=statistics)
    found = names(record)
    assert "flat direction" not in found
    assert {"R-hat", "separate groups"} & set(found)
    assert "slow, not wrong" not in diagnose(record)


def test_a_highly_correlated_gaussian_at_the_greatest_depth_is_not_flat():
    precision = torch.linalg.inv(torch.tensor([[1.0, 0.9999], [0.9999, 1.0]]).double()).float()
    target = Target.from_energy(lambda x: 0.5 * x @ precision @ x, event_shape=(2,))
    record = run(target, chains=4, draws=40, warmup=30, max_tree_depth=3)
    assert "tree depth" in names(record, "problem")
    assert not {"flat direction", "runaway"} & set(names(record))
    assert "slow, not wrong" not in diagnose(record)


def test_a_wide_box_whose_walls_the_chains_have_reached_is_not_flat():
    def box(x):
        return x[0] ** 2 + 0.5 * torch.relu(x[1].abs() - 30.0) ** 2

    positions = slow_along([0.0, 1.0], size=10.0)
    positions[..., 1] = (positions[..., 1] + 31.0) % 124.0 - 31.0
    positions[..., 1] = torch.minimum(positions[..., 1], 62.0 - positions[..., 1])
    record = made_up(Target.from_energy(box, event_shape=(2,)), positions)
    assert "R-hat" in names(record)
    assert "flat direction" not in names(record)


def test_large_scales_and_places_are_no_runaways(target):
    positions = independent() * torch.tensor([1e8, 1.0, 1e-8]) + torch.tensor([0.0, 1e7, 0.0])
    assert names(made_up(target, positions.double())) == []


def test_heavy_tails_are_no_runaways(target):
    generator = torch.Generator().manual_seed(3)
    cauchy = torch.empty(4, 500, 3).cauchy_(generator=generator)
    assert "runaway" not in names(made_up(target, cauchy))


def test_low_effective_sample_sizes_ask_for_so_many_draws(target):
    positions = independent(4, 1000)
    positions[..., 0] = autoregressive(4, 1000, 0.95, 1)[..., 0]
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


def test_cut_off_trees_are_never_called_harmless_while_rhat_fails(target):
    statistics = {"reached_max_treedepth": flags(16, 100, 2)}
    record = made_up(target, autoregressive(16, 100, 0.6), statistics=statistics)
    assert "short for R-hat" in names(record)
    assert "slow, not wrong" not in diagnose(record)
    assert "slow, not wrong" in diagnose(
        made_up(
            target, independent(16, 500), statistics={"reached_max_treedepth": flags(16, 500, 2)}
        )
    )


def test_a_low_bfmi_is_told(target):
    energy = independent(4, 500, 1)[..., 0].cumsum(1)
    (finding,) = findings(made_up(target, independent(), statistics={"energy": energy}))
    assert finding.name == "BFMI"
    assert "in 4 of 4 chains" in finding.sentence


@pytest.mark.parametrize(
    ("name", "statistics"),
    [
        ("divergences", {"diverging": flags(4, 500, 60)}),
        ("BFMI", {"energy": independent(4, 500, 1)[..., 0].cumsum(1)}),
        ("tree depth", {"reached_max_treedepth": flags(4, 500, 60)}),
    ],
)
def test_one_cause_gets_one_recipe(target, name, statistics):
    positions = autoregressive(4, 500, 0.97)
    cause, *effects = findings(made_up(target, positions, statistics=statistics))
    assert cause.name == name
    assert [finding.name for finding in effects] == ["R-hat", "bulk ESS"]
    for finding in effects:
        assert "first" in finding.advice
        assert "num_samples" not in finding.advice


@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize(
    "statistics",
    [{"diverging": flags(4, 500, 1500)}, {"acceptance_rate": 0.8 - 0.8 * flags(4, 500, 1500)}],
)
def test_a_warm_up_too_short_to_adapt_is_named_when_most_transitions_fail(
    target, steps, statistics
):
    record = made_up(target, independent(), statistics=statistics, attrs={"warmup_steps": steps})
    (finding,) = findings(record)
    assert finding.name == "warm-up"
    assert f"warmup_steps={steps} is too short" in finding.sentence
    assert "target_accept_prob" not in diagnose(record)
    for enough in (
        record._replace(attrs={"warmup_steps": 200}),
        made_up(target, independent(), attrs={"warmup_steps": steps}),
    ):
        assert "warm-up" not in names(enough)


def test_a_run_interrupted_in_warm_up_is_diagnosed():
    def interrupt(*_):
        raise KeyboardInterrupt

    mcmc = ebm.MCMC(ebm.NUTS(model), 10, 50, hook_fn=interrupt)
    with pytest.raises(RuntimeError, match="call run"):
        mcmc.diagnose()
    with pytest.warns(UserWarning, match="Interrupted before the first draw"):
        mcmc.run()
    assert mcmc.diagnose().startswith("The run holds no draws.")


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
    assert set(names(made_up(wide, positions))) <= {"short for R-hat"}
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


def test_chains_that_are_all_still_on_their_way_are_told():
    posterior = load("eight_schools")
    mcmc = ebm.MCMC(ebm.NUTS(posterior.model), 12, 0, num_chains=512, disable_progbar=True)
    mcmc.run(*posterior.args, **posterior.kwargs)
    assert any(finding.name == "moving" for finding in findings(mcmc.record))
    assert "Raise warmup_steps (it was 0)" in mcmc.diagnose()
