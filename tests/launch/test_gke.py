"""`lm launch gke`: manifests against JobSet's published schema, quoting, mistakes."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from launch.main import main
from launch.places import _slices, gke
from launch.places._manifest import as_yaml

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / 'golden'
SHARED_FOLDER = Path(os.environ.get('LM_SHARED', ROOT.parent / 'shared'))
SCHEMA = SHARED_FOLDER / 'schemas' / 'jobset.x-k8s.io_jobsets.yaml'

TRAIN = ('train', '--config=llama_tiny', '--workdir=gs://bucket/run')
FIELD = '--config.data.text_field'
SHARED = (*TRAIN, '--config.data.cache_dir=/data/cache')
TPU = {'topology': 'v5e:4x4', 'image': 'registry/lm:1', 'volumes': ('claim:/data',)}
GPU = {**TPU, 'topology': 'h100:2x8'}
ALL = {
    **TPU, 'slices': 2, 'name': 'big', 'namespace': 'lab', 'queue': 'tpus', 'spot': True,
    'max_restarts': 9, 'grace_seconds': 60, 'env': ('A=$(B) $$ 1e9', 'N=1'),
    'service_account': 'me', 'node_selector': ('cloud.google.com/reservation-name=ours',),
}  # fmt: skip


def made(setting: dict[str, Any], command: tuple[str, ...] = SHARED) -> dict[str, Any]:
    """The manifest, as a reader of its text has it."""
    manifest = yaml.safe_load(as_yaml(gke.manifest(gke.Setting(**setting), command)))
    assert isinstance(manifest, dict)
    return manifest


def pod(manifest: dict[str, Any]) -> Any:
    return manifest['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']


def strict(schema: Any) -> Any:
    """A schema of a CRD as JSON Schema that refuses fields which Kubernetes would drop unasked."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: strict(value) for key, value in schema.items()}
    closed = isinstance(schema.get('properties'), dict) and 'additionalProperties' not in schema
    if closed and not schema.get('x-kubernetes-preserve-unknown-fields'):
        kept['additionalProperties'] = False
    return kept


@pytest.fixture(scope='module')
def check() -> Callable[[Any], None]:
    """Refuses what is no JobSet."""
    if not SCHEMA.exists():
        pytest.skip(f'no {SCHEMA.name}; LM_SHARED names the folder whose schemas/ holds it')
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    definition = yaml.load(SCHEMA.read_text(), Loader=loader)
    assert definition['spec']['group'] == 'jobset.x-k8s.io'
    (version,) = definition['spec']['versions']
    schema = strict(version['schema']['openAPIV3Schema'])
    schema['properties']['apiVersion'] = {'const': f'jobset.x-k8s.io/{version["name"]}'}
    schema['properties']['kind'] = {'const': definition['spec']['names']['kind']}
    texts = {'type': 'object', 'additionalProperties': {'type': 'string'}}
    schema['properties']['metadata'] = {
        'properties': {
            'name': {'type': 'string'}, 'namespace': {'type': 'string'}, 'labels': texts,
            'annotations': texts,
        },
        'additionalProperties': False,
    }  # fmt: skip
    schema['required'] = ['apiVersion', 'kind', 'metadata', 'spec']
    validator = jsonschema.Draft202012Validator(schema)
    return validator.validate


@pytest.mark.parametrize('setting', [TPU, GPU, ALL, {**TPU, 'topology': 'v6e:1x1'}])
def test_the_published_schema_takes_it(
    setting: dict[str, Any], check: Callable[[Any], None]
) -> None:
    check(made(setting))


def misnamed(manifest: Any) -> None:
    pod(manifest)['nodeselector'] = pod(manifest).pop('nodeSelector')


def numbered(manifest: Any) -> None:
    pod(manifest)['containers'][0]['args'].append(4)


def nameless(manifest: Any) -> None:
    del pod(manifest)['containers'][0]['name']


def unknown_action(manifest: Any) -> None:
    manifest['spec']['failurePolicy']['rules'][0]['action'] = 'RestartEverything'


def misplaced(manifest: Any) -> None:
    manifest['spec']['maxRestarts'] = 3


def textual(manifest: Any) -> None:
    manifest['spec']['replicatedJobs'][0]['replicas'] = '2'


def other_version(manifest: Any) -> None:
    manifest['apiVersion'] = 'jobset.x-k8s.io/v1alpha1'


