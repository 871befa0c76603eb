"""The one sampling loop: warm up, settle, keep, for all chains at once and each at its own pace.

Chains are counted one by one. Adaptation stops for all when the slowest chain has made its share;
a chain that is inside a tree then ends it, makes twenty more transitions of its own, so that the
trees that happened to be open at a common step are forgotten, and then keeps its draws. The run
ends when the slowest chain has them all; what faster chains made beyond is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .adaptation import SETTLE
from .draws import STATISTICS as STATISTICS
from .draws import Draws as Draws
from .draws import Keeping, StoredDraws
from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from .metric import DiagonalMetric

# Random numbers drawn at once, and steps of a block even where fewer may be enough.
_NOISE_NUMBERS, _SHORT_BLOCK = 2**20, 16


class Problem(NamedTuple):
    """What to sample: the batched density, and the same recorded for this number of chains.

    Beside the log density it gives what a kernel moves by: a gradient, or the changes of a discrete
    target.
    """

    log_density_and_gradient: LogDensityAndGradient
    record: Callable[..., Callable]


class Stop(NamedTuple):
    """When to end before all draws are made: asked at each number of draws in ``looks``, which
    rise, of the positions of so many draws of every chain [draw, coordinate, chain]."""

    looks: tuple[int, ...]
    is_enough: Callable[[Tensor], bool]


@runtime_checkable
class WarmupPlan(Protocol):
    """What to learn before draws are kept, and in how many transitions of every chain."""

    @property
    def num_steps(self) -> int:
        """Transitions of every chain, the last twenty without learning."""
        ...

    def begin(
        self,
        density: LogDensityAndGradient,
        position: Tensor,
        log_density: Tensor,
        gradient: Tensor,
        momentum: Tensor,
        *,
        settings: Settings | None,
    ) -> Any:
        """The state of learning at the starts; its ``settings`` are what kernels take up."""
        ...

    def learn(self, state: Any, transition: Transition, versions: Tensor) -> tuple[Any, bool]:
        """Take in one step of all chains; tells whether all is learned."""
        ...


class Plan(NamedTuple):
    """How long: draws kept per chain, every ``thinning``-th transition, and which coordinates."""

    num_samples: int
    warmup: WarmupPlan
    thinning: int = 1
    coordinates: Tensor | None = None
    keep_warmup: bool = False
    stop: Stop | None = None


class Progress(NamedTuple):
    """Where a run stands: transitions of the slowest chain in this stage, of how many."""

    stage: str
    done: int
    total: int
    step_size: float
    draws: Draws | StoredDraws


class RunState(NamedTuple):
    """The whole state of a run between two blocks of steps, tensors only.

    ``transitions`` [chains] counts every transition that a chain has ended; it keeps those from
    number ``keep_from`` on. ``num_steps`` counts steps, of which ``warmup_num_steps`` were warm-up.
    ``generator`` is the state of the random stream.
    """

    chain: Any
    settings: Settings
    adaptation: Any
    position: Tensor
    transitions: Tensor
    keep_from: Tensor
    num_steps: int
    warmup_num_steps: int
    generator: Tensor


@runtime_checkable
class Storage(Protocol):
    """Where a run is kept while it goes on."""

    draws: StoredDraws
    warmup_draws: StoredDraws | None

    def begin(self, state: RunState) -> RunState:
        """Take in the first state, or give that of an earlier run in its place."""
        ...

    def save(self, state: RunState) -> None:
        """Called between blocks of steps with what the run could go on from."""
        ...


class Result(NamedTuple):
    """A finished or interrupted run; ``state`` is None when it ended before the first block."""

    draws: Draws | StoredDraws
    warmup_draws: Draws | StoredDraws | None
    state: RunState | None
    error: BaseException | None

    @property
    def warmup_num_steps(self) -> int:
        """Steps made before adaptation had ended."""
        return 0 if self.state is None else self.state.warmup_num_steps


def run_chains(
    problem: Problem,
    kernel: Kernel,
    start: Tensor,
    plan: Plan,
    *,
    generator: torch.Generator,
    settings: Settings | None = None,
    report: Callable[[Progress], None] | None = None,
    storage: Storage | None = None,
) -> Result:
    """Run all chains from their starts [dim, chains].

    :param settings: step size and metric of an earlier run, from which this one goes on.
    :param report: called between blocks of steps.
    :param storage: keeps draws and states outside of memory, and may hold a run to go on with.
    :returns: also when it was interrupted or the density raised: then ``error`` says by what, and
        ``draws`` holds what there is.
    """
    dim, chains = start.shape
    rows = dim if plan.coordinates is None else len(plan.coordinates)
    advance = _Steps(problem, kernel, plan.coordinates)
    if storage is not None:
        draws, before = storage.draws, storage.warmup_draws
    else:
        draws = Draws(plan.num_samples, rows, chains, start)
        before = Draws(plan.warmup.num_steps, rows, chains, start) if plan.keep_warmup else None
    error: BaseException | None = None
    state: RunState | None = None

    def between(stage: str, now: RunState) -> None:
        if storage is not None:
            storage.save(now)
        if report is not None:
            report(_progress(stage, now, plan, draws))

    try:
        first = _begin(problem, kernel, start, plan, generator, settings)
        if storage is not None:
            first = storage.begin(first)
            generator.set_state(first.generator)
        state = warm = first
        if first.adaptation is not None:
            for warm in _warm_up(kernel, advance, plan, generator, first, before):
                state = warm
                between("warmup", state)
        for state in _keep(kernel, advance, plan, generator, warm, before, draws):
            between("sample", state)
    except (KeyboardInterrupt, Exception) as caught:
        error = caught
    return Result(draws, before, state, error)


def _progress(stage: str, state: RunState, plan: Plan, draws: Draws | StoredDraws) -> Progress:
    if stage == "warmup":
        done, total = int(state.transitions.min()), plan.warmup.num_steps
    else:
        done, total = draws.complete, plan.num_samples
    return Progress(stage, min(done, total), total, float(state.settings.step_size.median()), draws)


class _Steps:
    """The kernel's step with its record of draws, traced once for every shape of the metric."""

    def __init__(self, problem: Problem, kernel: Kernel, coordinates: Tensor | None) -> None:
        self._problem, self._kernel, self._coordinates = problem, kernel, coordinates
        self._recorded: dict[tuple, Callable] = {}

    def __call__(
        self, chain: Any, noise: Noise, settings: Settings
    ) -> tuple[Any, Transition, Tensor]:
        shapes = tuple(part.shape for part in settings.metric)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._problem.record(self._step, chain, noise, settings)
        return self._recorded[shapes](chain, noise, settings)

    def keep_block(
        self, chain: Any, block: Noise, settings: Settings, keeping: Keeping
    ) -> tuple[Any, Tensor]:
        """A block of steps of a kernel that keeps its draws by itself."""
        assert self._kernel.keep_block is not None
        density = self._problem.log_density_and_gradient
        return self._kernel.keep_block(density, chain, block, settings, keeping)

    def _step(self, chain: Any, noise: Noise, settings: Settings) -> tuple[Any, Transition, Tensor]:
        density = self._problem.log_density_and_gradient
        chain, transition = self._kernel.step(density, chain, noise, settings)
        return chain, transition, _record(transition, self._coordinates)


