"""The test session: 8 emulated CPU devices, compiled programs kept on disk, types checked.

Everything is set before jax or lm is imported, and in the environment, so that programs which a
test starts run under the same settings.
"""

import gc
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

import tests.typechecker
from tests.xla import AS_FOR_USERS, FLAGS

CACHE = Path(__file__).parent.parent / '.pytest_cache' / 'jax'
MOST_MAPPINGS = 30_000


def pytest_configure(config: pytest.Config) -> None:
    wants_accelerator = re.search(r'(?<!not )\b(gpu|tpu)\b', config.getoption('markexpr'))
    if not wants_accelerator:
        os.environ['JAX_PLATFORMS'] = 'cpu'
        given = os.environ.get('XLA_FLAGS', '')
        added = [f'{name}={value}' for name, value in FLAGS.items() if name not in given]
        os.environ['XLA_FLAGS'] = ' '.join([given, *added]).strip()
    # Tiny models compile for seconds and run for milliseconds: keep every program.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    install_import_hook('lm', f'{tests.typechecker.__name__}.check')


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how long each notebook took."""
    for report in terminalreporter.getreports('passed'):
        for name, value in report.user_properties:
            if name == 'notebook_seconds':
                terminalreporter.write_line(f'{value:6.1f} s  {report.nodeid}')


@pytest.fixture(autouse=True)
def few_mappings() -> Iterator[None]:
    """Lets compiled programs go before there are too many of them for one process.

    Each takes memory mappings, of which Linux allows a process 65,530 (`vm.max_map_count`): the
    first one that is refused ends it with a segmentation fault. A test of a strategy takes 400.
    """
    yield
    maps = Path('/proc/self/maps')
    if not maps.exists() or maps.read_bytes().count(b'\n') < MOST_MAPPINGS:
        return
    forget_programs()


def forget_programs() -> None:
    """Lets go of everything compiled, what the modules of tests keep included."""
    import jax

    for name, module in list(sys.modules.items()):
        if name.startswith('tests.'):
            for cached in vars(module).values():
                if callable(getattr(cached, 'cache_clear', None)):
                    cached.cache_clear()
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def users_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiles as for users: then two programs that compute the same also round the same.

    With the flags above what is fused, and so rounded, depends on the rest of the program.
    """
    from jax._src import compiler

    usual = compiler.get_compile_options

    def as_users(*args: Any, env_options_overrides: Any = None, **kwargs: Any) -> Any:
        options = {**AS_FOR_USERS, **(env_options_overrides or {})}
        return usual(*args, env_options_overrides=options, **kwargs)

    forget_programs()
    monkeypatch.setattr(compiler, 'get_compile_options', as_users)
    yield
    forget_programs()


@pytest.fixture(scope='session')
def s3() -> Iterator[Any]:
    """An imitation of S3 with one bucket; its boto3 client."""
    from tests.stores import imitated_s3

    with imitated_s3() as client:
        yield client
