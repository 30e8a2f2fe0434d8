"""The traffic of programs whose collectives are known by hand."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from cloob_jax import sharding
from cloob_jax.planning import collectives, hlo
from cloob_jax.planning.collectives import Collective

_ROWS, _COLUMNS = 16, 8  # on each device, float32
_BYTES = 4 * _ROWS * _COLUMNS


def compiled(body, out_specs):
    """The text of a program on eight devices, data 2 x fsdp 4."""
    mesh = sharding.make_mesh(2, 4, 1)
    rows = P(("data", "fsdp"))
    run = jax.shard_map(body, mesh=mesh, in_specs=rows, out_specs=out_specs)
    x = jax.ShapeDtypeStruct((8 * _ROWS, _COLUMNS), jnp.float32)
    return jax.jit(run).lower(x).compile().as_text()


def of(text):
    traffic = collectives.count(hlo.Program(text))
    assert traffic.unknown == 0
    return traffic.by_kind


@pytest.mark.parametrize(("axes", "group"), [("fsdp", 4), (("data", "fsdp"), 8)])
def test_each_kind_in_groups_of_some_or_all_devices(axes, group):
    split = P(("data", "fsdp"))
    share = (group - 1) / group
    found = of(compiled(lambda x: lax.psum(x, axes), P("data")))
    assert found == {"all-reduce": Collective(1, _BYTES, 2 * share * _BYTES)}
    found = of(compiled(lambda x: lax.all_gather(x, axes, tiled=True), split))
    gathered = group * _BYTES
    assert found == {"all-gather": Collective(1, gathered, share * gathered)}
    found = of(compiled(lambda x: lax.psum_scatter(x, axes, tiled=True), split))
    assert found == {"reduce-scatter": Collective(1, _BYTES, share * _BYTES)}
    found = of(compiled(lambda x: lax.all_to_all(x, axes, 0, 0, tiled=True), split))
    assert found == {"all-to-all": Collective(1, _BYTES, share * _BYTES)}


def ring(x):
    def hop(x, _):
        around = [(i, (i + 1) % 4) for i in range(4)]
        return lax.ppermute(x, "fsdp", around) * 1.5, None

    def lap(x, _):
        return lax.scan(hop, x, None, length=3)[0] + 1, None

    return lax.scan(lap, x, None, length=5)[0]


@pytest.mark.parametrize("is_told", [True, False])
def test_loops_in_loops_count_as_often_as_they_run(is_told):
    text = compiled(ring, P(("data", "fsdp")))
    if not is_told:  # as on TPU, where the length stands in the condition alone
        text, told = re.subn(r'"known_trip_count":\{"n":"\d+"\}', "", text)
        assert told == 2
    found = of(text)["collective-permute"]
    assert found == Collective(15, 15 * _BYTES, 15.0 * _BYTES)


def test_a_loop_of_unknown_length_is_told():
    def until(x):
        def hop(x):
            return lax.ppermute(x, "fsdp", [(0, 1), (1, 0)]) - 1

        return lax.while_loop(lambda x: jnp.max(x) > 0, hop, x)

    traffic = collectives.count(hlo.Program(compiled(until, P(("data", "fsdp")))))
    assert traffic.unknown == 1
    assert traffic.by_kind["collective-permute"].count == 1


def test_a_gradient_step_reduces_its_gradients():
    mesh = sharding.make_mesh(8, 1, 1)
    rows = sharding.batch_sharding(mesh, 32)
    whole = sharding.replicated(mesh)
    step = jax.jit(
        jax.grad(lambda w, x: jnp.sum(jnp.sin(x @ w))),
        in_shardings=(whole, rows),
        out_shardings=whole,
    )
    w, x = jnp.ones((16, 24)), jnp.ones((32, 16))
    found = of(step.lower(w, x).compile().as_text())
    size = 4 * 16 * 24
    assert found == {"all-reduce": Collective(1, size, 2 * 7 / 8 * size)}


# Lines as the compilers for TPU write them, with what is beside the point left out.
_TPU = """\
HloModule jit_step, is_scheduled=true, num_partitions=16

%fused.1 (p: f32[64,8]) -> f32[512,8] {
  %ag.1 = f32[512,8]{1,0:T(8,128)} all-gather(%p), channel_id=4, \
replica_groups=mesh['a'=2,'b'=8] {'b'}, frontend_attributes={chain_id="6"}
}

%fused.2 (p: f32[64,8]) -> f32[512,8] {
  %ag.2 = f32[512,8]{1,0:T(8,128)S(1)} all-gather(%p), channel_id=4, \
replica_groups=mesh['a'=2,'b'=8] {'b'}, frontend_attributes={chain_id="6"}
}

%async (p: bf16[128]) -> bf16[8] {
  %rs = bf16[8]{0} reduce-scatter(%p), replica_groups={}, to_apply=%sum
}

%all-reduce-scatter.3.clone (p: f32[64,8]) -> f32[16,8] {
  %whole = f32[64,8]{1,0:T(8,128)} all-reduce(%p), replica_groups=[4,4]<=[16], \
to_apply=%sum
  ROOT %own = f32[16,8]{1,0:T(8,128)} dynamic-slice(%whole, %i, %o), \
dynamic_slice_sizes={16,8}
}

%sparsecore (p: f32[4,8]) -> f32[4,8] {
  %q = f32[4,8]{1,0} parameter(0)
  ROOT %aa = f32[4,8]{1,0} all-to-all(%q), replica_groups={{0,1,2,3}}
}

%sum (a: bf16[], b: bf16[]) -> bf16[] {
  ROOT %add = bf16[] add(%a, %b)
}

ENTRY %main (p: f32[64,8]) -> f32[64,8] {
  %f.1 = f32[512,8]{1,0} fusion(%p), kind=kCustom, calls=%fused.1
  %f.2 = f32[512,8]{1,0} fusion(%p), kind=kCustom, calls=%fused.2
  %f.3 = f32[16,8]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.3.clone
  %s = ((bf16[128]{0}), bf16[8]{0}) async-start(%x), calls=%async
  %d = bf16[8]{0} async-done(%s)
  %ar = (f32[4]{0}, pred[4]{0}) all-reduce(%y, %z), \
replica_groups=mesh['a'=1,'b'=8,'c'=2], device_ids=([2,8]T(1,0)) {'b'}, to_apply=%sum
  %cs = (f32[9]{0:S(1)}, f32[9]{0}, u32[]{:S(2)}, u32[]{:S(2)}) \
collective-permute-start(%y), source_target_pairs={{0,1},{1,0}}
  %cd = f32[9]{0} collective-permute-done(%cs)
  %gs = (bf16[4]{0}, bf16[8]{0}) all-gather-start(%y), replica_groups=[8,2]<=[16]
  %gd = bf16[8]{0} all-gather-done(%gs)
  %cc = ((f32[4,8]{1,0}, token[]), f32[4,8]{1,0}) call-start(%y, %t), \
async_execution_thread="sparsecore", to_apply=%sparsecore
}
"""


def test_chains_and_asynchronous_forms_count_once():
    once = 512 * 8 * 4
    assert of(_TPU) == {
        "all-reduce": Collective(1, 20, 2 * 7 / 8 * 20),
        "all-gather": Collective(2, once + 16, 7 / 8 * once + 8),
        "reduce-scatter": Collective(2, 256 + 2048, 15 / 16 * 256 + 3 / 4 * 2048),
        "all-to-all": Collective(1, 128, 3 / 4 * 128),
        "collective-permute": Collective(1, 36, 36.0),
    }
