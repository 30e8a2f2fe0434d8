#!/usr/bin/env bash
# Trains on a slice of a Cloud TPU pod: creates it, runs on all its hosts, deletes it.
#
#   launch/tpu_pod.sh COMMAND --name=NAME --zone=ZONE [OPTIONS] [-- ARGUMENTS]
#   launch/tpu_pod.sh up --name=mine --zone=us-west4-a --accelerator=v5litepod-256 --spot \
#       -- --config=configs/laion_vit_b16.py --workdir=gs://BUCKET/runs/mine
#
# ARGUMENTS go to cloob_jax.main as they are. Commands:
#   create    ask for the slice, through a queued resource of that name
#   install   copy the last commit to all hosts, install what it requires
#   start     train on all hosts, restarted there when a process dies; again: other ARGUMENTS
#   status    of the slice, and of the run on each host
#   logs      of one host, as they come
#   stop      save, and end the run; the slice stays
#   delete    the slice, and with it all that lies on its disks
#   up        all of this, until the run ends, however it ends: waits for the slice, creates
#             it again after a preemption, deletes it at the end. May be ended and started
#             again at any time; the slice lives on meanwhile.
#
#   --name=NAME              of the slice
#   --zone=ZONE              such as us-west4-a
#   --accelerator=TYPE       such as v5litepod-256 (v5e), v5p-128, v6e-64
#   --spot, --on_demand      one of the two, to create
#   --runtime_version=NAME   instead of the one that Google names for the type
#   --create_flags=FLAGS     more for `gcloud compute tpus queued-resources create`, split at spaces
#   --project=PROJECT        instead of gcloud's
#   --env_file=FILE          NAME=VALUE lines, for the environment of the run (install)
#   --worker=N               whose logs (0), or all
#   --poll_seconds=N         how often up looks (60)
#   --keep                   up leaves the slice as it is at the end, and it goes on costing
#   --allow_other_region     though a bucket lies in another region than the slice
#   --yes                    ask nothing
#   --dry_run                print the commands, run none

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/options.sh
source "$here/options.sh"
# shellcheck source=launch/guard.sh
source "$here/guard.sh"
root=$(dirname "$here")
STATUS="bash cloob_jax/launch/tpu_worker.sh status"

tpus() { # tpus KIND VERB WORDS: gcloud's command for this slice
  run gcloud compute tpus "$1" "$2" "${@:3}" "--zone=${option[zone]}" \
    ${option[project]:+"--project=${option[project]}"}
}

on_workers() { # on_workers all|N COMMAND
  tpus tpu-vm ssh "${option[name]}" "--worker=$1" "--command=$2"
}

check_accelerator() { # sets chips and runtime_version
  need accelerator
  [[ ${option[accelerator]} =~ ^(v2|v3|v4|v5litepod|v5p|v6e)-([1-9][0-9]*)$ ]] ||
    fail "--accelerator=${option[accelerator]}: expected v4-N, v5litepod-N (v5e), v5p-N or v6e-N; newer ones are had through GKE: launch/gke/gke.sh"
  chips=${BASH_REMATCH[2]}
  # cloud.google.com/tpu/docs/runtimes; the older types and v5p count cores, two a chip.
  case ${BASH_REMATCH[1]} in
    v5litepod) runtime_version=v2-alpha-tpuv5-lite ;;
    v6e) runtime_version=v2-alpha-tpuv6e ;;
    v5p) runtime_version=v2-alpha-tpuv5 chips=$((chips / 2)) ;;
    *) runtime_version=tpu-ubuntu2204-base chips=$((chips / 2)) ;;
  esac
  runtime_version=${option[runtime_version]:-$runtime_version}
}

check_creation() {
  local tier
  tier=$(spot_or_on_demand)
  check_accelerator
  fact slice "${option[name]}: ${option[accelerator]}, $chips chips, $tier, in ${option[zone]}, $runtime_version"
  chip_hours "$chips" "${option[accelerator]}" https://cloud.google.com/tpu/pricing
}

