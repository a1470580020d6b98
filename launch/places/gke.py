"""Google Kubernetes Engine: a JobSet of TPU slices or of hosts with GPUs.

The command becomes a JobSet, which `kubectl create` hands to the cluster and which goes on there by
itself. Pods that are preempted are started again as often as it takes, and the run goes on from its
last checkpoint; other failures are tried again `--max_restarts` times. Every pod is a process of
the run. Files that the command names, `--config=FILE.py` say, must be in the image.
"""

import shlex
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

from lm.errors import UserError
from lm.fields import require, setting
from lm.planning.devices import DEVICES

from ._command import connected, require_devices
from ._environment import variables
from ._manifest import as_yaml, literal
from ._names import require_name
from ._slices import GPUS, TPUS, WHOLE_HOST, Slice, find_slice
from ._storage import require_lasting, require_shared_cache

CONTAINER = 'lm'
COORDINATOR_PORT = 8476
"""Of hosts with GPUs."""
TPU_PORTS = (8471, 8482, 8080)
"""Of hosts with TPUs: the TPUs' own, that of JAX's coordinator, that of other slices."""
CONNECT_SECONDS = 900
"""For all pods to come: nodes may have to be made, and pull the image, first."""
TOLD_TO_END = 128 + signal.SIGTERM
"""With which `lm train` ends after SIGTERM, its state saved."""
DRIVER_FOLDER = '/usr/local/nvidia/lib64'
"""Where GKE puts the libraries of a GPU's driver."""


@dataclass(frozen=True)
class Setting:
    """What of a cluster is asked for, and what runs there."""

    topology: str = setting('', 'of a slice, v5e:4x4 or v5p:4x4x8 say; of GPUs h100:HOSTSxGPUS')
    image: str = setting('', 'of a container with lm; launch/Dockerfile makes one')
    name: str = setting('lm', 'of the JobSet; one of that name must not be there')
    slices: int = setting(1, 'how many slices of TPUs; the mesh spreads replica over them')
    chips_per_host: int | None = setting(None, 'of v5e and v6e, where nodes have 8; none: up to 4')
    namespace: str = setting('default', 'in which it is made')
    context: str = setting('', "of kubectl's configuration; empty: the current one")
    queue: str = setting('', 'a LocalQueue of Kueue, which then decides when it starts')
    spot: bool = setting(False, 'on spot nodes, cheaper and preempted at any time')
    max_restarts: int = setting(3, 'after failures; being preempted does not count')
    grace_seconds: int = setting(120, 'that a pod has to save after SIGTERM')
    env: tuple[str, ...] = setting((), 'NAME=VALUE, or NAME alone with the value that it has here')
    volumes: tuple[str, ...] = setting((), 'CLAIM:/PATH, a persistent volume claim and where it is')
    service_account: str = setting('', 'of Kubernetes, whose rights the pods have, on a bucket say')
    node_selector: tuple[str, ...] = setting((), 'LABEL=VALUE that nodes must have besides')

    def __post_init__(self) -> None:
        """Refuses what no cluster would take."""
        require(self.topology != '', '--topology: missing; give one, v5e:4x4 say')
        require(self.image != '', '--image: missing; give the image of a container with lm')
        require_name('name', self.name)
        require(self.slices >= 1, f'--slices={self.slices}: must be at least 1')
        require(self.max_restarts >= 0, f'--max_restarts={self.max_restarts}: must be at least 0')
        require(
            self.grace_seconds >= 0, f'--grace_seconds={self.grace_seconds}: must be at least 0'
        )


def describe(setting: Setting, command: tuple[str, ...]) -> str:
    """The call of kubectl with the manifest, as a shell takes it."""
    text = as_yaml(manifest(setting, command))
    return f"{shlex.join(_kubectl(setting))} <<'END_OF_MANIFEST'\n{text}END_OF_MANIFEST"


