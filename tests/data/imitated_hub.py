"""A program that reads `hf:own/tiny` from a server which answers as the Hugging Face hub does.

The dataset has four files of ten texts, and two revisions. Run by `test_hf_source.py`: where the
hub is, `huggingface_hub` learns from the environment when it is imported.
"""

import hashlib
import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

OLD, NEW = 'a' * 40, 'b' * 40


def files(revision: str) -> dict[str, bytes]:
    word = {OLD: 'old', NEW: 'new'}[revision]
    return {
        f'train-{i}.jsonl': b''.join(
            json.dumps({'text': f'{word} {n}'}).encode() + b'\n' for n in range(10 * i, 10 * i + 10)
        )
        for i in range(4)
    } | {'README.md': b'---\nlicense: mit\n---\n'}


class Hub(BaseHTTPRequestHandler):
    """Answers what `datasets` asks of one repository."""

    main = OLD
    opened: ClassVar[
        list[str]
    ] = []  # numbers of data files, as often as their bytes were asked for

    def do_GET(self) -> None:
        place = unquote(urlparse(self.path).path)
        if found := re.fullmatch(r'/datasets/own/tiny/resolve/(\w+)/(.*)', place):
            self._file(self._revision(found[1]), found[2])
        elif found := re.fullmatch(r'/api/datasets/own/tiny(?:/revision/(\w+))?', place):
            revision = self._revision(found[1])
            siblings = [{'rfilename': name} for name in files(revision)]
            self._json({'id': 'own/tiny', 'sha': revision, 'siblings': siblings})
        elif found := re.fullmatch(r'/api/datasets/own/tiny/tree/(\w+)', place):
            self._json(
                [
                    {'type': 'file', 'path': name, 'size': len(data), 'oid': _hash(data)}
                    for name, data in files(self._revision(found[1])).items()
                ]
            )
        else:
            code = 'EntryNotFound' if 'own/tiny' in place else 'RepoNotFound'
            self._answer(404, b'{}', {'X-Error-Code': code})

    do_HEAD = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass

    def _revision(self, name: str | None) -> str:
        return self.main if name in (None, 'main') else str(name)

    def _file(self, revision: str, name: str) -> None:
        if name not in files(revision):
            self._answer(404, b'{}', {'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': revision})
            return
        data = files(revision)[name]
        headers = {'X-Repo-Commit': revision, 'ETag': f'"{_hash(data)}"'}
        asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range') or '')
        if asked is None or self.command == 'HEAD':
            self._answer(200, data, headers)
            return
        if number := re.fullmatch(r'train-(\d).jsonl', name):
            self.opened.append(number[1])
        start, stop = int(asked[1]), int(asked[2] or len(data) - 1) + 1
        headers['Content-Range'] = f'bytes {start}-{stop - 1}/{len(data)}'
        self._answer(206, data[start:stop], headers)

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {'Content-Type': 'application/json'})

    def _answer(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in (headers | {'Content-Length': str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)


def _hash(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def main(folder: str) -> None:
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        'HF_ENDPOINT': f'http://127.0.0.1:{server.server_port}',
        'HF_HOME': f'{folder}/home',
        # Whoever starts this may be told to stay off the real hub (as other tests are).
        'HF_HUB_OFFLINE': '0',
        'HF_DATASETS_OFFLINE': '0',
        'NO_PROXY': '127.0.0.1',
        'no_proxy': '127.0.0.1',
    }
    from lm.config import DataConfig
    from lm.data.sources import Reading, open_source
    from lm.errors import UserError

    revisions = []

    def read(count: int, cache: str) -> list[str]:
        data = DataConfig(
            source='hf:own/tiny', stream_documents=count, cache_dir=f'{folder}/{cache}'
        )
        source = open_source(data)
        revisions.append(source.facts['revision'])
        return [document.text for document in source.documents(Reading())]

    found: dict[str, Any] = {'first': read(12, 'here'), 'opened_first': sorted({*Hub.opened})}
    Hub.main = NEW
    Hub.opened.clear()
    found |= {'more': read(25, 'here'), 'opened_more': sorted({*Hub.opened})}
    found |= {'elsewhere': read(12, 'elsewhere'), 'revisions': revisions}
    try:
        open_source(DataConfig(source='hf:own/none', cache_dir=folder))
    except UserError as error:
        found['unknown'] = str(error)
    print(json.dumps(found))


if __name__ == '__main__':
    main(sys.argv[1])
