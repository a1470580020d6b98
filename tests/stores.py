"""Stores for tests: imitations of S3 and of Google's, on this machine."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any
from unittest import mock

BUCKET = 'bucket'


@contextlib.contextmanager
def imitated_s3() -> Iterator[Any]:
    """A server with one bucket, which this process and those it starts find; its boto3 client."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    server = ThreadedMotoServer('127.0.0.1', port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    words = {
        'AWS_ENDPOINT_URL': f'http://127.0.0.1:{port}',
        'AWS_ACCESS_KEY_ID': 'nobody',
        'AWS_SECRET_ACCESS_KEY': 'secret',
        'AWS_DEFAULT_REGION': 'us-east-1',
    }
    try:
        with mock.patch.dict(os.environ, words):
            forget_stores()
            client = boto3.client('s3')
            client.create_bucket(Bucket=BUCKET)
            yield client
    finally:
        server.stop()
        forget_stores()


@contextlib.contextmanager
def imitated_gcs() -> Iterator[None]:
    """The same of Google's store."""
    from gcp_storage_emulator.server import create_server

    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    server = create_server('127.0.0.1', port, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        with mock.patch.dict(os.environ, {'STORAGE_EMULATOR_HOST': f'http://127.0.0.1:{port}'}):
            forget_stores()
            yield
    finally:
        server.stop()
        forget_stores()


def forget_stores() -> None:
    """Has fsspec connect anew, as the environment says by then."""
    import gcsfs
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    gcsfs.GCSFileSystem.clear_instance_cache()


def put(address: str, content: bytes) -> None:
    """Makes an object, without `lm`."""
    import fsspec

    with fsspec.open(address, 'wb') as file:
        file.write(content)
