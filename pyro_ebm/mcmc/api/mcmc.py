"""MCMC in Pyro's shape: the same arguments, many chains in one process, results for ArviZ."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.diagnostics import ess_bulk, split_rhat
from pyro_ebm.inference_data import print_table
from pyro_ebm.target import Target, worthwhile_threads

from ..run import Plan, Progress, Result, run_chains
from .chees import ChEESHMC
from .diagnosis import diagnose
from .export import RunRecord, predict, to_arviz
from .gears import Gear, gear_of
from .kernels import HMC, NUTS
from .progress import ProgressBar

# From this many chains on, starts are shared, so that nested R-hat can judge short chains.
_NESTED_FROM = 128
_SUPERCHAINS = 8


class MCMC:
    """Run a kernel with many chains at once, each counted for itself.

    The arguments up to ``save_params`` are those of :class:`pyro.infer.MCMC`; four chains are the
    default, and hundreds cost little more.

    :param kernel: :class:`NUTS`, :class:`HMC` or :class:`ChEESHMC` of this package.
    :param num_samples: draws kept per chain.
    :param warmup_steps: transitions per chain before; as many as ``num_samples`` unless given.
    :param initial_params: unconstrained starts by site, leading axis the chains (for one chain also
        without it).
    :param num_chains: chains, 1 to several thousand. From 128 on they start from 8 over-dispersed
        points, shared by equal groups, which nested R-hat needs.
    :param hook_fn: ``hook_fn(kernel, samples, stage, i)``, called after every block of steps;
        samples are the unconstrained draws [draw, coordinate, chain] so far.
    :param mp_context: accepted and ignored: all chains live in one process.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :param disable_validation: False checks the model once, with validation on, at the first start.
    :param transforms: with a kernel on ``potential_fn``: maps to unconstrained space by name.
    :param save_params: the same as ``sites``.
    :param thinning: keep every ``thinning``-th transition of each chain.
    :param sites: keep only these latent or deterministic sites.
    :param warmup_from: a finished MCMC on the same sites: its step size and metric, and its last
        positions, are where this one starts; ``warmup_steps`` is then 0 unless given.
    :param save_warmup: keep the draws of warm-up too.
    """

    def __init__(
        self,
        kernel: NUTS | HMC | ChEESHMC,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Tensor] | None = None,
        num_chains: int = 4,
        hook_fn: Callable | None = None,
        mp_context: str | None = None,
        disable_progbar: bool = False,
        disable_validation: bool | None = True,
        transforms: Mapping[str, Any] | None = None,
        save_params: Sequence[str] | None = None,
        *,
        thinning: int = 1,
        sites: Sequence[str] | None = None,
        warmup_from: MCMC | None = None,
        save_warmup: bool = False,
    ) -> None:
        if not isinstance(kernel, NUTS | HMC | ChEESHMC):
            raise TypeError(
                "Expected a kernel of pyro_ebm (NUTS, HMC or ChEESHMC), got "
                f"{type(kernel).__module__}.{type(kernel).__name__}. Write "
                "pyro_ebm.NUTS(model) instead of pyro.infer.NUTS(model)."
            )
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("num_chains", num_chains, 1),
            ("thinning", thinning, 1),
            ("warmup_steps", 0 if warmup_steps is None else warmup_steps, 0),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}.")
        kernel.check_num_chains(num_chains)
        if sites is not None and save_params is not None and set(sites) != set(save_params):
            raise ValueError("sites and save_params name the same thing; give one of them.")
        if warmup_from is not None and initial_params is not None:
            raise ValueError(
                "Give initial_params or warmup_from, not both: both say where to start."
            )
        if transforms is not None and kernel.potential_fn is not None:
            kernel.transforms = transforms
        self.kernel = kernel
        self.num_samples, self.num_chains, self.thinning = num_samples, num_chains, thinning
        self.warmup_steps = warmup_steps
        if warmup_steps is None:
            self.warmup_steps = num_samples if warmup_from is None else 0
        self.initial_params = initial_params
        self.hook_fn = hook_fn
        self.disable_progbar, self.disable_validation = disable_progbar, disable_validation
        self.transforms = transforms
        self.sites = tuple(sites or save_params or ()) or None
        self.warmup_from = warmup_from
        self.save_warmup = save_warmup
        self._record: RunRecord | None = None
        self._result: Result | None = None
        self._gear: Gear | None = None

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Run the chains; the arguments are the model's.

        Ctrl-C ends the run early and keeps what every chain has drawn, marked as partial.

        :raises ValueError: when the model cannot be sampled rightly, or no start can be found.
        """
        self._record = self._result = None
        with poutine.block():
            target = self.kernel.target(args, kwargs, self._example_params())
            seed = int(torch.randint(2**63 - 1, ()))
            generator = torch.Generator(target.device).manual_seed(seed)
            with worthwhile_threads(target, self.num_chains) as num_threads:
                start, superchains = self._start(target, generator)
                if self.disable_validation is False:
                    _validate(target, start[:, 0])
                began = time.perf_counter()
                result = self._run(target, start, generator)
                seconds = time.perf_counter() - began
        self._result = result
        attributes = self._attributes(target, result, seed, num_threads, seconds)
        self._record = self._make_record(target, result, superchains, attributes)
        if isinstance(result.error, KeyboardInterrupt):
            kept = result.draws.complete
            warnings.warn(
                f"Interrupted: {kept} of {self.num_samples} draws of every chain are kept, and "
                "marked as partial."
                if kept
                else "Interrupted before the first draw of every chain: nothing is kept.",
                stacklevel=2,
            )
        elif result.error is not None:
            raise result.error
        else:
            _warn_if_coarse(result)

    def _run(self, target: Target, start: Tensor, generator: torch.Generator) -> Result:
        assert self.warmup_steps is not None
        transitions = self.warmup_steps + self.num_samples * self.thinning
        gear = self._gear = gear_of(self.kernel, target, start, transitions)
        coordinates = None if self.sites is None else target.coordinates_of(self.sites)
        plan = Plan(
            self.num_samples,
            self.kernel.warmup(target, self.warmup_steps),
            thinning=self.thinning,
            coordinates=coordinates,
            keep_warmup=self.save_warmup,
        )
        settings = None
        if self.warmup_from is not None:
            state = self.warmup_from._state()
            settings = state.settings
        with ProgressBar(disable=self.disable_progbar) as bar:

            def report(progress: Progress) -> None:
                bar.update(progress)
                if self.hook_fn is not None:
                    draws = progress.draws.positions
                    self.hook_fn(self.kernel, draws, progress.stage, progress.done)

            return run_chains(
                gear.problem,
                gear.kernel,
                start,
                plan,
                generator=generator,
                settings=settings,
                report=report,
            )

    def _start(self, target: Target, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Starting positions [dim, chains], and the superchain of every chain."""
        if self.warmup_from is not None:
            last = self.warmup_from._state().position
            if last.shape[0] != target.dim:
                raise ValueError(
                    f"warmup_from= has {last.shape[0]} coordinates and this model {target.dim}: "
                    "warm starts need the same latent sites."
                )
            order = torch.arange(self.num_chains, device=last.device) % last.shape[1]
            start = last[:, order].to(target.dtype)
            _check_start(target, start, "The last positions of warmup_from=")
            return start, None
        if self.initial_params is not None:
            return self._given_start(target), None
        strategy = self.kernel.init_strategy
        if self.num_chains < _NESTED_FROM:
            return (
                target.initial_positions(self.num_chains, strategy=strategy, generator=generator),
                None,
            )
        points = target.initial_positions(_SUPERCHAINS, strategy=strategy, generator=generator)
        ids = torch.arange(self.num_chains) * _SUPERCHAINS // self.num_chains
        return points[:, ids.to(points.device)].contiguous(), ids

    def _given_start(self, target: Target) -> Tensor:
        assert self.initial_params is not None
        positions = target.unconstrain(self.initial_params)
        if positions.dim() == 1:
            positions = positions.expand(self.num_chains, -1)
        if positions.shape != (self.num_chains, target.dim):
            raise ValueError(
                "The leading axis of every tensor in initial_params must be the chains: expected "
                f"({self.num_chains}, ...), got shapes "
                f"{ {name: tuple(value.shape) for name, value in self.initial_params.items()} }."
            )
        start = positions.T.contiguous()
        _check_start(target, start, "initial_params")
        return start

    def _example_params(self) -> Mapping[str, Tensor] | None:
        """One chain's worth of initial_params, for a potential_fn whose shapes they give."""
        if self.initial_params is None or self.kernel.potential_fn is None:
            return self.initial_params
        if self.num_chains == 1:
            return self.initial_params
        for name, value in self.initial_params.items():
            if value.dim() == 0 or value.shape[0] != self.num_chains:
                raise ValueError(
                    f"initial_params['{name}'] has shape {tuple(value.shape)}; its leading axis "
                    f"must be the {self.num_chains} chains."
                )
        return {name: value[0] for name, value in self.initial_params.items()}

    def _state(self) -> Any:
        if self._result is None or self._result.state is None:
            raise ValueError("warmup_from= needs an MCMC that has run.")
        return self._result.state

    def _make_record(
        self, target: Target, result: Result, superchains: Tensor | None, attributes: dict
    ) -> RunRecord:
        draws, before = result.draws, result.warmup_draws
        return RunRecord(
            target=target,
            positions=draws.positions.permute(2, 0, 1),
            statistics={name: value.T for name, value in draws.statistics.items()},
            warmup_positions=None if before is None else before.positions.permute(2, 0, 1),
            warmup_statistics=None
            if before is None
            else {name: value.T for name, value in before.statistics.items()},
            coordinates=None if self.sites is None else target.coordinates_of(self.sites),
            sites=self.sites,
            superchain_ids=superchains,
            attrs=attributes,
            max_tree_depth=self.kernel.max_tree_depth,
            complete=result.error is None,
            thinning=self.thinning,
        )

    def _attributes(
        self, target: Target, result: Result, seed: int, num_threads: int, seconds: float
    ) -> dict[str, Any]:
        return {
            "sampler": type(self.kernel).__name__,
            "seed": seed,
            "num_chains": self.num_chains,
            "num_samples": self.num_samples,
            "warmup_steps": self.warmup_steps,
            "thinning": self.thinning,
            "num_threads": num_threads,
            "dtype": str(target.dtype),
            "device": str(target.device),
            "vectorized": target.vectorized,
            "gear": None if self._gear is None else self._gear.name,
            "complete": result.error is None,
            "gradient_steps": 0 if result.state is None else result.state.num_steps,
            "warmup_gradient_steps": result.warmup_num_steps,
            "sampling_time": seconds,
            **({} if result.state is None else self.kernel.learned(result.state.settings)),
        }

    @property
    def record(self) -> RunRecord:
        """Everything that the run has kept.

        :raises RuntimeError: before the run, or when it was interrupted before the first draw.
        """
        record = self._last_record()
        if record.num_draws == 0:
            raise RuntimeError("The run ended before every chain had made its first draw.")
        return record

    def _last_record(self) -> RunRecord:
        if self._record is None:
            raise RuntimeError("There are no draws yet: call run() first.")
        return self._record

    def get_samples(
        self, num_samples: int | None = None, group_by_chain: bool = False
    ) -> dict[str, Tensor]:
        """Draws of the latent sites, constrained: [chain * draw, ...], as Pyro's.

        :param num_samples: draw this many of them with replacement.
        :param group_by_chain: keep the chain axis: [chain, draw, ...].
        """
        record = self.record
        positions = record.target.complete(record.positions, record.coordinates)
        values = record.target.evaluate(positions).latents
        if record.sites is not None:
            values = {name: value for name, value in values.items() if name in record.sites}
        if num_samples is None:
            if group_by_chain:
                return values
            return {name: value.flatten(0, 1) for name, value in values.items()}
        axis = 1 if group_by_chain else 0
        if not group_by_chain:
            values = {name: value.flatten(0, 1) for name, value in values.items()}
        size = record.positions.shape[1] * (1 if group_by_chain else record.positions.shape[0])
        chosen = torch.randint(size, (num_samples,)).to(record.positions.device)
        return {name: value.index_select(axis, chosen) for name, value in values.items()}

    def diagnostics(self) -> dict[str, Any]:
        """Per latent site ``n_eff`` and ``r_hat``, and per chain divergences and acceptance."""
        record = self.record
        found: dict[str, Any] = {}
        for name, value in self.get_samples(group_by_chain=True).items():
            draws = value.double().cpu().numpy()
            found[name] = {"n_eff": ess_bulk(draws), "r_hat": split_rhat(draws)}
        statistics = record.statistics
        chains = range(record.positions.shape[0])
        diverging = statistics["diverging"].bool()
        rate = statistics["acceptance_rate"].mean(1)
        found["divergences"] = {f"chain {c}": diverging[c].nonzero()[:, 0].tolist() for c in chains}
        found["acceptance rate"] = {f"chain {c}": float(rate[c]) for c in chains}
        return found

    def to_arviz(self, **options: Any) -> Any:
        """The run as ArviZ data; the options are those of :func:`.export.build_groups`."""
        return to_arviz(self.record, **options)

    def diagnose(self) -> str:
        """What is wrong with the run and what to do about it, or that all is well, in sentences.

        :raises RuntimeError: before the run.
        """
        return diagnose(self._last_record())

    def predict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Posterior predictive draws for new arguments of the model: [chain, draw, ...] by site."""
        return predict(self.record, *args, **kwargs)

    def summary(self, prob: float = 0.9) -> None:
        """Print ArviZ's table of the latent and deterministic sites."""
        data = self.to_arviz(log_likelihood=False, log_prior=False)
        print_table(data, interval_probability=prob)
        print(f"Number of divergences: {int(self.record.statistics['diverging'].sum())}")


def _check_start(target: Target, start: Tensor, whose: str) -> None:
    """A chain goes nowhere from a start [dim, chains] without a finite density and gradient."""
    value, gradient = target.log_density_and_gradient(start)
    good = value.isfinite() & gradient.isfinite().all(0)
    if not bool(good.all()):
        raise ValueError(
            f"{whose} give a log density of {value[~good].tolist()} for chains "
            f"{(~good).nonzero()[:, 0].tolist()}; a start needs a finite density and gradient."
        )


def _validate(target: Target, position: Tensor) -> None:
    """Run the user's model once at a start with validation on."""
    program: Any = target.program
    model = getattr(program, "user_model", None)
    if model is None:
        return
    values = target.evaluate(position).latents
    with pyro.validation_enabled(True), poutine.block():
        conditioned = poutine.condition(model, data=values)
        trace = poutine.trace(conditioned).get_trace(*program.args, **program.kwargs)
        trace.compute_log_prob()


def _warn_if_coarse(result: Result) -> None:
    """Float32 resolves a log density to about |log p| * 1.2e-7: too coarse beyond some 10^5."""
    log_density = result.draws.statistics["lp"]
    resolution = torch.finfo(log_density.dtype).eps * float(log_density.abs().median())
    if resolution > 0.05:
        warnings.warn(
            f"The log density is about {float(log_density.median()):.3g}, which "
            f"{log_density.dtype} resolves only to {resolution:.2g}: acceptance decisions are "
            "partly rounding error. "
            "Use torch.set_default_dtype(torch.float64), and data in float64.",
            stacklevel=3,
        )
