"""Flows fitted to data and to targets: their densities, what they keep, and what they refuse."""

import math
import sys
from functools import partial

import pandas
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.flows import training

zuko = pytest.importorskip("zuko")
FAST = partial(torch.optim.Adam, lr=0.02)


def small(dim=2, **options):
    torch.manual_seed(1)
    return zuko.flows.RealNVP(dim, transforms=2, hidden_features=(16,), **options)


def bent(n=400):
    """x_1 ~ N(100, 5^2), x_2 = 0.01 (x_1 - 100)^2 + N(0, 0.1^2): columns of unlike units."""
    first = 5 * torch.randn(n)
    return torch.stack([100 + first, 0.01 * first.square() + 0.1 * torch.randn(n)], -1)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(3)
    return ebm.fit_flow(bent(), small(), epochs=25, optimizer=FAST, disable_progbar=True)


def test_the_density_of_raw_data_integrates_to_one(fitted):
    first = torch.linspace(0, 200, 1001)
    second = torch.linspace(-10, 20, 1501)
    grid = torch.cartesian_prod(first, second)
    with torch.no_grad():
        density = fitted.distribution.log_prob(grid).double().exp()
    cell = (200 / 1000) * (30 / 1500)
    assert abs(float(density.sum()) * cell - 1) < 1e-3


def test_held_out_nats_are_those_of_raw_rows_in_the_best_state(fitted):
    rows = bent(4000)
    with torch.no_grad():
        nats = -fitted.distribution.log_prob(rows)
    # Entropy of x_1 and of x_2 given it: no density does better on average.
    entropy = math.log(2 * math.pi * math.e * 5 * 0.1)
    error = float(nats.std()) / math.sqrt(len(rows))
    assert entropy - 4 * error < float(nats.mean()) < entropy + 0.3
    assert fitted.held_out == float(fitted.history.held_out.min())
    assert fitted.best == int(fitted.history.held_out.argmin()) + 1
    assert len(fitted.history.train) == len(fitted.history.held_out) == 25


def test_draws_are_of_the_density(fitted):
    """E_q[p(x)/q(x)] = 1 for every density p that q covers."""
    flow = fitted.distribution
    x = flow.sample((4000,))
    narrow = dist.Normal(flow.loc, 0.5 * flow.scale).to_event(1)
    weights = (narrow.log_prob(x) - flow.log_prob(x)).double().exp()
    error = float(weights.std()) / math.sqrt(len(x))
    assert error < 0.1
    assert abs(float(weights.mean()) - 1) < 4 * error


def test_seeds_repeat_a_fit_and_leave_the_flow_alone():
    rows, flow = bent(100), small()
    before = [p.detach().clone() for p in flow.parameters()]

    def fit(seed):
        generator = torch.Generator().manual_seed(seed)
        return ebm.fit_flow(rows, flow, epochs=2, generator=generator, disable_progbar=True)

    one, again, other = fit(1), fit(1), fit(2)
    assert torch.equal(one.history.train, again.history.train)
    assert torch.equal(one.distribution.log_prob(rows), again.distribution.log_prob(rows))
    assert not torch.equal(one.history.train, other.history.train)
    for old, new in zip(before, flow.parameters(), strict=True):
        assert torch.equal(old, new)
    pyro.set_rng_seed(5)
    first = ebm.fit_flow(rows, epochs=1, disable_progbar=True)
    pyro.set_rng_seed(5)
    second = ebm.fit_flow(rows, epochs=1, disable_progbar=True)
    assert first.held_out == second.held_out


def test_training_follows_the_likelihood_as_a_loop_by_hand_does():
    """One step of plain gradient descent on all rows is the same for both."""
    rows = bent(50)
    flow = small()
    sgd = partial(torch.optim.SGD, lr=0.01)
    found = ebm.fit_flow(
        rows, flow, held_out=rows, epochs=1, batch_size=50, optimizer=sgd, disable_progbar=True
    )
    assert found.best == 1
    y = (rows - rows.mean(0)) / rows.std(0)
    loss = -flow().log_prob(y).mean()
    loss.backward()
    assert float(found.history.train[0]) == pytest.approx(
        float(loss.detach()) + float(rows.std(0).log().sum()), rel=1e-5
    )
    for mine, theirs in zip(found.distribution.flow.parameters(), flow.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach() - 0.01 * theirs.grad)


def test_nothing_is_left_in_pyros_store_and_nothing_in_it_is_changed():
    mine = pyro.param("flow$$$transform", torch.ones(2))
    ebm.fit_flow(bent(50), small(), epochs=1, disable_progbar=True)
    assert list(pyro.get_param_store().keys()) == ["flow$$$transform"]
    assert torch.equal(pyro.param("flow$$$transform"), mine)