def start(setting: Setting, command: tuple[str, ...]) -> int:
    """Hands the manifest to the cluster; returns as soon as that has it.

    Raises:
      UserError: there is no kubectl, or the cluster refuses.
    """
    text = as_yaml(manifest(setting, command))
    argv = _kubectl(setting)
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            'kubectl: not found; install it and let it know the cluster (gcloud container clusters '
            'get-credentials CLUSTER), or use --dry_run and apply the manifest elsewhere'
        ) from None
    if done.returncode:
        raise UserError(f'--name={setting.name}: the cluster refuses it ({done.stderr.strip()})')
    print(done.stdout, end='')
    at = shlex.join([*_where(setting), f'--namespace={setting.namespace}'])
    label = f'jobset.sigs.k8s.io/jobset-name={setting.name}'
    print(f'its output   {at} logs --follow --selector={label} --max-log-requests=1000')
    print(f'its end      {at} delete jobset {setting.name}')
    return 0


def manifest(setting: Setting, command: tuple[str, ...]) -> dict[str, Any]:
    """The JobSet, as Kubernetes' API takes it.

    Raises:
      UserError: a setting or the command does not fit the slice, or what it keeps would be lost.
    """
    asked = find_slice(setting.topology)
    per_host = _per_host(setting, asked)
    hosts = asked.chips // per_host
    require_devices(command, asked.chips * setting.slices)
    environment = {**_driver(asked), **variables(setting.env)}
    volumes = _claims(setting)
    remedy = 'a path below one of --volumes=CLAIM:/PATH'
    require_lasting(command, tuple(volumes), remedy)
    require_shared_cache(command, environment, tuple(volumes), hosts * setting.slices, remedy)
    processes = hosts * setting.slices
    connection = connected(command, processes, _connection(setting, asked, hosts))[len(command) :]
    ports = TPU_PORTS if asked.is_tpu else (COORDINATOR_PORT,)
    container: dict[str, Any] = {
        'name': CONTAINER,
        'image': setting.image,
        'command': ['lm'],
        'args': [*map(literal, command), *connection],
        'env': [{'name': key, 'value': literal(value)} for key, value in environment.items()],
        'ports': [{'containerPort': port} for port in ports],
        'resources': {'limits': {'google.com/tpu' if asked.is_tpu else 'nvidia.com/gpu': per_host}},
        'volumeMounts': [
            {'name': f'volume-{i}', 'mountPath': path} for i, path in enumerate(volumes)
        ],
    }
    pod: dict[str, Any] = {
        'restartPolicy': 'Never',
        'terminationGracePeriodSeconds': setting.grace_seconds,
        'nodeSelector': _node_selector(setting, asked),
        'containers': [container],
        'volumes': [
            {'name': f'volume-{i}', 'persistentVolumeClaim': {'claimName': claim}}
            for i, claim in enumerate(volumes.values())
        ],
    }
    if not asked.is_tpu:
        # NCCL passes what GPUs of a host say to each other through it.
        pod['volumes'].append({'name': 'shared-memory', 'emptyDir': {'medium': 'Memory'}})
        container['volumeMounts'].append({'name': 'shared-memory', 'mountPath': '/dev/shm'})
    if setting.spot:
        pod['tolerations'] = [
            {'key': 'cloud.google.com/gke-spot', 'operator': 'Exists', 'effect': 'NoSchedule'}
        ]
    if setting.service_account:
        pod['serviceAccountName'] = setting.service_account
    return {
        'apiVersion': 'jobset.x-k8s.io/v1alpha2',
        'kind': 'JobSet',
        'metadata': _metadata(setting, asked),
        'spec': {
            'failurePolicy': {
                'maxRestarts': setting.max_restarts,
                # Or pods of before, which are still saving, would write beside the new ones.
                'restartStrategy': 'BlockingRecreate',
                'rules': [
                    {
                        'name': 'preempted',
                        'action': 'RestartJobSetAndIgnoreMaxRestarts',
                        'onJobFailureReasons': ['PodFailurePolicy'],
                    }
                ],
            },
            'replicatedJobs': [
                {
                    'name': _group(asked),
                    'replicas': setting.slices,
                    'template': {'spec': _job(hosts, pod)},
                }
            ],
        },
    }