def _begin(
    problem: Problem,
    kernel: Kernel,
    start: Tensor,
    plan: Plan,
    generator: torch.Generator,
    settings: Settings | None,
) -> RunState:
    """The state before the first step."""
    log_density, gradient = problem.log_density_and_gradient(start)
    momentum = torch.randn(start.shape, generator=generator, dtype=start.dtype, device=start.device)
    adaptation = plan.warmup.begin(
        problem.log_density_and_gradient,
        start,
        log_density,
        gradient,
        momentum,
        settings=settings,
    )
    count = torch.zeros(start.shape[1], dtype=torch.long, device=start.device)
    return RunState(
        chain=kernel.init(start, log_density, gradient, adaptation.settings),
        settings=adaptation.settings,
        adaptation=adaptation,
        position=start,
        transitions=count,
        keep_from=count,
        num_steps=0,
        warmup_num_steps=0,
        generator=generator.get_state(),
    )


def _warm_up(
    kernel: Kernel,
    advance: _Steps,
    plan: Plan,
    generator: torch.Generator,
    state: RunState,
    before: Draws | StoredDraws | None,
) -> Iterator[RunState]:
    """Adapt; the last state yielded has the settings that the draws are made with."""
    warmup = plan.warmup
    adapting = warmup.num_steps > SETTLE
    while adapting:
        block = _noise(kernel, state, generator, most=kernel.block)
        state = state._replace(chain=kernel.make_room(state.chain, len(block.normal)))
        for noise in _each_step(block):
            chain, transition, record = advance(state.chain, noise, state.settings)
            assert state.adaptation is not None
            adaptation, complete = warmup.learn(state.adaptation, transition, chain.version)
            if before is not None:
                before.write(transition.done, record)
            state = state._replace(
                chain=chain,
                adaptation=adaptation,
                settings=adaptation.settings,
                position=transition.position,
                transitions=state.transitions + transition.done,
                num_steps=state.num_steps + 1,
                warmup_num_steps=state.num_steps + 1,
            )
            if complete:
                adapting = False
                break
        state = state._replace(generator=generator.get_state())
        if adapting:
            yield state
    # A chain inside a tree ends it first, and that transition does not count as one of the twenty.
    inside = (~state.chain.fresh).long()
    settle = min(SETTLE, warmup.num_steps)
    state = state._replace(
        keep_from=state.transitions + (settle + inside if settle else 0), adaptation=None
    )
    yield _with_one_version(state)