check_code() {
  local commit
  commit=$(git -C "$root" log -1 --format='%h %s' 2>/dev/null) ||
    fail "$root: not a checkout of git, whose last commit would be copied to the hosts"
  fact code "$commit"
  [[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] ||
    fact code "without the changes that are not committed"
  [[ ! -v option[env_file] || -f ${option[env_file]} ]] || fail "--env_file=${option[env_file]}: no such file"
}

check_run() {
  local word path
  check_arguments "${option[zone]%-*}"
  for word in "${arguments[@]}"; do
    [[ $word =~ ^--?config=([^:]+) ]] || continue
    path=${BASH_REMATCH[1]}
    git -C "$root" cat-file -e "HEAD:$path" 2>/dev/null ||
      fail "--config=$path: not in the last commit, which is what the hosts have; commit it"
  done
}

create() {
  local flags=() more=()
  [[ ! -v option[spot] ]] || flags+=(--spot)
  [[ ! -v option[create_flags] ]] || read -ra more <<<"${option[create_flags]}"
  tpus queued-resources create "${option[name]}" "--node-id=${option[name]}" \
    "--accelerator-type=${option[accelerator]}" "--runtime-version=$runtime_version" \
    "${flags[@]}" "${more[@]}"
}

install() { # joined by &&, as `up` asks whether it went well
  local archive=$root/build/cloob_jax.tar.gz
  run mkdir -p "$root/build" &&
    run git -C "$root" archive --format=tar.gz "--output=$archive" HEAD &&
    tpus tpu-vm scp "$archive" "${option[name]}:cloob_jax.tar.gz" --worker=all &&
    if [[ -v option[env_file] ]]; then
      tpus tpu-vm scp "${option[env_file]}" "${option[name]}:cloob_jax.env" --worker=all
    fi &&
    on_workers all "mkdir -p cloob_jax && tar -xzf cloob_jax.tar.gz -C cloob_jax && bash cloob_jax/launch/tpu_worker.sh install"
}

start() {
  on_workers all "bash cloob_jax/launch/tpu_worker.sh start -- $(quoted "${arguments[@]}")"
}

delete() { # --force: the slice too, not only its place in the queue
  tpus queued-resources delete "${option[name]}" --force --quiet
}

# shellcheck source=launch/tpu_up.sh
source "$here/tpu_up.sh"

take_command "$@"
(($# == 0)) || shift
parse_options "name= zone= accelerator= spot on_demand runtime_version= create_flags= project= \
env_file= worker= poll_seconds= keep allow_other_region yes dry_run" "$@"
case $command in
  create | install | start | status | logs | stop | delete | up) need_name name zone ;;
  *) fail "$command: expected create, install, start, status, logs, stop, delete or up; see --help" ;;
esac
[[ ${option[poll_seconds]:-60} =~ ^[0-9]+$ ]] ||
  fail "--poll_seconds=${option[poll_seconds]}: expected a number of seconds"

case $command in
  create)
    check_creation
    confirm "Create it?"
    create
    ;;
  install)
    check_code
    install
    ;;
  start)
    check_run
    start
    ;;
  status)
    state=$(tpus queued-resources describe "${option[name]}" "--format=value(state.state)")
    echo "$state"
    [[ $state != ACTIVE && ! -v option[dry_run] ]] || on_workers all "$STATUS"
    ;;
  logs) on_workers "${option[worker]:-0}" "bash cloob_jax/launch/tpu_worker.sh logs" ;;
  stop) on_workers all "bash cloob_jax/launch/tpu_worker.sh stop" ;;
  delete)
    confirm "Delete the slice ${option[name]} in ${option[zone]}, and all that lies on its disks?"
    delete
    ;;
  up)
    check_creation
    check_code
    check_run
    confirm "Create it, again after each preemption, and delete it when the run ends?"
    up
    ;;
esac
