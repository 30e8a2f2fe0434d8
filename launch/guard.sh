# shellcheck shell=bash
# What stands between a person and a bill: facts, the region of buckets, a yes. Sourced.

# One line of the facts.
fact() {
  printf '%-8s %s\n' "$1" "$2"
}

# chip_hours CHIPS TYPE PAGE
chip_hours() {
  fact cost "$1 chip-hours an hour, $(($1 * 24)) a day, from creation until it is deleted"
  fact price "of a chip-hour of $2: $3"
}

# spot_or_on_demand: the one of the two that was given.
spot_or_on_demand() {
  [[ -v option[spot] || -v option[on_demand] ]] ||
    fail "give --spot (cheaper, taken away at any time) or --on_demand"
  [[ ! (-v option[spot] && -v option[on_demand]) ]] || fail "--spot or --on_demand, not both"
  if [[ -v option[spot] ]]; then printf spot; else printf on-demand; fi
}

# check_arguments REGION: what cloob_jax.main needs on machines that come and go.
check_arguments() {
  # shellcheck disable=SC2154  # of options.sh
  ((${#arguments[@]})) || fail "expected -- and arguments of cloob_jax.main, such as --config=FILE"
  [[ " ${arguments[*]}" =~ \ --?workdir[=\ ]gs:// ]] ||
    fail "--workdir=gs://BUCKET/RUN is missing after --: the machines share no disk, and disks go with them"
  check_buckets "$1" "${arguments[@]}"
}

# check_buckets REGION WORD...: refuses buckets named in the words that lie elsewhere.
# Reading from another region is slow, and paid by the byte: more than the chips, at times.
check_buckets() {
  local region=$1 bucket locations regions
  shift
  while read -r bucket; do
    locations=
    if [[ $bucket == gs://* ]]; then
      local ask=(gcloud storage buckets describe "$bucket" "--format=value(location,data_locations)")
      if [[ -v option[dry_run] ]]; then
        run "${ask[@]}"
        continue
      fi
      locations=$("${ask[@]}") ||
        fail "$bucket: gcloud cannot tell where it lies; is the name right, and may you read it?"
      # Upper case, separated by tabs and semicolons: a dual-region names two regions.
      read -ra regions < <(tr 'A-Z;\t' 'a-z  ' <<<"$locations")
      locations=${regions[*]}
    fi
    if [[ " $locations " == *" $region "* ]]; then
      fact bucket "$bucket lies in $region, as the machines do"
    elif [[ -v option[allow_other_region] ]]; then
      fact bucket "$bucket lies in ${locations:-another cloud}, not in $region: what is read is paid by the byte"
    else
      fail "$bucket lies in ${locations:-another cloud}, and the machines in $region: reading is slow and paid by the byte; copy it to a bucket in $region, or give --allow_other_region"
    fi
  done < <(printf '%s\n' "$@" | grep -oE '(gs|s3)://[A-Za-z0-9._-]+' | sort -u)
}

# Asks a person, unless --yes.
confirm() {
  local answer
  [[ ! -v option[yes] && ! -v option[dry_run] ]] || return 0
  [[ -t 0 ]] || fail "$1 Nobody is there to answer: give --yes; nothing was done"
  read -rp "$1 [y/N] " answer
  [[ $answer == [yY]* ]] || fail "nothing was done"
}
