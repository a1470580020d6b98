"""One run under way: its state, checkpoints, reporters and evaluations, from begin to record."""

import sys
import time
from typing import Any

from lm.data.pipeline import batches
from lm.data.prepare import Prepared
from lm.errors import UserError
from lm.planning.devices import peak_flops
from lm.planning.flops import FlopCount, train_flops
from lm.training.checkpoint import Checkpoints, Damaged
from lm.training.evaluate import HeldOut, packed_rows
from lm.training.interrupt import Interrupt
from lm.training.load import read_newest_params
from lm.training.loop import Boundary, run_loop
from lm.training.program import Program
from lm.training.record import account, plot_loss, summarise
from lm.training.reporters import Counts, MetricsLog, Pace, Progress, TensorBoard
from lm.training.resume import Start, plateau_end
from lm.training.step import State
from lm.training.workdir import Workdir, append_jsonl, cut_jsonl, write_json


class Session:
    """A run in a workdir. `begin`, then `run`, then `close`."""

    def __init__(
        self, folder: Workdir, program: Program, prepared: Prepared, start: Start, strict: bool
    ):
        self.folder, self.program, self.prepared = folder, program, prepared
        self.start, self.strict = start, strict
        self.config = program.config
        end = plateau_end(self.config)
        self.checkpoints = Checkpoints(
            folder.checkpoints, self.config.checkpoint, always=[] if end is None else [end]
        )
        self.held_out = HeldOut(program, prepared)
        self.counts = Counts(program.objective)
        self.rows = packed_rows(program.objective, prepared, self.config.train.seed, held_out=False)

    def begin(self, fork: tuple[Workdir, int] | None) -> None:
        """Finds the state to begin with and puts the workdir's files in step with it.

        Raises:
          UserError: what is to be gone on from is missing or damaged.
        """
        state = self._restored() if self.start.resumes else None
        if state is None:
            state = self._forked(*fork) if fork else self._fresh()
        self.state = state
        self.first_step = int(state.step)
        # The checkpoints of a later branch go before config.json tells of the longer run: a kill
        # in between leaves the shorter run, at its plateau.
        self.checkpoints.delete_after(self.first_step)
        for file in (self.folder.metrics_file, self.folder.eval_file):
            cut_jsonl(file, self.first_step)
        if self.start.changes:
            for path, (old, new) in self.start.changes.items():
                print(f'changed    {path}: {old!r} -> {new!r}', file=sys.stderr)
            self.folder.add_history(self.first_step, self.start.changes)
        if self.start.resumes:
            print(f'going on   from step {self.first_step}', file=sys.stderr)
        self.folder.write_config(self.config)
        self.prepared.tokenizer.save(self.folder.tokenizer_file)
        if fork is not None and not self.start.resumes:
            self.checkpoints.save(self.state, self.counts.to_json())

    def run(self) -> dict[str, Any]:
        """Compiles, loops, saves, evaluates and writes the record; returns the summary.

        Raises:
          UserError: a loss that is not finite, or a disk that refuses.
          SystemExit: a signal asked for the end.
        """
        train = self.config.train
        compile_seconds, step = self._compiled()
        flops, peak = self._flops(), self._peak()
        pace = Pace(self.rows.stride * train.batch_size, flops.row * train.batch_size, peak)
        pace.start(self.first_step)
        progress, board = Progress(self.first_step, train.steps), TensorBoard(self.folder)
        log = MetricsLog(
            self.folder, pace, train.log_every_steps, train.steps, self.counts, [progress, board]
        )
        with Interrupt() as interrupt:
            try:
                reached, self.state = run_loop(
                    self.program, step, self.state, self._batches(self.first_step),
                    self.first_step, reporters=[self.counts, log],
                    boundaries=self._boundaries(board), interrupt=interrupt,
                )  # fmt: skip
            finally:
                progress.close()
            self.checkpoints.save(self.state, self.counts.to_json())
            self.checkpoints.wait()
            if interrupt.signal_number is not None:
                board.close()
                print(f'lm: saved at step {reached}; the same command goes on', file=sys.stderr)
                raise SystemExit(128 + interrupt.signal_number)
            return self._finish(board, flops, peak, compile_seconds)

    def close(self) -> None:
        """Lets go of the checkpoints."""
        self.checkpoints.close()

    def _restored(self) -> State | None:
        """The state that a run in this workdir left, or None where it had not saved yet."""
        like = self.program.abstract_state
        newest = self.start.newest
        steps = self.checkpoints.steps
        if newest is not None and steps and steps[-1] > newest:
            if newest not in steps:
                raise UserError(
                    f'workdir={self.folder.path}: the checkpoint of step {newest}, where the decay '
                    'began, is not there: a longer run cannot go on from it; --fork_from one that '
                    f'is ({", ".join(map(str, steps))}), or --restretch'
                )
            try:
                state, counts = self.checkpoints.read(newest, like)
            except Damaged as error:
                raise UserError(
                    f'workdir={self.folder.path}: checkpoint {newest} is damaged ({error})'
                ) from error
        else:
            found = self.checkpoints.restore(like, self.strict)
            if found is None:
                return None
            state, counts = found
        self.counts.from_json(counts)
        return state

    def _forked(self, source: Workdir, step: int) -> State:
        checkpoints = Checkpoints(source.checkpoints, self.config.checkpoint, always=range(10**9))
        words = f'fork_from={source.path}@{step}'
        if step not in checkpoints.steps:
            steps = ', '.join(map(str, checkpoints.steps))
            raise UserError(f'{words}: no such checkpoint; there are {steps or "none"}')
        try:
            state, counts = checkpoints.read(step, self.program.abstract_state)
        except Damaged as error:
            raise UserError(f'{words}: cannot be read as this run ({error})') from error
        self.counts.from_json(counts)
        self.folder.add_history(step, {'fork_from': (None, f'{source.path}@{step}')})
        return state

    def _fresh(self) -> State:
        state = self.program.init_state()
        init_from = self.config.checkpoint.init_from
        if init_from:
            like = self.program.abstract_state.params
            state = state._replace(params=read_newest_params(Workdir(init_from), like))
        return state

    def _batches(self, first_step: int) -> Any:
        train = self.config.train
        return batches(
            self.rows,
            self.program.objective.example,
            batch_size=train.batch_size,
            start_row=first_step * train.batch_size,
            seed=train.seed,
            overfit_batches=self.config.data.overfit_batches,
            threads=2,
        )

    def _compiled(self) -> tuple[float, Any]:
        """Compiles the step for this run's batches; the seconds it took, and the step."""
        begin = time.perf_counter()
        like = self.program.abstract_batch(self.rows.row(0))
        compiled = self.program.step.lower(self.program.abstract_state, like).compile()
        return time.perf_counter() - begin, compiled

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
        peak = peak_flops(devices.flat[0].device_kind, self.program.policy.compute_dtype)
        return None if peak is None else peak * devices.size

    def _boundaries(self, board: TensorBoard) -> list[Boundary]:
        """Evaluation first, so that a checkpoint's step has its row in eval.jsonl."""
        last, every = self.config.train.steps, self.config.checkpoint.every_steps
        end = plateau_end(self.config)

        def evaluate(step: int, state: State) -> None:
            score = self.held_out.score(state.params, self.config.eval.batches)
            row = {'step': step, 'loss': score.loss, 'targets': score.targets, 'whole': False}
            append_jsonl(self.folder.eval_file, row)
            board({'step': step, 'eval_loss': score.loss})
            print(f'\nheld out   step {step}: loss {score.loss:.4f}', file=sys.stderr)
            self.held_out.print_sample(state.params)

        def save(step: int, state: State) -> None:
            self.checkpoints.save(state, self.counts.to_json())

        return [
            Boundary(lambda s: s % self.config.eval.every_steps == 0 and s < last, evaluate),
            Boundary(lambda s: (s % every == 0 or s == end) and s < last, save),
        ]

    def _finish(
        self, board: TensorBoard, flops: FlopCount, peak: float | None, compile_seconds: float
    ) -> dict[str, Any]:
        """The whole held-out text, loss.png and summary.json."""
        score = self.held_out.score(self.state.params, None)
        bits = self.held_out.bits_per_byte(score)
        step = int(self.state.step)
        append_jsonl(
            self.folder.eval_file,
            {
                'step': step, 'loss': score.loss, 'targets': score.targets, 'whole': True,
                'bits_per_byte': bits,
            },
        )  # fmt: skip
        board({'step': step, 'eval_loss': score.loss})
        board.close()
        per_byte = '' if bits is None else f', {bits:.4f} bits per byte'
        print(f'held out   whole: loss {score.loss:.4f}{per_byte}', file=sys.stderr)
        self.held_out.print_sample(self.state.params)
        plot_loss(self.folder)
        summary = summarise(
            self.folder, self.program, self.state, flops, peak, score.loss, bits, compile_seconds,
            account(self.rows, self.prepared, self.counts, step * self.config.train.batch_size),
        )  # fmt: skip
        write_json(self.folder.summary_file, summary)
        return summary