@pytest.mark.parametrize(
    'mutate',
    [misnamed, numbered, nameless, unknown_action, misplaced, textual, other_version],
)
def test_a_mutated_manifest_is_refused(
    mutate: Callable[[Any], None], check: Callable[[Any], None]
) -> None:
    manifest = made(ALL)
    mutate(manifest)
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of a word: `$(NAME)` is replaced, `$$` is a `$`, all else stays."""

    def replace(match: re.Match[str]) -> str:
        found = match.group()
        return '$' if found == '$$' else variables.get(found[2:-1], found)

    return re.sub(r'\$\$|\$\([^)]*\)', replace, text)


def test_words_arrive_as_they_are() -> None:
    command = (
        *TRAIN, "--config.data.source=it's a \"text\"",
        f'{FIELD}=$(HOME) $$(A) $HOME $',
        '--config.data.cache_dir=/data/é\nline two: # -',
        *(part for value in ('1e9', 'yes', '~', '', '- x') for part in (FIELD, value)),
    )  # fmt: skip
    container = pod(made(ALL, command))['containers'][0]
    variables = {'HOME': 'wrong', 'A': 'wrong', 'B': 'wrong', 'JOB_COMPLETION_INDEX': '5'}
    words = [expanded(word, variables) for word in container['args']]
    assert tuple(words[: len(command)]) == command
    assert words[len(command) :] == ['--distributed', '--connect_seconds=900']
    values = {one['name']: expanded(one['value'], variables) for one in container['env']}
    assert values == {'A': '$(B) $$ 1e9', 'N': '1'}


def test_text_that_other_readers_take_for_a_number_is_in_quotes() -> None:
    """Kubernetes reads 1e9, 0o7 and y otherwise than PyYAML."""
    text = as_yaml({'args': ['1e9', '0o7', 'y', 'off', 'true', '1_000', '.inf', 'name'], 'size': 4})
    assert text.splitlines() == [
        'args:', '- "1e9"', '- "0o7"', '- "y"', '- "off"', '- "true"', '- "1_000"', '- ".inf"',
        '- name', 'size: 4',
    ]  # fmt: skip


def test_hosts_with_gpus_find_each_other_by_name() -> None:
    manifest = made({**GPU, 'name': 'pair'})
    container = pod(manifest)['containers'][0]
    added = container['args'][len(SHARED) :]
    at = {word.partition('=')[0]: word.partition('=')[2] for word in added}
    job = manifest['spec']['replicatedJobs'][0]
    # JobSet's name of a pod: <jobset>-<job>-<which job>-<which pod>.<subdomain, the jobset's name>
    assert at['--coordinator'] == f'pair-{job["name"]}-0-0.pair:8476'
    assert {'containerPort': 8476} in container['ports']
    assert at['--num_processes'] == str(job['template']['spec']['completions']) == '2'
    assert expanded(at['--process_id'], {'JOB_COMPLETION_INDEX': '1'}) == '1'
    assert job['template']['spec']['completionMode'] == 'Indexed'
    assert container['resources']['limits'] == {'nvidia.com/gpu': 8}


@pytest.mark.parametrize(
    ('topology', 'label', 'hosts', 'a_host'),
    [
        ('v4:2x2x4', 'tpu-v4-podslice', 4, 4), ('v5e:1x1', 'tpu-v5-lite-podslice', 1, 1),
        ('v5e:16x16', 'tpu-v5-lite-podslice', 64, 4), ('v5p:4x4x8', 'tpu-v5p-slice', 32, 4),
        ('v6e:2x4', 'tpu-v6e-slice', 2, 4), ('v6e:8x16', 'tpu-v6e-slice', 32, 4),
    ],
)  # fmt: skip
def test_slices(topology: str, label: str, hosts: int, a_host: int) -> None:
    """Of GKE's page on planning TPUs."""
    manifest = made({**TPU, 'topology': topology})
    job = manifest['spec']['replicatedJobs'][0]['template']['spec']
    assert (job['parallelism'], job['completions'], job['backoffLimit']) == (hosts, hosts, 0)
    assert pod(manifest)['nodeSelector'] == {
        'cloud.google.com/gke-tpu-accelerator': label,
        'cloud.google.com/gke-tpu-topology': topology.partition(':')[2],
    }
    assert pod(manifest)['containers'][0]['resources']['limits'] == {'google.com/tpu': a_host}


def test_nodes_of_eight_chips() -> None:
    manifest = made({**TPU, 'topology': 'v6e:2x4', 'chips_per_host': 8}, TRAIN)
    assert manifest['spec']['replicatedJobs'][0]['template']['spec']['parallelism'] == 1
    # One process, which has no others to find.
    assert pod(manifest)['containers'][0]['args'] == list(TRAIN)


