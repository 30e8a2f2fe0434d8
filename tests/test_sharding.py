"""The mesh and the table of shardings."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from cloob_jax import models, sharding
from cloob_jax.errors import UserError


@pytest.mark.parametrize(
    ("axes", "shape"),
    [((-1, 1, 1), (8, 1, 1)), ((2, -1, 2), (2, 2, 2)), ((1, 4, 2), (1, 4, 2))],
)
def test_one_axis_takes_what_is_left(axes, shape):
    assert tuple(sharding.make_mesh(*axes).shape.values()) == shape


def test_a_mesh_of_some_devices():
    some = jax.devices()[2:6]
    mesh = sharding.make_mesh(fsdp=2, devices=some)
    assert tuple(mesh.shape.values()) == (2, 2, 1)
    assert sorted(mesh.devices.flat, key=lambda device: device.id) == some


@pytest.mark.parametrize("axes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 8)])
def test_a_mesh_that_is_not_there_is_refused(axes):
    with pytest.raises(UserError, match=r"config\.mesh: data=.*8 device"):
        sharding.make_mesh(*axes)


def test_a_batch_that_does_not_divide_names_the_nearest_that_does():
    with pytest.raises(UserError, match=r"batch_size=30 .*8 devices.* is 32"):
        sharding.batch_sharding(sharding.make_mesh(2, 4, 1), 30)


@pytest.mark.parametrize("name", ["RN50", "ViT-B-32"])
def test_large_parameters_are_spread_and_all_fit(name):
    model = models.build(name)
    size = model.image_size
    abstract = jax.eval_shape(
        model.init,
        jax.random.key(0),
        jnp.zeros((1, size, size, 3)),
        jnp.zeros((1, 77), jnp.int32),
    )["params"]
    mesh = sharding.make_mesh(2, 2, 2)
    placed = sharding.tree_shardings(abstract, mesh)
    sizes = jax.tree.map(
        lambda leaf, spec: (leaf.size, spec.shard_shape(leaf.shape)), abstract, placed
    )
    leaves = jax.tree.leaves(sizes, is_leaf=lambda x: isinstance(x, tuple))
    whole = sum(size for size, _ in leaves)
    held = sum(jnp.zeros(shard, jnp.bool).size for _, shard in leaves)
    # 2 x 2 ways: what stays whole (norms, biases, odd sizes) may not weigh much.
    assert held < 0.35 * whole


def test_the_table_names_what_it_means():
    mesh = sharding.make_mesh(2, 2, 2)
    kernel = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    tree = {"text": {"attention": {n: {"kernel": kernel} for n in ("query", "out")}}}
    found = sharding.tree_shardings(tree, mesh)["text"]["attention"]
    assert found["query"]["kernel"].spec == P("fsdp", "tensor")
    assert found["out"]["kernel"].spec == P("tensor", "fsdp")


def test_stacked_layers_are_split_as_single_ones():
    mesh = sharding.make_mesh(2, 2, 2)
    kernel = jax.ShapeDtypeStruct((4, 64, 64), jnp.float32)
    blocks = {"blocks": {"mlp": {"fc": {"kernel": kernel}}}}
    found = sharding.tree_shardings({"text": {"transformer": blocks}}, mesh)
    [leaf] = jax.tree.leaves(found)
    assert leaf.spec == P(None, "fsdp", "tensor")


def test_the_table_shows_what_each_device_holds():
    mesh = sharding.make_mesh(2, 2, 2)
    params = {"model": {"mlp": {"fc": {"kernel": jnp.zeros((64, 32))}}}}
    state = {"params": params, "step": jnp.zeros((), jnp.int32)}
    placed = jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec),
        state,
        sharding.tree_shardings(state, mesh),
    )
    heading, kernel, step, *sums = sharding.table(placed).splitlines()
    assert (
        kernel.split()
        == "params/model/mlp/fc/kernel 64 x 32 fsdp, tensor 2,048".split()
    )
    assert step.split() == ["step", "whole", "4"]
    assert len({len(line) for line in (heading, kernel, step)}) == 1
    assert sums[0] == "params: 0.0 MB per device of 0.0 MB"
