"""One run under way: its state, checkpoints, reporters and evaluations, from begin to record."""

import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Literal

import jax

from lm import processes
from lm.data.mixture import Mixture
from lm.data.pipeline import batches
from lm.data.prepare import Prepared
from lm.errors import UserError
from lm.planning.budget import SECONDS_PER_HOUR
from lm.planning.devices import peak_flops
from lm.planning.flops import FlopCount, train_flops
from lm.training import origin
from lm.training.checkpoint import Checkpoints
from lm.training.digest import not_finite
from lm.training.evaluate import HeldOut, MixtureScore, mixed_rows
from lm.training.interrupt import Interrupt
from lm.training.loop import Boundary, NonFinite, Report, rows_of, run_loop
from lm.training.mirror import Mirror
from lm.training.noise_scale import NoiseScale
from lm.training.outside import Loggers
from lm.training.profile import Profiler, Steps, shares, table, write
from lm.training.program import Program
from lm.training.record import account, params_sha256, plot_loss, summarise
from lm.training.reporters import Counts, MetricsLog, Pace, Progress
from lm.training.resume import Start, plateau_end
from lm.training.step import State
from lm.training.tensorboard import TensorBoard
from lm.training.workdir import Workdir, append_jsonl, cut_jsonl, differences, write_json

Hear = Callable[[dict[str, Any]], None]
"""Is told of rows of metrics.jsonl and of evaluations: TensorBoard and the loggers."""


