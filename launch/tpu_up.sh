# shellcheck shell=bash
# `tpu_pod.sh up`: a slice, and a run on it, until the run ends. Sourced by tpu_pod.sh.

say() {
  printf '%s %s\n' "$(date +%H:%M:%S)" "$*"
}

up() {
  if [[ -v option[dry_run] ]]; then
    up_in_words
    return
  fi
  trap 'say "up is over; the slice lives on, and costs: up again, or delete"; exit 130' INT TERM
  started=''
  failures=0
  while true; do
    one_look
    sleep "${option[poll_seconds]:-60}"
  done
}

# What the loop does, for --dry_run.
up_in_words() {
  local every="every ${option[poll_seconds]:-60} s"
  create
  echo "# $every; ACTIVE: install and start; SUSPENDED (preempted): delete and create"
  list_slices
  install
  start
  echo "# $every, until the run has finished, failed or been stopped"
  on_workers all "$STATUS"
  [[ -v option[keep] ]] || delete
}

list_slices() {
  tpus queued-resources list "--format=value(name.basename(),state.state)"
}

# Looks once at how things stand, and does what is next.
one_look() {
  slice=$(list_slices 2>/dev/null | awk -v name="${option[name]}" '$1 == name { print $2 }') ||
    slice="no answer"
  say "slice: ${slice:-none}"
  case $slice in
    '') attempt create ;;
    SUSPENDED) # preempted: the hosts are gone, and the request leads to no others
      started=''
      attempt delete
      ;;
    FAILED) finish 1 "the slice cannot be had (tpu_pod.sh status, and quota)" ;;
    ACTIVE) look_at_run ;;
    *) ;; # waiting, being made, being taken away
  esac
}

look_at_run() {
  local states
  # The states of the run on all hosts, each once.
  states=$(on_workers all "$STATUS" 2>/dev/null | awk -F' cloob_jax: ' 'NF > 1 { print $2 }' |
    sort -u | paste -sd, -) || states="no answer${states:+, $states}"
  say "run: ${states:=no answer}"
  case $states in
    *failed*)
      on_workers all "bash cloob_jax/launch/tpu_worker.sh tail" || true
      finish 1 "the run has failed ($states); its last lines are above"
      ;;
    *running*) started=yes ;;
    *ending*) ;; # the hosts are being taken away
    finished) finish 0 "the run has finished" ;;
    *) # stopped; or a new slice, on which nothing is installed; or ssh does not work just now
      if [[ -z $started ]]; then
        attempt begin
      elif [[ $states != *"no answer"* ]]; then
        finish 0 "the run was stopped ($states); up again goes on with it"
      fi
      ;;
  esac
}

begin() {
  install && start && started=yes
}

# Does something that may fail for a while, as ssh does on new hosts; five times in a row is
# too much.
attempt() {
  if "$1"; then
    failures=0
    return
  fi
  failures=$((failures + 1))
  say "$1: failed, $failures in a row"
  ((failures < 5)) || finish 1 "$1 has failed five times in a row"
}

# finish STATUS REASON
finish() {
  if [[ -z $slice ]]; then
    say "$2; there is no slice"
  elif [[ -v option[keep] ]]; then
    say "$2; the slice ${option[name]} stays, and costs until it is deleted (tpu_pod.sh delete)"
  elif delete; then
    say "$2; the slice is deleted"
  else
    say "$2; THE SLICE ${option[name]} COULD NOT BE DELETED, AND COSTS: tpu_pod.sh delete"
  fi
  exit "$1"
}
