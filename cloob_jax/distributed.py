"""Joining the processes of a run, on one machine or many, into one JAX."""

import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import metadata

import jax

# There is no public way to ask which cluster this is without joining it.
from jax._src.clusters import ClusterEnv

from cloob_jax import rendezvous
from cloob_jax.command_line import show
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup

_VERSIONS_OF = ("cloob_jax", "jax", "jaxlib")


@dataclasses.dataclass(frozen=True)
class Place:
    """A process's place among those of its run.

    Attributes:
      address: of process 0, host and port.
      num_processes: how many there are, at least two.
      process_id: which of them this is.
      local_device_ids: the machine's devices that this process drives; None: all.
    """

    address: tuple[str, int]
    num_processes: int
    process_id: int
    local_device_ids: Sequence[int] | None = None


def find_place(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    timeout: float,
) -> Place | None:
    """The place that the flags give, or else JAX's knowledge of clusters.

    JAX knows Cloud TPU, GKE, SLURM and Open MPI; the latter two give each process the
    one device of its local rank, unless JAX_LOCAL_DEVICE_IDS says otherwise.

    Args:
      coordinator_address: HOST:PORT of process 0; for each of the three, None means
        not given.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      timeout: seconds that asking the cluster may take.

    Returns:
      None where there is no other process.

    Raises:
      UserError: something is missing or cannot be meant.
    """
    address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
    size, index, local_device_ids = num_processes, process_id, None
    if _is_interactive() and (address, size, index) == (None, None, None):
        return None
    if address is None or size is None or index is None:
        address, size, index, local_device_ids = _ask_cluster(
            address, size, index, timeout
        )
    if address is None and size is None and index is None:
        return None
    if address is None or size is None or index is None:
        raise UserError(
            "--coordinator_address, --num_processes and --process_id go together, "
            f"where no cluster tells them; there are {address}, {size} and {index}"
        )
    if size < 1:
        raise UserError(f"--num_processes={size}: expected at least 1")
    if not 0 <= index < size:
        raise UserError(f"--process_id={index}: expected 0 to {size - 1}, one for each")
    place = Place(_host_and_port(address), size, index, local_device_ids)
    return None if size == 1 else place


@contextlib.contextmanager
def joined(place: Place | None, timeout: float, stays: str) -> Iterator[ProcessGroup]:
    """Joins the processes of a run, for as long as it is entered.

    To be entered before JAX looks for devices. An error that leaves it in one process
    ends all of them, each with one line.

    Args:
      place: see `find_place`.
      timeout: seconds that the processes wait for each other.
      stays: what is not lost when the run ends early, for the message.

    Raises:
      UserError: the others do not come, or do not fit.
    """
    if place is None:
        yield ProcessGroup(stays=stays)
        return
    if place.process_id:
        hosts, connections = rendezvous.follow(
            place.address, place.process_id, place.num_processes, timeout
        )
    else:
        hosts, connections = rendezvous.lead(
            place.address, place.num_processes, timeout
        )
    group = ProcessGroup(place.process_id, hosts, connections, stays)
    try:
        group.agree({f"the version of {n}": metadata.version(n) for n in _VERSIONS_OF})
        _initialize(place, group)
        group.agree({"the number of local devices": jax.local_device_count()})
        yield group
        jax.distributed.shutdown()
        group.leave()
    except BaseException as error:
        # Not raised again: on the way out of Python JAX would wait for the others.
        group.end(error)


def _is_interactive() -> bool:
    """Whether this is SLURM's shell inside an allocation: one task, of a step of one.

    Its SLURM_NTASKS, by which JAX goes, is that of the allocation.
    """
    return os.environ.get("SLURM_STEP_NUM_TASKS") == "1"


def _ask_cluster(
    address: str | None, size: int | None, index: int | None, timeout: float
) -> tuple[str | None, int | None, int | None, Sequence[int] | None]:
    """The same with what JAX finds out, and the local devices."""
    try:
        return ClusterEnv.auto_detect_unset_distributed_params(
            address, size, index, None, None, int(timeout)
        )
    except Exception as error:  # the network, or variables that make no sense
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        show(f"the cluster does not tell of its processes: {reason}\n")
        return address, size, index, None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(
            f"--coordinator_address={address}: expected HOST:PORT of process 0, such "
            "as 10.0.0.1:8476"
        )
    return host.strip("[]"), int(port)


def _initialize(place: Place, group: ProcessGroup) -> None:
    """Starts JAX on a port that process 0 has found free."""
    port = group.share(_free_port() if group.is_leader else None)
    if not group.is_leader:
        near_port = _lead_to(place.address[0], port)
    try:
        jax.distributed.initialize(
            f"127.0.0.1:{port if group.is_leader else near_port}",
            place.num_processes,
            place.process_id,
            place.local_device_ids,
            cluster_detection_method="deactivate",
            initialization_timeout=60,
            coordinator_bind_address=f"[::]:{port}",
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"JAX cannot join the processes: {reason}") from error
    # JAX takes SIGTERM as a wish, which only a loop that runs could grant.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _free_port() -> int:
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


def _lead_to(host: str, port: int) -> int:
    """A port of this machine that leads to process 0's, and outlives it.

    A process whose connection to JAX's coordinator breaks is aborted by JAX that
    instant, with a page of log, often before it could say in one line what happened.
    """
    door = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = door.accept()
            far = None
            while far is None:
                try:
                    far = socket.create_connection((host, port))
                except OSError:  # it is being opened
                    time.sleep(0.05)
            for stream in (near, far):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return door.getsockname()[1]


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    # The sink stays open, which is the point.
