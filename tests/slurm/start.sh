#!/usr/bin/env bash
# Slurm on this machine alone, for tests: munged, slurmctld and slurmd of Debian's slurm-wlm, without
# systemd, as root. `start.sh FOLDER` starts them; SLURM_CONF=FOLDER/slurm.conf is then all that
# sbatch and the rest need. `start.sh FOLDER stop` ends them. Nothing outside FOLDER is written.
set -euo pipefail
folder=$(readlink -f "$1")
host=$(hostname -s)

if [ "${2:-}" = stop ]; then
  for name in slurmd slurmctld munged; do
    [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" || true
  done
  exit
fi

free_port() {
  python3 -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])'
}

mkdir -p "$folder/state" "$folder/spool"
# munged insists on folders that others cannot write to.
chmod 755 "$folder"
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 600 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"

# More processors than there may be: tests run several tasks on one of them.
cat > "$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF="$folder/slurm.conf"
slurmctld
slurmd
for _ in $(seq 60); do
  [ "$(sinfo --noheader --format=%t)" = idle ] && exit
  sleep 0.5
done
echo "start.sh: no node is idle; the logs are in $folder" >&2
tail -n 5 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
exit 1