def _keep(
    kernel: Kernel,
    advance: _Steps,
    plan: Plan,
    generator: torch.Generator,
    state: RunState,
    before: Draws | StoredDraws | None,
    draws: Draws | StoredDraws,
) -> Iterator[RunState]:
    """Settle, then keep every ``thinning``-th transition until the slowest chain is done."""
    looks = [] if plan.stop is None else [*plan.stop.looks]
    while draws.complete < plan.num_samples:
        while plan.stop is not None and looks and draws.complete >= looks[0]:
            look = looks.pop(0)
            if plan.stop.is_enough(draws.positions[:look]):
                # What faster chains made beyond counts no more than it would at the end.
                draws.rows = look
                return
        # Every draw that lacks takes a step at least.
        needed = (plan.num_samples - draws.complete) * plan.thinning
        block = _noise(kernel, state, generator, most=max(_SHORT_BLOCK, needed))
        state = state._replace(chain=kernel.make_room(state.chain, len(block.normal)))
        keep_block = _keep_step_by_step if kernel.keep_block is None else _keep_at_once
        state = keep_block(advance, plan, state, block, before, draws)
        yield state._replace(generator=generator.get_state())


def _keep_step_by_step(
    advance: _Steps,
    plan: Plan,
    state: RunState,
    block: Noise,
    before: Draws | StoredDraws | None,
    draws: Draws | StoredDraws,
) -> RunState:
    for noise in _each_step(block):
        chain, transition, record = advance(state.chain, noise, state.settings)
        transitions = state.transitions + transition.done
        ordinal = transitions - state.keep_from
        keep = transition.done & (ordinal > 0) & (ordinal % plan.thinning == 0)
        draws.write(keep, record)
        if before is not None:
            before.write(transition.done & (ordinal <= 0), record)
        state = state._replace(
            chain=chain,
            position=transition.position,
            transitions=transitions,
            num_steps=state.num_steps + 1,
        )
    return state


def _keep_at_once(
    advance: _Steps,
    plan: Plan,
    state: RunState,
    block: Noise,
    before: Draws | StoredDraws | None,
    draws: Draws | StoredDraws,
) -> RunState:
    """The same by a kernel that counts and writes in place, to what no earlier state holds."""
    num_steps = len(block.normal)
    keeping = Keeping(
        transitions=state.transitions.clone(),
        keep_from=state.keep_from,
        thinning=plan.thinning,
        coordinates=plan.coordinates,
        draws=draws.sink(num_steps),
        before=None if before is None else before.sink(num_steps),
    )
    chain, position = advance.keep_block(state.chain, block, state.settings, keeping)
    return state._replace(
        chain=chain,
        position=position,
        transitions=keeping.transitions,
        num_steps=state.num_steps + num_steps,
    )


def _noise(kernel: Kernel, state: RunState, generator: torch.Generator, *, most: int) -> Noise:
    """The random numbers of the next block of steps, which are the first axis."""
    like = state.position
    dim, chains = like.shape
    steps = max(1, min(kernel.block, most, _NOISE_NUMBERS // (dim * chains)))
    kind = {"generator": generator, "dtype": like.dtype, "device": like.device}
    if kernel.normals:
        normal = torch.randn((steps, dim, chains), **kind)
    else:
        normal = torch.randint(2**62, (steps,), generator=generator, device=like.device)
    return Noise(normal, torch.rand((steps, kernel.uniforms, chains), **kind))


def _each_step(block: Noise) -> list[Noise]:
    return [Noise(*pair) for pair in zip(block.normal, block.uniform, strict=True)]


def _record(transition: Transition, coordinates: Tensor | None) -> Tensor:
    """One record [coordinates + statistics, chains] of what the chains report."""
    position = transition.position
    if coordinates is not None:
        position = position.index_select(0, coordinates)
    parts = (
        transition.log_density,
        transition.acceptance_rate,
        transition.energy,
        transition.energy_error,
        transition.tree_depth,
        transition.n_steps,
        transition.diverging,
        transition.reached_max_treedepth,
        transition.step_size,
    )
    return torch.cat([position, torch.stack([part.to(position.dtype) for part in parts])])


def _with_one_version(state: RunState) -> RunState:
    """Drop the metric that no chain uses any more: half of the work of a dense metric."""
    metric = state.settings.metric
    if isinstance(metric, DiagonalMetric) or metric[0].shape[0] == 1:
        return state
    used = int(state.settings.version)
    kept = type(metric)(*(part[used : used + 1] for part in metric))
    settings = state.settings._replace(
        metric=kept, version=torch.zeros_like(state.settings.version)
    )
    chain = state.chain._replace(version=torch.zeros_like(state.chain.version))
    return state._replace(settings=settings, chain=chain)
