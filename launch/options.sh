# shellcheck shell=bash
# Options, mistakes, and commands that are shown before they run. Sourced by the others.

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "${0##*/}: bash is ${BASH_VERSION}; 4.4 or newer is needed (macOS: brew install bash)" >&2
  exit 2
fi

declare -A option=() # what was given as --NAME=VALUE, or as --NAME
# shellcheck disable=SC2034  # for those who source this
arguments=() # what came after --, for cloob_jax.main

# Ends the script for a mistake of its user, in one line.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# Prints the comment that a script opens with.
usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"
  exit 0
}

# take_command "$@": sets `command` to the first word; --help before -- ends the script.
take_command() {
  local word
  # shellcheck disable=SC2034
  command=${1:-nothing}
  for word; do
    [[ $word != -- ]] || break
    [[ $word != --help ]] || usage "$0"
  done
}

# parse_options "zone= yes" "$@": options that take a value are known by their =.
parse_options() {
  local known=" $1 " name
  shift
  while (($#)); do
    if [[ $1 == -- ]]; then
      shift
      # shellcheck disable=SC2034
      arguments=("$@")
      return
    fi
    [[ $1 == --* ]] || fail "$1: unexpected; what is for cloob_jax.main goes after --"
    name=${1#--}
    name=${name%%=*}
    [[ $name =~ ^[a-z_]+$ && ($known == *" $name "* || $known == *" $name= "*) ]] ||
      fail "$1: unknown; what is for cloob_jax.main goes after --; see --help"
    [[ ! -v option[$name] ]] || fail "--$name: given twice"
    if [[ $known == *" $name= "* ]]; then
      [[ $1 == *=?* ]] || fail "--$name: expected --$name=VALUE"
      option[$name]=${1#*=}
    else
      [[ $1 != *=* ]] || fail "--$name: takes no value"
      option[$name]=yes
    fi
    shift
  done
}

# need NAME...: options without which the command makes no sense.
need() {
  local name
  for name; do
    [[ -v option[$name] ]] || fail "--$name=VALUE is missing; see --help"
  done
}

# need_name NAME...: values that become names of things, and parts of commands and files.
need_name() {
  local name
  need "$@"
  for name; do
    [[ ${option[$name]} =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
      fail "--$name=${option[$name]}: expected at most 40 small letters, digits and dashes"
  done
}

# One line that a shell reads as exactly these words.
quoted() {
  local word line=
  for word; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
      line+=" $word"
    else
      line+=" ${word@Q}"
    fi
  done
  printf '%s' "${line# }"
}

# Shows a command, and runs it unless --dry_run.
run() {
  if [[ -v option[dry_run] ]]; then
    printf '%s\n' "$(quoted "$@")"
  else
    printf '+ %s\n' "$(quoted "$@")" >&2
    "$@"
  fi
}
