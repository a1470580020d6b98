"""Object stores: what is read, put and removed there, and how each refusal is told."""

import importlib
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm.errors import UserError
from lm.storage import Store
from tests.stores import BUCKET, forget_stores, imitated_gcs


@pytest.mark.parametrize('address', [f'{kind}://{BUCKET}/run' for kind in ('s3', 'gs', 'memory')])
def test_objects_are_put_listed_read_and_removed(
    s3: Any, gcs: None, tmp_path: Path, address: str
) -> None:
    content = {'a/b.txt': b'one', 'a/.c.txt': b'', 'd.txt': os.urandom(100_000)}
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    store, beside = Store(f'{address}/', 'workdir'), Store(f'{address}2', 'workdir')
    assert store.names() == {}
    store.put({name: tmp_path / name for name in content})
    beside.put({'d.txt': tmp_path / 'd.txt'})
    assert store.names() == {name: len(data) for name, data in content.items()}
    fetched = tmp_path / 'fetched'
    store.fetch({name: fetched / name for name in content})
    assert {name: (fetched / name).read_bytes() for name in content} == content
    assert store.glob('*/*') == ['a/b.txt']
    assert store.glob('**/.*') == ['a/.c.txt']
    assert store.holds('d.txt') and not store.holds('a') and not store.holds('e.txt')
    store.remove(['d.txt', 'not there'])
    assert sorted(store.names()) == ['a/.c.txt', 'a/b.txt']
    assert [*beside.names()] == ['d.txt']


@pytest.fixture(scope='module')
def gcs() -> Iterator[None]:
    with imitated_gcs():
        yield


def refusal(address: str) -> str:
    with pytest.raises(UserError) as caught:
        Store(address, f'workdir={address}').names()
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_an_address_that_is_none_of_a_store_is_told() -> None:
    assert 'no such kind of store; did you mean s3://?' in refusal('s4://bucket/run')
    assert 'did you mean gs://?' in refusal('gcs://bucket/run')
    assert 'names no bucket; give s3://BUCKET/NAME' in refusal('s3://')


@pytest.mark.parametrize('scheme', ['s3', 'gs'])
def test_a_bucket_that_is_not_there_is_told(s3: Any, gcs: None, scheme: str) -> None:
    address = f'{scheme}://another/run'
    assert refusal(address).startswith(f'workdir={address}: there is no bucket another')


def test_a_bucket_without_rights_is_told(s3: Any, tmp_path: Path) -> None:
    (tmp_path / 'x').write_bytes(b'x')
    store = Store(f's3://{BUCKET}/forbidden', 'workdir')
    with only_known_keys():
        assert 'access is denied' in refusal(f's3://{BUCKET}/forbidden')
        with pytest.raises(UserError, match='access is denied .*may list, read and write'):
            store.put({'x': tmp_path / 'x'})
    assert store.names() == {}


class only_known_keys:
    """While it lasts, the imitation asks for rights, which nobody has."""

    def __enter__(self) -> None:
        self._ask(b'0')

    def __exit__(self, *error: object) -> None:
        self._ask(b'inf')

    def _ask(self, requests_before: bytes) -> None:
        url = f'{os.environ["AWS_ENDPOINT_URL"]}/moto-api/reset-auth'
        kind = {'Content-Type': 'text/plain'}
        urllib.request.urlopen(urllib.request.Request(url, requests_before, kind, method='POST'))


def test_missing_credentials_are_told(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE'):
        monkeypatch.delenv(name, raising=False)
    for name in ('AWS_SHARED_CREDENTIALS_FILE', 'AWS_CONFIG_FILE'):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
    forget_stores()
    assert 'no credentials are found; set AWS_ACCESS_KEY_ID' in refusal(f's3://{BUCKET}/run')
    forget_stores()


@pytest.mark.parametrize('scheme, package, extra', [('s3', 's3fs', 's3'), ('gs', 'gcsfs', 'gcs')])
def test_a_missing_package_is_told_with_its_extra(
    scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.import_module('fsspec.registry')._registry
    monkeypatch.delitem(known, scheme, raising=False)
    for name in [name for name in sys.modules if name.partition('.')[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    told = refusal(f'{scheme}://{BUCKET}/run')
    assert f"needs a package; pip install 'lm-lab[{extra}]'" in told