def test_offered_shapes_are_those_of_xpk() -> None:
    """A few of what Google's own launcher lists, and what it does not."""
    offered = {_slices.Slice('v5p', shape).topology for shape in _slices.shapes('v5p')}
    assert {'2x2x1', '2x4x4', '4x4x12', '8x12x20', '16x16x24', '16x20x28'} <= offered
    assert not {'2x2x8', '4x4x2', '8x4x4', '4x4x6', '2x8x8'} & offered
    assert (12, 16, 16) in _slices.shapes('v4') and (16, 16, 16) not in _slices.shapes('v4')


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where what stands for kubectl keeps what it is given."""
    kubectl = tmp_path / 'bin' / 'kubectl'
    kubectl.parent.mkdir()
    kubectl.write_text(
        '#!/bin/bash\n'
        f'cd {tmp_path}; printf "%s\\n" "$@" > words; cat > manifest\n'
        'if [ -e refusal ]; then cat refusal >&2; exit 1; fi\n'
        'echo jobset.jobset.x-k8s.io/lm created\n'
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=':')
    return tmp_path


FLAGS = ['--topology=v5e:4x4', '--image=registry/lm:1', '--volumes=claim:/data']


def launch(*flags: str, command: tuple[str, ...] = SHARED) -> int:
    return main(['launch', 'gke', *FLAGS, *flags, '--', *command])


def test_the_cluster_gets_what_the_dry_run_tells(cluster: Path, capsys: Any) -> None:
    command = (*SHARED, "--config.data.text_field=END 'of' $(MANIFEST) \\ `id`")
    assert launch('--context=lab', '--dry_run', command=command) == 0
    subprocess.run(['bash', '-c', capsys.readouterr().out], check=True)
    told = (cluster / 'words').read_text(), (cluster / 'manifest').read_text()
    (cluster / 'words').unlink()
    assert launch('--context=lab', command=command) == 0
    assert told == ((cluster / 'words').read_text(), (cluster / 'manifest').read_text())
    assert told[0].split() == ['--context=lab', 'create', '--filename=-']
    said = capsys.readouterr().out
    assert 'jobset.jobset.x-k8s.io/lm created' in said
    assert 'kubectl --context=lab --namespace=default delete jobset lm' in said


def test_a_refusal_is_one_line(cluster: Path, capsys: Any) -> None:
    (cluster / 'refusal').write_text('Error from server (AlreadyExists): jobsets\n  "lm" exists\n')
    assert launch() == 2
    assert capsys.readouterr().err == (
        'lm launch: --name=lm: the cluster refuses it (Error from server (AlreadyExists): jobsets '
        '"lm" exists)\n'
    )


def test_without_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert launch() == 2
    error = capsys.readouterr().err
    assert error.startswith('lm launch: kubectl: not found; install it') and error.count('\n') == 1


@pytest.mark.parametrize(
    ('flags', 'command', 'said'),
    [
        (['--topology='], SHARED, '--topology: missing'),
        (['--topology=v5e'], SHARED, 'not offered; v5e has 1x1, 2x2, 2x4'),
        (['--topology=v5f:4x4'], SHARED, 'v5f is no kind; did you mean'),
        (['--topology=v5e:8x4'], SHARED, 'not offered; did you mean v5e:4x8?'),
        (['--topology=v5p:4x4x6'], SHARED, 'not offered; v5p has 2x2x1, 2x2x2'),
        (['--topology=h100:2x16'], SHARED, 'must be h100:HOSTSxGPUS with at most 8 GPUs a host'),
        (['--topology=h100:2x8', '--slices=2'], SHARED, '--slices=2: of TPUs only'),
        (['--image='], SHARED, '--image: missing'),
        (['--name=LM'], SHARED, '--name=LM: must be small letters'),
        (['--slices=0'], SHARED, '--slices=0: must be at least 1'),
        (['--chips_per_host=8'], SHARED, '--chips_per_host=8: nodes of v5e:4x4 have 4'),
        (['--volumes=claim'], SHARED, '--volumes=claim: must be CLAIM:/PATH'),
        (['--node_selector=x'], SHARED, '--node_selector=x: must be LABEL=VALUE'),
        ([], TRAIN, '--config.data.cache_dir: missing; 4 hosts read one cache of prepared text'),
        ([], (*SHARED, '--workdir=/scratch/x'), '--workdir=/scratch/x: would be lost'),
        ([], (*SHARED, '--num_processes=4'), '--num_processes=4: the launcher gives it'),
        ([], (*SHARED, '--config.mesh.fsdp=3'), 'train: '),
    ],
)
def test_mistakes(
    flags: list[str], command: tuple[str, ...], said: str, cluster: Path, capsys: Any
) -> None:
    assert launch(*flags, command=command) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and said in error
    assert not (cluster / 'words').exists()


@pytest.mark.parametrize(
    ('name', 'flags', 'command'),
    [
        (
            'slices',
            [
                *FLAGS, '--slices=2', '--spot', '--queue=tpus', '--service_account=me',
                '--env=XLA_FLAGS=--a --b', '--name=big',
            ],
            (*SHARED, '--config.data.text_field=$(id) \'"\n'),
        ),
        ('gpus', [*FLAGS, '--topology=h100:2x8'], SHARED),
    ],
)  # fmt: skip
def test_dry_runs(name: str, flags: list[str], command: tuple[str, ...], capsys: Any) -> None:
    assert main(['launch', 'gke', *flags, '--dry_run', '--', *command]) == 0
    assert capsys.readouterr().out == (GOLDEN / f'gke_{name}.txt').read_text()


def test_the_images_copies_are_enough_for_a_wheel() -> None:
    """What launch/Dockerfile copies is what is packed for TPU VMs, which is tested to be enough."""
    from launch.places._tpu_vm import PACKAGES, SOURCES

    lines = (ROOT / 'launch' / 'Dockerfile').read_text().splitlines()
    copied = [word for line in lines if line.startswith('COPY') for word in line.split()[1:-1]]
    assert sorted(copied) == sorted((*SOURCES, *PACKAGES))
