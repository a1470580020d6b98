"""Who may import whom, read from the source text, and what importing `lm` costs.

`violations(path, source)` is the checker; every rule is also shown a text that breaks it.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ('lm', 'launch', 'experiments', 'tests', 'benchmarks', 'notebooks')
FILES = sorted(
    str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')
)

BASE = {
    'arithmetic', 'attention', 'batch', 'config', 'ending', 'errors', 'examples', 'fields',
    'layout', 'line', 'named_configs', 'processes', 'registry', 'rendezvous', 'resolution',
    'shapes', 'storage', 'vocabulary',
}  # fmt: skip
PARTS = {'data', 'mesh', 'models', 'objectives', 'optim', 'precision'}
LADDER = [
    'planning', 'hub', 'generation', 'inspection', 'evaluation', 'training', 'sweep', 'report',
    'playground',
]  # fmt: skip
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    **{name: BASE | {name} for name in PARTS},
    'models': BASE | {'models', 'precision'},
    'flags': {'config', 'errors', 'fields', 'named_configs', 'resolution'},
    'scaling': BASE | {'scaling'},
    # A named config builds the options of the members that it names.
    'configs': BASE | {'configs', 'models', 'objectives', 'optim'},
    **{name: BASE | PARTS | set(LADDER[: i + 1]) for i, name in enumerate(LADDER)},
    '__init__': set(),
}
"""What each first-level name of `lm` may import of `lm`."""

WITHOUT_JAX = {
    'lm/config.py', 'lm/errors.py', 'lm/fields.py', 'lm/flags.py', 'lm/named_configs.py',
    'lm/registry.py', 'lm/resolution.py',
}  # fmt: skip
ACCELERATED = {'jax', 'jaxlib', 'flax', 'optax', 'orbax'}
MAY_SPLIT = {'lm/models/functional.py'}
MAY_READ_FLAGS = {'lm/flags.py'}
SAYS_NOTHING = {'utils', 'util', 'common', 'misc', 'helpers'}
NNX_TRANSFORMS = {'jit', 'grad', 'value_and_grad', 'scan', 'vmap', 'remat', 'Optimizer'}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every absolute name that is imported anywhere in the file, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def violations(path: str, source: str) -> list[str]:
    """The rules that the file `path` (relative to the repository) breaks."""
    tree = ast.parse(source)
    names = list(imported(tree))
    parts = Path(path).with_suffix('').parts
    found = [f'{path}: a name that says nothing' for part in parts if part in SAYS_NOTHING]
    if parts[0] in ('lm', 'launch', 'experiments'):
        found += _against_folders(path, parts, names)
    if parts[0] == 'lm':
        found += _against_members(path, parts, names)
        found += _against_libraries(path, tree, names)
    return found


def _against_folders(path: str, parts: tuple[str, ...], names: list[str]) -> list[str]:
    own = parts[0]
    bad = {'launch', 'lm_launch', 'experiments', 'lm_experiments'}
    return [
        f'{path}: imports {name}; '
        + ('write it relatively' if name.partition('.')[0].endswith(own) else 'it may not')
        for name in names
        if name.partition('.')[0] in bad
    ]


def _against_members(path: str, parts: tuple[str, ...], names: list[str]) -> list[str]:
    targets = {tuple(name.split('.')[1:2]) for name in names if name.split('.')[0] == 'lm'}
    used = {target[0] if target else 'lm' for target in targets}
    return [
        f'{path}: lm.{parts[1]} may not import lm.{name}'
        for name in sorted(used - MAY_IMPORT.get(parts[1], set()))
    ]


def _against_libraries(path: str, tree: ast.AST, names: list[str]) -> list[str]:
    found = []
    if path in WITHOUT_JAX:
        found += [f'{path}: imports {n}' for n in names if n.partition('.')[0] in ACCELERATED]
    used = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute | ast.Name)}
    used |= {f'nnx.{n.removeprefix("flax.nnx.")}' for n in names if n.startswith('flax.nnx.')}
    if path not in MAY_SPLIT and used & {'nnx.split', 'nnx.merge'}:
        found.append(f'{path}: nnx.split and nnx.merge belong into {sorted(MAY_SPLIT)[0]}')
    found += [f'{path}: nnx.{name}' for name in NNX_TRANSFORMS if f'nnx.{name}' in used]
    if path not in MAY_READ_FLAGS and any(u.split('.')[-1] == 'FLAGS' for u in used):
        found.append(f'{path}: reads FLAGS; take a config')
    return found


def test_there_is_something_to_check() -> None:
    assert {'lm/config.py', 'launch/main.py', 'tests/test_imports.py'} <= set(FILES)


@pytest.mark.parametrize('path', FILES)
def test_a_file_keeps_the_rules(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding='utf-8')) == []


@pytest.mark.parametrize('path', ['lm/data/store.py', 'lm/models/stack.py', 'lm/training/run.py'])
def test_what_is_allowed_passes(path: str) -> None:
    allowed = 'import jax\nfrom flax import nnx\nfrom lm.batch import Row\nnnx.Param(1)\n'
    assert violations(path, allowed) == []


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('lm/config.py', 'import jax'),
        ('lm/config.py', 'def f():\n    from jax import numpy'),
        ('lm/batch.py', 'from lm.data.packing import PackedRows'),
        ('lm/batch.py', 'from lm import data'),
        ('lm/data/packing.py', 'import lm.models.functional'),
        ('lm/data/packing.py', 'import lm'),
        ('lm/objectives/clm.py', 'from lm.precision import policy'),
        ('lm/models/stack.py', 'from lm.mesh.mesh import build'),
        ('lm/planning/flops.py', 'from lm.generation.sample import generate'),
        ('lm/generation/sample.py', 'from lm.training.load import load'),
        ('lm/evaluation/heldout.py', 'def f():\n    import lm.training.run'),
        ('lm/scaling/fit.py', 'from lm.models.functional import functional'),
        ('lm/flags.py', 'from lm.training.workdir import Workdir'),
        ('lm/new_base.py', 'from lm.config import Config'),
        ('lm/__init__.py', 'from lm.named_configs import load_config'),
        ('lm/training/run.py', 'from launch.main import main'),
        ('lm/training/run.py', 'import lm_experiments.objectives'),
        ('launch/train.py', 'from lm_launch.main import main'),
        ('launch/train.py', 'from experiments import precision'),
        ('experiments/precision.py', 'from experiments.objectives import configs'),
        ('lm/training/step.py', 'from flax import nnx\nnnx.split(1)'),
        ('lm/training/step.py', 'from flax.nnx import merge'),
        ('lm/models/functional.py', 'from flax import nnx\n@nnx.jit\ndef f(): pass'),
        ('lm/data/pipeline.py', 'from absl import flags\nflags.FLAGS.x'),
        ('lm/data/pipeline.py', 'from absl.flags import FLAGS\nFLAGS.x'),
        ('lm/data/utils.py', ''),
        ('tests/helpers.py', ''),
    ],
)
def test_a_seeded_violation_is_found(path: str, source: str) -> None:
    assert violations(path, source) != []


@pytest.mark.parametrize(
    'statement', ['import lm', 'import lm, lm.flags; lm.load_config', 'import launch.main']
)
def test_importing_costs_no_jax(statement: str) -> None:
    heavy = ('jax', 'flax', 'numpy', 'tensorflow', 'matplotlib', 'grain')
    code = f'{statement}; import sys; print([m for m in {heavy} if m in sys.modules])'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'


def test_reading_a_config_costs_no_jax() -> None:
    # Members are looked up for their options, so they import jax in functions only.
    code = (
        'import sys; from lm import registry; from lm.named_configs import load_config\n'
        'for kind in ("models", "objectives", "optimizers", "schedules"):\n'
        '    for name in registry.names(kind): registry.lookup(kind, name, kind)\n'
        'for name in registry.names("configs"): load_config(name)\n'
        f'print([m for m in {sorted(ACCELERATED)} if m in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'


def test_scaling_costs_no_jax_and_needs_no_import_of_its_own() -> None:
    heavy = sorted(ACCELERATED | {'matplotlib'})
    code = (
        'import lm, sys; lm.scaling.fit_parametric; assert "scaling" in dir(lm)\n'
        f'print([m for m in {heavy} if m in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'


def test_every_exported_name_is_there_and_no_package_bears_it() -> None:
    import lm

    for name in lm.__all__:
        assert getattr(lm, name) is not None
        assert not (ROOT / 'lm' / name).exists()
        assert not (ROOT / 'lm' / f'{name}.py').exists()
