"""What stands for gcloud in tests: TPU VMs are folders, and what is sent to them is executed.

Its folder, `$FAKE_GCLOUD`, holds `play.json`, what is to happen; it keeps there `calls.jsonl`, the
calls with their words, and `hosts/N`, the home of each TPU VM. Of the play `states` are what a
queued resource says one after another, the last one from then on; `ends` how each command that is
started there ends: a status, `preempted`, or `broken`, a connection that breaks once.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get('FAKE_GCLOUD', ''))
HOSTS = 2

LM = """\
#!{python} -S
import json, os, sys
folder = '{folder}'
with open(folder + '/started.jsonl', 'a') as file:
    words = {{'host': os.environ['HOST'], 'argv': sys.argv[1:], 'env': os.environ.get('GREETING')}}
    file.write(json.dumps(words) + '\\n')
print('lm says é', os.environ['HOST'])
sys.exit(int(open(folder + '/status').read()))
"""
"""What stands for lm on a host."""

DISKS = """\
#!/bin/bash
# df and mkdir on a host, where one disk is mounted at /mnt.
case "$0 $*" in
  */df*/mnt/*) printf 'Mounted on\\n/mnt\\n' ;;
  */df*) printf 'Mounted on\\n/\\n' ;;
  */mkdir*) echo "$*" >> {folder}/installs ;;
esac
"""

PYTHON = """\
#!{python} -S
# python3 on a host, where uv is asked for a Python with lm.
import os, sys
with open('{folder}/installs', 'a') as file:
    file.write(' '.join(sys.argv[1:]) + '\\n')
if 'venv' in sys.argv:
    os.makedirs('.venv/bin')
    open('.venv/bin/lm', 'w').write(open('{folder}/lm').read())
    os.chmod('.venv/bin/lm', 0o755)
"""


def main(words: list[str]) -> int:
    """Does what gcloud would, as far as the play goes."""
    with (HOME / 'calls.jsonl').open('a') as calls:
        calls.write(json.dumps(words) + '\n')
    assert words[:2] == ['compute', 'tpus'] and words[-1] == '--quiet', words
    assert '--zone=us-east5-b' in words, words
    play: dict[str, Any] = json.loads((HOME / 'play.json').read_text())
    status = _act(words[2:4], words, play)
    (HOME / 'play.json').write_text(json.dumps(play))
    return status


def _act(verb: list[str], words: list[str], play: dict[str, Any]) -> int:
    match verb:
        case ['queued-resources', 'create']:
            if refusal := play.pop('refusal', None):
                print(f'Create request issued\nERROR: (gcloud) {refusal}', file=sys.stderr)
                return 1
            shutil.rmtree(HOME / 'hosts', ignore_errors=True)
            for i in range(HOSTS):
                (HOME / 'hosts' / str(i)).mkdir(parents=True)
            play['states'] = play['waits'].pop(0)
        case ['queued-resources', 'describe']:
            if 'state.state' not in words[5]:
                print(play.get('reason', ''))
                return 0
            states = play['states']
            print(states.pop(0) if len(states) > 1 else states[0])
        case ['queued-resources', 'delete']:
            assert '--force' in words
            if play.get('deletions'):
                print('ERROR: it is being suspended', file=sys.stderr)
                return play['deletions'].pop()
            shutil.rmtree(HOME / 'hosts')
        case ['tpu-vm', 'describe']:
            print(play.get('health', 'READY'))
        case ['tpu-vm', 'scp']:
            for host in (HOME / 'hosts').iterdir():
                shutil.copytree(words[4], host / Path(words[4]).name)
        case ['tpu-vm', 'ssh']:
            return _ssh(words, play)
        case _:
            raise AssertionError(f'no such call: {words}')
    return 0


def _ssh(words: list[str], play: dict[str, Any]) -> int:
    command = next(word for word in words if word.startswith('--command='))
    folder = next((word for word in words if word.startswith('--output-directory=')), None)
    end = 0
    if play.get('unreachable'):
        return 255
    if 'run.sh' in command:
        end = play['ends'].pop(0)
        (HOME / 'status').write_text(str(end if isinstance(end, int) else 0))
    if end == 'interrupted':
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    if end == 'broken':
        _on_hosts(command)  # gcloud connects again by itself, and executes the line again
    statuses = []
    for host, said, status in _on_hosts(command):
        if folder is None:
            sys.stdout.buffer.write(said)
        else:
            (Path(folder.partition('=')[2]) / f'{host}.log').write_bytes(said)
        statuses.append(status)
    if end == 'preempted':
        play['states'] = play.get('after', ['SUSPENDING'])
    if end in ('preempted', 'broken'):
        return 255
    return next(filter(None, statuses), 0)


def _on_hosts(command: str) -> list[tuple[str, bytes, int]]:
    """Has all hosts execute the line at once; host, output and exit status of each."""
    running = {
        host.name: subprocess.Popen(
            ['bash', '-c', command.partition('=')[2]],
            cwd=host,
            env={
                **os.environ,
                'HOME': str(host),
                'HOST': host.name,
                'PATH': f'{HOME / "bin"}:{os.environ["PATH"]}',
            },
            stdout=subprocess.PIPE,
        )
        for host in sorted((HOME / 'hosts').iterdir())
    }
    return [
        (name, process.communicate()[0], process.returncode) for name, process in running.items()
    ]


def install(folder: Path, binaries: Path) -> None:
    """Makes `gcloud` in the folder `binaries`, which plays in `folder`."""
    (folder / 'bin').mkdir(parents=True)
    _executable(
        binaries / 'gcloud',
        f'#!/bin/bash\nFAKE_GCLOUD={folder} exec {sys.executable} -S {__file__} "$@"\n',
    )
    (folder / 'lm').write_text(LM.format(python=sys.executable, folder=folder))
    for name in ('df', 'mkdir'):
        _executable(folder / 'bin' / name, DISKS.format(folder=folder))
    _executable(folder / 'bin' / 'python3', PYTHON.format(python=sys.executable, folder=folder))


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
