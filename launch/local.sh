#!/usr/bin/env bash
# Trains on one machine, in several processes that are restarted when one dies.
#
#   launch/local.sh [--dry_run] NUM_PROCESSES [--] ARGUMENTS
#   launch/local.sh 4 --config=configs/shapes_tiny.py --workdir=runs/four
#
# ARGUMENTS go to cloob_jax.main as they are. On CPUs each process has one device, or
# JAX_NUM_CPU_DEVICES. PYTHON names another interpreter than `python`.
#
#   --dry_run   print the command, run nothing

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/options.sh
source "$here/options.sh"

while (($#)); do
  case $1 in
    --help) usage "$0" ;;
    --dry_run) option[dry_run]=yes ;;
    *) break ;;
  esac
  shift
done
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] ||
  fail "${1:-nothing}: expected a number of processes first, as in launch/local.sh 4 --config=FILE"
num_processes=$1
shift
[[ ${1:-} != -- ]] || shift
(($#)) || fail "expected arguments of cloob_jax.main, such as --config=FILE"

command=("${PYTHON:-python}" -m cloob_jax.supervise "--num_processes=$num_processes" -- "$@")
if [[ -v option[dry_run] ]]; then
  run "${command[@]}"
else
  # In place of this shell, so that signals go to the supervisor itself.
  exec "${command[@]}"
fi
