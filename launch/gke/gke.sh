#!/usr/bin/env bash
# Trains on TPUs or GPUs in a cluster of Google Kubernetes Engine.
#
#   launch/gke/gke.sh COMMAND --name=NAME [OPTIONS] [-- ARGUMENTS]
#   launch/gke/gke.sh start --name=mine --zone=us-west4-a --image=IMAGE \
#       --machine_type=ct5lp-hightpu-4t --topology=16x16 \
#       -- --config=configs/laion_vit_b16.py --workdir=gs://BUCKET/runs/mine
#
# ARGUMENTS go to cloob_jax.main as they are. kubectl's current context is the cluster,
# with JobSet installed, and Kueue for queues. Commands:
#   create    a pool of nodes with the chips
#   queue     objects of Kueue by which runs wait for the pool's chips
#   start     the run: a JobSet, whose pods are made anew when nodes are lost
#   status    of the run and its pods
#   logs      of one pod, as they come
#   stop      the run: its pods save and end
#   delete    the pool of nodes
#
#   --name=NAME              of the run
#   --pool=NAME              of the pool of nodes (the run's name)
#   --machine_type=TYPE      such as ct5lp-hightpu-4t, ct6e-standard-4t, a3-highgpu-8g
#   --topology=AxB           of a slice of TPUs, such as 16x16
#   --nodes=N                of GPUs
#   --image=IMAGE            built with launch/gke/Dockerfile, to start
#   --zone=ZONE              where the chips are, to create and to start
#   --cluster=NAME, --location=PLACE   of the cluster, to create and to delete
#   --gpu_type=TYPE          such as nvidia-h100-80gb, to create
#   --spot, --on_demand      one of the two, to create
#   --queue=NAME             of Kueue, to wait in; without, the run starts at once
#   --namespace=NAME         of Kubernetes (default)
#   --service_account=NAME   of Kubernetes, which may read and write the buckets (default)
#   --project=PROJECT        instead of gcloud's
#   --pod=N                  whose logs (0)
#   --allow_other_region     though a bucket lies in another region than the chips
#   --yes                    ask nothing
#   --dry_run                print the commands and the manifest, run none

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/options.sh
source "$here/../options.sh"
# shellcheck source=launch/guard.sh
source "$here/../guard.sh"