def _job(hosts: int, pod: dict[str, Any]) -> dict[str, Any]:
    """One slice: any pod that fails fails it; the reason tells whether that was its own doing."""
    preempted: list[dict[str, Any]] = [
        {'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}]},
        {
            'onExitCodes': {
                'containerName': CONTAINER,
                'operator': 'In',
                'values': [int(TOLD_TO_END)],
            }
        },
    ]
    return {
        'completionMode': 'Indexed',
        'parallelism': hosts,
        'completions': hosts,
        'backoffLimit': 0,
        'podFailurePolicy': {'rules': [{'action': 'FailJob', **rule} for rule in preempted]},
        'template': {'spec': pod},
    }


def _metadata(setting: Setting, asked: Slice) -> dict[str, Any]:
    found: dict[str, Any] = {'name': setting.name, 'namespace': setting.namespace}
    if setting.queue:
        found['labels'] = {'kueue.x-k8s.io/queue-name': setting.queue}
    if asked.is_tpu:
        # A slice is a node pool: no two jobs on one, and none on two.
        found['annotations'] = {
            'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'
        }
    return found


def _node_selector(setting: Setting, asked: Slice) -> dict[str, str]:
    found = {}
    if asked.is_tpu:
        found['cloud.google.com/gke-tpu-accelerator'] = TPUS[asked.kind].node_label
        found['cloud.google.com/gke-tpu-topology'] = asked.topology
    else:
        found['cloud.google.com/gke-accelerator'] = GPUS[asked.kind]
    if setting.spot:
        found['cloud.google.com/gke-spot'] = 'true'
    for word in setting.node_selector:
        label, equals, value = word.partition('=')
        require(bool(label and equals), f'--node_selector={word}: must be LABEL=VALUE')
        found[label] = value
    return found


def _connection(setting: Setting, asked: Slice, hosts: int) -> tuple[str, ...]:
    """How processes find each other: GKE tells those on TPUs, JobSet names the pods of others."""
    seconds = f'--connect_seconds={CONNECT_SECONDS}'
    if asked.is_tpu:
        return ('--distributed', seconds)
    first = f'{setting.name}-{_group(asked)}-0-0.{setting.name}'
    return (
        f'--coordinator={first}:{COORDINATOR_PORT}',
        f'--num_processes={hosts}',
        '--process_id=$(JOB_COMPLETION_INDEX)',
        seconds,
    )


def _group(asked: Slice) -> str:
    return 'slice' if asked.is_tpu else 'hosts'


def _per_host(setting: Setting, asked: Slice) -> int:
    """Devices of a pod, which has a node for itself."""
    given = setting.chips_per_host
    if not asked.is_tpu:
        require(setting.slices == 1, f'--slices={setting.slices}: of TPUs only; GPUs need 1')
        require(given is None, f'--chips_per_host={given}: of TPUs only; leave it out')
        return asked.shape[1]
    usual = min(asked.chips, DEVICES[asked.kind].host)
    allowed = {usual, WHOLE_HOST} if asked.shape == (2, 4) else {usual}
    require(
        given is None or given in allowed,
        f'--chips_per_host={given}: nodes of {setting.topology} have '
        f'{" or ".join(map(str, sorted(allowed)))}',
    )
    return given or usual


def _driver(asked: Slice) -> dict[str, str]:
    return {} if asked.is_tpu else {'LD_LIBRARY_PATH': DRIVER_FOLDER}


def _claims(setting: Setting) -> dict[str, str]:
    """Claims by the folder that each is mounted at."""
    found: dict[str, str] = {}
    for word in setting.volumes:
        claim, _, path = word.partition(':')
        require(
            bool(claim) and path.startswith('/') and path not in found,
            f'--volumes={word}: must be CLAIM:/PATH, each path once',
        )
        found[path] = claim
    return found


def _where(setting: Setting) -> list[str]:
    return ['kubectl', *([f'--context={setting.context}'] if setting.context else [])]


def _kubectl(setting: Setting) -> list[str]:
    # Not apply: that would take a JobSet which is already there, ended or not, for this one.
    return [*_where(setting), 'create', '--filename=-']
