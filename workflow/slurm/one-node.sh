#!/usr/bin/env bash
# A SLURM of one node on this machine, for trying the cluster profile without a cluster.
#
#     eval "$(workflow/slurm/one-node.sh start FOLDER)"    # the environment in which sbatch finds it
#     workflow/slurm/one-node.sh stop FOLDER
#
# Needs Debian's packages slurm-wlm and munge. Everything (keys, states, logs) lies in FOLDER, nothing in /etc;
# the ports are not SLURM's own, so it does not meet an installed one. FOLDER must be on a local disk.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -eq 2 ] || usage
folder=$(mkdir -p "$2" && cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin

start() {
  for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || {
      echo "$program is not installed; on Debian or Ubuntu: apt-get install slurm-wlm munge" >&2; exit 1; }
  done
  mkdir -p "$folder"/{bin,state,spool,log}
  ln -sfn "$(mktemp -d)" "$folder/munge"  # its own place, because munge's user may not enter FOLDER
  # Snakemake calls srun without the SLURM variables, and so without the way to this configuration.
  printf '#!/bin/sh\nSLURM_CONF="%s" exec "%s" "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$folder/bin/srun"
  chmod +x "$folder/bin/srun"
  (umask 077; head -c 1024 /dev/urandom >"$folder/munge/key")
  munge=$(readlink "$folder/munge")
  chmod 755 "$munge"
  daemon=(munged --force --key-file="$munge/key" --socket="$munge/socket"
    --pid-file="$munge/pid" --log-file="$munge/log" --seed-file="$munge/seed")
  if [ "$(id -u)" -eq 0 ]; then  # munge refuses to run as root
    chown -R munge "$munge"
    runuser -u munge -- "${daemon[@]}"
  else
    "${daemon[@]}"
  fi
  cat >"$SLURM_CONF" <<EOF
ClusterName=one-node
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
EOF
  slurmctld
  slurmd -N localhost
  for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated'; then
      echo "export SLURM_CONF='$SLURM_CONF' PATH='$folder/bin':\$PATH"
      exit 0
    fi
    sleep 1
  done
  echo "SLURM did not come up within a minute; its last words:" >&2
  tail -n 5 "$folder"/log/* >&2
  stop
  exit 1
}

stop() {
  for pid in "$folder"/{slurmd.pid,slurmctld.pid,munge/pid}; do
    if [ -s "$pid" ]; then kill "$(cat "$pid")" 2>/dev/null || true; fi
  done
  if [ -L "$folder/munge" ]; then rm -rf "$(readlink "$folder/munge")" "$folder/munge"; fi
}

case $1 in start) start ;; stop) stop ;; *) usage ;; esac