describe_machines() { # sets tpu, resource, chips_per_node, nodes, chips, template
  local machine
  need machine_type
  machine=${option[machine_type]}
  resource=google.com/tpu template=tpu.yaml
  # cloud.google.com/kubernetes-engine/docs/concepts/tpus: the label of each kind of node.
  case $machine in
    ct4p-hightpu-*t) tpu="tpu-v4-podslice" ;;
    ct5lp-hightpu-*t) tpu="tpu-v5-lite-podslice" ;;
    ct5p-hightpu-*t) tpu="tpu-v5p-slice" ;;
    ct6e-standard-*t) tpu="tpu-v6e-slice" ;;
    tpu7x-standard-*t) tpu="tpu7x" ;;
    *) tpu='' resource=nvidia.com/gpu template=gpu.yaml ;;
  esac
  [[ $machine =~ ^[a-z0-9]+-[a-z0-9]+-([1-9][0-9]*)[tg]$ && ($machine == *g || -n $tpu) ]] ||
    fail "--machine_type=$machine: expected TPUs such as ct6e-standard-4t, or GPUs such as a3-highgpu-8g"
  chips_per_node=${BASH_REMATCH[1]}
  if [[ -n $tpu ]]; then
    need topology
    [[ ! -v option[nodes] ]] || fail "--nodes: a slice of TPUs has as many as its --topology takes"
    [[ ${option[topology]} =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] ||
      fail "--topology=${option[topology]}: expected such as 4x8, or 4x4x8"
    chips=$((${option[topology]//x/*}))
    nodes=$((chips / chips_per_node))
    ((nodes * chips_per_node == chips)) ||
      fail "--topology=${option[topology]}: $chips chips do not fill nodes of $chips_per_node ($machine)"
  else
    need nodes
    [[ ! -v option[topology] ]] || fail "--topology: GPUs have none; give --nodes"
    [[ ${option[nodes]} =~ ^[1-9][0-9]*$ ]] || fail "--nodes=${option[nodes]}: expected a number"
    nodes=${option[nodes]}
    chips=$((nodes * chips_per_node))
  fi
}

check_creation() {
  local tier
  tier=$(spot_or_on_demand)
  need_name cluster location zone
  describe_machines
  [[ $tpu != tpu7x ]] ||
    fail "--machine_type=${option[machine_type]}: a pool of these needs a workload policy besides: make it as GKE's documentation says, then start"
  [[ -n $tpu ]] || need_name gpu_type
  fact pool "${option[pool]}: $nodes of ${option[machine_type]}, $chips chips, $tier, in ${option[zone]}"
  if [[ -n $tpu ]]; then
    chip_hours "$chips" "$tpu" https://cloud.google.com/tpu/pricing
  else
    chip_hours "$chips" "${option[gpu_type]}" https://cloud.google.com/compute/gpus-pricing
  fi
}

check_start() {
  need_name zone
  need image
  [[ ${option[image]} =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] ||
    fail "--image=${option[image]}: expected the name of an image, such as us-docker.pkg.dev/PROJECT/REPOSITORY/cloob_jax:1"
  describe_machines
  fact run "${option[name]}: $nodes pods, $chips chips ($resource), in ${option[zone]}"
  check_arguments "${option[zone]%-*}"
}

create() {
  local flags=(--scopes=cloud-platform)
  # A slice of one host is a pool without a topology.
  [[ -z $tpu || $nodes == 1 ]] || flags+=("--tpu-topology=${option[topology]}")
  [[ -n $tpu ]] || flags+=("--accelerator=type=${option[gpu_type]},count=$chips_per_node,gpu-driver-version=latest")
  [[ ! -v option[spot] ]] || flags+=(--spot)
  pools create "--node-locations=${option[zone]}" "--machine-type=${option[machine_type]}" \
    "--num-nodes=$nodes" "${flags[@]}"
}

pools() { # pools VERB WORDS: gcloud's command for the pool
  run gcloud container node-pools "$1" "${option[pool]}" "--cluster=${option[cluster]}" \
    "--location=${option[location]}" ${option[project]:+"--project=${option[project]}"} "${@:2}"
}

# The arguments as a list of YAML, in double quotes, which YAML reads as JSON does.
argument_list() {
  local word separator=''
  for word in "${arguments[@]}"; do
    word=${word//'$'/'$$'} # Kubernetes would expand $(NAME)
    word=${word//\\/\\\\}
    word=${word//\"/\\\"}
    word=${word//$'\n'/\\n}
    word=${word//$'\t'/\\t}
    [[ $word != *[[:cntrl:]]* ]] || fail "an argument holds a control character: ${word@Q}"
    printf '%s- "%s"' "$separator" "$word"
    separator=$'\n                    '
  done
}

# submit VERB FILE: the manifest with its names filled in, to kubectl.
submit() {
  local manifest name
  local -A value=(
    [NAME]=${option[name]} [POOL]=${option[pool]} [QUEUE]=${option[queue]:-}
    [QUEUE_LABEL]=${option[queue]:+"kueue.x-k8s.io/queue-name: ${option[queue]}"}
    [NAMESPACE]=${option[namespace]} [SERVICE_ACCOUNT]=${option[service_account]}
    [IMAGE]=${option[image]:-} [TOPOLOGY]=${option[topology]:-} [TPU]=$tpu [NODES]=$nodes
    [RESOURCE]=$resource [CHIPS]=$chips [CHIPS_PER_NODE]=$chips_per_node
  )
  manifest=$(<"$here/$2")
  for name in "${!value[@]}"; do
    manifest=${manifest//"\${$name}"/"${value[$name]}"}
  done
  # Last, as they may hold anything.
  manifest=${manifest//"\${ARGUMENTS}"/"$(argument_list)"}
  if [[ -v option[dry_run] ]]; then
    printf "%s <<'MANIFEST'\n%s\nMANIFEST\n" "$(quoted kubectl "$1" --filename=-)" "$manifest"
  else
    run kubectl "$1" --filename=- <<<"$manifest"
  fi
}

take_command "$@"
(($# == 0)) || shift
parse_options "name= pool= machine_type= topology= nodes= image= zone= cluster= location= \
gpu_type= spot on_demand queue= namespace= service_account= project= pod= allow_other_region \
yes dry_run" "$@"
case $command in
  create | queue | start | status | logs | stop | delete) need_name name ;;
  *) fail "$command: expected create, queue, start, status, logs, stop or delete; see --help" ;;
esac
: "${option[pool]:=${option[name]}}" "${option[namespace]:=default}" "${option[service_account]:=default}"
need_name pool namespace service_account
[[ ! -v option[queue] ]] || need_name queue
in_namespace="--namespace=${option[namespace]}"
pods="--selector=jobset.sigs.k8s.io/jobset-name=${option[name]}"

case $command in
  create)
    check_creation
    confirm "Create it?"
    create
    ;;
  queue)
    need_name queue
    describe_machines
    submit apply queue.yaml
    ;;
  start)
    check_start
    [[ -v option[dry_run] ]] || fact cluster "$(kubectl config current-context) (kubectl's context)"
    confirm "Start it?"
    submit create "$template"
    ;;
  status)
    run kubectl get jobset "${option[name]}" "$in_namespace"
    run kubectl get pods "$pods" "$in_namespace" --output=wide
    ;;
  logs)
    run kubectl logs "$pods,batch.kubernetes.io/job-completion-index=${option[pod]:-0}" "$in_namespace" \
      --tail=100 --follow
    ;;
  stop) run kubectl delete jobset "${option[name]}" "$in_namespace" ;;
  delete)
    need_name cluster location
    confirm "Delete the pool ${option[pool]} of the cluster ${option[cluster]}?"
    pools delete --quiet
    ;;
esac
