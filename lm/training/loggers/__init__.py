"""Where else a run is told of, by file name: `train.loggers`. A member defines:

PACKAGES: names of the modules that it needs; the extra of `pyproject.toml` bears the member's name.
start(name, config, workdir, run_id): `(str, dict, Path, str | None) -> logger`. The name is that of
    the workdir, `config` the run's by dotted path; `run_id` is what the logger had in this workdir
    before, None in a new one. Where the record goes to is said by the service's own variables.

A logger has:

run_id: text, by which a resumed run goes on in the same record.
log(step, numbers): `(int, dict[str, float]) -> None`: a row of metrics.jsonl, or an evaluation
    (`eval_loss`, `bits_per_byte`). After a kill, steps come once more.
close(summary): summary.json as a dict; None where the run did not come to its end.

Only the first process has loggers. Packages are imported in functions only.
"""