def test_patience_ends_a_fit_and_the_best_state_is_kept():
    rows = bent(40)
    wild = partial(torch.optim.Adam, lr=0.1)
    found = ebm.fit_flow(
        rows, small(), epochs=200, patience=5, optimizer=wild, disable_progbar=True
    )
    assert len(found.history.train) == found.best + 5
    assert "5 epochs brought nothing better" in found.stopped
    assert found.held_out <= float(found.history.held_out.min())


def test_an_interrupt_gives_what_is_there(monkeypatch):
    whole, calls = training._one_epoch, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(training, "_one_epoch", interrupted)
    found = ebm.fit_flow(bent(100), small(), disable_progbar=True)
    assert (len(found.history.train), found.stopped) == (3, training.INTERRUPTED)
    assert math.isfinite(found.held_out)


def test_a_loss_that_is_not_finite_ends_training_in_the_best_state():
    wild = partial(torch.optim.SGD, lr=1e8)
    with pytest.warns(ebm.DivergedWarning, match="not finite any more"):
        found = ebm.fit_flow(bent(100), small(), epochs=9, optimizer=wild, disable_progbar=True)
    assert found.stopped.startswith(training.NOT_FINITE)
    assert math.isfinite(found.held_out)
    assert all(bool(p.isfinite().all()) for p in found.distribution.flow.parameters())


def test_a_learning_rate_that_betters_nothing_is_told_and_the_start_given_back():
    wild = partial(torch.optim.Adam, lr=10.0)
    options = {"flow": small(), "epochs": 3, "optimizer": wild, "disable_progbar": True}
    banana = ebm.Banana(scale=1.0, curvature=0.5, width=0.5)
    for fit in (
        lambda: ebm.fit_flow(bent(100), **options),
        lambda: ebm.fit_flow_to_target(banana, steps=2, **options),
    ):
        with pytest.warns(ebm.DivergedWarning, match="no epoch was better"):
            found = fit()
        assert found.best == 0
        assert found.stopped.startswith("all 3 epochs are done: no epoch was better than the start")
        assert "ten times smaller" in found.stopped
        pairs = zip(found.distribution.flow.parameters(), small().parameters(), strict=True)
        assert all(torch.equal(kept, start) for kept, start in pairs)


def test_an_optimiser_that_cannot_train_a_flow_is_refused():
    for optimizer, said in (
        (torch.optim.LBFGS, r"got LBFGS.* Take torch\.optim\.Adam or torch\.optim\.SGD"),
        (torch.optim.Adam([torch.zeros(1)]), "got Adam, which holds the parameters of something"),
        (lambda parameters: None, "expected optimizer to make one"),
        (0.1, "got float"),
    ):
        with pytest.raises(TypeError, match=said):
            training.optimizer_of(small(), optimizer)
    with pytest.raises(TypeError, match="LBFGS"):
        ebm.fit_flow(bent(50), small(), optimizer=torch.optim.LBFGS, disable_progbar=True)


def test_a_fit_to_a_density_finds_it_with_its_log_z():
    """The least of E_q[log q - log p] is -log Z, where q is the target."""
    energy = ebm.Banana(scale=1.0, curvature=0.5, width=0.5)
    found = ebm.fit_flow_to_target(
        energy, flow=small(), epochs=15, optimizer=FAST, disable_progbar=True
    )
    log_z = float(energy.log_normalizer())
    assert -log_z < found.held_out < -log_z + 0.1
    assert found.best > 1


def test_a_fit_to_a_density_goes_on_from_a_fit_to_draws():
    energy = ebm.Banana(scale=1.0, curvature=0.5, width=0.5)
    draws = energy.exact_sample((500,))
    begun = ebm.fit_flow(draws, small(), epochs=10, optimizer=FAST, disable_progbar=True)
    found = ebm.fit_flow_to_target(energy, flow=begun, epochs=1, steps=1, disable_progbar=True)
    assert torch.equal(found.distribution.loc, begun.distribution.loc)
    x = found.distribution.sample((4000,))
    gap = found.distribution.log_prob(x) + energy(x)
    error = float(gap.std()) / math.sqrt(len(x))
    assert abs(found.held_out - float(gap.mean())) < 6 * error


