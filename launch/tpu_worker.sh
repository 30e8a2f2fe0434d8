#!/usr/bin/env bash
# What tpu_pod.sh does on each worker of a slice, as a service of systemd.
#
#   launch/tpu_worker.sh install          Python and the code's requirements, in ~/cloob_jax_venv
#   launch/tpu_worker.sh start -- ARGUMENTS
#   launch/tpu_worker.sh status           running, finished, stopped, ending, failed with N
#   launch/tpu_worker.sh stop             waits until the run has saved
#   launch/tpu_worker.sh logs             the last lines, and what comes
#   launch/tpu_worker.sh tail             the last lines
#
# The service outlives the ssh session, starts again with the machine, and reads variables
# of the environment from ~/cloob_jax.env if that is there. To look at it: systemctl status cloob_jax

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/options.sh
source "$here/options.sh"
root=$(dirname "$here")
venv=$HOME/cloob_jax_venv

install() {
  [[ ! -f $HOME/cloob_jax.env ]] || chmod 600 "$HOME/cloob_jax.env" # it may hold keys
  # The system's Python may be too old (3.10 on Ubuntu 22.04), and its packages are not
  # ours to change; uv brings a Python of its own. The variable is for Ubuntu 24.04, whose
  # pip refuses to install beside the system's packages without it.
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet --upgrade uv
  python3 -m uv venv --quiet --allow-existing --python=3.12 "$venv"
  python3 -m uv pip install --quiet --python="$venv/bin/python" \
    --constraint="$root/constraints.txt" --editable "${root}[tpu,gs]"
  "$venv/bin/python" -c 'import jax; print("cloob_jax: installed, with JAX", jax.__version__)'
}

unit() {
  cat <<UNIT
[Unit]
Description=cloob_jax
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User=$(id --user --name)
WorkingDirectory=$root
Environment=PYTHONUNBUFFERED=1
EnvironmentFile=-$HOME/cloob_jax.env
# As root (+): huge pages shorten the start of TPUs, says JAX.
ExecStartPre=-+/bin/sh -c 'echo always > /sys/kernel/mm/transparent_hugepage/enabled'
ExecStart=/bin/bash $HOME/cloob_jax_run.sh
# A run that has finished counts as active (exited), one that was stopped as inactive.
RemainAfterExit=yes
# SIGTERM to the supervisor alone, which passes it on; time to save before SIGKILL.
KillMode=mixed
TimeoutStopSec=600
# Otherwise systemd stops all when the kernel kills one process for its memory.
OOMPolicy=continue
# Services do not get the limits of login sessions; the TPU's driver locks memory.
LimitMEMLOCK=infinity
LimitNOFILE=524288

[Install]
WantedBy=multi-user.target
UNIT
}

start() {
  (($#)) || fail "expected arguments of cloob_jax.main after --"
  # In a file of its own: systemd reads quotes, % and $ otherwise than a shell.
  {
    echo '#!/usr/bin/env bash'
    printf 'exec %s\n' "$(quoted "$venv/bin/python" -m cloob_jax.supervise -- "$@")"
  } >"$HOME/cloob_jax_run.sh"
  unit | sudo tee /etc/systemd/system/cloob_jax.service >/dev/null
  sudo systemctl daemon-reload
  sudo systemctl enable --quiet cloob_jax
  sudo systemctl restart cloob_jax
}

status() {
  local state
  state=$(systemctl show cloob_jax --property=SubState --value)
  case $state in
    exited) state=finished ;;
    failed) state="failed with $(systemctl show cloob_jax --property=ExecMainStatus --value)" ;;
    dead) state=stopped ;;
    *) state=running ;;
  esac
  # A machine that is taken away stops its services first.
  [[ $(systemctl is-system-running) != stopping ]] || state=ending
  echo "$(hostname) cloob_jax: $state"
}

case ${1:-} in
  install) install ;;
  start)
    [[ ${2:-} == -- ]] || fail "start: expected -- and arguments of cloob_jax.main"
    start "${@:3}"
    ;;
  status) status ;;
  stop) sudo systemctl disable --now --quiet cloob_jax ;;
  logs) sudo journalctl --unit=cloob_jax --output=cat --lines=100 --follow ;;
  tail) sudo journalctl --unit=cloob_jax --output=cat --lines=50 --no-pager ;;
  --help) usage "$0" ;;
  *) fail "${1:-nothing}: expected install, start, status, stop, logs or tail; see --help" ;;
esac
