#!/usr/bin/env bash
# Runs one machine's part of a run under a supervisor, for SLURM and Kubernetes.
#
#   launch/worker.sh ARGUMENTS      (they go to cloob_jax.main as they are)
#
# The supervisor ends with 0 both when the run is finished and when SIGTERM has stopped
# it. SLURM and Kubernetes take 0 for finished and would not start it again, so that here
# a run that was told to stop ends with 143, as if the signal had killed it.

set -uo pipefail
stopped=

# shellcheck disable=SC2329  # by the trap
pass_on() {
  # A scheduler may send the signal both to this shell and through srun; the run would
  # take the second for impatience, and end without having saved.
  trap '' TERM
  stopped=yes
  [[ -z ${!:-} ]] || kill -TERM "$!"
}

trap pass_on TERM
"${PYTHON:-python}" -m cloob_jax.supervise -- "$@" &
wait "$!"
status=$?
if [[ -n $stopped ]]; then
  wait "$!" # the first wait ended with the signal, before the run did
  status=143
fi
exit "$status"