class Session:
    """A run in a workdir, as a context: `begin`, then `run`."""

    def __init__(
        self,
        folder: Workdir,
        program: Program,
        mixture: Mixture,
        watched: Mapping[str, Prepared],
        start: Start,
        strict: bool,
        profile_steps: Steps | None = None,
    ):
        self.folder, self.program, self.mixture = folder, program, mixture
        self.start, self.strict = start, strict
        self.config = program.config
        end = plateau_end(self.config)
        self.checkpoints = Checkpoints(
            folder.checkpoints, self.config.checkpoint,
            always=[] if end is None else [end], stored=folder.stored,
        )  # fmt: skip
        self.mirror = Mirror(folder)
        self.held_out = HeldOut(program, mixture, watched)
        self.held = program.layout.held_rows(self.config.train.batch_size)
        train = self.config.train
        self.rows = mixed_rows(program.objective, mixture, train.seed)
        self.counts = Counts(
            program.objective, self.held, self.rows, self.config.data.overfit_batches
        )
        self.profiler = None
        if profile_steps is not None:
            self.profiler = Profiler(folder.path / 'profile', profile_steps)
        self.noise = NoiseScale(train.batch_size) if train.noise_scale else None

    def __enter__(self) -> 'Session':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends a trace, waits for the checkpoint being written and lets go of the folder."""
        if self.profiler is not None:
            self.profiler.close()
        if error is None:
            self.checkpoints.close()
        elif not isinstance(error, KeyboardInterrupt):  # who presses Ctrl-C twice waits for nothing
            with contextlib.suppress(UserError):  # the error under way is the one to be told
                self.checkpoints.close()
            with contextlib.suppress(UserError):
                self.mirror.close()

    def begin(self, fork: tuple[Workdir, int] | None) -> None:
        """Finds the state to begin with and puts the workdir's files in step with it.

        Raises:
          UserError: what is to be gone on from is missing or damaged, or the disk refuses.
        """
        found = self._origin(fork)
        self.state = found.state
        self.first_step = int(found.state.step)
        kept = found.kept or {}
        if 'counts' in kept:
            self.counts.from_json(kept['counts'])
        else:
            self.counts.first_row = self.first_step * self.config.train.batch_size
        if self.noise is not None and 'noise_scale' in kept:
            self.noise.from_json(kept['noise_scale'])
        self._cut(self.first_step)
        for path, (old, new) in self.start.changes.items():
            processes.tell(f'changed    {path}: {old!r} -> {new!r}')
        # A new run tells what was left open and how it was filled in.
        new_run = {**differences(self.start.config, self.config), **found.changes}
        changes = self.start.changes if self.start.resumes else new_run
        if changes:
            self.folder.add_history(self.first_step, changes, found.parameters)
        if self.start.resumes:
            processes.tell(f'going on   from step {self.first_step}')
        elif self.first_step:
            # On disk before config.json says that a run began here: after a kill in between, the
            # same command branches off once more, it does not start from nothing.
            self._save(self.first_step, self.state)
            self._wait()
        self.folder.write_config(self.config)
        self.folder.write_tokenizer(self.mixture.tokenizer.files)
        self.mirror.begin()

    def run(self) -> dict[str, Any]:
        """Compiles, loops, saves, evaluates and writes the record; returns the summary.

        Raises:
          UserError: a loss that is not finite, or a disk that refuses.
          SystemExit: a signal asked for the end.
        """
        train = self.config.train
        if self.profiler is not None:
            self.profiler.require_within(self.first_step + 1, train.steps)
        with Loggers(self.folder, self.config) as loggers:
            compile_seconds, step = self._compiled()
            flops, peak = self._flops(), self._peak()
            pace = Pace(self.rows.stride * train.batch_size, flops.row * train.batch_size, peak)
            pace.start(self.first_step)
            with closing(TensorBoard(self.folder, self.first_step)) as board:

                def hear(row: dict[str, Any]) -> None:
                    board(row)
                    loggers(row)

                with Interrupt() as interrupt:
                    stopped_by = self._loop(step, pace, hear, interrupt)
                summary = self._finish(hear, flops, peak, compile_seconds, stopped_by)
            loggers.end(summary)
            self.mirror.push()
            self.mirror.wait()
            return summary

    def _loop(
        self, step: Any, pace: Pace, hear: Hear, interrupt: Interrupt
    ) -> Literal['steps', 'hours']:
        """Takes the steps and saves the last state; which of the two limits was reached."""
        train = self.config.train
        with (
            closing(Progress(self.first_step, train.steps)) as progress,
            closing(self._batches(self.first_step)) as batches,
        ):
            log = MetricsLog(
                self.folder, pace, train.log_every_steps, train.steps, self.counts,
                [progress, hear], self.noise,
            )  # fmt: skip
            reporters: list[Callable[[Report], None]] = [self.counts]
            if self.noise is not None:
                reporters.append(self.noise)
            if processes.is_first():
                reporters.append(log)
            if train.hours is not None:
                reporters.append(self._time_limit(train.hours, interrupt))
            try:
                reached, self.state = run_loop(
                    self.program, step, self.state, batches, self.first_step,
                    reporters=reporters,
                    boundaries=self._boundaries(hear),
                    interrupt=interrupt,
                    profiler=self.profiler,
                )  # fmt: skip
                out_of_time = interrupt.stopped_by == 'hours' and reached < train.steps
                if out_of_time and processes.is_first():
                    log.write_last()
                self._save(reached, self.state)
                self._tell_profile(step)
            except NonFinite as error:
                raise UserError(f'{error}; {self._advice()}') from error
        self._wait()
        if out_of_time:
            processes.tell(
                f'lm: train.hours={train.hours}: over after step {reached} of {train.steps}'
            )
            return 'hours'
        if isinstance(interrupt.stopped_by, int) and reached < train.steps:
            processes.tell(f'lm: saved at step {reached}; the same command goes on')
            raise SystemExit(128 + interrupt.stopped_by)
        return 'steps'

    def _time_limit(self, hours: float, interrupt: Interrupt) -> Callable[[Report], None]:
        """Asks for the end once the loop has had its time, now and in earlier runs together."""

        def ask(report: Report) -> None:
            if self.counts.seconds >= hours * SECONDS_PER_HOUR:
                interrupt.time_is_over()

        return ask

    def _origin(self, fork: tuple[Workdir, int] | None) -> origin.Origin:
        if self.start.resumes:
            found = origin.restored(
                self.folder, self.checkpoints, self.program, self.mixture, self.start, self.strict
            )
            return found or origin.fresh(self.program, self.mixture)
        strays = [s for s in self.checkpoints.steps if fork is None or s != fork[1]]
        if strays:
            raise UserError(
                f'workdir={self.folder.name}: holds checkpoints ({", ".join(map(str, strays))}) '
                'but no config.json, so it is not known of what run; give another workdir'
            )
        if fork is None:
            return origin.fresh(self.program, self.mixture)
        return origin.forked(self.program, self.mixture, *fork)

    def _cut(self, step: int) -> None:
        """Removes what later steps left, and what the end of a run does anew."""
        # In this order: killed in between, the folder is that of a run that stopped earlier, and
        # config.json tells of a longer one only after all of it.
        if processes.is_first():
            self.folder.summary_file.unlink(missing_ok=True)
        self.checkpoints.delete_after(step)
        ends = step == self.config.train.steps
        cut_jsonl(self.folder.metrics_file, lambda row: row['step'] <= step)
        cut_jsonl(
            self.folder.eval_file,
            lambda row: row['step'] <= step and not (ends and row['step'] == step and row['whole']),
        )

    def _batches(self, first_step: int) -> Any:
        train = self.config.train
        return batches(
            self.rows,
            self.program.objective.example,
            batch_size=train.batch_size,
            held=self.held.numbers,
            start_row=first_step * train.batch_size,
            seed=train.seed,
            overfit_batches=self.config.data.overfit_batches,
            threads=2,
        )

    def _compiled(self) -> tuple[float, Any]:
        """Compiles the step for this run's batches; the seconds it took, and the step."""
        begin = time.perf_counter()
        compiled = self.program.compiled_step(self.rows.row(0))
        seconds = time.perf_counter() - begin
        # In a step gloo waits half a minute for the others, who may compile for longer.
        processes.wait_for_all()
        return seconds, compiled

    def _tell_profile(self, step: jax.stages.Compiled) -> None:
        """What took long in the traced steps, where some were traced."""
        if self.profiler is None:
            return
        traced = self.profiler.close()
        if traced and processes.is_first():
            device = self.program.layout.mesh.local_devices[0]
            peak = self.program.policy.peak
            found = shares(self.profiler.folder, step, traced, device, peak)
            write(found, self.profiler.folder / 'operations.csv')
            processes.tell(f'profile    {self.folder.name}/profile\n{table(found)}')

    def _flops(self) -> FlopCount:
        objective = self.program.objective
        two_sided = self.program.functional.family == 'encoder_decoder'
        return train_flops(
            self.program.functional,
            self.config.train.seq_len,
            objective.target_len if two_sided else None,
        )

    def _peak(self) -> float | None:
        """FLOP/s of all devices of the mesh together."""
        devices = self.program.layout.mesh.devices
        peak = peak_flops(devices.flat[0].device_kind, self.program.policy.peak)
        return None if peak is None else peak * devices.size

    def _boundaries(self, hear: Hear) -> list[Boundary]:
        """Evaluation first, so that a checkpoint's step has its row in eval.jsonl."""
        last, every = self.config.train.steps, self.config.checkpoint.every_steps
        end = plateau_end(self.config)

        def evaluate(step: int, state: State) -> None:
            score = self.held_out.score(state.params, self.config.eval.batches)
            self._tell_score(hear, step, score, whole=False)
            self.held_out.print_sample(state.params)
            self.mirror.push()

        return [
            Boundary(lambda s: s % self.config.eval.every_steps == 0 and s < last, evaluate),
            Boundary(lambda s: (s % every == 0 or s == end) and s < last, self._save),
        ]

    def _save(self, step: int, state: State) -> None:
        """Begins to save, unless an update left something that is no number."""
        bad = not_finite(state)
        if bad:
            raise NonFinite(
                f'step {step}: its update made {bad[0]} not finite, on rows '
                f'{rows_of(step, self.config.train.batch_size)}'
            )
        noise = None if self.noise is None else self.noise.to_json()
        record = origin.record(self.counts.to_json(), noise, self.mixture)
        self.mirror.wait()  # one at a time: the last one is not removed before this one is there
        self.checkpoints.save(state, record)
        self.mirror.push(step)

    def _wait(self) -> None:
        """Returns when what was saved is where it is to be, rows of metrics too."""
        self.checkpoints.wait()
        self.mirror.push()
        self.mirror.wait()

    def _advice(self) -> str:
        """What is left to go on from after a step that is not finite."""
        self.checkpoints.wait()
        steps = self.checkpoints.steps
        if not steps:
            return 'no checkpoint was saved before; lower optim.peak_lr or set optim.clip_norm'
        return (
            f'the checkpoint of step {steps[-1]} is good: another workdir with '
            f'--fork_from={self.folder.name}@{steps[-1]} and a lower optim.peak_lr goes on from it'
        )

    def _tell_score(self, hear: Hear, step: int, score: MixtureScore, whole: bool) -> None:
        """A row of eval.jsonl, scalars for who hears of the run, and a line on stderr."""
        row: dict[str, Any] = {
            'step': step, 'loss': score.loss, 'targets': score.targets, 'whole': whole,
            'bits_per_byte': score.bits_per_byte,
        }  # fmt: skip
        scalars: dict[str, Any] = {
            'step': step, 'eval_loss': score.loss, 'bits_per_byte': score.bits_per_byte,
        }  # fmt: skip
        words = 'held out   whole' if whole else f'\nheld out   step {step}'
        words += f': loss {_score_words(score.loss, score.bits_per_byte)}'
        if score.measures:
            row['measures'] = score.measures
            scalars |= {f'eval_{name}': value for name, value in score.measures.items()}
            words += ''.join(f', {name} {value:.4f}' for name, value in score.measures.items())
        by_source = score.by_source
        if len(by_source) > 1:
            row['by_source'] = by_source
            for name, part in by_source.items():
                bits = part.get('bits_per_byte')
                scalars |= {f'eval_loss/{name}': part['loss'], f'bits_per_byte/{name}': bits}
                words += f'\n           {_score_words(part["loss"], bits)}: {name}'
        append_jsonl(self.folder.eval_file, row)
        hear(scalars)
        processes.tell(words)

    def _finish(
        self,
        hear: Hear,
        flops: FlopCount,
        peak: float | None,
        compile_seconds: float,
        stopped_by: Literal['steps', 'hours'],
    ) -> dict[str, Any]:
        """The whole held-out text, loss.png and summary.json."""
        score = self.held_out.score(self.state.params, None)
        step = int(self.state.step)
        self._tell_score(hear, step, score, whole=True)
        self.held_out.print_sample(self.state.params)
        digest, counts = params_sha256(self.state.params), self.counts.to_json()

        def record() -> dict[str, Any]:
            plot_loss(self.folder)
            rows = step * self.config.train.batch_size
            summary = summarise(
                self.folder, self.program, step, flops, peak, score, compile_seconds,
                digest, account(self.rows, self.mixture, counts, rows), stopped_by,
            )  # fmt: skip
            write_json(self.folder.summary_file, summary)
            return summary

        return processes.from_first(record)


def _score_words(loss: float, bits_per_byte: float | None) -> str:
    words = f'{loss:.4f}'
    return words if bits_per_byte is None else f'{words}, {bits_per_byte:.4f} bits per byte'