def test_a_run_is_fitted_in_unconstrained_coordinates_with_whole_chains_held_out():
    def model():
        pyro.sample("rate", dist.Gamma(4.0, 4.0))
        pyro.sample("shift", dist.Normal(3.0, 2.0))

    run = ebm.MCMC(ebm.NUTS(model), 60, 60, num_chains=8, disable_progbar=True)
    run.run()
    found = ebm.fit_flow(run, small(), epochs=3, held_out=0.25, disable_progbar=True)
    samples = run.get_samples()
    flat = torch.stack([samples["rate"].log(), samples["shift"]], -1)
    assert float((found.distribution.loc - flat.mean(0)).abs().max()) < 0.5
    # The means of the six chains that are trained on, whichever they are.
    chains = flat.reshape(8, 60, 2)
    options = torch.combinations(torch.arange(8), 6)
    means = chains[options].mean((1, 2))
    assert float((means - found.distribution.loc).abs().amax(-1).min()) < 1e-5


def test_a_fitted_flow_is_a_site_a_base_and_a_tilted_energys_base(fitted):
    flow = fitted.distribution
    rows = bent(7)
    with pyro.plate("rows", 7):
        assert pyro.sample("x", flow).shape == (7, 2)
        assert flow.expand((7,)).log_prob(rows).shape == (7,)
    assert flow.expand((3, 1)).log_prob(rows).shape == (3, 7)
    tilted = ebm.Tilted(lambda x: 0.0 * x.sum(), flow)
    torch.testing.assert_close(tilted(rows), -flow.log_prob(rows))
    normal = ebm.DiagonalGaussian(torch.tensor([100.0, 0.25]), torch.tensor([5.0, 0.3]))
    schedule = ebm.Linear(4)
    found = ebm.AIS(
        normal, base=flow, num_particles=512, schedule=schedule, reverse=False, disable_progbar=True
    ).run()
    assert abs(found.log_z - float(normal.log_normalizer())) < 4 * found.std_error < 1.0


def test_rows_may_be_arrays_and_data_frames():
    def fit(rows, held_out):
        generator = torch.Generator().manual_seed(1)
        return ebm.fit_flow(
            rows, small(), held_out=held_out, epochs=1, generator=generator, disable_progbar=True
        )

    rows, held_out = bent(50).double(), bent(20).double()
    wanted = fit(rows, held_out)
    assert fit(rows.numpy(), held_out.numpy()).held_out == wanted.held_out
    assert fit(pandas.DataFrame(rows.numpy()), held_out).held_out == wanted.held_out


@pytest.mark.parametrize(
    ("rows", "options", "error", "said"),
    [
        (torch.ones(20, 2).long(), {}, TypeError, "real numbers"),
        (torch.ones(20, 2).long().numpy(), {}, TypeError, "got torch.int64"),
        ([["one", "two"]], {}, TypeError, "lists of real numbers"),
        ([[1.0, 2.0]], {}, ValueError, "at least 10 rows"),
        (torch.randn(20), {}, ValueError, r"data\[:, None\]"),
        (torch.randn(20, 3, 3), {}, ValueError, r"data\.flatten\(1\)"),
        (torch.randn(20, 2) / 0, {}, ValueError, "finite"),
        (torch.randn(20, 2) * torch.tensor([1.0, 0.0]), {}, ValueError, r"constant ones, \[1\]"),
        (torch.randn(8, 2), {}, ValueError, "at least 10 rows"),
        (torch.randn(20, 2), {"held_out": 1.5}, ValueError, "fraction"),
        (torch.randn(20, 2), {"held_out": torch.randn(5, 3)}, ValueError, "2 columns"),
        (torch.randn(20, 2), {"epochs": 0}, ValueError, "epochs"),
        (torch.randn(20, 2), {"patience": True}, ValueError, "patience"),
        (torch.randn(20, 2), {"batch_size": 0}, ValueError, "batch_size"),
        (torch.randn(20, 3), {"flow": small(2)}, ValueError, "vectors of 3 numbers"),
        (torch.randn(20, 2), {"flow": small(2, context=1)}, ValueError, "no context"),
        (torch.randn(20, 2), {"flow": torch.nn.Linear(2, 2)}, ValueError, "no context"),
        (torch.randn(20, 2), {"flow": lambda: None}, TypeError, "zuko flow"),
    ],
)
def test_what_is_no_data_or_no_flow_is_refused(rows, options, error, said):
    with pytest.raises(error, match=said):
        ebm.fit_flow(rows, **options, disable_progbar=True)


def test_without_zuko_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ImportError, match=r"pyro_ebm\[flows\]"):
        ebm.fit_flow(torch.randn(20, 2), disable_progbar=True)
