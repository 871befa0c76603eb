"""MCMC in Pyro's shape: the same arguments, many chains in one process, results for ArviZ."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from os import PathLike
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.inference_data import print_table
from pyro_ebm.shards import SerialExecutor, check_executor
from pyro_ebm.target import Target, worthwhile_threads

from ..run import Plan, Progress, Result, run_chains
from .any_kernel import AnyKernel, check_kernel
from .arguments import check_seconds, check_whole, folder_of
from .beginning import (
    Options,
    closed,
    example_of,
    make_record,
    new_contents,
    opened,
    options_of,
    starts_of,
    taken_up,
)
from .diagnosis import diagnose
from .export import RunRecord, predict, to_arviz
from .folder import check_free, check_same, warn_if_elsewhere
from .gears import Chains, Gear, gear_of, same_gear
from .identity import Identity, identity, settings_of
from .mixed import warmup_of
from .outcome import outcome, tell
from .progress import ProgressBar
from .samples import diagnostics, get_samples
from .shard_folder import is_sharded, resumed_options
from .sharded import (
    Place,
    Whole,
    check_no_crossing,
    check_shards,
    run_shards,
    shard_size_of,
    shards_taken_up,
    tell_of_shards,
)
from .starts import Starts, given_starts, initial_starts, one_chain_of, starts_after, validate
from .stopping import UntilESS, check_stop
from .store import RESUME, Contents, RunStore, StoreOptions, read_contents


class MCMC:
    """Run a kernel with many chains at once, each counted for itself.

    The arguments up to ``save_params`` are those of :class:`pyro.infer.MCMC`; four chains are the
    default, and hundreds cost little more.

    :param kernel: :class:`NUTS`, :class:`HMC` or :class:`ChEESHMC` of this package; for a discrete
        energy :class:`Gibbs`, :class:`GibbsWithGradients`, :class:`PathAuxiliary`,
        :class:`DiscreteLangevin` or :class:`SwendsenWang`, or what :func:`auto_kernel` chooses.
    :param num_samples: draws kept per chain.
    :param warmup_steps: transitions per chain before; as many as ``num_samples`` unless given.
    :param initial_params: unconstrained starts by site, leading axis the chains (for one chain also
        without it); of a discrete energy configurations ``x``.
    :param num_chains: chains, 1 to several thousand. From 128 on they start from 8 over-dispersed
        points, shared by equal groups, which nested R-hat needs. From 16 on points that
        ``init_to_uniform`` has drawn are first brought near to what is sampled.
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
    :param store: a folder, which must not be there yet (``"run.zarr"``): draws, statistics and
        sites go there while the run goes on, so that memory does not grow with them, and so does
        what :meth:`resume` needs. :func:`.from_store` reads it without the model.
    :param checkpoint_seconds: with ``store``, the time between two states from which a run that
        was killed can be resumed; one is written when a run ends too, however it ends.
    :param chain_batch_size: evaluate the density for so many chains at a time, which bounds the
        memory that large data or nets need; all at once unless given.
    :param executor: makes the chains in shards of ``shard_size``, each with a random stream and a
        warm-up of its own, on whatever has the interface of :class:`concurrent.futures.Executor`:
        :class:`.WorkerProcesses`, a ``ProcessPoolExecutor``, ``client.get_executor()`` of a Dask
        client. The draws do not depend on it, and :class:`.SerialExecutor` makes the same here.
    :param shard_size: chains of a shard, 256 unless given; with ``executor`` only.
    :param stop: ends the run at fewer draws than ``num_samples`` when these are worth enough:
        :class:`.UntilESS`. Not with ``store``, which goes on where it is told to.
    """

    def __init__(
        self,
        kernel: AnyKernel,
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
        store: str | PathLike[str] | None = None,
        checkpoint_seconds: float | int = 60.0,
        stop: UntilESS | None = None,
        chain_batch_size: int | None = None,
        executor: Executor | None = None,
        shard_size: int | None = None,
    ) -> None:
        check_kernel(kernel)
        steps = 0 if warmup_steps is None else warmup_steps
        check_whole("num_samples", num_samples, 1)
        check_whole("num_chains", num_chains, 1)
        check_whole("thinning", thinning, 1)
        check_whole("warmup_steps", steps, 0)
        if chain_batch_size is not None:
            check_whole("chain_batch_size", chain_batch_size, 1)
        check_executor(executor)
        shard_size = shard_size_of(shard_size, executor)
        if executor is not None:
            check_shards(num_chains, shard_size)
            check_no_crossing({"stop": stop, "hook_fn": hook_fn, "warmup_from": warmup_from})
        kernel.check_num_chains(num_chains if executor is None else min(num_chains, shard_size))
        if sites is not None and save_params is not None and set(sites) != set(save_params):
            raise ValueError("sites and save_params name the same thing; give one of them.")
        if warmup_from is not None and initial_params is not None:
            raise ValueError(
                "Give initial_params or warmup_from, not both: both say where to start."
            )
        check_seconds("checkpoint_seconds", checkpoint_seconds)
        check_stop(stop)
        if stop is not None and (store is not None or sites or save_params):
            raise ValueError(
                "stop= looks at all coordinates in memory: leave out store= and sites=."
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
        self.store = None if store is None else folder_of("store", store)
        self.checkpoint_seconds = float(checkpoint_seconds)
        self.stop = stop
        self.chain_batch_size = chain_batch_size
        self.executor, self.shard_size = executor, shard_size
        # Decided when it runs, unless it is a shard, which is told.
        self.seed: int | None = None
        self.gear: str | None = None
        self._resumes = False
        self._wanted: int | None = None
        self._record: RunRecord | None = None
        self._result: Result | None = None

    @classmethod
    def resume(
        cls,
        path: str | PathLike[str],
        kernel: AnyKernel,
        *,
        num_samples: int | None = None,
        executor: Executor | None = None,
        disable_progbar: bool = False,
        hook_fn: Callable | None = None,
        checkpoint_seconds: float | int | None = None,
        chain_batch_size: int | None = None,
    ) -> MCMC:
        """Go on with a run that was killed, interrupted, failed, or has finished.

        ``MCMC.resume("run.zarr", NUTS(model)).run(*args)`` makes the draws that the run would have
        made, one for one. Other arguments are those that the run was begun with, but for four that
        are the class's and change no draw: ``disable_progbar``, ``hook_fn``, ``checkpoint_seconds``
        and ``chain_batch_size``, by which a run that has met the end of the memory goes on, with
        draws that may differ by rounding. The last two are as before unless given.

        :param path: the ``store=`` of the run.
        :param kernel: the kernel, on the model, that the run was begun with.
        :param num_samples: draws per chain, with those that are there; as before unless given.
        :param executor: of a run in shards, makes those that are missing; another than before if
            you like. Unless given they are made here, one after another.
        :raises FileNotFoundError: there is no run.
        :raises ValueError: a file is damaged, or fewer draws are asked for than there are. And
            :meth:`run` raises it where kernel, model or arguments are not those of the run.
        """
        folder = folder_of("path", path)
        check_executor(executor)
        if num_samples is not None:
            check_whole("num_samples", num_samples, 1)
        new: dict[str, Any] = {"disable_progbar": disable_progbar, "hook_fn": hook_fn}
        if checkpoint_seconds is not None:
            new["checkpoint_seconds"] = checkpoint_seconds
        if chain_batch_size is not None:
            new["chain_batch_size"] = chain_batch_size
        if is_sharded(folder):
            known = {**resumed_options(folder, num_samples), **new}
            mcmc = cls(kernel, store=folder, executor=executor or SerialExecutor(), **known)
            mcmc._resumes = True
            return mcmc
        if executor is not None:
            raise ValueError(f"{folder} is a run in one piece: resume it without executor=.")
        options, wanted = options_of(folder, read_contents(folder), num_samples)
        mcmc = cls(kernel, wanted, store=folder, **{**options._asdict(), **new})
        mcmc._resumes, mcmc._wanted = True, num_samples
        return mcmc

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Run the chains; the arguments are the model's.

        Ctrl-C ends the run early and keeps what every chain has drawn, marked as partial.

        :raises ValueError: when the model cannot be sampled rightly, no start can be found, or a
            run that is resumed was one of something else.
        :raises FileExistsError: ``store`` is there already.
        """
        self._record = self._result = None
        if self.executor is not None:
            self._run_in_shards(self.executor, args, kwargs)
            return
        contents = None
        with poutine.block(), contextlib.ExitStack() as stack:
            if self.store and self._resumes:
                contents = stack.enter_context(taken_up(self.store))
                _, self.num_samples = options_of(self.store, contents, self._wanted)
            elif self.store:
                check_free(self.store, RESUME)
            target = self.kernel.target(args, kwargs, self._example_params(contents))
            seed = int(torch.randint(2**63 - 1, ()))
            if self.seed is not None:
                seed = self.seed
            if contents is not None:
                seed = int(contents.run.about["attrs"]["seed"])
            generator = torch.Generator(target.device).manual_seed(seed)
            num_threads = stack.enter_context(worthwhile_threads(target, self.num_chains))
            now = self._identity(target, args, kwargs) if self.store else {}
            if self.store and contents is not None:
                check_same(self.store, contents.run, target, now)
            starts = self._starts(target, generator, contents)
            gear = self._gear(target, starts.positions, contents)
            attributes = self._attributes(target, seed, num_threads, gear)
            if self.disable_validation is False:
                validate(target, starts.positions[:, 0])
            store = None
            if self.store:
                if contents is None:
                    contents = new_contents(
                        target,
                        starts,
                        self._options(),
                        num_samples=self.num_samples,
                        identity=now,
                        attributes=attributes,
                    )
                else:
                    warn_if_elsewhere(self.store, contents.run.about["attrs"], attributes)
                options = StoreOptions(
                    self._coordinates(target), self.num_samples, self.checkpoint_seconds
                )
                store = stack.enter_context(opened(self.store, contents, target, options))
            began = time.perf_counter()
            result = self._run(target, starts.positions, generator, gear, starts.superchains, store)
            seconds = time.perf_counter() - began if store is None else store.sampling_time
        self._result = result
        settings = None if result.state is None else result.state.settings
        learned = {} if settings is None else self.kernel.learned(settings)
        if self.stop is not None:
            learned = {**learned, "stopped": result.draws.rows < self.num_samples}
        self._record = make_record(
            target,
            result,
            store,
            coordinates=self._coordinates(target),
            sites=self.sites,
            superchain_ids=starts.superchains,
            attrs={**attributes, **outcome(result, seconds), **learned},
            max_tree_depth=self.kernel.max_tree_depth,
            complete=result.error is None,
            thinning=self.thinning,
        )
        self._examine(generator)
        tell(result, self.num_samples)

    def _examine(self, generator: torch.Generator) -> None:
        assert self._record is not None
        seen = self.kernel.examined(self._record, generator)
        self._record = self._record._replace(attrs={**self._record.attrs, **seen})

    def _run_in_shards(self, executor: Executor, args: tuple, kwargs: Mapping[str, Any]) -> None:
        with poutine.block(), contextlib.ExitStack() as stack:
            run = None
            if self.store and self._resumes:
                run = stack.enter_context(shards_taken_up(self.store))
            elif self.store:
                check_free(self.store, RESUME)
            contents = None if run is None else Contents(run.saved, run.saved)
            target = self.kernel.target(args, kwargs, self._example_params(contents))
            options = {
                **self._options()._asdict(),
                "num_samples": self.num_samples,
                "shard_size": self.shard_size,
            }
            whole = Whole(
                type(self),
                self.kernel,
                target,
                args,
                kwargs,
                options=options,
                others={"disable_validation": self.disable_validation},
                initial_params=self.initial_params,
                identity=self._identity(target, args, kwargs),
            )
            place = Place(executor, self.store, run, self.disable_progbar)
            self._record, error = run_shards(whole, place)
            if self.store and self._record.num_chains:
                # What shards have looked at after their runs is in no folder.
                generator = torch.Generator(target.device)
                self._examine(generator.manual_seed(int(self._record.attrs["seed"])))
        tell_of_shards(self._record, error)

    def _identity(self, target: Target, args: tuple, kwargs: Mapping[str, Any]) -> Identity:
        return identity(target, args, kwargs, kernel=settings_of(self.kernel))

    def _options(self) -> Options:
        assert self.warmup_steps is not None
        return Options(
            self.num_chains,
            self.warmup_steps,
            self.thinning,
            self.sites,
            self.save_warmup,
            self.checkpoint_seconds,
            self.chain_batch_size,
        )

    def _gear(self, target: Target, start: Tensor, contents: Contents | None) -> Gear:
        chains = Chains(start, self.chain_batch_size)
        if contents is not None:
            return same_gear(contents.run.about["attrs"]["gear"], self.kernel, target, chains)
        if self.gear is not None:
            return same_gear(self.gear, self.kernel, target, chains)
        assert self.warmup_steps is not None
        transitions = self.warmup_steps + self.num_samples * self.thinning
        return gear_of(self.kernel, target, chains, transitions)

    def _run(
        self,
        target: Target,
        start: Tensor,
        generator: torch.Generator,
        gear: Gear,
        superchain_ids: Tensor | None,
        store: RunStore | None,
    ) -> Result:
        assert self.warmup_steps is not None
        plan = Plan(
            self.num_samples,
            warmup_of(self.kernel, target, self.warmup_steps),
            thinning=self.thinning,
            coordinates=self._coordinates(target),
            keep_warmup=self.save_warmup,
            stop=None if self.stop is None else self.stop.stop(self.num_samples, superchain_ids),
        )
        settings = None
        if self.warmup_from is not None:
            settings = self.kernel.adopted(self.warmup_from._state().settings)
        with ProgressBar(disable=self.disable_progbar) as bar:

            def report(progress: Progress) -> None:
                bar.update(progress)
                if self.hook_fn is not None:
                    draws = progress.draws.positions
                    self.hook_fn(self.kernel, draws, progress.stage, progress.done)

            result = run_chains(
                gear.problem,
                gear.kernel,
                start,
                plan,
                generator=generator,
                settings=settings,
                report=report,
                storage=store,
            )
        return result if store is None else closed(result, store)

    def _coordinates(self, target: Target) -> Tensor | None:
        return None if self.sites is None else target.coordinates_of(self.sites)

    def _starts(
        self, target: Target, generator: torch.Generator, contents: Contents | None
    ) -> Starts:
        if contents is not None:
            return starts_of(contents, target)
        if self.warmup_from is not None:
            before, last = self.warmup_from.record.target, self.warmup_from._state().position
            return starts_after(target, before, last, self.num_chains)
        if self.initial_params is not None:
            return given_starts(target, self.initial_params, self.num_chains)
        strategy = self.kernel.init_strategy
        # A density that lacks log Z(theta) rises towards no place that matters.
        uphill = not self.kernel.lacks_log_z
        return initial_starts(
            target, self.num_chains, strategy=strategy, generator=generator, uphill=uphill
        )

    def _example_params(self, contents: Contents | None) -> Mapping[str, Tensor] | None:
        """One chain's worth of initial_params, for a potential_fn whose shapes they give."""
        if self.kernel.potential_fn is None:
            return self.initial_params
        if contents is not None:
            return example_of(contents)
        if self.initial_params is None:
            return None
        return one_chain_of(self.initial_params, self.num_chains)

    def _state(self) -> Any:
        if self.executor is not None:
            raise ValueError(
                "warmup_from= needs a run in one piece: of one in shards each has learned its own."
            )
        if self._result is None or self._result.state is None:
            raise ValueError("warmup_from= needs an MCMC that has run.")
        return self._result.state

    def _attributes(
        self, target: Target, seed: int, num_threads: int, gear: Gear
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
            "gear": gear.name,
            **({"why_sampled": dict(target.why_sampled)} if target.why_sampled else {}),
            **({"chain_batch_size": self.chain_batch_size} if self.chain_batch_size else {}),
        }

    @property
    def record(self) -> RunRecord:
        """Everything that the run has kept.

        :raises RuntimeError: before the run, or when it was interrupted before the first draw.
        """
        record = self.last_record
        if record.num_draws == 0:
            raise RuntimeError("The run ended before every chain had made its first draw.")
        return record

    @property
    def last_record(self) -> RunRecord:
        """The same, also where there is no draw.

        :raises RuntimeError: before the run.
        """
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
        return get_samples(self.record, num_samples, group_by_chain=group_by_chain)

    def diagnostics(self) -> dict[str, Any]:
        """Per latent site ``n_eff`` and ``r_hat``, and per chain divergences and acceptance."""
        return diagnostics(self.record)

    def to_arviz(self, **options: Any) -> Any:
        """The run as ArviZ data; the options are those of :func:`.export.build_groups`."""
        return to_arviz(self.record, **options)

    def diagnose(self) -> str:
        """What is wrong with the run and what to do about it, or that all is well, in sentences.

        :raises RuntimeError: before the run.
        """
        return diagnose(self.last_record)

    def predict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Posterior predictive draws for new arguments of the model: [chain, draw, ...] by site."""
        return predict(self.record, *args, **kwargs)

    def summary(self, prob: float = 0.9) -> None:
        """Print ArviZ's table of the latent and deterministic sites."""
        data = self.to_arviz(log_likelihood=False, log_prior=False)
        print_table(data, interval_probability=prob)
        if self.record.target.continuous_dim > 0:
            print(f"Number of divergences: {int(self.record.statistics['diverging'].sum())}")
